//! Statuses and texts: each row of the contract's error table.

use std::time::Duration;

use super::client::{self, Connection};
use super::{Daemon, Setup};

const UNKNOWN: &str = "/v1/sandboxes/sbx_00000000000000000000000000000000";

#[tokio::test]
async fn health_is_the_bare_word_and_needs_no_key() {
    let setup = Setup {
        keys: Some("k1,k2"),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let health = daemon.get("/v1/healthz").await;
    assert_eq!((health.status, health.text().as_str()), (200, "ok"));
    assert_eq!(daemon.post("/v1/healthz", "").await.status, 405);
    daemon.stop().await;
}

#[tokio::test]
async fn keys_are_asked_for_and_each_sees_only_its_own_sandboxes() {
    let setup = Setup {
        keys: Some("k1,k2"),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let missing = daemon.get("/v1/sandboxes").await;
    assert_eq!(missing.status, 401);
    assert_eq!(missing.json()["error"], "missing Authorization: Bearer <key>");
    let mut connection = Connection::open(daemon.address).await;
    let mut call = async |key: &str, method: &str, path: &str| {
        let header = format!("authorization: Bearer {key}\r\n");
        connection.send(method, path, &header, "").await;
        connection.response().await
    };
    let wrong = call("k3", "GET", "/v1/sandboxes").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "invalid_key"));
    assert_eq!(wrong.json()["error"], "invalid api key");
    let created = call("k1", "POST", "/v1/sandboxes").await;
    let path = format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(call("k1", "GET", &path).await.status, 200);
    assert_eq!(call("k2", "GET", &path).await.status, 404);
    assert_eq!(call("k2", "DELETE", &path).await.status, 204);
    let others = call("k2", "GET", "/v1/sandboxes").await;
    assert_eq!(others.text(), r#"{"sandboxes":[]}"#);
    assert_eq!(call("k1", "GET", &path).await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn bad_requests_name_what_is_wrong() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let exec = format!("{sandbox}/exec");
    let cases = [
        ("/v1/sandboxes", r#"{"ram_mib":"abc"}"#, 400, "invalid_field"),
        ("/v1/sandboxes", r#"{"template":"nope"}"#, 400, "unknown_template"),
        ("/v1/sandboxes", "{nope", 400, "malformed_json"),
        (&exec, "", 400, "invalid_field"),
        (
            &exec,
            r#"{"code":"echo","language":"ruby"}"#,
            400,
            "invalid_field",
        ),
        (&exec, "{\n\"code\"", 400, "malformed_json"),
        ("/v1/sandboxes", r#"{"ram_mib":8192}"#, 503, "no_capacity"),
        ("/v1/nothing", "", 404, "route_not_found"),
        ("/v1/sandboxes/", "", 404, "route_not_found"),
        (&sandbox, "", 405, "method_not_allowed"),
        (
            &format!("{UNKNOWN}/exec"),
            r#"{"code":"1"}"#,
            404,
            "sandbox_not_found",
        ),
        (
            "/v1/sandboxes/x%20y/exec",
            r#"{"code":"1"}"#,
            404,
            "sandbox_not_found",
        ),
    ];
    for (path, body, status, code) in cases {
        let response = daemon.post(path, body).await;
        let seen = (response.status, response.code());
        assert_eq!(
            seen,
            (status, code.to_owned()),
            "{path} {body}: {}",
            response.text()
        );
        assert!(response.json()["error"].as_str().unwrap().len() > 5);
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    let unknown = daemon.post("/v1/sandboxes", r#"{"template":"nope"}"#).await;
    assert!(unknown.text().contains("default, science"), "{}", unknown.text());
    let full = daemon.post("/v1/sandboxes", r#"{"ram_mib":8192}"#).await;
    assert!(full.text().contains("512 of 4096 MiB"), "{}", full.text());
    assert_eq!(full.header("retry-after"), Some("5"));
    assert_eq!(daemon.get(UNKNOWN).await.json()["error"], "sandbox not found");
    assert_eq!(daemon.delete(UNKNOWN).await.status, 204);
    assert_eq!(daemon.delete("/v1/sandboxes/anything").await.status, 204);
    // Nothing of all this has hurt the sandbox.
    assert_eq!(daemon.run(&sandbox, "echo hi").await.exit(), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_even_to_a_client_that_sends_it_all_first() {
    let daemon = Daemon::start().await;
    let body = " ".repeat(api::BODY_BYTES_MAX + 1);
    let response = daemon.post("/v1/sandboxes", &body).await;
    assert_eq!(
        (response.status, response.code().as_str()),
        (413, "body_too_large")
    );
    assert!(response.text().contains("64 MiB"));
    daemon.stop().await;
}

/// A client that sends the body of its request after the head, as most do: is there a next answer on its connection?
async fn is_kept(daemon: &Daemon, head: &str, body: &str) -> bool {
    let mut connection = Connection::open(daemon.address).await;
    connection.write(head).await;
    // By now the answer could be there, if it were not for the body.
    tokio::time::sleep(Duration::from_millis(50)).await;
    connection.write(body).await;
    let refused = connection.response().await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    if refused.header("connection") == Some("close") {
        return false;
    }
    connection.send("GET", "/v1/sandboxes", "", "").await;
    assert_eq!(connection.response().await.status, 200);
    true
}

#[tokio::test]
async fn a_refused_request_whose_body_nobody_wants_does_not_spoil_the_next_one() {
    let daemon = Daemon::start().await;
    let head = |length: usize, more: &str| {
        format!("POST {UNKNOWN}/freeze HTTP/1.1\r\nhost: x\r\n{more}content-length: {length}\r\n\r\n")
    };
    let body = r#"{"code":"1"}"#;
    // A busy machine may send the body later than it is waited for, but not each time.
    let mut kept = false;
    for _ in 0..5 {
        kept = kept || is_kept(&daemon, &head(body.len(), ""), body).await;
    }
    assert!(kept);
    // Too much to be waited for, or not sent before it is asked for: it is said that the connection ends.
    assert!(!is_kept(&daemon, &head(32 << 20, ""), body).await);
    assert!(!is_kept(&daemon, &head(body.len(), "expect: 100-continue\r\n"), "").await);
    daemon.stop().await;
}

#[tokio::test]
async fn ten_megabytes_of_code_arrive_whole() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let code = format!("len {}", "é".repeat(5_000_000));
    let response = daemon.run(&sandbox, &code).await;
    assert_eq!(response.lines(api::EventKind::Stdout), ["10000000"]);
    daemon.stop().await;
}

#[tokio::test]
async fn a_region_prefix_is_served_and_malformed_traceparents_are_ignored() {
    let daemon = Daemon::start().await;
    let created = daemon.post("/r/lab%201/v1/sandboxes", "{}").await;
    assert_eq!(created.status, 200);
    assert_eq!(created.json().get("region"), None);
    assert_eq!(daemon.get("/r/lab/v1/healthz").await.text(), "ok");
    let mut connection = Connection::open(daemon.address).await;
    let headers = "traceparent: 00-abc-def-01\r\n";
    connection.send("GET", "/v1/sandboxes", headers, "").await;
    assert_eq!(connection.response().await.status, 200);
    daemon.stop().await;

    let setup = Setup {
        region: Some("eu"),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let created = daemon.post("/r/EU/v1/sandboxes", "").await.json();
    assert_eq!(
        (&created["region"], &created["endpoint"]),
        (&"eu".into(), &"https://eu.example".into())
    );
    assert_eq!(client::get(daemon.address, "/r/us/v1/healthz").await.status, 404);
    daemon.stop().await;
}
