//! What the agent of a clone makes of the connections and runs it has inherited.

use std::thread;
use std::time::{Duration, Instant};

use agent_proto::{Carried, FailureCode, Language, Reply, Request};

use crate::rig::{Host, Rig, eventually};

/// Says that it is on, waits for the file `go`, and goes on.
fn waiting(then: &str) -> String {
    format!("import os, time\nprint('on')\nwhile not os.path.exists('go'): time.sleep(0.005)\n{then}")
}

/// A run in progress, on a machine that has just been cloned.
fn cloned(rig: &Rig, then: &str) {
    let mut parents = rig.host();
    parents.begin(Language::Python, &waiting(then), None);
    parents.wait_for_output("on\n");
    rig.clone_machine();
    assert!(parents.try_reply().is_err(), "the connection is the parent's");
}

fn go(rig: &Rig) {
    std::fs::write(rig.home().join("go"), "").unwrap();
}

fn ask_to_follow(rig: &Rig) -> Host {
    let mut host = rig.host();
    host.send(&Request::Follow);
    host
}

/// The run that is carried on, and where its output begins.
fn follow_from(rig: &Rig) -> (Host, Carried) {
    let mut host = ask_to_follow(rig);
    match host.reply() {
        Reply::Carried(carried) => (host, carried),
        other => panic!("there is a run to follow: {other:?}"),
    }
}

fn follow(rig: &Rig) -> Host {
    follow_from(rig).0
}

#[test]
fn the_run_in_progress_goes_on_and_new_runs_queue_behind_it() {
    let rig = Rig::new();
    cloned(&rig, "print('off'); x = 1");
    let mut next = rig.host();
    next.begin(Language::Python, "x", None);
    let mut follower = follow(&rig);
    assert!(!next.has_reply());
    go(&rig);
    follower.finish().says("off\n");
    next.finish().says("1\n");
    // The connection that has followed is an ordinary one again.
    follower.bash("echo 1").says("1\n");
}

#[test]
fn the_run_in_progress_may_be_bash_and_its_timeout_counts_on() {
    let rig = Rig::new();
    let mut parents = rig.host();
    parents.begin(Language::Bash, "echo on; sleep 600", Some(4000));
    parents.wait_for_output("on\n");
    rig.clone_machine();
    follow(&rig).finish().fails(124, "timed out after 4000 ms\n");
}

#[test]
fn its_end_is_kept_until_the_next_run_and_can_be_read_again() {
    let rig = Rig::new();
    cloned(&rig, "print('off')\nraise SystemExit(3)");
    go(&rig);
    for _ in 0..2 {
        let outcome = follow(&rig).finish();
        assert_eq!((outcome.out().as_str(), outcome.code), ("off\n", 3));
    }
    rig.host().bash("true").says("");
    assert!(not_found(&mut ask_to_follow(&rig)));
}

fn not_found(host: &mut Host) -> bool {
    matches!(host.reply(), Reply::Failed(failure) if failure.code == FailureCode::NotFound)
}

#[test]
fn without_a_run_in_progress_there_is_nothing_to_follow() {
    let rig = Rig::new();
    assert!(not_found(&mut ask_to_follow(&rig)));
    let mut parents = rig.host();
    parents.python("x = 1").says("");
    rig.clone_machine();
    let mut host = ask_to_follow(&rig);
    assert!(not_found(&mut host));
    host.python("x").says("1\n");
    eventually("the agent lets go of the parent's connections", || {
        rig.has_let_go()
    });
}

#[test]
fn runs_that_were_waiting_are_the_parents() {
    let rig = Rig::new();
    let mut parents = rig.host();
    parents.begin(Language::Python, &waiting(""), None);
    parents.wait_for_output("on\n");
    let mut waiting: Vec<_> = (0..3).map(|_| rig.host()).collect();
    for host in &mut waiting {
        host.begin(Language::Bash, "echo > ran", None);
    }
    eventually("they are in line", || rig.services().runs() == 4);
    rig.clone_machine();
    go(&rig);
    follow(&rig).finish().says("");
    eventually("the agent lets go of the parent's connections", || {
        rig.has_let_go()
    });
    rig.host().bash("ls").says("go\n");
}

