//! As little HTTP/1.1 client as the tests need.

use std::net::SocketAddr;

use api::{Event, EventData, EventKind};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::BOUND;

pub(super) struct Response {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(super) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    }

    /// The events of an exec, after a check of what holds for all of them.
    pub(super) fn events(&self) -> Vec<Event> {
        assert_eq!(self.status, 200, "{}", self.text());
        let text = self.text();
        let lines = text.lines().filter(|line| !line.is_empty());
        let events: Vec<Event> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        for (seq, event) in (0..).zip(&events) {
            assert_eq!(event.seq, seq);
        }
        assert_eq!(events.last().unwrap().kind, EventKind::Exit);
        events
    }

    pub(super) fn lines(&self, kind: EventKind) -> Vec<String> {
        let events = self.events().into_iter();
        events
            .filter(|event| event.kind == kind)
            .filter_map(|event| match event.data {
                EventData::Line(line) => Some(line),
                EventData::Code(_) => None,
            })
            .collect()
    }

    pub(super) fn exit(&self) -> i32 {
        match self.events().pop().unwrap().data {
            EventData::Code(code) => code,
            EventData::Line(line) => panic!("an exit code, not {line}"),
        }
    }
}

/// A connection that is kept.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let buffer = Vec::new();
        Self { stream, buffer }
    }

    pub(super) async fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        self.send_bytes(method, path, headers, body.as_bytes()).await;
    }

    pub(super) async fn send_bytes(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let len = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n{headers}\r\n");
        self.stream
            .write_all(&[head.as_bytes(), body].concat())
            .await
            .unwrap();
    }

    /// A part of a request.
    pub(super) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until the text has come.
    pub(super) async fn read_until(&mut self, text: &str) -> usize {
        loop {
            let at = self
                .buffer
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = at {
                return at + text.len();
            }
            self.more().await;
        }
    }

    pub(super) async fn response(&mut self) -> Response {
        let end = self.read_until("\r\n\r\n").await;
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
        };
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let end = self.read_until("\r\n").await;
                let size = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                while self.buffer.len() < size + 2 {
                    self.more().await;
                }
                response.body.extend(self.buffer.drain(..size));
                self.buffer.drain(..2);
                if size == 0 {
                    break;
                }
            }
        } else {
            let len = response
                .header("content-length")
                .map_or(0, |len| len.parse().unwrap());
            while self.buffer.len() < len {
                self.more().await;
            }
            response.body = self.buffer.drain(..len).collect();
        }
        response
    }

    async fn more(&mut self) {
        let read = timeout(BOUND, self.stream.read_buf(&mut self.buffer)).await;
        let count = read.expect("waited for the server to send").unwrap();
        assert_ne!(
            count,
            0,
            "the server closed: {:?}",
            String::from_utf8_lossy(&self.buffer)
        );
    }
}

pub(super) async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    let mut connection = Connection::open(address).await;
    connection.send(method, path, "", body).await;
    connection.response().await
}

pub(super) async fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path, "").await
}
