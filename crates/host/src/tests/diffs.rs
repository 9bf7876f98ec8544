//! Comparing the files of two sandboxes.

use super::Daemon;

fn paths(diff: &serde_json::Value, group: &str) -> Vec<String> {
    let entries = diff[group].as_array().unwrap().iter();
    entries
        .map(|entry| entry["path"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_was_added_removed_and_modified_since_a_fork_is_listed_with_sizes() {
    let daemon = Daemon::start().await;
    let parent = daemon.sandbox().await;
    for file in ["/keep same", "/change one", "/gone x", "/touch same"] {
        daemon.run(&parent, &format!("write {file}")).await;
    }
    let children = daemon.fork(&parent, 2).await;
    let (a, b) = (&children[0], &children[1]);
    daemon.run(b, "write /change two").await;
    daemon.run(b, "remove /gone").await;
    daemon.run(b, "write /new 12345").await;
    daemon.run(b, "write /touch same").await;
    let id = |path: &str| path.trim_start_matches("/v1/sandboxes/").to_owned();
    let diff = daemon.get(&format!("{a}/diff/{}", id(b))).await.json();
    assert_eq!(paths(&diff, "added"), ["/new"]);
    assert_eq!(diff["added"][0]["size"], 5);
    assert_eq!(paths(&diff, "removed"), ["/gone"]);
    assert_eq!(paths(&diff, "modified"), ["/change"]);
    assert_eq!(
        (&diff["modified"][0]["size_before"], &diff["modified"][0]["size"]),
        (&3.into(), &3.into())
    );
    assert_eq!((&diff["truncated"], &diff["read"]), (&false.into(), &2.into()));
    let back = daemon.get(&format!("{b}/diff/{}", id(a))).await.json();
    assert_eq!(
        (paths(&back, "added"), paths(&back, "removed")),
        (vec!["/gone".into()], vec!["/new".into()])
    );
    let itself = daemon.get(&format!("{a}/diff/{}", id(a))).await.json();
    assert!(
        ["added", "removed", "modified"]
            .iter()
            .all(|group| paths(&itself, group).is_empty())
    );
    let wrong = daemon.get(&format!("{a}/diff/{}?paths=root", id(b))).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_field"));
    let unknown = daemon
        .get(&format!("{a}/diff/sbx_00000000000000000000000000000000"))
        .await;
    assert_eq!(unknown.status, 404);
    daemon.stop().await;
}
