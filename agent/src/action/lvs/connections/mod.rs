//! `lvs.connections`: what the kernel's connection table holds, in a few figures.
//!
//! The table may have millions of entries, and its file takes long to read where a kernel walks the table anew for each
//! piece of it: time and bytes are bounded, and what was cut is said. Its data: `source`, `entries` read, `persistent`
//! (clients that are kept, not connections), `synced` (from another director, where the kernel says it), `states`,
//! `virtual_servers`, `real_servers` and `clients` with the largest of each, `cut` where not all was read.

mod line;
mod summary;
mod tops;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use muster_proto::job::{Args, Reason, ReasonCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::line::Form;
use self::summary::{Filter, Summary};
use super::{argument, blocking};
use crate::action::{Action, Call, Failure};

/// Tables, the more telling one first.
const FILES: &[&str] = &["net/ip_vs_conn_sync", "net/ip_vs_conn"];

/// Longest time of reading. A job that waits gets what there is before its own limit ends it.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Most bytes that are read: some four million entries.
const READ_BYTES_MAX: u64 = 512 << 20;

/// Longest line; the kernel's have at most about 200 bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// How many lines are read between two looks at the clock.
const LINES_A_LOOK: u64 = 256;

const TOP_DEFAULT: usize = 10;

pub(super) struct Connections {
    pub(super) proc: PathBuf,
}

impl Action for Connections {
    fn admit(&self, args: &Args) -> Result<(), Reason> {
        filter(args).map(drop)
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let filter = filter(&call.args)?;
            let top = call.args.get("top").and_then(Value::as_u64);
            let top = top.and_then(|top| usize::try_from(top).ok());
            let limits = Limits {
                time: READ_LIMIT.min(call.run_limit / 2),
                bytes_max: READ_BYTES_MAX,
                stop: call.stop.child_token(),
            };
            // Dropped with the job: then the reading thread ends, too.
            let _end = limits.stop.clone().drop_guard();
            let proc = self.proc.clone();
            blocking(move || read(&proc, filter, top.unwrap_or(TOP_DEFAULT), &limits)).await
        })
    }
}

fn filter(args: &Args) -> Result<Filter, Reason> {
    let client = argument::<std::net::IpAddr>(args, "client");
    Ok(Filter {
        virtual_server: argument(args, "virtual_server")?,
        real: argument(args, "real_server")?,
        client: client.map_err(|_| {
            let why = "client: the address of a client is wanted, such as 192.0.2.1 or 2001:db8::1";
            Reason::new(ReasonCode::BadArgument, why)
        })?,
    })
}

/// When reading ends before the table does.
struct Limits {
    time: Duration,
    bytes_max: u64,
    stop: CancellationToken,
}

fn read(proc: &Path, filter: Filter, top: usize, limits: &Limits) -> Result<Value, Failure> {
    let started = Instant::now();
    let (path, file) = open(proc)?;
    let failed = |error: io::Error| Failure::new(format!("read {}: {error}", path.display()));
    let mut reader = BufReader::with_capacity(64 << 10, file.take(limits.bytes_max));
    let mut head = Vec::new();
    reader.read_until(b'\n', &mut head).map_err(failed)?;
    let form = Form::of_head(&head).ok_or_else(|| {
        let head = String::from_utf8_lossy(&head).trim_end().to_owned();
        Failure::new(format!(
            "{} is no connection table: it begins with {head:?}",
            path.display()
        ))
    })?;
    let mut summary = Summary::new(form, filter);
    let cut = feed(&mut reader, &mut summary, started, limits).map_err(failed)?;
    let mut data = summary.data(top);
    if let Some(fields) = data.as_object_mut() {
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        fields.insert("duration_ms".to_owned(), Value::from(took));
        fields.insert("source".to_owned(), Value::from(path.display().to_string()));
        if let Some(cut) = cut {
            fields.insert("cut".to_owned(), Value::from(cut));
        }
    }
    if limits.stop.is_cancelled() {
        return Err(Failure::new("ended before the table was read").with(data));
    }
    Ok(data)
}

