//! The pool under any sequence of events.

use std::collections::HashSet;

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Take,
    /// A fill in progress ends well or not.
    FillEnds(bool),
    Lose(usize),
    Pass(u64),
    Target(u32),
    Ask(Room, bool),
}

fn room() -> impl Strategy<Value = Room> {
    prop_oneof![4 => Just(Room::Ample), 1 => Just(Room::Tight), 1 => Just(Room::Short)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Take),
        4 => any::<bool>().prop_map(Event::FillEnds),
        1 => any::<usize>().prop_map(Event::Lose),
        2 => (0..2000_u64).prop_map(Event::Pass),
        1 => (0..6_u32).prop_map(Event::Target),
        6 => (room(), any::<bool>()).prop_map(|(room, busy)| Event::Ask(room, busy)),
    ]
}

fn at(now: Duration, room: Room, busy: bool) -> Circumstances {
    Circumstances { now, room, busy }
}

proptest! {
    #[test]
    fn every_vm_leaves_once_and_there_are_never_too_many(
        filling_max in 1..4_u32, events in proptest::collection::vec(event(), 0..200)
    ) {
        let mut pool = Pool::new(3, filling_max);
        let (mut here, mut next, mut now) = (HashSet::new(), 0_u32, Duration::ZERO);
        let mut filling = 0_usize;
        for event in events {
            match event {
                Event::Take => if let Some(vm) = pool.take() {
                    prop_assert!(here.remove(&vm));
                },
                Event::FillEnds(well) if filling > 0 => {
                    filling -= 1;
                    if well {
                        pool.filled(next);
                        here.insert(next);
                        next += 1;
                    } else {
                        pool.fill_failed(now);
                    }
                }
                Event::FillEnds(_) => {}
                Event::Lose(which) => {
                    let vm = u32::try_from(which % 8).unwrap();
                    prop_assert_eq!(pool.lost(vm), here.remove(&vm));
                }
                Event::Pass(ms) => now += Duration::from_millis(ms),
                Event::Target(target) => pool.set_target(target),
                Event::Ask(room, busy) => match pool.next(at(now, room, busy)) {
                    Step::Fill => {
                        filling += 1;
                        prop_assert_eq!(room, Room::Ample);
                        prop_assert!(filling <= filling_max as usize);
                        prop_assert!(here.len() + filling <= pool.target());
                    }
                    Step::Drop(vm) => {
                        prop_assert!(here.remove(&vm));
                        prop_assert!(room == Room::Short || here.len() >= pool.target());
                    }
                    Step::Wait(time) => prop_assert!(!time.is_zero()),
                    Step::Rest => {}
                },
            }
            prop_assert_eq!(pool.ready(), here.len());
            prop_assert_eq!(pool.filling(), filling);
        }
        // Whatever has happened: with room and time it comes to its size, and with no room it is empty.
        for _ in 0..50 {
            now += PAUSE_MAX;
            match pool.next(at(now, Room::Ample, true)) {
                Step::Fill => {
                    pool.filled(next);
                    next += 1;
                }
                Step::Drop(_) | Step::Wait(_) => {}
                Step::Rest => for _ in 0..std::mem::take(&mut filling) {
                    pool.filled(next);
                    next += 1;
                },
            }
        }
        prop_assert_eq!((pool.ready(), pool.filling()), (pool.target(), 0));
        while let Step::Drop(_) = pool.next(at(now, Room::Short, false)) {}
        prop_assert_eq!(pool.ready(), 0);
    }
}

#[test]
fn a_refill_gives_way_to_requests_but_not_for_ever() {
    let mut pool = Pool::new(1, 1);
    let ms = Duration::from_millis;
    let busy = |now| at(ms(now), Room::Ample, true);
    assert_eq!(pool.next(busy(1000)), Step::Wait(ms(500)));
    assert_eq!(pool.next(busy(1400)), Step::Wait(ms(100)));
    assert_eq!(pool.next(busy(1500)), Step::Fill);
    pool.filled(7);
    assert_eq!(pool.take(), Some(7));
    assert_eq!(pool.next(at(ms(1600), Room::Ample, false)), Step::Fill);
}

#[test]
fn the_newest_is_handed_out_and_the_oldest_dropped() {
    let mut pool = Pool::new(3, 1);
    for vm in 1..=3 {
        pool.filled(vm);
    }
    assert_eq!(pool.take(), Some(3));
    assert_eq!(pool.next(at(Duration::ZERO, Room::Short, false)), Step::Drop(1));
    assert_eq!(pool.next(at(Duration::ZERO, Room::Tight, false)), Step::Rest);
    assert_eq!(pool.ready(), 1);
}

#[test]
fn refills_that_fail_come_back_later_and_later() {
    let mut pool: Pool<u8> = Pool::new(1, 1);
    let mut now = Duration::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(pool.next(at(now, Room::Ample, false)), Step::Fill);
        pool.fill_failed(now);
        let Step::Wait(pause) = pool.next(at(now, Room::Ample, false)) else {
            panic!("it waits");
        };
        pauses.push(pause.as_secs());
        now += pause;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn room_has_a_band_in_which_nothing_changes() {
    let room = |available| Room::of(available, 256, 50);
    assert_eq!(
        [room(255), room(256), room(355), room(356)],
        [Room::Short, Room::Tight, Room::Tight, Room::Ample]
    );
}
