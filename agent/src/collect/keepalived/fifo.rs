//! A thread that reads one of keepalived's notify FIFOs and queues what it says. Knows neither snapshots nor events.
//!
//! A FIFO has one reader: a second one would get some of the lines. keepalived removes it when it stops and makes a new
//! one when it starts, so that the path is looked at again and again. Lines that were waiting when the reader began are
//! of unknown age and marked so.

use std::collections::VecDeque;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_proto::snapshot::keepalived::Fifo;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use super::super::Wake;
use super::notice::{Lines, Notice, parse};
use super::run::pause;

/// Notices that wait for a run at the most. What is over it is dropped from the front: the state at the end counts, and
/// the next dump tells it too.
const QUEUE_MAX: usize = 4096;
/// How often the path is looked at, and how soon the thread ends after its collector.
const LOOK: Duration = Duration::from_millis(1000);
/// Pause while nobody writes, when `poll` would return at once.
const NO_WRITER: Duration = Duration::from_millis(250);
/// Lines are short, and nothing here recurses.
const STACK_BYTES: usize = 128 << 10;
const READ_BYTES: usize = 4096;

/// Something that a FIFO said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) notice: Notice,
    /// When it was read, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// It was waiting when the reader began, so that nobody knows when it was written.
    pub(super) replayed: bool,
}

/// The reader; its thread ends soon after it is dropped.
#[derive(Debug)]
pub(super) struct FifoReader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    wake: Wake,
    stop: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Heard>,
    status: Fifo,
}

impl FifoReader {
    /// Starts reading `path`, which `shown` is the configured name of.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(path: PathBuf, shown: &str, wake: Wake) -> io::Result<Self> {
        let status = Fifo {
            path: shown.to_owned(),
            ..Fifo::default()
        };
        let inner = Inner {
            status,
            ..Inner::default()
        };
        let shared = Arc::new(Shared {
            path,
            wake,
            stop: AtomicBool::new(false),
            inner: Mutex::new(inner),
        });
        let reader = shared.clone();
        std::thread::Builder::new()
            .name("keepalived-fifo".into())
            .stack_size(STACK_BYTES)
            .spawn(move || Reading::of(reader).run())?;
        Ok(Self { shared })
    }

    /// What was heard since the last call, in order, and how it goes.
    pub(super) fn take(&self) -> (Vec<Heard>, Fifo) {
        let mut inner = self.shared.lock();
        (inner.queue.drain(..).collect(), inner.status.clone())
    }
}

impl Drop for FifoReader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics with the lock held, and the data is whole at every step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's own.
struct Reading {
    shared: Arc<Shared>,
    lines: Lines,
    file: Option<(File, (u64, u64))>,
    /// Nothing has been read, or tried to be, yet.
    first: bool,
    /// What is read now was there before the reader.
    stale: bool,
    buffer: Vec<u8>,
}

impl Reading {
    fn of(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            lines: Lines::default(),
            file: None,
            first: true,
            stale: false,
            buffer: vec![0; READ_BYTES],
        }
    }

    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            let Some((file, id)) = &self.file else {
                self.open();
                if self.file.is_none() {
                    pause(LOOK);
                }
                continue;
            };
            let replaced = id_of(&self.shared.path) != Some(*id);
            if !self.stale && !replaced {
                let mut waiting = [PollFd::new(file, PollFlags::IN)];
                let limit = LOOK.try_into().ok();
                _ = poll(&mut waiting, limit.as_ref());
            }
            let open = self.read();
            if replaced || !open {
                self.close();
            }
        }
    }

    fn open(&mut self) {
        let first = std::mem::take(&mut self.first);
        let opened = open(&self.shared.path);
        let mut inner = self.shared.lock();
        match opened {
            Ok(opened) => {
                self.stale = first;
                inner.status.open = true;
                inner.status.error = None;
                drop(inner);
                self.file = Some(opened);
            }
            Err(error) => {
                inner.status.open = false;
                inner.status.error = Some(error.to_string());
            }
        }
    }

    fn close(&mut self) {
        self.file = None;
        self.lines.forget();
        self.shared.lock().status.open = false;
    }

    /// Reads all that is there. False where the FIFO can't be read any more.
    fn read(&mut self) -> bool {
        loop {
            let Some((file, _)) = &mut self.file else {
                return false;
            };
            match file.read(&mut self.buffer) {
                Ok(0) => {
                    self.stale = false;
                    pause(NO_WRITER);
                    return true;
                }
                Ok(count) => self.take(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stale = false;
                    return true;
                }
                Err(error) => {
                    self.shared.lock().status.error = Some(error.to_string());
                    return false;
                }
            }
        }
    }

    fn take(&mut self, count: usize) {
        let at_ms = wall_ms();
        let replayed = self.stale;
        let mut inner = self.shared.lock();
        let mut news = false;
        let bytes = self.buffer.get(..count).unwrap_or_default();
        self.lines.push(bytes, |line| {
            inner.status.lines += 1;
            inner.status.last_at_ms = Some(at_ms);
            match parse(line) {
                Some(Notice::Nothing) => {}
                Some(notice) => {
                    if inner.queue.len() >= QUEUE_MAX {
                        inner.queue.pop_front();
                        inner.status.dropped_lines += 1;
                    }
                    news = true;
                    inner.queue.push_back(Heard {
                        notice,
                        at_ms,
                        replayed,
                    });
                }
                None => inner.status.unknown_lines += 1,
            }
        });
        drop(inner);
        if news {
            self.shared.wake.now();
        }
    }
}

