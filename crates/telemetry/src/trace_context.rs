//! The `traceparent` header (W3C Trace Context, version 00). One that is malformed is ignored: the official client
//! sends whatever its user gave it.

use std::fmt;

/// Where in whose trace something happens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    pub(crate) fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Self {
        Self {
            trace_id,
            span_id,
            flags,
        }
    }

    /// Reads a header's value; `None` for one that is malformed.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let text = str::from_utf8(header).ok()?;
        let mut parts = text.split('-');
        let (version, trace_id, span_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may append fields; version ff is forbidden.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let [_version] = bytes(version)?;
        let [flags] = bytes(flags)?;
        let context = Self::new(bytes(trace_id)?, bytes(span_id)?, flags);
        (context.trace_id != [0; 16] && context.span_id != [0; 8]).then_some(context)
    }

    /// As logs have it.
    #[must_use]
    pub fn trace_id(&self) -> impl fmt::Display + use<'_> {
        Hexadecimal(&self.trace_id)
    }

    /// As logs have it.
    #[must_use]
    pub fn span_id(&self) -> impl fmt::Display + use<'_> {
        Hexadecimal(&self.span_id)
    }

    pub(crate) fn parts(&self) -> ([u8; 16], [u8; 8], u8) {
        (self.trace_id, self.span_id, self.flags)
    }
}

/// The header's value.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id(), self.span_id(), self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

struct Hexadecimal<'a>(&'a [u8]);

impl fmt::Display for Hexadecimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Lower case digits only, as the standard wants.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_formed_headers_give_ids_and_others_nothing() {
        let trace = "0123456789abcdef0123456789abcdef";
        let parent = "0123456789abcdef";
        let parse = |text: &str| TraceContext::parse(text.as_bytes());
        let header = format!("00-{trace}-{parent}-01");
        let context = parse(&header).unwrap();
        assert_eq!(context.to_string(), header);
        assert_eq!(
            (context.trace_id().to_string(), context.span_id().to_string()),
            (trace.to_owned(), parent.to_owned())
        );
        assert_eq!(parse(&format!("01-{trace}-{parent}-01-later")), Some(context));
        for bad in [
            String::new(),
            format!("00-{parent}-{parent}-01"),
            format!("00-{trace}-{parent}-01-x"),
            format!("00-{trace}-{parent}-+1"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic_and_what_is_read_is_well_formed(header: Vec<u8>) {
            if let Some(context) = TraceContext::parse(&header) {
                prop_assert_eq!(TraceContext::parse(context.to_string().as_bytes()), Some(context));
            }
        }
    }
}
