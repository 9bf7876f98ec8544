//! A bash that was started before anybody needed it.
//!
//! To start one takes a millisecond on hardware, and seventy in a guest whose processor is emulated: more than all the
//! rest of a short run. So one waits, started and blocked in a read, and is replaced a moment after it was used. What
//! tells it from a fresh one is put right as it is given its code: the host name, the seed of `$RANDOM`, `$SECONDS`.
//!
//! ```text
//!   start ─ says that it is ready ─ reads the name of a file ─ file: what is put right, NUL, code, NUL ─ runs the code
//! ```
//!
//! The template's snapshot has one, and so do all of its clones. A run that finds none, or that needs anything
//! unusual, starts its own.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agent_proto::ExecRequest;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, setpriority_process};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::system::uname;

use super::Bash;
use crate::children::{Child, Children};
use crate::poll;
use crate::processes::Tick;
use crate::run::{Output, Writers};
use crate::services::Config;

/// What the waiting bash runs. It keeps to one line, so that lines of the code have their own numbers, and to no
/// variable but the one that `read` uses anyway.
const WAIT: &str = r#"echo; IFS= read -r REPLY || exit; { IFS= read -r -d '' REPLY; eval "$REPLY"; IFS= read -r -d '' REPLY; } <"$REPLY" || exit 126; exec </dev/null; eval "$REPLY""#;

/// Code of this length or more is not worth a copy in a variable.
const CODE_MAX: usize = 64 * 1024;
/// How long nobody has run bash before the next one is started. Whoever had an answer may ask again at once, and would
/// have to share the processor with it; a program that thinks in between finds it ready.
const REST: Duration = Duration::from_millis(400);
/// How long one may take to start. It starts with what nobody else wants of the processor.
const START_WAIT: Duration = Duration::from_secs(60);
/// From one that did not start until the next attempt.
const RETRY: Duration = Duration::from_secs(10);

/// Niceness while it starts, and when it has been given code.
const IDLE: i32 = 19;
const ORDINARY: i32 = 0;

/// Keeps one in stock.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    stock: Mutex<Stock>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Stock {
    spare: Option<Spare>,
    /// One is to be started at this moment.
    wanted: Option<Instant>,
    stopped: bool,
}

#[derive(Debug)]
struct Spare {
    child: Child,
    output: Output,
    /// Leads to its standard input.
    line: File,
    /// The directory it is in: its name may mean another one by now.
    home: Place,
}

/// Which directory a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    device: u64,
    inode: u64,
}

impl Spares {
    /// Starts the thread that keeps the stock.
    pub(crate) fn supervise(children: Arc<Children>, config: Config) -> io::Result<Arc<Self>> {
        let spares = Arc::new(Self::default());
        spares.lock().wanted = Some(Instant::now());
        let keeper = Arc::clone(&spares);
        thread::Builder::new()
            .name("bash-spare".to_owned())
            .spawn(move || keeper.keep(&children, &config))?;
        Ok(spares)
    }

    /// Gives the code of a run to the one in stock. `None` when there is none that would do.
    pub(super) fn run(&self, config: &Config, exec: &ExecRequest) -> Option<(Bash, Output)> {
        if exec.traceparent.is_some() || exec.code.len() >= CODE_MAX {
            return None;
        }
        let mut stock = self.lock();
        let Some(spare) = stock.spare.take() else {
            stock.rest();
            return None;
        };
        drop(stock);
        match spare.begin(config, &exec.code) {
            Ok(begun) => Some(begun),
            Err(spare) => {
                spare.discard();
                None
            }
        }
    }

    /// A run has ended: the next one should find a bash again.
    pub(crate) fn prepare(&self) {
        let mut stock = self.lock();
        if stock.spare.is_none() {
            stock.rest();
            self.changed.notify_all();
        }
    }

    /// Waits until there is one. Says whether there is.
    pub(crate) fn wait_until_ready(&self, bound: Duration) -> bool {
        let stock = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(stock, bound, |stock| stock.spare.is_none() && !stock.stopped);
        waited.unwrap_or_else(PoisonError::into_inner).0.spare.is_some()
    }

    pub(crate) fn stop(&self) {
        let mut stock = self.lock();
        stock.stopped = true;
        let spare = stock.spare.take();
        self.changed.notify_all();
        drop(stock);
        if let Some(spare) = spare {
            spare.discard();
        }
    }

