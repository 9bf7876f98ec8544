//! Runs whose host is gone, and the host that comes after it.

use agent_proto::{FailureCode, Language, Reply, Request, Resume, Resumed};

use crate::rig::{Host, Outcome, Rig, eventually};

/// Says that it is on, waits for the file `go`, and goes on.
fn waiting(then: &str) -> String {
    format!("import os, time\nprint('on')\nwhile not os.path.exists('go'): time.sleep(0.005)\n{then}")
}

fn go(rig: &Rig) {
    std::fs::write(rig.home().join("go"), "").unwrap();
}

fn resume(rig: &Rig, known: Resume) -> (Host, Reply) {
    let mut host = rig.host();
    host.send(&Request::Resume(known));
    let reply = host.reply();
    (host, reply)
}

/// Of a host that has got so much of run 1.
fn got(stdout_bytes: u64) -> Resume {
    Resume {
        run: 1,
        ended: false,
        stdout_bytes,
        stderr_bytes: 0,
    }
}

fn nothing_to_resume(reply: &Reply) -> bool {
    matches!(reply, Reply::Failed(failure) if failure.code == FailureCode::NotFound)
}

#[track_caller]
fn the_rest(rig: &Rig, known: Resume) -> Outcome {
    let (mut host, reply) = resume(rig, known);
    let expected = Resumed {
        run: 1,
        stdout_bytes: known.stdout_bytes,
        stderr_bytes: known.stderr_bytes,
    };
    assert_eq!(reply, Reply::Resumed(expected));
    host.finish()
}

#[test]
fn a_run_goes_on_without_its_host_and_the_next_one_gets_the_rest() {
    let rig = Rig::new();
    let mut first = rig.host();
    first.begin(Language::Python, &waiting("print('off'); x = 1"), None);
    first.wait_for_output("on\n");
    drop(first);
    // Two of three bytes had been read by the host that is gone.
    let (mut second, _) = resume(&rig, got(2));
    let mut next = rig.host();
    next.begin(Language::Python, "x", None);
    go(&rig);
    assert_eq!(second.finish().out(), "\noff\n");
    next.finish().says("1\n");
}

#[test]
fn output_that_a_host_was_sent_and_never_read_is_not_lost() {
    let rig = Rig::new();
    let lines = 20_000;
    let mut first = rig.host();
    let code = format!("for i in range({lines}): print(f'{{i:09}}')\nopen('done', 'w').close()");
    first.begin(Language::Python, &code, None);
    first.wait_for_reply();
    drop(first);
    eventually("the run has ended", || rig.home().join("done").exists());
    let expected: String = (0..lines).map(|i| format!("{i:09}\n")).collect();
    for read in [0, 5, 100_000, 200_000] {
        let rest = the_rest(&rig, got(read));
        assert!(rest.stdout == expected.as_bytes()[usize::try_from(read).unwrap()..]);
        assert_eq!(rest.code, 0);
    }
}

#[test]
fn the_last_run_is_there_for_a_host_that_has_not_got_its_end() {
    let rig = Rig::new();
    assert!(nothing_to_resume(&resume(&rig, got(0)).1));
    let mut first = rig.host();
    first.bash("echo out; echo err >&2; exit 3");
    drop(first);
    let ended = Resume {
        ended: true,
        ..got(4)
    };
    assert!(nothing_to_resume(&resume(&rig, ended).1));
    let rest = the_rest(&rig, got(2));
    assert_eq!(
        (rest.out().as_str(), rest.err().as_str(), rest.code),
        ("t\n", "err\n", 3)
    );
    // A host that knows of another run, and not of this one, gets all of it.
    let other = Resume {
        run: 7,
        ended: true,
        stdout_bytes: 2,
        stderr_bytes: 0,
    };
    let (mut host, reply) = resume(&rig, other);
    let whole = Resumed {
        run: 1,
        ..Resumed::default()
    };
    assert_eq!(reply, Reply::Resumed(whole));
    assert_eq!(host.finish().out(), "out\n");
    host.run = 0;
    host.bash("echo nobody asks for this one")
        .says("nobody asks for this one\n");
    assert!(nothing_to_resume(&resume(&rig, got(0)).1));
}

#[test]
fn what_is_not_kept_any_more_is_counted() {
    let rig = Rig::new();
    let mut first = rig.host();
    let code = "for i in range(300_000): print(f'{i:09}')\nopen('done', 'w').close()";
    first.begin(Language::Python, code, None);
    first.wait_for_reply();
    drop(first);
    eventually("the run has ended", || rig.home().join("done").exists());
    let (mut host, _) = resume(&rig, got(1000));
    let Reply::Dropped { bytes } = host.reply() else {
        panic!("3 MB are more than is kept");
    };
    let rest = host.finish();
    assert_eq!(
        1000 + usize::try_from(bytes).unwrap() + rest.stdout.len(),
        3_000_000
    );
    assert!(rest.stdout.ends_with(b"000299999\n"));
}

#[test]
fn a_run_without_a_host_ends_by_its_timeout() {
    let rig = Rig::new();
    let mut first = rig.host();
    first.begin(Language::Bash, "echo on; sleep 600", Some(3000));
    first.wait_for_output("on\n");
    drop(first);
    let rest = the_rest(&rig, got(3));
    rest.fails(124, "timed out after 3000 ms\n");
}
