//! The last of a run's output, in bounded memory. Plain data: no locks, no descriptors.

use std::collections::VecDeque;

use agent_proto::Reply;
use agent_proto::frame::OUTPUT_PIECE_MAX;

/// Memory for output, in bytes. Enough for what a person reads of a run that has gone on alone.
pub(crate) const KEPT_MAX: usize = 1 << 20;
/// What a piece costs beside its bytes; a run that alternates between its two streams makes pieces of one byte.
const PIECE_COST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

/// Output in the order it was read, the oldest given up for the newest.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pieces: VecDeque<Piece>,
    cost: usize,
    /// Bytes of output before the first piece, and up to the end of the last.
    start: u64,
    end: u64,
    /// The first, by channel.
    starts: Amounts,
}

/// So much of each channel, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

#[derive(Debug)]
struct Piece {
    channel: Channel,
    bytes: Vec<u8>,
}

/// What a reader finds at its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// So much is not kept any more.
    Dropped(u64),
    Output(Channel, Vec<u8>),
    Nothing,
}

impl Kept {
    pub(crate) fn push(&mut self, channel: Channel, bytes: &[u8]) {
        for bytes in bytes.chunks(OUTPUT_PIECE_MAX) {
            self.push_piece(channel, bytes);
        }
    }

    fn push_piece(&mut self, channel: Channel, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        self.cost += bytes.len();
        match self.pieces.back_mut() {
            Some(last) if last.channel == channel && last.bytes.len() + bytes.len() <= OUTPUT_PIECE_MAX => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => {
                self.cost += PIECE_COST;
                self.pieces.push_back(Piece {
                    channel,
                    bytes: bytes.to_vec(),
                });
            }
        }
        while self.cost > KEPT_MAX
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.cost -= oldest.bytes.len() + PIECE_COST;
            self.start += oldest.bytes.len() as u64;
            *self.starts.of(oldest.channel) += oldest.bytes.len() as u64;
        }
    }

    /// What is at `position`, which is moved behind it.
    pub(crate) fn read(&self, position: &mut u64) -> Found {
        if *position < self.start {
            let dropped = self.start - *position;
            *position = self.start;
            return Found::Dropped(dropped);
        }
        let mut piece_start = self.start;
        for piece in &self.pieces {
            let piece_end = piece_start + piece.bytes.len() as u64;
            if *position < piece_end {
                let read = usize::try_from(*position - piece_start).unwrap_or(0);
                *position = piece_end;
                return Found::Output(piece.channel, piece.bytes[read..].to_vec());
            }
            piece_start = piece_end;
        }
        Found::Nothing
    }

    /// Where what is kept begins.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The same, by channel.
    pub(crate) fn starts(&self) -> Amounts {
        self.starts
    }

    /// Bytes of output there have been in all.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

impl Amounts {
    pub(crate) fn of(&mut self, channel: Channel) -> &mut u64 {
        match channel {
            Channel::Stdout => &mut self.stdout,
            Channel::Stderr => &mut self.stderr,
        }
    }
}

impl Channel {
    pub(crate) fn reply(self, bytes: Vec<u8>) -> Reply {
        match self {
            Self::Stdout => Reply::Stdout(bytes),
            Self::Stderr => Reply::Stderr(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(kept: &Kept, position: &mut u64) -> (u64, Vec<(Channel, u8)>) {
        let (mut dropped, mut read) = (0, Vec::new());
        loop {
            match kept.read(position) {
                Found::Dropped(bytes) => dropped += bytes,
                Found::Output(channel, bytes) => {
                    assert!((1..=OUTPUT_PIECE_MAX).contains(&bytes.len()));
                    read.extend(bytes.into_iter().map(|byte| (channel, byte)));
                }
                Found::Nothing => return (dropped, read),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Sizes are chosen so that some histories overflow many times and others never.
        #[test]
        fn a_reader_gets_everything_or_is_told_how_much_it_missed(
            history in proptest::collection::vec(
                (any::<bool>(), any::<u8>(), prop_oneof![0..9_usize, 1000..200_000_usize], any::<bool>()),
                0..40,
            ),
        ) {
            let mut kept = Kept::default();
            let mut model: Vec<(Channel, u8)> = Vec::new();
            let (mut position, mut seen) = (0, 0);
            for (stdout, byte, length, read) in history {
                let channel = if stdout { Channel::Stdout } else { Channel::Stderr };
                kept.push(channel, &vec![byte; length]);
                model.extend(std::iter::repeat_n((channel, byte), length));
                prop_assert!(kept.cost <= KEPT_MAX);
                prop_assert_eq!(kept.end(), model.len() as u64);
                if read {
                    let (dropped, output) = read_all(&kept, &mut position);
                    seen += usize::try_from(dropped).unwrap();
                    prop_assert!(output == model[seen..]);
                    seen = model.len();
                }
            }
            let (dropped, output) = read_all(&kept, &mut 0);
            prop_assert!(output == model[usize::try_from(dropped).unwrap()..]);
            // What was given up was given up for want of room.
            prop_assert!(dropped == 0 || output.len() + 65 * PIECE_COST + OUTPUT_PIECE_MAX > KEPT_MAX);
        }
    }

    #[test]
    fn alternating_single_bytes_stay_within_the_bound() {
        let mut kept = Kept::default();
        for _ in 0..KEPT_MAX / PIECE_COST {
            kept.push(Channel::Stdout, b"o");
            kept.push(Channel::Stderr, b"e");
        }
        assert!(kept.cost <= KEPT_MAX && kept.pieces.len() <= KEPT_MAX / PIECE_COST);
    }
}
