//! `up`, `down`, `status`, `logs`, `doctor` and `machine` where no host runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Cli, ID, host, output};

fn json_of(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

#[test]
fn status_of_nothing_is_down_and_a_failure() {
    let cli = Cli::alone();
    let mut command = cli.command(&["status"]);
    let finished: crate::support::Finished = command.env_remove("PODFLARE_API_URL").output().unwrap().into();
    assert_eq!((finished.status, finished.stdout.as_str()), (1, "state:  down\n"));
    assert!(finished.stderr.contains("podflare up"), "{finished:?}");
    let mut command = cli.command(&["status", "--json"]);
    let finished: crate::support::Finished = command.env_remove("PODFLARE_API_URL").output().unwrap().into();
    assert_eq!(
        json_of(&finished.stdout),
        json!({"state": "down", "answers": false})
    );
    assert_eq!(finished.stderr, "");
    assert!(
        fs::read_dir(cli.home()).unwrap().next().is_none(),
        "looking leaves nothing behind"
    );
}

#[test]
fn status_of_a_host_named_by_its_url_is_whether_it_answers() {
    let host = host(|_| output(&[], 0));
    // The scripted host has no health, so it is told by the other one here.
    let finished = Cli::with(&host).run(&["status", "--json"]);
    assert_eq!(
        (finished.status, &json_of(&finished.stdout)["answers"]),
        (1, &json!(false))
    );
    let healthy = client::scripted::Scripted::start(|_| client::scripted::Answer::new(200, "ok")).unwrap();
    let finished = Cli::with(&healthy).run(&["status"]);
    assert_eq!(finished.status, 0);
    assert!(
        finished.stdout.contains("running") && finished.stdout.contains(&healthy.url()),
        "{finished:?}"
    );
}

#[test]
fn down_where_nothing_runs_is_no_failure() {
    let finished = Cli::alone().run(&["down"]);
    assert_eq!(
        (finished.status, finished.stdout.as_str()),
        (0, "no host is running\n")
    );
    let report = json_of(&Cli::alone().run(&["down", "--json"]).stdout);
    assert_eq!(report, json!({"was_running": false, "in_order": true}));
}

#[test]
fn logs_of_a_host_that_never_ran_say_so() {
    let finished = Cli::alone().run(&["logs"]);
    assert_eq!(finished.status, 1);
    assert!(finished.stderr.contains("no host has run yet"), "{finished:?}");
}

#[test]
fn logs_show_the_last_lines_without_what_could_steer_a_terminal() {
    let cli = Cli::alone();
    let run = cli.home().join("state/run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("console.log"), "one\r\ntwo \x1b[2J\nthree\n").unwrap();
    let finished = cli.run(&["logs", "--state-dir", "state", "-n", "2"]);
    assert_eq!(finished.stdout, "two \nthree\n");
}

#[test]
fn logs_of_a_sandbox_are_its_console() {
    let host = host(|_| output(&[], 0));
    let finished = Cli::with(&host).run(&["logs", ID]);
    assert_eq!(finished.stdout, "[    0.000000] Linux version 6.12\n");
}

#[test]
fn doctor_lists_every_check_with_a_fix_for_what_fails() {
    let finished = Cli::alone().run(&["doctor", "--json"]);
    let report = json_of(&finished.stdout);
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() > 5, "{report}");
    for check in checks {
        assert!(check["name"].is_string() && check["found"].is_string(), "{check}");
        assert_eq!(check["verdict"] == "ok", check["fix"].is_null(), "{check}");
    }
    let failed = checks.iter().any(|check| check["verdict"] == "fail");
    assert_eq!(
        (report["ok"] == json!(false), finished.status == 1),
        (failed, failed)
    );
    let words = Cli::alone().run(&["doctor"]).stdout;
    assert!(
        words
            .lines()
            .filter(|line| ["✓ ", "! ", "✗ "].iter().any(|mark| line.starts_with(mark)))
            .count()
            > 5
    );
}

#[test]
fn up_without_its_programs_says_which_is_missing_and_where_it_looked() {
    let cli = Cli::alone();
    let empty = cli.home().join("empty");
    fs::create_dir(&empty).unwrap();
    let up = |libexec: &std::path::Path| -> crate::support::Finished {
        cli.command(&["up", "--port", "0"])
            .env("PODFLARE_LIBEXEC", libexec)
            .output()
            .unwrap()
            .into()
    };
    let finished = up(&empty);
    assert_eq!(finished.status, 1);
    assert!(
        finished.stderr.contains("podflare-hostd is missing"),
        "{finished:?}"
    );
    assert!(finished.stderr.contains("PODFLARE_LIBEXEC"), "{finished:?}");
    for name in [
        "podflare-hostd",
        "podflare-vmm",
        "podflare-netd",
        "podflare-agent",
    ] {
        // A program of this machine that surely needs shared libraries: ourselves, as built for tests.
        fs::copy(env!("CARGO_BIN_EXE_podflare"), empty.join(name)).unwrap();
        fs::set_permissions(empty.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let finished = up(&empty);
    assert_eq!(finished.status, 1);
    assert!(finished.stderr.contains("needs shared libraries"), "{finished:?}");
    assert!(finished.stderr.contains("crt-static"), "{finished:?}");
}

#[test]
fn up_on_a_port_that_is_taken_says_whose_it_is() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let finished = Cli::alone().run(&["up", "--port", &port.to_string()]);
    assert_eq!(finished.status, 1);
    assert!(finished.stderr.contains(&format!("port {port}")), "{finished:?}");
    assert!(
        finished.stderr.contains(&std::process::id().to_string()),
        "{finished:?}"
    );
}

#[test]
fn a_certificate_that_is_not_there_is_told_before_anything_is_built() {
    let finished = Cli::alone().run(&["up", "--port", "0", "--ca-certificates", "nowhere.pem"]);
    assert_eq!(finished.status, 1);
    assert!(finished.stderr.contains("nowhere.pem"), "{finished:?}");
}

#[test]
fn machine_exec_without_a_machine_fails_as_itself_and_not_as_the_command() {
    let finished = Cli::alone().run(&["machine", "exec", "--", "true"]);
    assert_eq!(finished.status, 125);
    assert!(finished.stderr.contains("podflare status"), "{finished:?}");
}