fn open(proc: &Path) -> Result<(PathBuf, File), Failure> {
    let mut refused = None;
    for name in FILES {
        let path = proc.join(name);
        match File::open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) => refused = Some((path, error)),
        }
    }
    let why = match refused {
        Some((_, error)) if error.kind() == io::ErrorKind::NotFound => {
            "this kernel has no connection table of IPVS: ip_vs is not loaded".to_owned()
        }
        Some((path, error)) => format!("open {}: {error}", path.display()),
        None => String::new(),
    };
    Err(Failure::new(why))
}

/// Reads to the end, or to a limit; then why it was cut.
fn feed(
    reader: &mut BufReader<io::Take<File>>,
    summary: &mut Summary,
    started: Instant,
    limits: &Limits,
) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if line.last() == Some(&b'\n') || read as u64 == LINE_BYTES_MAX {
            summary.add(&line);
        }
        if number % LINES_A_LOOK == 0 {
            if limits.stop.is_cancelled() {
                return Ok(Some("it was told to end".to_owned()));
            }
            if started.elapsed() >= limits.time {
                return Ok(Some(format!("after {} s", limits.time.as_secs_f64())));
            }
        }
    }
    let all_read = reader.get_ref().limit() > 0;
    Ok((!all_read).then(|| format!("after {} bytes", limits.bytes_max)))
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn proc(name: &str, text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("net")).unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        dir
    }

    fn limits(time: Duration, bytes_max: u64) -> Limits {
        Limits {
            time,
            bytes_max,
            stop: CancellationToken::new(),
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_table_is_read_whole_or_what_was_cut_is_said() {
        let sample = include_str!("samples/ip_vs_conn");
        let dir = proc("net/ip_vs_conn", sample);
        let read = |limits: &Limits| read(dir.path(), Filter::default(), 3, limits).unwrap();
        let whole = read(&limits(LONG, READ_BYTES_MAX));
        assert_eq!(
            (&whole["entries"], &whole["cut"]),
            (&Value::from(32), &Value::Null)
        );
        assert!(
            whole["source"]
                .as_str()
                .unwrap()
                .ends_with("/net/ip_vs_conn")
        );
        let cut = read(&limits(LONG, 1000));
        assert_eq!(
            (&cut["entries"], &cut["cut"]),
            (&Value::from(13), &Value::from("after 1000 bytes"))
        );
        assert_eq!(cut["malformed"], 0, "a line that was cut is none");
    }

    #[test]
    fn time_and_stop_end_the_reading_of_a_large_table() {
        let mut table =
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
                .to_owned();
        for client in 0..5000 {
            writeln!(
                table,
                "TCP 0A{client:06X} 9372 C0000263 0050 0A080102 1F90 ESTABLISHED 112"
            )
            .unwrap();
        }
        let dir = proc("net/ip_vs_conn", &table);
        let data = read(
            dir.path(),
            Filter::default(),
            3,
            &limits(Duration::ZERO, READ_BYTES_MAX),
        )
        .unwrap();
        assert_eq!(
            (&data["entries"], &data["cut"]),
            (&Value::from(LINES_A_LOOK), &Value::from("after 0 s"))
        );
        let stopped = limits(LONG, READ_BYTES_MAX);
        stopped.stop.cancel();
        let failure = read(dir.path(), Filter::default(), 3, &stopped).unwrap_err();
        assert_eq!(failure.data["entries"], LINES_A_LOOK);
    }

    #[test]
    fn what_is_no_table_is_said_to_be_none() {
        let dir = proc("net/other", "");
        let why = |dir: &Path| {
            read(dir, Filter::default(), 1, &limits(LONG, 1 << 20))
                .unwrap_err()
                .reason
                .message
        };
        assert_eq!(
            why(dir.path()),
            "this kernel has no connection table of IPVS: ip_vs is not loaded"
        );
        let dir = proc("net/ip_vs_conn", "<html>\n");
        assert!(why(dir.path()).ends_with("is no connection table: it begins with \"<html>\""));
        let long = format!(
            "Pro\n{}\nTCP 0A090002 9372 C0000263 0050 0A080102 1F90 CLOSE 1\n",
            "x".repeat(10_000)
        );
        let dir = proc("net/ip_vs_conn", &long);
        let data = read(dir.path(), Filter::default(), 1, &limits(LONG, 1 << 20)).unwrap();
        assert_eq!(
            (&data["malformed"], &data["states"][0]["entries"]),
            (&Value::from(3), &Value::from(1))
        );
    }
}
