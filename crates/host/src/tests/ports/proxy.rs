//! Requests that are passed on to a program, and its answers.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::*;

#[tokio::test]
async fn a_program_is_asked_as_the_client_has_asked_and_learns_who_it_was() {
    let setup = Setup {
        keys: Some("secret"),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let key = "authorization: Bearer secret";
    let mut create = Connection::open(daemon.address).await;
    create
        .send("POST", "/v1/sandboxes", &format!("{key}\r\n"), "{}")
        .await;
    let sandbox = create.response().await.json()["id"].as_str().unwrap().to_owned();
    let port = mirror().await;
    let line = format!("PATCH /v1/sandboxes/{sandbox}/ports/{port}/a%2Fb/%C3%A9//c/../d?x=%20&y");
    let headers = [
        "host: pods.example:7070",
        key,
        "accept: a/b",
        "x-mine: 1",
        "cookie: a=1; podflare_token=t",
        "connection: keep-alive, x-gone",
        "x-gone: 1",
        "x-forwarded-for: 192.0.2.1",
        "x-forwarded-prefix: /evil",
        "content-length: 0",
    ];
    let seen = answer(daemon.address, &line, &headers).await.text();
    let mut lines = seen.lines();
    assert_eq!(lines.next(), Some("PATCH /a%2Fb/%C3%A9//c/../d?x=%20&y HTTP/1.1"));
    let mut lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    let prefix = format!("x-forwarded-prefix: /v1/sandboxes/{sandbox}/ports/{port}");
    let host = format!("host: localhost:{port}");
    assert_eq!(
        lines,
        [
            "accept: a/b",
            "connection: close",
            "content-length: 0",
            "cookie: a=1",
            &host,
            "x-forwarded-for: 192.0.2.1, 127.0.0.1",
            "x-forwarded-host: pods.example:7070",
            &prefix,
            "x-forwarded-proto: http",
            "x-mine: 1",
        ]
    );
    let without = answer(daemon.address, &line, &["host: x", "content-length: 0"]).await;
    assert_eq!(without.code(), "missing_key");
    daemon.stop().await;
}

#[tokio::test]
async fn an_answer_comes_as_it_is_and_as_a_page_of_no_origin() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = says(
        "HTTP/1.0 418 Short\r\nContent-Type: text/html\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nStrict-Transport-Security: \
         max-age=1\r\nService-Worker-Allowed: /\r\nSet-Cookie: a=1; Path=/; Domain=x\r\nSet-Cookie: b=2\r\nSet-Cookie: \
         podflare_token=x\r\nContent-Security-Policy: default-src *\r\n\r\nthe body, to its end",
    )
    .await;
    let answer = daemon.get(&format!("{}/", path(&sandbox, port))).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (418, "the body, to its end")
    );
    assert!(answer.head.starts_with("HTTP/1.1 418"), "{}", answer.head);
    assert_eq!(answer.header("x-own"), Some("1"));
    let head = &answer.head;
    for gone in [
        "keep-alive",
        "strict-transport",
        "service-worker",
        "podflare_token",
        "Domain",
    ] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    let cookie = format!("set-cookie: a=1; Path={}/\r\n", path(&sandbox, port));
    assert!(
        head.contains(&cookie) && head.contains("set-cookie: b=2\r\n"),
        "{head}"
    );
    assert!(
        head.contains("content-security-policy: default-src *\r\n"),
        "{head}"
    );
    assert!(head.contains("content-security-policy: sandbox allow-"), "{head}");
    daemon.stop().await;
}

#[tokio::test]
async fn places_are_put_below_the_ports_path() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = says("HTTP/1.1 302 Found\r\nLocation: /login?next=%2F\r\nContent-Length: 0\r\n\r\n").await;
    let base = path(&sandbox, port);
    let answer = daemon.get(&format!("{base}/")).await;
    let expected = format!("{base}/login?next=%2F");
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some(expected.as_str()))
    );
    // Relative links need the slash.
    let answer = daemon.get(&format!("{base}?a=b")).await;
    let expected = format!("{base}/?a=b");
    assert_eq!(
        (answer.status, answer.header("location")),
        (308, Some(expected.as_str()))
    );
    daemon.stop().await;
}

