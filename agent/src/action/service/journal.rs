//! The last lines of a unit's journal, as journalctl(1) shows them. It must not know why they are wanted.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Lines.
const LINES: &str = "20";

/// Longest line in characters.
const LINE_CHARS_MAX: usize = 500;

/// Longest wait: a large journal on a slow disk.
const LIMIT: Duration = Duration::from_secs(4);

/// The lines, oldest first; where there are none to be had, one line that says why.
pub(super) async fn tail(unit: &str) -> Vec<String> {
    match read(unit).await {
        Ok(text) => text
            .lines()
            .map(|line| line.chars().take(LINE_CHARS_MAX).collect())
            .collect(),
        Err(why) => vec![format!("(the journal is not available: {why})")],
    }
}

async fn read(unit: &str) -> Result<String, String> {
    let mut command = Command::new("journalctl");
    command.args([
        "--unit",
        unit,
        "--lines",
        LINES,
        "--no-pager",
        "--quiet",
        "--output",
        "short-iso",
    ]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| format!("journalctl took longer than {} s", LIMIT.as_secs()))?
        .map_err(|error| format!("start journalctl: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "journalctl: {}",
            said.lines().next().unwrap_or("no words")
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
