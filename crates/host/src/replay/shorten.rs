//! Long events, kept as their beginnings.

use bytes::Bytes;

use super::log::EVENT_BYTES_MAX;

/// How much of a long event is kept, in bytes of its encoded form.
const KEPT: usize = 16 * 1024;
/// What stands before a line's text: `{"type":"stdout","data":"`, and the same for `stderr`.
const PREFIX: usize = 25;
/// Longest of what stands behind it, from its closing quote on: two numbers and their names.
const TAIL_MAX: usize = 64;

/// A chunk of events in which each is short.
pub(super) fn shortened(chunk: Bytes) -> Bytes {
    let is_long = |line: &[u8]| line.len() > EVENT_BYTES_MAX;
    if !chunk.split(|byte| *byte == b'\n').any(is_long) {
        return chunk;
    }
    let mut out = Vec::new();
    for line in chunk.split_inclusive(|byte| *byte == b'\n') {
        match tail_of(line).filter(|_| is_long(line)) {
            Some(tail) => shorten(&mut out, line, tail),
            None => out.extend_from_slice(line),
        }
    }
    out.shrink_to_fit();
    out.into()
}

fn shorten(out: &mut Vec<u8>, line: &[u8], tail: usize) {
    let cut = cut_before(line, PREFIX + KEPT);
    out.extend_from_slice(&line[..cut]);
    let left_out = tail - cut;
    let mark = format!(r" \u2026 [podflare: {left_out} more bytes are not kept for replay]");
    out.extend_from_slice(mark.as_bytes());
    out.extend_from_slice(&line[tail..]);
}

/// Where the text's closing quote is. Inside the text a quote is escaped.
fn tail_of(line: &[u8]) -> Option<usize> {
    let least = line.len().saturating_sub(TAIL_MAX);
    let needle = br#"","seq":"#;
    let found = line[least..]
        .windows(needle.len())
        .rposition(|window| window == needle);
    found.map(|at| least + at)
}

/// The last place at or before `limit` that is neither inside an escape nor between two halves of a character.
fn cut_before(line: &[u8], limit: usize) -> usize {
    let (mut at, mut good) = (PREFIX, PREFIX);
    let mut in_pair = false;
    while at < limit && at < line.len() {
        if !in_pair {
            good = at;
        }
        let is_unit = line[at] == b'\\' && line.get(at + 1) == Some(&b'u');
        // The first of the two that stand for a character beyond U+FFFF.
        in_pair = is_unit && matches!(line.get(at + 2..at + 4), Some([b'd', b'8' | b'9' | b'a' | b'b']));
        at += match (line[at], is_unit) {
            (_, true) => 6,
            (b'\\', false) => 2,
            _ => 1,
        };
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Channel, Event, EventData, EventEncoder};
    use proptest::prelude::*;

    fn events(chunk: &[u8]) -> Vec<Event> {
        let lines = chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_left_of_a_long_event_is_its_beginning_and_an_event(
            pattern in "[a-z\"\\\\\u{1}\u{7f}é\u{2028}😀]{1,7}",
            channel in prop_oneof![Just(Channel::Stdout), Just(Channel::Stderr)],
        ) {
            let long = pattern.repeat(EVENT_BYTES_MAX / pattern.len() + 1);
            let mut encoder = EventEncoder::default();
            encoder.output(channel, format!("before\n{long}\nafter\n").as_bytes(), 7);
            encoder.exit(0, 8);
            let whole: Bytes = encoder.take().into();
            let short = shortened(whole.clone());
            prop_assert!(short.len() < 2 * KEPT);
            for (whole, short) in events(&whole).into_iter().zip(events(&short)) {
                prop_assert_eq!((whole.kind, whole.seq, whole.ts), (short.kind, short.seq, short.ts));
                match (whole.data, short.data) {
                    (EventData::Line(whole), EventData::Line(short)) if whole != short => {
                        let (kept, mark) = short.rsplit_once(" … [podflare: ").unwrap();
                        prop_assert!(whole.starts_with(kept) && kept.len() * 6 > KEPT / 2, "{}", kept.len());
                        prop_assert!(mark.ends_with("more bytes are not kept for replay]"));
                    }
                    (whole, short) => prop_assert_eq!(whole, short),
                }
            }
        }
    }
}
