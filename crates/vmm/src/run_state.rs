//! Whether a VM runs, and what a wish to change that leads to. Pure: it decides, the main loop acts.
//!
//! ```text
//!            pause, clone         all parked
//!  running ───────────────> pausing ─────────> paused
//!     ^                        │                  │
//!     └────────────────────────┴──────────────────┘ resume
//! ```
//!
//! Whoever asks waits for the answer under a token `T`, or with an order for clones `C`. A resume that comes while vCPUs are still being parked is done
//! after that, so every pause that was asked for is really reached; of several wishes in that time the last one counts.
//! A clone is made while all stand still, and leaves the VM running or paused as it would be without it.

/// What the main loop has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<T, C> {
    /// Tell every vCPU to park.
    ParkAll,
    /// Tell every vCPU to run.
    RunAll,
    /// All stand still: make the clones that were asked for.
    Clone(C),
    /// The wish is fulfilled.
    Answer(T),
}

#[derive(Debug)]
pub(crate) struct RunState<T, C> {
    vcpus: u8,
    phase: Phase<T, C>,
}

#[derive(Debug)]
enum Phase<T, C> {
    Running,
    Pausing {
        /// Index: vCPU.
        parked: Vec<bool>,
        clones: Vec<C>,
        answers: Vec<T>,
        run_after: bool,
    },
    Paused,
}

impl<T, C> RunState<T, C> {
    /// Of a VM whose vCPUs were all just told to run.
    pub(crate) fn running(vcpus: u8) -> Self {
        Self {
            vcpus,
            phase: Phase::Running,
        }
    }

    /// Of a VM whose vCPUs have not run yet.
    pub(crate) fn paused(vcpus: u8) -> Self {
        Self {
            vcpus,
            phase: Phase::Paused,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.phase, Phase::Paused)
    }

    pub(crate) fn pause(&mut self, token: T) -> Vec<Action<T, C>> {
        match &mut self.phase {
            Phase::Running => self.park(Vec::new(), vec![token], false),
            Phase::Pausing {
                answers, run_after, ..
            } => {
                answers.push(token);
                *run_after = false;
                Vec::new()
            }
            Phase::Paused => vec![Action::Answer(token)],
        }
    }

    pub(crate) fn resume(&mut self, token: T) -> Vec<Action<T, C>> {
        match &mut self.phase {
            Phase::Running => vec![Action::Answer(token)],
            Phase::Pausing {
                answers, run_after, ..
            } => {
                answers.push(token);
                *run_after = true;
                Vec::new()
            }
            Phase::Paused => {
                self.phase = Phase::Running;
                vec![Action::RunAll, Action::Answer(token)]
            }
        }
    }

    pub(crate) fn clone(&mut self, order: C) -> Vec<Action<T, C>> {
        match &mut self.phase {
            Phase::Running => self.park(vec![order], Vec::new(), true),
            Phase::Pausing { clones, .. } => {
                clones.push(order);
                Vec::new()
            }
            Phase::Paused => vec![Action::Clone(order)],
        }
    }

    /// A vCPU stands still, as it was told to.
    pub(crate) fn parked(&mut self, vcpu: u8) -> Vec<Action<T, C>> {
        let Phase::Pausing {
            parked,
            clones,
            answers,
            run_after,
        } = &mut self.phase
        else {
            return Vec::new();
        };
        if let Some(parked) = parked.get_mut(usize::from(vcpu)) {
            *parked = true;
        }
        if !parked.iter().all(|parked| *parked) {
            return Vec::new();
        }
        let mut actions: Vec<_> = std::mem::take(clones).into_iter().map(Action::Clone).collect();
        let answers = std::mem::take(answers);
        if *run_after {
            actions.push(Action::RunAll);
            self.phase = Phase::Running;
        } else {
            self.phase = Phase::Paused;
        }
        actions.extend(answers.into_iter().map(Action::Answer));
        actions
    }

