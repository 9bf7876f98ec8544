//! Answers that are still good. Shared by all wires: what is in it came from the host's resolvers alone.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::message::{Answer, Key};

/// Answers kept; the oldest go first. Each is from a message of at most [`KEPT_BYTES_MAX`].
const KEPT_MAX: usize = 2048;

/// Longer ones are asked for again.
pub(super) const KEPT_BYTES_MAX: usize = 2048;

#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: HashMap<Key, Kept>,
    order: VecDeque<(Key, u64)>,
    next: u64,
}

#[derive(Debug)]
struct Kept {
    answer: Answer,
    since: Instant,
    until: Instant,
    number: u64,
}

impl Cache {
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Answer> {
        let kept = self.answers.get(key).filter(|kept| now < kept.until)?;
        Some(kept.answer.aged(now.saturating_duration_since(kept.since)))
    }

    pub(super) fn put(&mut self, key: Key, answer: &Answer, now: Instant) {
        let Some(lifetime) = answer.lifetime() else { return };
        let number = self.next;
        self.next += 1;
        self.order.push_back((key.clone(), number));
        let kept = Kept {
            answer: answer.clone(),
            since: now,
            until: now + lifetime,
            number,
        };
        self.answers.insert(key, kept);
        while self.order.len() > KEPT_MAX {
            let Some((key, number)) = self.order.pop_front() else {
                break;
            };
            if self.answers.get(&key).is_some_and(|kept| kept.number == number) {
                self.answers.remove(&key);
            }
        }
    }
}
