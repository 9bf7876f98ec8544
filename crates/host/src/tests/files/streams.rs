//! Transfers that go on while something else happens, or end before their time.

use std::fs;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::BOUND;
use super::*;
use crate::files::PER_SANDBOX_MAX;

#[tokio::test]
async fn a_large_file_arrives_whole_in_both_directions() {
    let rig = Rig::new().await;
    let content: String = (0..1_000_000).map(|number| format!("{number:06}")).collect();
    assert_eq!(rig.put("file", &content).await.status, 200);
    assert!(rig.get("file").await.text() == content);
    assert!(fs::read_to_string(rig.at("file")).unwrap() == content);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let rig = Rig::new().await;
    rig.put("file", "old").await;
    let mut connection = Connection::open(rig.daemon.address).await;
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n",
        rig.url("file", "")
    );
    connection.stream.write_all(head.as_bytes()).await.unwrap();
    connection.stream.write_all(&[b'x'; 100_000]).await.unwrap();
    let mut new = Connection::open(rig.daemon.address).await;
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nnew\r\n",
        rig.url("a/b", "")
    );
    new.stream.write_all(head.as_bytes()).await.unwrap();
    eventually("the second upload has begun", || rig.at("a").exists()).await;
    drop((connection, new));
    eventually("nothing is left of them", || names(rig.home.path()) == ["file"]).await;
    assert_eq!(fs::read_to_string(rig.at("file")).unwrap(), "old");
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stalls_only_itself() {
    let rig = Rig::new().await;
    fs::write(rig.at("large"), vec![b'x'; 64 << 20]).unwrap();
    let mut slow = Connection::open(rig.daemon.address).await;
    slow.send("GET", &rig.url("large", ""), "", "").await;
    slow.read_until("\r\n\r\n").await;
    rig.put("small", "1").await;
    assert_eq!(rig.get("small").await.text(), "1");
    assert_eq!(rig.daemon.says(&rig.sandbox, "echo beside").await, "beside");
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    while read < 60 << 20 {
        read += slow.stream.read(&mut buffer).await.unwrap();
    }
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_file_that_becomes_shorter_breaks_the_response_off() {
    let rig = Rig::new().await;
    let path = rig.at("large");
    fs::write(&path, vec![b'x'; 64 << 20]).unwrap();
    let mut connection = Connection::open(rig.daemon.address).await;
    connection.send("GET", &rig.url("large", ""), "", "").await;
    connection.read_until("\r\n\r\n").await;
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1)
        .unwrap();
    let mut rest = Vec::new();
    // The end of the connection, long before that of the file.
    drop(connection.stream.read_to_end(&mut rest).await);
    assert!(rest.len() < 60 << 20, "{}", rest.len());
    rig.daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_before_a_careful_client_sends_it() {
    let rig = Rig::new().await;
    fs::create_dir(rig.at("folder")).unwrap();
    let mut connection = Connection::open(rig.daemon.address).await;
    let ask = |name: &str| {
        let url = rig.url(name, "");
        format!("PUT {url} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
    };
    connection
        .stream
        .write_all(ask("folder").as_bytes())
        .await
        .unwrap();
    assert_eq!(connection.response().await.code(), "is_a_directory");
    let mut connection = Connection::open(rig.daemon.address).await;
    connection.stream.write_all(ask("file").as_bytes()).await.unwrap();
    connection.read_until("HTTP/1.1 100 Continue\r\n\r\n").await;
    connection.stream.write_all(b"body").await.unwrap();
    connection.read_until("HTTP/1.1 200 OK").await;
    rig.daemon.stop().await;
}

#[tokio::test]
async fn changes_are_told_as_lines_with_heartbeats_between() {
    let rig = Rig::new().await;
    let mut watch = Connection::open(rig.daemon.address).await;
    let url = rig.url("", "&recursive=true").replace("/files?", "/files/watch?");
    watch.send("GET", &url, "", "").await;
    watch.read_until(r#""type":"ready""#).await;
    rig.put("file", "x").await;
    watch.read_until(r#"{"type":"created","path":""#).await;
    watch.read_until("/file").await;
    watch.read_until("\r\n1\r\n\n\r\n").await;
    fs::rename(rig.at("file"), rig.at("other")).unwrap();
    watch.read_until(r#""type":"moved""#).await;
    watch.read_until("/other").await;
    let none = rig.url("none", "").replace("/files?", "/files/watch?");
    assert_eq!(rig.call("GET", &none, "", "").await.code(), "file_not_found");
    rig.daemon.stop().await;
}

#[tokio::test]
async fn transfers_are_bounded_and_say_when_to_come_again() {
    let rig = Rig::new().await;
    let url = rig.url("", "").replace("/files?", "/files/watch?");
    let mut watches = Vec::new();
    for _ in 0..PER_SANDBOX_MAX {
        let mut watch = Connection::open(rig.daemon.address).await;
        watch.send("GET", &url, "", "").await;
        watch.read_until(r#""type":"ready""#).await;
        watches.push(watch);
    }
    let full = rig.get("x").await;
    assert_eq!((full.status, full.code().as_str()), (429, "too_many_transfers"));
    assert_eq!(full.header("retry-after"), Some("1"));
    drop(watches);
    let begun = std::time::Instant::now();
    while rig.get("x").await.status != 404 {
        assert!(begun.elapsed() < BOUND, "waited in vain until a watch has ended");
    }
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_refusal_comes_at_once_to_a_client_that_has_not_sent_all() {
    let rig = Rig::new().await;
    let mut connection = Connection::open(rig.daemon.address).await;
    let len = 1_u64 << 50;
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n\r\n",
        rig.url("file", "")
    );
    connection.stream.write_all(head.as_bytes()).await.unwrap();
    let refused = connection.response().await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "disk_full"));
    rig.daemon.stop().await;
}
