//! What one host said, as lines for people. Pure.

use std::borrow::Cow;

use muster_proto::id::HostId;
use muster_proto::job::HostState;
use serde_json::Value;

use super::rows::{rows_of, write_rows};
use super::{HostReport, ReasonReport, tone};
use crate::render::{Style, clean, names, paint, plural};

/// Hosts that are named in a line of the unusual; the others are counted. Programs get them all.
const NAMED_UNUSUAL: usize = 20;
/// Hosts that are named in a line of successes.
const NAMED_USUAL: usize = 6;
/// Lines of one output that are shown, of each end.
const OUTPUT_LINES: usize = 40;

/// The name of lines that were found in logs.
const FOUND: &str = "found";

/// The name of how long an action took, in its answer.
const TOOK: &str = "duration_ms";

/// What one host said, and how it stands: hosts that are equal in this are shown as one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said<'a> {
    pub(super) state: HostState,
    late: bool,
    away: bool,
    reason: Option<&'a ReasonReport>,
    data: Cow<'a, Value>,
}

impl<'a> Said<'a> {
    pub(super) fn of(host: &'a HostReport) -> Self {
        Self {
            state: host.state,
            late: host.late,
            away: host.away && host.state != HostState::Succeeded,
            reason: host.reason.as_ref(),
            data: without_time(&host.data),
        }
    }

    pub(super) fn write(&self, text: &mut String, hosts: &[&HostId], style: &Style) {
        let named = if self.state == HostState::Succeeded {
            NAMED_USUAL
        } else {
            NAMED_UNUSUAL
        };
        let marks = [(self.late, "late"), (self.away, "away")];
        let marks: Vec<&str> = marks
            .into_iter()
            .filter_map(|(holds, mark)| holds.then_some(mark))
            .collect();
        let mut state = self.state.name().to_owned();
        if !marks.is_empty() {
            state.push_str(&format!(" ({})", marks.join(", ")));
        }
        text.push_str(&format!(
            "{}: {}",
            names(hosts, named),
            paint(&state, tone(self.state), style)
        ));
        if let Some(reason) = self.reason {
            text.push_str(&format!(
                ": {} [{}]",
                clean(&reason.message),
                clean(&reason.code)
            ));
        }
        text.push('\n');
        write_data(text, &self.data);
    }
}

/// How long it took differs everywhere, and would keep equal answers apart; programs get it.
fn without_time(data: &Value) -> Cow<'_, Value> {
    match data.as_object() {
        Some(fields) if fields.contains_key(TOOK) => Cow::Owned(
            fields
                .iter()
                .filter(|(name, _)| *name != TOOK)
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        ),
        _ => Cow::Borrowed(data),
    }
}

/// Outputs as their lines, other values as name and value; nothing where there is nothing.
pub(super) fn write_data(text: &mut String, data: &Value) {
    let Some(map) = data.as_object() else {
        if !data.is_null() {
            text.push_str(&format!("    {}\n", clean(&plain(data))));
        }
        return;
    };
    let small: Vec<String> = map
        .iter()
        .filter(|(name, value)| {
            !is_output(name)
                && !value.is_null()
                && !is_zero_count(name, value)
                && rows_of(value).is_none()
        })
        .map(|(name, value)| format!("{}={}", clean(name), clean(&plain(value))))
        .collect();
    if !small.is_empty() {
        text.push_str(&format!("    {}\n", small.join(" ")));
    }
    let tables = map.iter().filter(|(name, _)| !is_output(name));
    for rows in tables.filter_map(|(_, value)| rows_of(value)) {
        if !rows.is_empty() {
            write_rows(text, "    ", &rows);
        }
    }
    for (name, value) in map.iter().filter(|(name, _)| is_output(name)) {
        let lines: Vec<&str> = match value {
            Value::String(output) => output.lines().collect(),
            Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        write_lines(text, if name == "stdout" { "" } else { name }, &lines);
    }
    let found = map.get(FOUND).and_then(Value::as_array);
    let found: Vec<String> = found.into_iter().flatten().filter_map(found_line).collect();
    write_lines(
        text,
        "",
        &found.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

/// A line of a log that was found, as `grep` writes it.
fn found_line(found: &Value) -> Option<String> {
    let text = |name: &str| found.get(name).and_then(Value::as_str);
    let place = match found.get("line_number").and_then(Value::as_u64) {
        Some(number) => number.to_string(),
        None => format!("byte {}", found.get("offset")?),
    };
    let mark = if found.get("context") == Some(&Value::Bool(true)) {
        '-'
    } else {
        ':'
    };
    Some(format!(
        "{}{mark}{place}{mark} {}",
        text("file")?,
        text("line")?
    ))
}

fn write_lines(text: &mut String, name: &str, lines: &[&str]) {
    let prefix = if name.is_empty() {
        String::new()
    } else {
        format!("{}: ", clean(name))
    };
    let left_out = lines.len().saturating_sub(2 * OUTPUT_LINES);
    for (at, line) in lines.iter().enumerate() {
        if left_out > 0 && at == OUTPUT_LINES {
            text.push_str(&format!(
                "    ({} left out; --output json has them)\n",
                plural(left_out, "line")
            ));
        }
        if left_out == 0 || at < OUTPUT_LINES || at >= OUTPUT_LINES + left_out {
            text.push_str(&format!("    {prefix}{}\n", clean(line)));
        }
    }
}

fn is_output(name: &str) -> bool {
    matches!(name, "stdout" | "stderr" | "journal" | FOUND)
}

/// Nothing was cut off: not worth a word.
fn is_zero_count(name: &str, value: &Value) -> bool {
    name.ends_with("_truncated_bytes") && value.as_u64() == Some(0)
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
