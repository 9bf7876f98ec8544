//! An agent, and a host that talks to it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use agent_proto::{Direction, ExecRequest, HEADER_LEN, Header, Identity, Language, Reply, Request};
use guest::{Config, Native, Reaping, Services};
use tempfile::TempDir;

use crate::transport::{Connections, Door};

/// Nothing here takes this long; a test that does hangs.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

/// Of the frames that carry a run's stdout.
const STDOUT_KIND: u8 = 68;

/// One agent with a home of its own; ends when dropped.
pub(crate) struct Rig {
    services: Arc<Services>,
    connections: Connections,
    directory: TempDir,
}

pub(crate) struct Host {
    stream: UnixStream,
    /// The name of its next runs.
    pub(crate) run: u64,
}

/// What a run has said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) code: i32,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_template(&[], &[])
    }

    pub(crate) fn with_template(imports: &[&str], warm_up: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let config = Config {
            python: python(),
            environment: vec![
                ("HOME".to_owned(), home.to_str().unwrap().to_owned()),
                ("PATH".to_owned(), std::env::var("PATH").unwrap()),
                ("LANG".to_owned(), "C.UTF-8".to_owned()),
                ("TMPDIR".to_owned(), directory.path().to_str().unwrap().to_owned()),
            ],
            home,
            imports: imports.iter().map(|&name| name.to_owned()).collect(),
            warm_up: warm_up.iter().map(|&line| line.to_owned()).collect(),
            ..Config::guest()
        };
        let services = Services::start(config, Native, Reaping::OwnOnly).unwrap();
        let listener = UnixListener::bind(directory.path().join("agent.sock")).unwrap();
        let connections = Connections::default();
        services.serve(Door::new(listener, connections.clone())).unwrap();
        Self {
            services,
            connections,
            directory,
        }
    }

    /// From here on this is the clone of the machine it was: connections to it are reset.
    pub(crate) fn clone_machine(&self) {
        self.connections.reset();
    }

    /// Whether the agent has let go of all that was reset.
    pub(crate) fn has_let_go(&self) -> bool {
        self.connections.are_gone()
    }

    /// Connections that the agent has not closed.
    pub(crate) fn connections(&self) -> usize {
        self.connections.count()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// A connection that has said nothing yet.
    pub(crate) fn stranger(&self) -> Host {
        let stream = UnixStream::connect(self.directory.path().join("agent.sock")).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        Host { stream, run: 1 }
    }

    pub(crate) fn host(&self) -> Host {
        let mut host = self.stranger();
        host.send(&Request::Hello {
            version: agent_proto::VERSION,
        });
        assert!(matches!(host.reply(), Reply::Welcome(_)));
        host
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.services.stop();
    }
}

impl Host {
    pub(crate) fn send(&mut self, request: &Request) {
        self.stream.write_all(&request.encode().unwrap()).unwrap();
    }

    /// Goes away as a host does whose client has gone away.
    pub(crate) fn cancel(mut self) {
        self.send(&Request::Cancel);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The connection itself.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply()
            .expect("the agent answers in time and keeps the connection")
    }

    pub(crate) fn try_reply(&mut self) -> std::io::Result<Reply> {
        let mut header = [0; HEADER_LEN];
        self.stream.read_exact(&mut header)?;
        let header = Header::decode(header, Direction::GuestToHost).unwrap();
        let mut body = vec![0; header.body_len];
        self.stream.read_exact(&mut body)?;
        Ok(Reply::decode(header.kind, body).unwrap())
    }

    pub(crate) fn begin(&mut self, language: Language, code: &str, timeout_ms: Option<u64>) {
        self.send(&Request::Exec(ExecRequest {
            language,
            run: self.run,
            timeout_ms,
            traceparent: None,
            code: code.to_owned(),
        }));
    }

    /// A run that belongs to a trace.
    pub(crate) fn traced(&mut self, language: Language, code: &str, traceparent: &str) -> Outcome {
        self.send(&Request::Exec(ExecRequest {
            language,
            run: self.run,
            timeout_ms: None,
            traceparent: Some(traceparent.to_owned()),
            code: code.to_owned(),
        }));
        self.finish()
    }

    #[track_caller]
    pub(crate) fn finish(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            match self.reply() {
                Reply::Stdout(bytes) => outcome.stdout.extend(bytes),
                Reply::Stderr(bytes) => outcome.stderr.extend(bytes),
                Reply::Exit(exit) => {
                    outcome.code = exit.code;
                    return outcome;
                }
                other => panic!("{other:?} in a run"),
            }
        }
    }

    /// Output up to the end of the connection, which comes in the middle of a run.
    pub(crate) fn read_whole_output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).unwrap();
        let (mut output, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((header, body)) = rest.split_first_chunk::<HEADER_LEN>() {
            let header = Header::decode(*header, Direction::GuestToHost).unwrap();
            assert_eq!(header.kind, STDOUT_KIND);
            // The last frame may be cut off.
            let (body, next) = body.split_at(header.body_len.min(body.len()));
            output.extend_from_slice(body);
            rest = next;
        }
        output
    }

    /// Waits for the first output that ends with `text`.
    #[track_caller]
    pub(crate) fn wait_for_output(&mut self, text: &str) {
        let mut got = Vec::new();
        while !got.ends_with(text.as_bytes()) {
            match self.reply() {
                Reply::Stdout(bytes) => got.extend(bytes),
                other => panic!("{other:?} while waiting for {text:?}"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn python(&mut self, code: &str) -> Outcome {
        self.begin(Language::Python, code, None);
        self.finish()
    }

    #[track_caller]
    pub(crate) fn bash(&mut self, code: &str) -> Outcome {
        self.begin(Language::Bash, code, None);
        self.finish()
    }

    #[track_caller]
    pub(crate) fn becomes_somebody(&mut self) {
        let reply = self.identify();
        assert!(matches!(reply, Reply::Time { .. }), "{reply:?}");
    }

    pub(crate) fn identify(&mut self) -> Reply {
        self.send(&Request::Identify(identity("sbx-1")));
        self.reply()
    }
}

pub(crate) fn identity(hostname: &str) -> Identity {
    Identity {
        hostname: hostname.to_owned(),
        machine_id: [7; 16],
        wall_clock_ns: Some(1),
        entropy: [9; 32],
    }
}

impl Outcome {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Succeeded, said exactly this, and nothing on stderr.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        assert_eq!(
            (self.out().as_str(), self.err().as_str(), self.code),
            (text, "", 0)
        );
    }

    /// Ended with this code, said nothing on stdout, and on stderr something that contains this.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, text: &str) {
        assert!(
            self.code == code && self.stdout.is_empty() && self.err().contains(text),
            "not code {code} with {text:?}: {} {:?}\n{}",
            self.code,
            self.out(),
            self.err()
        );
    }
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The interpreter itself: shims of version managers take longer than many a test.
fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let found = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .unwrap();
        PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
    };
    PYTHON.get_or_init(find).clone()
}

impl Host {
    /// Waits until a reply has begun to arrive.
    #[track_caller]
    pub(crate) fn wait_for_reply(&self) {
        eventually("a reply arrives", || self.has_reply());
    }

    /// Whether a reply has begun to arrive.
    pub(crate) fn has_reply(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(
            &self.stream,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut fds, Some(&now)).unwrap() == 1
    }
}
