//! A terminal as a host uses it.

use agent_proto::{
    Failure, PtyCreate, PtyName, PtyProgram, PtyRead, PtyReply, PtyRequest, PtySession, PtySize, Reply,
    Request,
};

use crate::rig::{Host, Rig};

pub(crate) const SIZE: PtySize = PtySize {
    columns: 80,
    rows: 24,
};

/// A request for a shell command, to be changed where a test wants something else.
pub(crate) fn shell(name: u8, command: &str) -> PtyCreate {
    PtyCreate {
        name: [name; 16],
        program: PtyProgram::Shell(command.to_owned()),
        size: SIZE,
        environment: Vec::new(),
        directory: None,
        created_at_ms: 1_700_000_000_000 + u64::from(name),
    }
}

pub(crate) fn program(name: u8, arguments: &[&str]) -> PtyCreate {
    PtyCreate {
        program: PtyProgram::Arguments(arguments.iter().map(|&text| text.to_owned()).collect()),
        ..shell(name, "")
    }
}

/// What a follower has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Number of the first byte.
    pub(crate) start: Option<u64>,
    pub(crate) bytes: Vec<u8>,
    /// Bytes that were skipped in the middle.
    pub(crate) lost: u64,
    pub(crate) code: Option<i32>,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Number of the next byte.
    pub(crate) fn next(&self) -> u64 {
        self.start.unwrap_or(0) + self.lost + self.bytes.len() as u64
    }

    fn take(&mut self, reply: Reply) {
        match reply {
            Reply::Pty(PtyReply::Output { seq, bytes }) => {
                if self.start.is_none() {
                    self.start = Some(seq);
                }
                self.lost += seq - self.next();
                self.bytes.extend(bytes);
            }
            Reply::Pty(PtyReply::Exit { code }) => self.code = Some(code),
            other => panic!("{other:?} from a terminal"),
        }
    }
}

impl Host {
    pub(crate) fn pty(&mut self, request: PtyRequest) -> Reply {
        self.send(&Request::Pty(request));
        self.reply()
    }

    #[track_caller]
    pub(crate) fn done(&mut self, request: PtyRequest) {
        assert_eq!(self.pty(request), Reply::Done);
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, request: PtyRequest) -> Failure {
        match self.pty(request) {
            Reply::Failed(failure) => failure,
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    #[track_caller]
    pub(crate) fn attach(&mut self, name: u8, since: u64) -> Seen {
        self.done(PtyRequest::Attach {
            name: [name; 16],
            since,
        });
        Seen::default()
    }

    #[track_caller]
    pub(crate) fn type_in(&mut self, name: u8, bytes: &[u8]) {
        self.done(PtyRequest::Input {
            name: [name; 16],
            bytes: bytes.to_vec(),
        });
    }

    #[track_caller]
    pub(crate) fn kill(&mut self, name: u8) {
        self.done(PtyRequest::Kill { name: [name; 16] });
    }

    /// Reads on until the text has been seen.
    #[track_caller]
    pub(crate) fn see(&mut self, seen: &mut Seen, text: &str) {
        while !seen.text().contains(text) {
            assert_eq!(seen.code, None, "ended without {text:?}: {}", seen.text());
            seen.take(self.reply());
        }
    }

    /// Reads to the end.
    #[track_caller]
    pub(crate) fn see_all(&mut self, seen: &mut Seen) -> i32 {
        while seen.code.is_none() {
            seen.take(self.reply());
        }
        seen.code.unwrap()
    }

    /// Creates and reads to the end.
    #[track_caller]
    pub(crate) fn runs(&mut self, create: PtyCreate) -> (String, i32) {
        let name = create.name[0];
        self.done(PtyRequest::Create(create));
        let mut seen = self.attach(name, 0);
        let code = self.see_all(&mut seen);
        (seen.text(), code)
    }

    pub(crate) fn terminals(&mut self) -> Vec<PtySession> {
        match self.pty(PtyRequest::List) {
            Reply::Pty(PtyReply::Sessions(sessions)) => sessions,
            other => panic!("{other:?} instead of sessions"),
        }
    }

    /// One long-poll: number of the first byte, the bytes, and the exit code.
    #[track_caller]
    pub(crate) fn read_terminal(
        &mut self,
        name: u8,
        since: u64,
        bytes_max: u32,
        wait_ms: u32,
    ) -> (u64, Vec<u8>, Option<i32>) {
        let name: PtyName = [name; 16];
        let read = PtyRead {
            name,
            since,
            bytes_max,
            wait_ms,
        };
        let Reply::Pty(PtyReply::Output { seq, bytes }) = self.pty(PtyRequest::Read(read)) else {
            panic!("no output")
        };
        match self.reply() {
            Reply::Done => (seq, bytes, None),
            Reply::Pty(PtyReply::Exit { code }) => (seq, bytes, Some(code)),
            other => panic!("{other:?} after output"),
        }
    }
}

/// A host that follows a new terminal, and one that may do other things with it.
pub(crate) fn open(rig: &Rig, create: PtyCreate) -> (Host, Seen, Host) {
    let (mut follower, mut typist) = (rig.host(), rig.host());
    let name = create.name[0];
    typist.done(PtyRequest::Create(create));
    let seen = follower.attach(name, 0);
    (follower, seen, typist)
}
