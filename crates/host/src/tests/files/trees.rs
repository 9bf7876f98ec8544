//! Directories: listings, archives, removal.

use std::fs;

use super::*;

#[tokio::test]
async fn a_directory_is_listed_page_by_page() {
    let rig = Rig::new().await;
    for name in ["a b", "c", "d+%"] {
        fs::write(rig.at(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("c", rig.at("link")).unwrap();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = rig
            .call("GET", &rig.url("", &format!("&limit=1{after}")), "", "")
            .await;
        assert_eq!(page.header("x-podflare-kind"), Some("directory"));
        let page = page.json();
        for entry in page["entries"].as_array().unwrap() {
            seen.push((
                entry["name"].as_str().unwrap().to_owned(),
                entry["kind"].as_str().unwrap().to_owned(),
            ));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let names: Vec<_> = seen
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("a b", "file"),
            ("c", "file"),
            ("d+%", "file"),
            ("link", "symlink")
        ]
    );
    let all = rig.call("GET", &rig.url("", ""), "", "").await.json();
    assert_eq!(all["entries"][3]["target"], "c");
    assert_eq!(all.get("next"), None);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_tree_goes_down_as_an_archive_and_up_again() {
    let rig = Rig::new().await;
    rig.put("tree/a/b", "content").await;
    let made = rig
        .call("POST", &rig.url("tree/empty", "&mode=0700"), "", "")
        .await;
    assert_eq!((made.status, &made.json()["mode"]), (200, &"0700".into()));
    let archive = rig
        .call("GET", &rig.url("tree", "&recursive=true&format=tar"), "", "")
        .await;
    assert_eq!(
        (archive.status, archive.header("content-type")),
        (200, Some("application/x-tar"))
    );
    let body = archive.text();
    let header = "content-type: application/x-tar\r\n";
    let up = rig.call("PUT", &rig.url("copy/of", ""), header, &body).await;
    assert_eq!(
        (up.status, up.text().as_str()),
        (200, r#"{"entries":3,"bytes":7}"#)
    );
    assert_eq!(fs::read_to_string(rig.at("copy/of/a/b")).unwrap(), "content");
    assert!(rig.at("copy/of/empty").is_dir());
    let broken = rig.call("PUT", &rig.url("copy", ""), header, &body[..700]).await;
    assert_eq!((broken.status, broken.code().as_str()), (400, "invalid_archive"));
    let hostile = body.replace("a/b\0\0\0\0\0\0\0", "../../../b");
    let refused = rig.call("PUT", &rig.url("other", ""), header, &hostile).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "invalid_archive")
    );
    let removed = rig
        .call("DELETE", &rig.url("copy", "&recursive=true"), "", "")
        .await;
    assert_eq!((removed.status, rig.at("copy").exists()), (204, false));
    rig.daemon.stop().await;
}
