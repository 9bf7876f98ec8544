//! No sequence of events breaks what holds of a sandbox.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    BeginRun,
    EndRun,
    BeginFork,
    EndFork,
    Booted,
    Fail(String),
    End(EndReason),
    EndUnlessUsed,
    BeginFreeze,
    NotFrozen,
    Gone,
}

fn step() -> impl Strategy<Value = Step> {
    let reason = prop_oneof![
        Just(EndReason::Deleted),
        Just(EndReason::Merged),
        Just(EndReason::Abandoned),
        Just(EndReason::BootFailed),
        Just(EndReason::Shutdown),
        Just(EndReason::Frozen)
    ];
    prop_oneof![
        8 => Just(Step::BeginRun),
        4 => Just(Step::EndRun),
        4 => Just(Step::BeginFork),
        2 => Just(Step::EndFork),
        3 => Just(Step::Booted),
        1 => "[a-z]{0,4}".prop_map(Step::Fail),
        1 => reason.prop_map(Step::End),
        1 => Just(Step::EndUnlessUsed),
        2 => Just(Step::BeginFreeze),
        2 => Just(Step::NotFrozen),
        1 => Just(Step::Gone),
    ]
}

/// Position along the diagram; no step ever lowers it. A sandbox that is being frozen is ready in waiting.
fn rank(phase: &Phase) -> u8 {
    match phase {
        Phase::Booting => 0,
        Phase::Ready | Phase::Freezing => 1,
        Phase::Failed { .. } => 2,
        Phase::Ending { .. } => 3,
        Phase::Gone { .. } => 4,
    }
}

proptest! {
    #[test]
    fn no_sequence_of_steps_breaks_the_invariants(
        runs_max in 1..5_u32, steps in proptest::collection::vec(step(), 0..60)
    ) {
        let mut machine = Machine::new(runs_max);
        let (mut accepted, mut forks) = (0_u32, 0_u32);
        for step in steps {
            let before = machine.clone();
            match step {
                Step::BeginRun => {
                    let outcome = machine.begin_run();
                    let room = accepted < runs_max;
                    prop_assert_eq!(outcome.is_ok(), room && before.phase == Phase::Ready);
                    accepted += u32::from(outcome.is_ok());
                }
                // The host ends only runs it began: a ticket is dropped once.
                Step::EndRun if accepted > 0 => {
                    machine.end_run();
                    accepted -= 1;
                }
                Step::EndRun => {}
                Step::BeginFork => {
                    let outcome = machine.begin_fork();
                    prop_assert_eq!(outcome.is_ok(), forks < FORKS_MAX && before.phase == Phase::Ready);
                    forks += u32::from(outcome.is_ok());
                }
                Step::EndFork if forks > 0 => {
                    machine.end_fork();
                    forks -= 1;
                }
                Step::EndFork => {}
                Step::BeginFreeze => {
                    let outcome = machine.begin_freeze();
                    prop_assert_eq!(outcome.is_ok(), forks == 0 && before.phase == Phase::Ready);
                }
                Step::NotFrozen => {
                    let goes_on = machine.not_frozen();
                    prop_assert_eq!(goes_on, before.phase == Phase::Freezing);
                }
                Step::Booted => drop(machine.booted()),
                Step::Fail(why) => drop(machine.fail(why)),
                Step::End(reason) => {
                    let first = machine.end(reason);
                    prop_assert_eq!(first, rank(&before.phase) < 3);
                }
                Step::EndUnlessUsed => {
                    let reason = EndReason::Expired(Expiry::Idle);
                    let ended = machine.end_unless_used(reason);
                    let there = matches!(before.phase, Phase::Ready | Phase::Failed { .. });
                    let idle = accepted == 0 && forks == 0 && there;
                    prop_assert_eq!(ended, idle);
                }
                Step::Gone => drop(machine.gone()),
            }
            let is_there = matches!(machine.phase(), Phase::Ready | Phase::Failed { .. });
            prop_assert_eq!(machine.may_roll_back().is_ok(), is_there);
            prop_assert_eq!(machine.runs(), accepted);
            prop_assert!(rank(machine.phase()) >= rank(&before.phase));
            if let (Phase::Ending { reason: was }, Phase::Ending { reason: is } | Phase::Gone { reason: is }) =
                (&before.phase, machine.phase())
            {
                prop_assert_eq!(was, is);
            }
            if rank(&before.phase) == rank(machine.phase()) && rank(&before.phase) != 1 {
                prop_assert_eq!(&before.phase, machine.phase());
            }
        }
    }
}

