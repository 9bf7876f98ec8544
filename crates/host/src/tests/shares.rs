//! A full host is shared: whoever asks much gets no more than others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::tenants::{call, create, tenant};
use super::{Daemon, Setup, pool_of};

/// Creates and deletes with so many workers until told to stop; gives how many sandboxes there were.
async fn hammer(daemon: &Arc<Daemon>, key: &str, workers: u32, stop: &Arc<AtomicU32>) -> JoinSet<u32> {
    let mut set = JoinSet::new();
    for _ in 0..workers {
        let (daemon, key, stop) = (Arc::clone(daemon), key.to_owned(), Arc::clone(stop));
        set.spawn(async move {
            let mut made = 0;
            while stop.load(Ordering::SeqCst) == 0 {
                let created = create(&daemon, &key).await;
                assert!(matches!(created.status, 200 | 503), "{}", created.text());
                if created.status == 200 {
                    made += 1;
                    let path = format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap());
                    call(&daemon, &key, "DELETE", &path, "").await;
                }
            }
            made
        });
    }
    set
}

#[tokio::test]
async fn two_workers_get_their_share_beside_forty() {
    let daemon = Daemon::with(Setup {
        pools: pool_of(0),
        ..Setup::default()
    })
    .await;
    let daemon = Arc::new(daemon);
    let (a, b) = (
        tenant(&daemon, "a", json!({})).await,
        tenant(&daemon, "b", json!({})).await,
    );
    let stop = Arc::new(AtomicU32::new(0));
    let many = hammer(&daemon, &a, 40, &stop).await;
    let few = hammer(&daemon, &b, 2, &stop).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.store(1, Ordering::SeqCst);
    let many: u32 = many.join_all().await.iter().sum();
    let few: u32 = few.join_all().await.iter().sum();
    assert!(many > 0 && few > 0, "{many} {few}");
    // By workers alone it would be a twentieth; by turns each of the two is served as soon as it asks.
    assert!(few * 8 >= many, "{few} beside {many}");
    Arc::into_inner(daemon).unwrap().stop().await;
}

#[tokio::test]
async fn memory_that_is_given_back_goes_to_who_has_less_than_a_share() {
    let daemon = Arc::new(Daemon::start().await);
    let (a, b) = (
        tenant(&daemon, "a", json!({})).await,
        tenant(&daemon, "b", json!({})).await,
    );
    let mut paths = Vec::new();
    // All of the host's memory.
    for _ in 0..8 {
        let created = create(&daemon, &a).await;
        assert_eq!(created.status, 200, "{}", created.text());
        paths.push(format!(
            "/v1/sandboxes/{}",
            created.json()["id"].as_str().unwrap()
        ));
    }
    // One alone is told at once that there is no room.
    assert_eq!(create(&daemon, &a).await.code(), "no_capacity");
    let waiting = {
        let (daemon, b) = (Arc::clone(&daemon), b.clone());
        tokio::spawn(async move { create(&daemon, &b).await.status })
    };
    // The other hammers at the door while the first waits inside.
    let mut refused = 0;
    while daemon.host.tenants().named("b").unwrap().held() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        refused += u32::from(create(&daemon, &a).await.status == 503);
    }
    assert_eq!(refused, 5);
    call(&daemon, &a, "DELETE", &paths[0], "").await;
    assert_eq!(waiting.await.unwrap(), 200);
    Arc::into_inner(daemon).unwrap().stop().await;
}
