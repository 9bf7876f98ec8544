//! Sandboxes that are frozen, and spaces that are resumed.

use std::fs;
use std::sync::atomic::Ordering;

use super::client::{self, Connection};
use super::tenants::{call, tenant};
use super::{Daemon, Setup, eventually, pool_of};

fn id(path: &str) -> &str {
    path.trim_start_matches("/v1/sandboxes/")
}

impl Daemon {
    /// Freezes a sandbox and gives the path of its space.
    pub(super) async fn freeze(&self, sandbox: &str) -> String {
        let frozen = self.post(&format!("{sandbox}/freeze"), "").await;
        assert_eq!(frozen.status, 200, "{}", frozen.text());
        format!("/v1/spaces/{}", frozen.json()["id"].as_str().unwrap())
    }

    /// Resumes a space and gives the path of its sandbox.
    pub(super) async fn resume(&self, space: &str, body: &str) -> String {
        let resumed = self.post(&format!("{space}/resume"), body).await;
        assert_eq!(resumed.status, 200, "{}", resumed.text());
        format!("/v1/sandboxes/{}", resumed.json()["id"].as_str().unwrap())
    }

    pub(super) fn spaces_on_disk(&self) -> Vec<String> {
        let found = fs::read_dir(self.dir.path().join("data/spaces")).unwrap();
        let names = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "templates").collect()
    }
}

