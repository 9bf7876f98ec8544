//! Against a plain HTTP server that stands in for a collector.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::TraceContext;

const BOUND: Duration = Duration::from_secs(120);

/// Path and body of each request that comes.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            thread::spawn(move || while answer(stream.as_ref().unwrap(), &tell).is_some() {});
        }
    });
    (url, told)
}

fn answer(stream: &TcpStream, tell: &mpsc::Sender<(String, Vec<u8>)>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut len = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            len = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    tell.send((path, body)).ok()?;
    (&*stream)
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .ok()
}

fn settings(url: &str) -> OtlpSettings {
    OtlpSettings {
        traces: Some(format!("{url}/v1/traces")),
        logs: Some(format!("{url}/v1/logs")),
        timeout: Duration::from_secs(5),
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

#[test]
fn spans_join_the_callers_trace_and_reach_the_collector_with_their_events() {
    let (url, told) = collector();
    let exporter = Exporter::start(&settings(&url)).unwrap();
    let subscriber = tracing_subscriber::registry().with(exporter.layers());
    let header = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
    let caller = TraceContext::parse(header.as_bytes()).unwrap();
    let inside = tracing::subscriber::with_default(subscriber, || {
        let request = tracing::info_span!(target: "host", "http_request", sandbox_id = "sbx_7");
        join(&request, &caller);
        let _request = request.enter();
        tracing::info!(target: "host", "sandbox created");
        tracing::info!(target: "ureq", "of no interest");
        let stage = tracing::debug_span!(target: "host", "clone");
        context_of(&stage).unwrap()
    });
    assert_eq!(inside.trace_id().to_string(), caller.trace_id().to_string());
    assert_ne!(inside.span_id().to_string(), caller.span_id().to_string());
    exporter.close();
    let (mut traces, mut logs) = (Vec::new(), Vec::new());
    let started = Instant::now();
    while traces.is_empty() || logs.is_empty() {
        let (path, body) = told
            .recv_timeout(BOUND.saturating_sub(started.elapsed()))
            .unwrap();
        if path == "/v1/traces" {
            traces.extend(body);
        } else {
            assert_eq!(path, "/v1/logs");
            logs.extend(body);
        }
    }
    let (trace_id, parent, _) = caller.parts();
    for wanted in [
        b"http_request".as_slice(),
        b"clone",
        b"sbx_7",
        b"podflare-hostd",
        &trace_id,
        &parent,
    ] {
        assert!(contains(&traces, wanted), "{wanted:?} in the traces");
    }
    for wanted in [b"sandbox created".as_slice(), &trace_id] {
        assert!(contains(&logs, wanted), "{wanted:?} in the logs");
    }
    assert!(!contains(&logs, b"of no interest"));
}

#[test]
fn a_collector_that_is_away_or_silent_delays_nobody() {
    // It takes connections into its backlog and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    for url in [format!("http://{address}"), "http://127.0.0.1:1".to_owned()] {
        let exporter = Exporter::start(&OtlpSettings {
            timeout: Duration::from_millis(300),
            ..settings(&url)
        });
        let exporter = exporter.unwrap();
        let subscriber = tracing_subscriber::registry().with(exporter.layers());
        let started = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..20_000 {
                let _span = tracing::info_span!(target: "host", "http_request", number).entered();
            }
        });
        let spent = started.elapsed();
        assert!(spent < BOUND, "{spent:?}");
        let started = Instant::now();
        exporter.close();
        // Each has `CLOSE_BOUND`; the machine may be busy.
        assert!(started.elapsed() < BOUND);
    }
}
