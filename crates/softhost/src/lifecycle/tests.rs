//! Stories of hosts that come up, die and are stopped; and what holds in any story.

use super::*;
use proptest::prelude::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lifecycle() -> Lifecycle {
    Lifecycle::new(Limits::default())
}

/// Brings it up at `at`; it answers a second later.
#[track_caller]
fn bring_up(lifecycle: &mut Lifecycle, at: Duration) {
    assert_eq!(lifecycle.handle(at, Event::Tick), Some(Command::Start));
    assert_eq!(lifecycle.handle(at + seconds(1), Event::Answered), None);
    assert!(matches!(lifecycle.phase, Phase::Running { .. }), "{lifecycle:?}");
}

fn ended(how: &str) -> Event {
    Event::Ended(how.to_owned())
}

#[test]
fn a_boot_that_answers_runs_and_knows_how_long_it_took() {
    let mut lifecycle = lifecycle();
    bring_up(&mut lifecycle, seconds(5));
    assert_eq!(lifecycle.boot, Some(seconds(1)));
    assert_eq!((lifecycle.retries, lifecycle.restarts), (0, 0));
}

#[test]
fn a_boot_without_an_answer_is_killed_and_tried_again_three_times_in_all() {
    let mut lifecycle = lifecycle();
    let mut now = Duration::ZERO;
    for retries in [1, 2] {
        assert_eq!(lifecycle.handle(now, Event::Tick), Some(Command::Start));
        assert_eq!(lifecycle.handle(now + seconds(59), Event::Tick), None);
        assert_eq!(
            lifecycle.handle(now + seconds(60), Event::Tick),
            Some(Command::Kill)
        );
        assert_eq!(lifecycle.handle(now + seconds(60), ended("killed")), None);
        assert_eq!(lifecycle.retries, retries);
        now += seconds(61);
    }
    assert_eq!(lifecycle.handle(now, Event::Tick), Some(Command::Start));
    assert_eq!(lifecycle.handle(now, ended("QEMU ended with status 1")), None);
    let Phase::Over(End::Failed(why)) = &lifecycle.phase else {
        panic!("{lifecycle:?}")
    };
    assert!(
        why.contains("3 starts") && why.contains("QEMU ended with status 1"),
        "{why}"
    );
}

#[test]
fn a_start_that_works_forgives_the_ones_before() {
    let mut lifecycle = lifecycle();
    for _ in 0..10 {
        let now = seconds(u64::from(lifecycle.retries) * 1000);
        lifecycle.handle(now, Event::Tick);
        lifecycle.handle(now, ended("early"));
        bring_up(&mut lifecycle, now + seconds(1));
        lifecycle.handle(now + seconds(3), ended("died"));
    }
    assert_eq!((lifecycle.retries, lifecycle.restarts), (10, 10));
}

#[test]
fn a_machine_that_keeps_dying_is_given_up_within_the_window() {
    let mut lifecycle = lifecycle();
    for round in 0..6 {
        assert!(
            !matches!(lifecycle.phase, Phase::Over(_)),
            "gave up after {round} restarts"
        );
        bring_up(&mut lifecycle, seconds(round * 10));
        lifecycle.handle(seconds(round * 10 + 2), ended("signal 9"));
    }
    let Phase::Over(End::Failed(why)) = &lifecycle.phase else {
        panic!("{lifecycle:?}")
    };
    assert!(why.contains("5 times") && why.contains("signal 9"), "{why}");
}

#[test]
fn silence_counts_only_when_questions_went_unanswered() {
    let mut lifecycle = lifecycle();
    bring_up(&mut lifecycle, Duration::ZERO);
    assert_eq!(
        lifecycle.handle(seconds(4000), Event::Tick),
        None,
        "the supervisor itself may have slept"
    );
    assert_eq!(lifecycle.handle(seconds(4000), Event::Unanswered), None);
    assert_eq!(lifecycle.handle(seconds(4005), Event::Unanswered), None);
    assert_eq!(
        lifecycle.handle(seconds(4010), Event::Unanswered),
        Some(Command::Kill)
    );
    assert_eq!(lifecycle.handle(seconds(4015), Event::Tick), None);
    assert_eq!(
        lifecycle.handle(seconds(4020), Event::Tick),
        Some(Command::Kill),
        "killed again"
    );
    lifecycle.handle(seconds(4021), ended("signal 9"));
    assert_eq!(lifecycle.restarts, 1);
    assert!(
        lifecycle
            .last_error
            .as_deref()
            .unwrap()
            .contains("did not answer for"),
        "{lifecycle:?}"
    );
}

