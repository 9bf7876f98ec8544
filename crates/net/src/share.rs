//! How much of the buffers of all connections one wire may take.
//!
//! A wire gets buffers only while it has no more than is left for all others (the rule of dynamic thresholds that
//! switches share their packet memory by, with a factor of one). So one greedy guest gets half of all and not more, two get
//! a third each, and what is left for somebody new is as much as the greediest has. Nothing is set aside for guests who
//! do nothing, and nobody has to be counted.

use crate::stack::Buffers;

/// Bytes that the buffers of all connections may take. When half is taken, new connections get the smallest.
pub const BUFFER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Below this number of connections on one wire, each new one gets these buffers. Guests send segments of nearly
/// 16 KiB, so less than twice that costs speed; it is only for those who have a thousand connections.
const SIZES: [(usize, Buffers); 4] = [
    (32, Buffers::kib(128, 256)),
    (256, Buffers::kib(64, 64)),
    (1024, Buffers::kib(32, 32)),
    (usize::MAX, SMALLEST),
];
const SMALLEST: Buffers = Buffers::kib(16, 16);

/// What is taken, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) of: usize,
    pub(crate) by_all: usize,
    pub(crate) by_wire: usize,
}

impl Taken {
    /// Buffers for one more connection of a wire that has so many: the size that such wires get, or the smallest if that is
    /// too much.
    pub(crate) fn one_more(self, connections: usize) -> Option<Buffers> {
        let size = SIZES.iter().find(|(below, _)| connections < *below);
        let wanted = size.map_or(SMALLEST, |(_, size)| *size);
        let is_scarce = self.by_all > self.of / 2;
        [wanted, SMALLEST]
            .into_iter()
            .skip(usize::from(is_scarce))
            .find(|buffers| self.has_room_for(*buffers))
    }

    fn has_room_for(self, buffers: Buffers) -> bool {
        let left = self.of.saturating_sub(self.by_all).checked_sub(buffers.bytes());
        left.is_some_and(|left| self.by_wire + buffers.bytes() <= left.max(SMALLEST.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: usize = BUFFER_BYTES_MAX;
    const LARGEST: usize = 384 * 1024;

    /// Wires that take buffers and give them back.
    #[derive(Debug, Default)]
    struct Host {
        wires: Vec<Vec<usize>>,
        bytes: Vec<usize>,
    }

    impl Host {
        fn of(wires: usize) -> Self {
            Self {
                wires: vec![Vec::new(); wires],
                bytes: vec![0; wires],
            }
        }

        /// Cannot underflow, or somebody got too much.
        fn left(&self) -> usize {
            ALL - self.bytes.iter().sum::<usize>()
        }

        fn take(&mut self, wire: usize) -> bool {
            let taken = Taken {
                of: ALL,
                by_all: ALL - self.left(),
                by_wire: self.bytes[wire],
            };
            let Some(buffers) = taken.one_more(self.wires[wire].len()) else {
                return false;
            };
            self.wires[wire].push(buffers.bytes());
            self.bytes[wire] += buffers.bytes();
            true
        }

        fn give_back(&mut self, wire: usize) {
            self.bytes[wire] -= self.wires[wire].pop().unwrap_or(0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn all_together_never_take_more_than_there_is_nor_one_more_than_it_leaves(
            steps in prop::collection::vec((0..6_usize, 1..4000_usize, any::<bool>()), 1..24),
        ) {
            let mut host = Host::of(6);
            for (wire, count, gives) in steps {
                for _ in 0..count {
                    if gives {
                        host.give_back(wire);
                    } else if host.take(wire) {
                        prop_assert!(host.bytes[wire] <= host.left().max(SMALLEST.bytes()));
                    } else {
                        break;
                    }
                }
            }
        }

        #[test]
        fn whoever_comes_after_greedy_ones_gets_as_much_as_the_greediest(greedy in 1..8_usize) {
            let mut host = Host::of(greedy + 1);
            // They take in turns until none gets any more, however many connections that are.
            loop {
                let mut any = false;
                for wire in 0..greedy {
                    any |= host.take(wire);
                }
                if !any {
                    break;
                }
            }
            let share = ALL / (greedy + 1);
            for wire in 0..greedy {
                prop_assert!(host.bytes[wire] <= share + LARGEST && host.bytes[wire] + LARGEST * greedy >= share);
            }
            prop_assert!(host.left() + LARGEST >= share);
            for _ in 0..64 {
                prop_assert!(host.take(greedy), "{} left", host.left());
            }
        }
    }

    #[test]
    fn a_guest_alone_gets_all_connections_that_it_may_have() {
        let mut host = Host::of(1);
        for number in 0..4096 {
            assert!(host.take(0), "{number}");
        }
        assert!(host.left() > ALL / 2);
    }
}
