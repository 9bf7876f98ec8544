//! Webhooks: from what happens to the receiver, and everything that goes wrong on the way.

mod receiver;

use std::time::Instant;

use serde_json::{Value, json};

use super::client::{Connection, Response};
use super::{BOUND, Daemon, Setup, eventually};
use crate::simulation::Simulation;
use crate::{Allowed, WebhooksConfig};
use receiver::Receiver;

impl Daemon {
    async fn hook(&self, receiver: &Receiver, more: Value) -> Value {
        let mut body = json!({ "url": receiver.url() });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let made = self.post("/v1/webhooks", &body.to_string()).await;
        assert_eq!(made.status, 200, "{}", made.text());
        made.json()
    }

    pub(super) async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let mut connection = Connection::open(self.address).await;
        connection.send(method, path, headers, body).await;
        connection.response().await
    }

    async fn deliveries(&self, hook: &Value) -> Vec<Value> {
        let path = format!("/v1/webhooks/{}/deliveries", hook["id"].as_str().unwrap());
        self.get(&path).await.json()["deliveries"]
            .as_array()
            .unwrap()
            .clone()
    }
}

/// The same as `eventually`, for what has to be asked for.
async fn eventually_so<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < BOUND, "waited in vain until {what}");
    }
}

/// The id at the end of a sandbox's path.
fn id_of(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn what_happens_to_a_sandbox_is_told_in_order_and_signed() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let hook = daemon.hook(&receiver, json!({})).await;
    let parent = daemon.sandbox().await;
    let child = id_of(&daemon.fork(&parent, 1).await[0]);
    let merged = daemon.post(&format!("{parent}/merge_into/{child}"), "").await;
    assert_eq!(merged.status, 204);
    assert_eq!(daemon.delete(&parent).await.status, 204);
    let parent = id_of(&parent);
    let told = receiver.wait_for(4).await;
    let secret = hook["secret"].as_str().unwrap();
    told.iter().for_each(|delivery| delivery.verify(&[secret]));
    let of = |id: &str| -> Vec<String> {
        let of_it = told.iter().filter(|delivery| delivery.body["sandbox_id"] == id);
        of_it
            .map(|delivery| delivery.body["type"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(of(&parent), ["sandbox.created", "sandbox.destroyed"]);
    assert_eq!(of(&child), ["sandbox.forked", "sandbox.merged"]);
    let body = |kind: &str| {
        &told
            .iter()
            .find(|delivery| delivery.body["type"] == kind)
            .unwrap()
            .body
    };
    assert_eq!(body("sandbox.forked")["parent_id"], parent.as_str());
    assert_eq!(body("sandbox.merged")["into"], parent.as_str());
    assert_eq!(body("sandbox.destroyed")["reason"], "deleted");
    assert!(body("sandbox.created")["ts"].as_u64().unwrap() > 1_600_000_000_000);
    // The last one is delivered when the daemon has had its answer.
    let delivered = || async {
        let log = daemon.deliveries(&hook).await;
        log.iter().all(|delivery| delivery["state"] == "delivered")
    };
    eventually_so("all are delivered", delivered).await;
    let log = daemon.deliveries(&hook).await;
    assert_eq!(log.len(), 4);
    assert_eq!(log[0]["attempts"][0]["status"], 200);
    assert_eq!(log[0]["attempts"][0]["answer"], "thanks");
    daemon.stop().await;
}

#[tokio::test]
async fn a_webhook_gets_what_it_asks_for_and_no_other_tenant_sees_it() {
    let setup = Setup {
        keys: Some("mine,theirs"),
        webhooks: WebhooksConfig {
            allow: Some(Allowed::nearby()),
        },
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let receiver = Receiver::start().await;
    let body = json!({ "url": receiver.url(), "events": ["sandbox.destroyed"] }).to_string();
    let mine = "authorization: Bearer mine\r\n";
    let theirs = "authorization: Bearer theirs\r\n";
    let made = daemon.send("POST", "/v1/webhooks", mine, &body).await.json();
    let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    for (method, path) in [
        ("GET", path.clone()),
        ("PATCH", path.clone()),
        ("POST", format!("{path}/rotate")),
        ("POST", format!("{path}/test")),
        ("GET", format!("{path}/deliveries")),
    ] {
        let refused = daemon.send(method, &path, theirs, "").await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (404, "webhook_not_found"),
            "{path}"
        );
    }
    assert_eq!(daemon.send("DELETE", &path, theirs, "").await.status, 204);
    assert_eq!(
        daemon.send("GET", "/v1/webhooks", theirs, "").await.json()["webhooks"],
        json!([])
    );
    assert_eq!(
        daemon.send("GET", &path, mine, "").await.json().get("secret"),
        None
    );
    for key in [theirs, mine] {
        let created = daemon.send("POST", "/v1/sandboxes", key, "{}").await.json();
        let sandbox = format!("/v1/sandboxes/{}", created["id"].as_str().unwrap());
        assert_eq!(daemon.send("DELETE", &sandbox, key, "").await.status, 204);
    }
    let told = receiver.wait_for(1).await;
    assert_eq!(told[0].body["type"], "sandbox.destroyed");
    daemon.stop().await;
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_fails_gets_it_again_in_order_and_the_log_says_why() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let hook = daemon.hook(&receiver, json!({})).await;
    let id = daemon.sandbox().await;
    daemon.delete(&id).await;
    let first = receiver.wait_for(1).await;
    assert_eq!(first[0].body["type"], "sandbox.created");
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let path = path.as_str();
    let failing = || async { daemon.get(path).await.json()["failing_since_ms"].is_u64() };
    eventually_so("the webhook is shown as failing", failing).await;
    let log = daemon.deliveries(&hook).await;
    // What came later waits for its turn.
    assert_eq!(log[0]["attempts"], json!([]));
    assert_eq!(log[1]["state"], "pending");
    assert!(log[1]["next_attempt_ms"].is_u64());
    let error = log[1]["attempts"][0]["error"].as_str().unwrap();
    assert!(error.contains("500"), "{error}");
    receiver.answer(200);
    let told = receiver
        .wait_until(|told| {
            told.iter()
                .any(|delivery| delivery.body["type"] == "sandbox.destroyed")
        })
        .await;
    // On a busy machine it may have been tried more than once before the receiver was well again.
    let (last, before) = told.split_last().unwrap();
    assert_eq!(last.body["type"], "sandbox.destroyed");
    assert!(before.len() >= 2);
    assert!(
        before
            .iter()
            .all(|delivery| delivery.body["type"] == "sandbox.created")
    );
    assert_eq!(told[0].id, told[1].id);
    daemon.stop().await;
}

#[tokio::test]
async fn what_was_told_before_the_daemon_died_is_sent_after_its_next_start() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.answer(503);
    let hook = daemon.hook(&receiver, json!({})).await;
    let id = daemon.sandbox().await;
    receiver.wait_for(1).await;
    // The courier is in the middle of it, and what the host says at its end comes on top.
    let (_, dir) = daemon.end().await;
    let daemon = Daemon::open(Setup::default(), Simulation::default(), dir).await;
    receiver.answer(200);
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let woken = daemon
        .send("PATCH", &path, "", r#"{"description":"again"}"#)
        .await
        .json();
    assert_eq!(woken["description"], "again");
    let told = receiver
        .wait_until(|told| {
            told.iter()
                .any(|delivery| delivery.body["type"] == "sandbox.destroyed")
        })
        .await;
    let end = told.last().unwrap();
    assert_eq!(end.body["reason"], "host_shutdown");
    assert_eq!(end.body["sandbox_id"], id_of(&id).as_str());
    let secret = hook["secret"].as_str().unwrap();
    told.iter().for_each(|delivery| delivery.verify(&[secret]));
    daemon.stop().await;
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_new_one_for_a_while() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let hook = daemon.hook(&receiver, json!({})).await;
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let rotated = daemon
        .post(&format!("{path}/rotate"), r#"{"grace_seconds":60}"#)
        .await
        .json();
    let (old, new) = (
        hook["secret"].as_str().unwrap(),
        rotated["secret"].as_str().unwrap(),
    );
    assert_ne!(old, new);
    assert!(rotated["old_secret_until_ms"].is_u64());
    let tested = daemon.post(&format!("{path}/test"), "").await.json();
    assert_eq!(tested["state"], "delivered", "{tested}");
    receiver.seen()[0].verify(&[new, old]);
    daemon.post(&format!("{path}/rotate"), "{}").await;
    daemon.post(&format!("{path}/test"), "").await;
    assert_eq!(receiver.seen()[1].signatures().len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_delivery_is_replayed_with_the_same_event() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let hook = daemon
        .hook(&receiver, json!({ "events": ["sandbox.created"] }))
        .await;
    daemon.sandbox().await;
    receiver.wait_for(1).await;
    let log = daemon.deliveries(&hook).await;
    let path = format!("/v1/webhooks/{}/deliveries", hook["id"].as_str().unwrap());
    let id = log[0]["id"].as_str().unwrap();
    let again = daemon.post(&format!("{path}/{id}/replay"), "").await.json();
    assert_eq!(again["replay_of"], id);
    let told = receiver.wait_for(2).await;
    assert_eq!(told[0].id, told[1].id);
    assert_eq!(told[0].body, told[1].body);
    let nothing = daemon.post(&format!("{path}/dlv_1/replay"), "").await;
    assert_eq!(
        (nothing.status, nothing.code().as_str()),
        (404, "delivery_not_found")
    );
    let page = daemon.get(&format!("{path}?limit=1")).await.json();
    let rest = daemon
        .get(&format!(
            "{path}?before={}",
            page["next_before"].as_str().unwrap()
        ))
        .await
        .json();
    assert_eq!(rest["deliveries"].as_array().unwrap().len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_disables_its_webhook_until_somebody_enables_it() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.answer(410);
    let hook = daemon.hook(&receiver, json!({})).await;
    daemon.sandbox().await;
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let path = path.as_str();
    let disabled = || async { daemon.get(path).await.json()["enabled"] == false };
    eventually_so("the webhook is disabled", disabled).await;
    let shown = daemon.get(path).await.json();
    assert!(
        shown["disabled_reason"].as_str().unwrap().contains("410"),
        "{shown}"
    );
    receiver.answer(200);
    daemon.send("PATCH", path, "", r#"{"enabled":true}"#).await;
    receiver.wait_for(2).await;
    let delivered = || async { daemon.get(path).await.json()["pending"] == 0 };
    eventually_so("nothing is pending", delivered).await;
    daemon.stop().await;
}

#[tokio::test]
async fn redirects_are_not_followed_and_addresses_that_are_not_public_are_refused() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.answer(307);
    let hook = daemon.hook(&receiver, json!({})).await;
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let tested = daemon.post(&format!("{path}/test"), "").await.json();
    assert_eq!(tested["state"], "failed");
    assert!(
        tested["attempts"][0]["error"]
            .as_str()
            .unwrap()
            .contains("redirects"),
        "{tested}"
    );
    assert_eq!(receiver.seen().len(), 1);
    let metadata = json!({ "url": "http://169.254.169.254/latest/meta-data" }).to_string();
    let refused = daemon.post("/v1/webhooks", &metadata).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_field"));
    assert!(refused.text().contains("not public"), "{}", refused.text());
    let refused = daemon.send("PATCH", &path, "", &metadata).await;
    assert_eq!(refused.status, 400);
    daemon.stop().await;
    // Where keys are asked for, not even this machine.
    let setup = Setup {
        require_keys: true,
        keys: Some("mine"),
        ..Setup::default()
    };
    let daemon = Daemon::with(setup).await;
    let body = json!({ "url": receiver.url() }).to_string();
    let refused = daemon
        .send("POST", "/v1/webhooks", "authorization: Bearer mine\r\n", &body)
        .await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    daemon.stop().await;
}

#[tokio::test]
async fn a_tenant_has_only_so_many_and_what_is_removed_is_sent_nothing() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let mut last = Value::Null;
    for _ in 0..20 {
        last = daemon.hook(&receiver, json!({})).await;
    }
    let refused = daemon
        .post("/v1/webhooks", &json!({ "url": receiver.url() }).to_string())
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "too_many_webhooks")
    );
    let listed = daemon.get("/v1/webhooks").await.json();
    assert_eq!(listed["webhooks"].as_array().unwrap().len(), 20);
    for hook in listed["webhooks"].as_array().unwrap() {
        if hook["id"] != last["id"] {
            let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
            assert_eq!(daemon.send("DELETE", &path, "", "").await.status, 204);
            assert_eq!(daemon.get(&path).await.status, 404);
        }
    }
    daemon.sandbox().await;
    let told = receiver.wait_for(1).await;
    told[0].verify(&[last["secret"].as_str().unwrap()]);
    eventually("nobody else is told", || receiver.seen().len() == 1).await;
    daemon.stop().await;
}
