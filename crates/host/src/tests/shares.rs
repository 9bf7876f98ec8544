//! A full host is shared: whoever asks much gets no more than others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::tenants::{call, create, tenant};
use super::{Daemon, Setup, pool_of};

/// Creates and deletes with so many workers until told to stop, and counts the sandboxes there were.
fn hammer(
    daemon: &Arc<Daemon>,
    key: &str,
    workers: u32,
    stop: &Arc<AtomicBool>,
) -> (JoinSet<()>, Arc<AtomicU32>) {
    let mut set = JoinSet::new();
    let made = Arc::new(AtomicU32::new(0));
    for _ in 0..workers {
        let (daemon, key) = (Arc::clone(daemon), key.to_owned());
        let (stop, made) = (Arc::clone(stop), Arc::clone(&made));
        set.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let created = create(&daemon, &key).await;
                assert!(matches!(created.status, 200 | 503), "{}", created.text());
                if created.status == 200 {
                    made.fetch_add(1, Ordering::SeqCst);
                    let path = format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap());
                    call(&daemon, &key, "DELETE", &path, "").await;
                }
            }
        });
    }
    (set, made)
}

#[tokio::test]
async fn two_workers_get_their_share_beside_forty() {
    // Counted in sandboxes and not in seconds: a busy machine makes few of them, and says nothing in a second.
    const ENOUGH: u32 = 20;
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
    let stop = Arc::new(AtomicBool::new(false));
    let (many, made_by_many) = hammer(&daemon, &a, 40, &stop);
    let (few, made_by_few) = hammer(&daemon, &b, 2, &stop);
    let counted = tokio::time::timeout(Duration::from_secs(120), async {
        while made_by_few.load(Ordering::SeqCst) < ENOUGH {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        made_by_many.load(Ordering::SeqCst)
    })
    .await
    .expect("the two workers get sandboxes");
    stop.store(true, Ordering::SeqCst);
    many.join_all().await;
    few.join_all().await;
    // By workers alone it would be twenty for each; by turns each of the two is served as soon as it asks.
    assert!(counted > 0, "the forty get sandboxes too");
    assert!(counted <= 4 * ENOUGH, "{counted} beside {ENOUGH}");
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
