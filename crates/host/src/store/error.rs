//! Why the store did not do something.

use rusqlite::ErrorCode;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// So many jobs wait that another would only add to it.
    #[error("the database is busy")]
    Busy,
    #[error("the database did not answer within {} s", .0.as_secs())]
    Silent(std::time::Duration),
    #[error("the database is closed")]
    Closed,
    #[error("the disk with the database is full; make room on it")]
    DiskFull(#[source] rusqlite::Error),
    #[error("the database cannot be written; make its file and directory writable for the daemon")]
    ReadOnly(#[source] rusqlite::Error),
    #[error("the database is damaged; stop the host and restore it from a backup")]
    Damaged(#[source] rusqlite::Error),
    #[error("the database failed")]
    Sqlite(#[source] rusqlite::Error),
    /// Somebody has written what this version cannot read.
    #[error("the database has an unreadable {what}: {text}")]
    Unreadable { what: &'static str, text: String },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull(error),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly(error)
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            _ => Self::Sqlite(error),
        }
    }
}

impl StoreError {
    /// Whether a row was refused because there is one like it.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation))
    }
}
