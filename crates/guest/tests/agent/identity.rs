//! Becoming somebody else, as far as it can be seen without privileges.

use std::time::UNIX_EPOCH;

use agent_proto::{FailureCode, Language, Reply, Request};

use crate::rig::{Rig, identity};

#[test]
fn python_draws_new_randomness_after_it() {
    let rig = Rig::new();
    let mut host = rig.host();
    let draw = "random.seed(1); state = random.getstate()";
    host.python(&format!("import random, ssl\n{draw}")).says("");
    host.becomes_somebody();
    host.python("random.getstate() == state").says("False\n");
}

#[test]
fn it_takes_effect_in_the_middle_of_a_run() {
    let rig = Rig::new();
    let mut busy = rig.host();
    busy.begin(
        Language::Python,
        "import os, time, random\nrandom.seed(1); state = random.getstate()\nprint('on')\n\
         while not os.path.exists('go'): time.sleep(1)\nprint(random.getstate() == state)",
        None,
    );
    busy.wait_for_output("on\n");
    rig.host().becomes_somebody();
    std::fs::write(rig.home().join("go"), "").unwrap();
    busy.finish().says("False\n");
}

#[test]
fn hooks_of_the_users_code_run_and_a_failing_one_fails_it() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import os\nhits = []\nos.register_at_fork(after_in_child=lambda: hits.append(1))")
        .says("");
    host.becomes_somebody();
    host.python("hits").says("[1]\n");
    host.python("os.register_at_fork(after_in_child=lambda: 1/0)")
        .says("");
    let reply = host.identify();
    assert!(
        matches!(&reply, Reply::Failed(failure) if failure.code == FailureCode::Internal && failure.message.contains("register_at_fork")),
        "{reply:?}"
    );
}

#[test]
fn a_name_that_is_not_a_host_name_is_refused() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.send(&Request::Identify(identity("a b\nc")));
    assert!(matches!(host.reply(), Reply::Failed(failure) if failure.code == FailureCode::BadRequest));
}

#[test]
fn it_may_come_twice_in_a_row_or_while_python_is_starting() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import os, random\nhits = []\nos.register_at_fork(after_in_child=lambda: hits.append(1))")
        .says("");
    for _ in 0..2 {
        host.becomes_somebody();
    }
    host.python("hits").says("[1, 1]\n");
    assert_eq!(host.python("os._exit(0)").code, 0);
    host.becomes_somebody();
    host.python("1").says("1\n");
}

#[test]
fn it_does_not_wait_for_c_code_that_keeps_the_interpreter() {
    let rig = Rig::new();
    let mut busy = rig.host();
    busy.begin(
        Language::Python,
        "import random\nrandom.seed(1); state = random.getstate()\nprint('on')\n\
         n = sum(range(300_000_000))\nprint(random.getstate() == state)",
        None,
    );
    busy.wait_for_output("on\n");
    let mut host = rig.host();
    for _ in 0..2 {
        host.becomes_somebody();
    }
    assert!(!busy.has_reply(), "a slower computation is needed");
    busy.finish().says("False\n");
    host.python("1 + 1").says("2\n");
    host.python("n").says("44999999850000000\n");
}

#[test]
fn an_interrupt_that_comes_meanwhile_is_not_lost() {
    let rig = Rig::new();
    let mut busy = rig.host();
    busy.begin(
        Language::Python,
        "import os, signal, time\n\
         os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))\nprint('on')\n\
         try:\n    while True: time.sleep(1)\nexcept KeyboardInterrupt:\n    print('off')",
        None,
    );
    busy.wait_for_output("on\n");
    rig.host().becomes_somebody();
    busy.finish().says("off\n");
}

#[test]
fn a_process_that_cannot_be_reached_fails_it_or_is_replaced_before_the_next_run() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import signal\nx = 1\nold = signal.signal(signal.SIGSTKFLT, signal.SIG_IGN)")
        .says("");
    let reply = host.identify();
    assert!(
        matches!(&reply, Reply::Failed(failure) if failure.message.contains("acknowledge")),
        "{reply:?}"
    );
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import signal\nx = 1\nold = signal.signal(signal.SIGSTKFLT, lambda *arguments: None)")
        .says("");
    host.becomes_somebody();
    host.python("x").fails(1, "NameError");
}

#[test]
fn the_time_is_told_as_it_is_when_the_answer_is_sent() {
    let rig = Rig::new();
    let mut host = rig.host();
    let now = || u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
    let asked = now();
    host.send(&Request::Clock { forward_ns: 0 });
    let Reply::Time { wall_clock_ns } = host.reply() else {
        panic!("no time was told");
    };
    assert!((asked..=now()).contains(&wall_clock_ns));
}
