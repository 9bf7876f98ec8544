//! Questions on their way to the host's resolvers.
//!
//! ```text
//!  ask ──▶ hosts ──▶ cache ──▶ answer
//!                      └─▶ UDP to the first resolver ── cut ──▶ TCP to the same ──▶ answer
//!                              └─ silent, or useless ──▶ the next one … ──▶ no answer
//! ```

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use slab::Slab;

use super::cache::{Cache, KEPT_BYTES_MAX};
use super::hosts::Hosts;
use super::message::{Answer, Key, Query};
use super::servers::{SERVERS_MAX, Servers};
use crate::outside;
use crate::poll::{Poll, Token};
use crate::timers::{Timer, Timers};

/// Questions on their way, of all wires and of each.
const QUESTIONS_MAX: usize = 1024;
pub(crate) const QUESTIONS_OF_WIRE_MAX: u32 = 96;

/// How long one resolver gets. Each is asked twice.
const PATIENCE: Duration = Duration::from_millis(2500);
const ROUNDS: usize = 2;

pub(crate) struct Resolver {
    servers: Servers,
    hosts: Hosts,
    cache: Cache,
    questions: Slab<Question>,
    answered: Vec<Answered>,
}

/// On behalf of whom a question is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Slot of the wire, and its number, since slots are used again.
    pub(crate) wire: u32,
    pub(crate) wire_serial: u64,
    pub(crate) want: Want,
}

#[derive(Clone, Debug)]
pub(crate) enum Want {
    /// An answer for a datagram of the guest's.
    Datagram { from: SocketAddr, to: SocketAddr },
    /// An answer on a connection of the guest's to the gateway.
    Stream { flow: u32, serial: u64 },
    /// Addresses to connect to.
    Connect { flow: u32, serial: u64 },
}

/// The end of a question.
pub(crate) struct Answered {
    pub(crate) asked: Asked,
    pub(crate) query: Query,
    /// None when no resolver answered.
    pub(crate) answer: Option<Answer>,
}

struct Question {
    asked: Asked,
    query: Query,
    key: Option<Key>,
    id: u16,
    /// How often a resolver was asked; says which one is next.
    attempts: usize,
    server: SocketAddr,
    way: Way,
    timer: Option<Instant>,
}

enum Way {
    /// Nobody could be asked yet.
    None,
    Udp(OwnedFd),
    Tcp {
        socket: OwnedFd,
        unsent: Vec<u8>,
        read: Vec<u8>,
    },
}

/// What a look at a question's socket has shown.
enum Step {
    Wait,
    /// The answer, and how long it was.
    Answer(Answer, usize),
    /// It did not fit into a datagram.
    Cut,
    /// This resolver will not answer.
    Next,
}

impl Resolver {
    pub(crate) fn new(servers: Servers, hosts: Hosts) -> Self {
        Self {
            servers,
            hosts,
            cache: Cache::default(),
            questions: Slab::new(),
            answered: Vec::new(),
        }
    }

    /// Answers at once or later, in any case through [`Self::take_answered`].
    pub(crate) fn ask(&mut self, asked: Asked, query: Query, poll: &Poll, timers: &mut Timers, now: Instant) {
        let key = query.key();
        let cached = || key.as_ref().and_then(|key| self.cache.get(key, now));
        let known = known_here(&mut self.hosts, &query, now).or_else(cached);
        if known.is_some() || self.questions.len() >= QUESTIONS_MAX {
            self.answered.push(Answered {
                asked,
                query,
                answer: known,
            });
            return;
        }
        let index = self.questions.insert(Question {
            asked,
            query,
            key,
            id: random_id(),
            attempts: 0,
            server: ([0, 0, 0, 0], 0).into(),
            way: Way::None,
            timer: None,
        });
        self.ask_next(index, poll, timers, now);
    }

