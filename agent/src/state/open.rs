//! Opens the state file: one agent at a time, and never stopped by what is in the file. A file that can't be used is
//! set aside. Knows no table.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, StorageError};

/// The file's name.
pub(super) const FILE: &str = "state.redb";

/// Memory for pages: the agent's whole memory is a few MiB, and the newest pages are what is asked for.
const CACHE_BYTES: usize = 1024 * 1024;

/// Damaged files that are kept for people to look at; older ones are deleted, since each may be as large as the outbox.
const DAMAGED_KEPT_MAX: usize = 3;

/// Why the state file's directory can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another agent has it open.
    #[error("another muster-agent uses {path}; stop it, or give this one a state_dir of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It can't be written to.
    #[error(
        "could not {what} {path}: {why}; the agent's user needs a state_dir that it may write to"
    )]
    Denied {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
}

/// Why the file can't be used just now, or ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It will never be right again.
    Damaged(String),
    /// It may be right again: the disk is full, say.
    Passing(String),
    /// The agent's user may not.
    Denied(String),
    /// Another process has it open.
    InUse,
}

impl Fault {
    pub(super) fn why(&self) -> String {
        match self {
            Self::Damaged(why) | Self::Passing(why) | Self::Denied(why) => why.clone(),
            Self::InUse => "another process has it open".to_owned(),
        }
    }

    fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let why = error.to_string();
        match error.kind() {
            Kind::InvalidData | Kind::InvalidInput | Kind::UnexpectedEof | Kind::IsADirectory => {
                Self::Damaged(why)
            }
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::Denied(why),
            _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Self::Damaged(why)
            }
            _ => Self::Passing(why),
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        use redb::Error as E;
        match error {
            E::Io(error) => Self::of_io(&error),
            E::DatabaseAlreadyOpen => Self::InUse,
            E::PreviousIo | E::DatabaseClosed | E::LockPoisoned(_) | E::TransactionInProgress => {
                Self::Passing(error.to_string())
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}

macro_rules! faults {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })+
    };
}

faults!(
    DatabaseError,
    StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError
);

/// Runs `work`; a panic in it is damage. redb may panic on a file that somebody else has written to.
pub(super) fn contained<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // Whatever was being changed when it panicked is dropped with the database.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Fault::Damaged(format!("the database panicked: {what}")))
    })
}

/// Makes the directory where it is missing and takes the lock that says which agent uses it. Held as long as the file.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let denied = |what, path: &Path, error: &io::Error| OpenError::Denied {
        what,
        path: path.to_owned(),
        why: error.to_string(),
    };
    // Others may pass through, for scripts that run as another user; the files in it are the agent's alone.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .map_err(|error| denied("make the directory", dir, &error))?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| denied("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: dir.join(FILE),
        }),
        Err(TryLockError::Error(error)) => Err(denied("lock", &path, &error)),
    }
}

/// Opens the database, every page of it checked.
pub(super) fn database(path: &Path) -> Result<Database, Fault> {
    match std::fs::metadata(path) {
        // redb would begin a new one in it, and nobody would know that something was lost.
        Ok(found) if found.len() == 0 => return Err(Fault::Damaged("it is empty".to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        Err(error) => return Err(Fault::of_io(&error)),
    }
    contained(|| {
        Ok(Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .open(path)?)
    })
}

/// Makes a new database under another name first, so that a crash meanwhile leaves none that is half made.
fn make(path: &Path) -> Result<(), Fault> {
    let new = path.with_extension("redb.new");
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(Fault::of_io(&error));
    }
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .map_err(|error| Fault::of_io(&error))?;
    contained(|| {
        let database = Builder::new().set_cache_size(CACHE_BYTES).create(&new)?;
        database.close()?;
        Ok(())
    })?;
    std::fs::rename(&new, path)
        .and_then(|()| sync_parent(path))
        .map_err(|error| Fault::of_io(&error))
}

/// Gives a damaged file another name, and deletes the oldest of too many. The new name.
pub(super) fn set_aside(path: &Path, now_ms: u64) -> io::Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{now_ms}"));
    let aside = PathBuf::from(aside);
    std::fs::rename(path, &aside)?;
    sync_parent(path)?;
    if let Some(dir) = path.parent() {
        delete_oldest(dir)?;
    }
    Ok(aside)
}

fn delete_oldest(dir: &Path) -> io::Result<()> {
    let prefix = format!("{FILE}.damaged-");
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(dir)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let at_ms = path
                .file_name()?
                .to_str()?
                .strip_prefix(&prefix)?
                .parse()
                .ok()?;
            Some((at_ms, path))
        })
        .collect();
    found.sort();
    let over = found.len().saturating_sub(DAMAGED_KEPT_MAX);
    for (_, path) in found.into_iter().take(over) {
        if path.is_file() {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
