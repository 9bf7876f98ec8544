//! The gateway's own service over TCP: questions about names, one after the other, each behind its length.

use smoltcp::socket::tcp::{Socket, State};

use crate::dns::Query;

/// Longest question; see `dns::message`.
const QUESTION_BYTES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Service {
    /// Asked and not answered.
    asking: bool,
    /// To be asked by whoever looks.
    question: Option<Query>,
    /// Answer, or a part of it, for which there was no room.
    unsent: Vec<u8>,
    over: bool,
}

impl Service {
    /// Reads a question and sends answers. Says whether anything moved.
    pub(super) fn step(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        if !self.unsent.is_empty()
            && let Ok(count) = socket.send_slice(&self.unsent)
        {
            self.unsent.drain(..count);
            moved = count > 0;
        }
        if self.over && self.unsent.is_empty() {
            socket.close();
        }
        if self.asking || !self.unsent.is_empty() || self.over {
            return moved;
        }
        match next_message(socket) {
            Next::Message(message) => {
                match Query::read(&message) {
                    Some(query) => {
                        self.question = Some(query);
                        self.asking = true;
                    }
                    None => self.end(socket),
                }
                moved = true;
            }
            Next::Broken => self.end(socket),
            Next::Wait if socket.state() == State::CloseWait => self.end(socket),
            Next::Wait => {}
        }
        moved
    }

    pub(crate) fn take_question(&mut self) -> Option<Query> {
        self.question.take()
    }

    /// None: the guest gets no answer.
    pub(crate) fn answer(&mut self, message: Option<Vec<u8>>) {
        self.asking = false;
        match message.and_then(|message| Some((u16::try_from(message.len()).ok()?, message))) {
            Some((len, message)) => self.unsent = [&len.to_be_bytes()[..], &message].concat(),
            None => self.over = true,
        }
    }

    fn end(&mut self, socket: &mut Socket<'_>) {
        self.over = true;
        socket.close();
    }
}

enum Next {
    Message(Vec<u8>),
    Wait,
    Broken,
}

fn next_message(socket: &mut Socket<'_>) -> Next {
    let mut head = [0; 2];
    match socket.peek_slice(&mut head) {
        Ok(2) => {}
        _ => return Next::Wait,
    }
    let len = usize::from(u16::from_be_bytes(head));
    if len > QUESTION_BYTES_MAX {
        return Next::Broken;
    }
    if socket.recv_queue() < 2 + len {
        return Next::Wait;
    }
    let mut message = vec![0; 2 + len];
    match socket.recv_slice(&mut message) {
        Ok(count) if count == 2 + len => Next::Message(message.split_off(2)),
        _ => Next::Broken,
    }
}
