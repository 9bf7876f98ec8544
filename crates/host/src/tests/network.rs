//! What sandboxes may reach, with a network process that reaches nothing.

use std::sync::Arc;

use egress::Policy;
use net_proto::{Counters, LogEntry, Protocol, Verdict, WireId};
use serde_json::{Value, json};

use super::adoption::House;
use super::{Daemon, Setup, eventually, pool_of};
use crate::auth::Tenant;
use crate::network::fake::FakeNetd;

fn setup(netd: &FakeNetd) -> Setup {
    Setup {
        network: Some(Arc::new(netd.clone())),
        ..Setup::default()
    }
}

fn policy(value: &Value) -> Policy {
    Policy::from_json(value).unwrap()
}

impl Daemon {
    async fn sandbox_with(&self, body: &Value) -> String {
        let created = self.post("/v1/sandboxes", &body.to_string()).await;
        assert_eq!(created.status, 200, "{}", created.text());
        format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap())
    }

    /// The number of a sandbox's wire.
    fn wire(&self, sandbox: &str) -> WireId {
        let id = sandbox.trim_start_matches("/v1/sandboxes/").parse().unwrap();
        let held = (0..9).find_map(|tenant| self.host.find(id, Tenant(tenant)));
        held.unwrap().wire.id()
    }

    async fn patch(&self, sandbox: &str, body: &Value) -> super::client::Response {
        super::client::request(self.address, "PATCH", sandbox, &body.to_string()).await
    }

    async fn pid(&self, sandbox: &str) -> u32 {
        let pid = self.get(sandbox).await.json()["vmm_pid"].as_u64().unwrap();
        u32::try_from(pid).unwrap()
    }
}

async fn reaches(netd: &FakeNetd, wire: WireId, wanted: &Value) {
    let wanted = policy(wanted);
    eventually(&format!("wire {wire} has {wanted:?}"), || {
        netd.policy(wire).as_ref() == Some(&wanted)
    })
    .await;
}

#[tokio::test]
async fn a_new_sandbox_reaches_what_it_was_made_for_whichever_way_it_comes_to_be() {
    let list = json!({ "allow": ["api.example.com:443"], "deny": [] });
    for pools in [super::no_pools(), pool_of(1), pool_of(0)] {
        let netd = FakeNetd::default();
        let daemon = Daemon::with(Setup {
            pools,
            ..setup(&netd)
        })
        .await;
        eventually("there is a network", || daemon.host.network.wires.is_up()).await;
        for wanted in [json!(true), json!(false), list.clone()] {
            let sandbox = daemon.sandbox_with(&json!({ "egress": wanted })).await;
            let wire = daemon.wire(&sandbox);
            if wanted.is_object() {
                // Whoever holds it to a list finds what is on it from the first moment on.
                assert_eq!(netd.policy(wire), Some(policy(&wanted)));
            }
            reaches(&netd, wire, &wanted).await;
            assert_eq!(daemon.get(&sandbox).await.json()["egress"], wanted);
            // The VM has the other end.
            let pid = daemon.pid(&sandbox).await;
            assert!(daemon.simulation.send_frame(pid, b"hello"));
            eventually("its frame comes out", || netd.frames(wire) == [b"hello"]).await;
            daemon.delete(&sandbox).await;
            eventually("its wire is gone", || netd.policy(wire).is_none()).await;
        }
        daemon.stop().await;
        assert!(netd.policies().is_empty());
    }
}

