//! Terminals over HTTP: streams, what is asked of them, and who may have how many.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::client::Connection;
use super::{BOUND, Daemon, Setup};

/// A stream of events, read as it comes.
pub(super) struct Stream {
    connection: Connection,
    text: String,
}

impl Stream {
    pub(super) async fn open(daemon: &Daemon, method: &str, path: &str, body: &str) -> Self {
        let mut connection = Connection::open(daemon.address).await;
        connection.send(method, path, "", body).await;
        Self {
            connection,
            text: String::new(),
        }
    }

    /// The next event that is no heartbeat.
    pub(super) async fn event(&mut self) -> Value {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = line.trim().to_owned();
                self.text = rest.to_owned();
                // Chunk sizes and headers stand on lines of their own.
                if line.starts_with('{') {
                    return serde_json::from_str(&line).unwrap();
                }
                continue;
            }
            let mut piece = [0; 4096];
            let read = timeout(BOUND, self.connection.stream.read(&mut piece)).await;
            let count = read.expect("waited for an event").unwrap();
            assert_ne!(count, 0, "the stream ended: {}", self.text);
            self.text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
    }

    /// The text of the next data event.
    async fn data(&mut self) -> String {
        let event = self.event().await;
        assert_eq!(event["type"], "pty_data", "{event}");
        String::from_utf8(STANDARD.decode(event["data_b64"].as_str().unwrap()).unwrap()).unwrap()
    }

    /// Reads to the end and gives all of it.
    async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        timeout(BOUND, async {
            while !self.text.ends_with("0\r\n\r\n") {
                let count = self.connection.stream.read_buf(&mut rest).await.unwrap();
                self.text.push_str(std::str::from_utf8(&rest).unwrap());
                rest.clear();
                assert_ne!(count, 0, "the connection was cut: {}", self.text);
            }
        })
        .await
        .expect("waited for the end of a stream");
        self.text
    }
}

fn create(command: &str) -> String {
    json!({ "shellCmd": command, "cols": 80, "rows": 24 }).to_string()
}

pub(super) fn input(text: &str) -> String {
    json!({ "data_b64": STANDARD.encode(text) }).to_string()
}

/// A terminal that is followed, and its path.
pub(super) async fn open(daemon: &Daemon, sandbox: &str, command: &str) -> (Stream, String) {
    let mut stream = Stream::open(daemon, "POST", &format!("{sandbox}/pty"), &create(command)).await;
    let ready = stream.event().await;
    assert_eq!(ready["type"], "pty_ready", "{ready}");
    let id = ready["session_id"].as_str().unwrap();
    assert!(id.starts_with("pty_") && id.len() == 36, "{id}");
    let path = format!("{sandbox}/pty/{id}");
    (stream, path)
}

