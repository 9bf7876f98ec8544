//! Connections to ports as bytes.

use super::*;

async fn open(daemon: &Daemon, sandbox: &str, port: u16) -> Connection {
    let line = format!("GET {sandbox}/tunnel/{port}");
    let upgrade = ["host: x", "connection: Upgrade", "upgrade: podflare-tcp"];
    let mut connection = ask(daemon.address, &line, &upgrade).await;
    let response = connection.response().await;
    assert_eq!(
        (response.status, response.header("upgrade")),
        (101, Some("podflare-tcp"))
    );
    connection
}

#[tokio::test]
async fn each_direction_of_a_tunnel_ends_on_its_own() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = program(|mut stream| async move {
        // It speaks first, and answers when it has heard all.
        stream.write_all(b"ready\n").await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
    })
    .await;
    let mut tunnel = open(&daemon, &sandbox, port).await;
    tunnel.read_until("ready\n").await;
    tunnel.write("\x00abc").await;
    tunnel.stream.shutdown().await.unwrap();
    tunnel.read_until("cba\x00").await;
    let mut rest = Vec::new();
    timeout(BOUND, tunnel.stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, b"");
    daemon.stop().await;
}

#[tokio::test]
async fn a_tunnel_ends_with_its_sandbox() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = program(|mut stream| async move {
        stream.write_all(b"ready\n").await.unwrap();
        drop(stream.read_u8().await);
    })
    .await;
    let mut tunnel = open(&daemon, &sandbox, port).await;
    tunnel.read_until("ready\n").await;
    assert_eq!(daemon.delete(&sandbox).await.status, 204);
    let mut rest = Vec::new();
    drop(
        timeout(BOUND, tunnel.stream.read_to_end(&mut rest))
            .await
            .expect("the tunnel ends"),
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_tunnel_is_asked_for_in_full_or_refused_with_the_reason() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let line = format!("GET {sandbox}/tunnel/80");
    for headers in [
        &["host: x"][..],
        &["host: x", "upgrade: podflare-tcp"],
        &["host: x", "connection: upgrade", "upgrade: websocket"],
    ] {
        let refused = answer(daemon.address, &line, headers).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (426, "upgrade_required")
        );
        assert_eq!(refused.header("upgrade"), Some("podflare-tcp"));
    }
    let (_held, port) = quiet_port();
    let line = format!("GET {sandbox}/tunnel/{port}");
    let upgrade = ["host: x", "connection: upgrade", "upgrade: podflare-tcp"];
    let refused = answer(daemon.address, &line, &upgrade).await;
    assert_eq!((refused.status, refused.code().as_str()), (502, "port_refused"));
    daemon.stop().await;
}
