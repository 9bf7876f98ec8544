//! Moving bytes, and looking at the first.

use std::time::Duration;

use egress::{Name, NameVerdict, Policy};
use net_proto::Verdict;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use smoltcp::socket::tcp::{Socket, State};

use super::{Flow, Outside, Phase, Step, describe};
use crate::head::name_in_head;
use crate::hello::{Said, is_tls, name_in_hello};
use crate::link::Link;
use crate::outside::is_connected;
use crate::world::World;

/// First bytes in which a name is looked for.
const PROOF_BYTES_MAX: usize = 16 * 1024;

/// What speaks neither TLS nor HTTP shows that at once; what only begins like it waits so long for the rest.
pub(super) const WATCH_PATIENCE: Duration = Duration::from_secs(2);

/// What the log says where a name was missing.
const NO_PROOF_IN_TIME: &str =
    "no TLS server name and no HTTP host came in time, and only a name would be allowed";
const NO_PROOF: &str =
    "neither a TLS server name nor an HTTP host was sent, and only a name would be allowed";

impl Flow {
    /// Does what can be done now.
    pub(crate) fn step(&mut self, policy: &Policy, link: &mut Link, world: &mut World) -> Step {
        if world.now >= self.deadline()
            && !self.is_connecting()
            && let Some(step) = self.expire()
        {
            return step;
        }
        let step = match &mut self.phase {
            Phase::Waiting(_) | Phase::Resolving => Step::Keep,
            Phase::Connecting(_) => return self.step_connecting(world),
            Phase::Proving => self.prove(),
            Phase::Listening => self.listen(),
            Phase::Open => self.pump(policy, world),
            Phase::Serving(service) => {
                let Some(stack) = &mut self.stack else {
                    return Step::End;
                };
                if service.step(stack.socket()) {
                    self.moved = world.now;
                }
                Step::Keep
            }
        };
        let Some(stack) = &mut self.stack else { return step };
        stack.flush(link, world.clock, world.now);
        if !matches!(step, Step::Keep) {
            return step;
        }
        match stack.state() {
            State::Listen | State::SynSent | State::SynReceived => Step::Keep,
            State::Closed if self.is_finished() => Step::End,
            State::Closed => {
                // The guest broke it off, and the outside sees that too.
                if let Some(outside) = &self.outside {
                    crate::outside::reset_at_close(&outside.socket);
                }
                Step::End
            }
            // Nothing can be lost on a wire, so nobody needs to remember the end of a connection.
            State::TimeWait if self.is_finished() => Step::End,
            _ => Step::Keep,
        }
    }

    /// Whether the guest has finished connecting, if it had to.
    pub(crate) fn is_settled(&self) -> bool {
        let open = matches!(self.phase, Phase::Open | Phase::Serving(_));
        let state = self.stack.as_ref().map(|stack| stack.state());
        open && !matches!(state, None | Some(State::Listen | State::SynReceived))
    }

    fn is_finished(&self) -> bool {
        let Some(outside) = &self.outside else { return true };
        outside.ended && outside.shut
    }

    /// Time is up. None if that only ends a watch.
    fn expire(&mut self) -> Option<Step> {
        match &self.phase {
            Phase::Proving => Some(Step::Fail(Verdict::Denied, NO_PROOF_IN_TIME.to_owned())),
            Phase::Listening => Some(Step::Unnamed),
            Phase::Waiting(_) | Phase::Resolving | Phase::Connecting(_) => {
                Some(Step::Fail(Verdict::Failed, "it took too long".to_owned()))
            }
            Phase::Open if self.unproven.take().is_some() => None,
            Phase::Open | Phase::Serving(_) => Some(Step::Fail(
                Verdict::Allowed,
                "ended after a long time without data".to_owned(),
            )),
        }
    }

    fn step_connecting(&mut self, world: &mut World) -> Step {
        let Some(outside) = &self.outside else {
            return Step::End;
        };
        let late = world.now >= self.deadline();
        let error = match is_connected(&outside.socket) {
            Some(Ok(())) => {
                self.phase = Phase::Open;
                self.began = world.now;
                self.moved = world.now;
                return Step::Keep;
            }
            None if late => describe(Errno::TIMEDOUT),
            None => return Step::Keep,
            Some(Err(error)) => describe(error),
        };
        let Phase::Connecting(candidates) = &mut self.phase else {
            return Step::Keep;
        };
        let rest = std::mem::take(candidates);
        if rest.is_empty() {
            return Step::Fail(Verdict::Failed, error);
        }
        match self.connect(rest, world) {
            Ok(()) => Step::Keep,
            Err(why) => Step::Fail(Verdict::Failed, why),
        }
    }