#[tokio::test]
async fn a_frozen_sandbox_goes_on_under_a_new_id_and_its_space_is_used_up() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep here").await;
    let frozen = daemon.post(&format!("{sandbox}/freeze"), "").await;
    let info = frozen.json();
    assert_eq!(
        (&info["sandbox_id"], &info["cause"]),
        (&id(&sandbox).into(), &"request".into())
    );
    assert!(info["bytes"].as_u64().unwrap() > 12_288);
    let space = format!("/v1/spaces/{}", info["id"].as_str().unwrap());
    let gone = daemon.run(&sandbox, "kept").await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "sandbox_not_found"));
    assert!(
        gone.text().contains(info["id"].as_str().unwrap()),
        "{}",
        gone.text()
    );
    assert_eq!(daemon.delete(&sandbox).await.status, 204);
    eventually("its VM is gone", || daemon.alive() == 0).await;
    assert_eq!(
        daemon.get("/v1/spaces").await.json()["spaces"],
        serde_json::json!([info])
    );
    assert_eq!(daemon.get(&space).await.json(), info);

    let again = daemon.resume(&space, "{}").await;
    assert_ne!(again, sandbox);
    assert_eq!(daemon.says(&again, "kept").await, "here");
    let shown = daemon.get(&again).await.json();
    assert_eq!(
        (&shown["source"], &shown["persistent"]),
        (&"space".into(), &false.into())
    );
    // What was said before is still known.
    assert!(
        daemon
            .get(&format!("{again}/replay"))
            .await
            .text()
            .contains("\"exit\"")
    );
    let second = daemon.post(&format!("{space}/resume"), "").await;
    assert_eq!((second.status, second.code().as_str()), (404, "space_not_found"));
    assert_eq!(daemon.get(&space).await.status, 404);
    assert_eq!(daemon.delete(&space).await.status, 204);
    eventually("its files are gone", || daemon.spaces_on_disk().is_empty()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_kept_space_is_resumed_many_times_and_removed_once() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep first").await;
    let space = daemon.freeze(&sandbox).await;
    let one = daemon
        .resume(&space, r#"{"keep":true,"timeout_seconds":60,"egress":false}"#)
        .await;
    daemon.run(&one, "keep second").await;
    let other = daemon.resume(&space, r#"{"keep":true}"#).await;
    assert_eq!(daemon.says(&one, "kept").await, "second");
    assert_eq!(daemon.says(&other, "kept").await, "first");
    let shown = daemon.get(&one).await.json();
    assert_eq!(
        (&shown["timeout_seconds"], &shown["egress"]),
        (&60.into(), &false.into())
    );
    let wrong = daemon.post(&format!("{space}/resume"), r#"{"keep":1}"#).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_field"));
    assert_eq!(daemon.delete(&space).await.status, 204);
    assert_eq!(daemon.get(&space).await.status, 404);
    assert_eq!(daemon.post(&format!("{space}/resume"), "").await.status, 404);
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_frozen_goes_on_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let path = format!("{sandbox}/freeze");
    daemon.run(&sandbox, "keep here").await;
    for (why, status, code) in [
        (
            "write: No space left on device (os error 28)",
            507,
            "host_disk_full",
        ),
        ("a vCPU is on fire", 500, "freeze_failed"),
    ] {
        daemon.simulation.faults.lock().unwrap().no_freeze = Some(why);
        let refused = daemon.post(&path, "").await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{}",
            refused.text()
        );
        assert_eq!(daemon.says(&sandbox, "kept").await, "here");
        assert!(daemon.spaces_on_disk().is_empty());
    }
    daemon.simulation.faults.lock().unwrap().no_freeze = None;
    let checkpoints = format!("{sandbox}/checkpoints");
    let made = daemon.post(&checkpoints, r#"{"name":"mark"}"#).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let refused = daemon.post(&path, "").await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "state_conflict"));
    assert!(refused.text().contains("mark"), "{}", refused.text());
    daemon.delete(&format!("{checkpoints}/mark")).await;
    daemon.simulation.faults.lock().unwrap().boasts = true;
    assert_eq!(daemon.post(&path, "").await.status, 500);
    assert_eq!(daemon.says(&sandbox, "kept").await, "here");
    daemon.simulation.faults.lock().unwrap().boasts = false;
    // One that dies of it has failed, and there is no space.
    daemon.simulation.faults.lock().unwrap().dies_freezing = true;
    assert_eq!(daemon.post(&path, "").await.status, 500);
    eventually("it has failed", || {
        daemon.host.capacity(None).sandboxes.failed == 1
    })
    .await;
    assert_eq!(daemon.post(&path, "").await.code(), "sandbox_failed");
    assert!(daemon.spaces_on_disk().is_empty());
    let unknown = "/v1/sandboxes/sbx_00000000000000000000000000000000/freeze";
    assert_eq!(daemon.post(unknown, "").await.status, 404);
    daemon.stop().await;
}

#[tokio::test]
async fn a_vm_over_a_memory_that_was_not_kept_is_written_whole() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.simulation.faults.lock().unwrap().lies_over_nothing = true;
    let space = daemon.freeze(&sandbox).await;
    assert_eq!(daemon.simulation.seen.freezes.load(Ordering::SeqCst), 2);
    daemon.resume(&space, "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_resume_that_fails_keeps_the_space() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep here").await;
    let space = daemon.freeze(&sandbox).await;
    let path = format!("{space}/resume");
    daemon.simulation.faults.lock().unwrap().unthawable = 1;
    let refused = daemon.post(&path, "").await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "space_unusable"));
    assert!(refused.text().contains("another CPU"), "{}", refused.text());
    daemon.simulation.faults.lock().unwrap().nameless = 1;
    *daemon.simulation.boot.lock().unwrap() = crate::simulation::Boot::Exits;
    let refused = daemon.post(&path, "").await;
    assert_eq!((refused.status, refused.code().as_str()), (500, "resume_failed"));
    *daemon.simulation.boot.lock().unwrap() = crate::simulation::Boot::Normal;
    daemon.simulation.faults.lock().unwrap().nameless = 0;
    // Another disk image under the template's name, and then the right one again.
    let image = daemon.dir.path().join("images/default.ext4");
    let right = fs::read(&image).unwrap();
    fs::write(&image, [9; 4096]).unwrap();
    let refused = daemon.post(&path, "").await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "space_unusable"));
    fs::write(&image, right).unwrap();
    // What its runs have said is part of it.
    let replay = daemon.dir.path().join(format!("data/{}/replay", &space[4..]));
    let whole = fs::read(&replay).unwrap();
    fs::write(&replay, &whole[1..]).unwrap();
    let refused = daemon.post(&path, "").await;
    assert_eq!((refused.status, refused.code().as_str()), (500, "resume_failed"));
    fs::write(&replay, whole).unwrap();
    eventually("nothing is left of the attempts", || daemon.alive() == 0).await;
    assert_eq!(daemon.get(&space).await.json()["busy"], false);
    let resumed = daemon.resume(&space, "").await;
    assert_eq!(daemon.says(&resumed, "kept").await, "here");
    daemon.stop().await;
}

