//! One run at a time, in the order they came.

use agent_proto::{FailureCode, Language, Reply};

use crate::rig::{Host, Rig, eventually};

const BLOCK: &str = "import os, time\nprint('on')\nwhile not os.path.exists('go'): time.sleep(0.005)";

fn blocked(rig: &Rig) -> Host {
    let mut first = rig.host();
    first.begin(Language::Python, BLOCK, None);
    first.wait_for_output("on\n");
    first
}

#[track_caller]
fn wait_for_runs(rig: &Rig, count: usize) {
    eventually("so many runs are in line", || rig.services().runs() == count);
}

#[test]
fn runs_take_turns_in_the_order_they_came() {
    let rig = Rig::new();
    let mut first = blocked(&rig);
    let mut others: Vec<Host> = Vec::new();
    for number in 0..4 {
        let mut host = rig.host();
        let code = format!("echo {number} >> order");
        host.begin(Language::Bash, &code, None);
        wait_for_runs(&rig, 2 + number);
        others.push(host);
    }
    assert!(!rig.home().join("order").exists());
    std::fs::write(rig.home().join("go"), "").unwrap();
    assert_eq!(first.finish().code, 0);
    for host in &mut others {
        host.finish().says("");
    }
    rig.host().bash("cat order").says("0\n1\n2\n3\n");
}

#[test]
fn a_full_queue_refuses_at_once_and_whoever_leaves_makes_room() {
    const REFUSED: usize = 12;
    let rig = Rig::new();
    let mut first = blocked(&rig);
    let mut waiting: Vec<Host> = (0..128 + REFUSED).map(|_| rig.host()).collect();
    for host in &mut waiting {
        host.begin(Language::Bash, "true", None);
    }
    let mut refused = Vec::new();
    eventually("as many are refused as are too many", || {
        refused.extend(waiting.extract_if(.., |host| host.has_reply()));
        refused.len() >= REFUSED
    });
    assert_eq!(refused.len(), REFUSED);
    for host in &mut refused {
        assert!(matches!(host.reply(), Reply::Failed(failure) if failure.code == FailureCode::Busy));
    }

    waiting.truncate(64);
    wait_for_runs(&rig, 1 + 64);
    // A refused connection is still of use.
    let late = &mut refused[0];
    late.begin(Language::Bash, "echo in", None);
    wait_for_runs(&rig, 1 + 64 + 1);
    std::fs::write(rig.home().join("go"), "").unwrap();
    assert_eq!(first.finish().code, 0);
    for host in &mut waiting {
        host.finish().says("");
    }
    late.finish().says("in\n");
}

#[test]
fn a_host_that_goes_away_while_waiting_never_runs() {
    let rig = Rig::new();
    let mut first = blocked(&rig);
    let mut leaves = rig.host();
    leaves.begin(Language::Bash, "echo > ran", None);
    wait_for_runs(&rig, 2);
    drop(leaves);
    wait_for_runs(&rig, 1);
    let mut last = rig.host();
    last.begin(Language::Bash, "echo last", None);
    wait_for_runs(&rig, 2);
    std::fs::write(rig.home().join("go"), "").unwrap();
    assert_eq!(first.finish().code, 0);
    last.finish().says("last\n");
    assert!(!rig.home().join("ran").exists());
}