    /// Waits for a name in the first bytes, which stay where they are.
    fn prove(&mut self) -> Step {
        let Some(stack) = &mut self.stack else {
            return Step::End;
        };
        let socket = stack.socket();
        match look(socket) {
            Said::Name(name) => Step::Proven {
                name,
                tls: begins_with_tls(socket),
            },
            Said::Unfinished if can_say_more(socket) => Step::Keep,
            Said::Unfinished | Said::Nothing => Step::Fail(Verdict::Denied, NO_PROOF.to_owned()),
        }
    }

    /// Waits for a name of a secret in the first bytes; without one it goes on all the same.
    fn listen(&mut self) -> Step {
        let Some(stack) = &mut self.stack else {
            return Step::End;
        };
        let socket = stack.socket();
        match look(socket) {
            Said::Name(name) => Step::Proven {
                name,
                tls: begins_with_tls(socket),
            },
            Said::Unfinished if can_say_more(socket) => Step::Keep,
            Said::Unfinished | Said::Nothing => Step::Unnamed,
        }
    }

    fn pump(&mut self, policy: &Policy, world: &World) -> Step {
        let port = self.key.to.port();
        let (Some(stack), Some(outside)) = (&mut self.stack, &mut self.outside) else {
            return Step::Keep;
        };
        let socket = stack.socket();
        let held = match &self.unproven {
            None => false,
            Some(_) if socket.recv_queue() == 0 => can_say_more(socket),
            Some(_) => match look(socket) {
                Said::Unfinished => can_say_more(socket),
                Said::Nothing => false,
                Said::Name(name) => match lie(policy, &name, port) {
                    None => false,
                    Some(why) => return Step::Fail(Verdict::Denied, why),
                },
            },
        };
        if !held {
            self.unproven = None;
        }
        let moved = move_all(socket, outside, held);
        match moved {
            Ok((up, down)) => {
                if up + down > 0 {
                    self.moved = world.now;
                }
                self.up += up;
                self.down += down;
                Step::Keep
            }
            Err(error) => {
                socket.abort();
                Step::Fail(Verdict::Allowed, describe(error))
            }
        }
    }
}

/// A name that was said though the connection is for another, and that is not allowed.
fn lie(policy: &Policy, name: &Name, port: u16) -> Option<String> {
    match policy.judge_name(name, port) {
        NameVerdict::Allowed { .. } => None,
        NameVerdict::Denied(reason) => Some(format!("it says that it is for {name}: {reason}")),
    }
}

fn look(socket: &mut Socket<'_>) -> Said {
    let Ok(bytes) = socket.peek(PROOF_BYTES_MAX) else {
        return Said::Unfinished;
    };
    if bytes.is_empty() {
        return Said::Unfinished;
    }
    if is_tls(bytes) {
        name_in_hello(bytes)
    } else {
        name_in_head(bytes)
    }
}

fn begins_with_tls(socket: &mut Socket<'_>) -> bool {
    socket.peek(1).is_ok_and(is_tls)
}

/// More bytes may come and there is room for them.
fn can_say_more(socket: &Socket<'_>) -> bool {
    let room = socket.recv_capacity().min(PROOF_BYTES_MAX);
    let open = matches!(
        socket.state(),
        State::Listen | State::SynReceived | State::Established | State::FinWait1 | State::FinWait2
    );
    open && socket.recv_queue() < room
}

/// Moves what there is and what has room, and passes on ends. Says how much went to the outside and how much came from it.
fn move_all(socket: &mut Socket<'_>, outside: &mut Outside, hold: bool) -> Result<(u64, u64), Errno> {
    let (mut up, mut down) = (0, 0);
    while !hold && outside.writable && socket.can_recv() {
        let fd = &outside.socket;
        let sent = socket.recv(
            |bytes| match send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            },
        );
        match sent {
            Ok(Ok(count)) => up += count as u64,
            Ok(Err(Errno::AGAIN)) => outside.writable = false,
            Ok(Err(Errno::INTR)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => break,
        }
    }
    let guest_finished = matches!(
        socket.state(),
        State::CloseWait | State::LastAck | State::Closing | State::TimeWait
    );
    if guest_finished && socket.recv_queue() == 0 && !outside.shut {
        outside.shut = true;
        // One that is gone is seen by the next read.
        let _ = shutdown(&outside.socket, Shutdown::Write);
    }
    while outside.readable && !outside.ended && socket.can_send() {
        let fd = &outside.socket;
        let read = socket.send(|room| match recv(fd, &mut *room, RecvFlags::DONTWAIT) {
            Ok((_, count)) => (count, Ok(count)),
            Err(error) => (0, Err(error)),
        });
        match read {
            Ok(Ok(0)) => {
                outside.ended = true;
                socket.close();
            }
            Ok(Ok(count)) => down += count as u64,
            Ok(Err(Errno::AGAIN)) => outside.readable = false,
            Ok(Err(Errno::INTR)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => break,
        }
    }
    Ok((up, down))
}