    fn keep(&self, children: &Arc<Children>, config: &Config) {
        while self.wait_until_wanted() {
            let started = Spare::start(children, config);
            let mut stock = self.lock();
            match started {
                Ok(spare) if stock.stopped => {
                    drop(stock);
                    spare.discard();
                }
                Ok(spare) => {
                    stock.wanted = None;
                    stock.spare = Some(spare);
                    self.changed.notify_all();
                }
                // Runs go on without; perhaps somebody removed bash, or there is no memory.
                Err(_) => stock.wanted = Some(Instant::now() + RETRY),
            }
        }
    }

    /// `false` when there is no more to do.
    fn wait_until_wanted(&self) -> bool {
        let mut stock = self.lock();
        loop {
            if stock.stopped {
                return false;
            }
            stock = match stock
                .wanted
                .map(|at| at.saturating_duration_since(Instant::now()))
            {
                None => self.changed.wait(stock).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return true,
                Some(left) => {
                    let waited = self.changed.wait_timeout(stock, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stock {
    fn rest(&mut self) {
        self.wanted = Some(Instant::now() + REST);
    }
}

impl Spare {
    /// Starts one and waits until it waits.
    fn start(children: &Arc<Children>, config: &Config) -> io::Result<Self> {
        let home = Place::of(&config.home)?;
        let (output, Writers { stdout, stderr }) = Output::new()?;
        let (stdin, line) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = config.command(&config.bash);
        command
            .args(["-c", WAIT, "bash"])
            .process_group(0)
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr));
        let child = children.spawn(&mut command)?;
        // It holds copies of the ends that bash has.
        drop(command);
        let spare = Self {
            child,
            output,
            line: File::from(line),
            home,
        };
        match spare.settle() {
            Ok(()) => Ok(spare),
            Err(error) => {
                spare.discard();
                Err(error)
            }
        }
    }

    fn settle(&self) -> io::Result<()> {
        setpriority_process(Some(self.child.pid()), IDLE)?;
        let deadline = Instant::now() + START_WAIT;
        let stdout = self.output.stdout().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut fds = [PollFd::from_borrowed_fd(stdout, PollFlags::IN)];
        poll::wait(&mut fds, Some(deadline))?;
        if fds[0].revents().is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut byte = [0];
        match rustix::io::retry_on_intr(|| rustix::io::read(stdout, &mut byte))? {
            1 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Hands the code over; gives itself back when that is not possible, and then nothing of the code has run.
    fn begin(self, config: &Config, code: &str) -> Result<(Bash, Output), Self> {
        let Some(script) = self.script(config, code) else {
            return Err(self);
        };
        let started = Tick::now();
        let name = format!("/proc/{}/fd/{}\n", std::process::id(), script.as_raw_fd());
        // A pipe takes a line this short whole or not at all.
        if (&self.line).write_all(name.as_bytes()).is_err() {
            return Err(self);
        }
        let bash = Bash {
            child: self.child,
            started,
            script: Some(script),
        };
        Ok((bash, self.output))
    }

    /// What it shall read, when it is fit to.
    fn script(&self, config: &Config, code: &str) -> Option<File> {
        let alive = poll::ready_now(&self.child, PollFlags::IN).is_ok_and(|ready| ready.is_empty());
        let here = Place::of(&config.home).is_ok_and(|home| home == self.home);
        if !alive || !here || setpriority_process(Some(self.child.pid()), ORDINARY).is_err() {
            return None;
        }
        let corrections = corrections()?;
        let mut script = File::from(memfd_create("code", MemfdFlags::CLOEXEC).ok()?);
        let text = [corrections.as_bytes(), code.as_bytes(), b""].join(&0);
        script.write_all(&text).ok()?;
        Some(script)
    }

    fn discard(self) {
        self.child.signal(Signal::KILL);
        self.child.wait();
    }
}

impl Place {
    fn of(directory: &Path) -> io::Result<Self> {
        let metadata = directory.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// Assignments that make a bash that was started earlier, perhaps in another machine, what one would be that starts now.
/// `None` for a host name that would have to be quoted.
fn corrections() -> Option<String> {
    let uname = uname();
    let name = uname.nodename().to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !name.bytes().all(plain) {
        return None;
    }
    let mut seed = [0; 4];
    let filled = getrandom(&mut seed, GetRandomFlags::NONBLOCK).ok()?;
    (filled == seed.len()).then(|| {
        let seed = u32::from_ne_bytes(seed);
        format!("HOSTNAME={name} RANDOM={seed} SECONDS=0")
    })
}
