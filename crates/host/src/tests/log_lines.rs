//! What the log says, as lines of JSON.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use telemetry::Format;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::client::{Connection, Response};
use super::{Daemon, eventually};
use crate::events;

const TRACE_ID: &str = "0123456789abcdef0123456789abcdef";
const PARENT: &str = "0123456789abcdef";

/// Collects what this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let lines = telemetry::lines(Format::Json, log.clone()).with_filter(LevelFilter::INFO);
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
        (log, guard)
    }

    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    fn of(&self, event: &str) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["fields"]["event"] == event);
        lines
    }
}

async fn call(daemon: &Daemon, path: &str, traceparent: &str, body: &str) -> Response {
    let mut connection = Connection::open(daemon.address).await;
    let header = format!("traceparent: {traceparent}\r\n");
    connection.send("POST", path, &header, body).await;
    connection.response().await
}

#[tokio::test]
async fn lines_of_a_traced_request_carry_its_trace_and_its_run_sees_it() {
    let (log, _guard) = Log::start();
    let daemon = Daemon::start().await;
    let traceparent = format!("00-{TRACE_ID}-{PARENT}-01");
    let created = call(&daemon, "/v1/sandboxes", &traceparent, "{}").await;
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let exec = format!("/v1/sandboxes/{id}/exec");
    let run = call(&daemon, &exec, &traceparent, r#"{"code":"trace"}"#).await;
    assert_eq!(run.lines(api::EventKind::Stdout), [traceparent.as_str()]);
    let requests = log.of(events::HTTP_REQUEST);
    assert_eq!(requests.len(), 2, "{requests:?}");
    for line in &requests {
        assert_eq!(
            (&line["trace_id"], &line["parent_span_id"]),
            (&TRACE_ID.into(), &PARENT.into())
        );
        assert_eq!(line["span"]["name"], "http_request");
        assert_eq!(line["fields"]["status"], 200);
    }
    assert_eq!(requests[1]["sandbox_id"], id.as_str());
    assert_eq!(requests[1]["fields"]["route"], "/v1/sandboxes/{id}/exec");
    let created = &log.of(events::SANDBOX_CREATED)[0];
    assert_eq!(
        (&created["sandbox_id"], &created["trace_id"]),
        (&id.as_str().into(), &TRACE_ID.into())
    );
    assert_eq!(created["fields"]["source"], "Boot");
    daemon.stop().await;
}

#[tokio::test]
async fn a_malformed_traceparent_harms_nothing_and_frequent_requests_stay_quiet() {
    let (log, _guard) = Log::start();
    let daemon = Daemon::start().await;
    for malformed in [
        "",
        "00-0123456789abcdef-0123456789abcdef-01",
        "\u{e9}\u{e9}",
        "00-x",
    ] {
        let created = call(&daemon, "/v1/sandboxes", malformed, "{}").await;
        assert_eq!(created.status, 200, "{malformed}");
        let exec = format!("/v1/sandboxes/{}/exec", created.json()["id"].as_str().unwrap());
        let run = call(&daemon, &exec, malformed, r#"{"code":"trace"}"#).await;
        assert_eq!(run.lines(api::EventKind::Stdout), ["none"]);
    }
    daemon.get("/v1/healthz").await;
    daemon.get("/metrics").await;
    let lines = log.lines();
    assert!(lines.iter().all(|line| line.get("trace_id").is_none()));
    let requests = log.of(events::HTTP_REQUEST);
    assert!(
        requests
            .iter()
            .all(|line| line["fields"]["route"] == "/v1/sandboxes")
    );
    assert_eq!(requests.len(), 4);
    daemon.stop().await;
}

#[tokio::test]
async fn a_sandboxes_life_can_be_read_in_the_log() {
    let (log, _guard) = Log::start();
    let daemon = Daemon::start().await;
    let parent = daemon.sandbox().await;
    let children = daemon.fork(&parent, 2).await;
    let id_of = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let winner = id_of(&children[0]);
    daemon.post(&format!("{parent}/merge_into/{winner}"), "").await;
    daemon.run(&children[1], "panic").await;
    daemon.delete(&children[1]).await;
    daemon.delete(&parent).await;
    eventually("all have ended", || log.of(events::SANDBOX_DESTROYED).len() == 3).await;
    for (event, count) in [
        (events::VM_BOOTED, 1),
        (events::AGENT_CONNECTED, 1),
        (events::SANDBOX_CREATED, 1),
        (events::SANDBOX_FORKED, 2),
        (events::SANDBOX_MERGED, 1),
        (events::SANDBOX_FAILED, 1),
    ] {
        assert_eq!(log.of(event).len(), count, "{event}: {:#?}", log.lines());
    }
    assert_eq!(
        log.of(events::SANDBOX_MERGED)[0]["fields"]["winner"],
        winner.as_str()
    );
    assert_eq!(
        log.of(events::SANDBOX_FAILED)[0]["sandbox_id"],
        id_of(&children[1]).as_str()
    );
    for line in log.lines() {
        for member in ["timestamp", "level", "message", "target"] {
            assert!(line[member].is_string(), "{member}: {line}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_guest_that_breaks_the_protocol_again_and_again_does_not_fill_the_log() {
    let (log, _guard) = Log::start();
    let daemon = Daemon::start().await;
    let (evil, good) = (daemon.sandbox().await, daemon.sandbox().await);
    let metrics = daemon.host.metrics();
    let mut breaches = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (address, path) = (daemon.address, format!("{evil}/exec"));
        breaches.spawn(async move {
            // Each takes the time the host gives a VM to say why it is gone.
            for _ in 0..4 {
                super::client::request(address, "POST", &path, r#"{"code":"breach"}"#).await;
            }
        });
    }
    breaches.join_all().await;
    assert_eq!(log.of(events::AGENT_LOST).len(), 10);
    assert_eq!(metrics.log_lines_left_out.get(), 6);
    daemon.run(&good, "breach").await;
    assert_eq!(log.of(events::AGENT_LOST).len(), 11);
    daemon.stop().await;
}

#[test]
fn every_event_is_described_for_operators_and_nothing_else_is() {
    let text = include_str!("../../../../docs/operations.md");
    let (_, rest) = text
        .split_once("### Events")
        .expect("there is a section on events");
    let table = rest.split("\n#").next().unwrap();
    let mut described: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let mut known = events::ALL.to_vec();
    described.sort_unstable();
    known.sort_unstable();
    assert_eq!(described, known);
}
