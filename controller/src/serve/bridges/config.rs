//! The tables `[[bridge]]` of the controller's config.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use muster_proto::snapshot::fields;
use serde::Deserialize;
use toml::Spanned;

use crate::bridge::plan::{Counters, Plan, Rule};
use crate::bridge::template::Template;
use crate::bridge::{self, BRIDGES, Protocol, Spec};

/// Payload of a datagram on an Ethernet with some room for tunnels, as statsd's documentation advises.
const MTU_DEFAULT: usize = 1432;

/// The Zabbix host that stands for the fleet.
const FLEET_HOST_DEFAULT: &str = "muster";

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What may wait for a sink.
const QUEUE_DEFAULT: bytesize::ByteSize = bytesize::ByteSize(32_000_000);

/// How long it may wait. As long as the broker keeps it, and well below the time after which the broker takes a consumer
/// that does not ack for dead.
const AGE_DEFAULT: Duration = Duration::from_secs(900);

/// The original's names: what each virtual server had in the interval, as timings.
const ORIGINAL: [(&str, &str); 5] = [
    ("lvs/virtual_server.connections", "{host}.vip.{vip}.conns"),
    ("lvs/virtual_server.in_packets", "{host}.vip.{vip}.inpkts"),
    ("lvs/virtual_server.out_packets", "{host}.vip.{vip}.outpkts"),
    ("lvs/virtual_server.in_bytes", "{host}.vip.{vip}.inbytes"),
    ("lvs/virtual_server.out_bytes", "{host}.vip.{vip}.outbytes"),
];

/// `[[bridge]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBridge {
    /// Its name, and that of its queue: `muster.bridge.<name>`.
    name: Spanned<String>,
    /// What it speaks to.
    kind: Spanned<String>,
    /// Where that is.
    address: Spanned<String>,
    /// How it is spoken to.
    protocol: Option<Spanned<String>>,
    /// Ready names.
    mapping: Option<Spanned<String>>,
    /// Names.
    template: Option<Spanned<String>>,
    /// What becomes of counters.
    counters: Option<Counters>,
    /// Collectors whose figures go out.
    #[serde(default)]
    collectors: Vec<Spanned<String>>,
    /// Keys of `muster.metrics` that its queue is bound with.
    keys: Option<Spanned<Vec<String>>>,
    /// Exceptions, the first that matches holds.
    #[serde(default)]
    rule: Vec<RawRule>,
    /// Most bytes of a datagram.
    mtu: Option<Spanned<usize>>,
    /// In whose name the hosts are told.
    fleet_host: Option<Spanned<String>>,
    /// Limit of connecting, of a write, of an answer.
    timeout: Option<Spanned<String>>,
    /// Most bytes that wait.
    queue_max: Option<Spanned<bytesize::ByteSize>>,
    /// Longest that anything waits.
    age_max: Option<Spanned<String>>,
}

/// `[[bridge.rule]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    series: Spanned<String>,
    template: Option<Spanned<String>>,
    counters: Option<Counters>,
    #[serde(default)]
    timing: bool,
    #[serde(default)]
    drop: bool,
}

/// What a bridge runs with.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Its name.
    pub name: String,
    /// What it speaks to.
    pub spec: &'static Spec,
    /// How.
    pub protocol: &'static Protocol,
    /// Host and port.
    pub address: String,
    /// Binding keys.
    pub keys: Vec<String>,
    /// Which figures go out, as what.
    pub plan: Plan,
    /// Most bytes of a datagram.
    pub mtu: usize,
    /// In whose name the hosts are told, by what discovers.
    pub fleet_host: String,
    /// Limit of connecting, of a write, of an answer.
    pub timeout: Duration,
    /// Most bytes that wait.
    pub queue_bytes_max: usize,
    /// Longest that anything waits.
    pub age_max: Duration,
}

/// What is wrong with a config, and at which of its bytes.
#[derive(Debug)]
pub struct Wrong {
    /// The byte.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

impl Wrong {
    fn at(span: &Range<usize>, why: String) -> Self {
        Self {
            at: span.start,
            why,
        }
    }
}

/// Checks all of them.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(raw: Vec<RawBridge>) -> Result<Vec<BridgeConfig>, Wrong> {
    let mut names = BTreeSet::new();
    let mut bridges = Vec::new();
    for raw in raw {
        let span = raw.name.span();
        let bridge = BridgeConfig::parse(raw)?;
        if !names.insert(bridge.name.clone()) {
            let why = format!("name: there are two bridges called {:?}", bridge.name);
            return Err(Wrong::at(&span, why));
        }
        bridges.push(bridge);
    }
    Ok(bridges)
}