#[tokio::test]
async fn pieces_pass_through_as_they_come_in_both_directions() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (heard, mut hears) = mpsc::channel::<String>(16);
    let port = program(move |mut stream| {
        let heard = heard.clone();
        async move {
            read_head(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 0\n\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                heard.send(text).await.unwrap();
                stream.write_all(b"data: more\n\n").await.unwrap();
            }
        }
    })
    .await;
    let line = format!("POST {}/", path(&sandbox, port));
    let mut connection = ask(daemon.address, &line, &["host: x", "transfer-encoding: chunked"]).await;
    // The answer begins before the request ends.
    connection.read_until("data: 0").await;
    for _ in 0..3 {
        connection.write("5\r\npiece\r\n").await;
        let mut got = String::new();
        while !got.contains("piece") {
            got += &timeout(BOUND, hears.recv()).await.unwrap().unwrap();
        }
        connection.read_until("data: more").await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_large_body_arrives_whole_in_both_directions() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = program(|mut stream| async move {
        read_head(&mut stream).await;
        let mut body = vec![0; 5_000_000];
        stream.read_exact(&mut body).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    })
    .await;
    let body: Vec<u8> = (0..5_000_000_u32)
        .map(|index| (index % 251).to_le_bytes()[0])
        .collect();
    let mut connection = Connection::open(daemon.address).await;
    connection
        .send_bytes("PUT", &format!("{}/x", path(&sandbox, port)), "", &body)
        .await;
    assert!(connection.response().await.body == body);
    daemon.stop().await;
}

#[tokio::test]
async fn a_websocket_passes_through() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = program(|stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let url = format!("ws://{}{}/echo", daemon.address, path(&sandbox, port));
    let (mut socket, response) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert_eq!(response.headers()["connection"], "Upgrade");
    for message in [Message::text("hello"), Message::binary(vec![0xff; 200_000])] {
        socket.send(message.clone()).await.unwrap();
        let echo = timeout(BOUND, socket.next()).await.unwrap().unwrap().unwrap();
        assert!(echo == message);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = timeout(BOUND, socket.next()).await.unwrap() {}
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_closes_the_programs_connection() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    for begun in ["", "HTTP/1.1 200 OK\r\n\r\nbegun"] {
        let (gone, mut is_gone) = mpsc::channel::<()>(1);
        let (asked, mut is_asked) = mpsc::channel::<()>(1);
        let port = program(move |mut stream| {
            let (gone, asked) = (gone.clone(), asked.clone());
            async move {
                read_head(&mut stream).await;
                stream.write_all(begun.as_bytes()).await.unwrap();
                asked.send(()).await.unwrap();
                let ended = stream.read_u8().await;
                ended.unwrap_err();
                gone.send(()).await.unwrap();
            }
        })
        .await;
        let connection = ask(
            daemon.address,
            &format!("GET {}/", path(&sandbox, port)),
            &["host: x"],
        )
        .await;
        timeout(BOUND, is_asked.recv())
            .await
            .expect("the program is asked");
        drop(connection);
        timeout(BOUND, is_gone.recv())
            .await
            .expect("the program notices that nobody wants its answer");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_does_not_answer_is_told_from_what_is_not_there() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let (_held, port) = quiet_port();
    let refused = daemon.get(&format!("{}/", path(&sandbox, port))).await;
    assert_eq!((refused.status, refused.code().as_str()), (502, "port_refused"));
    assert!(
        refused
            .text()
            .contains(&format!("nothing listens on port {port}"))
    );
    assert!(
        refused
            .text()
            .contains(&format!("{sandbox}/ports lists what listens"))
    );
    for nonsense in ["SSH-2.0-OpenSSH_9\r\n", ""] {
        let port = says(nonsense).await;
        let bad = daemon.get(&format!("{}/", path(&sandbox, port))).await;
        assert_eq!((bad.status, bad.code().as_str()), (502, "bad_port_answer"));
    }
    let port = says("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await;
    let unasked = daemon.get(&format!("{}/", path(&sandbox, port))).await;
    assert_eq!(unasked.code(), "bad_port_answer");
    for wrong in ["0", "65536", "x", "+1", "080"] {
        let refused = daemon.get(&format!("{sandbox}/ports/{wrong}/")).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "invalid_field"),
            "{wrong}"
        );
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_port_is_used_while_a_run_is_in_progress() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let mut run = Connection::open(daemon.address).await;
    run.send("POST", &format!("{sandbox}/exec"), "", r#"{"code":"hang"}"#)
        .await;
    run.read_until("begun").await;
    let port = mirror().await;
    let seen = daemon.get(&format!("{}/beside", path(&sandbox, port))).await;
    assert!(seen.text().starts_with("GET /beside HTTP/1.1"));
    drop(run);
    eventually("the run is cancelled", || daemon.cancelled() == 1).await;
    daemon.stop().await;
}
