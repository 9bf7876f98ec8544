//! bash: a fresh one for each run.

use std::time::Instant;

use agent_proto::{FailureCode, Language, Reply};

use crate::rig::{BOUND, Rig, eventually};

#[test]
fn exit_codes_pass_through_and_signals_are_a_shells() {
    let rig = Rig::new();
    let mut host = rig.host();
    assert_eq!(host.bash("exit 7").code, 7);
    assert_eq!(host.bash("false").code, 1);
    assert_eq!(host.bash("kill -9 $$").code, 137);
    host.bash("no-such-command")
        .fails(127, "bash: line 1: no-such-command: command not found");
    host.bash("echo out; echo err >&2").fails_with_output();
}

trait FailsWithOutput {
    fn fails_with_output(&self);
}

impl FailsWithOutput for crate::rig::Outcome {
    fn fails_with_output(&self) {
        assert_eq!(
            (self.out().as_str(), self.err().as_str(), self.code),
            ("out\n", "err\n", 0)
        );
    }
}

#[test]
fn variables_do_not_stay_but_files_do() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.bash("x=1; echo $x > f; cd /").says("");
    host.bash("echo \"[$x] $(cat f) $0\"").says("[] 1 bash\n");
    host.python("open('f').read()").says("'1\\n'\n");
}

#[test]
fn standard_input_is_empty() {
    let rig = Rig::new();
    rig.host().bash("cat; read x || echo none").says("none\n");
}

#[test]
fn code_too_long_for_an_argument_runs_all_the_same() {
    let rig = Rig::new();
    let padding = "# padding\n".repeat(20_000);
    let code = format!("echo $0\n{padding}cat\nread x || echo empty\nexit 5");
    let outcome = rig.host().bash(&code);
    assert_eq!(
        (outcome.out().as_str(), outcome.err().as_str(), outcome.code),
        ("bash\nempty\n", "", 5)
    );
}

#[test]
fn nul_in_bash_code_is_refused_clearly() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.begin(Language::Bash, "echo \0", None);
    assert!(matches!(host.reply(), Reply::Failed(failure) if failure.code == FailureCode::BadRequest));
    host.bash("echo on").says("on\n");
}

#[test]
fn a_background_child_outlives_the_run_and_does_not_hold_it() {
    let rig = Rig::new();
    let mut host = rig.host();
    let start = Instant::now();
    host.bash("(while [ ! -e go ]; do sleep 0.02; done; seq 100000; echo > went) & echo now")
        .says("now\n");
    assert!(start.elapsed() < BOUND);
    host.bash("echo > go").says("");
    let went = rig.home().join("went");
    eventually("the background child has written everything", || went.exists());
}
