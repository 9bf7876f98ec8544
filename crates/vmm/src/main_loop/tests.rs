//! The process as a daemon sees it, up to the point where KVM is needed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmm_proto::{Command, ConsoleConfig, DiskConfig, Outcome, Reply, Request, Stats, VmState, VsockConfig};

use super::*;
use crate::virtio::net;

/// A process under test; its main loop runs on a thread.
struct Process {
    dir: tempfile::TempDir,
    thread: JoinHandle<Result<EndReport, RunError>>,
}

impl Process {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let mut main_loop = MainLoop::new()?;
            main_loop.listen(&socket)?;
            ready.send(()).unwrap();
            main_loop.run()
        });
        is_ready.recv().unwrap();
        Self { dir, thread }
    }

    fn connect(&self) -> Daemon {
        let stream = UnixStream::connect(self.dir.path().join("control.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Daemon {
            stream,
            received: Vec::new(),
        }
    }
}

struct Daemon {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Daemon {
    fn ask(&mut self, command: Command) -> Outcome {
        self.send(vmm_proto::VERSION, command);
        match self.receive() {
            Some(FromVmm::Reply(reply)) => reply.outcome,
            other => panic!("expected a reply, got {other:?}"),
        }
    }

    fn send(&mut self, version: u16, command: Command) {
        let request = Request {
            version,
            id: 7,
            command,
        };
        self.stream
            .write_all(&vmm_proto::encode(&request).unwrap())
            .unwrap();
    }

    /// The next message; `None` when the connection is closed.
    fn receive(&mut self) -> Option<FromVmm> {
        loop {
            if let Some((message, used)) = vmm_proto::decode(&self.received).unwrap() {
                self.received.drain(..used);
                return Some(message);
            }
            let mut bytes = [0; 1024];
            let len = self.stream.read(&mut bytes).unwrap();
            if len == 0 {
                return None;
            }
            self.received.extend_from_slice(&bytes[..len]);
        }
    }
}

fn config(dir: &Path) -> VmConfig {
    let missing = || PathBuf::from("/nonexistent");
    VmConfig {
        vcpus: 0,
        ram_mib: 128,
        kernel: missing(),
        initrd: missing(),
        kernel_arguments: String::new(),
        disk: DiskConfig {
            base: missing(),
            layer: dir.join("layer"),
            size_bytes: 4096,
        },
        vsock: VsockConfig {
            guest_cid: 3,
            socket: dir.join("vsock.sock"),
        },
        console: ConsoleConfig {
            log: dir.join("console.log"),
            log_bytes_max: 4096,
        },
    }
}

#[test]
fn a_process_without_a_vm_answers_and_can_be_stopped() {
    let process = Process::start();
    let (mut first, mut second) = (process.connect(), process.connect());
    assert!(matches!(
        first.ask(Command::Stats),
        Outcome::Stats(Stats {
            state: VmState::Unstarted,
            ..
        })
    ));
    assert!(matches!(second.ask(Command::Pause), Outcome::Failed(_)));
    assert!(matches!(second.ask(Command::Wire), Outcome::Failed(_)));
    assert_eq!(first.ask(Command::Stop), Outcome::Done);
    for daemon in [&mut first, &mut second] {
        let ended = daemon.receive();
        assert!(
            matches!(&ended, Some(FromVmm::Event(Event::Ended(report))) if report.cause == EndCause::Stopped),
            "{ended:?}"
        );
    }
    assert_eq!(process.thread.join().unwrap().unwrap().cause, EndCause::Stopped);
}

#[test]
fn a_vm_that_cannot_be_built_is_refused_and_the_process_lives_on() {
    let process = Process::start();
    let mut daemon = process.connect();
    let start = Command::Start(Box::new(config(process.dir.path())));
    for _ in 0..2 {
        let outcome = daemon.ask(start.clone());
        assert!(
            matches!(&outcome, Outcome::Failed(why) if why.contains("0 vCPUs")),
            "{outcome:?}"
        );
    }
    assert_eq!(daemon.ask(Command::Stop), Outcome::Done);
    process.thread.join().unwrap().unwrap();
}

#[test]
fn a_wire_is_one_socket_of_messages() {
    let (wire, _end) = net::pair().unwrap();
    handle::wire_of(vec![wire]).unwrap();
    let came: Vec<_> = vec![
        vec![],
        vec![UnixStream::pair().unwrap().0.into()],
        vec![net::pair().unwrap().0, net::pair().unwrap().0],
    ];
    let refused: Vec<_> = came
        .into_iter()
        .map(|files| handle::wire_of(files).unwrap_err())
        .collect();
    assert_eq!(
        refused,
        [
            "0 descriptors came instead of one",
            "the descriptor is not a Unix socket of messages in sequence",
            "2 descriptors came instead of one",
        ]
    );
}

#[test]
fn whoever_breaks_the_protocol_loses_only_its_own_connection() {
    let process = Process::start();
    let (mut rude, mut polite) = (process.connect(), process.connect());
    rude.stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert_eq!(rude.receive(), None);
    polite.send(vmm_proto::VERSION + 1, Command::Stop);
    let refused = polite.receive();
    assert!(
        matches!(&refused, Some(FromVmm::Reply(Reply { id: 7, outcome: Outcome::Failed(why) })) if why.contains("version")),
        "{refused:?}"
    );
    assert_eq!(polite.ask(Command::Stop), Outcome::Done);
    process.thread.join().unwrap().unwrap();
}

#[test]
fn a_second_process_does_not_take_the_socket_of_a_living_one() {
    let process = Process::start();
    let socket = process.dir.path().join("control.sock");
    let refused = MainLoop::new().unwrap().listen(&socket);
    assert!(
        matches!(refused, Err(RunError::Control(ControlError::InUse { .. }))),
        "{refused:?}"
    );
    assert_eq!(process.connect().ask(Command::Stop), Outcome::Done);
    process.thread.join().unwrap().unwrap();
    // What a crashed process leaves behind is replaced.
    MainLoop::new().unwrap().listen(&socket).unwrap();
}
