//! Asks a keepalived to write its files and waits until they are whole. What they say is the parsers' business.
//!
//! keepalived answers some time after the signal, and writes while we look. A file counts when it is another one than
//! before the signal, stays the same for two looks, and reads as whole. Where that does not happen in time the file
//! before is kept: late is not down.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::conf::DumpPaths;
use super::process::{Parent, Processes};
use super::run::pause;

/// Longest file; 1,000 virtual servers with ten real servers each make 15 MB.
const DUMP_BYTES_MAX: u64 = 128 << 20;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The files of one keepalived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Vrrp,
    Checker,
    Stats,
    Json,
}

/// A file that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dump {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
    /// When it was written, in milliseconds since 1970.
    pub(super) at_ms: u64,
}

/// A file that is waited for.
#[derive(Debug)]
pub(super) struct Awaited {
    kind: Kind,
    paths: Vec<PathBuf>,
    owner: u32,
    before: Option<Stamp>,
    last: Option<Stamp>,
}

/// By which a file is known to be the same: device, inode, size, and time of the last change.
type Stamp = (u64, u64, u64, i64, i64);

impl Kind {
    /// Name below the folder for temporary files, and the end of a moved file's name before its suffix.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Vrrp => ("keepalived.data", ""),
            Self::Checker => ("keepalived_check.data", "_check"),
            Self::Stats => ("keepalived.stats", ""),
            Self::Json => ("keepalived.json", ""),
        }
    }

    /// Whether the file's end is there.
    fn is_whole(self, bytes: &[u8]) -> bool {
        match self {
            Self::Json => super::dump::parse_json(bytes).is_some(),
            _ => bytes.last() == Some(&b'\n'),
        }
    }
}

/// Where `kind` is written, most likely place first.
pub(super) fn places(
    processes: &Processes,
    parent: &Parent,
    moved: &DumpPaths,
    kind: Kind,
) -> Vec<PathBuf> {
    let (name, end) = kind.name();
    let configured = match kind {
        Kind::Vrrp | Kind::Checker => &moved.state,
        Kind::Stats => &moved.stats,
        Kind::Json => &moved.json,
    };
    let inside = match configured {
        Some(path) => insert(path, end),
        None => {
            let folder = processes.variable(parent.pid, "TMPDIR");
            let folder = folder.filter(|folder| folder.starts_with('/'));
            Path::new(folder.as_deref().unwrap_or("/tmp")).join(name)
        }
    };
    processes.inside(parent.pid, &inside).to_vec()
}

/// `/run/ka_check.data` of `/run/ka.data`.
fn insert(path: &Path, end: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(suffix) => format!("{stem}{end}.{}", suffix.to_string_lossy()),
        None => format!("{stem}{end}"),
    };
    path.with_file_name(name)
}

impl Awaited {
    /// Looks at the file as it is before the signal.
    pub(super) fn new(kind: Kind, paths: Vec<PathBuf>, owner: u32) -> Self {
        let mut awaited = Self {
            kind,
            paths,
            owner,
            before: None,
            last: None,
        };
        awaited.before = awaited.open().ok().map(|(_, stamp, _)| stamp);
        awaited
    }

    /// The file as it is, however old, if it is whole.
    pub(super) fn read(&self) -> io::Result<Dump> {
        let (file, stamp, _) = self.open()?;
        let mut bytes = Vec::new();
        file.take(DUMP_BYTES_MAX).read_to_end(&mut bytes)?;
        if !self.kind.is_whole(&bytes) {
            return Err(io::Error::other("not whole"));
        }
        let (_, _, _, seconds, nanos) = stamp;
        let ms = seconds
            .saturating_mul(1000)
            .saturating_add(nanos / 1_000_000);
        Ok(Dump {
            kind: self.kind,
            bytes,
            at_ms: ms.try_into().unwrap_or_default(),
        })
    }

    /// The new file, if it has come and is whole.
    fn look(&mut self) -> Option<Dump> {
        let (_, stamp, _) = self.open().ok()?;
        if Some(stamp) == self.before {
            return None;
        }
        if self.last.replace(stamp) != Some(stamp) {
            return None;
        }
        self.read().ok()
    }

