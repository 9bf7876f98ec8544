//! Snapshots, zygotes and pools.

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::PoolState;

use super::{Boot, Daemon, Setup, eventually, pool_of};
use crate::simulation::{Faults, Simulation};

/// What `/v1/capacity` says of the default template.
fn pool(daemon: &Daemon) -> api::PoolCapacity {
    let pools = daemon.host.capacity(None).pools;
    pools.into_iter().find(|pool| pool.template == "default").unwrap()
}

fn setup(size: u32) -> Setup {
    Setup {
        pools: pool_of(size),
        ..Setup::default()
    }
}

async fn with_faults(setup: Setup, faults: Faults) -> Daemon {
    let simulation = Simulation::default();
    *simulation.boot.lock().unwrap() = setup.boot;
    *simulation.faults.lock().unwrap() = faults;
    Daemon::open(setup, simulation, tempfile::tempdir().unwrap()).await
}

#[tokio::test]
async fn creations_are_served_from_the_pool_which_is_filled_again() {
    let daemon = Daemon::with(setup(3)).await;
    eventually("the pool is full", || pool(&daemon).size == 3).await;
    assert_eq!(pool(&daemon).state, PoolState::Ready);
    let mut names = Vec::new();
    for _ in 0..3 {
        let sandbox = daemon.sandbox().await;
        let info = daemon.get(&sandbox).await.json();
        assert_eq!(
            (&info["source"], &info["generation"]),
            (&"pool".into(), &0.into())
        );
        let name = daemon.says(&sandbox, "hostname").await;
        assert!(
            sandbox.contains(name.trim_start_matches("sbx-")),
            "{name} {sandbox}"
        );
        names.push(name);
        eventually("the pool is full again", || pool(&daemon).size == 3).await;
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
    let pool = pool(&daemon);
    assert_eq!((pool.hits, pool.misses, pool.pool_hit_rate_bp), (3, 0, 10_000));
    assert_eq!((pool.refill_ms.count, pool.target), (6, 3));
    // Each template was booted once, for its snapshot.
    eventually("both snapshots are made", || {
        daemon.simulation.seen.snapshots.load(Ordering::SeqCst) == 2
    })
    .await;
    assert_eq!(daemon.simulation.seen.boots.load(Ordering::SeqCst), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_burst_beyond_the_pool_is_cloned_on_demand() {
    let daemon = Daemon::with(setup(2)).await;
    eventually("the pool is full", || pool(&daemon).size == 2).await;
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let address = daemon.address;
        creates.spawn(async move {
            super::client::request(address, "POST", "/v1/sandboxes", "{}")
                .await
                .status
        });
    }
    assert_eq!(creates.join_all().await, [200; 12]);
    let counts = pool(&daemon);
    assert_eq!(counts.hits + counts.misses, 12);
    assert!(counts.hits >= 2 && counts.misses >= 1, "{counts:?}");
    assert!(counts.on_demand_boot_ms_mean > 0.0);
    let list = daemon.get("/v1/sandboxes").await.json();
    let sources: Vec<_> = list["sandboxes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|info| &info["source"])
        .collect();
    assert!(sources.contains(&&"clone".into()), "{sources:?}");
    eventually("the pool is full again", || pool(&daemon).size == 2).await;
    daemon.stop().await;
}

#[tokio::test]
async fn another_shape_is_booted_and_its_children_are_clones() {
    let daemon = Daemon::with(setup(1)).await;
    eventually("the pool is full", || pool(&daemon).size == 1).await;
    let created = daemon.post("/v1/sandboxes", r#"{"ram_mib":256}"#).await;
    let sandbox = format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(daemon.get(&sandbox).await.json()["source"], "boot");
    assert_eq!(daemon.fork(&sandbox, 2).await.len(), 2);
    assert_eq!((pool(&daemon).hits, pool(&daemon).misses), (0, 0));
    daemon.stop().await;
}

#[tokio::test]
async fn a_creation_waits_for_a_snapshot_that_is_being_made() {
    let daemon = Daemon::with(setup(0)).await;
    // Nothing is ready yet when this comes.
    let sandbox = daemon.sandbox().await;
    assert_eq!(daemon.get(&sandbox).await.json()["source"], "clone");
    assert_eq!((pool(&daemon).hits, pool(&daemon).misses), (0, 1));
    daemon.stop().await;
}

#[tokio::test]
async fn a_snapshot_outlives_the_daemon_and_is_made_again_when_it_does_not_fit() {
    let daemon = Daemon::with(setup(1)).await;
    eventually("the pool is full", || pool(&daemon).size == 1).await;
    eventually("both snapshots are made", || {
        daemon.simulation.seen.snapshots.load(Ordering::SeqCst) == 2
    })
    .await;
    eventually("both are ready", || {
        daemon
            .host
            .capacity(None)
            .pools
            .iter()
            .all(|pool| pool.state == PoolState::Ready)
    })
    .await;
    let (_, dir) = daemon.end().await;
    let second = Simulation::default();
    let daemon = Daemon::open(setup(1), second, dir).await;
    eventually("the pool is full", || pool(&daemon).size == 1).await;
    assert_eq!(daemon.simulation.seen.boots.load(Ordering::SeqCst), 0);
    let restored = daemon.simulation.seen.restores.lock().unwrap()[0].clone();
    assert!(restored.working_set.is_some());
    let (_, dir) = daemon.end().await;
    let third = Simulation::default();
    third.faults.lock().unwrap().unusable = 2;
    let daemon = Daemon::open(setup(1), third, dir).await;
    eventually("the pool is full", || pool(&daemon).size == 1).await;
    eventually("both snapshots are made again", || {
        daemon.simulation.seen.snapshots.load(Ordering::SeqCst) == 2
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn without_a_snapshot_sandboxes_are_booted_and_the_reason_is_shown() {
    let faults = Faults {
        no_snapshot: true,
        ..Faults::default()
    };
    let daemon = with_faults(setup(2), faults).await;
    let sandbox = daemon.sandbox().await;
    assert_eq!(daemon.get(&sandbox).await.json()["source"], "boot");
    let failed = pool(&daemon);
    assert_eq!((failed.state, failed.misses), (PoolState::Failed, 1));
    assert!(failed.last_error.unwrap().contains("no room for a snapshot"));
    // It is tried again after a while.
    daemon.simulation.faults.lock().unwrap().no_snapshot = false;
    eventually("the pool is full", || pool(&daemon).size == 2).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_template_that_does_not_boot_says_so_to_its_creations() {
    let setup = Setup {
        boot: Boot::Panics,
        ..setup(1)
    };
    let daemon = Daemon::with(setup).await;
    let refused = daemon.post("/v1/sandboxes", "{}").await;
    assert_eq!((refused.status, refused.code().as_str()), (500, "boot_failed"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_zygote_that_is_killed_comes_back_by_itself() {
    let daemon = Daemon::with(setup(1)).await;
    eventually("the pool is full", || pool(&daemon).size == 1).await;
    let zygote = daemon.simulation.newest_parent().unwrap();
    daemon.simulation.kill(zygote);
    for _ in 0..3 {
        daemon.sandbox().await;
    }
    eventually("there is another", || pool(&daemon).restores == 2).await;
    eventually("the pool is full", || pool(&daemon).size == 1).await;
    assert_ne!(daemon.simulation.newest_parent(), Some(zygote));
    daemon.stop().await;
}

#[tokio::test]
async fn a_vm_that_dies_in_the_pool_is_replaced_and_never_handed_out() {
    let daemon = Daemon::with(setup(2)).await;
    eventually("the pool is full", || pool(&daemon).size == 2).await;
    for pid in daemon
        .simulation
        .children_of(daemon.simulation.newest_parent().unwrap())
    {
        daemon.simulation.kill(pid);
    }
    let sandbox = daemon.sandbox().await;
    assert_eq!(daemon.says(&sandbox, "echo well").await, "well");
    eventually("the pool is full", || pool(&daemon).size == 2).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_clone_without_identity_is_never_handed_out() {
    let faults = Faults {
        nameless: 1,
        ..Faults::default()
    };
    let daemon = Daemon::with(setup(0)).await;
    daemon.sandbox().await;
    *daemon.simulation.faults.lock().unwrap() = faults;
    let sandbox = daemon.sandbox().await;
    // It was booted instead.
    assert_eq!(daemon.get(&sandbox).await.json()["source"], "boot");
    eventually("the clone is gone", || daemon.vm_dirs() <= 4).await;
    daemon.stop().await;
}

#[tokio::test]
async fn pools_give_way_to_what_somebody_wants() {
    let daemon = Daemon::with(setup(4)).await;
    eventually("the pool is full", || pool(&daemon).size == 4).await;
    eventually("both are ready", || {
        daemon
            .host
            .capacity(None)
            .pools
            .iter()
            .all(|pool| pool.state == PoolState::Ready)
    })
    .await;
    // The whole budget: nothing is left for VMs that only wait.
    let whole = daemon.post("/v1/sandboxes", r#"{"ram_mib":4096}"#).await;
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert_eq!(pool(&daemon).size, 0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((pool(&daemon).size, pool(&daemon).filling), (0, 0));
    let path = format!("/v1/sandboxes/{}", whole.json()["id"].as_str().unwrap());
    daemon.delete(&path).await;
    eventually("the pool is full", || pool(&daemon).size == 4).await;
    daemon.stop().await;
}
