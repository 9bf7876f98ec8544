//! The encoder against a plain model: split at newlines, decode each line lossily, number them.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::event::{Event, EventData};

const TS: u64 = 1_700_000_000_123;

fn events(bytes: &[u8]) -> Vec<Event> {
    assert!(bytes.is_ascii());
    let text = str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn lines_of(events: &[Event], kind: EventKind) -> Vec<String> {
    events
        .iter()
        .filter(|event| event.kind == kind)
        .map(|event| match &event.data {
            EventData::Line(line) => line.clone(),
            EventData::Code(code) => panic!("a line, not code {code}"),
        })
        .collect()
}

fn model(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    if bytes.is_empty() || bytes.ends_with(b"\n") {
        lines.pop();
    }
    lines
}

fn run(pieces: &[(Channel, Vec<u8>)], code: i32) -> Vec<Event> {
    let mut encoder = EventEncoder::default();
    let mut wire = Vec::new();
    for (channel, bytes) in pieces {
        encoder.output(*channel, bytes, TS);
        wire.extend(encoder.take());
    }
    encoder.exit(code, TS);
    wire.extend(encoder.take());
    events(&wire)
}

/// Bytes among which everything special is common.
fn awkward() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just("é€😀\u{2028}\u{85}".as_bytes().to_vec()),
        Just(b"\"\\\t\0\x7f".to_vec()),
        Just(b"plain text of more than eight bytes".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_the_events_are_the_lines(
        stdout in awkward(), stderr in awkward(), cuts in proptest::collection::vec(1..9_usize, 1..40), code: i32
    ) {
        let mut pieces = Vec::new();
        let (mut out, mut err) = (stdout.as_slice(), stderr.as_slice());
        for cut in cuts.iter().cycle() {
            if out.is_empty() && err.is_empty() {
                break;
            }
            let (head, rest) = out.split_at((*cut).min(out.len()));
            pieces.push((Channel::Stdout, head.to_vec()));
            out = rest;
            let (head, rest) = err.split_at((*cut).min(err.len()));
            pieces.push((Channel::Stderr, head.to_vec()));
            err = rest;
        }
        let events = run(&pieces, code);
        prop_assert_eq!(lines_of(&events, EventKind::Stdout), model(&stdout));
        prop_assert_eq!(lines_of(&events, EventKind::Stderr), model(&stderr));
        let last = events.last().unwrap();
        prop_assert_eq!((last.kind, &last.data), (EventKind::Exit, &EventData::Code(code)));
        for (seq, event) in (0..).zip(&events) {
            prop_assert_eq!((event.seq, event.ts), (seq, TS));
        }
    }

    #[test]
    fn the_fuzz_target_holds_on_arbitrary_bytes(data: Vec<u8>, text in awkward()) {
        fuzz_event_encoder(&data);
        fuzz_event_encoder(&text);
    }

    #[test]
    fn the_fast_scans_agree_with_the_slow_ones(bytes in awkward()) {
        let slow = bytes.iter().position(|byte| !is_plain(*byte)).unwrap_or(bytes.len());
        prop_assert_eq!(plain_len(&bytes), slow);
        prop_assert_eq!(find_newline(&bytes), bytes.iter().position(|byte| *byte == b'\n'));
    }
}

#[test]
fn the_wire_form_is_exactly_the_four_keys_in_ascii() {
    let mut encoder = EventEncoder::default();
    encoder.output(Channel::Stdout, "42\n\r\n\n\u{2028}é".as_bytes(), 7);
    encoder.exit(-1, 8);
    let expected = concat!(
        r#"{"type":"stdout","data":"42","seq":0,"ts":7}"#,
        "\n",
        r#"{"type":"stdout","data":"\r","seq":1,"ts":7}"#,
        "\n",
        r#"{"type":"stdout","data":"","seq":2,"ts":7}"#,
        "\n",
        r#"{"type":"stdout","data":"\u2028\u00e9","seq":3,"ts":8}"#,
        "\n",
        r#"{"type":"exit","data":-1,"seq":4,"ts":8}"#,
        "\n",
    );
    assert_eq!(str::from_utf8(&encoder.take()).unwrap(), expected);
}

#[test]
fn a_line_over_the_limit_is_cut_and_nothing_is_lost() {
    let mut encoder = EventEncoder::new(256 * 1024);
    for _ in 0..40 {
        encoder.output(Channel::Stdout, &[b'x'; 64 * 1024], TS);
        assert!(encoder.stdout.encoded.len() < 512 * 1024);
    }
    encoder.exit(0, TS);
    let events = events(&encoder.take());
    let lines = lines_of(&events, EventKind::Stdout);
    assert!(lines.len() > 5);
    assert_eq!(lines.concat().len(), 40 * 64 * 1024);
}

#[test]
fn twelve_megabytes_in_one_line_and_two_hundred_thousand_lines_take_no_noticeable_time() {
    let (started, began) = (Instant::now(), cpu_ticks());
    let mut encoder = EventEncoder::default();
    for _ in 0..192 {
        encoder.output(Channel::Stdout, &[b'A'; 64 * 1024], TS);
    }
    encoder.exit(0, TS);
    assert_eq!(
        encoder.take().iter().filter(|byte| **byte == b'A').count(),
        192 * 64 * 1024
    );
    let line = started.elapsed();
    let mut encoder = EventEncoder::default();
    let many = b"12345\n".repeat(10_000);
    let mut seen = 0;
    for _ in 0..20 {
        encoder.output(Channel::Stdout, &many, TS);
        seen += encoder.take().iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!(seen, 200_000);
    println!(
        "one line of 12 MiB: {line:?}; 200,000 lines: {:?}",
        started.elapsed() - line
    );
    // Of this thread's own time, whatever else the machine does, and in debug builds: a quadratic scan would take minutes.
    assert!(cpu_ticks() - began < 20 * 100, "in hundredths of a second");
}

/// What this thread has used of a processor, in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // After the name, which may hold anything: user and system time are the twelfth and thirteenth field.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
