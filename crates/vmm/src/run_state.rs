//! Whether a VM runs, and what a wish to change that leads to. Pure: it decides, the main loop acts.
//!
//! ```text
//!            pause                all parked
//!  running ─────────> pausing ─────────────────> paused
//!     ^                  │ with a resume waiting    │
//!     └──────────────────┴──────────────────────────┘ resume
//! ```
//!
//! Whoever asks waits for the answer under a token `T`. A resume that comes while vCPUs are still being parked is done
//! after that, so every pause that was asked for is really reached.

/// What the main loop has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<T> {
    /// Tell every vCPU to park.
    ParkAll,
    /// Tell every vCPU to run.
    RunAll,
    /// The wish is fulfilled.
    Answer(T),
}

#[derive(Debug)]
pub(crate) struct RunState<T> {
    vcpus: u8,
    phase: Phase<T>,
}

#[derive(Debug)]
enum Phase<T> {
    Running,
    Pausing {
        /// Index: vCPU.
        parked: Vec<bool>,
        pauses: Vec<T>,
        resumes: Vec<T>,
    },
    Paused,
}

impl<T> RunState<T> {
    /// Of a VM whose vCPUs were all just told to run.
    pub(crate) fn running(vcpus: u8) -> Self {
        Self {
            vcpus,
            phase: Phase::Running,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.phase, Phase::Paused)
    }

    pub(crate) fn pause(&mut self, token: T) -> Vec<Action<T>> {
        match &mut self.phase {
            Phase::Running => {
                self.phase = Phase::Pausing {
                    parked: vec![false; usize::from(self.vcpus)],
                    pauses: vec![token],
                    resumes: Vec::new(),
                };
                vec![Action::ParkAll]
            }
            Phase::Pausing { pauses, .. } => {
                pauses.push(token);
                Vec::new()
            }
            Phase::Paused => vec![Action::Answer(token)],
        }
    }

    pub(crate) fn resume(&mut self, token: T) -> Vec<Action<T>> {
        match &mut self.phase {
            Phase::Running => vec![Action::Answer(token)],
            Phase::Pausing { resumes, .. } => {
                resumes.push(token);
                Vec::new()
            }
            Phase::Paused => {
                self.phase = Phase::Running;
                vec![Action::RunAll, Action::Answer(token)]
            }
        }
    }

    /// A vCPU stands still, as it was told to.
    pub(crate) fn parked(&mut self, vcpu: u8) -> Vec<Action<T>> {
        let Phase::Pausing {
            parked,
            pauses,
            resumes,
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
        let mut actions: Vec<_> = std::mem::take(pauses).into_iter().map(Action::Answer).collect();
        let resumes = std::mem::take(resumes);
        if resumes.is_empty() {
            self.phase = Phase::Paused;
        } else {
            self.phase = Phase::Running;
            actions.push(Action::RunAll);
            actions.extend(resumes.into_iter().map(Action::Answer));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pause_is_answered_when_the_last_vcpu_stands_still() {
        let mut state = RunState::running(2);
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
        let mut state = RunState::running(1);
        state.pause('p');
        assert_eq!(state.resume('r'), []);
        let expected = [Action::Answer('p'), Action::RunAll, Action::Answer('r')];
        assert_eq!(state.parked(0), expected);
        assert!(!state.is_paused());
    }

    proptest! {
        /// vCPUs that do what they are told, with wishes in any order: everybody is answered once, and at the end the
        /// vCPUs are in the state the machine believes in.
        #[test]
        fn every_wish_is_answered_once(wishes: Vec<(bool, bool)>, vcpus in 1..4_u8) {
            let mut state = RunState::running(vcpus);
            let (mut to_park, mut running) = (Vec::<u8>::new(), true);
            let mut answers = Vec::new();
            let mut queue = std::collections::VecDeque::new();
            let count = wishes.len();
            for (token, (pause, let_park)) in wishes.into_iter().enumerate() {
                queue.extend(if pause { state.pause(token) } else { state.resume(token) });
                loop {
                    while let Some(action) = queue.pop_front() {
                        match action {
                            Action::ParkAll => { prop_assert!(running); running = false; to_park = (0..vcpus).collect(); }
                            Action::RunAll => { prop_assert!(!running && to_park.is_empty()); running = true; }
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
                    if let Action::Answer(token) = action { answers.push(token); }
                }
            }
            answers.sort_unstable();
            prop_assert_eq!(answers, (0..count).collect::<Vec<_>>());
        }
    }
}
