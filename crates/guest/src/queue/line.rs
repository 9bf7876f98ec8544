//! First come, first served, with a bound: the policy, without threads.

use std::collections::VecDeque;

/// A place in the line; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u64);

/// Where a newcomer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is this one's turn.
    First,
    Waiting,
}

/// The front one has the turn, the others wait in order.
#[derive(Debug)]
pub(crate) struct Line {
    standing: VecDeque<Ticket>,
    waiting_max: usize,
    issued: u64,
}

impl Line {
    pub(crate) fn new(waiting_max: usize) -> Self {
        Self {
            standing: VecDeque::new(),
            waiting_max,
            issued: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.standing.len()
    }

    /// Joins at the end; `None` when the line is full.
    pub(crate) fn enter(&mut self) -> Option<(Ticket, Place)> {
        if self.standing.len() > self.waiting_max {
            return None;
        }
        let place = if self.standing.is_empty() {
            Place::First
        } else {
            Place::Waiting
        };
        self.issued += 1;
        let ticket = Ticket(self.issued);
        self.standing.push_back(ticket);
        Some((ticket, place))
    }

    /// Leaves from any place; tells whose turn it is when that has changed.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Ticket> {
        let was_first = self.standing.front() == Some(&ticket);
        self.standing.retain(|standing| *standing != ticket);
        if was_first {
            self.standing.front().copied()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// `Some(n)` leaves from place n, `None` enters.
        #[test]
        fn exactly_one_has_the_turn_and_it_passes_in_order_of_arrival(
            steps in proptest::collection::vec(proptest::option::of(0..6_usize), 0..200),
        ) {
            let mut line = Line::new(3);
            let mut model: Vec<Ticket> = Vec::new();
            for step in steps {
                match step {
                    None => match line.enter() {
                        Some((ticket, place)) => {
                            prop_assert_eq!(place == Place::First, model.is_empty());
                            prop_assert!(model.iter().all(|other| other.0 < ticket.0));
                            model.push(ticket);
                            prop_assert!(model.len() <= 4);
                        }
                        None => prop_assert_eq!(model.len(), 4),
                    },
                    Some(place) if place < model.len() => {
                        let next = line.leave(model.remove(place));
                        let expected = if place == 0 { model.first().copied() } else { None };
                        prop_assert_eq!(next, expected);
                    }
                    Some(_) => {}
                }
            }
        }
    }

    #[test]
    fn leaving_twice_changes_nothing() {
        let mut line = Line::new(3);
        let (first, _) = line.enter().unwrap();
        let (second, _) = line.enter().unwrap();
        assert_eq!(line.leave(first), Some(second));
        assert_eq!(line.leave(first), None);
    }
}
