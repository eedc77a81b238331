//! `muster-agent tail --test`: what a set of rules makes of a file, for people who write rules and for the checks of
//! those who keep them in a repository. It must not know how the agent reads logs.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::tail::rules::{RuleSet, Seen};
use crate::tail::{AlertStates, Line, Matcher, RateLimits, SourceInfo, TailEvent, packs};

/// What is read at once; longer lines are taken in pieces.
const BLOCK_BYTES: usize = 1 << 20;

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// The rules to try: a pack's name, or a file of rules.
    #[arg(long, value_name = "RULES")]
    test: String,
    /// The logs; - is standard input. Without one, the rules are only checked, with the examples that they hold.
    files: Vec<String>,
    /// How the events are printed.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Print the lines that no rule matched as well.
    #[arg(long)]
    unmatched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON object a line: events, then a summary.
    Json,
}

/// The rules that were asked for.
///
/// # Errors
/// When there are none such, or when they can't be used.
pub fn rules(args: &TailArgs) -> anyhow::Result<RuleSet> {
    if let Some(text) = packs::find(&args.test) {
        return RuleSet::from_text(text).map_err(|why| anyhow!("pack {}: {why}", args.test));
    }
    let path = Path::new(&args.test);
    let text = std::fs::read_to_string(path).map_err(|error| {
        let packs = packs::names().join(", ");
        anyhow!(
            "read the rules {}: {error}; or name a pack: {packs}",
            path.display()
        )
    })?;
    RuleSet::from_text(&text).map_err(|why| anyhow!("{}:{why}", path.display()))
}

/// Prints what the rules make of the files. Whether every example is matched by its rule and, where files were given,
/// any line of them by any rule.
///
/// # Errors
/// A file that can't be read, or an output that can't be written.
pub fn test(args: &TailArgs, rules: &RuleSet) -> anyhow::Result<bool> {
    let out = io::BufWriter::new(io::stdout().lock());
    let styled = io::stdout().is_terminal();
    let mut trial = Trial::new(args, rules, out, styled);
    let good = trial.examples()?;
    for file in &args.files {
        trial.file(file)?;
    }
    trial.end()?;
    Ok(good && (args.files.is_empty() || trial.matched > 0))
}

/// How often each thing happened to a rule.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    matched: u64,
    told: u64,
    held_back: u64,
}

struct Trial<'a, W: Write> {
    args: &'a TailArgs,
    rules: &'a RuleSet,
    names: Vec<&'a str>,
    out: W,
    styled: bool,
    alerts: AlertStates,
    limits: RateLimits,
    counts: Vec<Count>,
    lines: u64,
    matched: u64,
}

impl<'a, W: Write> Trial<'a, W> {
    fn new(args: &'a TailArgs, rules: &'a RuleSet, out: W, styled: bool) -> Self {
        let names: Vec<&str> = rules.rules().map(|(name, _)| name).collect();
        Self {
            args,
            rules,
            counts: vec![Count::default(); names.len()],
            names,
            out,
            styled,
            alerts: AlertStates::default(),
            limits: RateLimits::default(),
            lines: 0,
            matched: 0,
        }
    }

    /// Whether every example is matched by the rule that it stands in.
    fn examples(&mut self) -> anyhow::Result<bool> {
        let mut good = true;
        for (number, example) in self.rules.examples() {
            let source = SourceInfo::default();
            let mut matches = false;
            let line = Line {
                bytes: example.as_bytes(),
                truncated: false,
                at_ms: 0,
                source: &source,
            };
            let (alerts, limits) = (&mut AlertStates::default(), &mut RateLimits::default());
            let mut seen =
                |rule: usize, what: Seen| matches |= rule == number && what != Seen::Excepted;
            self.rules
                .apply_seen(&line, alerts, limits, &mut Vec::new(), &mut seen);
            if !matches {
                good = false;
                let name = self.names.get(number).copied().unwrap_or_default();
                writeln!(
                    io::stderr(),
                    "error: the rule {name} does not match its example: {example}"
                )?;
            }
        }
        Ok(good)
    }

    fn file(&mut self, name: &str) -> anyhow::Result<()> {
        let mut input: Box<dyn Read> = match name {
            "-" => Box::new(io::stdin().lock()),
            path => Box::new(File::open(path).with_context(|| format!("open {path}"))?),
        };
        let source = SourceInfo {
            section: "test".to_owned(),
            origin: name.to_owned(),
        };
        let mut number = 0;
        let mut block = Vec::new();
        loop {
            let held = block.len();
            let want = BLOCK_BYTES.saturating_sub(held) as u64;
            let read = input.by_ref().take(want).read_to_end(&mut block);
            let read = read.with_context(|| format!("read {name}"))?;
            let whole = match memchr::memrchr(b'\n', &block) {
                Some(at) if read > 0 => at + 1,
                // The last line without an end, or one that is longer than a block.
                _ => block.len(),
            };
            let rest = block.split_off(whole);
            number = self.block(&source, &block, number)?;
            if read == 0 && rest.is_empty() {
                return Ok(());
            }
            block = rest;
        }
    }

