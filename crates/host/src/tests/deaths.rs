//! VMs that die, and the daemon's own end.

use std::time::Duration;

use api::EventKind;

use super::client::Connection;
use super::{Daemon, Setup, eventually};

#[tokio::test]
async fn when_a_vm_dies_its_runs_end_with_the_cause_and_others_go_on() {
    for (word, cause) in [
        ("panic 100", "the guest's kernel panicked"),
        ("crash 100", "the VM process exited with code 1"),
    ] {
        let daemon = Daemon::start().await;
        let (sandbox, other) = (daemon.sandbox().await, daemon.sandbox().await);
        let response = daemon.run(&sandbox, word).await;
        assert_eq!(response.lines(EventKind::Stdout), ["last"]);
        let said = response.lines(EventKind::Stderr);
        assert_eq!(said, [format!("podflare: the sandbox has failed: {cause}")]);
        assert_eq!(response.exit(), 137);
        let later = daemon.run(&sandbox, "echo").await;
        assert_eq!((later.status, later.code().as_str()), (500, "sandbox_failed"));
        assert!(
            later.text().contains(cause) && later.text().contains("Kernel panic"),
            "{}",
            later.text()
        );
        let info = daemon.get(&sandbox).await.json();
        assert_eq!(
            (&info["state"], &info["last_error"]),
            (&"failed".into(), &cause.into())
        );
        assert!(
            daemon
                .get(&format!("{sandbox}/console"))
                .await
                .text()
                .contains("panic")
        );
        assert_eq!(daemon.get("/v1/capacity").await.json()["memory"]["used_mib"], 512);
        assert_eq!(daemon.run(&other, "echo").await.exit(), 0);
        assert_eq!(daemon.delete(&sandbox).await.status, 204);
        eventually("its directory is gone", || daemon.vm_dirs() == 1).await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_vm_that_dies_before_any_output_is_sent_is_a_status() {
    let mut setup = Setup::default();
    setup.timing.hold_silent = Duration::from_secs(5);
    setup.timing.hold_output = Duration::from_secs(5);
    let daemon = Daemon::with(setup).await;
    let sandbox = daemon.sandbox().await;
    let response = daemon.run(&sandbox, "panic 0").await;
    // The output had come already, so it is delivered, with the rest on the stream.
    assert_eq!((response.status, response.exit()), (200, 137));
    daemon.stop().await;
}

#[tokio::test]
async fn deleting_a_sandbox_ends_its_runs_with_a_word() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let mut run = Connection::open(daemon.address).await;
    run.send("POST", &format!("{sandbox}/exec"), "", r#"{"code":"hang"}"#)
        .await;
    eventually("it runs", || daemon.host.capacity(None).execs.running == 1).await;
    daemon.delete(&sandbox).await;
    let response = run.response().await;
    assert_eq!(response.lines(EventKind::Stdout), ["begun", "unfinished"]);
    assert_eq!(
        response.lines(EventKind::Stderr),
        ["podflare: the sandbox was deleted"]
    );
    assert_eq!(response.exit(), 137);
    daemon.stop().await;
}

#[tokio::test]
async fn shutdown_waits_for_short_runs_and_ends_long_ones_with_a_word() {
    let mut setup = Setup::default();
    setup.timing.shutdown_grace = Duration::from_secs(2);
    let daemon = Daemon::with(setup).await;
    let sandbox = daemon.sandbox().await;
    let path = format!("{sandbox}/exec");
    let mut short = Connection::open(daemon.address).await;
    short.send("POST", &path, "", r#"{"code":"wait"}"#).await;
    let mut long = Connection::open(daemon.address).await;
    long.send("POST", &path, "", r#"{"code":"hang"}"#).await;
    let mut idle = Connection::open(daemon.address).await;
    idle.send("GET", "/v1/healthz", "", "").await;
    idle.response().await;
    eventually("both run", || daemon.host.capacity(None).execs.running == 2).await;
    let (address, simulation) = (daemon.address, daemon.simulation.clone());
    let soon = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        simulation.let_go();
    };
    let (report, short, long, ()) = tokio::join!(daemon.stop(), short.response(), long.response(), soon);
    assert_eq!((report.sandboxes, report.runs_cut), (1, 1));
    assert_eq!(short.exit(), 0);
    assert_eq!(long.exit(), 137);
    let word = "podflare: the host is shutting down, and the sandbox with it";
    assert_eq!(long.lines(EventKind::Stderr), [word]);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_while_and_then_closed() {
    use tokio::io::AsyncReadExt as _;

    let mut setup = Setup::default();
    // Also the time for a request's head, so long enough for one that a busy machine sends.
    setup.timing.keep_alive = Duration::from_secs(5);
    let daemon = Daemon::with(setup).await;
    let mut connection = Connection::open(daemon.address).await;
    for _ in 0..2 {
        connection.send("GET", "/v1/healthz", "", "").await;
        assert_eq!(connection.response().await.status, 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let closed = tokio::time::timeout(super::BOUND, connection.stream.read(&mut [0; 1024])).await;
    drop(closed.expect("waited for the server to close an idle connection"));
    daemon.stop().await;
}
