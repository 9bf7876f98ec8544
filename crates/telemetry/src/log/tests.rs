//! Lines as they are written.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn logged(format: Format, work: impl FnOnce()) -> String {
    let written = Written::default();
    let subscriber = tracing_subscriber::registry().with(lines(format, written.clone()));
    tracing::subscriber::with_default(subscriber, work);
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn json(work: impl FnOnce()) -> serde_json::Value {
    let text = logged(Format::Json, work);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_json_line_has_the_ids_of_its_spans_at_the_top() {
    let line = json(|| {
        let request = tracing::info_span!(
            "http_request",
            method = "POST",
            trace_id = "abc",
            parent_span_id = tracing::field::Empty
        );
        request.record("parent_span_id", "def");
        let _request = request.enter();
        let _sandbox = tracing::info_span!("sandbox", sandbox_id = "sbx_1").entered();
        tracing::info!(count = 3, big = 305_u128, ratio = 0.5, on = true, "it happened");
    });
    assert_eq!(line["message"], "it happened");
    assert_eq!(line["level"], "INFO");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        (&line["trace_id"], &line["parent_span_id"], &line["sandbox_id"]),
        (&"abc".into(), &"def".into(), &"sbx_1".into())
    );
    assert_eq!(
        line["span"],
        serde_json::json!({"name": "sandbox", "sandbox_id": "sbx_1"})
    );
    assert_eq!(
        line["fields"],
        serde_json::json!({"count": 3, "big": 305, "ratio": 0.5, "on": true})
    );
}

#[test]
fn an_events_own_id_comes_before_those_of_its_spans_and_cannot_be_forged_in_another_field() {
    let line = json(|| {
        let forged = "x\",\"sandbox_id\":\"sbx_forged";
        let _span = tracing::info_span!("sandbox", why = forged, sandbox_id = "sbx_span").entered();
        tracing::warn!(why = forged, sandbox_id = %"sbx_own", "no");
    });
    assert_eq!(line["sandbox_id"], "sbx_own");
    assert_eq!(line["span"]["why"], "x\",\"sandbox_id\":\"sbx_forged");
    assert_eq!(line["span"]["sandbox_id"], "sbx_span");
}

#[test]
fn long_values_are_cut_and_nothing_in_them_leaves_its_line() {
    let evil = "a\u{1b}[2Jb\nc\u{85}d\u{2028}e\u{202e}f\u{7f}\0";
    for format in [Format::Text, Format::Json] {
        let text = logged(format, || {
            tracing::warn!(evil, long = "ä".repeat(10_000), "message {evil}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{format:?}");
        assert!(text.len() < 3 * FIELD_BYTES_MAX, "{format:?}: {}", text.len());
        assert!(
            text.contains("\\u001b[2Jb\\nc\\u0085d\\u2028e\\u202ef\\u007f\\u0000"),
            "{text}"
        );
        assert!(text.contains("… (cut)"));
        let printable = |character: char| character == '\n' || !character.is_control();
        assert!(text.chars().all(printable));
        if format == Format::Json {
            let line: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(line["fields"]["evil"], evil);
        }
    }
}

#[test]
fn a_line_of_text_reads_like_a_sentence() {
    let text = logged(Format::Text, || {
        let _span = tracing::info_span!("sandbox", sandbox_id = "sbx_1").entered();
        tracing::info!(why = "it was \"asked\" to", n = 1, "sandbox destroyed");
    });
    let (_, rest) = text.split_once("  INFO ").unwrap();
    let (spans, rest) = rest.split_once(": telemetry::log::tests: ").unwrap();
    assert_eq!(spans, "sandbox{sandbox_id=sbx_1}");
    assert_eq!(rest, "sandbox destroyed why=\"it was \\\"asked\\\" to\" n=1\n");
}