    pub(crate) fn take_answered(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answered)
    }

    /// A question's socket or timer has something to say.
    pub(crate) fn look(&mut self, index: u32, poll: &Poll, timers: &mut Timers, now: Instant) {
        let index = index as usize;
        let Some(question) = self.questions.get_mut(index) else {
            return;
        };
        match question.step() {
            Step::Wait => {}
            Step::Answer(answer, len) => self.answer(index, answer, len, timers, now),
            Step::Cut => {
                if question.over_tcp(index, poll).is_err() {
                    self.ask_next(index, poll, timers, now);
                }
            }
            Step::Next => self.ask_next(index, poll, timers, now),
        }
    }

    /// Patience with a resolver is over.
    pub(crate) fn due(&mut self, index: u32, poll: &Poll, timers: &mut Timers, now: Instant) {
        if let Some(question) = self.questions.get_mut(index as usize) {
            question.timer = None;
            self.ask_next(index as usize, poll, timers, now);
        }
    }

    /// A wire is gone, and with it its questions.
    pub(crate) fn forget(&mut self, wire: u32, timers: &mut Timers) {
        self.questions.retain(|index, question| {
            let stays = question.asked.wire != wire;
            if !stays && let Ok(index) = u32::try_from(index) {
                timers.set(Timer::Question(index), &mut question.timer, None);
            }
            stays
        });
    }

    fn answer(&mut self, index: usize, answer: Answer, len: usize, timers: &mut Timers, now: Instant) {
        let mut question = self.questions.remove(index);
        if let Ok(index) = u32::try_from(index) {
            timers.set(Timer::Question(index), &mut question.timer, None);
        }
        if let Some(key) = question.key.filter(|_| len <= KEPT_BYTES_MAX) {
            self.cache.put(key, &answer, now);
        }
        self.answered.push(Answered {
            asked: question.asked,
            query: question.query,
            answer: Some(answer),
        });
    }

    /// Goes on to the next resolver, or gives up.
    fn ask_next(&mut self, index: usize, poll: &Poll, timers: &mut Timers, now: Instant) {
        let servers = self.servers.get(now);
        let Some(question) = self.questions.get_mut(index) else {
            return;
        };
        let Ok(slot) = u32::try_from(index) else { return };
        while question.attempts < (servers.len() * ROUNDS).min(SERVERS_MAX * ROUNDS) {
            let Some(server) = servers.get(question.attempts % servers.len()) else {
                break;
            };
            question.attempts += 1;
            question.server = *server;
            if question.over_udp(slot, poll).is_ok() {
                timers.set(Timer::Question(slot), &mut question.timer, Some(now + PATIENCE));
                return;
            }
        }
        let mut question = self.questions.remove(index);
        timers.set(Timer::Question(slot), &mut question.timer, None);
        self.answered.push(Answered {
            asked: question.asked,
            query: question.query,
            answer: None,
        });
    }
}

/// A name that the machine knows has the addresses that it knows, and no others.
fn known_here(hosts: &mut Hosts, query: &Query, now: Instant) -> Option<Answer> {
    let v6 = query.wants_v6()?;
    let addresses = hosts.get(query.name.as_ref()?, now)?.iter().copied();
    Answer::of_addresses(query, addresses.filter(|address| address.is_ipv6() == v6))
}

impl Question {
    fn over_udp(&mut self, slot: u32, poll: &Poll) -> Result<(), Errno> {
        let message = self.query.with_id(self.id).ok_or(Errno::INVAL)?;
        let socket = outside::udp(self.server)?;
        poll.add(&socket, Token::Question(slot))?;
        send(&socket, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        self.way = Way::Udp(socket);
        Ok(())
    }

    fn over_tcp(&mut self, index: usize, poll: &Poll) -> Result<(), Errno> {
        let slot = u32::try_from(index).map_err(|_| Errno::INVAL)?;
        let message = self.query.with_id(self.id).ok_or(Errno::INVAL)?;
        let len = u16::try_from(message.len()).map_err(|_| Errno::INVAL)?;
        let socket = outside::tcp(self.server)?;
        poll.add(&socket, Token::Question(slot))?;
        self.way = Way::Tcp {
            socket,
            unsent: [&len.to_be_bytes()[..], &message].concat(),
            read: Vec::new(),
        };
        Ok(())
    }

    fn step(&mut self) -> Step {
        let (id, query) = (self.id, &self.query);
        match &mut self.way {
            Way::None => Step::Wait,
            Way::Udp(socket) => step_udp(socket, id, query),
            Way::Tcp { socket, unsent, read } => step_tcp(socket, unsent, read, id, query),
        }
    }
}

fn step_udp(socket: &OwnedFd, id: u16, query: &Query) -> Step {
    let mut buffer = [0; 4096];
    loop {
        match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, count)) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                // What is not the answer may be a late one to an earlier attempt, or a forgery: the real one may still come.
                let Some(answer) = Answer::read(bytes, id, query) else {
                    continue;
                };
                if answer.is_truncated() {
                    return Step::Cut;
                }
                return verdict(answer, count);
            }
            Err(Errno::AGAIN) => return Step::Wait,
            Err(Errno::INTR) => {}
            Err(_) => return Step::Next,
        }
    }
}

fn step_tcp(socket: &OwnedFd, unsent: &mut Vec<u8>, read: &mut Vec<u8>, id: u16, query: &Query) -> Step {
    while !unsent.is_empty() {
        match send(socket, &unsent[..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => drop(unsent.drain(..count)),
            // Not connected yet, or full.
            Err(Errno::AGAIN | Errno::NOTCONN | Errno::INTR) => return Step::Wait,
            Err(_) => return Step::Next,
        }
    }
    let mut buffer = [0; 4096];
    loop {
        match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Step::Next,
            Ok((_, count)) => read.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN) => return Step::Wait,
            Err(Errno::INTR) => continue,
            Err(_) => return Step::Next,
        }
        if let Some((len, rest)) = read.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            if let Some(message) = rest.get(..len) {
                let answer = Answer::read(message, id, query);
                return answer.map_or(Step::Next, |answer| verdict(answer, len));
            }
        }
    }
}

fn verdict(answer: Answer, len: usize) -> Step {
    if answer.is_useless() {
        Step::Next
    } else {
        Step::Answer(answer, len)
    }
}

/// Zero when the kernel has no randomness, which does not happen once it has booted; the port is drawn by it anyway.
fn random_id() -> u16 {
    let [low, high, ..] = getrandom::u32().unwrap_or(0).to_le_bytes();
    u16::from_le_bytes([low, high])
}
