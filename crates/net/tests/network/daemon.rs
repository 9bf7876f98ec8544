//! The network on a thread, and the daemon that commands it.

use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use egress::{Policy, Ranges};
use net::{Authority, AuthorityPem, BUFFER_BYTES_MAX, Network, Servers, Settings, Trust};
use net_proto::{Attach, Command, Counters, LogEntry, Outcome, Reply, Request, VERSION, WireId};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::guest::Guest;

pub(crate) struct Daemon {
    stream: UnixStream,
    next: u64,
    socket: std::path::PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
}

/// What it needs for secrets.
pub(crate) struct Tls {
    pub(crate) authority: AuthorityPem,
    pub(crate) trust: Trust,
}

/// What the test's servers need: loopback is open, and questions go to this resolver.
pub(crate) fn open_loopback(resolver: Option<SocketAddr>) -> Daemon {
    Daemon::start(loopback(), resolver)
}

pub(crate) fn loopback() -> Ranges {
    Ranges {
        open: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        ..Ranges::default()
    }
}

fn plain_settings() -> Settings {
    Settings {
        servers: Servers::fixed(Vec::new()),
        hosts: None,
        ranges: Ranges::default(),
        sockets_max: 10_000,
        buffer_bytes_max: BUFFER_BYTES_MAX,
        authority: None,
        trust: Trust::default(),
    }
}

pub(crate) fn policy(json: Value) -> Policy {
    Policy::from_json(&json).unwrap()
}

impl Daemon {
    pub(crate) fn start(ranges: Ranges, resolver: Option<SocketAddr>) -> Self {
        Self::start_with(ranges, resolver, None)
    }

    pub(crate) fn start_with(ranges: Ranges, resolver: Option<SocketAddr>, tls: Option<Tls>) -> Self {
        Self::start_with_hosts(ranges, resolver, tls, "")
    }

    /// On a machine with this `/etc/hosts`.
    pub(crate) fn start_with_hosts(
        ranges: Ranges,
        resolver: Option<SocketAddr>,
        tls: Option<Tls>,
        hosts: &str,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hosts_file = dir.path().join("hosts");
        std::fs::write(&hosts_file, hosts).unwrap();
        let settings = Settings {
            servers: Servers::fixed(resolver.into_iter().collect()),
            hosts: Some(hosts_file),
            ranges,
            authority: tls
                .as_ref()
                .map(|tls| Authority::from_pem(&tls.authority).unwrap()),
            trust: tls.map_or_else(Trust::default, |tls| tls.trust),
            ..plain_settings()
        };
        Self::run(dir, settings)
    }

    /// With so little memory for connections.
    pub(crate) fn start_with_buffers(ranges: Ranges, buffer_bytes_max: usize) -> Self {
        let settings = Settings {
            ranges,
            buffer_bytes_max,
            ..plain_settings()
        };
        Self::run(tempfile::tempdir().unwrap(), settings)
    }

    fn run(dir: TempDir, settings: Settings) -> Self {
        let socket = dir.path().join("control");
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut network = Network::new(listener, settings).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    network.turn(Some(Duration::from_millis(50))).unwrap();
                }
            })
        };
        Self {
            stream: UnixStream::connect(&socket).unwrap(),
            next: 1,
            socket,
            stop,
            thread: Some(thread),
            _dir: dir,
        }
    }

    /// Another daemon, instead of the one that there was.
    pub(crate) fn reconnect(&mut self) {
        self.stream = UnixStream::connect(&self.socket).unwrap();
    }

    pub(crate) fn guest(&mut self, wire: WireId, policy: Policy) -> Guest {
        self.attach(wire, policy, None)
    }

    /// A guest on a new wire.
    pub(crate) fn attach(&mut self, wire: WireId, policy: Policy, clone_of: Option<WireId>) -> Guest {
        Guest::new(self.attach_bare(wire, policy, clone_of))
    }

    /// The VM's end of a new wire.
    pub(crate) fn attach_bare(&mut self, wire: WireId, policy: Policy, clone_of: Option<WireId>) -> OwnedFd {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let attach = Command::Attach(Box::new(Attach {
            wire,
            policy,
            clone_of,
        }));
        assert_eq!(self.ask_with(attach, Some(theirs)), Outcome::Done);
        ours
    }

    pub(crate) fn set_policy(&mut self, wire: WireId, policy: Policy) {
        assert_eq!(self.ask(Command::SetPolicy { wire, policy }), Outcome::Done);
    }

    pub(crate) fn log(&mut self, wire: WireId) -> Vec<LogEntry> {
        let command = Command::Log {
            wire,
            after: 0,
            max: 1000,
        };
        match self.ask(command) {
            Outcome::Log(page) => page.entries,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn counters(&mut self, wire: WireId) -> Counters {
        match self.ask(Command::Stats { wire: Some(wire) }) {
            Outcome::Stats(stats) => stats.wires[0].counters,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ask(&mut self, command: Command) -> Outcome {
        self.ask_with(command, None)
    }

    fn ask_with(&mut self, command: Command, fd: Option<OwnedFd>) -> Outcome {
        let id = self.next;
        self.next += 1;
        let request = Request {
            version: VERSION,
            id,
            command,
        };
        let bytes = net_proto::encode(&request).unwrap();
        let mut sent = 0;
        if let Some(fd) = fd {
            let descriptors = [fd.as_fd()];
            let message = SendAncillaryMessage::ScmRights(&descriptors);
            let mut space = vec![MaybeUninit::uninit(); message.size()];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            assert!(ancillary.push(message));
            let parts = [IoSlice::new(&bytes)];
            sent = sendmsg(&self.stream, &parts, &mut ancillary, SendFlags::empty()).unwrap();
        }
        self.stream.write_all(&bytes[sent..]).unwrap();
        let mut read = Vec::new();
        loop {
            if let Some((reply, _)) = net_proto::decode::<Reply>(&read).unwrap() {
                assert_eq!(reply.id, id);
                return reply.outcome;
            }
            let mut buffer = [0; 16 * 1024];
            let count = self.stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "the network closed its control socket");
            read.extend(&buffer[..count]);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}
