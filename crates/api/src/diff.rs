//! `GET /v1/sandboxes/{id}/diff/{other}`: files that differ between two sandboxes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::InvalidRequest;

/// Most paths in one request.
pub const DIFF_PATHS_MAX: usize = 64;

/// Longest path, in bytes: `PATH_MAX` of Linux.
const PATH_BYTES_MAX: usize = 4096;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffRequest {
    /// Absolute, sorted, none inside another.
    pub roots: Vec<String>,
    /// Not looked into.
    pub skip: Vec<String>,
}

/// What is different in the other sandbox, in the order of the paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// In the other only.
    pub added: Vec<DiffEntry>,
    /// In the first only.
    pub removed: Vec<DiffEntry>,
    /// In both, with different content, kind or permissions.
    pub modified: Vec<DiffEntry>,
    /// There was more than one answer holds; what is listed is true all the same.
    pub truncated: bool,
    /// Files of the larger side that were looked at, and of how many the content had to be read.
    pub compared: u64,
    pub read: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffEntry {
    /// Absolute. Bytes that are not UTF-8 are replaced by U+FFFD; `path_b64` has the exact ones then.
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    pub kind: FileKind,
    /// In bytes; of what was there before, where something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_before: Option<u64>,
    /// In bytes; of what is there now, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    /// A pipe, socket or device.
    Other,
}

impl DiffRequest {
    /// Validates a query: any number of `paths=`, each an absolute path; the whole root file system without any.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(query: &str) -> Result<Self, InvalidRequest> {
        const EXPECTED: &str = "absolute paths, each in a paths= of its own";
        let mut roots = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name != "paths" {
                continue;
            }
            let path =
                percent_decoded(value).ok_or_else(|| InvalidRequest::value("paths", EXPECTED, value))?;
            let sound = path.starts_with('/')
                && path.len() <= PATH_BYTES_MAX
                && !path.contains('\0')
                && !path.split('/').any(|part| part == "." || part == "..");
            if !sound || roots.len() == DIFF_PATHS_MAX {
                return Err(InvalidRequest::value("paths", EXPECTED, &path));
            }
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            roots.push(format!("/{}", parts.join("/")));
        }
        if roots.is_empty() {
            // Kernel file systems, and what does not outlive a boot.
            let skip = ["/dev", "/proc", "/run", "/sys"].map(str::to_owned).into();
            let roots = vec!["/".to_owned()];
            return Ok(Self { roots, skip });
        }
        roots.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        roots.dedup_by(|later, earlier| is_inside(later, earlier));
        Ok(Self {
            roots,
            skip: Vec::new(),
        })
    }
}

/// Whether it is the directory itself or below it.
fn is_inside(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(16 * high + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_paths_it_is_the_root_file_system_without_what_the_kernel_makes_up() {
        let request = DiffRequest::parse("").unwrap();
        assert_eq!(request.roots, ["/"]);
        assert_eq!(request.skip, ["/dev", "/proc", "/run", "/sys"]);
        assert_eq!(DiffRequest::parse("other=1").unwrap(), request);
    }

    #[test]
    fn paths_are_decoded_put_in_order_and_none_is_inside_another() {
        let query = "paths=/tmp/&paths=%2Froot&paths=/root/a+b&paths=/root2&paths=//tmp//&x";
        let request = DiffRequest::parse(query).unwrap();
        assert_eq!(request.roots, ["/root", "/root2", "/tmp"]);
        assert!(request.skip.is_empty());
        assert_eq!(DiffRequest::parse("paths=/&paths=/a").unwrap().roots, ["/"]);
        for wrong in [
            "paths=",
            "paths=root",
            "paths=/a/../b",
            "paths=%2",
            "paths=/%00",
            "paths=%ff",
        ] {
            let refusal = DiffRequest::parse(wrong).unwrap_err().to_string();
            assert!(refusal.starts_with("paths: expected absolute paths"), "{refusal}");
        }
        let many = "paths=/a&".repeat(DIFF_PATHS_MAX + 1);
        DiffRequest::parse(&many).unwrap_err();
    }

    proptest! {
        #[test]
        fn arbitrary_queries_never_panic(query: String) {
            drop(DiffRequest::parse(&query));
        }
    }
}
