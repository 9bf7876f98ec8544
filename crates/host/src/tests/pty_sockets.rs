//! Terminals over WebSockets, and what web pages may do.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::ptys::open;
use super::{BOUND, Daemon, Setup, client};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(daemon: &Daemon, pty: &str, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
    let mut request = format!("ws://{}{pty}/attach", daemon.address)
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, HeaderValue::from_str(value).unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, response)) => {
            if headers.iter().any(|(name, _)| *name == "sec-websocket-protocol") {
                // The key is never sent back.
                assert_eq!(
                    response.headers()["sec-websocket-protocol"],
                    "podflare.terminal.v1"
                );
            }
            Ok(socket)
        }
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

async fn next(socket: &mut Socket) -> Message {
    loop {
        let message = timeout(BOUND, socket.next()).await.expect("waited for a message");
        match message.unwrap().unwrap() {
            Message::Ping(_) => {}
            other => return other,
        }
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_sizes_and_the_end_are_text() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (_stream, pty) = open(&daemon, &sandbox, "cat").await;
    let origin = format!("http://{}", daemon.address);
    let mut socket = connect(&daemon, &pty, &[("origin", &origin)]).await.unwrap();
    socket.send(Message::binary(vec![0xff, 0, 10])).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::binary(vec![0xff, 0, 10]));
    let resize = r#"{"type":"resize","cols":100,"rows":30}"#;
    socket.send(Message::text(resize)).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::binary(&b"100x30\n"[..]));
    socket.send(Message::binary(&b"\x04"[..])).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::binary(&b"\x04"[..]));
    assert_eq!(
        next(&mut socket).await,
        Message::text(r#"{"type":"pty_exit","data":0}"#)
    );
    assert!(matches!(next(&mut socket).await, Message::Close(Some(frame)) if u16::from(frame.code) == 1000));
    daemon.stop().await;
}

#[tokio::test]
async fn nonsense_is_told_and_a_client_that_goes_leaves_the_terminal() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (_stream, pty) = open(&daemon, &sandbox, "cat").await;
    for nonsense in [
        "hello",
        r#"{"type":"resize","cols":0,"rows":1}"#,
        r#"{"type":"else"}"#,
    ] {
        let mut socket = connect(&daemon, &pty, &[]).await.unwrap();
        socket.send(Message::text(nonsense)).await.unwrap();
        let told = next(&mut socket).await.into_text().unwrap().to_string();
        assert!(told.contains("pty_error"), "{told}");
        assert!(
            matches!(next(&mut socket).await, Message::Close(Some(frame)) if u16::from(frame.code) == 1008)
        );
    }
    let list = daemon.get(&format!("{sandbox}/pty")).await.json();
    assert_eq!(list[0]["exit_code"], serde_json::Value::Null);
    let unknown = format!("{sandbox}/pty/pty_00000000000000000000000000000000");
    assert_eq!(connect(&daemon, &unknown, &[]).await.err(), Some(404));
    daemon.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_kept_out() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (_stream, pty) = open(&daemon, &sandbox, "cat").await;
    for origin in ["http://evil.example", "null"] {
        assert_eq!(
            connect(&daemon, &pty, &[("origin", origin)]).await.err(),
            Some(403)
        );
    }
    let rebound = [("origin", "http://evil.example"), ("host", "evil.example")];
    assert_eq!(connect(&daemon, &pty, &rebound).await.err(), Some(403));
    let mut connection = client::Connection::open(daemon.address).await;
    connection
        .send("POST", "/v1/sandboxes", "origin: http://evil.example\r\n", "{}")
        .await;
    let refused = connection.response().await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "foreign_origin"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_browser_gives_its_key_as_a_subprotocol() {
    let setup = Setup {
        keys: Some("pf_a"),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let mut connection = client::Connection::open(daemon.address).await;
    let key = "authorization: Bearer pf_a\r\n";
    connection.send("POST", "/v1/sandboxes", key, "{}").await;
    let id = connection.response().await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = r#"{"shellCmd":"say hi"}"#;
    connection
        .send("POST", &format!("/v1/sandboxes/{id}/pty"), key, body)
        .await;
    connection.read_until("pty_ready").await;
    connection.send("GET", "/v1/healthz", key, "").await;
    let mut lister = client::Connection::open(daemon.address).await;
    lister
        .send("GET", &format!("/v1/sandboxes/{id}/pty"), key, "")
        .await;
    let list = lister.response().await.json();
    let pty = format!("/v1/sandboxes/{id}/pty/{}", list[0]["pty_id"].as_str().unwrap());
    let offer = |protocols: &'static str| [("sec-websocket-protocol", protocols)];
    let right = offer("podflare.terminal.v1, podflare.key.cGZfYQ");
    let mut socket = connect(&daemon, &pty, &right).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::binary(&b"hi"[..]));
    let wrong = offer("podflare.terminal.v1, podflare.key.cGZfYg");
    assert_eq!(connect(&daemon, &pty, &wrong).await.err(), Some(401));
    assert_eq!(connect(&daemon, &pty, &[]).await.err(), Some(401));
    daemon.stop().await;
}

#[tokio::test]
async fn the_page_is_served_to_everybody_under_a_strict_policy() {
    let setup = Setup {
        keys: Some("pf_a"),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    for (path, kind) in [
        ("/terminal", "text/html"),
        ("/terminal/app.js", "text/javascript"),
        ("/terminal/style.css", "text/css"),
    ] {
        let page = daemon.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").unwrap().starts_with(kind), "{path}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
    }
    assert_eq!(daemon.get("/terminal/nothing.js").await.status, 401);
    daemon.stop().await;
}
