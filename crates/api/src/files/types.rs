//! What is told about files.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diff::FileKind;

/// Response header: `file` or `directory`.
pub const KIND_HEADER: &str = "x-podflare-kind";

/// Response header: the permissions, in octal.
pub const MODE_HEADER: &str = "x-podflare-mode";

/// What needs no encoding in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// One file. Bytes of names that are not UTF-8 are replaced by U+FFFD; the fields in base64 have the exact ones then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileInfo {
    /// Its last part; in an answer about the file itself the whole path.
    pub name: String,
    /// Its exact bytes in base64, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_b64: Option<String>,
    pub kind: FileKind,
    /// In bytes.
    pub size: u64,
    /// Permissions in octal, four digits.
    #[schemars(extend("pattern" = "^[0-7]{4}$"))]
    pub mode: String,
    /// Last change of the content, in milliseconds since the Unix epoch.
    pub mtime_ms: i64,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The exact bytes of that in base64, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_b64: Option<String>,
}

/// What is in a directory, sorted by the bytes of the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DirectoryListing {
    /// Of the directory.
    pub path: String,
    pub entries: Vec<FileInfo>,
    /// There is more: ask again with this as `after`, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What came out of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnpackedArchive {
    /// Files, directories and links.
    pub entries: u64,
    /// Of content, in all.
    pub bytes: u64,
}

/// One line of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileChange {
    #[serde(rename = "type")]
    pub kind: FileChangeKind,
    /// Absolute.
    pub path: String,
    /// The exact bytes of it in base64, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    /// Where it has been moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The exact bytes of that in base64, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_b64: Option<String>,
    /// Whether it is a directory.
    pub directory: bool,
    /// When the host heard of it, in milliseconds since the Unix epoch.
    pub ts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileChangeKind {
    /// It watches: what happens from here on is told.
    Ready,
    Created,
    /// Its content, permissions or times.
    Modified,
    Deleted,
    Moved,
    /// More happened than could be told: look again at everything.
    Overflow,
}

/// Bytes for the value of a query.
#[must_use]
pub fn percent_encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, PLAIN).to_string()
}
