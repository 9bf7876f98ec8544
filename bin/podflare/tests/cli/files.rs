//! `podflare cp` and `podflare ls`: what is sent, what is written, and where it is not.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;

use client::scripted::{Answer, Ending, Request, Scripted};
use serde_json::{Value, json};

use crate::support::{Cli, Finished, ID};

const INFO: &str = r#"{"name":"x","kind":"file","size":7,"mode":"0750","mtime_ms":0}"#;
const FOLDER: &str = r#"{"name":"x","kind":"directory","size":0,"mode":"0755","mtime_ms":0}"#;
const MISSING: &str = r#"{"error":"there is no such file","code":"file_not_found"}"#;

/// A host whose sandbox has one file, `/root/file`, and one directory, `/root/dir`, of which this is the archive.
fn host(archive: Vec<u8>) -> Scripted {
    let archive = String::from_utf8(archive).unwrap();
    Scripted::start(move |request: &Request| {
        let (path, query) = request.path.split_once("?path=").unwrap();
        assert_eq!(path, format!("/v1/sandboxes/{ID}/files"));
        let (file, more) = query.split_once('&').unwrap_or((query, ""));
        let about = more.contains("stat=true");
        match (request.method.as_str(), file) {
            ("PUT", _) if request.header("content-type") == Some("application/x-tar") => {
                Answer::new(200, r#"{"entries":2,"bytes":7}"#)
            }
            ("PUT", "full") => Answer::new(
                409,
                r#"{"error":"no space left","code":"disk_full","hint":"make room"}"#,
            ),
            ("PUT", _) => Answer::new(200, INFO),
            (_, "file" | "cut") if about => Answer::new(200, INFO),
            (_, "file") => Answer::new(200, "content"),
            (_, "cut") => Answer::stream("con", Ending::Cut),
            (_, "dir") if about => Answer::new(200, FOLDER),
            (_, "dir") => Answer::stream(&archive, Ending::Chunked),
            _ => Answer::new(404, MISSING),
        }
    })
    .unwrap()
}

fn place(path: &str) -> String {
    format!("{ID}:{path}")
}

#[track_caller]
fn cp(cli: &Cli, from: &str, to: &str) -> Finished {
    let finished = cli.run(&["cp", from, to]);
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
    finished
}

fn archive_of(fill: impl FnOnce(&Path)) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    fill(home.path());
    let mut bytes = Vec::new();
    archive::pack(home.path(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_file_comes_with_its_mode_under_its_own_name_or_another() {
    let host = host(Vec::new());
    let cli = Cli::with(&host);
    let at = |name: &str| cli.home().join(name);
    cp(&cli, &place("file"), ".");
    cp(&cli, &place("file"), "other");
    for name in ["file", "other"] {
        assert_eq!(fs::read_to_string(at(name)).unwrap(), "content");
        assert_eq!(
            fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777,
            0o750
        );
    }
    assert_eq!(cp(&cli, &place("file"), "-").stdout, "content");
    let copied = cli.run(&["cp", "--json", &place("file"), "third"]);
    let copied: Value = serde_json::from_str(&copied.stdout).unwrap();
    assert_eq!(copied, json!({"from": place("file"), "to": "third", "bytes": 7}));
}

#[test]
fn a_file_is_sent_with_its_mode_and_into_a_directory_under_its_own_name() {
    let host = host(Vec::new());
    let cli = Cli::with(&host);
    fs::write(cli.home().join("a b"), "content").unwrap();
    fs::set_permissions(cli.home().join("a b"), fs::Permissions::from_mode(0o4711)).unwrap();
    cp(&cli, "a b", &place("dir"));
    cp(&cli, "a b", &place("new"));
    let seen = host.seen();
    let puts: Vec<&Request> = seen
        .requests
        .iter()
        .filter(|request| request.method == "PUT")
        .collect();
    assert!(
        puts[0].path.ends_with("?path=dir/a%20b&mode=0711"),
        "{}",
        puts[0].path
    );
    assert!(puts[1].path.ends_with("?path=new&mode=0711"), "{}", puts[1].path);
    assert_eq!(
        (puts[0].body.as_str(), puts[0].header("content-length")),
        ("content", Some("7"))
    );
}

#[test]
fn stdin_is_sent_to_its_end() {
    let host = host(Vec::new());
    let cli = Cli::with(&host);
    let mut child = cli
        .command(&["cp", "-", &place("new")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(host.seen().requests.last().unwrap().body, "from a pipe");
}

#[test]
fn directories_go_both_ways_whole() {
    let archive = archive_of(|home| {
        fs::create_dir(home.join("sub")).unwrap();
        fs::write(home.join("sub/file"), "content").unwrap();
    });
    let host = host(archive);
    let cli = Cli::with(&host);
    cp(&cli, &place("dir"), "new");
    assert_eq!(
        fs::read_to_string(cli.home().join("new/sub/file")).unwrap(),
        "content"
    );
    cp(&cli, &place("dir"), "new");
    assert!(cli.home().join("new/dir/sub/file").exists());
    cp(&cli, "new/sub", &place("dir"));
    let seen = host.seen();
    let put = seen.requests.last().unwrap();
    assert!(put.path.ends_with("?path=dir/sub"), "{}", put.path);
    let unpacked = tempfile::tempdir().unwrap();
    archive::unpack(unpacked.path(), put.body.as_bytes(), 0o777).unwrap();
    assert_eq!(
        fs::read_to_string(unpacked.path().join("file")).unwrap(),
        "content"
    );
}

#[test]
fn a_sandbox_cannot_write_beside_the_destination() {
    for (name, link) in [("../evil", ""), ("/evil", ""), ("out/evil", "..")] {
        let archive = archive_of(|home| {
            if !link.is_empty() {
                symlink(link, home.join("out")).unwrap();
            }
            fs::write(home.join("zzzzzzzz"), "x").unwrap();
        });
        // The same archive with another name in it, and a checksum to go with it.
        let archive = renamed(archive, "zzzzzzzz", name);
        let host = host(archive);
        let cli = Cli::with(&host);
        fs::create_dir(cli.home().join("target")).unwrap();
        let finished = cli.run(&["cp", &place("dir"), "target/in"]);
        assert_eq!(finished.status, 1, "{finished:?}");
        assert!(finished.stderr.contains("evil"), "{finished:?}");
        assert!(!cli.home().join("target/evil").exists() && !Path::new("/evil").exists());
    }
}

/// Changes the name of an entry.
fn renamed(mut archive: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let at = archive
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap();
    let header = &mut archive[at..at + 512];
    header[..100].fill(0);
    header[..to.len()].copy_from_slice(to.as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive
}

#[test]
fn what_breaks_off_leaves_no_file_and_fails() {
    let host = host(Vec::new());
    let cli = Cli::with(&host);
    let finished = cli.run(&["cp", &place("cut"), "file"]);
    assert_eq!(finished.status, 1, "{finished:?}");
    assert!(finished.stderr.contains("broke off"), "{finished:?}");
    assert!(fs::read_dir(cli.home()).unwrap().next().is_none());
}

#[test]
fn refusals_and_mistakes_say_what_to_do() {
    let host = host(Vec::new());
    let cli = Cli::with(&host);
    fs::write(cli.home().join("a"), "x").unwrap();
    let full = cli.run(&["cp", "a", &place("full")]);
    assert!(full.status == 1 && full.stderr.contains("make room"), "{full:?}");
    let missing = cli.run(&["cp", &place("none"), "b"]);
    assert!(
        missing.status == 1 && missing.stderr.contains("no such file"),
        "{missing:?}"
    );
    let nothing = cli.run(&["cp", "none", &place("x")]);
    assert!(
        nothing.status == 1 && nothing.stderr.contains("cannot open none"),
        "{nothing:?}"
    );
    for usage in [
        &["cp", "a", "b"][..],
        &["cp", "sbx_1:a", "b"],
        &["cp", "--json", &place("file"), "-"],
        &["ls", "a"],
    ] {
        assert_eq!(cli.run(usage).status, 2, "{usage:?}");
    }
}

#[test]
fn ls_shows_names_without_letting_them_play_with_the_terminal() {
    let listing = r#"{"path":"/root","entries":[
        {"name":"a\u001b[2Jb","kind":"symlink","size":1,"mode":"0777","mtime_ms":0,"target":"x\n"},
        {"name":"dir","kind":"directory","size":4096,"mode":"0755","mtime_ms":0}]}"#;
    let host = Scripted::start(move |request| {
        let about = request.path.contains("stat=true");
        Answer::new(200, if about { FOLDER } else { listing })
    })
    .unwrap();
    let cli = Cli::with(&host);
    let words = cli.run(&["ls", &place("")]).stdout;
    let rows: Vec<&str> = words.lines().collect();
    assert_eq!(rows.len(), 3, "{words}");
    assert!(
        rows[1].starts_with("l0777  1 ") && rows[1].ends_with("a\\u{1b}[2Jb -> x\\n"),
        "{words}"
    );
    let json: Value = serde_json::from_str(&cli.run(&["ls", "--json", &place("dir")]).stdout).unwrap();
    assert_eq!(json["entries"][1]["name"], "dir");
}
