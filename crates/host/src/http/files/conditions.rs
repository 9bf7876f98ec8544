//! Which version of a file a client has: entity tags and dates.
//!
//! A tag is made of what changes with every change: inode, size and the time of the last change. So a client's tag can be
//! taken apart again and checked in the guest, in the same step in which the file is replaced.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_proto::files::{Expected, FileStat};
use api::{ApiError, ErrorCode};
use axum::http::{HeaderMap, header};

use super::super::error::Failed;

/// What a client that has a version already is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Send,
    NotModified,
    PreconditionFailed,
}

pub(super) fn tag(stat: &FileStat) -> String {
    format!("\"{:x}-{:x}-{:x}\"", stat.inode, stat.size, stat.ctime_ns)
}

pub(super) fn last_modified(stat: &FileStat) -> String {
    httpdate::fmt_http_date(modified(stat))
}

/// Dates of HTTP are in whole seconds, between the years 1970 and 9999.
fn modified(stat: &FileStat) -> SystemTime {
    const SECONDS_MAX: u64 = 253_402_300_799;
    let seconds = u64::try_from(stat.mtime_ns.div_euclid(1_000_000_000)).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds.min(SECONDS_MAX))
}

/// In the order of RFC 9110, section 13.2.2.
pub(super) fn judge(headers: &HeaderMap, stat: &FileStat) -> Verdict {
    let tag = tag(stat);
    if let Some(wanted) = text(headers, header::IF_MATCH) {
        if !lists(wanted, &tag) {
            return Verdict::PreconditionFailed;
        }
    } else if let Some(since) = date(headers, header::IF_UNMODIFIED_SINCE)
        && modified(stat) > since
    {
        return Verdict::PreconditionFailed;
    }
    if let Some(known) = text(headers, header::IF_NONE_MATCH) {
        if lists(known, &tag) {
            return Verdict::NotModified;
        }
    } else if let Some(since) = date(headers, header::IF_MODIFIED_SINCE)
        && modified(stat) <= since
    {
        return Verdict::NotModified;
    }
    Verdict::Send
}

/// Whether a range may be sent: the client has the rest of the same version, or does not say which it has.
pub(super) fn range_applies(headers: &HeaderMap, stat: &FileStat) -> bool {
    match text(headers, header::IF_RANGE) {
        None => true,
        Some(wanted) if wanted.starts_with('"') => wanted == tag(stat),
        Some(wanted) => httpdate::parse_http_date(wanted).is_ok_and(|date| date == modified(stat)),
    }
}

/// What has to be there for a file to be written.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Failed> {
    if let Some(unwanted) = text(headers, header::IF_NONE_MATCH) {
        if unwanted != "*" {
            let error = "If-None-Match: expected *, which writes only what is not there yet";
            return Err(Failed(ApiError::new(ErrorCode::InvalidField, error)));
        }
        return Ok(Expected::Absent);
    }
    match text(headers, header::IF_MATCH) {
        None => Ok(Expected::Anything),
        Some("*") => Ok(Expected::Present),
        Some(tag) => untag(tag).ok_or_else(|| {
            let error = "If-Match: no file has this tag; expected one ETag of this API, or *";
            Failed(ApiError::new(ErrorCode::PreconditionFailed, error))
        }),
    }
}

fn untag(tag: &str) -> Option<Expected> {
    let mut parts = tag.strip_prefix('"')?.strip_suffix('"')?.splitn(3, '-');
    let (inode, size, ctime) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Expected::Version {
        inode: number(inode)?,
        size: number(size)?,
        ctime_ns: number(ctime)?.cast_signed(),
    })
}

fn lists(list: &str, tag: &str) -> bool {
    list.trim() == "*"
        || list
            .split(',')
            .any(|one| one.trim().trim_start_matches("W/") == tag)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn date(headers: &HeaderMap, name: header::HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, name)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_proto::EntryKind;

    fn stat(ctime_ns: i64) -> FileStat {
        FileStat {
            kind: EntryKind::File,
            mode: 0,
            size: 10,
            mtime_ns: 1_700_000_000_500_000_000,
            ctime_ns,
            inode: 0xab,
            target: None,
        }
    }

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_tag_is_taken_apart_into_the_version_it_was_made_of() {
        for ctime_ns in [0, 5, -5, i64::MIN] {
            let version = Expected::Version {
                inode: 0xab,
                size: 10,
                ctime_ns,
            };
            assert_eq!(untag(&tag(&stat(ctime_ns))), Some(version));
        }
        assert_eq!(untag("\"1-2\""), None);
        assert!(expected(&headers(&[(header::IF_MATCH, "\"other\"")])).is_err());
        assert!(expected(&headers(&[(header::IF_NONE_MATCH, "\"a\"")])).is_err());
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let file = stat(7);
        let own = tag(&file);
        let date = last_modified(&file);
        let judged = |pairs: &[(header::HeaderName, &str)]| judge(&headers(pairs), &file);
        assert_eq!(judged(&[]), Verdict::Send);
        assert_eq!(judged(&[(header::IF_NONE_MATCH, &own)]), Verdict::NotModified);
        assert_eq!(judged(&[(header::IF_NONE_MATCH, "\"x\"")]), Verdict::Send);
        assert_eq!(
            judged(&[(header::IF_MODIFIED_SINCE, &date)]),
            Verdict::NotModified
        );
        assert_eq!(
            judged(&[(header::IF_MATCH, "\"x\"")]),
            Verdict::PreconditionFailed
        );
        assert_eq!(
            judged(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "W/\"y\"")]),
            Verdict::Send
        );
        assert!(range_applies(&headers(&[(header::IF_RANGE, &own)]), &file));
        assert!(!range_applies(&headers(&[(header::IF_RANGE, "\"x\"")]), &file));
    }
}