#[tokio::test]
async fn a_terminal_is_created_used_listed_and_ends() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (mut stream, pty) = open(&daemon, &sandbox, "cat").await;
    assert_eq!(
        daemon.post(&format!("{pty}/input"), &input("hello")).await.status,
        204
    );
    assert_eq!(stream.data().await, "hello");
    let resized = daemon
        .post(&format!("{pty}/resize"), r#"{"cols":132,"rows":50}"#)
        .await;
    assert_eq!((resized.status, stream.data().await.as_str()), (204, "132x50\n"));
    let list = daemon.get(&format!("{sandbox}/pty")).await.json();
    assert!(list[0]["created_at_ms"].is_u64(), "{list}");
    assert_eq!(list[0]["cmd_label"], "cat");
    assert_eq!(list[0]["exit_code"], Value::Null);
    assert!(pty.ends_with(list[0]["pty_id"].as_str().unwrap()));
    // Runs go on meanwhile.
    assert_eq!(daemon.says(&sandbox, "echo hi").await, "hi");
    assert_eq!(daemon.post(&format!("{pty}/kill"), "").await.status, 204);
    assert!(stream.rest().await.contains(r#"{"type":"pty_exit","data":137}"#));
    let list = daemon.get(&format!("{sandbox}/pty")).await.json();
    assert_eq!(list[0]["exit_code"], 137);
    let late = daemon.post(&format!("{pty}/input"), &input("x")).await;
    assert_eq!((late.status, late.code().as_str()), (409, "pty_exited"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_terminal_outlives_its_clients_and_is_followed_from_anywhere() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (stream, pty) = open(&daemon, &sandbox, "cat").await;
    drop(stream);
    assert_eq!(
        daemon.post(&format!("{pty}/input"), &input("kept")).await.status,
        204
    );
    let mut first = Stream::open(&daemon, "GET", &format!("{pty}/attach"), "").await;
    let mut second = Stream::open(&daemon, "GET", &format!("{pty}/attach?since_seq=2"), "").await;
    assert_eq!(
        (first.data().await.as_str(), second.data().await.as_str()),
        ("kept", "pt")
    );
    daemon.post(&format!("{pty}/input"), &input("!\x04")).await;
    assert_eq!(
        (first.data().await.as_str(), second.data().await.as_str()),
        ("!\x04", "!\x04")
    );
    assert!(first.rest().await.contains("pty_exit"));
    let wrong = daemon.get(&format!("{pty}/attach?since_seq=x")).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_field"));
    daemon.stop().await;
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (_creator, pty) = open(&daemon, &sandbox, "cat").await;
    let mut connection = Connection::open(daemon.address).await;
    connection.send("GET", &format!("{pty}/attach"), "", "").await;
    connection.read_until("1\r\n\n\r\n1\r\n\n\r\n1\r\n\n\r\n").await;
    drop(connection);
    let sleepers = daemon.post(&format!("{pty}/kill"), "").await;
    assert_eq!(sleepers.status, 204);
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_late_client_missed_is_counted() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (mut stream, pty) = open(&daemon, &sandbox, "long 5000").await;
    assert_eq!(
        stream.event().await,
        json!({"type": "pty_dropped", "bytes": 4997})
    );
    assert_eq!(
        stream.event().await,
        json!({"type": "pty_data", "data_b64": "ZW5k", "seq": 4997})
    );
    let read = daemon
        .post(&format!("{pty}/read"), r#"{"since_seq":0,"timeout_ms":0}"#)
        .await;
    let expected = json!({"data_b64": "ZW5k", "next_seq": 5000, "exit_code": null, "dropped": true});
    assert_eq!(read.json(), expected);
    daemon.stop().await;
}

#[tokio::test]
async fn a_read_waits_and_tells_the_end() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (_stream, pty) = open(&daemon, &sandbox, "say abc").await;
    let read = async |body: &str| daemon.post(&format!("{pty}/read"), body).await.json();
    let first = read(r#"{"since_seq":0,"max_bytes":2}"#).await;
    assert_eq!(
        (first["data_b64"].as_str(), first["next_seq"].as_u64()),
        (Some("YWI="), Some(2))
    );
    let nothing = read(r#"{"since_seq":3,"timeout_ms":20}"#).await;
    assert_eq!(
        nothing,
        json!({"data_b64": "", "next_seq": 3, "exit_code": null, "dropped": false})
    );
    let kill = format!("{pty}/kill");
    let (last, _) = tokio::join!(read(r#"{"since_seq":3}"#), daemon.post(&kill, ""));
    assert_eq!(last["exit_code"], 137);
    daemon.stop().await;
}

#[tokio::test]
async fn what_fails_in_the_guest_is_said_on_the_stream_and_the_rest_with_a_status() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let missing = daemon.post(&format!("{sandbox}/pty"), &create("missing")).await;
    assert_eq!(missing.status, 200);
    assert_eq!(
        missing.text(),
        "{\"type\":\"pty_error\",\"message\":\"there is no such program\"}\n"
    );
    let both = daemon
        .post(&format!("{sandbox}/pty"), r#"{"shellCmd":"a","argv":["b"]}"#)
        .await;
    assert_eq!((both.status, both.code().as_str()), (400, "invalid_field"));
    let nobody = "/v1/sandboxes/sbx_00000000000000000000000000000000/pty";
    assert_eq!(
        daemon.post(nobody, &create("cat")).await.code(),
        "sandbox_not_found"
    );
    let (_stream, deaf) = open(&daemon, &sandbox, "deaf").await;
    let refused = daemon.post(&format!("{deaf}/input"), &input("x")).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "pty_not_reading")
    );
    for id in ["pty_00000000000000000000000000000000", "nonsense"] {
        let pty = format!("{sandbox}/pty/{id}");
        for (action, body) in [
            ("input", input("x")),
            ("resize", r#"{"cols":1,"rows":1}"#.into()),
            ("kill", String::new()),
            ("read", "{}".into()),
        ] {
            let answer = daemon.post(&format!("{pty}/{action}"), &body).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "pty_not_found"),
                "{action}"
            );
        }
        let answer = daemon.get(&format!("{pty}/attach")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "pty_not_found"));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_end_of_a_sandbox_ends_its_streams() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (first, _) = open(&daemon, &sandbox, "cat").await;
    let (second, pty) = open(&daemon, &sandbox, "cat").await;
    assert_eq!(daemon.delete(&sandbox).await.status, 204);
    for stream in [first, second] {
        let rest = stream.rest().await;
        assert!(
            rest.contains("the sandbox was deleted") && rest.contains("\"pty_exit\",\"data\":137"),
            "{rest}"
        );
    }
    assert_eq!(
        daemon.post(&format!("{pty}/kill"), "").await.code(),
        "sandbox_not_found"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn children_have_the_terminals_and_go_their_own_ways() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (mut parents, pty) = open(&daemon, &sandbox, "say before").await;
    assert_eq!(parents.data().await, "before");
    let child = daemon.fork(&sandbox, 1).await.remove(0);
    let childs = pty.replace(&sandbox, &child);
    daemon.post(&format!("{childs}/input"), &input(" child")).await;
    daemon.post(&format!("{pty}/input"), &input(" parent")).await;
    assert_eq!(parents.data().await, " parent");
    let read = daemon.post(&format!("{childs}/read"), "{}").await.json();
    assert_eq!(read["data_b64"], STANDARD.encode("before child"));
    daemon.stop().await;
}

#[tokio::test]
async fn so_many_clients_follow_one_sandbox_and_runs_are_not_shut_out() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (creator, pty) = open(&daemon, &sandbox, "cat").await;
    let mut others = Vec::new();
    for _ in 0..47 {
        let mut stream = Stream::open(&daemon, "GET", &format!("{pty}/attach?since_seq=1"), "").await;
        stream.connection.read_until("\r\n\n\r\n").await;
        others.push(stream);
    }
    let refused = daemon.get(&format!("{pty}/attach")).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "too_many_pty_streams")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    let refused = daemon.post(&format!("{sandbox}/pty"), &create("cat")).await;
    assert_eq!(refused.status, 429);
    assert_eq!(daemon.says(&sandbox, "echo hi").await, "hi");
    assert_eq!(
        daemon.post(&format!("{pty}/input"), &input("x")).await.status,
        204
    );
    drop(creator);
    // The host notices that it has gone, and there is room again.
    let retry = async {
        while daemon
            .post(&format!("{sandbox}/pty"), &create("exit 3"))
            .await
            .status
            == 429
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, retry).await.expect("waited for room");
    daemon.stop().await;
}

#[tokio::test]
async fn another_tenant_sees_no_terminal() {
    let setup = Setup {
        keys: Some("pf_a,pf_b"),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let mut connection = Connection::open(daemon.address).await;
    let a = "authorization: Bearer pf_a\r\n";
    connection.send("POST", "/v1/sandboxes", a, "{}").await;
    let id = connection.response().await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/sandboxes/{id}/pty");
    connection
        .send("POST", &path, "authorization: Bearer pf_b\r\n", &create("cat"))
        .await;
    assert_eq!(connection.response().await.code(), "sandbox_not_found");
    connection.send("GET", &path, a, "").await;
    assert_eq!(connection.response().await.text(), "[]");
    daemon.stop().await;
}
