//! Opening the database, or saying what to do about one that cannot be used.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

use super::StoreError;
use super::schema::{self, APPLICATION_ID, VERSION};

/// How long another process, such as a backup, may hold the database.
const BUSY_BOUND: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum StoreOpenError {
    #[error("cannot make the database {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} was made by a newer version of Podflare (its format is {found}, this one knows {VERSION}); use that version, \
         or move the file away to begin without tenants and keys", path.display()
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("{} is a database of something else; move it away", path.display())]
    Foreign { path: PathBuf },
    #[error(
        "{} is damaged ({problem}); restore it from a backup, or move it and its -wal file away to begin without \
         tenants and keys", path.display()
    )]
    Damaged { path: PathBuf, problem: String },
    #[error("cannot use the database {}", path.display())]
    Use {
        path: PathBuf,
        // The cause stays private: its type is the library's.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Opens the database of this path, which may not exist yet, and brings it up to date.
pub(super) fn open(path: &Path) -> Result<Connection, StoreOpenError> {
    make_private(path).map_err(|source| StoreOpenError::Make {
        path: path.to_owned(),
        source,
    })?;
    let failed = |error: rusqlite::Error| match StoreError::from(error) {
        StoreError::Damaged(error) => StoreOpenError::Damaged {
            path: path.to_owned(),
            problem: error.to_string(),
        },
        error => StoreOpenError::Use {
            path: path.to_owned(),
            source: Box::new(error),
        },
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_BOUND).map_err(failed)?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (found, application) = (
        number("user_version").map_err(failed)?,
        number("application_id").map_err(failed)?,
    );
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    let is_new = (found, application, tables) == (0, 0, 0);
    if !is_new && application != APPLICATION_ID {
        return Err(StoreOpenError::Foreign {
            path: path.to_owned(),
        });
    }
    if found > VERSION {
        return Err(StoreOpenError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    if let Some(problem) = check(&connection, Check::Quick)
        .map_err(failed)?
        .into_iter()
        .next()
    {
        return Err(StoreOpenError::Damaged {
            path: path.to_owned(),
            problem,
        });
    }
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
        .and_then(|()| connection.pragma_update(None, "foreign_keys", true))
        .map_err(failed)?;
    if found < VERSION {
        schema::migrate(&mut connection, found).map_err(failed)?;
    }
    Ok(connection)
}

/// How closely to look.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// The pages.
    Quick,
    /// The indices and constraints, too.
    Whole,
}

/// What is wrong with the database; nothing when it is sound.
pub(super) fn check(connection: &Connection, check: Check) -> rusqlite::Result<Vec<String>> {
    let pragma = match check {
        Check::Quick => "PRAGMA quick_check(20)",
        Check::Whole => "PRAGMA integrity_check(20)",
    };
    let mut statement = connection.prepare(pragma)?;
    let lines: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// SQLite gives its other files the rights of this one.
fn make_private(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}
