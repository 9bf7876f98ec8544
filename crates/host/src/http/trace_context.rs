//! The `traceparent` header (W3C Trace Context, version 00). One that is malformed is ignored: the official client
//! sends whatever its user gave it.

/// Trace id and parent span id.
pub(super) fn parse(header: &[u8]) -> Option<(&str, &str)> {
    let text = str::from_utf8(header).ok()?;
    let mut parts = text.split('-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Later versions may append fields; version ff is forbidden.
    let known = version != "ff" && (version != "00" || parts.next().is_none());
    let well_formed = is_hex(version, 2) && is_hex(trace_id, 32) && is_hex(parent_id, 16) && is_hex(flags, 2);
    let named = |id: &str| id.bytes().any(|digit| digit != b'0');
    (known && well_formed && named(trace_id) && named(parent_id)).then_some((trace_id, parent_id))
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_formed_headers_give_ids_and_others_nothing() {
        let trace = "0123456789abcdef0123456789abcdef";
        let parent = "0123456789abcdef";
        let parse_text = |text: &str| parse(text.as_bytes()).map(|(a, b)| (a.to_owned(), b.to_owned()));
        let ids = Some((trace.to_owned(), parent.to_owned()));
        assert_eq!(parse_text(&format!("00-{trace}-{parent}-01")), ids);
        assert_eq!(parse_text(&format!("01-{trace}-{parent}-01-later")), ids);
        for bad in [
            String::new(),
            format!("00-{parent}-{parent}-01"),
            format!("00-{trace}-{parent}-01-x"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
        ] {
            assert_eq!(parse_text(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(header: Vec<u8>) {
            let _ = parse(&header);
        }
    }
}
