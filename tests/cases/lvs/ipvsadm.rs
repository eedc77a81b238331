//! What `ipvsadm` says of the kernel's table, read here without any of the product's code: the measure of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use muster_harness::Guest;

/// The table by `tcp 192.0.2.10:80`, `fwm 7 v4`.
pub(crate) type Table = BTreeMap<String, Service>;

/// A virtual server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Service {
    pub(crate) scheduler: String,
    /// `ops`, `sh-port`, …
    pub(crate) flags: BTreeSet<String>,
    /// Seconds.
    pub(crate) persistent: Option<u64>,
    /// `255.255.255.0`, `64`; none for single clients.
    pub(crate) mask: Option<String>,
    /// Persistence engine: `sip`.
    pub(crate) engine: Option<String>,
    pub(crate) counters: Counters,
    /// By `10.1.0.1:8080`.
    pub(crate) reals: BTreeMap<String, Real>,
}

/// A real server of one virtual server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Real {
    /// `Masq`, `Route`, `Tunnel`, `Local`.
    pub(crate) forward: String,
    /// `ipip`, `gue:6080:-c`; none where there is none.
    pub(crate) tunnel: Option<String>,
    pub(crate) weight: u64,
    pub(crate) upper: u64,
    pub(crate) lower: u64,
    pub(crate) active: u64,
    pub(crate) inactive: u64,
    pub(crate) persistent: u64,
    pub(crate) counters: Counters,
}

/// Connections, packets in and out, bytes in and out; then the same per second by the kernel's estimate.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counters {
    pub(crate) total: [u64; 5],
    pub(crate) per_second: [u64; 5],
}

/// One listing: virtual servers with the words behind their names, and their real servers' words.
type Listing = BTreeMap<String, (Vec<String>, BTreeMap<String, Vec<String>>)>;

/// Reads the table by every one of ipvsadm's listings.
pub(crate) async fn table(guest: &Guest) -> Result<Table> {
    let mut texts = Vec::new();
    let lists = [
        "--tun-info",
        "--stats --exact",
        "--rate --exact",
        "--thresholds",
        "--persistent-conn",
    ];
    // One script: between two of them the table hardly changes.
    let script = lists
        .map(|list| format!("ipvsadm -Ln {list}\necho ----\n"))
        .concat();
    let output = guest.succeed(&script).await?;
    for text in output.split_terminator("----\n") {
        texts.push(listing(text)?);
    }
    let [shape, totals, rates, thresholds, persistent] = texts.as_slice() else {
        bail!("ipvsadm gave {} listings", texts.len());
    };
    shape
        .iter()
        .map(|(name, (words, reals))| {
            let mut service = service(words).with_context(|| format!("{name}: {words:?}"))?;
            let of = |listing: &Listing| {
                let found = listing.get(name).cloned();
                found.with_context(|| format!("{name} is not in every listing"))
            };
            let (totals, rates) = (of(totals)?, of(rates)?);
            let (thresholds, persistent) = (of(thresholds)?, of(persistent)?);
            service.counters = counters(&totals.0, &rates.0)?;
            for (at, words) in reals {
                let of = |listing: &BTreeMap<String, Vec<String>>| {
                    let found = listing.get(at).cloned();
                    found.with_context(|| format!("{at} is not in every listing"))
                };
                let [forward, tunnel, weight, active, inactive] = words.as_slice() else {
                    bail!("{at}: {words:?}");
                };
                let real = Real {
                    forward: forward.clone(),
                    tunnel: (tunnel != "n/a").then(|| tunnel.clone()),
                    weight: number(weight)?,
                    upper: number_at(&of(&thresholds.1)?, 0)?,
                    lower: number_at(&of(&thresholds.1)?, 1)?,
                    active: number(active)?,
                    inactive: number(inactive)?,
                    persistent: number_at(&of(&persistent.1)?, 1)?,
                    counters: counters(&of(&totals.1)?, &of(&rates.1)?)?,
                };
                service.reals.insert(at.clone(), real);
            }
            Ok((name.clone(), service))
        })
        .collect()
}

/// A listing's lines: `TCP  192.0.2.10:80 wlc`, `FWM  8 IPv6 lc`, `  -> 10.1.0.1:8080  Masq …`.
fn listing(text: &str) -> Result<Listing> {
    let mut listing = Listing::new();
    let mut current = None;
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        let first = words.next().unwrap_or_default();
        match first.as_str() {
            "IP" | "Prot" | "" => {}
            "->" => {
                let at = words.next().unwrap_or_default();
                if at == "RemoteAddress:Port" {
                    continue;
                }
                let name: &String = current.as_ref().context("a real server before any other")?;
                let (_, reals) = listing.get_mut(name).context("a virtual server")?;
                reals.insert(at, words.collect());
            }
            protocol => {
                let mut at = words.next().unwrap_or_default();
                let mut rest: Vec<String> = words.collect();
                if protocol == "FWM" {
                    // It shows great marks as if they were negative.
                    if at.starts_with('-') {
                        at = at.parse::<i32>()?.cast_unsigned().to_string();
                    }
                    at += match rest.first().map(String::as_str) {
                        Some("IPv6") => {
                            rest.remove(0);
                            " v6"
                        }
                        _ => " v4",
                    };
                }
                let name = format!("{} {at}", protocol.to_lowercase());
                listing.insert(name.clone(), (rest, BTreeMap::new()));
                current = Some(name);
            }
        }
    }
    Ok(listing)
}

/// `wlc`, `sh (sh-fallback,sh-port)`, `wrr persistent 300 mask 255.255.255.0`, `rr ops`.
fn service(words: &[String]) -> Result<Service> {
    let mut words = words.iter();
    let mut service = Service {
        scheduler: words.next().context("a scheduler")?.clone(),
        ..Service::default()
    };
    while let Some(word) = words.next() {
        let mut next = || words.next().context("a word more");
        match word.as_str() {
            "ops" => {
                service.flags.insert("ops".to_owned());
            }
            "persistent" => service.persistent = Some(number(next()?)?),
            "pe" => service.engine = Some(next()?.clone()),
            "mask" => service.mask = Some(next()?.clone()),
            flags if flags.starts_with('(') => {
                let flags = flags.trim_matches(['(', ')']);
                service.flags.extend(flags.split(',').map(str::to_owned));
            }
            other => bail!("what is {other:?}?"),
        }
    }
    Ok(service)
}

fn counters(totals: &[String], rates: &[String]) -> Result<Counters> {
    let five = |words: &[String]| -> Result<[u64; 5]> {
        let numbers = words.iter().map(|word| number(word));
        let numbers = numbers.collect::<Result<Vec<u64>>>()?;
        numbers
            .try_into()
            .map_err(|numbers| anyhow::anyhow!("five figures, not {numbers:?}"))
    };
    Ok(Counters {
        total: five(totals)?,
        per_second: five(rates)?,
    })
}

fn number_at(words: &[String], index: usize) -> Result<u64> {
    number(words.get(index).context("a figure")?)
}

fn number(word: &str) -> Result<u64> {
    word.parse()
        .with_context(|| format!("read {word:?} as a figure"))
}
