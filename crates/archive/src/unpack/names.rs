//! Names of entries: only such as lie below the target.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// The path of an entry, relative and without detours; empty for the target itself.
pub(super) fn relative(path: &[u8]) -> Result<PathBuf, &'static str> {
    if path.starts_with(b"/") {
        return Err("has an absolute path");
    }
    if path.contains(&0) {
        return Err("has a NUL in its name");
    }
    let mut relative = PathBuf::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("leads out of the target with `..`"),
            part => relative.push(OsStr::from_bytes(part)),
        }
    }
    Ok(relative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn detours_are_straightened_and_ways_out_refused() {
        assert_eq!(relative(b"./a//b/./c/").unwrap(), Path::new("a/b/c"));
        assert_eq!(relative(b"./").unwrap(), Path::new(""));
        for out in [&b"/a"[..], b"..", b"a/../..", b"a/../b", b"a\0b"] {
            assert!(relative(out).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_nothing_but_names(path in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), any::<u8>()], 0..40,
        )) {
            if let Ok(relative) = relative(&path) {
                prop_assert!(relative.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
