//! `/v1/sandboxes/{id}/files`: files of a sandbox.

mod query;
mod types;

pub use query::{FILE_PATH_BYTES_MAX, FilesQuery, LIST_ENTRIES_MAX};
pub use types::{
    DirectoryListing, FileChange, FileChangeKind, FileInfo, KIND_HEADER, MODE_HEADER, UnpackedArchive,
    percent_encoded,
};
