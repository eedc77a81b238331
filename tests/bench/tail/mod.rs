//! `tail`: how fast logs become events. Our reader and rules alone against `grep -cE` and `ripgrep -c` with the same
//! patterns on the same file; then a real agent and a real broker, killed in the middle, until the last event is stored.

mod corpus;
mod peers;
mod through;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use muster_agent::tail::{self, Engine, Now, Section, Stored, Wanted, packs};
use serde_json::{Value, json};

use crate::report::Samples;
use crate::{TailArguments, keep, note, say};
use corpus::Corpus;

/// The goals: at least as fast as grep with the pack, and a third of ripgrep's speed with both.
const OF_GREP_LEAST: f64 = 1.0;
const OF_RIPGREP_LEAST: f64 = 1.0 / 3.0;

/// A set of rules, in our form and as one alternation.
struct Rules {
    name: &'static str,
    /// Keys of the section.
    keys: String,
    patterns: Vec<String>,
    /// Whether every line that matches is an event, so that counts can be compared.
    each_tells: bool,
}

/// What one set of rules measured.
struct Figures {
    ours: Samples,
    grep: Samples,
    ripgrep: Samples,
    cpu_ours: f64,
    hits: u64,
    events: u64,
    lines: u64,
}

/// Measures and prints; `false` where a count is wrong or, with `--strict`, a goal is missed.
pub(crate) async fn run(arguments: &TailArguments) -> Result<bool> {
    let corpus = Corpus::ready(arguments.mib)?;
    let bytes = corpus.bytes()?;
    let sets = [rules(), pack()?];
    let mut good = true;
    let mut shown = Vec::new();
    say(&format!(
        "{:<12} {:>9} {:>9} {:>9} {:>8} {:>8}  {:>9} {:>9}",
        "GB/s", "ours", "grep", "ripgrep", "of grep", "of rg", "lines", "events"
    ));
    for set in &sets {
        let figures = measure(&corpus, set, arguments.rounds)?;
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let speed = |samples: &Samples| bytes as f64 / samples.median() / 1e9;
        let (ours, grep, ripgrep) = (
            speed(&figures.ours),
            speed(&figures.grep),
            speed(&figures.ripgrep),
        );
        let (of_grep, of_ripgrep) = (ours / grep, ours / ripgrep);
        say(&format!(
            "{:<12} {ours:>9.2} {grep:>9.2} {ripgrep:>9.2} {of_grep:>8.2} {of_ripgrep:>8.2}  {:>9} {:>9}",
            set.name, figures.lines, figures.events
        ));
        good &= !arguments.strict || (of_grep >= OF_GREP_LEAST && of_ripgrep >= OF_RIPGREP_LEAST);
        shown.push(json!({
            "rules": set.name, "patterns": set.patterns.len(), "ours_gb_s": ours, "grep_gb_s": grep,
            "ripgrep_gb_s": ripgrep, "of_grep": of_grep, "of_ripgrep": of_ripgrep, "matching_lines": figures.lines,
            "looked_at": figures.hits, "events": figures.events, "cpu_seconds": figures.cpu_ours,
        }));
    }
    let through = match arguments.alone {
        true => Value::Null,
        false => through::run(&corpus, &sets[0], &mut good).await?,
    };
    let figures =
        json!({ "benchmark": "tail", "bytes": bytes, "matching": shown, "to_broker": through });
    say(&figures.to_string());
    keep(arguments.json.as_ref(), &figures)?;
    Ok(good)
}

fn measure(corpus: &Corpus, set: &Rules, rounds: usize) -> Result<Figures> {
    let (mut ours, mut grep, mut ripgrep) = (Vec::new(), Vec::new(), Vec::new());
    let (mut hits, mut events, mut lines) = (0, 0, 0);
    let mut cpu = f64::MAX;
    // In turn, so that whatever else the machine does comes over all of them.
    for round in 0..rounds {
        note(&format!("{}, round {} of {rounds}", set.name, round + 1));
        let before = peers::own_cpu()?;
        let (seconds, counted) = read_all(&corpus.path, set)?;
        cpu = cpu.min(peers::own_cpu()? - before);
        ours.push(seconds);
        (hits, events) = counted;
        let (seconds, by_grep) = peers::grep(&corpus.path, &set.patterns)?;
        grep.push(seconds);
        let (seconds, by_ripgrep) = peers::ripgrep(&corpus.path, &set.patterns)?;
        ripgrep.push(seconds);
        ensure!(
            by_grep == by_ripgrep,
            "grep counts {by_grep} lines, ripgrep {by_ripgrep}"
        );
        lines = by_grep;
        ensure!(
            hits >= lines,
            "{hits} lines were looked at, and {lines} match"
        );
        ensure!(
            !set.each_tells || events == lines,
            "{events} events of {lines} lines"
        );
    }
    Ok(Figures {
        ours: Samples::new(ours),
        grep: Samples::new(grep),
        ripgrep: Samples::new(ripgrep),
        cpu_ours: cpu,
        hits,
        events,
        lines,
    })
}

/// The whole file by our reader and rules; seconds, and lines looked at with events.
fn read_all(path: &Path, set: &Rules) -> Result<(f64, (u64, u64))> {
    let section = section(path, set)?;
    let counters = section.counters.clone();
    let began = Instant::now();
    let mut engine = Engine::new(vec![section], Stored::default());
    let mut wanted = Wanted {
        scan: true,
        places: false,
    };
    loop {
        // A batch is dropped where the agent commits it.
        let pass = engine.pass(Now::since(began), wanted);
        if !pass.more {
            break;
        }
        wanted.scan = false;
    }
    let seconds = began.elapsed().as_secs_f64();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    ensure!(count(&counters.lag_bytes) == 0, "not all was read");
    Ok((seconds, (count(&counters.hits), count(&counters.events))))
}

fn section(path: &Path, set: &Rules) -> Result<Section> {
    let text = section_keys(path, set);
    tail::section(text.parse().context("the section")?).map_err(anyhow::Error::msg)
}

/// The keys of a section that reads `path` with the rules of `set`.
fn section_keys(path: &Path, set: &Rules) -> String {
    format!(
        "name = \"bench\"\npaths = [{:?}]\nstart = \"beginning\"\n{}",
        path.display().to_string(),
        set.keys
    )
}

/// Twenty rules of an operator's own.
fn rules() -> Rules {
    let rule = |(number, pattern): (usize, &&str)| {
        format!(
            "[[rule]]\npattern = '''{pattern}'''\ntopic = \"bench.rule{number}\"\nseverity = \"info\"\nsummary = \"rule {number}\"\n"
        )
    };
    Rules {
        name: "20 rules",
        keys: corpus::PATTERNS.iter().enumerate().map(rule).collect(),
        patterns: corpus::PATTERNS
            .iter()
            .map(|&pattern| pattern.to_owned())
            .collect(),
        each_tells: true,
    }
}

/// The keepalived pack.
fn pack() -> Result<Rules> {
    let table: toml::Table = packs::find("keepalived").context("the pack")?.parse()?;
    let rules = table.get("rule").and_then(toml::Value::as_array);
    let mut patterns = Vec::new();
    for rule in rules.context("the pack's rules")? {
        let text = |value: &toml::Value| value.as_str().map(str::to_owned);
        patterns.extend(rule.get("pattern").and_then(text));
        let more = rule.get("patterns").and_then(toml::Value::as_array);
        patterns.extend(more.into_iter().flatten().filter_map(text));
    }
    Ok(Rules {
        name: "keepalived",
        keys: "packs = [\"keepalived\"]\n".to_owned(),
        patterns,
        each_tells: false,
    })
}
