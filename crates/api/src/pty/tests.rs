//! What clients send, and what is said to those who send something else.

use proptest::prelude::*;

use super::*;

fn refusal(body: &str) -> String {
    PtyCreateRequest::parse(body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_shell_command_or_arguments_but_not_both() {
    let request = PtyCreateRequest::parse(br#"{"shellCmd":"bash","cols":120,"rows":40}"#).unwrap();
    assert_eq!(request.program, PtyProgram::Shell("bash".to_owned()));
    assert_eq!((request.cols, request.rows), (120, 40));
    let request = PtyCreateRequest::parse(br#"{"argv":["ls","-l"],"env":[["A","1"],["B",""]],"cwd":"/tmp"}"#);
    let request = request.unwrap();
    assert_eq!(
        (request.cols, request.rows, request.cwd.as_deref()),
        (80, 24, Some("/tmp"))
    );
    assert_eq!(request.env[1], ("B".to_owned(), String::new()));
    for (body, why) in [
        ("{}", "shellCmd: required, expected exactly one of"),
        (
            r#"{"shellCmd":"a","argv":["b"]}"#,
            "argv: expected exactly one of shellCmd",
        ),
        (
            r#"{"argv":[]}"#,
            "argv: expected an array of strings that begins with a program",
        ),
        (r#"{"argv":[1]}"#, "argv: expected an array of strings"),
        (r#"{"shellCmd":7}"#, "shellCmd: expected a string"),
        (
            r#"{"shellCmd":"a","env":{"A":"1"}}"#,
            "env: expected an array of [name, value] pairs",
        ),
        (r#"{"shellCmd":"a","env":[["A"]]}"#, "env: expected an array"),
        (
            r#"{"shellCmd":"a","cols":0}"#,
            "cols: expected a whole number of columns between 1 and 4096, got 0",
        ),
        (r#"{"shellCmd":"a","rows":"9"}"#, "rows: expected"),
        (r#"{"shellCmd":"a","cwd":1}"#, "cwd: expected a path"),
    ] {
        assert!(refusal(body).starts_with(why), "{body}: {}", refusal(body));
    }
    let long = format!(r#"{{"shellCmd":"{}"}}"#, "x".repeat(PROGRAM_BYTES_MAX + 1));
    assert!(
        refusal(&long).contains("at most 204800 bytes"),
        "{}",
        refusal(&long)
    );
}

#[test]
fn input_is_base64_and_bounded() {
    assert_eq!(
        PtyInputRequest::parse(br#"{"data_b64":"Aw=="}"#).unwrap().data,
        [3]
    );
    let refusal = |body: &str| PtyInputRequest::parse(body.as_bytes()).unwrap_err().to_string();
    assert!(refusal("{}").starts_with("data_b64: required"));
    assert!(refusal(r#"{"data_b64":"a b"}"#).starts_with("data_b64: expected a string of base64"));
    let long = STANDARD.encode(vec![0; INPUT_BYTES_MAX + 1]);
    assert!(refusal(&format!(r#"{{"data_b64":"{long}"}}"#)).contains("at most 1048576 bytes"));
}

#[test]
fn a_read_is_cut_to_what_is_given() {
    let read = PtyReadRequest::parse(b"{}").unwrap();
    assert_eq!(
        (read.since_seq, read.max_bytes, read.timeout_ms),
        (0, 65_536, 10_000)
    );
    let read = PtyReadRequest::parse(br#"{"since_seq":5,"max_bytes":1000000,"timeout_ms":99999}"#).unwrap();
    assert_eq!(
        (read.since_seq, read.max_bytes, read.timeout_ms),
        (5, 65_536, 30_000)
    );
    for wrong in [
        r#"{"since_seq":-1}"#,
        r#"{"max_bytes":0}"#,
        r#"{"timeout_ms":1.5}"#,
    ] {
        assert!(PtyReadRequest::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_size_has_both_sides() {
    let refusal = PtyResizeRequest::parse(br#"{"cols":80}"#)
        .unwrap_err()
        .to_string();
    assert!(
        refusal.starts_with("rows: required, expected a whole number of rows"),
        "{refusal}"
    );
}

proptest! {
    #[test]
    fn requests_survive_the_wire(
        shell: Option<String>,
        arguments in proptest::collection::vec("[a-z]{1,8}", 1..4),
        cols in 1..=SIDE_MAX,
        rows in 1..=SIDE_MAX,
        env: Vec<(String, String)>,
        cwd: Option<String>,
        data: Vec<u8>,
    ) {
        let program = shell.map_or(PtyProgram::Arguments(arguments), PtyProgram::Shell);
        let create = PtyCreateRequest { program, cols, rows, env, cwd };
        prop_assert_eq!(PtyCreateRequest::parse(&serde_json::to_vec(&create).unwrap()), Ok(create));
        let input = PtyInputRequest { data };
        prop_assert_eq!(PtyInputRequest::parse(&serde_json::to_vec(&input).unwrap()), Ok(input));
        let resize = PtyResizeRequest { cols, rows };
        prop_assert_eq!(PtyResizeRequest::parse(&serde_json::to_vec(&resize).unwrap()), Ok(resize));
    }
}
