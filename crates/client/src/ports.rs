//! Ports of sandboxes: what listens, URLs for others, and connections.
//!
//! A connection to a port is an upgrade of one to the host, which the HTTP library in use here does not do; so its head is
//! written and read by hand.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use api::{PortInfo, PortList, ShareRequest, SharedPort};
use pod_types::SandboxId;

use crate::client::{Client, NOTHING};
use crate::error::ClientError;
use crate::transport::{Call, StatusCode};

/// A loopback host answers a connection at once; a remote one within a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The host itself gives a connection to a port up before this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest head of an answer, and longest body of a refusal, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: u64 = 64 * 1024;

impl Client {
    /// What listens in a sandbox, by port and address.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ports(&self, id: SandboxId) -> Result<Vec<PortInfo>, ClientError> {
        let path = format!("/v1/sandboxes/{id}/ports");
        let call = Call::new("GET", &path, "listing ports");
        let list: PortList = self.transport.json(call, NOTHING)?;
        Ok(list.ports)
    }

    /// A URL that leads to a port without a key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn share_port(
        &self,
        id: SandboxId,
        port: u16,
        request: &ShareRequest,
    ) -> Result<SharedPort, ClientError> {
        let path = format!("/v1/sandboxes/{id}/share/{port}");
        let call = Call::new("POST", &path, "sharing a port");
        self.transport.json(call, Some(request))
    }

    /// Connects to a port: the program's bytes, each direction with its own end.
    ///
    /// # Errors
    /// [`ClientError`]; one that is refused says why.
    pub fn tunnel(&self, id: SandboxId, port: u16) -> Result<TcpStream, ClientError> {
        let path = format!("/v1/sandboxes/{id}/tunnel/{port}");
        let call = Call::new("GET", &path, "connecting to a port");
        let stream = self.dial()?;
        let broken = |error: io::Error| self.transport.broken(call, error);
        self.ask(&stream, &path).map_err(broken)?;
        let head = read_head(&stream).map_err(broken)?;
        let Some(status) = status_of(&head) else {
            return Err(self.transport.not_podflare(call, "no answer in HTTP"));
        };
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let mut text = String::new();
            let len = length_of(&head).min(BODY_BYTES_MAX);
            // Without its text its status still says something.
            drop((&stream).take(len).read_to_string(&mut text));
            return Err(self.transport.refusal(call, status, &text));
        }
        stream.set_read_timeout(None).map_err(broken)?;
        Ok(stream)
    }

    /// A connection to the host.
    fn dial(&self) -> Result<TcpStream, ClientError> {
        let unreachable = |error: io::Error| ClientError::Unreachable {
            url: self.url().to_owned(),
            source: error.into(),
        };
        let (authority, _) = self.place();
        let with_port = if has_port(authority) {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in with_port.to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }

    fn ask(&self, mut stream: &TcpStream, path: &str) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let (authority, prefix) = self.place();
        let key = match self.transport.key() {
            Some(key) => format!("authorization: Bearer {key}\r\n"),
            None => String::new(),
        };
        let head = format!(
            "GET {prefix}{path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: podflare/{}\r\nconnection: upgrade\r\nupgrade: \
             podflare-tcp\r\n{key}\r\n",
            env!("CARGO_PKG_VERSION")
        );
        stream.write_all(head.as_bytes())
    }

    /// The host's name with its port, and the path before those of the API.
    fn place(&self) -> (&str, &str) {
        let url = self.url();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }
}

/// One byte after the other: what comes after the head is the program's.
fn read_head(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(io::Error::other("the head of the answer has no end"));
        }
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(head)
}

fn status_of(head: &[u8]) -> Option<StatusCode> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// How long the body is: a connection that is kept has no end that would tell.
fn length_of(head: &[u8]) -> u64 {
    let head = String::from_utf8_lossy(head);
    let mut lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then_some(value.trim())
    });
    lengths.next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn has_port(authority: &str) -> bool {
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    #[test]
    fn a_place_is_a_name_with_its_port_and_a_prefix() {
        let place = |url: &str| {
            let client = Client::new(Endpoint::new(url, None).unwrap());
            let (authority, prefix) = client.place();
            (authority.to_owned(), prefix.to_owned())
        };
        let pair = |authority: &str, prefix: &str| (authority.to_owned(), prefix.to_owned());
        assert_eq!(place("http://127.0.0.1:7070"), pair("127.0.0.1:7070", ""));
        assert_eq!(place("http://[::1]:7070/r/eu"), pair("[::1]:7070", "/r/eu"));
        assert!(has_port("a:1") && has_port("[::1]:1") && !has_port("[::1]") && !has_port("a"));
    }

    #[test]
    fn a_status_is_in_the_first_line() {
        assert_eq!(
            status_of(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            Some(StatusCode::SWITCHING_PROTOCOLS)
        );
        for other in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 x",
            b"HTTP/1.1 1\xc3\xa9\r\n\r\n",
        ] {
            assert_eq!(status_of(other), None);
        }
        assert_eq!(length_of(b"HTTP/1.1 404 X\r\nContent-Length: 12\r\n\r\n"), 12);
        assert_eq!(length_of(b"HTTP/1.1 404 X\r\n\r\n"), 0);
    }
}
