//! Ports of sandboxes over HTTP: the real agent's way to them, and programs that listen on the machine of the tests.

mod names;
mod proxy;
mod shares;
mod tunnels;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::client::{Connection, Response};
use super::{BOUND, Daemon, Setup, eventually};

/// Starts a program that serves each connection so, and gives its port. It ends with the test's runtime.
async fn program<F, W>(serve: F) -> u16
where
    F: Fn(TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

/// A program that answers with the head of what it was asked.
async fn mirror() -> u16 {
    program(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
        drop(stream.write_all(answer.as_bytes()).await);
    })
    .await
}

/// A program that always answers the same.
async fn says(answer: &'static str) -> u16 {
    program(move |mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.write_all(answer.as_bytes()).await);
    })
    .await
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A port that nobody listens on, nor can while this is held.
fn quiet_port() -> (OwnedFd, u16) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address.port())
}

/// A request with exactly these headers, each a line of its own.
async fn ask(address: SocketAddr, line: &str, headers: &[&str]) -> Connection {
    let mut connection = Connection::open(address).await;
    let mut head = format!("{line} HTTP/1.1\r\n");
    for header in headers {
        head += header;
        head += "\r\n";
    }
    connection.write(&format!("{head}\r\n")).await;
    connection
}

async fn answer(address: SocketAddr, line: &str, headers: &[&str]) -> Response {
    ask(address, line, headers).await.response().await
}

/// The path of a port of a sandbox.
fn path(sandbox: &str, port: u16) -> String {
    format!("{sandbox}/ports/{port}")
}

fn id(sandbox: &str) -> &str {
    sandbox.rsplit('/').next().unwrap()
}

/// The host name of a port of a sandbox.
fn name(sandbox: &str, port: u16) -> String {
    format!("{port}-{}.localhost", id(sandbox).replace('_', "-"))
}

#[tokio::test]
async fn what_listens_is_listed() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let port = says("").await;
    let list = daemon.get(&format!("{sandbox}/ports")).await.json();
    let ports = list["ports"].as_array().unwrap();
    let ours: Vec<_> = ports.iter().filter(|entry| entry["port"] == port).collect();
    assert_eq!(ours.len(), 1, "{list}");
    assert_eq!(ours[0]["address"], "127.0.0.1");
    assert_eq!(ours[0]["process"]["pid"], std::process::id());
    let unknown = "/v1/sandboxes/sbx_00000000000000000000000000000000/ports";
    assert_eq!(daemon.get(unknown).await.code(), "sandbox_not_found");
    daemon.stop().await;
}

#[tokio::test]
async fn bytes_through_a_port_are_a_use_and_are_counted() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let large = program(|mut stream| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
        drop(stream.write_all(head.as_bytes()).await);
        drop(stream.write_all(&[b'x'; 100_000]).await);
    })
    .await;
    let before = daemon.get(&sandbox).await.json()["last_active_at_ms"]
        .as_u64()
        .unwrap();
    assert_eq!(
        daemon
            .get(&format!("{}/", path(&sandbox, large)))
            .await
            .body
            .len(),
        100_000
    );
    let after = daemon.get(&sandbox).await.json()["last_active_at_ms"]
        .as_u64()
        .unwrap();
    assert!(after >= before);
    let usage = daemon.get("/v1/usage").await.json();
    assert!(
        usage["total"]["bytes_out"].as_u64().unwrap() >= 100_000,
        "{usage}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_frozen_sandbox_says_so_or_is_woken() {
    for wake in [false, true] {
        let setup = Setup {
            spaces: crate::SpacesConfig {
                wake,
                ..crate::SpacesConfig::default()
            },
            ..Setup::default()
        };
        let daemon = Daemon::with(setup).await;
        let sandbox = daemon.sandbox().await;
        let port = mirror().await;
        let shared = daemon.post(&format!("{sandbox}/share/{port}"), "").await.json();
        let shared = shared["url"].as_str().unwrap().strip_prefix("http://x").unwrap();
        for asked in [format!("{}/", path(&sandbox, port)), shared.to_owned()] {
            daemon.freeze(&sandbox).await;
            let seen = daemon.get(&asked).await;
            if wake {
                assert!(seen.text().starts_with("GET / HTTP/1.1"), "{}", seen.text());
                continue;
            }
            assert_eq!((seen.status, seen.code().as_str()), (404, "sandbox_not_found"));
            assert!(seen.text().contains("it was frozen"), "{}", seen.text());
            break;
        }
        daemon.stop().await;
    }
}