#[test]
fn of_too_much_output_the_newest_is_kept_and_the_rest_counted() {
    let rig = Rig::new();
    cloned(
        &rig,
        "import sys\nfor i in range(300_000): print(f'{i:09}')\nopen('done', 'w')\nwhile True: time.sleep(1)",
    );
    go(&rig);
    eventually("the output has been written", || rig.home().join("done").exists());
    // The rest is in the run's pipe, on its way.
    let mut follower = follow(&rig);
    let Reply::Dropped { bytes: dropped } = follower.reply() else {
        panic!("3 MB are more than is kept");
    };
    let mut got = Vec::new();
    while !got.ends_with(b"000299999\n") {
        match follower.reply() {
            Reply::Stdout(bytes) => got.extend(bytes),
            other => panic!("{other:?} in the output"),
        }
    }
    assert_eq!(usize::try_from(dropped).unwrap() + got.len(), 3_000_000);
    assert!(got.len() > 500_000, "{} bytes kept", got.len());
}

#[test]
fn a_follower_misses_nothing_while_it_follows_however_slow() {
    let rig = Rig::new();
    cloned(
        &rig,
        "print('off')\nwhile os.path.exists('go'): time.sleep(0.005)\n\
         for i in range(500_000):\n    print(f'{i:09}')\n    if i % 1000 == 0: open('count', 'w').write(str(i))",
    );
    let mut follower = follow(&rig);
    go(&rig);
    follower.wait_for_output("off\n");
    std::fs::remove_file(rig.home().join("go")).unwrap();
    let (mut count, mut unchanged) = (String::new(), 0);
    eventually("the run waits for its follower", || {
        let now = std::fs::read_to_string(rig.home().join("count")).unwrap_or_default();
        // Empty before the first and while it is being written.
        unchanged = if now == count && !now.is_empty() {
            unchanged + 1
        } else {
            0
        };
        count = now;
        unchanged == 20
    });
    assert!(count.parse::<u32>().is_ok_and(|count| count < 499_000), "{count}");
    assert_eq!(follower.finish().stdout.len(), 5_000_000);
}

#[test]
fn a_second_follower_is_refused_and_one_that_leaves_cancels_nothing() {
    let rig = Rig::new();
    cloned(
        &rig,
        "print('off')\nwhile os.path.exists('go'): time.sleep(0.005)\nprint('end')",
    );
    go(&rig);
    let mut first = follow(&rig);
    first.wait_for_output("off\n");
    assert!(busy(&ask_to_follow(&rig).reply()));
    drop(first);
    finds_off(&rig);
}

#[test]
fn a_clone_of_the_clone_carries_the_run_on_too() {
    let rig = Rig::new();
    cloned(
        &rig,
        "print('off')\nwhile os.path.exists('go'): time.sleep(0.005)\nprint('end')",
    );
    let mut follower = follow(&rig);
    go(&rig);
    follower.wait_for_output("off\n");
    rig.clone_machine();
    assert!(follower.try_reply().is_err(), "the connection is the parent's");
    finds_off(&rig);
}

/// The run can be followed, from the beginning of what is kept, once the last follower is gone.
#[track_caller]
fn finds_off(rig: &Rig) {
    let mut host = rig.host();
    eventually("the last follower is gone", || {
        host.send(&Request::Follow);
        let reply = host.reply();
        assert!(busy(&reply) || matches!(reply, Reply::Carried(_)), "{reply:?}");
        !busy(&reply)
    });
    assert_eq!(host.reply(), Reply::Stdout(b"off\n".to_vec()));
    std::fs::remove_file(rig.home().join("go")).unwrap();
    host.finish().says("end\n");
}

fn busy(reply: &Reply) -> bool {
    matches!(reply, Reply::Failed(failure) if failure.code == FailureCode::Busy)
}

#[test]
fn every_byte_goes_to_the_parent_or_to_the_clone_and_none_to_both() {
    let rig = Rig::new();
    // More than its host's socket holds. The shorter one fits into that and the run's pipe, so that it ends, unless it
    // comes in so small pieces that the socket holds less than usual.
    for (lines, ends) in [(60_000, false), (20_000, true)] {
        let mut parents = rig.host();
        let code = format!("for i in range({lines}): print(f'{{i:09}}')\nwith open('done', 'w'): pass");
        parents.begin(Language::Python, &code, None);
        parents.wait_for_reply();
        if ends {
            let patience = Instant::now() + Duration::from_secs(2);
            while !rig.home().join("done").exists() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(5));
            }
        }
        rig.clone_machine();
        let mut output = parents.read_whole_output();
        let (mut follower, carried) = follow_from(&rig);
        assert_eq!(
            carried.stdout_bytes,
            output.len() as u64,
            "it is told where it begins"
        );
        assert_eq!(carried.stderr_bytes, 0);
        output.extend(follower.finish().stdout);
        let expected: String = (0..lines).map(|i| format!("{i:09}\n")).collect();
        assert!(output == expected.as_bytes(), "{} bytes", output.len());
        std::fs::remove_file(rig.home().join("done")).unwrap();
    }
}
