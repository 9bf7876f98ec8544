//! A VM process and the daemon's side of its control socket.

use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};
use vmm_proto::{
    CloneConfig, CloneReport, Command, ConsoleConfig, DiskConfig, FromVmm, Outcome, Request, RestoreConfig,
    Stats, VERSION, VmConfig, VsockConfig,
};

use crate::agent::{Agent, PATIENCE};

const LOG_BYTES_MAX: u64 = 1 << 20;

/// Where the images are and what is to be tested, from the environment.
pub(crate) struct Lab {
    images: PathBuf,
    initrd: PathBuf,
    vmm: PathBuf,
    work: tempfile::TempDir,
}

/// One VM, in a directory of its own. The process belongs to the test only if the test started it.
pub(crate) struct Vm {
    pub(crate) dir: PathBuf,
    pub(crate) pid: u32,
    control: UnixStream,
    received: Vec<u8>,
    child: Option<Child>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let path = |name: &str, default: &str| {
            std::env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self {
            images: path("PODFLARE_TEST_IMAGES", "/images"),
            initrd: path("PODFLARE_TEST_INITRD", "/initrd.cpio"),
            vmm: path("PODFLARE_TEST_VMM", env!("CARGO_BIN_EXE_podflare-vmm")),
            work: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.work.path().join(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn base(&self) -> PathBuf {
        self.images.join("default.ext4")
    }

    /// A process without a VM.
    fn spawn(&self, name: &str) -> Vm {
        let dir = self.dir(name);
        let child = Process::new(&self.vmm)
            .args(["run", "--dir"])
            .arg(&dir)
            .spawn()
            .unwrap();
        let control = connect(&dir.join("control.sock"));
        Vm {
            dir,
            pid: child.id(),
            control,
            received: Vec::new(),
            child: Some(child),
        }
    }

    /// Boots a guest and waits until its agent is ready.
    pub(crate) fn boot(&self, name: &str, ram_mib: u32, vcpus: u8) -> Vm {
        let mut vm = self.spawn(name);
        let ready =
            UnixListener::bind(vm.dir.join(format!("vsock.sock_{}", agent_proto::READY_PORT))).unwrap();
        let config = VmConfig {
            vcpus,
            ram_mib,
            kernel: self.images.join("vmlinux"),
            initrd: self.initrd.clone(),
            kernel_arguments: String::new(),
            disk: DiskConfig {
                base: self.base(),
                layer: vm.dir.join("disk.layer"),
                size_bytes: fs::metadata(self.base()).unwrap().len(),
            },
            vsock: vsock(&vm.dir),
            console: console(&vm.dir),
        };
        assert_eq!(vm.ask(Command::Start(Box::new(config))), Outcome::Done);
        // The agent takes it for a failure when nobody reads what it says.
        let (stream, _) = ready.accept().unwrap();
        Agent::over(stream).receive().unwrap();
        vm
    }

    /// A process with the VM of a snapshot, paused.
    pub(crate) fn restore(&self, name: &str, snapshot: &Path, working_set: Option<PathBuf>) -> Vm {
        let (vm, outcome) = self.ask_to_restore(name, snapshot, working_set);
        assert_eq!(outcome, Outcome::Done);
        vm
    }

    /// What becomes of a snapshot that may be damaged.
    pub(crate) fn try_restore(&self, name: &str, snapshot: &Path) -> Outcome {
        self.ask_to_restore(name, snapshot, None).1
    }

    fn ask_to_restore(&self, name: &str, snapshot: &Path, working_set: Option<PathBuf>) -> (Vm, Outcome) {
        let mut vm = self.spawn(name);
        let config = RestoreConfig {
            snapshot: snapshot.to_owned(),
            working_set,
            base: self.base(),
            layer: vm.dir.join("disk.layer"),
            vsock: vsock(&vm.dir),
            console: console(&vm.dir),
        };
        let outcome = vm.ask(Command::Restore(Box::new(config)));
        (vm, outcome)
    }
}

impl Vm {
    pub(crate) fn agent(&self) -> Agent {
        Agent::connect(&self.dir.join("vsock.sock"))
    }

    pub(crate) fn stats(&mut self) -> Stats {
        match self.ask(Command::Stats) {
            Outcome::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ask(&mut self, command: Command) -> Outcome {
        self.ask_with(command, &[])
    }

    fn ask_with(&mut self, command: Command, files: &[OwnedFd]) -> Outcome {
        let bytes = vmm_proto::encode(&Request {
            version: VERSION,
            id: 1,
            command,
        })
        .unwrap();
        let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(129))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(files.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(&files)));
        let sent = rustix::net::sendmsg(
            &self.control,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::empty(),
        )
        .unwrap();
        self.control.write_all(&bytes[sent..]).unwrap();
        loop {
            if let Some((message, used)) = vmm_proto::decode(&self.received).unwrap() {
                self.received.drain(..used);
                match message {
                    FromVmm::Reply(reply) => return reply.outcome,
                    FromVmm::Event(event) => panic!("{event:?}"),
                }
            }
            let mut bytes = [0; 4096];
            let len = self.control.read(&mut bytes).unwrap();
            assert!(len > 0, "the VM process has closed its control connection");
            self.received.extend_from_slice(&bytes[..len]);
        }
    }

    /// Clones in directories under this VM's own, named `name`.0 and so on.
    pub(crate) fn clones(&mut self, lab: &Lab, name: &str, count: u8, run: bool) -> (Vec<Vm>, CloneReport) {
        let dirs: Vec<_> = (0..count)
            .map(|index| lab.dir(&format!("{name}.{index}")))
            .collect();
        let mut files = vec![file(&lab.work.path().join(format!("{name}.layer")))];
        for dir in &dirs {
            files.push(UnixListener::bind(dir.join("control.sock")).unwrap().into());
            files.push(UnixListener::bind(dir.join("vsock.sock")).unwrap().into());
            files.push(file(&dir.join("disk.layer")));
            files.push(file(&dir.join("console.log")));
            files.push(dead_wire());
        }
        let config = CloneConfig {
            count,
            run,
            console_log_bytes_max: LOG_BYTES_MAX,
        };
        let report = match self.ask_with(Command::Clone(config), &files) {
            Outcome::Cloned(report) => report,
            other => panic!("{other:?}"),
        };
        assert_eq!(report.error, None);
        let clones = dirs.into_iter().zip(&report.pids).map(|(dir, pid)| Vm {
            control: connect(&dir.join("control.sock")),
            dir,
            pid: *pid,
            received: Vec::new(),
            child: None,
        });
        (clones.collect(), report)
    }

    pub(crate) fn clone_one(&mut self, lab: &Lab, name: &str) -> Vm {
        self.clones(lab, name, 1, true).0.remove(0)
    }

    /// Ends the process without letting it do anything more.
    pub(crate) fn kill(mut self) {
        signal(self.pid);
        if let Some(child) = &mut self.child {
            child.wait().unwrap();
        }
        self.child = None;
    }

    /// What the process holds open, and how many threads and mappings it has.
    pub(crate) fn holdings(&self) -> (usize, usize, usize) {
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{}/{what}", self.pid))
                .unwrap()
                .count()
        };
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap();
        (count("fd"), count("task"), maps.lines().count())
    }

    /// What may explain a failure.
    fn tell(&self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let state = status
            .lines()
            .find(|line| line.starts_with("State"))
            .unwrap_or("gone");
        let console = fs::read(self.dir.join("console.log")).unwrap_or_default();
        let tail = &console[console.len().saturating_sub(2000)..];
        eprintln!(
            "process {}: {state}; console:\n{}",
            self.pid,
            String::from_utf8_lossy(tail)
        );
    }

    /// A field of `smaps_rollup`, in KiB.
    pub(crate) fn memory_kib(&self, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap();
        text.lines()
            .filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .map(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
            .sum()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        signal(self.pid);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
        // Taking a VM down takes longer than making one; what comes next shall not be measured with that.
        let deadline = Instant::now() + PATIENCE;
        while Path::new("/proc").join(self.pid.to_string()).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn signal(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended already.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn connect(path: &Path) -> UnixStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                assert!(Instant::now() < deadline, "no VM process listens");
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn file(path: &Path) -> OwnedFd {
    let options = File::options().read(true).write(true).create_new(true).open(path);
    options.unwrap().into()
}

/// A wire with nobody at its other end.
fn dead_wire() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .unwrap()
        .0
}

fn vsock(dir: &Path) -> VsockConfig {
    VsockConfig {
        guest_cid: 3,
        socket: dir.join("vsock.sock"),
    }
}

fn console(dir: &Path) -> ConsoleConfig {
    ConsoleConfig {
        log: dir.join("console.log"),
        log_bytes_max: LOG_BYTES_MAX,
    }
}
