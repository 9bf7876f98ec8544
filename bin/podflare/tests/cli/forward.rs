//! `podflare forward`, `sandbox ports` and `sandbox share`, with a host that plays along.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::thread;
use std::time::Duration;

use client::scripted::{Answer, Scripted};
use serde_json::Value;

use crate::support::{Cli, ID};

const BOUND: Duration = Duration::from_secs(120);

/// Ends the command however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A host with one sandbox, in which a program on port 80 sends back what it gets once that has ended.
fn host() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/r/lab", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    url
}

fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let answer = |status: &str, body: &str| {
        let len = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\n\r\n{body}")
    };
    let tunnel = format!("GET /r/lab/v1/sandboxes/{ID}/tunnel/");
    if head.starts_with(&format!("{tunnel}80 ")) {
        assert!(
            head.contains("connection: upgrade\r\nupgrade: podflare-tcp\r\n"),
            "{head}"
        );
        assert!(head.contains("authorization: Bearer pf_key\r\n"), "{head}");
        let switched =
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: podflare-tcp\r\nconnection: Upgrade\r\n\r\nhello ";
        stream.write_all(switched.as_bytes()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    } else if head.starts_with(&format!("{tunnel}81 ")) {
        let refusal = r#"{"error":"nothing listens on port 81 in the sandbox","code":"port_refused"}"#;
        stream
            .write_all(answer("502 Bad Gateway", refusal).as_bytes())
            .unwrap();
        // The connection is kept, as a host does.
        drop(stream.read(&mut byte));
    } else if head.starts_with(&tunnel) {
        let refusal = r#"{"error":"sandbox not found","code":"sandbox_not_found"}"#;
        stream
            .write_all(answer("404 Not Found", refusal).as_bytes())
            .unwrap();
        drop(stream.read(&mut byte));
    } else {
        let info = format!(
            r#"{{"id":"{ID}","state":"ready","template":"default","ram_mib":1024,"rootfs_gb":4,"vcpus":1,
                "created_at_ms":0,"persistent":false,"egress":true,"running_execs":0}}"#
        );
        stream.write_all(answer("200 OK", &info).as_bytes()).unwrap();
    }
}

/// Starts it, and gives the ports here.
fn forward(ports: &[&str]) -> (Running, Vec<u16>) {
    let url = host();
    let cli = Cli::alone();
    let mut arguments = vec!["--json", "--api-url", &url, "--api-key", "pf_key", "forward", ID];
    arguments.extend(ports);
    let mut child = Running(cli.spawn(&arguments));
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(said["id"], ID);
    let forwards = said["forwards"].as_array().unwrap().iter();
    let local = forwards.map(|forward| u16::try_from(forward["local"].as_u64().unwrap()).unwrap());
    (child, local.collect())
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

#[test]
fn bytes_go_there_and_back_and_each_direction_ends_on_its_own() {
    let (_running, ports) = forward(&["80:0"]);
    let sent = vec![b'x'; 1_000_000];
    for _ in 0..3 {
        let mut stream = connect(ports[0]);
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got.starts_with(b"hello ") && got[6..] == sent);
    }
}

#[test]
fn a_port_where_nothing_listens_is_said_and_the_rest_goes_on() {
    let (mut running, ports) = forward(&["80:0", "81:0"]);
    assert_eq!(connect(ports[1]).read(&mut [0]).unwrap_or(0), 0);
    let mut stderr = BufReader::new(running.0.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("nothing listens on port 81"), "{line}");
    let mut stream = connect(ports[0]);
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert_eq!(got, "hello ");
}

#[test]
fn it_ends_with_the_sandbox() {
    let (mut running, ports) = forward(&["82:0"]);
    drop(connect(ports[0]).read(&mut [0]));
    assert_eq!(running.0.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    running
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("sandbox_not_found"), "{said}");
}

#[test]
fn a_port_that_is_taken_here_is_refused_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = taken.local_addr().unwrap().port();
    let url = host();
    let cli = Cli::alone();
    let finished = cli.run(&["--api-url", &url, "forward", ID, &format!("80:{local}")]);
    assert_eq!(finished.status, 1);
    assert!(
        finished
            .stderr
            .contains(&format!("cannot listen on 127.0.0.1:{local}"))
    );
    assert!(
        finished.stderr.contains("80:0 for any that is free"),
        "{}",
        finished.stderr
    );
    assert_eq!(cli.run(&["forward", ID, "x"]).status, 2);
}

#[test]
fn what_listens_is_a_table_that_does_nothing_to_the_terminal() {
    let list = r#"{"ports":[{"port":80,"address":"::","process":{"pid":7,"command":"a\u001b[2J b"}},
                            {"port":8080,"address":"127.0.0.1"}]}"#;
    let host = Scripted::start(move |request| {
        assert_eq!(request.line(), format!("GET /v1/sandboxes/{ID}/ports"));
        Answer::new(200, list)
    })
    .unwrap();
    let table = Cli::with(&host).run(&["sandbox", "ports", ID]).stdout;
    assert!(!table.contains('\x1b'), "{table}");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["PORT", "ADDRESS", "PID", "COMMAND"]);
    assert_eq!(rows[1][..3], ["80", "::", "7"]);
    assert_eq!(rows[2], ["8080", "127.0.0.1", "-", "-"]);
}

#[test]
fn a_share_prints_its_url_alone() {
    let host = Scripted::start(|request| {
        let path = format!("POST /v1/sandboxes/{ID}/share/");
        assert!(matches!(request.line().strip_prefix(&path), Some("8080" | "1")));
        Answer::new(
            200,
            r#"{"url":"http://h/v1/shared/t/","host_url":"http://n/","expires_at_ms":5}"#,
        )
    })
    .unwrap();
    let cli = Cli::with(&host);
    let arguments = ["sandbox", "share", ID, "8080", "--expires", "2h"];
    assert_eq!(cli.run(&arguments).stdout, "http://h/v1/shared/t/\n");
    assert_eq!(host.seen().requests[0].body, r#"{"expires_in_seconds":7200}"#);
    let json: Value =
        serde_json::from_str(&cli.run(&["--json", "sandbox", "share", ID, "1"]).stdout).unwrap();
    assert_eq!(json["host_url"], "http://n/");
    assert_eq!(
        cli.run(&["sandbox", "share", ID, "1", "--expires", "8d"]).status,
        2
    );
    assert_eq!(cli.run(&["sandbox", "share", ID, "0"]).status, 2);
}