#[test]
fn stopping_is_asked_first_and_forced_after_its_limit() {
    let mut lifecycle = lifecycle();
    bring_up(&mut lifecycle, Duration::ZERO);
    assert_eq!(
        lifecycle.handle(seconds(10), Event::StopAsked),
        Some(Command::AskToStop)
    );
    let limit = seconds(10) + Limits::default().stop;
    let (before, after) = (limit - Duration::from_millis(1), limit + Duration::from_secs(1));
    assert_eq!(lifecycle.handle(before, Event::Tick), None);
    assert_eq!(lifecycle.handle(limit, Event::Tick), Some(Command::Kill));
    lifecycle.handle(after, ended("signal 9"));
    assert_eq!(lifecycle.phase, Phase::Over(End::Stopped));
}

#[test]
fn asking_twice_to_stop_kills() {
    let mut lifecycle = lifecycle();
    bring_up(&mut lifecycle, Duration::ZERO);
    lifecycle.handle(seconds(10), Event::StopAsked);
    assert_eq!(
        lifecycle.handle(seconds(11), Event::StopAsked),
        Some(Command::Kill)
    );
    assert_eq!(lifecycle.handle(seconds(12), Event::StopAsked), None);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Tick),
        3 => Just(Event::Answered),
        3 => Just(Event::Unanswered),
        2 => Just(ended("ended")),
        1 => Just(Event::StartFailed("cannot start".to_owned())),
        1 => Just(Event::StopAsked),
    ]
}

proptest! {
    #[test]
    fn in_any_story_there_is_at_most_one_process_and_nothing_starts_after_stop(
        story in prop::collection::vec((any_event(), 0_u64..40), 0..200)
    ) {
        let mut lifecycle = lifecycle();
        let (mut alive, mut stop_asked, mut now) = (false, false, Duration::ZERO);
        for (event, pause) in story {
            now += seconds(pause);
            // A process that does not run cannot end, and one that runs did start.
            match event {
                Event::Ended(_) if !alive => continue,
                Event::StartFailed(_) => continue,
                Event::Ended(_) => alive = false,
                Event::StopAsked => stop_asked = true,
                _ => {}
            }
            match lifecycle.handle(now, event) {
                Some(Command::Start) => {
                    prop_assert!(!alive, "started twice");
                    prop_assert!(!stop_asked, "started after stop");
                    alive = true;
                }
                Some(Command::Kill | Command::AskToStop) => prop_assert!(alive, "nothing to end"),
                None => {}
            }
            prop_assert_eq!(
                alive,
                !matches!(lifecycle.phase, Phase::Waiting { .. } | Phase::Over(_)),
                "a phase with a process has one: {:?}", lifecycle.phase
            );
        }
    }

    #[test]
    fn once_asked_to_stop_it_is_over_after_the_limit(
        story in prop::collection::vec((any_event(), 0_u64..40), 0..60)
    ) {
        let mut lifecycle = lifecycle();
        let mut now = Duration::ZERO;
        for (event, pause) in story {
            now += seconds(pause);
            lifecycle.handle(now, event);
        }
        lifecycle.handle(now, Event::StopAsked);
        now += Limits::default().stop;
        lifecycle.handle(now, Event::Tick);
        if let Phase::Stopping { killed, .. } = lifecycle.phase {
            prop_assert!(killed, "nothing waits for ever");
            lifecycle.handle(now, ended("killed"));
        }
        prop_assert!(matches!(lifecycle.phase, Phase::Over(_)), "{:?}", lifecycle.phase);
    }
}
