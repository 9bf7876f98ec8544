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
fn the_bash_in_stock_is_as_good_as_a_fresh_one() {
    let rig = Rig::new();
    let mut host = rig.host();
    // The last one comes too soon to find one.
    for wait in [true, true, false] {
        if wait {
            assert!(rig.services().wait_for_spare_bash());
        }
        let outcome = host.bash(
            "echo $LINENO $0 $# $SECONDS\n[ \"$HOSTNAME\" = \"$(uname -n)\" ] && echo $LINENO; nosuch\n",
        );
        assert_eq!(outcome.out(), "1 bash 0 0\n2\n");
        assert_eq!(outcome.err(), "bash: line 2: nosuch: command not found\n");
        assert_eq!(outcome.code, 127);
    }
}

#[test]
fn two_bashes_in_stock_draw_different_numbers() {
    let rig = Rig::new();
    let mut host = rig.host();
    let mut draw = || {
        assert!(rig.services().wait_for_spare_bash());
        host.bash("echo $RANDOM$RANDOM$RANDOM").out()
    };
    assert_ne!(draw(), draw());
}

#[test]
fn a_bash_in_stock_that_is_dead_or_elsewhere_is_not_used() {
    let rig = Rig::new();
    let mut host = rig.host();
    assert!(rig.services().wait_for_spare_bash());
    host.python(
        "import os\n\
         here = os.getcwd()\n\
         for pid in filter(str.isdigit, os.listdir('/proc')):\n    \
             try:\n        \
                 if open(f'/proc/{pid}/comm').read() == 'bash\\n' and os.readlink(f'/proc/{pid}/cwd') == here:\n            \
                     os.kill(int(pid), 9)\n            \
                     while open(f'/proc/{pid}/stat').read().split()[2] != 'Z': pass\n    \
             except OSError:\n        \
                 pass",
    )
    .says("");
    host.bash("echo on").says("on\n");
    assert!(rig.services().wait_for_spare_bash());
    let home = rig.home();
    std::fs::rename(&home, home.with_extension("old")).unwrap();
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("new"), "").unwrap();
    host.bash("ls").says("new\n");
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
