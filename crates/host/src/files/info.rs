//! What a guest says about its files, checked and put into words.

use std::sync::Arc;

use agent_proto::Reply;
use agent_proto::files::{FileReply, FileRequest, FileStat, ListDirectory, Listed};
use api::{DirectoryListing, FileInfo, percent_encoded};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::conversation::{Conversation, FilesError};
use crate::diff::file_kind;
use crate::sandbox::Sandbox;

/// Longest name of a file, in bytes.
const NAME_BYTES_MAX: usize = 255;

pub(crate) fn file_info(name: &[u8], stat: &FileStat) -> FileInfo {
    let (name, name_b64) = text_and_bytes(name);
    let (target, target_b64) = stat.target.as_deref().map(text_and_bytes).unzip();
    FileInfo {
        name,
        name_b64,
        kind: file_kind(stat.kind),
        size: stat.size,
        mode: format!("{:04o}", stat.mode & 0o7777),
        mtime_ms: stat.mtime_ns.div_euclid(1_000_000),
        target,
        target_b64: target_b64.flatten(),
    }
}

/// Text for people, and the bytes in base64 where the text is not all of them.
pub(super) fn text_and_bytes(bytes: &[u8]) -> (String, Option<String>) {
    let exact = std::str::from_utf8(bytes).is_ok();
    let text = String::from_utf8_lossy(bytes).into_owned();
    (text, (!exact).then(|| STANDARD.encode(bytes)))
}

/// A page of a directory.
pub(crate) async fn list(
    sandbox: &Arc<Sandbox>,
    wanted: ListDirectory,
) -> Result<DirectoryListing, FilesError> {
    let (path, _) = text_and_bytes(&wanted.path);
    let limit = wanted.limit as usize;
    let mut last = wanted.after.clone();
    let mut conversation = Conversation::begin(sandbox, FileRequest::List(wanted)).await?;
    let mut entries: Vec<FileInfo> = Vec::new();
    loop {
        match conversation.outcome().await? {
            Reply::File(FileReply::Entries(page)) => {
                if entries.len() + page.len() > limit {
                    return Err(FilesError::Absurd("more files than were asked for"));
                }
                for Listed { name, stat } in page {
                    if !is_name(&name) || name <= last {
                        return Err(FilesError::Absurd("a file name that is none"));
                    }
                    entries.push(file_info(&name, &stat));
                    last = name;
                }
            }
            Reply::File(FileReply::ListEnd { more }) => {
                conversation.release();
                let next = more.then(|| percent_encoded(&last));
                return Ok(DirectoryListing { path, entries, next });
            }
            _ => return Err(FilesError::Unexpected),
        }
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !matches!(name, b"." | b"..")
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        assert!(is_name(b"a b") && is_name(&[255; NAME_BYTES_MAX]));
        for name in [
            &b""[..],
            b".",
            b"..",
            b"a/b",
            b"/",
            b"a\0",
            &[b'a'; NAME_BYTES_MAX + 1],
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_given_exactly_as_well() {
        assert_eq!(text_and_bytes("é".as_bytes()), ("é".to_owned(), None));
        let (text, exact) = text_and_bytes(b"\xffx");
        assert_eq!((text.as_str(), exact.as_deref()), ("\u{fffd}x", Some("/3g=")));
    }
}
