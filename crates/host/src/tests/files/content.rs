//! One file: content, ranges, conditions, errors.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn a_file_is_written_read_described_and_removed() {
    let rig = Rig::new().await;
    let written = rig.put("deep/file", "content").await;
    assert_eq!(written.status, 200, "{}", written.text());
    let info = written.json();
    assert_eq!(
        (&info["size"], &info["mode"], &info["kind"]),
        (&7.into(), &"0644".into(), &"file".into())
    );
    let read = rig.get("deep/file").await;
    assert_eq!((read.status, read.text().as_str()), (200, "content"));
    assert_eq!(read.header("content-length"), Some("7"));
    assert_eq!(read.header("etag"), written.header("etag"));
    assert_eq!(read.header("x-podflare-mode"), Some("0644"));
    let mode = rig.url("deep/file", "&mode=0700");
    rig.call("PUT", &mode, "", "new").await;
    let permissions = fs::metadata(rig.at("deep/file")).unwrap().permissions();
    assert_eq!(permissions.mode() & 0o777, 0o700);
    let stat = rig
        .call("GET", &rig.url("deep/file", "&stat=true"), "", "")
        .await
        .json();
    assert_eq!((&stat["mode"], &stat["size"]), (&"0700".into(), &3.into()));
    assert_eq!(
        rig.call("DELETE", &rig.url("deep/file", ""), "", "").await.status,
        204
    );
    let gone = rig.get("deep/file").await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "file_not_found"));
    assert!(names(&rig.at("deep")).is_empty());
    rig.put("empty", "").await;
    let empty = rig.get("empty").await;
    assert_eq!(
        (empty.status, empty.header("content-length"), empty.body.len()),
        (200, Some("0"), 0)
    );
    let total = rig.call("GET", "/v1/usage", "", "").await.json()["total"].clone();
    assert_eq!(
        (&total["bytes_in"], &total["bytes_out"]),
        (&10.into(), &7.into()),
        "content counts as used: {total}"
    );
    rig.daemon.stop().await;
}

#[tokio::test]
async fn ranges_are_sent_in_part_and_what_no_file_has_is_not_satisfiable() {
    let rig = Rig::new().await;
    rig.put("file", "0123456789").await;
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=5-100", 206, "56789", "bytes 5-9/10"),
        ("bytes=0-1,3-4", 200, "0123456789", ""),
        ("bytes=x", 200, "0123456789", ""),
    ] {
        let header = format!("range: {range}\r\n");
        let part = rig.call("GET", &rig.url("file", ""), &header, "").await;
        assert_eq!((part.status, part.text().as_str()), (status, body), "{range}");
        assert_eq!(part.header("content-range").unwrap_or(""), content_range);
    }
    let beyond = rig
        .call("GET", &rig.url("file", ""), "range: bytes=10-\r\n", "")
        .await;
    assert_eq!(
        (beyond.status, beyond.code().as_str()),
        (416, "range_not_satisfiable")
    );
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let other = "range: bytes=1-2\r\nif-range: \"other\"\r\n";
    let whole = rig.call("GET", &rig.url("file", ""), other, "").await;
    assert_eq!((whole.status, whole.text().len()), (200, 10));
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_version_the_client_has_is_not_sent_and_one_it_does_not_know_is_not_replaced() {
    let rig = Rig::new().await;
    let first = rig.put("file", "1").await;
    let tag = first.header("etag").unwrap().to_owned();
    let url = rig.url("file", "");
    let known = rig
        .call("GET", &url, &format!("if-none-match: {tag}\r\n"), "")
        .await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let only_new = rig.call("PUT", &url, "if-none-match: *\r\n", "2").await;
    assert_eq!(
        (only_new.status, only_new.code().as_str()),
        (412, "precondition_failed")
    );
    let header = format!("if-match: {tag}\r\n");
    assert_eq!(rig.call("PUT", &url, &header, "3").await.status, 200);
    assert_eq!(rig.call("PUT", &url, &header, "4").await.status, 412);
    assert_eq!(fs::read_to_string(rig.at("file")).unwrap(), "3");
    let new = rig
        .call("PUT", &rig.url("new", ""), "if-none-match: *\r\n", "5")
        .await;
    assert_eq!(new.status, 200);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn head_says_what_get_would_send() {
    let rig = Rig::new().await;
    rig.put("file", "0123456789").await;
    for (name, line) in [
        ("file", "content-length: 10"),
        ("file", "x-podflare-kind: file"),
        ("", "x-podflare-kind: directory"),
        ("none", "HTTP/1.1 404"),
    ] {
        let mut connection = Connection::open(rig.daemon.address).await;
        connection.send("HEAD", &rig.url(name, ""), "", "").await;
        connection.read_until(line).await;
        // The connection goes on behind it, so no body has been announced and not sent.
        connection.read_until("\r\n\r\n").await;
    }
    rig.daemon.stop().await;
}

#[tokio::test]
async fn each_way_to_go_wrong_has_its_status_and_code() {
    let rig = Rig::new().await;
    rig.put("file", "x").await;
    fs::create_dir_all(rig.at("full/inner")).unwrap();
    std::os::unix::fs::symlink("loop", rig.at("loop")).unwrap();
    let long = "x".repeat(300);
    let unknown = "/v1/sandboxes/sbx_00000000000000000000000000000000/files?path=/a";
    let base = format!("{}/files", rig.sandbox);
    let endless = format!("{base}?path=/{}", "x/".repeat(2048));
    for (method, url, status, code) in [
        ("GET", base.clone(), 400, "invalid_field"),
        ("GET", format!("{base}?path=/a%00b"), 400, "invalid_field"),
        ("GET", endless, 400, "name_too_long"),
        ("PUT", rig.url(&long, ""), 400, "name_too_long"),
        ("GET", unknown.to_owned(), 404, "sandbox_not_found"),
        ("PUT", unknown.to_owned(), 404, "sandbox_not_found"),
        ("PUT", rig.url("full", ""), 409, "is_a_directory"),
        ("PUT", rig.url("file/x", ""), 409, "not_a_directory"),
        ("PUT", rig.url("a/b", "&mkdirs=false"), 404, "file_not_found"),
        ("PUT", rig.url("a", "&mode=rwx"), 400, "invalid_field"),
        ("DELETE", rig.url("full", ""), 409, "directory_not_empty"),
        ("DELETE", rig.url("none", ""), 404, "file_not_found"),
        (
            "DELETE",
            format!("{base}?path=/&recursive=true"),
            409,
            "not_permitted",
        ),
        ("GET", format!("{base}?path=/dev/zero"), 409, "special_file"),
        (
            "PUT",
            format!("{base}?path=/proc/sys/kernel/x"),
            409,
            "special_file",
        ),
        ("GET", rig.url("loop", ""), 409, "too_many_links"),
        ("GET", rig.url("full", "&recursive=true"), 400, "invalid_field"),
        ("GET", rig.url("none", "&format=tar"), 404, "file_not_found"),
        ("GET", rig.url("full", "&limit=x"), 400, "invalid_field"),
        ("POST", rig.url("file", ""), 409, "not_a_directory"),
        ("PATCH", rig.url("file", ""), 405, "method_not_allowed"),
    ] {
        let answer = rig.call(method, &url, "", "").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{method} {url}: {}",
            answer.text()
        );
    }
    assert_eq!(names(rig.home.path()), ["file", "full", "loop"]);
    rig.daemon.stop().await;
}
