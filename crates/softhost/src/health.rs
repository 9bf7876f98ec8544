//! Asks the API whether it is well: `GET /v1/healthz` answers `200` with the text `ok`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Most bytes read of an answer.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Whether the API on this port of 127.0.0.1 is well, asked once.
#[must_use]
pub fn is_well(port: u16, limit: Duration) -> bool {
    ask(port, limit).is_ok_and(|answer| is_ok(&answer))
}

fn ask(port: u16, limit: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let request = format!(
        "GET /v1/healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: podflare-up\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    // Read until the answer is whole rather than to the end, which a server may keep open.
    while !is_ok(&answer) && (answer.len() as u64) < ANSWER_BYTES_MAX {
        match stream.read(&mut part)? {
            0 => break,
            len => answer.extend_from_slice(&part[..len]),
        }
    }
    Ok(answer)
}

fn is_ok(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut status = head.split(' ');
    status
        .next()
        .is_some_and(|version| version.starts_with("HTTP/1."))
        && status.next() == Some("200")
        && body.trim() == "ok"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn only_a_plain_ok_is_well() {
        assert!(is_ok(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"));
        assert!(!is_ok(b"HTTP/1.1 200 OK\r\n\r\n\"ok\""));
        assert!(!is_ok(b"HTTP/1.1 503 Service Unavailable\r\n\r\nok"));
        assert!(!is_ok(b"HTTP/1.1 200 OK\r\n"));
        assert!(!is_ok(b"\xff\xfe"));
    }

    #[test]
    fn a_server_that_keeps_the_connection_open_is_well_and_a_silent_one_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            first.write_all(b"HTTP/1.1 200 OK\r\n\r\nok").unwrap();
            let second = listener.accept().unwrap();
            (first, second, listener)
        });
        assert!(is_well(port, Duration::from_secs(120)));
        assert!(!is_well(port, Duration::from_millis(50)));
        drop(server.join().unwrap());
        assert!(!is_well(port, Duration::from_millis(50)));
    }
}