    /// Opens the first of the places that has the file. In a folder where everybody may write, what keepalived did not
    /// write itself is not believed.
    fn open(&self) -> io::Result<(File, Stamp, &Path)> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for path in &self.paths {
            match open(path, self.owner) {
                Ok((file, stamp)) => return Ok((file, stamp, path)),
                Err(other) if other.kind() == io::ErrorKind::NotFound => {}
                Err(other) => error = other,
            }
        }
        Err(error)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the file is expected.
    pub(super) fn place(&self) -> String {
        let first = self.paths.first();
        first.map_or_else(String::new, |path| path.display().to_string())
    }
}

fn open(path: &Path, owner: u32) -> io::Result<(File, Stamp)> {
    #[expect(clippy::cast_possible_wrap, reason = "a bit set of the kernel")]
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    let rightful = [0, own, owner].contains(&metadata.uid());
    if !metadata.is_file() || !rightful {
        return Err(io::Error::other("not a file of keepalived's"));
    }
    if metadata.len() > DUMP_BYTES_MAX {
        return Err(io::Error::other("too long"));
    }
    let stamp = (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    );
    Ok((file, stamp))
}

/// Those that have come. They are no longer awaited.
pub(super) fn look(awaited: &mut Vec<Awaited>) -> Vec<Dump> {
    let mut dumps = Vec::new();
    awaited.retain_mut(|file| match file.look() {
        Some(dump) => {
            dumps.push(dump);
            false
        }
        None => true,
    });
    dumps
}

/// Waits for all of them, at most so long. Gives those that came; those that did not are left in `awaited`.
pub(super) fn wait(awaited: &mut Vec<Awaited>, limit: Duration) -> Vec<Dump> {
    let until = Instant::now() + limit;
    let mut dumps = Vec::new();
    loop {
        dumps.append(&mut look(awaited));
        if awaited.is_empty() || Instant::now() >= until {
            return dumps;
        }
        pause(LOOK);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn awaited(path: &Path, kind: Kind) -> Vec<Awaited> {
        let own = rustix::process::geteuid().as_raw();
        vec![Awaited::new(kind, vec![path.to_owned()], own)]
    }

    #[test]
    fn a_file_counts_when_it_is_new_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keepalived.json");
        std::fs::write(&path, "[]").unwrap();
        let mut files = awaited(&path, Kind::Json);
        assert_eq!(wait(&mut files, Duration::from_millis(1)), []);
        assert_eq!(files.first().unwrap().read().unwrap().bytes, b"[]");
        let (step, steps) = mpsc::sync_channel::<()>(0);
        let writer = std::thread::spawn(move || {
            std::fs::remove_file(&path).unwrap();
            let mut file = File::create(&path).unwrap();
            file.write_all(b"[{\"data\":{\"iname\":").unwrap();
            steps.recv().unwrap();
            file.write_all(b"\"VI\"}}]\n").unwrap();
        });
        // Half a file is there for as long as nobody lets the writer go on.
        assert_eq!(wait(&mut files, LOOK * 4), []);
        step.send(()).unwrap();
        let dumps = wait(&mut files, LONG);
        assert!(files.is_empty());
        assert_eq!(
            dumps.first().unwrap().bytes,
            b"[{\"data\":{\"iname\":\"VI\"}}]\n"
        );
        assert!(dumps.first().unwrap().at_ms > 1_700_000_000_000);
        writer.join().unwrap();
    }

    #[test]
    fn links_and_half_texts_are_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keepalived.data");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(awaited(&path, Kind::Vrrp).first().unwrap().read().is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "------< VRRP Topology >------\n VRRP Inst").unwrap();
        assert!(awaited(&path, Kind::Vrrp).first().unwrap().read().is_err());
        std::fs::create_dir(directory.path().join("x")).unwrap();
        let folder = directory.path().join("x");
        assert!(
            awaited(&folder, Kind::Vrrp)
                .first()
                .unwrap()
                .read()
                .is_err()
        );
    }

    #[test]
    fn moved_files_have_their_parts_names() {
        let path = Path::new("/run/ka.data");
        assert_eq!(insert(path, "_check"), Path::new("/run/ka_check.data"));
        assert_eq!(
            insert(Path::new("/run/ka"), "_check"),
            Path::new("/run/ka_check")
        );
        assert_eq!(insert(path, ""), path);
    }
}
