//! What happens when the host runs out of memory or disk: pools give way, then calls are refused, then the largest ends.

use std::sync::atomic::{AtomicU64, Ordering};

use super::client::Response;
use super::{Daemon, Setup, eventually, pool_of};
use crate::{DiskLimits, DiskSpace, MemoryLimits};

#[track_caller]
fn assert_no_capacity(refused: &Response, text: &str) {
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.code(), "no_capacity");
    assert!(refused.text().contains(text), "{}", refused.text());
    let after: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(after > 0);
}

#[tokio::test]
async fn pools_are_emptied_before_anybody_is_refused_and_filled_again_when_there_is_room() {
    static AVAILABLE: AtomicU64 = AtomicU64::new(10_000);
    let mut setup = Setup {
        pools: pool_of(3),
        memory: MemoryLimits {
            budget_mib: 4096,
            floor_mib: 256,
            probe: || Some(AVAILABLE.load(Ordering::SeqCst)),
            own: |_| None,
        },
        ..Setup::default()
    };
    setup.timing.room_patience = std::time::Duration::from_millis(300);
    let daemon = Daemon::with(setup).await;
    let waiting = |daemon: &Daemon| daemon.host.capacity(None).pools[0].size;
    eventually("the pool is full", || waiting(&daemon) == 3).await;
    AVAILABLE.store(100, Ordering::SeqCst);
    eventually("the pool is empty", || waiting(&daemon) == 0).await;
    let refused = daemon.post("/v1/sandboxes", "{}").await;
    assert_no_capacity(&refused, "the host has 100 MiB available");
    AVAILABLE.store(10_000, Ordering::SeqCst);
    eventually("the pool is full again", || waiting(&daemon) == 3).await;
    assert_eq!(daemon.post("/v1/sandboxes", "{}").await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn a_boot_is_refused_too_when_the_host_has_less_than_the_budget_says() {
    let mut setup = Setup {
        memory: MemoryLimits {
            budget_mib: 4096,
            floor_mib: 256,
            probe: || Some(300),
            own: |_| None,
        },
        ..Setup::default()
    };
    setup.timing.room_patience = std::time::Duration::from_millis(100);
    let daemon = Daemon::with(setup).await;
    let refused = daemon.post("/v1/sandboxes", "{}").await;
    assert_no_capacity(&refused, "the host has 300 MiB available");
    daemon.stop().await;
}

#[tokio::test]
async fn without_memory_the_largest_sandbox_ends_with_the_reason_and_the_others_go_on() {
    static AVAILABLE: AtomicU64 = AtomicU64::new(10_000);
    static LARGEST: AtomicU64 = AtomicU64::new(0);
    let setup = Setup {
        memory: MemoryLimits {
            budget_mib: 4096,
            floor_mib: 256,
            probe: || Some(AVAILABLE.load(Ordering::SeqCst)),
            own: |pid| {
                let is_largest = u64::from(pid) == LARGEST.load(Ordering::SeqCst);
                Some(if is_largest { 900 } else { 30 })
            },
        },
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let (small, large) = (daemon.sandbox().await, daemon.sandbox().await);
    let pid = daemon.get(&large).await.json()["vmm_pid"].as_u64().unwrap();
    LARGEST.store(pid, Ordering::SeqCst);
    AVAILABLE.store(100, Ordering::SeqCst);
    eventually("one VM is left", || daemon.alive() == 1).await;
    AVAILABLE.store(10_000, Ordering::SeqCst);
    let shown = daemon.get(&large).await.json();
    assert_eq!(shown["state"], "failed");
    assert!(
        shown["last_error"].as_str().unwrap().contains("900 MiB"),
        "{shown}"
    );
    let refused = daemon.run(&large, "echo").await;
    assert_eq!(refused.code(), "sandbox_failed");
    assert_eq!(daemon.get(&small).await.json()["state"], "ready");
    daemon.stop().await;
}

#[tokio::test]
async fn a_disk_that_fills_up_is_bounded_then_refused_and_given_back() {
    static FREE: AtomicU64 = AtomicU64::new(50_000);
    let setup = Setup {
        disk: DiskLimits {
            reserve_mib: Some(1000),
            probe: |_| {
                Some(DiskSpace {
                    total_mib: 100_000,
                    free_mib: FREE.load(Ordering::SeqCst),
                })
            },
        },
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let sandbox = daemon.sandbox().await;
    let asked = |daemon: &Daemon| daemon.simulation.seen.leave_bytes.load(Ordering::SeqCst);
    FREE.store(2000, Ordering::SeqCst);
    // A fourth of what is above the reserve.
    eventually("the guest may use a part", || asked(&daemon) == 250 << 20).await;
    assert_eq!(daemon.post("/v1/sandboxes", "{}").await.status, 200);
    FREE.store(900, Ordering::SeqCst);
    eventually("the guest may use nothing more", || asked(&daemon) == 0).await;
    for (path, body) in [
        ("/v1/sandboxes", "{}"),
        (&*format!("{sandbox}/fork"), r#"{"n":1}"#),
    ] {
        assert_no_capacity(
            &daemon.post(path, body).await,
            "disk full: the host has 900 MiB free",
        );
    }
    let capacity = daemon.get("/v1/capacity").await.json();
    assert_eq!(capacity["disk"]["free_mib"], 900);
    assert_eq!(capacity["disk"]["reserve_mib"], 1000);
    let metrics = daemon
        .send("GET", "/metrics", "authorization: Bearer pf_op_test\r\n", "")
        .await;
    assert!(metrics.text().contains("podflare_disk_pressure 1"));
    FREE.store(50_000, Ordering::SeqCst);
    eventually("the guest may use all", || asked(&daemon) == u64::MAX).await;
    assert_eq!(daemon.post("/v1/sandboxes", "{}").await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn a_disk_that_fills_up_all_the_same_ends_the_sandbox_with_most_of_it() {
    static FREE: AtomicU64 = AtomicU64::new(50_000);
    let setup = Setup {
        disk: DiskLimits {
            reserve_mib: Some(1000),
            probe: |_| {
                Some(DiskSpace {
                    total_mib: 100_000,
                    free_mib: FREE.load(Ordering::SeqCst),
                })
            },
        },
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let sandbox = daemon.sandbox().await;
    FREE.store(10, Ordering::SeqCst);
    eventually("its VM is gone", || daemon.alive() == 0).await;
    FREE.store(50_000, Ordering::SeqCst);
    let shown = daemon.get(&sandbox).await.json();
    assert!(
        shown["last_error"].as_str().unwrap().contains("disk was full"),
        "{shown}"
    );
    daemon.stop().await;
}
