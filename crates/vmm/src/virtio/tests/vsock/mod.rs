//! Streams between a guest, played by the test, and Unix sockets of the host.

mod connect;
mod flow;
mod hostile;

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::super::OwnFiles;
use super::super::driver::{Buffer, DATA};
use super::super::vsock::connection::BUFFER_BYTES;
use super::super::vsock::packet::{HEADER_BYTES, Header, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM};
use super::super::vsock::{Vsock, VsockConfig, VsockCounters, VsockError};
use super::{Guest, wait_for};

const RX: usize = 0;
const TX: usize = 1;
const EVENTS: usize = 2;
const GUEST_PORT: u32 = 1024;
const HOST_PORT: u32 = 1025;
const BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// Receive buffers as Linux makes them: one descriptor of 4 KiB for header and payload.
const RX_BYTES: usize = 4096;
const RX_BUFFERS: u64 = 16;
const RX_AREA: u64 = DATA;
const TX_AREA: u64 = DATA + 0x10_0000;
const TX_SLOT: u64 = 0x1_1000;
const TX_SLOTS: u64 = 8;

/// What the guest says it can buffer.
const GUEST_BUFFER: u32 = 64 * 1024;

/// A guest's side of the device: knows packets, but not what they mean.
struct Sockets {
    guest: Guest,
    rx: HashMap<u16, u64>,
    tx_slot: u64,
    tx_outstanding: u64,
    path: PathBuf,
    counters: Arc<VsockCounters>,
    dir: tempfile::TempDir,
}

impl Sockets {
    fn new() -> Self {
        let mut sockets = Self::without_buffers();
        (0..RX_BUFFERS).for_each(|at| sockets.post(RX_AREA + at * RX_BYTES as u64));
        sockets
    }

    fn without_buffers() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vsock.sock");
        let device = Vsock::bind(VsockConfig {
            guest_cid: 3,
            socket: path.clone(),
        })
        .unwrap();
        let counters = device.counters();
        let guest = Guest::start(device);
        Self {
            guest,
            rx: HashMap::new(),
            tx_slot: 0,
            tx_outstanding: 0,
            path,
            counters,
            dir,
        }
    }

    /// The device goes on as that of a clone, with a socket of its own.
    fn become_clone(&mut self) {
        self.path = self.dir.path().join("clone.sock");
        self.guest.become_clone(OwnFiles {
            vsock: Some(UnixListener::bind(&self.path).unwrap()),
            ..OwnFiles::default()
        });
    }

    /// The device has had its turn, and has sent nothing.
    #[track_caller]
    fn expect_quiet(&mut self) {
        // When it takes the second packet, its turn with the first one is over.
        for _ in 0..2 {
            let before = self.counters.tx_bytes.load(Ordering::SeqCst);
            let header = Header {
                src_port: 9,
                dst_port: 9,
                op: Op::Reset as u16,
                len: 1,
                ..to_host()
            };
            self.send(&header, &[0]);
            let taken = Arc::clone(&self.counters);
            wait_for("a packet to be taken", || {
                (taken.tx_bytes.load(Ordering::SeqCst) > before).then_some(())
            });
        }
        assert!(self.try_receive().is_none());
    }

    fn post(&mut self, address: u64) {
        let head = self
            .guest
            .driver
            .submit(RX, &[Buffer::writable(address, RX_BYTES)]);
        self.rx.insert(head, address);
    }

    fn try_receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let used = self.guest.driver.poll(RX)?;
        let address = self.rx.remove(&used.head).unwrap();
        let bytes = self.guest.driver.read(address, used.len as usize);
        let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
        let (header, payload) = (Header::from_bytes(header), payload.to_vec());
        assert_eq!(header.len as usize, payload.len());
        assert_eq!((header.dst_cid, header.kind), (3, TYPE_STREAM));
        self.post(address);
        Some((header, payload))
    }

    #[track_caller]
    fn receive(&mut self) -> (Header, Vec<u8>) {
        wait_for("a packet to the guest", || self.try_receive())
    }

    #[track_caller]
    fn expect(&mut self, op: Op) -> Header {
        let (header, _) = self.receive();
        assert_eq!(Op::from_wire(header.op), Some(op));
        header
    }

    /// Nothing comes: asked by way of a packet to nobody, whose reset would come after it.
    #[track_caller]
    fn expect_nothing(&mut self) {
        self.send(
            &Header {
                src_port: 9,
                dst_port: 9,
                op: Op::CreditUpdate as u16,
                ..to_host()
            },
            &[],
        );
        assert_eq!(self.expect(Op::Reset).dst_port, 9);
    }

    fn send(&mut self, header: &Header, payload: &[u8]) {
        while self.guest.driver.poll(TX).is_some() {
            self.tx_outstanding -= 1;
        }
        if self.tx_outstanding == TX_SLOTS {
            self.guest.wait_used(TX);
            self.tx_outstanding -= 1;
        }
        let at = TX_AREA + self.tx_slot * TX_SLOT;
        self.tx_slot = (self.tx_slot + 1) % TX_SLOTS;
        self.tx_outstanding += 1;
        self.guest.driver.write(at, &header.to_bytes());
        self.guest.driver.write(at + 0x1000, payload);
        let mut chain = vec![Buffer::readable(at, HEADER_BYTES)];
        if !payload.is_empty() {
            chain.push(Buffer::readable(at + 0x1000, payload.len()));
        }
        self.guest.driver.submit(TX, &chain);
    }

    fn host_connects(&mut self) -> UnixStream {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
            .write_all(format!("CONNECT {GUEST_PORT}\n").as_bytes())
            .unwrap();
        stream
    }

    fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.dir.path().join(format!("vsock.sock_{port}"))).unwrap()
    }

    /// A connection from the host, accepted.
    fn connected(&mut self) -> (UnixStream, End) {
        let mut stream = self.host_connects();
        let end = End::answer(&self.expect(Op::Request));
        self.send(&end.header(Op::Response, 0), &[]);
        let mut ok = vec![0; "OK 1073741824\n".len()];
        stream.read_exact(&mut ok).unwrap();
        assert_eq!(ok, format!("OK {}\n", end.host_port).as_bytes());
        (stream, end)
    }

    #[track_caller]
    fn wait_for_no_connections(&self) {
        let open = &self.counters.connections_open;
        wait_for("connections to end", || {
            (open.load(Ordering::SeqCst) == 0).then_some(())
        });
    }
}

/// The guest's end of one connection.
struct End {
    host_port: u32,
    guest_port: u32,
    taken: u32,
}

impl End {
    fn answer(header: &Header) -> Self {
        Self {
            host_port: header.src_port,
            guest_port: header.dst_port,
            taken: 0,
        }
    }

    fn header(&self, op: Op, len: usize) -> Header {
        Header {
            src_port: self.guest_port,
            dst_port: self.host_port,
            len: u32::try_from(len).unwrap(),
            op: op as u16,
            fwd_cnt: self.taken,
            ..to_host()
        }
    }

    fn shutdown(&self, flags: u32) -> Header {
        Header {
            flags,
            ..self.header(Op::Shutdown, 0)
        }
    }
}

fn to_host() -> Header {
    Header {
        src_cid: 3,
        dst_cid: 2,
        kind: TYPE_STREAM,
        buf_alloc: GUEST_BUFFER,
        ..Header::default()
    }
}

fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..len).map(step).collect()
}
