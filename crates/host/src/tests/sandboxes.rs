//! Creating, showing and deleting.

use std::sync::atomic::Ordering;

use super::client::Connection;
use super::{Boot, Daemon, Setup, eventually};

#[tokio::test]
async fn what_is_asked_for_reaches_the_vm_and_is_shown() {
    let daemon = Daemon::start().await;
    let body =
        r#"{"template":"science","ram_mib":256,"rootfs_gb":8,"timeout_seconds":60,"egress":false,"new":1}"#;
    let created = daemon.post("/v1/sandboxes", body).await;
    let id = created.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 36);
    assert_eq!(created.json()["state"], "ready");
    let config = daemon.simulation.seen.configs.lock().unwrap()[0].clone();
    assert_eq!((config.ram_mib, config.vcpus), (256, 1));
    assert_eq!(config.disk.size_bytes, 8 << 30);
    assert!(config.disk.base.ends_with("science.ext4"));
    let info = daemon.get(&format!("/v1/sandboxes/{id}")).await.json();
    assert_eq!(info["stats"]["uptime_ms"], 77);
    assert_eq!(info["timeout_seconds"], 60);
    assert_eq!(info["egress"], false);
    assert_eq!(info["vmm_pid"], 4_000_000);
    let list = daemon.get("/v1/sandboxes").await.json();
    assert_eq!(list["sandboxes"][0]["id"], id.as_str());
    let capacity = daemon.get("/v1/capacity").await.json();
    assert_eq!(capacity["memory"]["used_mib"], 256);
    assert_eq!(capacity["sandboxes"]["ready"], 1);
    let console = daemon.get(&format!("/v1/sandboxes/{id}/console")).await;
    assert!(console.text().starts_with("Linux version"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_deleted_sandbox_is_unknown_at_once_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    eventually("there is one VM's directory", || daemon.vm_dirs() == 1).await;
    assert_eq!(daemon.delete(&sandbox).await.status, 204);
    assert_eq!(daemon.run(&sandbox, "echo").await.status, 404);
    assert_eq!(daemon.delete(&sandbox).await.status, 204);
    eventually("the VM and its directory are gone", || {
        daemon.alive() == 0 && daemon.vm_dirs() == 0
    })
    .await;
    // All memory of the host is free again, or becomes so while this waits.
    let all = daemon.post("/v1/sandboxes", r#"{"ram_mib":4096}"#).await;
    assert_eq!(all.status, 200, "{}", all.text());
    daemon.stop().await;
}

#[tokio::test]
async fn a_creation_that_takes_long_is_answered_with_white_space_first() {
    let mut setup = Setup::default();
    setup.timing.hold_create = std::time::Duration::ZERO;
    let daemon = Daemon::with(setup).await;
    let created = daemon.post("/v1/sandboxes", "{}").await;
    assert_eq!(created.status, 200);
    assert_eq!(created.header("content-length"), None);
    assert_eq!(created.json()["state"], "ready");
    daemon.stop().await;
}

#[tokio::test]
async fn a_boot_that_fails_says_why_and_leaves_nothing() {
    for (boot, text) in [
        (Boot::Panics, "the guest's kernel panicked"),
        (Boot::Exits, "the VM process exited with code 3"),
        (Boot::RefusesIdentity, "the guest did not take on its identity"),
        (Boot::Garbage, "the agent's word that it is ready was not usable"),
        (Boot::Silent, "did not become ready within"),
    ] {
        let mut setup = Setup {
            boot,
            ..Setup::default()
        };
        if boot == Boot::Silent {
            setup.timing.boot_deadline = std::time::Duration::from_secs(2);
        }
        let daemon = Daemon::with(setup).await;
        let response = daemon.post("/v1/sandboxes", "{}").await;
        assert_eq!((response.status, response.code().as_str()), (500, "boot_failed"));
        assert!(response.text().contains(text), "{boot:?}: {}", response.text());
        if boot != Boot::Exits {
            assert!(
                response.text().contains("Kernel panic"),
                "{boot:?}: {}",
                response.text()
            );
        }
        eventually("nothing is left", || daemon.alive() == 0 && daemon.vm_dirs() == 0).await;
        assert_eq!(daemon.get("/v1/capacity").await.json()["memory"]["used_mib"], 0);
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_sandbox_whose_client_goes_away_while_it_boots_is_destroyed() {
    let setup = Setup {
        boot: Boot::Silent,
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let mut connection = Connection::open(daemon.address).await;
    connection.send("POST", "/v1/sandboxes", "", "{}").await;
    eventually("the VM is started", || daemon.alive() == 1).await;
    drop(connection);
    eventually("nothing is left", || daemon.alive() == 0 && daemon.vm_dirs() == 0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn creates_at_once_all_succeed_and_boot_two_at_a_time() {
    let daemon = Daemon::start().await;
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let address = daemon.address;
        creates.spawn(async move {
            super::client::request(address, "POST", "/v1/sandboxes", "{}")
                .await
                .status
        });
    }
    assert_eq!(creates.join_all().await, [200; 8]);
    assert_eq!(
        daemon.simulation.seen.booting_at_once_max.load(Ordering::SeqCst),
        2
    );
    assert_eq!(daemon.post("/v1/sandboxes", "{}").await.status, 503);
    let report = daemon.stop().await;
    assert_eq!(report.sandboxes, 8);
}
