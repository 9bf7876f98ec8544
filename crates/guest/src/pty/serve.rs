//! Requests about terminals, each carried out by the thread of its connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_proto::{
    FailureCode, PTY_OUTPUT_MAX, PTY_WAIT_MS_MAX, PtyName, PtyRead, PtyReply, PtyRequest, Reply,
};
use pod_types::ErrorChain;
use rustix::event::{PollFd, PollFlags};

use super::session::{Follower, InputError, News, Session};
use super::{Terminals, check};
use crate::children::Children;
use crate::connection::{Connection, ConnectionError, Stream};
use crate::poll;
use crate::services::{Config, failed};

/// After output was sent, more is left to gather for this long: a program that writes line by line costs a few hundred
/// packets a second, not a hundred thousand, and an echoed key is sent at once.
const GATHER: Duration = Duration::from_millis(2);

impl Terminals {
    /// Carries out one request, to its last reply.
    pub(crate) fn handle<S: Stream>(
        &self,
        children: &Arc<Children>,
        config: &Config,
        connection: &mut Connection<S>,
        request: PtyRequest,
    ) -> Result<(), ConnectionError> {
        let reply = match request {
            PtyRequest::Create(create) => match self.create(children, config, create) {
                Ok(()) => Reply::Done,
                Err(error) => failed(error.code(), ErrorChain(&error).to_string()),
            },
            PtyRequest::List => Reply::Pty(PtyReply::Sessions(self.list())),
            PtyRequest::Input { name, bytes } => self.with(name, |session| match session.input(&bytes) {
                Ok(()) => Reply::Done,
                Err(error @ InputError::Exited) => failed(FailureCode::BadRequest, error.to_string()),
                Err(error @ InputError::NotRead { .. }) => failed(FailureCode::Busy, error.to_string()),
            }),
            PtyRequest::Resize { name, size } => match check(size) {
                Err(error) => failed(error.code(), error.to_string()),
                Ok(()) => self.with(name, |session| match session.resize(size) {
                    Ok(()) => Reply::Done,
                    Err(error) => failed(FailureCode::Internal, format!("cannot set the size: {error}")),
                }),
            },
            PtyRequest::Kill { name } => self.with(name, |session| {
                session.kill();
                Reply::Done
            }),
            PtyRequest::Attach { name, since } => {
                return match self.follow(name, since) {
                    Ok(follower) => attach(connection, follower),
                    Err(reply) => connection.reply(&reply),
                };
            }
            PtyRequest::Read(wanted) => {
                return match self.follow(wanted.name, wanted.since) {
                    Ok(follower) => read(connection, follower, &wanted),
                    Err(reply) => connection.reply(&reply),
                };
            }
        };
        connection.reply(&reply)
    }

    fn with(&self, name: PtyName, work: impl FnOnce(&Arc<Session>) -> Reply) -> Reply {
        match self.find(name) {
            Some(session) => work(&session),
            None => failed(FailureCode::NotFound, "there is no such terminal".to_owned()),
        }
    }

    /// A follower, or why there is none.
    fn follow(&self, name: PtyName, since: u64) -> Result<Follower, Reply> {
        let mut follower = None;
        let reply = self.with(name, |session| match session.follow(since) {
            Ok(new) => {
                follower = Some(new);
                Reply::Done
            }
            Err(error) => failed(
                FailureCode::Internal,
                format!("cannot follow the terminal: {error}"),
            ),
        });
        follower.ok_or(reply)
    }
}

/// Sends what is kept and then what comes, until the program has exited or the host has had enough.
fn attach<S: Stream>(connection: &mut Connection<S>, mut follower: Follower) -> Result<(), ConnectionError> {
    connection.reply(&Reply::Done)?;
    loop {
        match follower.next(PTY_OUTPUT_MAX) {
            News::Output { seq, bytes } => {
                connection.reply(&Reply::Pty(PtyReply::Output { seq, bytes }))?;
                wait(connection, None, Some(Instant::now() + GATHER))?;
            }
            News::Exit(code) => return connection.reply(&Reply::Pty(PtyReply::Exit { code })),
            News::Nothing => wait(connection, Some(&follower), None)?,
        }
    }
}

/// Sends what there is, or what comes first within the time allowed.
fn read<S: Stream>(
    connection: &mut Connection<S>,
    mut follower: Follower,
    wanted: &PtyRead,
) -> Result<(), ConnectionError> {
    let wait_ms = wanted.wait_ms.min(PTY_WAIT_MS_MAX);
    let deadline = Instant::now() + Duration::from_millis(wait_ms.into());
    let max = usize::try_from(wanted.bytes_max)
        .unwrap_or(usize::MAX)
        .min(PTY_OUTPUT_MAX);
    let (seq, bytes, exit) = loop {
        match follower.next(max) {
            News::Output { seq, bytes } => break (seq, bytes, follower.exit_when_read()),
            News::Exit(code) => break (follower.position(), Vec::new(), Some(code)),
            News::Nothing if Instant::now() >= deadline => break (follower.position(), Vec::new(), None),
            News::Nothing => wait(connection, Some(&follower), Some(deadline))?,
        }
    };
    connection.push(&Reply::Pty(PtyReply::Output { seq, bytes }))?;
    connection.reply(&match exit {
        Some(code) => Reply::Pty(PtyReply::Exit { code }),
        None => Reply::Done,
    })
}

/// Until there is something new for the follower, the deadline has passed, or the host is gone: that is an error.
fn wait<S: Stream>(
    connection: &mut Connection<S>,
    follower: Option<&Follower>,
    deadline: Option<Instant>,
) -> Result<(), ConnectionError> {
    let host = PollFd::new(&*connection, PollFlags::IN | PollFlags::RDHUP);
    let mut fds = vec![host];
    fds.extend(follower.map(|follower| PollFd::new(follower, PollFlags::IN)));
    poll::wait(&mut fds, deadline)?;
    let host_spoke = !fds[0].revents().is_empty();
    drop(fds);
    if host_spoke { connection.attend() } else { Ok(()) }
}
