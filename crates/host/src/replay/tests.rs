//! Bounds, and that a child's replay has every byte once wherever its machine was cloned.

use agent_proto::{Resume, Resumed};
use api::{Event, EventData, EventKind};
use proptest::prelude::*;

use super::log::{BYTES_MAX, EVENTS_MAX};
use super::*;

fn events(replay: &Replay) -> Vec<Event> {
    let whole = replay.all().concat();
    let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn lines(events: &[Event], kind: EventKind) -> Vec<String> {
    let of_kind = events.iter().filter(|event| event.kind == kind);
    of_kind
        .filter_map(|event| match &event.data {
            EventData::Line(line) => Some(line.clone()),
            EventData::Code(_) => None,
        })
        .collect()
}

fn run(replay: &Arc<Replay>, text: &str) {
    let mut scribe = Scribe::new(replay, 7);
    replay.ask();
    scribe.output(Channel::Stdout, text.as_bytes(), 1);
    scribe.exit(0, 2);
    drop(scribe.take());
}

#[test]
fn the_last_thousand_events_are_given_in_order_with_the_seq_they_had() {
    let replay = Arc::new(Replay::default());
    for number in 0..700 {
        run(&replay, &format!("{number}\n"));
    }
    let events = events(&replay);
    assert_eq!(events.len(), EVENTS_MAX);
    assert_eq!(lines(&events, EventKind::Stdout)[0], "200");
    assert!(events.chunks(2).all(|run| (run[0].seq, run[1].seq) == (0, 1)));
    // One run of more than that, in chunks of any size.
    let mut scribe = Scribe::new(&replay, 7);
    for number in 0..5000 {
        scribe.output(Channel::Stdout, format!("{number}\n").as_bytes(), 1);
        if number % 777 == 0 {
            drop(scribe.take());
        }
    }
    drop(scribe.take());
    let last: Vec<String> = (4000..5000).map(|number| number.to_string()).collect();
    assert_eq!(lines(&self::events(&replay), EventKind::Stdout), last);
}

#[test]
fn memory_is_bounded_and_whoever_follows_too_slowly_misses_the_oldest() {
    let replay = Arc::new(Replay::default());
    let line = "x".repeat(100_000);
    for _ in 0..200 {
        run(&replay, &format!("{line}\n"));
    }
    let kept: usize = replay.all().iter().map(Bytes::len).sum();
    assert!((BYTES_MAX / 2..=BYTES_MAX).contains(&kept), "{kept}");
    let (bytes, next) = replay.at(0).unwrap();
    assert!(bytes.starts_with(br#"{"type":"stdout""#) && next > 300, "{next}");
    assert!(replay.at(400).is_none());
    // A line that is more than all of it.
    run(&replay, &format!("{}\n", "y".repeat(12_000_000)));
    let events = events(&replay);
    let text = lines(&events, EventKind::Stdout).pop().unwrap();
    assert!(text.starts_with("yyy") && text.contains("podflare: ") && text.len() < 20_000);
    assert!(events.len() > 50, "one long line takes no room from the others");
}

/// Output on one channel; newlines are frequent, characters of several bytes are cut anywhere.
fn pieces() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let text = prop_oneof![
        Just("\n".to_owned()),
        Just("\n\n".to_owned()),
        "[aé\u{2028}😀\"]{0,4}",
        "[a-z]{1,5}\n[a-z]{0,5}",
    ];
    let cut = |(stdout, text, at): (bool, String, usize)| {
        let (one, two) = text.as_bytes().split_at(at.min(text.len()));
        [(stdout, one.to_vec()), (stdout, two.to_vec())]
    };
    // Halves of a character stay on their channel, one after the other.
    proptest::collection::vec((any::<bool>(), text, 0..8_usize).prop_map(cut), 0..12)
        .prop_map(|pairs| pairs.into_iter().flatten().collect())
}

fn feed(scribe: &mut Scribe, pieces: &[(bool, Vec<u8>)], take: usize) {
    for (number, (stdout, bytes)) in pieces.iter().enumerate() {
        let channel = if *stdout { Channel::Stdout } else { Channel::Stderr };
        if !bytes.is_empty() {
            scribe.output(channel, bytes, 1);
        }
        if number % take == 0 {
            drop(scribe.take());
        }
    }
    drop(scribe.take());
}

fn written(pieces: &[(bool, Vec<u8>)], stdout: bool) -> Vec<u8> {
    let channel = pieces.iter().filter(|(on, _)| *on == stdout);
    channel.flat_map(|(_, bytes)| bytes.clone()).collect()
}

fn as_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

proptest! {
    #[test]
    fn a_childs_replay_has_every_byte_once_wherever_the_clone_was_made(
        pieces in pieces(),
        // When the fork began, when the clone was made, and how far the host had read when it looked.
        mut moments in proptest::array::uniform3(0..25_usize),
        take in 1..6_usize,
        ended: bool,
    ) {
        for moment in &mut moments {
            *moment = (*moment).min(pieces.len());
        }
        moments.sort_unstable();
        let [begun, cloned, seen] = moments;
        let parent = Arc::new(Replay::default());
        run(&parent, "before\n");
        parent.ask();
        let mut scribe = Scribe::new(&parent, 7);
        feed(&mut scribe, &pieces[..begun], take);
        let mut succession = Succession::begin(&parent, true);
        feed(&mut scribe, &pieces[begun..seen], take);
        if ended && seen == pieces.len() {
            scribe.exit(0, 3);
            drop(scribe.take());
            run(&parent, "next\n");
        }
        prop_assert!(succession.look());
        let carried = Carried {
            run: 7,
            stdout_bytes: written(&pieces[..cloned], true).len() as u64,
            stderr_bytes: written(&pieces[..cloned], false).len() as u64,
        };
        let (child, mut scribe) = succession.heir_of(carried);
        feed(&mut scribe, &pieces[cloned..], take);
        scribe.exit(5, 4);
        drop(scribe.take());
        let events = events(&child);
        let mut stdout = vec!["before".to_owned()];
        stdout.extend(as_lines(&written(&pieces, true)));
        prop_assert_eq!(lines(&events, EventKind::Stdout), stdout);
        prop_assert_eq!(lines(&events, EventKind::Stderr), as_lines(&written(&pieces, false)));
        prop_assert_eq!(&events.last().unwrap().data, &EventData::Code(5));
        let seqs: Vec<u64> = events[2..].iter().map(|event| event.seq).collect();
        prop_assert!(seqs.is_sorted() && seqs.first() == Some(&0), "{:?}", seqs);
    }
}

#[test]
fn what_the_host_never_saw_is_said_to_be_missing() {
    let parent = Arc::new(Replay::default());
    parent.ask();
    let mut scribe = Scribe::new(&parent, 7);
    feed(&mut scribe, &[(true, b"seen\n".to_vec())], 1);
    let mut succession = Succession::begin(&parent, true);
    assert!(succession.look());
    let carried = Carried {
        run: 7,
        stdout_bytes: 105,
        stderr_bytes: 0,
    };
    let (child, mut scribe) = succession.heir_of(carried);
    feed(&mut scribe, &[(true, b"after\n".to_vec())], 1);
    let events = events(&child);
    assert_eq!(lines(&events, EventKind::Stdout), ["seen", "after"]);
    assert_eq!(
        lines(&events, EventKind::Stderr),
        ["podflare: 100 bytes of output before this are not kept"]
    );
}

#[test]
fn a_child_without_a_run_in_progress_has_nothing_that_began_after_the_clone() {
    let parent = Arc::new(Replay::default());
    run(&parent, "before\n");
    let mut idle = Succession::begin(&parent, false);
    assert!(!idle.look());
    // One that waited for its turn when the clone was made runs in the parent alone.
    let mut waiting = Succession::begin(&parent, true);
    run(&parent, "after\n");
    assert!(waiting.look());
    for heir in [idle.heir(), waiting.heir()] {
        assert_eq!(lines(&events(&heir), EventKind::Stdout), ["before"]);
    }
}

/// As a daemon finds it that comes after this one.
fn recalled(dir: &tempfile::TempDir) -> Arc<Replay> {
    Replay::recall(dir.path().join("replay"))
}

#[test]
fn the_next_daemon_has_what_this_one_had() {
    let dir = tempfile::tempdir().unwrap();
    let replay = Replay::kept_in(dir.path().join("replay"));
    assert_eq!(recalled(&dir).known(), Resume::default());
    // More than one file of events, some of them long, and never more than a log holds.
    for number in 0..2600 {
        run(&replay, &format!("{number}\n"));
        if number % 500 == 0 {
            run(&replay, &format!("{}\n", "x".repeat(1_000_000)));
            assert_eq!(recalled(&dir).all().concat(), replay.all().concat());
        }
    }
    let next = recalled(&dir);
    assert_eq!(next.all().concat(), replay.all().concat());
    assert!(next.known().ended && next.known().run == 7);
    // It is written on, and read again.
    run(&next, "after\n");
    next.close();
    assert_eq!(recalled(&dir).all().concat(), next.all().concat());
    assert!(std::fs::read_dir(dir.path()).unwrap().count() <= 2);
}

proptest! {
    #[test]
    fn a_run_that_two_daemons_have_followed_has_every_byte_once(
        pieces in pieces(), mut moments in proptest::array::uniform2(0..25_usize), take in 1..6_usize,
    ) {
        for moment in &mut moments {
            *moment = (*moment).min(pieces.len());
        }
        moments.sort_unstable();
        let dir = tempfile::tempdir().unwrap();
        let first = Replay::kept_in(dir.path().join("replay"));
        run(&first, "before\n");
        let mut scribe = Scribe::new(&first, 9);
        feed(&mut scribe, &pieces[..moments[0]], take);
        // What it has not made events of is gone with it. The guest has it still, and goes on.
        std::mem::forget(scribe);
        let second = recalled(&dir);
        let known = second.known();
        let (stdout, stderr) = (written(&pieces, true), written(&pieces, false));
        let mut scribe = if known.run == 9 {
            second.resume(&Resumed { run: 9, stdout_bytes: known.stdout_bytes, stderr_bytes: known.stderr_bytes })
        } else {
            prop_assert!(known.ended);
            second.resume(&Resumed { run: 9, ..Resumed::default() })
        };
        let from = if known.run == 9 { known } else { Resume::default() };
        for (channel, all, from) in [
            (Channel::Stdout, stdout, from.stdout_bytes), (Channel::Stderr, stderr, from.stderr_bytes),
        ] {
            let rest = &all[usize::try_from(from).unwrap()..];
            if !rest.is_empty() {
                scribe.output(channel, rest, 1);
            }
        }
        scribe.exit(5, 4);
        drop(scribe.take());
        let events = events(&recalled(&dir));
        let mut expected = vec!["before".to_owned()];
        expected.extend(as_lines(&written(&pieces, true)));
        prop_assert_eq!(lines(&events, EventKind::Stdout), expected);
        prop_assert_eq!(lines(&events, EventKind::Stderr), as_lines(&written(&pieces, false)));
        prop_assert_eq!(&events.last().unwrap().data, &EventData::Code(5));
    }

    #[test]
    fn a_damaged_journal_gives_what_is_whole_before_the_damage(
        at: prop::sample::Index, change in 1_u8.., cut: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        let replay = Replay::kept_in(path.clone());
        for number in 0..20 {
            run(&replay, &format!("{number}\n"));
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= change;
        }
        std::fs::write(&path, bytes).unwrap();
        let next = recalled(&dir);
        let found = events(&next);
        let all = events(&replay);
        // A changed character of a line that is still one is all that can go unnoticed.
        prop_assert!(found.len() <= all.len() && found.len().is_multiple_of(2));
        run(&next, "after\n");
        prop_assert_eq!(recalled(&dir).all().concat(), next.all().concat());
    }
}

#[test]
fn a_run_whose_end_nobody_has_heard_of_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let replay = Replay::kept_in(dir.path().join("replay"));
    let mut scribe = Scribe::new(&replay, 9);
    feed(&mut scribe, &[(true, b"said\nunfinished".to_vec())], 1);
    std::mem::forget(scribe);
    let next = recalled(&dir);
    assert_eq!(
        (next.known().run, next.known().ended, next.known().stdout_bytes),
        (9, false, 5)
    );
    next.close();
    let events = events(&next);
    assert_eq!(lines(&events, EventKind::Stdout), ["said"]);
    assert_eq!(&events.last().unwrap().data, &EventData::Code(130));
    assert!(next.known().ended);
}

#[test]
fn what_writing_down_costs_a_short_run() {
    const RUNS: u32 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let kept = Replay::kept_in(dir.path().join("replay"));
    let started = std::time::Instant::now();
    for _ in 0..RUNS {
        run(&kept, "1\n");
    }
    println!("a run of one line with a journal: {:?}", started.elapsed() / RUNS);
    let replay = Arc::new(Replay::default());
    let started = std::time::Instant::now();
    for _ in 0..RUNS {
        run(&replay, "1\n");
    }
    let with = started.elapsed() / RUNS;
    let started = std::time::Instant::now();
    for _ in 0..RUNS {
        let mut encoder = EventEncoder::default();
        encoder.output(Channel::Stdout, b"1\n", 1);
        encoder.exit(0, 2);
        drop(std::hint::black_box(encoder.take()));
    }
    println!(
        "a run of one line: {with:?}, without a replay {:?}",
        started.elapsed() / RUNS
    );
}
