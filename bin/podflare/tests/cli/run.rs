//! `podflare run`: exit codes, streams, and that no sandbox is left behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use client::scripted::{Answer, Ending};

use crate::support::{Cli, Finished, ID, host, output};

#[test]
fn output_goes_where_it_belongs_and_the_sandbox_goes_away() {
    let host = host(|_| output(&[("stdout", "42"), ("stderr", "careful"), ("stdout", "")], 0));
    let finished = Cli::with(&host).run(&["run", "-c", "print(6 * 7)"]);
    let expected = Finished {
        status: 0,
        stdout: "42\n\n".into(),
        stderr: "careful\n".into(),
    };
    assert_eq!(finished, expected);
    let seen = host.seen();
    let own = format!("/v1/sandboxes/{ID}");
    assert_eq!(
        seen.lines(),
        [
            "POST /v1/sandboxes",
            &format!("POST {own}/exec"),
            &format!("DELETE {own}")
        ]
    );
    assert_eq!(
        seen.requests[1].body,
        r#"{"code":"print(6 * 7)","language":"python"}"#
    );
}

#[test]
fn the_exit_code_is_that_of_the_code() {
    for (code, status) in [(0, 0), (7, 7), (137, 137), (-1, 255), (256, 1)] {
        let host = host(move |_| output(&[], code));
        assert_eq!(
            Cli::with(&host).run(&["run", "-c", "pass"]).status,
            status,
            "exit code {code}"
        );
        assert!(
            host.seen().lines().iter().any(|line| line.starts_with("DELETE")),
            "exit code {code}"
        );
    }
}

#[test]
fn a_failure_of_the_host_is_125_whatever_it_is_and_leaves_no_sandbox() {
    let refused = r#"{"error":"the VM is gone","code":"sandbox_failed"}"#;
    let answers = [
        (Answer::new(500, refused), "the VM is gone"),
        (Answer::stream("\n", Ending::Cut), "broke while running code"),
        (
            Answer::stream("<html>\n", Ending::Chunked),
            "not the Podflare API",
        ),
    ];
    for (answer, text) in answers {
        let host = host(move |_| answer.clone());
        let finished = Cli::with(&host).run(&["run", "-c", "pass"]);
        assert_eq!(finished.status, 125, "{finished:?}");
        assert!(finished.stderr.contains(text), "{finished:?}");
        assert!(
            host.seen().lines().iter().any(|line| line.starts_with("DELETE")),
            "{finished:?}"
        );
    }
    let finished = Cli::alone().run(&["run", "-c", "pass"]);
    assert_eq!(finished.status, 125);
    assert!(finished.stderr.contains("podflare up"), "{finished:?}");
}

#[test]
fn a_file_is_read_here_and_sees_its_arguments() {
    let host = host(|_| output(&[], 0));
    let cli = Cli::with(&host);
    fs::write(cli.home().join("a.py"), "print('hi')\n").unwrap();
    fs::write(cli.home().join("b.sh"), "echo $1\n").unwrap();
    assert_eq!(cli.run(&["run", "a.py", "--json", "it's"]).status, 0);
    assert_eq!(cli.run(&["run", "b.sh", "it's"]).status, 0);
    let bodies: Vec<_> = host
        .seen()
        .requests
        .into_iter()
        .filter(|r| r.path.ends_with("/exec"))
        .map(|r| r.body)
        .collect();
    let expected = [
        r#"{"code":"__import__('sys').argv[:] = [\"a.py\",\"--json\",\"it's\",]","language":"python"}"#,
        r#"{"code":"print('hi')\n","language":"python"}"#,
        r#"{"code":"set -- 'it'\\''s'; echo $1\n","language":"bash"}"#,
    ];
    assert_eq!(bodies, expected);
}

#[test]
fn code_comes_from_standard_input_too() {
    for arguments in [
        &["run", "--bash", "--timeout-ms", "500", "-"][..],
        &["run", "--bash", "--timeout-ms", "500"],
    ] {
        let host = host(|_| output(&[], 0));
        let mut child = Cli::with(&host)
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"echo 1").unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(
            host.seen().requests[1].body,
            r#"{"code":"echo 1","language":"bash","timeout_ms":500}"#
        );
    }
}

#[test]
fn a_missing_file_is_told_before_anything_is_started() {
    let host = host(|_| output(&[], 0));
    let finished = Cli::with(&host).run(&["run", "nowhere.py"]);
    assert_eq!(finished.status, 125);
    assert!(
        finished
            .stderr
            .starts_with("error: cannot read `nowhere.py`: No such file"),
        "{finished:?}"
    );
    assert!(finished.stderr.contains("-c"), "{finished:?}");
    assert!(host.seen().requests.is_empty());
}

#[test]
fn json_passes_the_events_on() {
    let host = host(|_| output(&[("stdout", "é")], 3));
    let finished = Cli::with(&host).run(&["run", "--json", "-c", "1"]);
    assert_eq!(finished.status, 3);
    let events: Vec<serde_json::Value> = finished
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        events[0],
        serde_json::json!({"type": "stdout", "data": "é", "seq": 0, "ts": 1})
    );
    assert_eq!(events[1]["data"], 3);
}

#[test]
fn keep_leaves_the_sandbox_and_says_how_to_remove_it() {
    let host = host(|_| output(&[], 0));
    let finished = Cli::with(&host).run(&["run", "--keep", "--verbose", "-c", "1"]);
    assert!(
        finished.stderr.contains(&format!("podflare sandbox rm {ID}")),
        "{finished:?}"
    );
    assert!(finished.stderr.contains("create "), "{finished:?}");
    assert_eq!(host.seen().lines().len(), 2);
}

#[test]
fn an_interrupt_removes_the_sandbox_and_ends_the_run() {
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let started = "{\"type\":\"stdout\",\"data\":\"started\",\"seq\":0,\"ts\":1}\n";
        let host = host(move |_| Answer::stream(started, Ending::Endless));
        let mut child = Cli::with(&host).spawn(&["run", "-c", "while True: pass"]);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "started\n");
        assert!(
            Command::new("kill")
                .args(["-s", signal, &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        let finished = Finished::from(child.wait_with_output().unwrap());
        assert_eq!(
            finished,
            Finished {
                status,
                stdout: String::new(),
                stderr: String::new()
            }
        );
        let seen = host
            .wait_until(|seen| seen.gone == 1)
            .expect("the run was cancelled");
        assert_eq!(seen.lines()[2], format!("DELETE /v1/sandboxes/{ID}"));
    }
}

#[test]
fn a_reader_that_has_had_enough_ends_the_run_quietly() {
    let host = host(|_| {
        let line = "{\"type\":\"stdout\",\"data\":\"more\",\"seq\":0,\"ts\":1}\n";
        Answer::stream(&line.repeat(10_000), Ending::Endless)
    });
    let mut child = Cli::with(&host).spawn(&["run", "-c", "while True: print('more')"]);
    drop(child.stdout.take());
    let finished = Finished::from(child.wait_with_output().unwrap());
    assert_eq!((finished.status, finished.stderr.as_str()), (125, ""));
    let seen = host
        .wait_until(|seen| seen.gone == 1)
        .expect("the run was cancelled");
    assert_eq!(seen.lines()[2], format!("DELETE /v1/sandboxes/{ID}"));
}