fn open(path: &Path) -> io::Result<(File, (u64, u64))> {
    #[expect(clippy::cast_possible_wrap, reason = "a bit set of the kernel")]
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.file_type().is_fifo() {
        return Err(io::Error::other("not a FIFO"));
    }
    _ = file.as_fd();
    Ok((file, id(&metadata)))
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().as_ref().map(id)
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::io::Write;
    use std::time::Instant;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn make(path: &Path) -> File {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        // As keepalived holds it.
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    }

    /// Waits until `count` notices were heard.
    fn heard(reader: &FifoReader, count: usize) -> Vec<Heard> {
        let mut all = Vec::new();
        let began = Instant::now();
        while all.len() < count {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "heard only {all:?}"
            );
            all.extend(reader.take().0);
            pause(Duration::from_millis(5));
        }
        all
    }

    fn up(server: &str) -> Notice {
        let server = server.to_owned();
        Notice::Virtual { server, up: true }
    }

    #[test]
    fn stale_lines_are_marked_and_a_new_fifo_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lvs.fifo");
        let mut writer = make(&path);
        writer.write_all(b"VS a UP\n\0VS FWM 5 UP\n\0").unwrap();
        let reader = FifoReader::start(path.clone(), "/run/lvs.fifo", Wake::default()).unwrap();
        let old = heard(&reader, 2);
        assert!(old.iter().all(|heard| heard.replayed));
        assert_eq!(old.last().unwrap().notice, up("FWM 5"));
        // Whether the reader has seen that nothing more waits shows only in what comes next.
        let began = Instant::now();
        loop {
            writer.write_all(b"VS b UP\n\0garbage\n").unwrap();
            let new = heard(&reader, 1);
            assert_eq!(new.first().unwrap().notice, up("b"));
            if !new.first().unwrap().replayed {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20));
        }
        std::fs::remove_file(&path).unwrap();
        let mut next = make(&path);
        next.write_all(b"VS c UP\n\0").unwrap();
        drop(writer);
        let fresh = heard(&reader, 1);
        assert_eq!(fresh.first().unwrap().notice, up("c"));
        assert!(!fresh.first().unwrap().replayed);
        let status = reader.take().1;
        assert!(status.open && status.unknown_lines > 0 && status.lines >= 5);
        assert_eq!(
            (status.path.as_str(), status.dropped_lines),
            ("/run/lvs.fifo", 0)
        );
    }

    #[test]
    fn a_fifo_that_comes_later_is_not_stale_and_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vrrp.fifo");
        std::fs::write(&path, "no fifo").unwrap();
        let reader = FifoReader::start(path.clone(), "x", Wake::default()).unwrap();
        let began = Instant::now();
        while reader.take().1.error.is_none() {
            assert!(began.elapsed() < Duration::from_secs(20));
            pause(Duration::from_millis(5));
        }
        assert_eq!(reader.take().1.error.as_deref(), Some("not a FIFO"));
        std::fs::remove_file(&path).unwrap();
        let mut writer = make(&path);
        writer.write_all(b"VS a UP\n\0").unwrap();
        assert!(!heard(&reader, 1).first().unwrap().replayed);
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lvs.fifo");
        let mut writer = make(&path);
        let reader = FifoReader::start(path, "x", Wake::default()).unwrap();
        let lines = QUEUE_MAX + 100;
        for number in 0..lines {
            writer
                .write_all(format!("VS [v{number}]:0 UP\n\0").as_bytes())
                .unwrap();
        }
        let began = Instant::now();
        while reader.shared.lock().status.lines < lines as u64 {
            assert!(began.elapsed() < Duration::from_secs(20));
            pause(Duration::from_millis(5));
        }
        let (queue, status) = reader.take();
        assert_eq!((queue.len(), status.dropped_lines), (QUEUE_MAX, 100));
        assert_eq!(
            queue.last().unwrap().notice,
            up(&format!("[v{}]:0", lines - 1))
        );
    }
}
