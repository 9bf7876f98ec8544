//! Runs that shall stop: timeouts, and hosts that cancel them.

use std::time::{Duration, Instant};

use agent_proto::{Language, Request};

use crate::rig::{BOUND, Rig, eventually};

#[test]
fn a_run_that_takes_too_long_is_interrupted_and_the_state_stays() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("x = 1").says("");
    host.begin(
        Language::Python,
        "import time\nprint('on')\ntime.sleep(600)",
        // Long enough for the first line on a busy machine.
        Some(3000),
    );
    let outcome = host.finish();
    assert_eq!((outcome.out().as_str(), outcome.code), ("on\n", 124));
    assert!(outcome.err().contains("KeyboardInterrupt\n"), "{}", outcome.err());
    assert!(!outcome.err().contains("podflare"), "{}", outcome.err());
    assert!(
        outcome.err().ends_with("timed out after 3000 ms\n"),
        "{}",
        outcome.err()
    );
    host.begin(Language::Python, "while True: pass", Some(100));
    assert_eq!(host.finish().code, 124);
    host.begin(
        Language::Python,
        "import subprocess\nsubprocess.run(['sleep', '600'])",
        Some(100),
    );
    assert_eq!(host.finish().code, 124);
    host.begin(
        Language::Python,
        "import asyncio\nasyncio.run(asyncio.sleep(600))",
        Some(100),
    );
    assert_eq!(host.finish().code, 124);
    host.begin(Language::Bash, "echo on; sleep 600", Some(3000));
    let outcome = host.finish();
    assert_eq!(
        (outcome.out().as_str(), outcome.err().as_str(), outcome.code),
        ("on\n", "timed out after 3000 ms\n", 124)
    );
    host.python("x").says("1\n");
}

#[test]
fn a_timeout_that_is_not_reached_does_nothing() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.begin(Language::Python, "1", Some(60_000));
    host.finish().says("1\n");
    host.begin(Language::Python, "1", Some(u64::MAX));
    host.finish().says("1\n");
}

#[test]
fn a_host_that_cancels_interrupts_its_run_and_the_state_stays() {
    let rig = Rig::new();
    let mut stays = rig.host();
    for (language, code) in [
        (
            Language::Python,
            "x = 1\nimport time\nprint('on')\ntime.sleep(600)",
        ),
        (
            Language::Python,
            "import subprocess\nprint('on')\nsubprocess.run(['sleep', '600'])",
        ),
        (Language::Python, "while True: print('on')"),
        (Language::Bash, "echo on; sleep 600"),
        (Language::Bash, "while true; do echo on; done"),
    ] {
        let start = Instant::now();
        let mut leaves = rig.host();
        leaves.begin(language, code, None);
        leaves.wait_for_output("on\n");
        leaves.cancel();
        stays.python("x").says("1\n");
        assert!(start.elapsed() < BOUND);
    }
}

#[test]
fn saying_anything_during_a_run_cancels_it() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.begin(
        Language::Python,
        "import time\nprint('on')\ntime.sleep(600)",
        None,
    );
    host.wait_for_output("on\n");
    host.send(&Request::Ping);
    eventually("the agent has closed the connection", || {
        host.try_reply().is_err()
    });
    rig.host().python("'alive'").says("'alive'\n");
}

#[test]
fn a_subprocess_that_ignores_interrupts_is_killed_and_older_ones_are_spared() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import subprocess, time\nold = subprocess.Popen(['sleep', '600'])\ntime.sleep(0.03)")
        .says("");
    host.begin(
        Language::Python,
        "subprocess.run(['sh', '-c', 'trap \"\" INT; while true; do sleep 1; done'])",
        Some(50),
    );
    let outcome = host.finish();
    assert_eq!(outcome.code, 124, "{}", outcome.err());
    assert!(!outcome.err().contains("restarted"), "{}", outcome.err());
    host.python("alive = old.poll() is None; old.kill(); alive")
        .says("True\n");
}

#[test]
fn a_run_that_swallows_the_first_interrupt_gets_another() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.begin(
        Language::Python,
        "import time\nx = 1\ntry: time.sleep(600)\nexcept KeyboardInterrupt: print('no')\ntime.sleep(600)",
        // Long enough to come to the first sleep on a busy machine.
        Some(3000),
    );
    let outcome = host.finish();
    assert_eq!((outcome.out().as_str(), outcome.code), ("no\n", 124));
    host.python("x").says("1\n");
}

#[test]
fn a_run_that_ignores_everything_loses_its_process() {
    let rig = Rig::new();
    let mut host = rig.host();
    let start = Instant::now();
    host.begin(
        Language::Python,
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)",
        // Long enough to come to ignoring it on a busy machine.
        Some(3000),
    );
    let outcome = host.finish();
    assert_eq!(outcome.code, 124);
    assert!(outcome.err().contains("signal 9, SIGKILL"), "{}", outcome.err());
    assert!(start.elapsed() > Duration::from_secs(13));
    host.python("'alive'").says("'alive'\n");
}

#[test]
fn a_handler_left_behind_does_not_survive_its_run() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nNone")
        .says("");
    host.begin(Language::Python, "time.sleep(600)", Some(50));
    let outcome = host.finish();
    assert!(
        outcome.code == 124 && !outcome.err().contains("restarted"),
        "{}",
        outcome.err()
    );
}

#[test]
fn interrupts_at_the_edge_of_a_run_poison_nothing() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import time\nx = 1").says("");
    for round in 0..150_u64 {
        // The end of the run and the timeout meet.
        host.begin(Language::Python, "time.sleep(0.003)", Some(2 + round % 3));
        let outcome = host.finish();
        assert!([0, 124].contains(&outcome.code), "{}", outcome.err());
        assert!(!outcome.err().contains("restarted"), "{}", outcome.err());
        host.python("x").says("1\n");
    }
}
