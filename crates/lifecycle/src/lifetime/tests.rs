//! Nobody ends early, everybody ends in time, and no change gives more than there is.

use super::*;
use proptest::prelude::*;

fn lifetime(life_s: Option<u64>, idle_s: Option<u64>) -> Lifetime {
    Lifetime {
        born: Moment::from_ms(1000),
        life_s,
        idle_s,
    }
}

fn at(ms: u64) -> Moment {
    Moment::from_ms(ms)
}

fn any_lifetime() -> impl Strategy<Value = Lifetime> {
    let limit = || proptest::option::of(prop_oneof![1..100_u64, Just(u64::MAX)]);
    (0..200_000_u64, limit(), limit()).prop_map(|(born, life_s, idle_s)| Lifetime {
        born: at(born),
        life_s,
        idle_s,
    })
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        Just(Wish::Keep),
        Just(Wish::Most),
        (1..200_u64).prop_map(Wish::Seconds)
    ]
}

#[test]
fn a_life_ends_on_time_though_it_is_in_use() {
    let lifetime = lifetime(Some(60), Some(10));
    assert_eq!(lifetime.judge(at(60_999), Use::Now), Verdict::LookAt(at(61_000)));
    assert_eq!(
        lifetime.judge(at(61_000), Use::Now),
        Verdict::Over(Expiry::Lifetime)
    );
    let both = lifetime.judge(at(99_000), Use::Until(at(2000)));
    assert_eq!(both, Verdict::Over(Expiry::Lifetime));
}

#[test]
fn idle_is_counted_from_the_last_use_and_never_during_one() {
    let lifetime = lifetime(None, Some(10));
    let until = Use::Until(at(5000));
    assert_eq!(lifetime.judge(at(14_999), until), Verdict::LookAt(at(15_000)));
    assert_eq!(lifetime.judge(at(15_000), until), Verdict::Over(Expiry::Idle));
    assert_eq!(
        lifetime.judge(at(9_000_000), Use::Now),
        Verdict::LookAt(at(9_010_000))
    );
}

#[test]
fn without_limits_nothing_ever_happens() {
    let forever = lifetime(None, None);
    assert_eq!(forever.judge(at(u64::MAX), Use::Until(at(0))), Verdict::Never);
}

#[test]
fn a_change_is_capped_from_birth_and_takes_nothing_away_that_was_given() {
    let young = lifetime(Some(60), Some(10));
    let caps = (Some(100), Some(30));
    let change = |life, idle, caps| young.change(at(31_000), (life, idle), caps);
    let changed = change(Wish::Seconds(500), Wish::Seconds(20), caps).unwrap();
    assert_eq!((changed.life_s, changed.idle_s), (Some(100), Some(20)));
    let most = change(Wish::Most, Wish::Most, caps).unwrap();
    assert_eq!((most.life_s, most.idle_s), (Some(100), Some(30)));
    let free = change(Wish::Most, Wish::Keep, (None, None)).unwrap();
    assert_eq!((free.life_s, free.idle_s), (None, Some(10)));
    // The tier was lowered meanwhile.
    let kept = change(Wish::Seconds(60), Wish::Most, (Some(5), Some(5))).unwrap();
    assert_eq!((kept.life_s, kept.idle_s), (Some(60), Some(10)));
    let refused = change(Wish::Seconds(30), Wish::Keep, caps);
    assert_eq!(refused, Err(TooShort { age_s: 30 }));
}

proptest! {
    #[test]
    fn whoever_looks_when_told_to_never_misses_an_end_and_never_sees_one_early(
        lifetime in any_lifetime(), now in 0..400_000_u64, last in 0..400_000_u64, in_use: bool
    ) {
        let usage = if in_use { Use::Now } else { Use::Until(at(last.min(now))) };
        match lifetime.judge(at(now), usage) {
            Verdict::LookAt(next) => {
                prop_assert!(next > at(now));
                // Up to then nothing would have been over, had the use ended right now.
                let before = at(next.ms() - 1);
                let ended = if in_use { Use::Until(at(now)) } else { usage };
                prop_assert_eq!(lifetime.judge(before, ended), Verdict::LookAt(next));
                prop_assert!(matches!(lifetime.judge(next, ended), Verdict::Over(_)));
            }
            Verdict::Over(Expiry::Lifetime) => prop_assert!(lifetime.ends().unwrap() <= at(now)),
            Verdict::Over(Expiry::Idle) => {
                prop_assert!(!in_use);
                prop_assert!(lifetime.idle_ends(usage).unwrap() <= at(now));
            }
            Verdict::Never => prop_assert!(lifetime.life_s.is_none() && lifetime.idle_s.is_none()),
        }
    }

    #[test]
    fn changes_never_kill_never_exceed_the_cap_and_never_take_what_was_given(
        lifetime in any_lifetime(), life in any_wish(), idle in any_wish(),
        cap in proptest::option::of(1..150_u64), age in 0..100_000_u64
    ) {
        let now = at(lifetime.born.ms() + age);
        let alive = !matches!(lifetime.judge(now, Use::Now), Verdict::Over(_));
        let Ok(changed) = lifetime.change(now, (life, idle), (cap, cap)) else {
            prop_assert!(life != Wish::Keep);
            return Ok(());
        };
        prop_assert_eq!(changed.born, lifetime.born);
        if alive {
            prop_assert!(!matches!(changed.judge(now, Use::Now), Verdict::Over(_)));
        }
        let within = |new: Option<u64>, old: Option<u64>| match (new, cap) {
            (_, None) => true,
            (None, Some(_)) => old.is_none(),
            (Some(new), Some(cap)) => new <= cap.max(old.unwrap_or(u64::MAX)),
        };
        prop_assert!(within(changed.life_s, lifetime.life_s));
        prop_assert!(within(changed.idle_s, lifetime.idle_s));
    }
}
