//! Who reads a terminal, how fast, and from where.

use std::time::{Duration, Instant};

use agent_proto::{FailureCode, PTY_KEPT_BYTES, PtyRequest};

use crate::rig::{Rig, eventually};
use crate::terminal::{open, program, shell};

#[test]
fn everybody_who_follows_sees_everything() {
    let rig = Rig::new();
    let (mut first, mut seen, mut typist) = open(&rig, program(1, &["cat"]));
    typist.type_in(1, b"one\n");
    first.see(&mut seen, "one\r\none\r\n");
    let mut second = rig.host();
    let mut late = second.attach(1, 0);
    second.see(&mut late, "one\r\none\r\n");
    let mut third = rig.host();
    let mut latest = third.attach(1, seen.next());
    typist.type_in(1, b"two\n");
    for (host, seen) in [
        (&mut first, &mut seen),
        (&mut second, &mut late),
        (&mut third, &mut latest),
    ] {
        host.see(seen, "two\r\ntwo\r\n");
    }
    assert_eq!(seen.bytes, late.bytes);
    assert_eq!(latest.text(), "two\r\ntwo\r\n");
    // One goes, the others stay.
    drop(second);
    typist.type_in(1, b"\x04");
    assert_eq!((first.see_all(&mut seen), third.see_all(&mut latest)), (0, 0));
    // And whoever comes after the end sees it all, and the end.
    let mut last = rig.host();
    let mut kept = last.attach(1, 0);
    assert_eq!(last.see_all(&mut kept), 0);
    assert_eq!(kept.bytes, seen.bytes);
}

#[test]
fn who_does_not_read_holds_up_nobody_and_is_told_what_was_lost() {
    let rig = Rig::new();
    let (mut reader, mut seen, mut typist) = open(&rig, shell(1, "read; seq 1000000; printf end"));
    let mut sleeper = rig.host();
    let mut slept = sleeper.attach(1, 0);
    typist.type_in(1, b"\n");
    assert_eq!(reader.see_all(&mut seen), 0);
    assert!(seen.text().ends_with("1000000\r\nend"));
    assert_eq!(sleeper.see_all(&mut slept), 0);
    // Seven million bytes went by, of which its socket and the session held something.
    assert!(slept.lost > 1_000_000, "{}", slept.lost);
    assert_eq!(slept.next(), seen.next());
    assert!(slept.text().ends_with("1000000\r\nend"));
}

#[test]
fn the_newest_mebibyte_is_kept_to_the_byte() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.done(PtyRequest::Create(shell(
        1,
        "stty -opost; python3 -c 'print(\"\\u00fc\" * 1500000, end=\"\")'",
    )));
    eventually("it has exited", || host.terminals()[0].exit_code == Some(0));
    let mut seen = host.attach(1, 0);
    assert_eq!(host.see_all(&mut seen), 0);
    assert_eq!(seen.bytes.len(), PTY_KEPT_BYTES);
    assert_eq!(seen.start, Some(3_000_000 - PTY_KEPT_BYTES as u64));
    assert!(seen.bytes.chunks(2).all(|pair| pair == "\u{fc}".as_bytes()));
    // From the middle of it, and from beyond its end.
    let mut some = host.attach(1, 2_999_990);
    assert_eq!((host.see_all(&mut some), some.bytes.len()), (0, 10));
    let mut none = host.attach(1, u64::MAX);
    assert_eq!((host.see_all(&mut none), none.bytes.len()), (0, 0));
}

#[test]
fn a_read_waits_for_output_and_not_longer_than_asked() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.done(PtyRequest::Create(shell(
        1,
        "printf abcdef; read; printf ghi; exit 5",
    )));
    eventually("the first output is there", || {
        host.read_terminal(1, 0, 64, 0).1 == b"abcdef"
    });
    assert_eq!(host.read_terminal(1, 0, 4, 1000), (0, b"abcd".to_vec(), None));
    assert_eq!(host.read_terminal(1, 4, 64, 1000), (4, b"ef".to_vec(), None));
    let begun = Instant::now();
    assert_eq!(host.read_terminal(1, 6, 64, 100), (6, vec![], None));
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let mut typist = rig.host();
    let typing = std::thread::spawn(move || typist.type_in(1, b"\n"));
    let (mut at, mut rest) = (6, Vec::new());
    let code = loop {
        let (seq, bytes, code) = host.read_terminal(1, at, 64, 30_000);
        assert_eq!(seq, at);
        at += bytes.len() as u64;
        rest.extend(bytes);
        if let Some(code) = code {
            break code;
        }
    };
    typing.join().unwrap();
    assert_eq!((rest.as_slice(), code), (&b"\r\nghi"[..], 5));
    // At the end there is nothing to wait for.
    assert_eq!(host.read_terminal(1, at, 64, 30_000), (at, vec![], Some(5)));
}

#[test]
fn sessions_are_listed_until_too_many_have_ended() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.done(PtyRequest::Create(shell(0, "sleep 1000")));
    for name in 1..=40 {
        host.runs(program(name, &["sh", "-c", "exit 3"]));
    }
    let sessions = host.terminals();
    assert_eq!(sessions.len(), 33);
    assert_eq!(
        (sessions[0].label.as_str(), sessions[0].exit_code),
        ("sleep 1000", None)
    );
    assert_eq!(sessions[0].created_at_ms, 1_700_000_000_000);
    let last = &sessions[32];
    assert_eq!(
        (last.name, last.label.as_str(), last.exit_code),
        ([40; 16], "sh -c exit 3", Some(3))
    );
    assert_eq!(sessions[1].name, [9; 16]);
    let taken = host.refused(PtyRequest::Create(shell(0, "true")));
    assert_eq!(taken.code, FailureCode::BadRequest);
    host.kill(0);
    let long = "x".repeat(300);
    host.runs(shell(50, &format!(": \u{fc}{long}")));
    assert_eq!(host.terminals().last().unwrap().label.len(), 256);
}

#[test]
fn so_many_terminals_run_at_once_and_no_more() {
    let rig = Rig::new();
    let mut host = rig.host();
    for name in 0..32 {
        host.done(PtyRequest::Create(program(name, &["cat"])));
    }
    let failure = host.refused(PtyRequest::Create(program(32, &["cat"])));
    assert_eq!(failure.code, FailureCode::Busy);
    assert!(failure.message.contains("32 terminals run"), "{failure:?}");
    host.kill(0);
    eventually("one has exited", || {
        host.terminals().iter().any(|session| session.exit_code.is_some())
    });
    host.done(PtyRequest::Create(program(32, &["cat"])));
    for name in 0..=32 {
        host.kill(name);
    }
}

#[test]
fn sessions_go_on_in_a_clone_and_are_attached_to_anew() {
    let rig = Rig::new();
    let (mut parents, mut seen, mut typist) =
        open(&rig, shell(1, "read x; echo got $x; read y; echo and $y; exit 6"));
    typist.type_in(1, b"before\n");
    parents.see(&mut seen, "got before");
    rig.clone_machine();
    eventually("the agent has let go of the parent's host", || rig.has_let_go());
    let mut host = rig.host();
    assert_eq!(host.terminals()[0].exit_code, None);
    let mut seen = host.attach(1, 0);
    host.see(&mut seen, "got before");
    rig.host().type_in(1, b"after\n");
    assert_eq!(host.see_all(&mut seen), 6);
    assert!(seen.text().contains("and after"));
}