impl BridgeConfig {
    fn parse(raw: RawBridge) -> Result<Self, Wrong> {
        let spec = spec(&raw.kind)?;
        let protocol = protocol(spec, raw.protocol.as_ref())?;
        if let Some(mtu) = &raw.mtu
            && (protocol.name != "udp" || !(64..=65_507).contains(mtu.get_ref()))
        {
            let why = "mtu: expected 64 to 65507, for protocol \"udp\" alone".to_owned();
            return Err(Wrong::at(&mtu.span(), why));
        }
        let plan = plan(&raw, spec)?;
        let wanted = |collector: &&str| plan.wants(collector);
        let collectors = fields::DECLARED.iter();
        let keys = match &raw.keys {
            Some(keys) => bound(keys)?,
            None => collectors
                .map(|declared| declared.collector)
                .filter(wanted)
                .map(|collector| format!("{collector}.#"))
                .collect(),
        };
        Ok(Self {
            name: name(&raw.name)?,
            spec,
            protocol,
            address: address(&raw.address, protocol.port)?,
            keys,
            plan,
            mtu: raw.mtu.map_or(MTU_DEFAULT, Spanned::into_inner),
            fleet_host: fleet_host(raw.fleet_host.as_ref(), spec)?,
            timeout: span("timeout", raw.timeout.as_ref(), TIMEOUT_DEFAULT, (1, 60))?,
            queue_bytes_max: queue(raw.queue_max.as_ref())?,
            age_max: span("age_max", raw.age_max.as_ref(), AGE_DEFAULT, (10, 900))?,
        })
    }
}

fn spec(kind: &Spanned<String>) -> Result<&'static Spec, Wrong> {
    bridge::find(kind.get_ref()).ok_or_else(|| {
        let kinds: Vec<&str> = BRIDGES.iter().map(|spec| spec.kind).collect();
        let (known, found) = (kinds.join(", "), kind.get_ref());
        Wrong::at(
            &kind.span(),
            format!("kind: expected one of {known}, found {found:?}"),
        )
    })
}

fn protocol(spec: &Spec, name: Option<&Spanned<String>>) -> Result<&'static Protocol, Wrong> {
    let Some(name) = name else {
        let first = spec.protocols.first();
        return first.ok_or_else(|| Wrong::at(&(0..0), "no protocol".to_owned()));
    };
    let mut protocols = spec.protocols.iter();
    protocols
        .find(|protocol| protocol.name == name.get_ref())
        .ok_or_else(|| {
            let known: Vec<&str> = spec
                .protocols
                .iter()
                .map(|protocol| protocol.name)
                .collect();
            let (kind, known, found) = (spec.kind, known.join(", "), name.get_ref());
            let why = format!("protocol: of {kind} expected one of {known}, found {found:?}");
            Wrong::at(&name.span(), why)
        })
}

fn plan(raw: &RawBridge, spec: &Spec) -> Result<Plan, Wrong> {
    let counters = raw.counters.unwrap_or(spec.counters);
    let mut rules = Vec::new();
    for rule in &raw.rule {
        rules.push(written_rule(rule, spec, counters)?);
    }
    let mapping = raw.mapping.as_ref();
    match mapping.map(|mapping| mapping.get_ref().as_str()) {
        Some("original") => {
            if spec.discovers {
                let span = mapping.map_or(0..0, Spanned::span);
                let why = "mapping: \"original\" has paths, and no Zabbix keys".to_owned();
                return Err(Wrong::at(&span, why));
            }
            if let Some(template) = &raw.template {
                let why = "template: mapping = \"original\" has names of its own".to_owned();
                return Err(Wrong::at(&template.span(), why));
            }
            for (series, name) in ORIGINAL {
                rules.push(Rule {
                    series: series.to_owned(),
                    name: Some(ready_template(name, raw, spec)?),
                    counters: Counters::Increment,
                    timing: true,
                });
            }
        }
        Some("muster") | None => {
            let name = match &raw.template {
                Some(template) => self::template(template, spec)?,
                None => ready_template(spec.template, raw, spec)?,
            };
            rules.push(Rule {
                series: "*".to_owned(),
                name: Some(name),
                counters,
                timing: false,
            });
        }
        Some(other) => {
            let span = mapping.map_or(0..0, Spanned::span);
            let why = format!("mapping: expected \"muster\" or \"original\", found {other:?}");
            return Err(Wrong::at(&span, why));
        }
    }
    let collectors = collectors(&raw.collectors)?;
    Plan::new(rules, &collectors).map_err(|useless| {
        let rule = raw.rule.get(useless).map(|rule| rule.series.span());
        let why = "series: no figure is called so; patterns are such as \"lvs/virtual_server.*\"";
        Wrong::at(&rule.unwrap_or_else(|| raw.kind.span()), why.to_owned())
    })
}