#[test]
fn a_failed_sandbox_says_why_until_it_is_deleted() {
    let mut machine = Machine::new(1);
    machine.booted().unwrap();
    machine.fail("kernel panic".to_owned()).unwrap();
    machine.fail("later news".to_owned()).unwrap_err();
    let why = "kernel panic".to_owned();
    assert_eq!(machine.begin_run(), Err(RunRefused::Failed { why }));
    assert!(machine.end(EndReason::Deleted));
    let reason = EndReason::Deleted;
    assert_eq!(machine.begin_run(), Err(RunRefused::Ended { reason }));
}

#[test]
fn a_sandbox_that_ends_while_it_boots_never_becomes_ready() {
    let mut machine = Machine::new(1);
    machine.end(EndReason::Abandoned);
    machine.booted().unwrap_err();
}

#[test]
fn a_failed_sandbox_may_be_saved_by_a_merge_and_saves_nobody() {
    let mut ready = Machine::new(1);
    assert_eq!(ready.may_yield_to(&Machine::new(1)), Err(MergeRefused::Booting));
    ready.booted().unwrap();
    let mut failed = ready.clone();
    failed.fail("panic".to_owned()).unwrap();
    let mut gone = ready.clone();
    gone.end(EndReason::Deleted);
    ready.begin_run().unwrap();
    ready.begin_fork().unwrap();
    ready.may_yield_to(&ready.clone()).unwrap();
    failed.may_yield_to(&ready).unwrap();
    let why = "panic".to_owned();
    assert_eq!(
        ready.may_yield_to(&failed),
        Err(MergeRefused::WinnerFailed { why })
    );
    assert_eq!(ready.may_yield_to(&gone), Err(MergeRefused::WinnerEnded));
    assert_eq!(gone.may_yield_to(&ready), Err(MergeRefused::LoserEnded));
}

#[test]
fn runs_are_accepted_while_a_sandbox_is_forked_and_it_may_end_meanwhile() {
    let mut machine = Machine::new(1);
    assert_eq!(machine.begin_fork(), Err(ForkRefused::Booting));
    machine.booted().unwrap();
    machine.begin_fork().unwrap();
    machine.begin_run().unwrap();
    assert!(machine.end(EndReason::Deleted));
    let reason = EndReason::Deleted;
    assert_eq!(machine.begin_fork(), Err(ForkRefused::Ended { reason }));
    machine.end_fork();
}

#[test]
fn a_sandbox_that_is_frozen_accepts_nothing_and_goes_on_when_it_was_not() {
    let mut machine = Machine::new(2);
    assert_eq!(machine.begin_freeze(), Err(FreezeRefused::Booting));
    machine.booted().unwrap();
    machine.begin_run().unwrap();
    machine.begin_fork().unwrap();
    assert_eq!(machine.begin_freeze(), Err(FreezeRefused::Forking));
    machine.end_fork();
    // A run in progress is no hindrance.
    machine.begin_freeze().unwrap();
    assert_eq!(machine.begin_freeze(), Err(FreezeRefused::Freezing));
    assert_eq!(machine.begin_run(), Err(RunRefused::Freezing));
    assert_eq!(machine.begin_fork(), Err(ForkRefused::Freezing));
    let mut ready = Machine::new(1);
    ready.booted().unwrap();
    assert_eq!(machine.may_yield_to(&ready), Err(MergeRefused::Freezing));
    assert_eq!(ready.may_yield_to(&machine), Err(MergeRefused::Freezing));
    assert!(machine.not_frozen());
    machine.begin_run().unwrap();
    // Its time runs out, and it is deleted, while it is being frozen.
    machine.begin_freeze().unwrap();
    assert!(!machine.end_unless_freezing(EndReason::Expired(Expiry::Lifetime)));
    assert!(machine.end(EndReason::Deleted));
    assert!(!machine.not_frozen());
}
