//! Runs that belong to a trace.

use agent_proto::{ExecRequest, FailureCode, Language, Reply, Request};

use crate::rig::Rig;

const TRACE: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
const SHOW: &str = "import os; print(os.environ.get('TRACEPARENT'))";

#[test]
fn code_sees_the_trace_it_belongs_to_and_only_then() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python(SHOW).says("None\n");
    host.traced(Language::Python, SHOW, TRACE)
        .says(&format!("{TRACE}\n"));
    host.python(SHOW).says("None\n");
    let children = "import subprocess; print(subprocess.run(['sh', '-c', 'echo $TRACEPARENT'], capture_output=True, text=True).stdout, end='')";
    host.traced(Language::Python, children, TRACE)
        .says(&format!("{TRACE}\n"));
    host.traced(Language::Bash, "echo $TRACEPARENT", TRACE)
        .says(&format!("{TRACE}\n"));
    host.bash("echo [$TRACEPARENT]").says("[]\n");
}

#[test]
fn code_is_the_same_in_a_trace_and_what_it_set_itself_comes_back() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import os; os.environ['TRACEPARENT'] = 'mine'")
        .says("");
    host.traced(Language::Python, "40 + 2", TRACE).says("42\n");
    host.traced(Language::Python, "1 / 0", TRACE)
        .fails(1, "ZeroDivisionError: division by zero");
    host.traced(Language::Python, "\n    x = 'two\\nlines'\n    x", TRACE)
        .says("'two\\nlines'\n");
    host.traced(Language::Python, "", TRACE).says("");
    host.python(SHOW).says("mine\n");
    host.traced(Language::Python, "del os.environ['TRACEPARENT']", TRACE)
        .says("");
    host.python("raise SystemExit(3)").fails(3, "");
}

#[test]
fn what_is_no_traceparent_is_refused_and_nothing_runs() {
    let rig = Rig::new();
    let mut host = rig.host();
    for wrong in ["a\nprint(1)", "with space", "\0", &"0".repeat(56)] {
        host.send(&Request::Exec(ExecRequest {
            language: Language::Python,
            run: 1,
            timeout_ms: None,
            traceparent: Some(wrong.to_owned()),
            code: "print('ran')".to_owned(),
        }));
        let reply = host.reply();
        assert!(
            matches!(&reply, Reply::Failed(failure) if failure.code == FailureCode::BadRequest),
            "{reply:?}"
        );
    }
    host.python("print('still here')").says("still here\n");
}
