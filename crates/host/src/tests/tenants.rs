//! Tenants, keys, limits, usage and the audit log, through the API.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Connection, Response};
use super::{Daemon, OPERATOR, Setup, eventually};
use crate::TenantsConfig;
use crate::simulation::Simulation;

pub(super) async fn call(daemon: &Daemon, key: &str, method: &str, path: &str, body: &str) -> Response {
    let mut connection = Connection::open(daemon.address).await;
    let header = format!("authorization: Bearer {key}\r\n");
    connection
        .send(method, path, if key.is_empty() { "" } else { &header }, body)
        .await;
    connection.response().await
}

async fn admin(daemon: &Daemon, method: &str, path: &str, body: Value) -> Value {
    let path = format!("/v1/admin{path}");
    let answer = call(daemon, OPERATOR, method, &path, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// A tenant with these limits, and a key of it.
pub(super) async fn tenant(daemon: &Daemon, name: &str, limits: Value) -> String {
    admin(
        daemon,
        "POST",
        "/tenants",
        json!({"name": name, "limits": limits}),
    )
    .await;
    new_key(daemon, name).await["key"].as_str().unwrap().to_owned()
}

async fn new_key(daemon: &Daemon, tenant: &str) -> Value {
    admin(daemon, "POST", "/keys", json!({"tenant": tenant, "name": "test"})).await
}

pub(super) async fn create(daemon: &Daemon, key: &str) -> Response {
    call(daemon, key, "POST", "/v1/sandboxes", "{}").await
}

async fn path_of_new(daemon: &Daemon, key: &str) -> String {
    let created = create(daemon, key).await;
    assert_eq!(created.status, 200, "{}", created.text());
    format!("/v1/sandboxes/{}", created.json()["id"].as_str().unwrap())
}

async fn guarded() -> Daemon {
    Daemon::with(Setup {
        require_keys: true,
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn a_key_opens_its_tenants_door_and_nobody_elses() {
    let daemon = guarded().await;
    let (a, b) = (
        tenant(&daemon, "a", json!({})).await,
        tenant(&daemon, "b", json!({})).await,
    );
    let sandbox = path_of_new(&daemon, &a).await;
    let child = call(&daemon, &a, "POST", &format!("{sandbox}/fork"), "{}").await;
    let child = child.json()["children"][0].as_str().unwrap().to_owned();
    let own = path_of_new(&daemon, &b).await;
    for (method, path) in [
        ("GET", sandbox.clone()),
        ("POST", format!("{sandbox}/exec")),
        ("POST", format!("{sandbox}/fork")),
        ("POST", format!("{sandbox}/merge_into/{child}")),
        ("POST", format!("{own}/merge_into/{child}")),
        ("GET", format!("{sandbox}/diff/{child}")),
        ("GET", format!("{own}/diff/{child}")),
        ("GET", format!("{sandbox}/console")),
    ] {
        let answer = call(&daemon, &b, method, &path, r#"{"code":"echo"}"#).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "sandbox_not_found"),
            "{method} {path}"
        );
    }
    assert_eq!(call(&daemon, &b, "DELETE", &sandbox, "").await.status, 204);
    assert_eq!(call(&daemon, &a, "GET", &sandbox, "").await.status, 200);
    let list = call(&daemon, &b, "GET", "/v1/sandboxes", "").await.json();
    assert_eq!(list["sandboxes"].as_array().unwrap().len(), 1);
    let capacity = call(&daemon, &b, "GET", "/v1/capacity", "").await.json();
    assert_eq!(
        (&capacity["sandboxes"]["ready"], &capacity["sandboxes"]["ending"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        admin(&daemon, "GET", "/capacity", json!({})).await["sandboxes"]["ready"],
        3
    );
    daemon.stop().await;
}

#[tokio::test]
async fn the_operators_routes_take_the_operators_token_alone_and_tenants_routes_do_not() {
    let daemon = Daemon::start().await;
    let key = tenant(&daemon, "a", json!({})).await;
    for presented in ["", &key, "pf_op_wrong"] {
        for path in [
            "/v1/admin/tenants",
            "/v1/admin/keys",
            "/v1/admin/audit",
            "/v1/admin/nothing",
        ] {
            let answer = call(&daemon, presented, "GET", path, "").await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (401, "invalid_operator_token")
            );
        }
    }
    assert_eq!(
        call(&daemon, OPERATOR, "GET", "/v1/admin/nothing", "")
            .await
            .status,
        404
    );
    daemon.stop().await;
    let daemon = guarded().await;
    assert_eq!(
        call(&daemon, OPERATOR, "GET", "/v1/sandboxes", "").await.status,
        401
    );
    daemon.stop().await;
}

#[tokio::test]
async fn on_loopback_nobody_needs_a_key_and_one_of_the_store_acts_as_its_tenant() {
    let daemon = Daemon::start().await;
    let a = tenant(&daemon, "a", json!({})).await;
    let sandbox = path_of_new(&daemon, &a).await;
    assert_eq!(call(&daemon, "", "GET", &sandbox, "").await.status, 404);
    assert_eq!(
        call(&daemon, "pk_of_something_else", "GET", "/v1/sandboxes", "")
            .await
            .status,
        200
    );
    let nobodys = daemon.sandbox().await;
    assert_eq!(
        call(&daemon, "pk_of_something_else", "GET", &nobodys, "")
            .await
            .status,
        200
    );
    assert_eq!(call(&daemon, &a, "GET", &nobodys, "").await.status, 404);
    daemon.stop().await;
}

#[tokio::test]
async fn keys_are_rotated_with_a_grace_and_revoked_at_once_while_streams_go_on() {
    let daemon = guarded().await;
    let old = tenant(&daemon, "a", json!({})).await;
    let id = |keys: &Value, at: usize| keys["keys"][at]["id"].as_str().unwrap().to_owned();
    let keys = admin(&daemon, "GET", "/keys", json!({})).await;
    let rotate = format!("/keys/{}/rotate", id(&keys, 0));
    let new = admin(&daemon, "POST", &rotate, json!({"grace_seconds": 3600})).await;
    let new = new["key"].as_str().unwrap().to_owned();
    let sandbox = path_of_new(&daemon, &old).await;
    assert_eq!(call(&daemon, &new, "GET", &sandbox, "").await.status, 200);
    let keys = admin(&daemon, "GET", "/keys", json!({})).await;
    let states: Vec<_> = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["state"])
        .collect();
    assert_eq!(states, ["expiring", "valid"]);
    assert!(!keys.to_string().contains(&new), "a key is shown once");

    let mut stream = Connection::open(daemon.address).await;
    let header = format!("authorization: Bearer {old}\r\n");
    stream
        .send("POST", &format!("{sandbox}/exec"), &header, r#"{"code":"wait"}"#)
        .await;
    stream.read_until("\r\n\r\n").await;
    let revoked = admin(&daemon, "DELETE", &format!("/keys/{}", id(&keys, 0)), json!({})).await;
    assert_eq!(revoked["state"], "revoked");
    let refused = call(&daemon, &old, "GET", &sandbox, "").await;
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (401, Some("invalid api key"))
    );
    assert!(refused.text().contains("revoked"));
    daemon.simulation.let_go();
    stream.read_until("\"exit\"").await;
    assert_eq!(call(&daemon, &new, "GET", &sandbox, "").await.status, 200);
    // Without a grace the old one ends at once.
    let now = admin(
        &daemon,
        "POST",
        &format!("/keys/{}/rotate", id(&keys, 1)),
        json!({}),
    )
    .await;
    assert_eq!(call(&daemon, &new, "GET", &sandbox, "").await.status, 401);
    assert_eq!(
        call(&daemon, now["key"].as_str().unwrap(), "GET", &sandbox, "")
            .await
            .status,
        200
    );
    daemon.stop().await;
}

#[tokio::test]
async fn more_sandboxes_than_allowed_are_429_until_one_is_deleted() {
    let daemon = guarded().await;
    let key = tenant(&daemon, "a", json!({"sandboxes": 2})).await;
    let first = path_of_new(&daemon, &key).await;
    let never = call(&daemon, &key, "POST", &format!("{first}/fork"), r#"{"n":3}"#).await;
    assert_eq!((never.status, never.code().as_str()), (429, "too_many_sandboxes"));
    assert_eq!(never.header("retry-after"), None);
    assert_eq!(
        call(&daemon, &key, "POST", &format!("{first}/fork"), "{}")
            .await
            .status,
        200
    );
    let refused = create(&daemon, &key).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "too_many_sandboxes")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().contains("2 of its 2"), "{}", refused.text());
    assert_eq!(call(&daemon, &key, "DELETE", &first, "").await.status, 204);
    path_of_new(&daemon, &key).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_rate_is_429_with_a_wait_after_which_the_same_call_succeeds() {
    let daemon = guarded().await;
    let key = tenant(&daemon, "a", json!({"creates_per_minute": 60, "create_burst": 2})).await;
    for _ in 0..2 {
        let sandbox = path_of_new(&daemon, &key).await;
        call(&daemon, &key, "DELETE", &sandbox, "").await;
    }
    let mut refused = create(&daemon, &key).await;
    while refused.status == 200 {
        refused = create(&daemon, &key).await;
    }
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(create(&daemon, &key).await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn a_tenants_runs_are_bounded_over_all_of_its_sandboxes() {
    let daemon = guarded().await;
    let key = tenant(&daemon, "a", json!({"runs": 1})).await;
    let (one, other) = (path_of_new(&daemon, &key).await, path_of_new(&daemon, &key).await);
    let mut stream = Connection::open(daemon.address).await;
    let header = format!("authorization: Bearer {key}\r\n");
    stream
        .send(
            "POST",
            &format!("{one}/exec"),
            &header,
            r#"{"code":"sleep 60000"}"#,
        )
        .await;
    eventually("it runs", || daemon.host.capacity(None).execs.running == 1).await;
    let refused = call(
        &daemon,
        &key,
        "POST",
        &format!("{other}/exec"),
        r#"{"code":"echo"}"#,
    )
    .await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_execs"));
    assert!(refused.header("retry-after").is_some());
    drop(stream);
    eventually("it was cancelled", || {
        daemon.host.capacity(None).execs.running == 0
    })
    .await;
    let run = call(
        &daemon,
        &key,
        "POST",
        &format!("{other}/exec"),
        r#"{"code":"echo"}"#,
    )
    .await;
    assert_eq!(run.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_tier_does_not_allow_is_capped_without_a_word_and_shown() {
    let daemon = guarded().await;
    admin(&daemon, "POST", "/tenants", json!({"name": "a", "tier": "free"})).await;
    let key = new_key(&daemon, "a").await["key"].as_str().unwrap().to_owned();
    let body = r#"{"ram_mib":2048,"rootfs_gb":64,"timeout_seconds":99999,"idle_timeout_seconds":10,"persistent":true}"#;
    let created = call(&daemon, &key, "POST", "/v1/sandboxes", body).await.json();
    assert_eq!(
        (&created["ram_mib"], &created["rootfs_gb"]),
        (&json!(1024), &json!(4))
    );
    assert_eq!(
        (&created["timeout_seconds"], &created["idle_timeout_seconds"]),
        (&json!(1800), &json!(10))
    );
    let info = call(
        &daemon,
        &key,
        "GET",
        &format!("/v1/sandboxes/{}", created["id"].as_str().unwrap()),
        "",
    )
    .await;
    assert_eq!(info.json()["persistent"], false);
    // What is lifted holds for the next one.
    admin(
        &daemon,
        "PATCH",
        "/tenants/a",
        json!({"tier": "pro", "limits": {"ram_mib": null}}),
    )
    .await;
    let created = call(&daemon, &key, "POST", "/v1/sandboxes", body).await.json();
    assert_eq!(
        (&created["ram_mib"], &created["rootfs_gb"]),
        (&json!(2048), &json!(16))
    );
    daemon.stop().await;
}

#[tokio::test]
async fn keys_usage_and_the_audit_log_outlive_the_daemon() {
    let quick = || Setup {
        require_keys: true,
        tenants: TenantsConfig {
            flush: Duration::from_millis(10),
            ..TenantsConfig::default()
        },
        ..Setup::default()
    };
    let daemon = Daemon::with(quick()).await;
    let key = tenant(&daemon, "a", json!({"sandboxes": 3})).await;
    let sandbox = path_of_new(&daemon, &key).await;
    let run = call(
        &daemon,
        &key,
        "POST",
        &format!("{sandbox}/exec"),
        r#"{"code":"echo secret"}"#,
    )
    .await;
    assert_eq!(run.status, 200);
    // Time is what is counted here, and a simulated sandbox would be over within less than a millisecond.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (_, dir) = daemon.end().await;
    let daemon = Daemon::open(quick(), Simulation::default(), dir).await;
    let usage = call(&daemon, &key, "GET", "/v1/usage", "").await.json();
    assert_eq!(
        (&usage["tenant"], &usage["total"]["execs"]),
        (&json!("a"), &json!(1))
    );
    assert_eq!(usage["total"]["bytes_in"], r#"{"code":"echo secret"}"#.len());
    assert_eq!(usage["total"]["bytes_out"], run.body.len());
    assert_eq!(usage["total"]["sandboxes"], 1);
    assert!(usage["total"]["sandbox_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(usage["days"][0]["day"].as_str().unwrap().len(), 10);
    let info = admin(&daemon, "GET", "/tenants/a", json!({})).await;
    assert_eq!(
        (&info["limits"]["sandboxes"], &info["keys"]),
        (&json!(3), &json!(1))
    );
    let audit = admin(&daemon, "GET", "/audit", json!({})).await;
    let actions: Vec<_> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["exec", "create", "key_created", "tenant_created"]);
    let exec = &audit["entries"][0];
    assert_eq!(
        (&exec["detail"], &exec["result"], &exec["tenant"]),
        (&json!("11 bytes"), &json!("ok"), &json!("a"))
    );
    assert!(sandbox.ends_with(exec["target"].as_str().unwrap()));
    assert!(exec["key_id"].as_str().unwrap().starts_with("key_"));
    assert!(!audit.to_string().contains("secret") && !audit.to_string().contains(&key));
    let page = admin(&daemon, "GET", "/audit?limit=2", json!({})).await;
    let next = admin(
        &daemon,
        "GET",
        &format!("/audit?limit=9&before={}", page["next_before"]),
        json!({}),
    )
    .await;
    assert_eq!(next["entries"].as_array().unwrap().len(), 2);
    let store = admin(&daemon, "GET", "/store", json!({})).await;
    assert_eq!(store["ok"], true);
    daemon.stop().await;
}

#[tokio::test]
async fn a_tenant_with_sandboxes_is_removed_only_by_force_and_default_never() {
    let daemon = guarded().await;
    let key = tenant(&daemon, "a", json!({})).await;
    path_of_new(&daemon, &key).await;
    let remove = |path: &'static str| call(&daemon, OPERATOR, "DELETE", path, "");
    let refused = remove("/v1/admin/tenants/a").await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "state_conflict"));
    assert_eq!(remove("/v1/admin/tenants/default").await.status, 409);
    assert_eq!(remove("/v1/admin/tenants/a?force=true").await.status, 204);
    assert_eq!(create(&daemon, &key).await.status, 401);
    eventually("its VM is gone", || daemon.alive() == 0).await;
    assert_eq!(remove("/v1/admin/tenants/a").await.code(), "tenant_not_found");
    let twice = call(
        &daemon,
        OPERATOR,
        "POST",
        "/v1/admin/tenants",
        r#"{"name":"default"}"#,
    )
    .await;
    assert_eq!((twice.status, twice.code().as_str()), (409, "tenant_exists"));
    daemon.stop().await;
}

#[tokio::test]
async fn keys_of_the_environment_are_tenants_that_the_store_cannot_remove() {
    let daemon = Daemon::with(Setup {
        keys: Some("mine, other"),
        ..Setup::default()
    })
    .await;
    let sandbox = path_of_new(&daemon, "mine").await;
    assert_eq!(call(&daemon, "other", "GET", &sandbox, "").await.status, 404);
    assert_eq!(call(&daemon, "", "GET", &sandbox, "").await.status, 401);
    let list = admin(&daemon, "GET", "/tenants", json!({})).await;
    let names: Vec<_> = list["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(names.len() == 3 && names[1].starts_with("env-"), "{names:?}");
    let path = format!("/v1/admin/tenants/{}", names[1]);
    assert_eq!(call(&daemon, OPERATOR, "DELETE", &path, "").await.status, 409);
    admin(
        &daemon,
        "PATCH",
        &format!("/tenants/{}", names[1]),
        json!({"limits": {"sandboxes": 1}}),
    )
    .await;
    assert_eq!(create(&daemon, "mine").await.status, 429);
    daemon.stop().await;
}
