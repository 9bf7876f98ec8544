//! Programs on terminals: what they find, what they are told, and how they end.

use agent_proto::{FailureCode, PtyRequest, PtySize, Reply};

use crate::rig::{Rig, eventually};
use crate::terminal::{SIZE, open, program, shell};

#[test]
fn a_shell_command_has_a_terminal_of_its_own() {
    let rig = Rig::new();
    let (text, code) = rig.host().runs(shell(
        1,
        "tty; stty size; echo $TERM; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; \
         ps -o sid=,pgid=,tpgid= -p $$ | tr -s ' '; echo $$; shopt -q login_shell && echo login; pwd; exit 7",
    ));
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{text}");
    assert_eq!(lines[1..4], ["24 80", "xterm-256color", "all"], "{text}");
    // Session, group and foreground group of the terminal are all the shell's.
    assert_eq!(lines[4], [lines[5]; 3].join(" "), "{text}");
    assert_eq!(lines[6], "login");
    assert_eq!(lines[7], rig.home().to_str().unwrap());
    assert_eq!((lines.len(), code), (8, 7), "{text}");
}

#[test]
fn arguments_are_executed_as_they_are_with_their_environment_and_directory() {
    let rig = Rig::new();
    let mut host = rig.host();
    let mut create = program(1, &["printf", "%s|", "$HOME", "a b", ""]);
    assert_eq!(host.runs(create), ("$HOME|a b||".to_owned(), 0));
    create = program(
        2,
        &[
            "python3",
            "-c",
            "import os; print(os.getcwd(), os.environ['X'], os.environ['TERM'])",
        ],
    );
    std::fs::create_dir(rig.home().join("sub")).unwrap();
    create.directory = Some("sub".to_owned());
    create.environment = [("X", "1"), ("X", "2"), ("TERM", "dumb")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let expected = format!("{} 2 dumb\r\n", rig.home().join("sub").display());
    assert_eq!(host.runs(create), (expected, 0));
    // The agent's own directory has not moved.
    assert_eq!(
        host.runs(program(3, &["pwd"])).0,
        format!("{}\r\n", rig.home().display())
    );
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    let rig = Rig::new();
    let mut host = rig.host();
    let mut elsewhere = shell(1, "true");
    elsewhere.directory = Some("/no/such/place".to_owned());
    let mut assigned = shell(1, "true");
    assigned.environment = vec![("A=B".to_owned(), String::new())];
    let mut flat = shell(1, "true");
    flat.size = PtySize { rows: 0, ..SIZE };
    for (create, why) in [
        (program(1, &["no-such-program"]), "\"no-such-program\" in PATH"),
        (program(1, &["/no/such/file"]), "/no/such/file: No such file"),
        (program(1, &["/etc/passwd"]), "/etc/passwd: Permission denied"),
        (program(1, &[]), "argv"),
        (shell(1, "a\0b"), "shellCmd: text with a NUL"),
        (elsewhere, "cwd: cannot enter /no/such/place: No such file"),
        (assigned, "env: \"A=B\" is no name"),
        (flat, "rows: expected a whole number between 1 and 4096, got 0"),
    ] {
        let failure = host.refused(PtyRequest::Create(create));
        assert_eq!(failure.code, FailureCode::BadRequest, "{failure:?}");
        assert!(failure.message.contains(why), "{failure:?}");
    }
    assert_eq!(host.terminals(), []);
}

#[test]
fn control_characters_and_the_window_reach_the_program() {
    let rig = Rig::new();
    let (mut follower, mut seen, mut typist) = open(&rig, program(1, &["cat"]));
    typist.type_in(1, "gr\u{fc}n\u{7f}\u{7f}\n".as_bytes());
    follower.see(&mut seen, "gr\r\n");
    typist.type_in(1, b"\x03");
    assert_eq!(follower.see_all(&mut seen), 130);
    let (mut follower, mut seen, mut typist) = open(
        &rig,
        shell(
            2,
            "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done",
        ),
    );
    follower.see(&mut seen, "ready");
    let size = PtySize {
        columns: 132,
        rows: 50,
    };
    typist.done(PtyRequest::Resize { name: [2; 16], size });
    follower.see(&mut seen, "50 132");
    typist.kill(2);
    assert_eq!(follower.see_all(&mut seen), 137);
}

#[test]
fn any_byte_goes_both_ways() {
    let rig = Rig::new();
    let (mut follower, mut seen, mut typist) =
        open(&rig, shell(1, "stty raw -echo; echo ready; head -c 1000192"));
    follower.see(&mut seen, "ready");
    let before = seen.bytes.len();
    let all: Vec<u8> = (0..=255).collect();
    let long: Vec<u8> = all.iter().cycle().take(1_000_000 - 64).copied().collect();
    typist.type_in(1, &all);
    typist.type_in(1, &long);
    assert_eq!(follower.see_all(&mut seen), 0);
    assert_eq!(seen.lost, 0);
    let got = String::from_utf8_lossy(&seen.bytes[..before]).into_owned();
    let sent = [all, long].concat();
    assert!(
        seen.bytes.ends_with(&sent),
        "{} of {} bytes after {got:?}",
        seen.bytes.len(),
        sent.len()
    );
}

#[test]
fn killing_ends_everything_in_the_session_and_exiting_only_the_program() {
    let rig = Rig::new();
    // What they are found by is nobody else's.
    let [first, second, third] = [0, 1, 2].map(|number| 1_000_000 + 3 * std::process::id() + number);
    let (mut follower, mut seen, mut typist) = open(
        &rig,
        shell(
            1,
            &format!("set -m; sleep {first} & (trap '' HUP; sleep {second}) & echo $! ready; wait"),
        ),
    );
    follower.see(&mut seen, "ready");
    let alive = |seconds: u32| {
        let found = std::process::Command::new("pgrep")
            .args(["-fx", &format!("sleep {seconds}")])
            .output();
        !found.unwrap().stdout.is_empty()
    };
    eventually("the background is there", || alive(first) && alive(second));
    typist.kill(1);
    assert_eq!(follower.see_all(&mut seen), 137);
    eventually("the background is gone", || !alive(first) && !alive(second));
    // Killing what has exited changes nothing.
    typist.kill(1);
    let has_begun = format!("until pgrep -fx 'sleep {third}' > /dev/null; do sleep 0.02; done");
    let survivor = format!("nohup sleep {third} > /dev/null 2>&1 & {has_begun}; exit 3");
    assert_eq!(rig.host().runs(shell(2, &survivor)).1, 3);
    assert!(alive(third));
    rig.host().bash(&format!("pkill -fx 'sleep {third}'"));
}

#[test]
fn output_of_the_last_moment_is_not_lost() {
    let rig = Rig::new();
    let mut host = rig.host();
    for round in 0..20 {
        let (text, code) = host.runs(shell(round, "seq 20000; printf end; exit 4"));
        assert!(
            text.ends_with("20000\r\nend") && code == 4,
            "round {round}: {} bytes",
            text.len()
        );
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let rig = Rig::new();
    let mut host = rig.host();
    for (name, signal) in [(1, 6), (2, 9), (3, 15)] {
        assert_eq!(
            host.runs(shell(name, &format!("kill -{signal} $$"))).1,
            128 + signal
        );
    }
}

#[test]
fn input_that_nobody_reads_is_refused_after_a_while_and_harms_nobody() {
    let rig = Rig::new();
    let (mut follower, mut seen, mut typist) = open(
        &rig,
        program(1, &["sh", "-c", "stty raw -echo; echo ready; sleep 1000"]),
    );
    follower.see(&mut seen, "ready");
    let failure = typist.refused(PtyRequest::Input {
        name: [1; 16],
        bytes: vec![b'x'; 1_000_000],
    });
    assert_eq!(failure.code, FailureCode::Busy);
    assert!(
        failure.message.contains("of 1000000 bytes were taken"),
        "{failure:?}"
    );
    rig.host().python("1 + 1").says("2\n");
    typist.kill(1);
    assert_eq!(follower.see_all(&mut seen), 137);
    let failure = typist.refused(PtyRequest::Input {
        name: [1; 16],
        bytes: b"x".to_vec(),
    });
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (FailureCode::BadRequest, "the program has exited")
    );
}

#[test]
fn a_name_nobody_has_is_not_found() {
    let rig = Rig::new();
    let mut host = rig.host();
    let name = [9; 16];
    for request in [
        PtyRequest::Input { name, bytes: vec![1] },
        PtyRequest::Resize { name, size: SIZE },
        PtyRequest::Kill { name },
        PtyRequest::Attach { name, since: 0 },
        PtyRequest::Read(agent_proto::PtyRead {
            name,
            since: 0,
            bytes_max: 1,
            wait_ms: 1,
        }),
    ] {
        assert_eq!(host.refused(request).code, FailureCode::NotFound);
    }
    assert!(matches!(host.pty(PtyRequest::List), Reply::Pty(_)));
}
