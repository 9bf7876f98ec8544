//! Keeping states and going back to them, under the same id.

use std::time::Duration;

use api::EventKind;
use serde_json::{Value, json};

use super::client::Connection;
use super::{Daemon, eventually};

async fn checkpoint(daemon: &Daemon, sandbox: &str, name: &str) -> Value {
    let body = json!({ "name": name }).to_string();
    let made = daemon.post(&format!("{sandbox}/checkpoints"), &body).await;
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()
}

async fn roll_back(daemon: &Daemon, sandbox: &str, body: &Value) -> Value {
    let done = daemon
        .post(&format!("{sandbox}/rollback"), &body.to_string())
        .await;
    assert_eq!(done.status, 200, "{}", done.text());
    let timing = done.header("server-timing").unwrap();
    for hop in ["clone", "identity", "swap"] {
        assert!(timing.contains(hop), "{timing}");
    }
    done.json()
}

async fn refused(daemon: &Daemon, method: &str, path: &str, body: &Value) -> (u16, String, String) {
    let answer = super::client::request(daemon.address, method, path, &body.to_string()).await;
    (answer.status, answer.code(), answer.text())
}

#[tokio::test]
async fn a_sandbox_goes_back_to_what_it_was_as_often_as_it_likes() {
    let daemon = Daemon::start().await;
    let terms = json!({"timeout_seconds": 900, "ram_mib": 256}).to_string();
    let created = daemon.post("/v1/sandboxes", &terms).await.json();
    let sandbox = format!("/v1/sandboxes/{}", created["id"].as_str().unwrap());
    daemon.run(&sandbox, "keep before").await;
    let hostname = daemon.says(&sandbox, "hostname").await;
    let made = checkpoint(&daemon, &sandbox, "good").await;
    assert!(made["id"].as_str().unwrap().starts_with("ckp_"), "{made}");
    assert_eq!((&made["name"], &made["state"]), (&json!("good"), &json!("ready")));
    let before = daemon.get(&sandbox).await.json();
    for _ in 0..2 {
        daemon.run(&sandbox, "keep after").await;
        let done = roll_back(&daemon, &sandbox, &json!({})).await;
        assert_eq!((&done["checkpoint"], &done["ended_execs"]), (&made, &json!(0)));
        assert_eq!(daemon.says(&sandbox, "kept").await, "before");
        assert_eq!(daemon.says(&sandbox, "hostname").await, hostname);
    }
    let info = daemon.get(&sandbox).await.json();
    for same in ["id", "created_at_ms", "timeout_seconds", "ram_mib", "checkpoints"] {
        assert_eq!(info[same], before[same], "{same}");
    }
    assert_eq!(info["source"], "rollback");
    assert_ne!(info["vmm_pid"], before["vmm_pid"]);
    // It is one sandbox, and one VM that is kept.
    let list = daemon.get("/v1/sandboxes").await.json();
    assert_eq!(list["sandboxes"].as_array().unwrap().len(), 1);
    eventually("the old VMs are gone", || daemon.alive() == 2).await;
    daemon.delete(&sandbox).await;
    eventually("nothing is left", || daemon.alive() == 0).await;
    assert_eq!(daemon.get("/v1/capacity").await.json()["memory"]["used_mib"], 0);
    daemon.stop().await;
}

