//! Places of files: here, in a sandbox, or at the end of a pipe.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use pod_types::SandboxId;

use crate::failure::Failure;

/// What ids of sandboxes begin with, and names of files here seldom do.
const ID_PREFIX: &[u8] = b"sbx_";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// Stdin or stdout.
    Stream,
    Local(PathBuf),
    Sandbox {
        id: SandboxId,
        /// Any bytes; relative ones begin at the home directory there, and none at all is that directory.
        path: Vec<u8>,
    },
}

impl Location {
    /// A local path with a colon in it can be written with `./` in front.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, Failure> {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        if bytes.is_empty() {
            return Err(Failure::usage("an empty path names nothing"));
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        let Some(colon) = colon.filter(|_| bytes.starts_with(ID_PREFIX)) else {
            return Ok(Self::Local(text.into()));
        };
        let (id, path) = (&bytes[..colon], &bytes[colon + 1..]);
        let id = String::from_utf8_lossy(id);
        let parsed = id.parse().map_err(|error| {
            Failure::usage(format!(
                "`{}` is no sandbox: {error}",
                archive::shown(id.as_bytes())
            ))
            .hint("a file here whose name has a colon is written ./NAME")
        })?;
        Ok(Self::Sandbox {
            id: parsed,
            path: if path.is_empty() {
                b"/root".to_vec()
            } else {
                path.to_vec()
            },
        })
    }
}

/// The last part of a path, unless it is one that only leads somewhere: `.`, `..`, `/`, or one ending in `/.`.
pub(crate) fn own_name(path: &[u8]) -> Option<OsString> {
    let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
    let name = path[..end].rsplit(|byte| *byte == b'/').next()?;
    (!matches!(name, b"." | b"..")).then(|| OsStr::from_bytes(name).to_owned())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("-"),
            Self::Local(path) => f.write_str(&archive::shown(path.as_os_str().as_bytes())),
            Self::Sandbox { id, path } => write!(f, "{id}:{}", archive::shown(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sbx_0123456789abcdef0123456789abcdef";

    #[test]
    fn places_are_told_apart() {
        let parse = |text: &str| Location::parse(OsStr::new(text)).unwrap();
        let id: SandboxId = ID.parse().unwrap();
        assert_eq!(parse("-"), Location::Stream);
        assert_eq!(parse("a:b"), Location::Local("a:b".into()));
        assert_eq!(parse("./sbx_a:b"), Location::Local("./sbx_a:b".into()));
        assert_eq!(
            parse(&format!("{ID}:a/b:c")),
            Location::Sandbox {
                id,
                path: b"a/b:c".to_vec()
            }
        );
        assert_eq!(
            parse(&format!("{ID}:")),
            Location::Sandbox {
                id,
                path: b"/root".to_vec()
            }
        );
        assert!(Location::parse(OsStr::new("sbx_1:a")).is_err());
        assert!(Location::parse(OsStr::new("")).is_err());
    }

    #[test]
    fn only_real_names_are_taken_over() {
        for (path, name) in [("a/b", "b"), ("/a/b//", "b"), ("b", "b"), ("...", "...")] {
            assert_eq!(own_name(path.as_bytes()), Some(name.into()));
        }
        for path in ["/", ".", "..", "a/.", "a/..", "a/./", ""] {
            assert_eq!(own_name(path.as_bytes()), None, "{path}");
        }
    }
}
