//! The host's side of the agent protocol, as little as the tests need of it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use agent_proto::{
    AGENT_PORT, Direction, ExecRequest, HEADER_LEN, Header, Identity, Language, Reply, Request, VERSION,
};

/// How long a guest may take for an answer: an emulated one on a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Agent {
    stream: BufReader<UnixStream>,
}

impl Agent {
    pub(crate) fn connect(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(format!("CONNECT {AGENT_PORT}\n").as_bytes())
            .unwrap();
        let mut agent = Self {
            stream: BufReader::new(stream),
        };
        let mut line = String::new();
        agent.stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("OK "), "{line:?}");
        let welcome = agent.ask(&Request::Hello { version: VERSION });
        assert!(matches!(welcome, Reply::Welcome(_)), "{welcome:?}");
        agent
    }

    /// On a connection the guest has made.
    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn identify(&mut self, name: &str) {
        let mut entropy = [0; 32];
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut entropy).unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let identity = Identity {
            hostname: name.to_owned(),
            machine_id: entropy[..16].try_into().unwrap(),
            wall_clock_ns: Some(now.as_nanos().try_into().unwrap()),
            entropy,
        };
        let reply = self.ask(&Request::Identify(identity));
        assert!(matches!(reply, Reply::Time { .. }), "{reply:?}");
    }

    /// Runs code and returns what it printed.
    pub(crate) fn run(&mut self, language: Language, code: &str) -> String {
        self.send(&Request::Exec(ExecRequest {
            run: 1,
            language,
            timeout_ms: None,
            traceparent: None,
            code: code.to_owned(),
        }));
        let mut output = Vec::new();
        loop {
            match self.receive().unwrap() {
                Reply::Stdout(bytes) | Reply::Stderr(bytes) => output.extend(bytes),
                Reply::Exit(_) => return String::from_utf8(output).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn python(&mut self, code: &str) -> String {
        self.run(Language::Python, code)
    }

    pub(crate) fn bash(&mut self, code: &str) -> String {
        self.run(Language::Bash, code)
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Reply {
        self.send(request);
        self.receive().unwrap()
    }

    fn send(&mut self, request: &Request) {
        self.stream
            .get_mut()
            .write_all(&request.encode().unwrap())
            .unwrap();
    }

    /// The next frame, or why there is none.
    pub(crate) fn receive(&mut self) -> io::Result<Reply> {
        let mut header = [0; HEADER_LEN];
        self.stream.read_exact(&mut header)?;
        let header = Header::decode(header, Direction::GuestToHost).unwrap();
        let mut body = vec![0; header.body_len];
        self.stream.read_exact(&mut body)?;
        Ok(Reply::decode(header.kind, body).unwrap())
    }
}
