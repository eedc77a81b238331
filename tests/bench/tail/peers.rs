//! The programs that we are compared with, and the processor time of this one.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// `grep -cE`; seconds and lines. In the C locale, which is its fastest.
pub(super) fn grep(path: &Path, patterns: &[String]) -> Result<(f64, u64)> {
    let patterns: Vec<String> = patterns.iter().map(|pattern| extended(pattern)).collect();
    let mut command = Command::new("grep");
    command
        .env("LC_ALL", "C")
        .arg("-cE")
        .arg(patterns.join("|"));
    count(command, path)
}

/// `rg -c -j1 --no-mmap`; seconds and lines.
pub(super) fn ripgrep(path: &Path, patterns: &[String]) -> Result<(f64, u64)> {
    let patterns: Vec<String> = patterns.iter().map(|pattern| unnamed(pattern)).collect();
    let mut command = Command::new("rg");
    command.args([
        "--no-config",
        "-c",
        "-j1",
        "--no-mmap",
        "--no-unicode",
        "-e",
    ]);
    command.arg(patterns.join("|"));
    count(command, path)
}

fn count(mut command: Command, path: &Path) -> Result<(f64, u64)> {
    command.arg(path);
    let began = Instant::now();
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    let seconds = began.elapsed().as_secs_f64();
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = stdout.trim().parse();
    Ok((
        seconds,
        lines.with_context(|| format!("a count: {stdout}"))?,
    ))
}

/// A pattern whose groups have no names: the same name may come once only in one pattern.
fn unnamed(pattern: &str) -> String {
    let mut rest = pattern;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once("(?") {
        out += before;
        let after = after.strip_prefix('P').unwrap_or(after);
        match after
            .strip_prefix('<')
            .and_then(|named| named.split_once('>'))
        {
            Some((_, group)) => {
                out.push('(');
                rest = group;
            }
            None => {
                out += "(?";
                rest = after;
            }
        }
    }
    out + rest
}

/// The same as an extended regular expression of POSIX with GNU's additions.
fn extended(pattern: &str) -> String {
    let plain = unnamed(pattern).replace("(?:", "(");
    let lazy = plain.replace("+?", "+").replace("*?", "*");
    let mut out = String::new();
    let (mut letters, mut in_set) = (lazy.chars(), false);
    while let Some(letter) = letters.next() {
        match (letter, in_set) {
            ('\\', _) => match (letters.next().unwrap_or('\\'), in_set) {
                ('d', false) => out += "[0-9]",
                ('d', true) => out += "0-9",
                ('s', true) => out += "[:space:]",
                ('w', true) => out += "[:alnum:]_",
                (escaped, true) => out.push(escaped),
                (escaped, false) => {
                    out.push('\\');
                    out.push(escaped);
                }
            },
            ('[', false) => {
                in_set = true;
                out.push('[');
            }
            (']', true) => {
                in_set = false;
                out.push(']');
            }
            (other, _) => out.push(other),
        }
    }
    out
}

/// Processor seconds of this process.
pub(super) fn own_cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after.split(' ').skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(f64::from(ticks) / 100.0)
}