    fn park(&mut self, clones: Vec<C>, answers: Vec<T>, run_after: bool) -> Vec<Action<T, C>> {
        self.phase = Phase::Pausing {
            parked: vec![false; usize::from(self.vcpus)],
            clones,
            answers,
            run_after,
        };
        vec![Action::ParkAll]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pause_is_answered_when_the_last_vcpu_stands_still() {
        let mut state = RunState::<_, char>::running(2);
        assert_eq!(state.pause('a'), [Action::ParkAll]);
        assert_eq!(state.pause('b'), []);
        assert_eq!(state.parked(1), []);
        assert_eq!(state.parked(1), []);
        assert_eq!(state.parked(0), [Action::Answer('a'), Action::Answer('b')]);
        assert!(state.is_paused());
        assert_eq!(state.pause('c'), [Action::Answer('c')]);
        assert_eq!(state.resume('d'), [Action::RunAll, Action::Answer('d')]);
        assert_eq!(state.resume('e'), [Action::Answer('e')]);
    }

    #[test]
    fn a_resume_during_a_pause_comes_after_it() {
        let mut state = RunState::<_, char>::running(1);
        state.pause('p');
        assert_eq!(state.resume('r'), []);
        let expected = [Action::RunAll, Action::Answer('p'), Action::Answer('r')];
        assert_eq!(state.parked(0), expected);
        assert!(!state.is_paused());
    }

    #[test]
    fn the_last_wish_during_a_pause_counts() {
        let mut state = RunState::<_, char>::running(1);
        state.pause('a');
        state.resume('b');
        state.pause('c');
        let expected = [Action::Answer('a'), Action::Answer('b'), Action::Answer('c')];
        assert_eq!(state.parked(0), expected);
        assert!(state.is_paused());
    }

    #[test]
    fn a_clone_stops_a_running_vm_and_lets_it_run_again() {
        let mut state = RunState::<char, char>::running(1);
        assert_eq!(state.clone('c'), [Action::ParkAll]);
        assert_eq!(state.clone('d'), []);
        assert_eq!(
            state.parked(0),
            [Action::Clone('c'), Action::Clone('d'), Action::RunAll]
        );
        assert!(!state.is_paused());
    }

    #[test]
    fn a_clone_leaves_a_paused_vm_paused_and_does_not_undo_a_pause() {
        let mut state = RunState::<_, char>::running(1);
        state.clone('c');
        state.pause('p');
        assert_eq!(state.parked(0), [Action::Clone('c'), Action::Answer('p')]);
        assert_eq!(state.clone('d'), [Action::Clone('d')]);
        assert!(state.is_paused());
    }

    proptest! {
        /// vCPUs that do what they are told, with wishes in any order: everybody is answered once, and at the end the
        /// vCPUs are in the state the machine believes in.
        #[test]
        fn every_wish_is_answered_once(wishes: Vec<(u8, bool)>, vcpus in 1..4_u8) {
            let mut state = RunState::running(vcpus);
            let (mut to_park, mut running) = (Vec::<u8>::new(), true);
            let mut answers = Vec::new();
            let mut queue = std::collections::VecDeque::new();
            let count = wishes.len();
            for (token, (wish, let_park)) in wishes.into_iter().enumerate() {
                queue.extend(match wish % 3 {
                    0 => state.pause(token),
                    1 => state.resume(token),
                    _ => state.clone(token),
                });
                loop {
                    while let Some(action) = queue.pop_front() {
                        match action {
                            Action::ParkAll => { prop_assert!(running); running = false; to_park = (0..vcpus).collect(); }
                            Action::RunAll => { prop_assert!(!running && to_park.is_empty()); running = true; }
                            Action::Clone(token) => { prop_assert!(!running && to_park.is_empty()); answers.push(token); }
                            Action::Answer(token) => answers.push(token),
                        }
                    }
                    match to_park.pop() {
                        Some(vcpu) if let_park => queue.extend(state.parked(vcpu)),
                        Some(vcpu) => { to_park.push(vcpu); break }
                        None => break,
                    }
                }
                prop_assert_eq!(state.is_paused(), !running && to_park.is_empty());
            }
            while let Some(vcpu) = to_park.pop() {
                for action in state.parked(vcpu) {
                    if let Action::Answer(token) | Action::Clone(token) = action { answers.push(token); }
                }
            }
            answers.sort_unstable();
            prop_assert_eq!(answers, (0..count).collect::<Vec<_>>());
        }
    }
}