#[tokio::test]
async fn what_a_sandbox_may_reach_is_changed_when_the_change_is_answered_and_what_is_wrong_is_named() {
    let netd = FakeNetd::default();
    let daemon = Daemon::with(setup(&netd)).await;
    let sandbox = daemon.sandbox().await;
    let wire = daemon.wire(&sandbox);
    for wanted in [
        json!(false),
        json!({ "allow": ["*.example.org", "10.1.0.0/16"], "deny": ["10.1.2.3"] }),
        json!(true),
    ] {
        let changed = daemon.patch(&sandbox, &json!({ "egress": wanted })).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        assert_eq!(netd.policy(wire), Some(policy(&wanted)));
        assert_eq!(
            changed.json()["egress"].to_string().contains("10.1.2.3"),
            wanted.is_object()
        );
    }
    let wrong = json!({ "egress": { "allow": ["api.example.com", "https://a.example/x"] } });
    for refused in [
        daemon.patch(&sandbox, &wrong).await,
        daemon.post("/v1/sandboxes", &wrong.to_string()).await,
    ] {
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_field"));
        assert!(
            refused.text().contains("https://a.example/x"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(netd.policy(wire), Some(Policy::Open));
    daemon.stop().await;
}

#[tokio::test]
async fn forks_inherit_what_holds_at_that_moment_and_a_merge_takes_the_winners() {
    let netd = FakeNetd::default();
    let daemon = Daemon::with(setup(&netd)).await;
    let parent = daemon.sandbox_with(&json!({ "egress": true })).await;
    daemon.patch(&parent, &json!({ "egress": false })).await;
    let wire = daemon.wire(&parent);
    let children = daemon.fork(&parent, 2).await;
    for child in &children {
        let child_wire = daemon.wire(child);
        reaches(&netd, child_wire, &json!(false)).await;
        let of = netd.with(|state| state.wires[&child_wire].clone_of);
        assert_eq!(of, Some(wire));
        assert_eq!(daemon.get(child).await.json()["egress"], false);
        assert!(daemon.simulation.send_frame(daemon.pid(child).await, b"child"));
    }
    let list = json!({ "allow": ["a.example"], "deny": [] });
    daemon.patch(&children[0], &json!({ "egress": list })).await;
    let winner = children[0].trim_start_matches("/v1/sandboxes/");
    let merged = daemon.post(&format!("{parent}/merge_into/{winner}"), "").await;
    assert_eq!(merged.status, 204, "{}", merged.text());
    assert_eq!(daemon.get(&parent).await.json()["egress"], list);
    eventually("the loser's wire is gone", || netd.policy(wire).is_none()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn going_back_opens_nothing_that_was_shut_since_and_a_checkpoint_has_no_network() {
    let netd = FakeNetd::default();
    let daemon = Daemon::with(setup(&netd)).await;
    let sandbox = daemon.sandbox().await;
    let before = daemon.wire(&sandbox);
    reaches(&netd, before, &json!(true)).await;
    let made = daemon.post(&format!("{sandbox}/checkpoints"), "{}").await;
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(netd.policies().len(), 1);
    daemon.patch(&sandbox, &json!({ "egress": false })).await;
    let back = daemon.post(&format!("{sandbox}/rollback"), "{}").await;
    assert_eq!(back.status, 200, "{}", back.text());
    assert_eq!(daemon.get(&sandbox).await.json()["egress"], false);
    let after = daemon.wire(&sandbox);
    assert_ne!(before, after);
    reaches(&netd, after, &json!(false)).await;
    eventually("the wire before is gone", || netd.policy(before).is_none()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_space_keeps_what_may_be_reached_and_a_resume_may_say_otherwise() {
    let netd = FakeNetd::default();
    let daemon = Daemon::with(setup(&netd)).await;
    let list = json!({ "allow": ["a.example"], "deny": ["b.a.example:80"] });
    let sandbox = daemon.sandbox_with(&json!({ "egress": list })).await;
    let space = daemon.freeze(&sandbox).await;
    assert_eq!(daemon.get(&space).await.json()["egress"], list);
    let same = daemon.resume(&space, r#"{"keep":true}"#).await;
    assert_eq!(netd.policy(daemon.wire(&same)), Some(policy(&list)));
    let open = daemon.resume(&space, r#"{"keep":true,"egress":true}"#).await;
    reaches(&netd, daemon.wire(&open), &json!(true)).await;
    let wrong = daemon
        .post(&format!("{space}/resume"), r#"{"egress":{"deny":[]}}"#)
        .await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_field"));
    daemon.stop().await;
}

#[tokio::test]
async fn when_the_network_process_dies_every_vm_gets_another_wire_and_reaches_what_it_did() {
    let netd = FakeNetd::default();
    let daemon = Daemon::with(Setup {
        pools: pool_of(1),
        ..setup(&netd)
    })
    .await;
    let list = json!({ "allow": ["a.example"], "deny": [] });
    let sandbox = daemon.sandbox_with(&json!({ "egress": list })).await;
    let wire = daemon.wire(&sandbox);
    let waiting = || daemon.host.capacity(None).pools[0].size == 1;
    eventually("another one waits in the pool", waiting).await;
    netd.kill();
    reaches(&netd, wire, &list).await;
    let pid = daemon.pid(&sandbox).await;
    assert!(daemon.simulation.send_frame(pid, b"again"));
    eventually("its frame comes out", || netd.frames(wire) == [b"again"]).await;
    // The one in the pool gets its own when it is handed out.
    let next = daemon.sandbox_with(&json!({ "egress": true })).await;
    assert_eq!(daemon.get(&next).await.json()["source"], "pool");
    reaches(&netd, daemon.wire(&next), &json!(true)).await;
    assert!(daemon.simulation.send_frame(daemon.pid(&next).await, b"too"));
    assert_eq!(netd.starts(), 2);
    let text = daemon.get("/metrics").await.text();
    assert!(text.contains("podflare_netd_restarts_total 1"), "{text}");
    assert!(text.contains("podflare_netd_up 1"));
    daemon.stop().await;
}

#[tokio::test]
async fn without_a_network_process_sandboxes_come_to_be_and_their_network_is_told_to_be_down() {
    let netd = FakeNetd::default();
    netd.be_missing(true);
    let daemon = Daemon::with(setup(&netd)).await;
    let list = json!({ "allow": ["a.example"], "deny": [] });
    let sandbox = daemon.sandbox_with(&json!({ "egress": list })).await;
    assert_eq!(daemon.says(&sandbox, "echo hi").await, "hi");
    let log = daemon.get(&format!("{sandbox}/egress/log")).await;
    assert_eq!((log.status, log.code().as_str()), (503, "network_unavailable"));
    assert!(log.header("retry-after").is_some());
    let changed = daemon.patch(&sandbox, &json!({ "egress": false })).await;
    assert_eq!(
        changed.status, 200,
        "nothing gets out, which is what was asked for"
    );
    assert!(daemon.get(&sandbox).await.json()["network"].is_null());
    assert!(daemon.get("/metrics").await.text().contains("podflare_netd_up 0"));
    netd.be_missing(false);
    reaches(&netd, daemon.wire(&sandbox), &json!(false)).await;
    daemon.stop().await;
}

#[tokio::test]
async fn the_next_daemon_leaves_wires_as_they_are_and_knows_what_they_reach() {
    let house = House::new();
    let netd = FakeNetd::default();
    netd.live_here();
    let mut first = house.daemon(setup(&netd)).await;
    let sandbox = first.daemon().sandbox().await;
    let list = json!({ "allow": ["a.example"], "deny": [] });
    first.daemon().patch(&sandbox, &json!({ "egress": list })).await;
    let wire = first.daemon().wire(&sandbox);
    first.vanish().await;
    let second = house.daemon(setup(&netd)).await;
    assert_eq!(second.daemon().get(&sandbox).await.json()["egress"], list);
    assert_eq!(second.daemon().wire(&sandbox), wire);
    let is_up = || second.daemon().host.network.wires.is_up();
    eventually("the next daemon has found the network", is_up).await;
    let attached = |told: &String| told.starts_with(&format!("attach {wire} "));
    let attaches = netd.with(|state| state.told.iter().filter(|told| attached(told)).count());
    assert_eq!((attaches, netd.starts()), (1, 1));
    let changed = second.daemon().patch(&sandbox, &json!({ "egress": false })).await;
    assert_eq!(changed.status, 200);
    assert_eq!(netd.policy(wire), Some(Policy::Closed));
    second.stop().await;
    assert!(
        netd.policies().is_empty(),
        "the network process ends with its host"
    );
}

#[tokio::test]
async fn what_was_reached_is_shown_counted_and_charged() {
    let netd = FakeNetd::default();
    let daemon = Daemon::with(setup(&netd)).await;
    let sandbox = daemon.sandbox().await;
    let wire = daemon.wire(&sandbox);
    reaches(&netd, wire, &json!(true)).await;
    let counters = Counters {
        tcp_open: 1,
        bytes_up: 10,
        bytes_down: 2000,
        denied: 3,
        ..Counters::default()
    };
    let entry = |seq| LogEntry {
        seq,
        at_ms: 5,
        name: Some("a.example".to_owned()),
        address: Some([192, 0, 2, 7].into()),
        port: 443,
        protocol: Protocol::Tcp,
        verdict: Verdict::Allowed,
        reason: None,
        bytes_up: 10,
        bytes_down: 2000,
        times: 1,
        open: true,
    };
    netd.with(|state| {
        let one = state.wires.get_mut(&wire).unwrap();
        one.counters = counters;
        one.log = vec![entry(1), entry(2)];
        state.totals = counters;
    });
    let network = &daemon.get(&sandbox).await.json()["network"];
    assert_eq!(
        network,
        &json!({ "sent_bytes": 10, "received_bytes": 2000, "flows": 1, "denied": 3 })
    );
    let log = daemon
        .get(&format!("{sandbox}/egress/log?after=1&limit=5"))
        .await
        .json();
    assert_eq!(log["entries"].as_array().unwrap().len(), 1);
    assert_eq!((&log["oldest"], &log["newest"]), (&json!(1), &json!(2)));
    let shown = &log["entries"][0];
    assert_eq!(
        (&shown["address"], &shown["verdict"], &shown["sent_bytes"]),
        (&json!("192.0.2.7"), &json!("allowed"), &json!(10))
    );
    for (path, status) in [
        (format!("{sandbox}/egress/log?limit=0"), 400),
        (format!("{sandbox}/egress/log?after=x"), 400),
        (
            "/v1/sandboxes/sbx_00000000000000000000000000000000/egress/log".to_owned(),
            404,
        ),
    ] {
        assert_eq!(daemon.get(&path).await.status, status, "{path}");
    }
    // Its last bytes are counted before its wire is given up.
    daemon.delete(&sandbox).await;
    eventually("its wire is gone", || netd.policy(wire).is_none()).await;
    let usage = daemon.get("/v1/usage").await.json();
    assert_eq!(
        (
            &usage["total"]["network_sent_bytes"],
            &usage["total"]["network_received_bytes"]
        ),
        (&json!(10), &json!(2000))
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_secret_reaches_the_network_and_nothing_else_and_is_revoked_at_once() {
    let netd = FakeNetd::default();
    let daemon = Daemon::with(setup(&netd)).await;
    let put = |body: Value| {
        let address = daemon.address;
        async move { super::client::request(address, "PUT", "/v1/secrets/token", &body.to_string()).await }
    };
    let unknown = daemon.post("/v1/sandboxes", r#"{"secrets":["token"]}"#).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "invalid_field"));
    let made = put(json!({ "value": "hunter2", "hosts": ["api.example.com"] })).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let placeholder = made.json()["placeholder"].as_str().unwrap().to_owned();
    let wrong = put(json!({ "value": "hunter2", "hosts": ["10.0.0.1"] })).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_field"));

    let sandbox = daemon.sandbox_with(&json!({ "secrets": ["token"] })).await;
    let without = daemon.sandbox().await;
    let child = daemon.fork(&sandbox, 1).await.remove(0);
    let values = |path: &str| {
        let wire = daemon.wire(path);
        netd.with(|state| {
            let secrets = state.wires.get(&wire).map(|one| one.secrets.clone());
            let secrets = secrets.unwrap_or_default().into_iter();
            secrets
                .map(|secret| (secret.placeholder, secret.value.reveal().to_owned()))
                .collect::<Vec<_>>()
        })
    };
    let first = [(placeholder.clone(), "hunter2".to_owned())];
    assert_eq!(values(&sandbox), first);
    eventually("the child has it, too", || values(&child) == first).await;
    assert!(values(&without).is_empty());

    // Another value under the same placeholder, which sandboxes have when that is answered.
    put(json!({ "value": "hunter3", "hosts": ["api.example.com"] })).await;
    let second = [(placeholder, "hunter3".to_owned())];
    assert_eq!(
        (values(&sandbox), values(&child)),
        (second.to_vec(), second.to_vec())
    );
    netd.kill();
    eventually("another network process has it", || values(&sandbox) == second).await;

    let list = daemon.get("/v1/secrets").await.text();
    assert!(
        list.contains("api.example.com") && !list.contains("hunter"),
        "{list}"
    );
    assert_eq!(daemon.get(&sandbox).await.json()["secrets"], json!(["token"]));
    let data = daemon.dir.path().join("data");
    for file in ["podflare.db", "podflare.db-wal"] {
        let bytes = std::fs::read(data.join(file)).unwrap_or_default();
        assert!(!bytes.windows(6).any(|window| window == b"hunter"), "{file}");
    }
    let space = daemon.freeze(&child).await;
    let revoked = daemon.delete("/v1/secrets/token").await;
    assert_eq!(revoked.status, 204);
    assert!(values(&sandbox).is_empty());
    assert_eq!(daemon.delete("/v1/secrets/token").await.status, 204);
    let resumed = daemon.resume(&space, "{}").await;
    assert!(values(&resumed).is_empty());
    daemon.stop().await;
}

#[tokio::test]
async fn secrets_outlive_the_daemon_and_its_sandboxes_go_on_with_them() {
    let house = House::new();
    let netd = FakeNetd::default();
    netd.live_here();
    let mut first = house.daemon(setup(&netd)).await;
    let body = r#"{"value":"hunter2","hosts":["api.example.com"],"placeholder":"@@TOKEN@@"}"#;
    let put = super::client::request(first.daemon().address, "PUT", "/v1/secrets/token", body).await;
    assert_eq!(put.json()["placeholder"], "@@TOKEN@@");
    let sandbox = first
        .daemon()
        .sandbox_with(&json!({ "secrets": ["token"] }))
        .await;
    first.vanish().await;
    let second = house.daemon(setup(&netd)).await;
    let listed = second.daemon().get("/v1/secrets").await.json();
    assert_eq!(listed["secrets"][0]["name"], "token");
    let wire = second.daemon().wire(&sandbox);
    let has = |count: usize| netd.with(|state| state.wires[&wire].secrets.len() == count);
    eventually("the sandbox has its secret", || has(1)).await;
    second.daemon().delete("/v1/secrets/token").await;
    assert!(has(0));
    second.stop().await;
}
