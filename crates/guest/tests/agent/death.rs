//! The Python process dies, and another takes its place.

use std::fs;

use crate::rig::Rig;

#[test]
fn a_run_whose_process_dies_says_so_and_the_next_one_works() {
    let rig = Rig::new();
    let mut host = rig.host();
    for (code, expected, how) in [
        ("import os\nprint('last words')\nos._exit(3)", 3, "exit code 3"),
        ("import os\nprint('last words')\nos._exit(0)", 0, "exit code 0"),
        (
            "print('last words')\nimport ctypes\nctypes.string_at(0)",
            139,
            "signal 11, SIGSEGV",
        ),
        (
            "print('last words')\nimport os, signal\nos.kill(os.getpid(), 9)",
            137,
            "signal 9, SIGKILL",
        ),
    ] {
        host.python("x = 1; open('file', 'w').close()").says("");
        let outcome = host.python(code);
        assert_eq!(
            (outcome.out().as_str(), outcome.code),
            ("last words\n", expected),
            "{}",
            outcome.err()
        );
        let note = format!(
            "the Python process ended ({how}); it has been restarted: variables are lost, files remain\n"
        );
        assert!(outcome.err().ends_with(&note), "{}", outcome.err());
        host.python("x").fails(1, "NameError");
        assert!(rig.home().join("file").exists());
    }
}

#[test]
fn a_process_that_loses_its_control_socket_is_replaced() {
    let rig = Rig::new();
    let mut host = rig.host();
    let outcome = host.python("x = 1\nprint('last words')\nimport os\nos.closerange(3, 4096)");
    assert_eq!(outcome.out(), "last words\n");
    // It ends by itself, or is killed because it no longer listens: whichever is noticed first.
    assert!([1, 137].contains(&outcome.code), "{outcome:?}");
    assert!(
        outcome.err().starts_with("the Python process ended"),
        "{}",
        outcome.err()
    );
    host.python("x").fails(1, "NameError");
}

#[test]
fn a_process_killed_between_two_runs_is_replaced_without_a_word() {
    let rig = Rig::new();
    let mut host = rig.host();
    for _ in 0..5 {
        let pid = host.python("import os; os.getpid()").out();
        host.bash(&format!("kill -9 {pid}")).says("");
        // The supervisor may not have noticed yet; either way a process answers.
        let outcome = host.python("'alive'");
        assert!(outcome.out() == "'alive'\n" || outcome.code == 137, "{outcome:?}");
    }
}

#[test]
fn stopping_the_services_leaves_no_process() {
    let rig = Rig::new();
    let pid = rig.host().python("import os; os.getpid()").out();
    rig.services().stop();
    assert!(!fs::exists(format!("/proc/{}", pid.trim())).unwrap());
}
