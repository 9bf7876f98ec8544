//! The query of a file request.

use percent_encoding::percent_decode;

use crate::fields::InvalidRequest;

/// Longest path, in bytes: `PATH_MAX` of Linux with the NUL at its end.
pub const FILE_PATH_BYTES_MAX: usize = 4095;

/// Most entries of a directory in one answer.
pub const LIST_ENTRIES_MAX: u32 = 10_000;

/// Entries of a directory in one answer, unless another number is asked for.
const LIST_ENTRIES: u32 = 1000;

/// Most that permissions can be: setuid, setgid and sticky bits and all of the others.
const MODE_MAX: u32 = 0o7777;

/// What relative paths begin at.
const HOME: &[u8] = b"/root/";

/// Everything a file request can say in its query; unknown names are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesQuery {
    /// Absolute; any bytes but NUL.
    pub path: Vec<u8>,
    /// `None` when it is not said.
    pub recursive: Option<bool>,
    /// Whether `format=tar` is asked for.
    pub tar: bool,
    /// Whether the file itself is asked about, instead of for its content.
    pub stat: bool,
    /// With `stat`, whether about what a link leads to.
    pub follow: bool,
    pub mode: Option<u32>,
    pub mkdirs: bool,
    pub sync: bool,
    pub limit: u32,
    pub after: Vec<u8>,
}

impl FilesQuery {
    /// # Errors
    /// Names the parameter and what was expected.
    pub fn parse(query: &str) -> Result<Self, InvalidRequest> {
        let mut wanted = Self {
            path: Vec::new(),
            recursive: None,
            tar: false,
            stat: false,
            follow: false,
            mode: None,
            mkdirs: true,
            sync: false,
            limit: LIST_ENTRIES,
            after: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            match name {
                "path" => wanted.path = path(value)?,
                "recursive" => wanted.recursive = Some(flag("recursive", &value)?),
                "stat" => wanted.stat = flag("stat", &value)?,
                "follow" => wanted.follow = flag("follow", &value)?,
                "mkdirs" => wanted.mkdirs = flag("mkdirs", &value)?,
                "sync" => wanted.sync = flag("sync", &value)?,
                "mode" => wanted.mode = Some(mode(&value)?),
                "limit" => wanted.limit = limit(&value)?,
                "after" => wanted.after = name_part(value)?,
                "format" if value == b"tar" => wanted.tar = true,
                "format" => return Err(invalid("format", "tar, or nothing", &value)),
                _ => {}
            }
        }
        if wanted.path.is_empty() {
            return Err(InvalidRequest::Missing {
                field: "path",
                expected: "an absolute path, or one below /root".to_owned(),
            });
        }
        Ok(wanted)
    }
}

/// Percent signs that begin no code stand for themselves.
fn decoded(value: &str) -> Vec<u8> {
    let spaced: Vec<u8> = value
        .bytes()
        .map(|byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    percent_decode(&spaced).collect()
}

fn path(value: Vec<u8>) -> Result<Vec<u8>, InvalidRequest> {
    if value.contains(&0) {
        return Err(invalid("path", "a path without NUL", &value));
    }
    if value.is_empty() {
        return Err(invalid("path", "an absolute path, or one below /root", &value));
    }
    Ok(if value.starts_with(b"/") {
        value
    } else {
        [HOME, &value].concat()
    })
}

fn name_part(value: Vec<u8>) -> Result<Vec<u8>, InvalidRequest> {
    if value.len() > FILE_PATH_BYTES_MAX {
        return Err(invalid("after", "the name that a listing gave as next", &value));
    }
    Ok(value)
}

fn flag(name: &'static str, value: &[u8]) -> Result<bool, InvalidRequest> {
    match value {
        b"true" | b"1" | b"" => Ok(true),
        b"false" | b"0" => Ok(false),
        other => Err(invalid(name, "true or false", other)),
    }
}

fn mode(value: &[u8]) -> Result<u32, InvalidRequest> {
    let text = std::str::from_utf8(value).ok();
    let octal = text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    octal
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mode| *mode <= MODE_MAX)
        .ok_or_else(|| invalid("mode", "permissions in octal, like 0644", value))
}

fn limit(value: &[u8]) -> Result<u32, InvalidRequest> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=LIST_ENTRIES_MAX).contains(number))
        .ok_or_else(|| {
            invalid(
                "limit",
                &format!("a whole number between 1 and {LIST_ENTRIES_MAX}"),
                value,
            )
        })
}

fn invalid(name: &'static str, expected: &str, got: &[u8]) -> InvalidRequest {
    InvalidRequest::value(name, expected, &String::from_utf8_lossy(got))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::percent_encoded;
    use proptest::prelude::*;

    #[test]
    fn paths_are_bytes_and_relative_ones_are_below_the_home() {
        let path = |query: &str| FilesQuery::parse(query).unwrap().path;
        assert_eq!(path("path=/etc/hosts"), b"/etc/hosts");
        assert_eq!(path("other=1&path=a+b%2Bc"), b"/root/a b+c");
        assert_eq!(path("path=/%ff%C3%A9"), b"/\xff\xc3\xa9");
        assert_eq!(path("path=100%"), b"/root/100%");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, field) in [
            ("", "path"),
            ("path=", "path"),
            ("path=/a%00", "path"),
            ("path=/a&mode=rw", "mode"),
            ("path=/a&mode=10000", "mode"),
            ("path=/a&mode=+644", "mode"),
            ("path=/a&recursive=yes", "recursive"),
            ("path=/a&limit=0", "limit"),
            ("path=/a&format=zip", "format"),
        ] {
            let refusal = FilesQuery::parse(query).unwrap_err().to_string();
            assert!(refusal.starts_with(&format!("{field}: ")), "{query}: {refusal}");
        }
    }

    #[test]
    fn switches_are_read_and_have_sane_defaults() {
        let plain = FilesQuery::parse("path=/a").unwrap();
        assert_eq!(
            (plain.recursive, plain.mkdirs, plain.sync, plain.limit),
            (None, true, false, 1000)
        );
        let all =
            FilesQuery::parse("path=/a&recursive&mkdirs=false&sync=1&mode=0755&limit=7&after=b&stat=true");
        let all = all.unwrap();
        assert_eq!(
            (all.recursive, all.mkdirs, all.sync, all.stat),
            (Some(true), false, true, true)
        );
        assert_eq!((all.mode, all.limit, all.after), (Some(0o755), 7, b"b".to_vec()));
    }

    proptest! {
        #[test]
        fn arbitrary_queries_never_panic(query: String) {
            drop(FilesQuery::parse(&query));
        }

        #[test]
        fn encoded_paths_are_decoded_to_the_same_bytes(path in proptest::collection::vec(1..=255_u8, 1..50)) {
            let path = [b"/", &path[..]].concat();
            let query = format!("path={}", percent_encoded(&path));
            prop_assert_eq!(FilesQuery::parse(&query).unwrap().path, path);
        }
    }
}