    /// Goes through whole lines; `number` lines were before. How many there are then.
    fn block(&mut self, source: &SourceInfo, block: &[u8], mut number: u64) -> io::Result<u64> {
        let mut hits = Vec::new();
        self.rules.candidates(block, &mut |hit| hits.push(hit));
        let mut from = 0;
        for hit in hits {
            let before = block.get(from..hit.start).unwrap_or_default();
            number = self.unmatched(source, before, number)? + 1;
            self.line(source, block.get(hit.clone()).unwrap_or_default(), number)?;
            let rest = block.get(hit.end..).unwrap_or_default();
            from = memchr::memchr(b'\n', rest).map_or(block.len(), |length| hit.end + length + 1);
        }
        let number = self.unmatched(source, block.get(from..).unwrap_or_default(), number)?;
        Ok(number)
    }

    /// Counts lines that no rule matches, and prints them where that was asked for.
    fn unmatched(&mut self, source: &SourceInfo, lines: &[u8], before: u64) -> io::Result<u64> {
        let mut number = before;
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            number += 1;
            if self.args.unmatched {
                let line = String::from_utf8_lossy(line.trim_ascii_end());
                match self.args.output {
                    Output::Text => {
                        writeln!(self.out, "{}:{number}: {line}\n    no rule", source.origin)?
                    }
                    Output::Json => {
                        let object = json!({ "type": "unmatched", "file": source.origin, "line_number": number, "line": line });
                        writeln!(self.out, "{object}")?;
                    }
                }
            }
        }
        self.lines += number - before;
        Ok(number)
    }

    fn line(&mut self, source: &SourceInfo, bytes: &[u8], number: u64) -> io::Result<()> {
        self.lines += 1;
        self.matched += 1;
        let line = Line {
            bytes,
            truncated: false,
            at_ms: now_ms(),
            source,
        };
        let (mut events, mut seen) = (Vec::new(), Vec::new());
        self.rules.apply_seen(
            &line,
            &mut self.alerts,
            &mut self.limits,
            &mut events,
            &mut |rule, what| {
                seen.push((rule, what));
            },
        );
        if self.args.output == Output::Text {
            let text = String::from_utf8_lossy(bytes);
            writeln!(self.out, "{}:{number}: {text}", source.origin)?;
        }
        for event in &events {
            self.event(event, number)?;
        }
        for (rule, what) in seen {
            let name = self.names.get(rule).copied().unwrap_or_default();
            if let Some(count) = self.counts.get_mut(rule) {
                count.matched += u64::from(what != Seen::Excepted);
                count.told += u64::from(what == Seen::Told);
                count.held_back += u64::from(!matches!(what, Seen::Told | Seen::Excepted));
            }
            if what != Seen::Told && self.args.output == Output::Text {
                writeln!(self.out, "    no event of the rule {name}: {}", why(what))?;
            }
            if what != Seen::Told && self.args.output == Output::Json {
                let object = json!({ "type": "held_back", "file": source.origin, "line_number": number, "rule": name, "why": why(what) });
                writeln!(self.out, "{object}")?;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &TailEvent, number: u64) -> io::Result<()> {
        let TailEvent {
            topic,
            severity,
            summary,
            key,
            before,
            after,
            fields,
            at_ms,
        } = event;
        if self.args.output == Output::Json {
            let object = json!({
                "type": "event", "line_number": number, "topic": topic, "severity": severity, "summary": summary,
                "key": key, "before": before, "after": after, "fields": fields, "at_ms": at_ms,
            });
            return writeln!(self.out, "{object}");
        }
        let (bold, plain) = if self.styled {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        writeln!(self.out, "    {bold}{severity} {topic}{plain} {summary}")?;
        let mut facts = vec![format!("key={}", quoted(&Value::from(key.as_str())))];
        if !after.is_null() {
            facts.push(format!("state={}->{}", quoted(before), quoted(after)));
        }
        let own = |name: &str| matches!(name, "line" | "file" | "source");
        let more = fields.iter().filter(|(name, _)| !own(name));
        facts.extend(more.map(|(name, value)| format!("{name}={}", quoted(value))));
        writeln!(self.out, "        {}", facts.join(" "))
    }

    /// What the limits held back, and the counts.
    fn end(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        self.rules
            .tick(u64::MAX, &mut self.alerts, &mut self.limits, &mut events);
        for event in &events {
            self.event(event, 0)?;
        }
        let unmatched = self.lines - self.matched;
        let rules: Vec<(&str, Count)> = self
            .names
            .iter()
            .copied()
            .zip(self.counts.iter().copied())
            .collect();
        if self.args.output == Output::Json {
            let rules: Vec<Value> = rules
                .iter()
                .map(|(name, count)| json!({ "rule": name, "matched": count.matched, "told": count.told, "held_back": count.held_back }))
                .collect();
            let object = json!({ "type": "summary", "lines": self.lines, "matched": self.matched, "unmatched": unmatched, "rules": rules });
            writeln!(self.out, "{object}")?;
            return self.out.flush();
        }
        if self.args.files.is_empty() {
            writeln!(self.out, "{} rules, every one compiles", rules.len())?;
            return self.out.flush();
        }
        writeln!(
            self.out,
            "\n{:>8} {:>8} {:>9}  rule",
            "matched", "events", "held back"
        )?;
        for (name, count) in rules.iter().filter(|(_, count)| count.matched > 0) {
            writeln!(
                self.out,
                "{:>8} {:>8} {:>9}  {name}",
                count.matched, count.told, count.held_back
            )?;
        }
        let silent = rules.iter().filter(|(_, count)| count.matched == 0).count();
        writeln!(
            self.out,
            "{} lines, {} matched, {unmatched} not; {silent} rules matched nothing",
            self.lines, self.matched
        )?;
        self.out.flush()
    }
}

const fn why(what: Seen) -> &'static str {
    match what {
        Seen::Told => "told",
        Seen::SameState => "the state is known already",
        Seen::NotFirst => "nothing was known of the state before, and it is told as a change only",
        Seen::Limited => "its limit is reached",
        Seen::Excepted => "its `not` matches as well",
    }
}

fn quoted(value: &Value) -> String {
    match value {
        Value::Null => "?".to_owned(),
        Value::String(text) if !text.is_empty() && !text.contains([' ', '"']) => text.clone(),
        other => other.to_string(),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn run(args: &TailArgs, blocks: &[&str]) -> String {
        let rules = rules(args).unwrap();
        let mut out = Vec::new();
        let mut trial = Trial::new(args, &rules, &mut out, false);
        assert!(trial.examples().unwrap());
        let source = SourceInfo {
            section: String::new(),
            origin: "x.log".to_owned(),
        };
        let mut number = 0;
        for block in blocks {
            number = trial.block(&source, block.as_bytes(), number).unwrap();
        }
        trial.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn args(output: Output) -> TailArgs {
        TailArgs {
            test: "keepalived".to_owned(),
            files: vec!["x.log".to_owned()],
            output,
            unmatched: true,
        }
    }

    const LOG: &[&str] = &[
        "nothing\na: (VI_1) Entering BACKUP STATE (init)\nb: (VI_1) Entering MASTER STATE\n",
        "c: (VI_1) Entering MASTER STATE\nlast",
    ];

    #[test]
    fn people_see_what_became_of_each_line() {
        let said = run(&args(Output::Text), LOG);
        let want = "x.log:1: nothing\n    no rule\n\
            x.log:2: a: (VI_1) Entering BACKUP STATE (init)\n    \
            no event of the rule vrrp-backup: its `not` matches as well\n    \
            no event of the rule vrrp-init: nothing was known of the state before, and it is told as a change only\n\
            x.log:3: b: (VI_1) Entering MASTER STATE\n    \
            notice keepalived.vrrp.master VRRP instance VI_1 is master\n        \
            key=VI_1 state=backup->master instance=VI_1 lasted_ms=";
        assert!(said.starts_with(want), "{said}");
        assert!(said.contains("x.log:4: c: (VI_1) Entering MASTER STATE\n    no event of the rule vrrp-master: the state is known already\n"), "{said}");
        assert!(
            said.contains("       2        1         1  vrrp-master\n"),
            "{said}"
        );
        assert!(said.contains("5 lines, 3 matched, 2 not;"), "{said}");
    }

    #[test]
    fn programs_read_one_object_a_line() {
        let said = run(&args(Output::Json), LOG);
        let objects: Vec<Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let kinds: Vec<&str> = objects
            .iter()
            .filter_map(|object| object.get("type")?.as_str())
            .collect();
        assert_eq!(
            kinds,
            [
                "unmatched",
                "held_back",
                "held_back",
                "event",
                "held_back",
                "unmatched",
                "summary"
            ]
        );
    }
}
