//! Terminals of a simulated guest: each runs one word instead of a program.

use std::io::ErrorKind;

use agent_proto::{
    Failure, FailureCode, PTY_OUTPUT_MAX, PtyCreate, PtyName, PtyProgram, PtyReply, PtyRequest, PtySession,
    Reply,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::{Duration, timeout};

use super::guest::Guest;

/// What is copied when the VM is cloned.
#[derive(Clone, Debug, Default)]
pub(super) struct Terminals(Vec<Terminal>);

#[derive(Clone, Debug)]
struct Terminal {
    name: PtyName,
    label: String,
    created_at_ms: u64,
    /// Number of the first byte of `output`.
    start: u64,
    output: Vec<u8>,
    exit: Option<i32>,
}

impl Guest {
    /// `None` when the connection is over.
    pub(super) async fn pty(&self, stream: &mut UnixStream, request: PtyRequest) -> Option<Vec<Reply>> {
        Some(match request {
            PtyRequest::Create(create) => vec![self.create_terminal(create).await],
            PtyRequest::List => {
                let memory = self.memory.lock().unwrap();
                let describe = |terminal: &Terminal| PtySession {
                    name: terminal.name,
                    label: terminal.label.clone(),
                    created_at_ms: terminal.created_at_ms,
                    exit_code: terminal.exit,
                };
                vec![Reply::Pty(PtyReply::Sessions(
                    memory.terminals.0.iter().map(describe).collect(),
                ))]
            }
            PtyRequest::Input { name, bytes } => vec![self.with(name, |terminal| match terminal.exit {
                Some(_) => failed(FailureCode::BadRequest, "the program has exited"),
                None if terminal.label == "deaf" => failed(FailureCode::Busy, "the program has read nothing"),
                None => {
                    terminal.output.extend(&bytes);
                    if bytes.ends_with(b"\x04") {
                        terminal.exit = Some(0);
                    }
                    Reply::Done
                }
            })],
            PtyRequest::Resize { name, size } => vec![self.with(name, |terminal| {
                let line = format!("{}x{}\n", size.columns, size.rows);
                terminal.output.extend(line.as_bytes());
                Reply::Done
            })],
            PtyRequest::Kill { name } => vec![self.with(name, |terminal| {
                terminal.exit.get_or_insert(137);
                Reply::Done
            })],
            PtyRequest::Read(wanted) => {
                let wait = Duration::from_millis(wanted.wait_ms.into());
                let has_news = self.wait_for_terminal(wanted.name, wanted.since);
                drop(timeout(wait, has_news).await);
                let found = self.look(wanted.name, wanted.since, wanted.bytes_max as usize);
                let Some((seq, bytes, exit)) = found else {
                    return Some(vec![self.with(wanted.name, |_| Reply::Done)]);
                };
                let end = exit.map_or(Reply::Done, |code| Reply::Pty(PtyReply::Exit { code }));
                vec![Reply::Pty(PtyReply::Output { seq, bytes }), end]
            }
            PtyRequest::Attach { name, since } => {
                let attached = self.with(name, |_| Reply::Done);
                if attached != Reply::Done {
                    return Some(vec![attached]);
                }
                stream.write_all(&attached.encode().unwrap()).await.ok()?;
                self.follow_terminal(stream, name, since).await?
            }
        })
    }

    /// Sends what comes; the last reply is left to the caller.
    async fn follow_terminal(
        &self,
        stream: &mut UnixStream,
        name: PtyName,
        mut next: u64,
    ) -> Option<Vec<Reply>> {
        loop {
            let (seq, bytes, exit) = self.look(name, next, PTY_OUTPUT_MAX)?;
            next = seq + bytes.len() as u64;
            if !bytes.is_empty() {
                let output = Reply::Pty(PtyReply::Output { seq, bytes });
                stream.write_all(&output.encode().unwrap()).await.ok()?;
            }
            if let Some(code) = exit {
                return Some(vec![Reply::Pty(PtyReply::Exit { code })]);
            }
            tokio::select! {
                () = self.wait_for_terminal(name, next) => {}
                // Nothing comes from a host that follows but the end of the connection.
                () = closed(stream) => {
                    return None;
                }
            }
        }
    }

    async fn create_terminal(&self, create: PtyCreate) -> Reply {
        let PtyProgram::Shell(word) = create.program else {
            return failed(FailureCode::BadRequest, "the simulation executes nothing");
        };
        let mut terminal = Terminal {
            name: create.name,
            created_at_ms: create.created_at_ms,
            start: 0,
            output: Vec::new(),
            exit: None,
            label: word.clone(),
        };
        match word.split_once(' ').unwrap_or((&word, "")) {
            ("cat" | "deaf", _) => {}
            ("missing", _) => return failed(FailureCode::BadRequest, "there is no such program"),
            ("say", text) => terminal.output.extend(text.as_bytes()),
            ("exit", code) => terminal.exit = Some(code.parse().unwrap()),
            // So many bytes, of which only the last few are kept.
            ("long", count) => {
                terminal.start = count.parse::<u64>().unwrap() - 3;
                terminal.output.extend(b"end");
            }
            (other, _) => panic!("{other} is no word of the simulation"),
        }
        self.memory.lock().unwrap().terminals.0.push(terminal);
        Reply::Done
    }

    async fn wait_for_terminal(&self, name: PtyName, since: u64) {
        let mut news = self.terminal_news.subscribe();
        loop {
            match self.look(name, since, usize::MAX) {
                Some((_, bytes, None)) if bytes.is_empty() => news.changed().await.unwrap(),
                _ => return,
            }
        }
    }

    /// Number of the first byte, the bytes, and the exit code behind the last of them.
    fn look(&self, name: PtyName, since: u64, max: usize) -> Option<(u64, Vec<u8>, Option<i32>)> {
        let memory = self.memory.lock().unwrap();
        let terminal = memory.terminals.0.iter().find(|terminal| terminal.name == name)?;
        let end = terminal.start + terminal.output.len() as u64;
        let seq = since.clamp(terminal.start, end);
        let rest = &terminal.output[usize::try_from(seq - terminal.start).unwrap()..];
        let bytes = rest[..rest.len().min(max)].to_vec();
        let exit = terminal.exit.filter(|_| bytes.len() == rest.len());
        Some((seq, bytes, exit))
    }

    fn with(&self, name: PtyName, work: impl FnOnce(&mut Terminal) -> Reply) -> Reply {
        let mut memory = self.memory.lock().unwrap();
        let found = memory
            .terminals
            .0
            .iter_mut()
            .find(|terminal| terminal.name == name);
        let reply = found.map_or_else(|| failed(FailureCode::NotFound, "no such terminal"), work);
        drop(memory);
        self.terminal_news.send_replace(());
        reply
    }
}

async fn closed(stream: &UnixStream) {
    loop {
        stream.readable().await.unwrap();
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            end => return assert_eq!(end.unwrap_or(0), 0),
        }
    }
}

fn failed(code: FailureCode, message: &str) -> Reply {
    let message = message.to_owned();
    Reply::Failed(Failure { code, message })
}
