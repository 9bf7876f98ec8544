//! The client against a host that answers from a script, over real TCP.

use api::{CreateRequest, EventData, EventKind, ExecRequest, Language};
use pod_types::SandboxId;

use crate::scripted::{Answer, Ending, Request, Scripted};
use crate::{Client, ClientError, Endpoint};

const ID: &str = "sbx_0123456789abcdef0123456789abcdef";

fn id() -> SandboxId {
    ID.parse().unwrap()
}

fn host(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Scripted, Client) {
    let server = Scripted::start(script).unwrap();
    let client = Client::new(Endpoint::new(&server.url(), Some("pf_live_key".into())).unwrap());
    (server, client)
}

fn python(code: &str) -> ExecRequest {
    ExecRequest {
        code: code.into(),
        language: Language::Python,
        timeout_ms: None,
    }
}

fn stdout(data: &str, seq: u64) -> String {
    format!("{{\"type\":\"stdout\",\"data\":\"{data}\",\"seq\":{seq},\"ts\":1}}\n")
}

fn exit(code: i32) -> String {
    format!("{{\"type\":\"exit\",\"data\":{code},\"seq\":9,\"ts\":1}}\n")
}

#[test]
fn every_request_carries_the_key_and_says_who_asks() {
    let (server, client) = host(|_| Answer::new(200, "ok\n"));
    client.healthz().unwrap();
    let request = &server.seen().requests[0];
    assert_eq!(request.line(), "GET /v1/healthz");
    assert_eq!(request.header("authorization"), Some("Bearer pf_live_key"));
    assert!(request.header("user-agent").unwrap().starts_with("podflare/"));
}

#[test]
fn a_path_prefix_of_the_base_url_stands_in_front_of_every_route() {
    let server = Scripted::start(|_| Answer::new(200, "ok")).unwrap();
    let endpoint = Endpoint::new(&format!("{}/r/lab/", server.url()), None).unwrap();
    Client::new(endpoint).healthz().unwrap();
    assert_eq!(server.seen().lines(), ["GET /r/lab/v1/healthz"]);
    assert_eq!(server.seen().requests[0].header("authorization"), None);
}

#[test]
fn a_sandbox_is_created_listed_looked_at_and_deleted() {
    let (server, client) = host(|request| match request.line().as_str() {
        "POST /v1/sandboxes" => Answer::new(
            200,
            &format!(
                r#"{{"id":"{ID}","state":"ready","template":"default","ram_mib":1024,"rootfs_gb":4,"vcpus":1,
                    "created_at_ms":5,"from_the_future":true}}"#
            ),
        ),
        "GET /v1/sandboxes" => Answer::new(200, r#"{"sandboxes":[]}"#),
        line if line.starts_with("DELETE ") => Answer::new(204, ""),
        _ => Answer::new(404, r#"{"error":"sandbox not found","code":"sandbox_not_found"}"#),
    });
    let request = CreateRequest {
        ram_mib: Some(512),
        ..CreateRequest::default()
    };
    assert_eq!(client.create(&request).unwrap().id, id());
    assert_eq!(client.list().unwrap(), []);
    assert!(client.get(id()).unwrap_err().is_not_found());
    client.delete(id()).unwrap();
    let seen = server.seen();
    assert_eq!(
        seen.requests[0].body,
        r#"{"ram_mib":512,"persistent":false,"egress":true}"#
    );
    assert_eq!(seen.lines()[3], format!("DELETE /v1/sandboxes/{ID}"));
}

#[test]
fn events_arrive_without_heartbeats_and_without_kinds_of_the_future() {
    let body = format!(
        "\n\n{}\r\n{{\"type\":\"progress\",\"data\":{{}},\"seq\":1,\"ts\":1}}\n\n{}{}",
        stdout("42", 0).trim_end(),
        stdout("", 2),
        exit(3)
    );
    let (server, client) = host(move |_| Answer::stream(&body, Ending::Chunked));
    let events: Vec<_> = client
        .exec(id(), &python("print(42)"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[0].data, EventData::Line("42".into()));
    assert_eq!(events[1].data, EventData::Line(String::new()));
    assert_eq!(
        (events[2].kind, &events[2].data),
        (EventKind::Exit, &EventData::Code(3))
    );
    assert_eq!(
        server.seen().requests[0].body,
        r#"{"code":"print(42)","language":"python"}"#
    );
}

#[test]
fn a_stream_that_ends_without_an_exit_is_broken_and_not_over() {
    for ending in [Ending::Cut, Ending::Chunked] {
        let (_server, client) = host(move |_| Answer::stream(&stdout("1", 0), ending));
        let mut stream = client.exec(id(), &python("1")).unwrap();
        assert_eq!(stream.next().unwrap().unwrap().data, EventData::Line("1".into()));
        let error = stream.next().unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
        assert!(stream.next().is_none());
    }
}

#[test]
fn a_line_that_is_no_event_ends_the_stream_with_an_error() {
    for line in ["oops\n", "{\"type\":\"stdout\"}\n", "[1]\n"] {
        let (_server, client) = host(move |_| Answer::stream(line, Ending::Endless));
        let error = client
            .exec(id(), &python("1"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap_err();
        assert!(
            matches!(error, ClientError::NotPodflare { .. }),
            "{line}: {error}"
        );
    }
}

#[test]
fn dropping_a_stream_closes_its_connection() {
    let (server, client) = host(|_| Answer::stream(&stdout("1", 0), Ending::Endless));
    let mut stream = client.exec(id(), &python("while True: pass")).unwrap();
    stream.next().unwrap().unwrap();
    assert_eq!(server.seen().gone, 0);
    drop(stream);
    assert!(
        server.wait_until(|seen| seen.gone == 1).is_some(),
        "the server saw nobody leave"
    );
}

#[test]
fn a_refusal_keeps_status_code_text_and_hint() {
    let (_server, client) = host(|_| {
        Answer::new(
            400,
            r#"{"error":"no template `x`","code":"unknown_template","hint":"there is `default`"}"#,
        )
    });
    let error = client.create(&CreateRequest::default()).unwrap_err();
    assert_eq!(error.to_string(), "no template `x`");
    assert_eq!(error.code(), "unknown_template");
    assert_eq!(error.hint().as_deref(), Some("there is `default`"));
    assert!(matches!(error, ClientError::Refused(refusal) if refusal.status == 400));
}

#[test]
fn a_refusal_of_another_make_still_says_its_status_or_that_it_is_not_ours() {
    let (_server, client) = host(|_| Answer::new(502, "<html>Bad Gateway</html>"));
    let error = client.list().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the host answered with HTTP status 502 Bad Gateway while listing sandboxes"
    );
    for status in [404, 302] {
        let (_server, client) = host(move |_| Answer::new(status, "<html>"));
        let error = client.list().unwrap_err();
        assert!(matches!(error, ClientError::NotPodflare { .. }), "{error}");
    }
}

#[test]
fn a_health_that_is_not_ok_is_another_programs() {
    let (_server, client) = host(|_| Answer::new(200, "\"ok\""));
    let error = client.healthz().unwrap_err();
    assert!(matches!(error, ClientError::NotPodflare { .. }), "{error}");
}

#[test]
fn where_nobody_listens_the_way_to_start_a_host_is_told() {
    // Port 1 on loopback is never served on a test machine.
    let client = Client::new(Endpoint::new("http://127.0.0.1:1", None).unwrap());
    let error = client.healthz().unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "no Podflare host answers at http://127.0.0.1:1"
    );
    assert!(error.hint().unwrap().contains("podflare up"));
}
