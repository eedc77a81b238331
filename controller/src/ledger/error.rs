//! Why the ledger's file can't be used, and which of SQLite's errors mean damage.

use std::path::Path;

use rusqlite::ErrorCode;

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is damaged: set aside and begin anew.
    #[error("the ledger's cache {path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// SQLite's words.
        why: String,
    },
    /// Another program has begun it anew meanwhile: catch up again.
    #[error("the ledger's cache was begun anew by another muster")]
    Superseded,
    /// A newer program made it.
    #[error("the ledger's cache {path} is of a newer muster; use that one, or another cache_dir")]
    Newer {
        /// The file.
        path: String,
    },
    /// SQLite refused.
    #[error("{what} in the ledger's cache {path}: {source}")]
    Sqlite {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// SQLite's words.
        source: rusqlite::Error,
    },
}

pub(super) fn place_of(path: Option<&Path>) -> String {
    path.map_or_else(
        || "(in memory)".to_owned(),
        |path| path.display().to_string(),
    )
}

pub(super) fn wrap(path: Option<&Path>, what: &'static str, source: rusqlite::Error) -> StoreError {
    let code = source.sqlite_error_code();
    // Rows that don't read back as what was written are damage, too.
    let unreadable = matches!(
        source,
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)
    );
    if unreadable
        || matches!(
            code,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
    {
        return StoreError::Damaged {
            path: place_of(path),
            why: source.to_string(),
        };
    }
    StoreError::Sqlite {
        what,
        path: place_of(path),
        source,
    }
}
