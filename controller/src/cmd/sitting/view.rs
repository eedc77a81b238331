//! What a person sees while a job is waited for: a bar, and under it what the hosts say of how far they are, those that
//! say the same once. With `--stream`, everything they write.

use std::collections::{BTreeMap, HashMap};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_proto::id::HostId;
use muster_proto::job::{Output, OutputStream};
use serde::Serialize;

use crate::context::Context;
use crate::dispatch::account::Waiting;
use crate::dispatch::live::Onlooker;
use crate::dispatch::order::Order;
use crate::render::{Format, clean, fold, names};

/// Longest line of streamed output that waits for its end, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Lines under the bar.
const SAID_LINES: usize = 8;

/// Hosts that are named in one of them.
const SAID_HOSTS: usize = 4;

/// What a person sees while a job is waited for.
pub(super) struct View<'a> {
    context: &'a Context,
    bar: Option<ProgressBar>,
    stream: bool,
    /// What has no line end yet, by host; of standard error where true.
    unended: HashMap<(HostId, bool), Vec<u8>>,
    /// The states, in words.
    states: String,
    /// The last line that each host has written, of those that still run.
    said: BTreeMap<HostId, String>,
}

#[derive(Serialize)]
struct OutputLine<'a> {
    host: &'a HostId,
    stream: OutputStream,
    line: &'a str,
}

impl<'a> View<'a> {
    pub(super) fn new(context: &'a Context, order: &Order, stream: bool) -> Self {
        let wanted = context.screen.stderr_is_terminal
            && context.screen.format == Format::Table
            && !order.no_wait;
        let bar = wanted.then(|| {
            let bar = ProgressBar::with_draw_target(
                Some(order.resolved.hosts.len() as u64),
                ProgressDrawTarget::stderr_with_hz(10),
            );
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} ended {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            context,
            bar,
            stream,
            unended: HashMap::new(),
            states: String::new(),
            said: BTreeMap::new(),
        }
    }

    fn line(&self, host: &HostId, stream: OutputStream, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes);
        let text = |_: &_| format!("{host}: {}\n", clean(&line));
        let show = || {
            drop(self.context.show_next(
                &OutputLine {
                    host,
                    stream,
                    line: &line,
                },
                text,
            ))
        };
        match &self.bar {
            Some(bar) => bar.suspend(show),
            None => show(),
        }
    }

    /// Keeps the last line of it, where somebody looks on.
    fn hear(&mut self, output: &Output) {
        if self.bar.is_none() || output.stream != OutputStream::Stdout {
            return;
        }
        let text = String::from_utf8_lossy(&output.bytes);
        if let Some(line) = text.lines().rev().find(|line| !line.trim().is_empty()) {
            self.said.insert(output.host.clone(), clean(line));
            self.show_said();
        }
    }

    fn show_said(&self) {
        let Some(bar) = &self.bar else { return };
        let mut message = self.states.clone();
        for line in said_lines(&self.said, self.context.screen.style.width) {
            message.push('\n');
            message.push_str(&line);
        }
        bar.set_message(message);
    }

    pub(super) fn end(mut self) {
        for ((host, stderr), rest) in std::mem::take(&mut self.unended) {
            let stream = if stderr {
                OutputStream::Stderr
            } else {
                OutputStream::Stdout
            };
            self.line(&host, stream, &rest);
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Onlooker for View<'_> {
    fn changed(&mut self, waiting: &Waiting) {
        let Some(bar) = &self.bar else { return };
        if !self.said.is_empty() {
            for (host, record) in waiting.account().hosts() {
                if !record.state.is_open() {
                    self.said.remove(host);
                }
            }
        }
        let tally = waiting.account().tally();
        bar.set_position((tally.total() - tally.open()) as u64);
        let words: Vec<String> = tally
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        self.states = format!("({})", words.join(", "));
        self.show_said();
    }

    fn wants_output(&self) -> bool {
        self.stream
    }

    fn output(&mut self, output: &Output) {
        if !self.stream {
            self.hear(output);
            return;
        }
        if output.dropped_bytes > 0 {
            let gap = format!(
                "({} bytes left out: the budget was used up)",
                output.dropped_bytes
            );
            self.line(&output.host, output.stream, gap.as_bytes());
        }
        let place = (output.host.clone(), output.stream == OutputStream::Stderr);
        let mut rest = self.unended.remove(&place).unwrap_or_default();
        rest.extend_from_slice(&output.bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            self.line(
                &output.host,
                output.stream,
                line.strip_suffix(b"\n").unwrap_or(&line),
            );
        }
        if rest.len() > LINE_BYTES_MAX {
            self.line(&output.host, output.stream, &rest);
        } else if !rest.is_empty() {
            self.unended.insert(place, rest);
        }
    }
}

/// What hosts said last, those that said the same in one line; the line of the most hosts first.
fn said_lines(said: &BTreeMap<HostId, String>, width: Option<u16>) -> Vec<String> {
    let width = usize::from(width.unwrap_or(80)).saturating_sub(1);
    let groups = fold(said.iter().map(|(host, line)| (host, line.as_str())));
    let more = groups.len().saturating_sub(SAID_LINES);
    let mut lines: Vec<String> = groups
        .iter()
        .rev()
        .take(SAID_LINES)
        .map(|group| format!("{}: {}", names(&group.members, SAID_HOSTS), group.value))
        .collect();
    if more > 0 {
        lines.push(format!("… and {more} other lines"));
    }
    let cut = |line: String| line.chars().take(width).collect();
    lines.into_iter().map(cut).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_say_the_same_are_one_line() {
        let said = |pairs: &[(&str, &str)]| -> BTreeMap<HostId, String> {
            let pair = |(host, line): &(&str, &str)| (host.parse().unwrap(), (*line).to_owned());
            pairs.iter().map(pair).collect()
        };
        let few = said(&[
            ("lb1", "3 active left"),
            ("lb2", "0 active left"),
            ("lb3", "0 active left"),
        ]);
        assert_eq!(
            said_lines(&few, Some(22)),
            ["lb2, lb3: 0 active le", "lb1: 3 active left"]
        );
        let many: Vec<(String, String)> = (10..30)
            .map(|number| (format!("lb{number}"), format!("{number} left")))
            .collect();
        let many: Vec<(&str, &str)> = many
            .iter()
            .map(|(host, line)| (host.as_str(), line.as_str()))
            .collect();
        let lines = said_lines(&said(&many), None);
        assert_eq!(lines.len(), SAID_LINES + 1);
        assert_eq!(lines.last().unwrap(), "… and 12 other lines");
    }
}