fn written_rule(rule: &RawRule, spec: &Spec, counters: Counters) -> Result<Rule, Wrong> {
    let name = match (&rule.template, rule.drop) {
        (Some(template), false) => Some(self::template(template, spec)?),
        (None, true) => None,
        _ => {
            let why = "rule: expected either template or drop = true".to_owned();
            return Err(Wrong::at(&rule.series.span(), why));
        }
    };
    Ok(Rule {
        series: rule.series.get_ref().clone(),
        name,
        counters: rule.counters.unwrap_or(counters),
        timing: rule.timing,
    })
}

fn collectors(names: &[Spanned<String>]) -> Result<Vec<String>, Wrong> {
    for name in names {
        if fields::of(name.get_ref()).next().is_none() {
            let why = format!(
                "collectors: no figures of a collector {:?} are known",
                name.get_ref()
            );
            return Err(Wrong::at(&name.span(), why));
        }
    }
    Ok(names.iter().map(|name| name.get_ref().clone()).collect())
}

fn ready_template(text: &str, raw: &RawBridge, spec: &Spec) -> Result<Template, Wrong> {
    Template::parse(text, spec.style).map_err(|error| Wrong::at(&raw.kind.span(), error.why))
}

fn template(text: &Spanned<String>, spec: &Spec) -> Result<Template, Wrong> {
    Template::parse(text.get_ref(), spec.style).map_err(|error| Wrong {
        at: text.span().start + 1 + error.at,
        why: format!("template: {error}"),
    })
}

fn name(name: &Spanned<String>) -> Result<String, Wrong> {
    let text = name.get_ref();
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(good) {
        let why = format!("name: expected 1 to 64 of a-z, 0-9, '_' and '-', found {text:?}");
        return Err(Wrong::at(&name.span(), why));
    }
    Ok(text.clone())
}

fn fleet_host(name: Option<&Spanned<String>>, spec: &Spec) -> Result<String, Wrong> {
    let Some(name) = name else {
        return Ok(FLEET_HOST_DEFAULT.to_owned());
    };
    let text = name.get_ref();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b" ._-".contains(&byte);
    if !spec.discovers || text.is_empty() || text.len() > 128 || !text.bytes().all(good) {
        let why = "fleet_host: expected the name of a Zabbix host, for kind \"zabbix\" alone";
        return Err(Wrong::at(&name.span(), why.to_owned()));
    }
    Ok(text.clone())
}

/// With the port that is usual where there is none.
fn address(address: &Spanned<String>, port: u16) -> Result<String, Wrong> {
    let text = address.get_ref().as_str();
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address in brackets, without a port.
        _ if text.ends_with(']') => (text, Some(port)),
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
        None => (text, Some(port)),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_host = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(good),
    };
    match port.filter(|_| is_host) {
        Some(port) => Ok(format!("{host}:{port}")),
        None => {
            let why = format!(
                "address: expected such as \"graphite.example.com:2003\" or \"[2001:db8::1]:2003\", found {text:?}"
            );
            Err(Wrong::at(&address.span(), why))
        }
    }
}

fn bound(keys: &Spanned<Vec<String>>) -> Result<Vec<String>, Wrong> {
    let wrong = |why: String| Wrong::at(&keys.span(), why);
    if keys.get_ref().is_empty() {
        return Err(wrong(
            "keys: expected one at least; \"#\" is every snapshot".to_owned(),
        ));
    }
    for key in keys.get_ref() {
        let good = |byte: u8| byte.is_ascii_graphic();
        if key.is_empty() || key.len() > 255 || !key.bytes().all(good) {
            return Err(wrong(format!(
                "keys: expected COLLECTOR.HOST with * for one word and # for any, found {key:?}"
            )));
        }
    }
    Ok(keys.get_ref().clone())
}

fn queue(size: Option<&Spanned<bytesize::ByteSize>>) -> Result<usize, Wrong> {
    let bytes = size.map_or(QUEUE_DEFAULT, |size| *size.get_ref()).0;
    let good = (100_000..=1_000_000_000).contains(&bytes);
    let bytes = usize::try_from(bytes).ok().filter(|_| good);
    bytes.ok_or_else(|| {
        let span = size.map_or(0..0, Spanned::span);
        Wrong::at(&span, "queue_max: expected 100kB to 1GB".to_owned())
    })
}

fn span(
    key: &str,
    text: Option<&Spanned<String>>,
    default: Duration,
    (least_s, most_s): (u64, u64),
) -> Result<Duration, Wrong> {
    let Some(text) = text else {
        return Ok(default);
    };
    let (least, most) = (Duration::from_secs(least_s), Duration::from_secs(most_s));
    let found = crate::cmd::span(text.get_ref()).ok();
    found
        .filter(|found| (least..=most).contains(found))
        .ok_or_else(|| {
            let why = format!(
                "{key}: expected {least_s}s to {most_s}s, found {:?}",
                text.get_ref()
            );
            Wrong::at(&text.span(), why)
        })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
