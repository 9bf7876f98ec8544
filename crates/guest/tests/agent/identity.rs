//! Becoming somebody else, as far as it can be seen without privileges.

use agent_proto::{FailureCode, Language, Reply, Request};

use crate::rig::{Rig, identity};

#[test]
fn python_draws_new_randomness_after_it() {
    let rig = Rig::new();
    let mut host = rig.host();
    let draw = "random.seed(1); state = random.getstate()";
    host.python(&format!("import random, ssl\n{draw}")).says("");
    assert_eq!(host.identify(), Reply::Done);
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
    assert_eq!(rig.host().identify(), Reply::Done);
    std::fs::write(rig.home().join("go"), "").unwrap();
    busy.finish().says("False\n");
}

#[test]
fn hooks_of_the_users_code_run_and_a_failing_one_fails_it() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import os\nhits = []\nos.register_at_fork(after_in_child=lambda: hits.append(1))")
        .says("");
    assert_eq!(host.identify(), Reply::Done);
    host.python("hits").says("[1]\n");
    host.python("os.register_at_fork(after_in_child=lambda: 1/0)")
        .says("");
    let reply = host.identify();
    assert!(
        matches!(&reply, Reply::Failed(failure) if failure.code == FailureCode::Internal && failure.message.contains("acknowledge")),
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