#[tokio::test]
async fn states_have_names_and_ids_and_there_are_only_so_many() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    let path = format!("{sandbox}/checkpoints");
    daemon.run(&sandbox, "keep one").await;
    let one = checkpoint(&daemon, &sandbox, "one").await;
    daemon.run(&sandbox, "keep two").await;
    let two = daemon.post(&path, "").await.json();
    assert_eq!(two["name"], "checkpoint-1");
    let taken = refused(&daemon, "POST", &path, &json!({"name": "one"})).await;
    assert_eq!((taken.0, taken.1.as_str()), (409, "state_conflict"));
    let wrong = refused(&daemon, "POST", &path, &json!({"name": "a/b"})).await;
    assert_eq!((wrong.0, wrong.1.as_str()), (400, "invalid_field"));
    checkpoint(&daemon, &sandbox, "three").await;
    let many = refused(&daemon, "POST", &path, &json!({})).await;
    assert_eq!((many.0, many.1.as_str()), (429, "too_many_checkpoints"));
    let list = daemon.get(&path).await.json();
    let names: Vec<_> = list["checkpoints"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 3);
    assert_eq!((names[0], &names[1]["id"]), (&one, &two["id"]));
    // By name, by id, and what there is not.
    roll_back(&daemon, &sandbox, &json!({"checkpoint": "one"})).await;
    assert_eq!(daemon.says(&sandbox, "kept").await, "one");
    roll_back(&daemon, &sandbox, &json!({"checkpoint": two["id"]})).await;
    assert_eq!(daemon.says(&sandbox, "kept").await, "two");
    let rollback = format!("{sandbox}/rollback");
    let none = refused(&daemon, "POST", &rollback, &json!({"checkpoint": "four"})).await;
    assert_eq!((none.0, none.1.as_str()), (404, "checkpoint_not_found"));
    assert!(none.2.contains("one, checkpoint-1, three"), "{}", none.2);
    for _ in 0..2 {
        assert_eq!(daemon.delete(&format!("{path}/one")).await.status, 204);
    }
    let id = two["id"].as_str().unwrap();
    assert_eq!(daemon.delete(&format!("{path}/{id}")).await.status, 204);
    eventually("their VMs are gone", || daemon.alive() == 2).await;
    let left = daemon.get(&path).await.json();
    assert_eq!(left["checkpoints"][0]["name"], "three");
    // A child has none; another sandbox's are unknown.
    let child = daemon.fork(&sandbox, 1).await.remove(0);
    let none = refused(&daemon, "POST", &format!("{child}/rollback"), &json!({})).await;
    assert_eq!((none.0, none.1.as_str()), (404, "checkpoint_not_found"));
    let nobody = "/v1/sandboxes/sbx_00000000000000000000000000000000";
    for (method, end) in [
        ("POST", "checkpoints"),
        ("GET", "checkpoints"),
        ("POST", "rollback"),
    ] {
        let unknown = refused(&daemon, method, &format!("{nobody}/{end}"), &json!({})).await;
        assert_eq!((unknown.0, unknown.1.as_str()), (404, "sandbox_not_found"));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_in_progress_ends_with_a_word_and_the_one_of_the_checkpoint_goes_on() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "echo earlier").await;
    let mut counting = Connection::open(daemon.address).await;
    counting
        .send(
            "POST",
            &format!("{sandbox}/exec"),
            "",
            r#"{"code":"count 60 1 30"}"#,
        )
        .await;
    counting.read_until("line-1").await;
    checkpoint(&daemon, &sandbox, "counting").await;
    daemon.simulation.let_go();
    assert_eq!(counting.response().await.exit(), 0);
    let mut hanging = Connection::open(daemon.address).await;
    hanging
        .send("POST", &format!("{sandbox}/exec"), "", r#"{"code":"hang"}"#)
        .await;
    hanging.read_until("begun").await;
    let done = roll_back(&daemon, &sandbox, &json!({})).await;
    assert_eq!(done["ended_execs"], 1);
    let cut = hanging.response().await;
    assert_eq!(cut.exit(), 137);
    let words = cut.lines(EventKind::Stderr);
    assert_eq!(words, ["podflare: the sandbox was rolled back to a checkpoint"]);
    // Its replay is that of the checkpoint, and the run there comes to its end.
    let followed = loop {
        let replay = daemon.get(&format!("{sandbox}/replay")).await.text();
        if replay.contains("line-59") {
            break replay;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(
        followed.contains("earlier") && !followed.contains("begun"),
        "{followed}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_state_whose_process_was_killed_is_lost_and_hurts_nothing_else() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep safe").await;
    checkpoint(&daemon, &sandbox, "safe").await;
    checkpoint(&daemon, &sandbox, "doomed").await;
    let own = u32::try_from(daemon.get(&sandbox).await.json()["vmm_pid"].as_u64().unwrap()).unwrap();
    let doomed = daemon.simulation.children_of(own).into_iter().max().unwrap();
    let used = daemon.get("/v1/capacity").await.json()["memory"]["used_mib"].as_u64();
    daemon.simulation.kill(doomed);
    let list = daemon.get(&format!("{sandbox}/checkpoints")).await.json();
    assert_eq!(list["checkpoints"][1]["state"], "lost");
    let why = list["checkpoints"][1]["error"].as_str().unwrap();
    assert!(why.contains("was killed by signal 9"), "{why}");
    let after = daemon.get("/v1/capacity").await.json()["memory"]["used_mib"].as_u64();
    assert!(after < used, "what it had is given back");
    let rollback = format!("{sandbox}/rollback");
    let lost = refused(&daemon, "POST", &rollback, &json!({"checkpoint": "doomed"})).await;
    assert_eq!((lost.0, lost.1.as_str()), (409, "checkpoint_lost"), "{}", lost.2);
    assert_eq!(daemon.says(&sandbox, "kept").await, "safe");
    // The sandbox's own VM goes; the state saves it.
    daemon.simulation.kill(own);
    eventually("it has failed", || {
        daemon.host.capacity(None).sandboxes.failed == 1
    })
    .await;
    let keep = refused(&daemon, "POST", &format!("{sandbox}/checkpoints"), &json!({})).await;
    assert_eq!((keep.0, keep.1.as_str()), (500, "sandbox_failed"));
    roll_back(&daemon, &sandbox, &json!({"checkpoint": "safe"})).await;
    assert_eq!(daemon.says(&sandbox, "kept").await, "safe");
    assert_eq!(daemon.get(&sandbox).await.json()["state"], "ready");
    daemon.stop().await;
}

#[tokio::test]
async fn a_rollback_that_fails_changes_nothing() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    daemon.run(&sandbox, "keep old").await;
    checkpoint(&daemon, &sandbox, "old").await;
    daemon.run(&sandbox, "keep new").await;
    let rollback = format!("{sandbox}/rollback");
    daemon.simulation.faults.lock().unwrap().nameless = 1;
    let failed = refused(&daemon, "POST", &rollback, &json!({})).await;
    assert_eq!(
        (failed.0, failed.1.as_str()),
        (500, "checkpoint_failed"),
        "{}",
        failed.2
    );
    daemon.simulation.faults.lock().unwrap().dies_cloning = true;
    let lost = refused(&daemon, "POST", &rollback, &json!({})).await;
    assert_eq!((lost.0, lost.1.as_str()), (409, "checkpoint_lost"), "{}", lost.2);
    daemon.simulation.faults.lock().unwrap().dies_cloning = false;
    assert_eq!(daemon.says(&sandbox, "kept").await, "new");
    assert_eq!(daemon.get("/v1/capacity").await.json()["sandboxes"]["ready"], 1);
    daemon.stop_with_orphans().await;
}

#[tokio::test]
async fn states_go_with_the_sandbox_and_stay_with_the_winner() {
    let daemon = Daemon::start().await;
    let sandbox = daemon.sandbox().await;
    checkpoint(&daemon, &sandbox, "losers").await;
    let child = daemon.fork(&sandbox, 1).await.remove(0);
    daemon.run(&child, "keep child").await;
    checkpoint(&daemon, &child, "winners").await;
    daemon.run(&child, "keep later").await;
    let winner = child.rsplit('/').next().unwrap();
    let merged = daemon.post(&format!("{sandbox}/merge_into/{winner}"), "").await;
    assert_eq!(merged.status, 204);
    eventually("the loser and its checkpoint are gone", || daemon.alive() == 2).await;
    let list = daemon.get(&format!("{sandbox}/checkpoints")).await.json();
    let names: Vec<_> = list["checkpoints"].as_array().unwrap().iter().collect();
    assert_eq!((names.len(), &names[0]["name"]), (1, &json!("winners")));
    roll_back(&daemon, &sandbox, &json!({})).await;
    assert_eq!(daemon.says(&sandbox, "kept").await, "child");
    // Time goes on as if nothing had been.
    let limited = super::client::request(
        daemon.address,
        "PATCH",
        &sandbox,
        r#"{"idle_timeout_seconds":60}"#,
    );
    assert_eq!(limited.await.status, 200);
    roll_back(&daemon, &sandbox, &json!({})).await;
    daemon.host.scheduler.skip(61);
    eventually("it has expired with its checkpoint", || daemon.alive() == 0).await;
    assert_eq!(daemon.get(&sandbox).await.status, 404);
    daemon.stop().await;
}
