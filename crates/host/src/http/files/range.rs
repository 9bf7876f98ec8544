//! The `Range` header: one range of bytes. Anything else counts as none, which RFC 9110 allows.

use agent_proto::files::Range;

/// What a header asks for.
pub(super) fn parse(header: &[u8]) -> Option<Range> {
    let text = std::str::from_utf8(header).ok()?.trim();
    let (unit, ranges) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = ranges.trim().split_once('-')?;
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (None, Some(count)) => Some(Range::Last(count)),
        (Some(first), None) => Some(Range::From(first)),
        (Some(first), Some(last)) => (first <= last).then_some(Range::Between(first, last)),
    }
}

/// The outer option is whether it is a number, or nothing.
#[expect(clippy::option_option, reason = "no number and none at all are different")]
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    // More than any file has is as good as the most.
    digits.then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_single_range_is_understood_and_anything_else_is_none() {
        assert_eq!(parse(b"bytes=0-0"), Some(Range::Between(0, 0)));
        assert_eq!(parse(b"Bytes = 5-"), Some(Range::From(5)));
        assert_eq!(parse(b"bytes=-7"), Some(Range::Last(7)));
        assert_eq!(
            parse(b"bytes=1-99999999999999999999"),
            Some(Range::Between(1, u64::MAX))
        );
        for other in [
            &b"bytes=1-0"[..],
            b"bytes=-",
            b"bytes=a-b",
            b"bytes=0-1,3-4",
            b"lines=1-2",
            b"\xff",
            b"bytes=+1-2",
        ] {
            assert_eq!(parse(other), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(header: Vec<u8>) {
            parse(&header);
        }
    }
}
