//! TLS of the test: an authority and servers of its own, and a guest's client.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use smoltcp::iface::SocketHandle;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::guest::Guest;
use crate::outside::{noise, serve};

/// Signs for the test's servers.
pub(crate) struct Root(CertifiedIssuer<'static, KeyPair>);

impl Root {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server that has this name, and speaks HTTP/1.1 if the client likes.
    pub(crate) fn server(&self, name: &str) -> Server {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let (config, heads) = (Arc::new(config), Arc::new(Mutex::new(Vec::new())));
        let sent = Arc::new(Mutex::new(0));
        let address = {
            let (heads, sent) = (heads.clone(), sent.clone());
            serve("127.0.0.1:0", move |stream| {
                let tls = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(tls, stream);
                while let Some(()) = answer(&mut stream, &heads, &sent) {}
            })
        };
        Server {
            address,
            certificate,
            heads,
            sent,
        }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: CertificateDer<'static>,
    heads: Arc<Mutex<Vec<String>>>,
    /// Of what `/endless` is answered with.
    sent: Arc<Mutex<usize>>,
}

impl Server {
    /// Of requests that have come.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub(crate) fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }
}

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Answers a request with its own body.
fn answer(stream: &mut Stream, heads: &Mutex<Vec<String>>, sent: &Mutex<usize>) -> Option<()> {
    let head = read_head(|byte| stream.read_exact(byte).ok())?;
    heads.lock().unwrap().push(head.clone());
    let mut body = vec![0; length_in(&head)];
    stream.read_exact(&mut body).ok()?;
    if head.contains("/endless") {
        let header = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
        stream.write_all(header.as_bytes()).ok()?;
        loop {
            stream.write_all(&noise(64 * 1024)).ok()?;
            *sent.lock().unwrap() += 64 * 1024;
        }
    }
    if head.to_lowercase().contains("upgrade: echo") {
        let header = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(header.as_bytes()).ok()?;
        let mut buffer = [0; 1024];
        loop {
            let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            stream.write_all(&buffer[..count]).ok()?;
        }
    }
    if head.contains("/last") {
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
        return None;
    }
    let header = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(header.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

fn read_head(mut next: impl FnMut(&mut [u8]) -> Option<()>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        next(&mut byte)?;
        head.extend(byte);
    }
    String::from_utf8(head).ok()
}

pub(crate) fn length_in(head: &str) -> usize {
    let lower = head.to_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(0, |length| length.parse().unwrap())
}

/// A guest's connection.
pub(crate) struct Client {
    pub(crate) connection: SocketHandle,
    pub(crate) tls: ClientConnection,
    unsent: Vec<u8>,
    pub(crate) received: Vec<u8>,
    pub(crate) failure: Option<rustls::Error>,
}

impl Client {
    /// Begins with a handshake for a name, trusting these roots.
    pub(crate) fn new(
        guest: &mut Guest,
        to: SocketAddr,
        name: &str,
        roots: &[&str],
        protocols: &[&str],
    ) -> Self {
        let mut store = RootCertStore::empty();
        for root in roots {
            store
                .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
                .unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|text| text.as_bytes().to_vec()).collect();
        let name = name.to_owned().try_into().unwrap();
        Self {
            connection: guest.connect(to),
            tls: ClientConnection::new(Arc::new(config), name).unwrap(),
            unsent: Vec::new(),
            received: Vec::new(),
            failure: None,
        }
    }

    /// Moves what can be moved.
    pub(crate) fn step(&mut self, guest: &mut Guest) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.unsent).unwrap();
        }
        let socket = guest.tcp(self.connection);
        if socket.can_send() && !self.unsent.is_empty() {
            let count = socket.send_slice(&self.unsent).unwrap();
            self.unsent.drain(..count);
        }
        while self.failure.is_none() && socket.can_recv() {
            let tls = &mut self.tls;
            socket
                .recv(|bytes| (tls.read_tls(&mut &*bytes).unwrap(), ()))
                .unwrap();
            match tls.process_new_packets() {
                Ok(state) => {
                    let start = self.received.len();
                    self.received.resize(start + state.plaintext_bytes_to_read(), 0);
                    tls.reader().read_exact(&mut self.received[start..]).unwrap();
                }
                Err(error) => self.failure = Some(error),
            }
        }
    }

    #[track_caller]
    pub(crate) fn until_connected(&mut self, guest: &mut Guest) {
        guest.until("a handshake", |guest| {
            self.step(guest);
            assert_eq!(self.failure, None);
            !self.tls.is_handshaking()
        });
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.tls.set_buffer_limit(None);
        self.tls.writer().write_all(bytes).unwrap();
    }

    /// Takes so many bytes.
    #[track_caller]
    pub(crate) fn read(&mut self, guest: &mut Guest, count: usize) -> Vec<u8> {
        guest.until("data", |guest| {
            self.step(guest);
            assert_eq!(self.failure, None);
            self.received.len() >= count
        });
        self.received.drain(..count).collect()
    }

    /// Sends a request and takes its answer: the head and the body.
    #[track_caller]
    pub(crate) fn ask(&mut self, guest: &mut Guest, request: &[u8]) -> (String, Vec<u8>) {
        self.write(request);
        let head = self.head(guest);
        let body = self.read(guest, length_in(&head));
        (head, body)
    }

    /// Takes the head of an answer.
    #[track_caller]
    pub(crate) fn head(&mut self, guest: &mut Guest) -> String {
        let head = read_head(|byte| {
            byte.copy_from_slice(&self.read(guest, 1));
            Some(())
        });
        head.unwrap()
    }
}