#[tokio::test]
async fn of_two_who_resume_one_space_one_is_refused() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let space = daemon.freeze(&sandbox).await;
    let path = format!("{space}/resume");
    let (one, other) = tokio::join!(daemon.post(&path, ""), daemon.post(&path, ""));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert!(matches!(statuses[1], 404 | 409), "{statuses:?}");
    eventually("one VM lives", || daemon.alive() == 1).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_in_progress_is_told_and_the_sandbox_is_frozen_all_the_same() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let mut run = Connection::open(daemon.address).await;
    run.send(
        "POST",
        &format!("{sandbox}/exec"),
        "",
        r#"{"code":"sleep 60000"}"#,
    )
    .await;
    eventually("it runs", || daemon.host.capacity(None).execs.running == 1).await;
    let frozen = daemon.post(&format!("{sandbox}/freeze"), "").await.json();
    assert_eq!(frozen["running"], true);
    // As an event, or, when it had not begun to stream, as an error.
    let told = run.response().await;
    assert!(told.text().contains("the sandbox was frozen"), "{}", told.text());
    daemon.stop().await;
}

#[tokio::test]
async fn spaces_outlive_the_daemon_and_what_was_unfinished_is_cleared() {
    let daemon = Daemon::start().await;
    let simulation = daemon.simulation.clone();
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep here").await;
    let space = daemon.freeze(&sandbox).await;
    let other = daemon.sandbox().await;
    daemon.run(&other, "keep other").await;
    let resumed = daemon.freeze(&other).await;
    let (_, dir) = daemon.end().await;
    // As if it had died while it wrote one, removed one, and handed one over.
    let spaces = dir.path().join("data/spaces");
    let name = |space: &str| space.trim_start_matches("/v1/spaces/").to_owned();
    for end in [".new", ".gone"] {
        fs::create_dir(spaces.join(format!("spc_{}{end}", "1".repeat(32)))).unwrap();
    }
    let half = spaces.join(format!("{}.resumed-sbx_{}", name(&resumed), "3".repeat(32)));
    fs::rename(spaces.join(name(&resumed)), half).unwrap();
    // One that does not say what it is is left alone.
    let damaged = spaces.join(format!("spc_{}", "2".repeat(32)));
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("meta"), "{}\n").unwrap();
    let daemon = Daemon::open(Setup::default(), simulation, dir).await;
    let list = daemon.get("/v1/spaces").await.json();
    assert_eq!(list["spaces"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(daemon.spaces_on_disk().len(), 3);
    assert!(damaged.exists());
    let one = daemon.resume(&space, "").await;
    let two = daemon.resume(&resumed, "").await;
    assert_eq!(daemon.says(&one, "kept").await, "here");
    assert_eq!(daemon.says(&two, "kept").await, "other");
    daemon.stop().await;
}

#[tokio::test]
async fn a_tenant_has_its_own_spaces_and_so_many_of_them() {
    let daemon = Daemon::with(Setup {
        keys: Some("one"),
        ..Setup::default()
    })
    .await;
    let ask =
        async |key: &str, method: &str, path: &str, body: &str| call(&daemon, key, method, path, body).await;
    let key = tenant(&daemon, "small", serde_json::json!({"spaces": 1})).await;
    let create = async || {
        let created = ask(&key, "POST", "/v1/sandboxes", "{}").await.json();
        format!("/v1/sandboxes/{}", created["id"].as_str().unwrap())
    };
    let (first, second) = (create().await, create().await);
    let frozen = ask(&key, "POST", &format!("{first}/freeze"), "").await;
    assert_eq!(frozen.status, 200, "{}", frozen.text());
    let space = format!("/v1/spaces/{}", frozen.json()["id"].as_str().unwrap());
    let refused = ask(&key, "POST", &format!("{second}/freeze"), "").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "space_quota"));
    assert!(refused.text().contains("1 of 1 spaces"), "{}", refused.text());
    let alive = ask(&key, "GET", &second, "").await.json();
    assert_eq!(alive["state"], "ready");
    for (method, path, status) in [
        ("GET", space.clone(), 404),
        ("POST", format!("{space}/resume"), 404),
        ("DELETE", space.clone(), 204),
    ] {
        assert_eq!(
            ask("one", method, &path, "").await.status,
            status,
            "{method} {path}"
        );
    }
    assert_eq!(
        ask("one", "GET", "/v1/spaces", "").await.json()["spaces"],
        serde_json::json!([])
    );
    assert_eq!(ask(&key, "GET", &space, "").await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn a_sandbox_from_the_pool_is_frozen_like_any_other() {
    let daemon = Daemon::with(Setup {
        pools: pool_of(1),
        ..Setup::default()
    })
    .await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep here").await;
    let space = daemon.freeze(&sandbox).await;
    let resumed = daemon.resume(&space, "").await;
    assert_eq!(daemon.says(&resumed, "kept").await, "here");
    assert_eq!(client::get(daemon.address, &space).await.status, 404);
    daemon.stop().await;
}

#[tokio::test]
async fn an_idle_persistent_sandbox_is_frozen_and_woken_under_its_id() {
    let daemon = Daemon::with(Setup {
        spaces: crate::SpacesConfig {
            wake: true,
            ..crate::SpacesConfig::default()
        },
        ..Setup::default()
    })
    .await;
    let body = r#"{"persistent":true,"idle_timeout_seconds":1}"#;
    let created = daemon.post("/v1/sandboxes", body).await.json();
    let sandbox = format!("/v1/sandboxes/{}", created["id"].as_str().unwrap());
    daemon.run(&sandbox, "keep here").await;
    eventually("it is a space", || daemon.host.spaces().sizes(None).0 == 1).await;
    let spaces = daemon.get("/v1/spaces").await.json();
    assert_eq!(spaces["spaces"][0]["cause"], "idle");
    assert_eq!(daemon.says(&sandbox, "kept").await, "here");
    let shown = daemon.get(&sandbox).await.json();
    assert_eq!(
        (&shown["source"], &shown["persistent"]),
        (&"space".into(), &true.into())
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_tenant_says_whether_its_sandboxes_are_woken_and_else_the_host_does() {
    for host in [false, true] {
        let daemon = Daemon::with(Setup {
            spaces: crate::SpacesConfig {
                wake: host,
                ..crate::SpacesConfig::default()
            },
            ..Setup::default()
        })
        .await;
        let key = tenant(&daemon, "acme", serde_json::json!({})).await;
        let ask = async |method: &str, path: &str, body: &str| call(&daemon, &key, method, path, body).await;
        let created = ask("POST", "/v1/sandboxes", "{}").await.json();
        let sandbox = format!("/v1/sandboxes/{}", created["id"].as_str().unwrap());
        for (setting, wakes) in [("null", host), ("false", false), ("true", true), ("null", host)] {
            let admin = "/v1/admin/tenants/acme";
            let body = format!(r#"{{"wake":{setting}}}"#);
            let set = call(&daemon, super::OPERATOR, "PATCH", admin, &body).await.json();
            assert_eq!(set["wake"].to_string(), setting);
            let frozen = ask("POST", &format!("{sandbox}/freeze"), "").await;
            assert_eq!(frozen.status, 200, "{}", frozen.text());
            let looked = ask("GET", &sandbox, "").await;
            assert_eq!(looked.status, 404);
            let run = ask("POST", &format!("{sandbox}/exec"), r#"{"code":"print"}"#).await;
            assert_eq!(run.status, if wakes { 200 } else { 404 }, "{host} {setting}");
            if !wakes {
                // Another request wakes it for the next round.
                let on = call(&daemon, super::OPERATOR, "PATCH", admin, r#"{"wake":true}"#).await;
                assert_eq!(on.status, 200);
                assert_eq!(
                    ask("POST", &format!("{sandbox}/exec"), r#"{"code":"print"}"#)
                        .await
                        .status,
                    200
                );
            }
        }
        daemon.stop().await;
    }
}

#[tokio::test]
async fn persistent_sandboxes_are_frozen_when_the_host_stops() {
    let daemon = Daemon::start().await;
    let simulation = daemon.simulation.clone();
    let created = daemon
        .post("/v1/sandboxes", r#"{"persistent":true}"#)
        .await
        .json();
    let sandbox = format!("/v1/sandboxes/{}", created["id"].as_str().unwrap());
    daemon.run(&sandbox, "keep here").await;
    daemon.sandbox().await;
    let (report, dir) = daemon.end().await;
    assert_eq!((report.frozen, report.sandboxes), (1, 1));
    let daemon = Daemon::open(Setup::default(), simulation, dir).await;
    let spaces = daemon.get("/v1/spaces").await.json();
    assert_eq!(spaces["spaces"][0]["cause"], "shutdown");
    let space = format!("/v1/spaces/{}", spaces["spaces"][0]["id"].as_str().unwrap());
    let resumed = daemon.resume(&space, "").await;
    assert_eq!(daemon.says(&resumed, "kept").await, "here");
    daemon.stop().await;
}
