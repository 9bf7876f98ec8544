//! Spaces as files: what is exported here goes on there, and what is not whole or does not fit changes nothing.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use serde_json::json;

use super::client::{Connection, Response};
use super::tenants::tenant;
use super::{Daemon, Setup, eventually};
use crate::DiskSpace;

const IMPORT: &str = "/v1/spaces/import";

impl Daemon {
    async fn import_as(&self, key: &str, file: &[u8]) -> Response {
        let mut connection = Connection::open(self.address).await;
        let header = format!("authorization: Bearer {key}\r\n");
        let headers = if key.is_empty() { "" } else { &header };
        connection.send_bytes("POST", IMPORT, headers, file).await;
        connection.response().await
    }

    async fn import(&self, file: &[u8]) -> Response {
        self.import_as("", file).await
    }

    /// A space in which something is kept, and the file it is exported to.
    async fn exported(&self) -> (String, Vec<u8>) {
        let sandbox = self.sandbox().await;
        self.run(&sandbox, "keep here").await;
        let space = self.freeze(&sandbox).await;
        let export = self.get(&format!("{space}/export")).await;
        assert_eq!(export.status, 200);
        (space, export.body)
    }
}

fn path_of(imported: &Response) -> String {
    assert_eq!(imported.status, 200, "{}", imported.text());
    format!("/v1/spaces/{}", imported.json()["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_space_goes_on_on_another_host_and_stays_where_it_was() {
    let (here, there) = (Daemon::start().await, Daemon::start().await);
    let (space, file) = here.exported().await;
    let head = here.get(&format!("{space}/export")).await;
    assert_eq!(
        head.header("content-type"),
        Some("application/vnd.podflare.space")
    );
    let name = space.trim_start_matches("/v1/spaces/");
    let disposition = format!("attachment; filename=\"{name}.space\"");
    assert_eq!(head.header("content-disposition"), Some(&*disposition));
    assert_eq!(head.body, file);

    let imported = there.import(&file).await;
    let copy = path_of(&imported);
    let (old, new) = (here.get(&space).await.json(), imported.json());
    assert_ne!(new["id"], old["id"]);
    assert_ne!(new["sandbox_id"], old["sandbox_id"]);
    assert_eq!(new["cause"], "import");
    assert_eq!(new["bytes"], old["bytes"]);
    assert_eq!(there.get(&copy).await.json(), new);
    eventually("the VM that was tried is gone", || there.alive() == 0).await;
    let resumed = there.resume(&copy, "").await;
    assert_eq!(there.says(&resumed, "kept").await, "here");
    let replay = there.get(&format!("{resumed}/replay")).await;
    assert!(replay.text().contains("\"exit\""));
    // A file can be imported as often as one likes, also where it came from.
    let again = path_of(&here.import(&file).await);
    for space in [&space, &again] {
        let resumed = here.resume(space, "").await;
        assert_eq!(here.says(&resumed, "kept").await, "here");
    }
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn a_file_that_is_not_whole_changes_nothing() {
    let daemon = Daemon::start().await;
    let (space, file) = daemon.exported().await;
    let middle = file.len() / 2;
    let mut flipped = file.clone();
    flipped[middle] ^= 1;
    let longer = [&file[..], b"more"].concat();
    for damaged in [&file[..middle], &flipped, &longer, b"{\"id\":1}", b""] {
        let refused = daemon.import(damaged).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "invalid_space_file"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(daemon.spaces_on_disk().len(), 1);
    // One whose client goes away.
    let mut connection = Connection::open(daemon.address).await;
    let headers = "transfer-encoding: chunked\r\n";
    let head = format!("POST {IMPORT} HTTP/1.1\r\nhost: x\r\n{headers}\r\n10\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut connection.stream, head.as_bytes())
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut connection.stream, &file[..16])
        .await
        .unwrap();
    drop(connection);
    // The next one waits for its turn no longer than the first takes to notice.
    let mut imported = daemon.import(&file).await;
    while imported.status == 429 {
        imported = daemon.import(&file).await;
    }
    path_of(&imported);
    assert_eq!(daemon.spaces_on_disk().len(), 2);
    assert_eq!(daemon.get(&space).await.status, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_this_host_is_refused_with_the_reason() {
    let daemon = Daemon::start().await;
    let (_, file) = daemon.exported().await;
    daemon.simulation.faults.lock().unwrap().unthawable = 1;
    let refused = daemon.import(&file).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "space_unusable"));
    assert!(refused.text().contains("another CPU"), "{}", refused.text());
    let image = daemon.dir.path().join("images/default.ext4");
    let right = fs::read(&image).unwrap();
    fs::write(&image, [9; 4096]).unwrap();
    let refused = daemon.import(&file).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "space_unusable"));
    assert!(refused.text().contains("disk image"), "{}", refused.text());
    fs::write(&image, right).unwrap();
    assert_eq!(daemon.spaces_on_disk().len(), 1);
    path_of(&daemon.import(&file).await);
    daemon.stop().await;
}

#[tokio::test]
async fn a_space_over_a_templates_memory_takes_it_along_and_keeps_it_to_itself() {
    let (here, there) = (Daemon::start().await, Daemon::start().await);
    let id = "0".repeat(32);
    let templates = here.dir.path().join("data/spaces/templates").join(&id);
    fs::create_dir(&templates).unwrap();
    let memory = fs::File::create_new(templates.join("memory")).unwrap();
    memory.write_all_at(&[42; 5000], 0).unwrap();
    memory.write_all_at(&[0; 16], 512 << 20).unwrap();
    here.simulation.faults.lock().unwrap().lies_over_nothing = true;
    let (space, file) = here.exported().await;
    assert!(file.len() < 100_000, "{}", file.len());

    let copy = path_of(&there.import(&file).await);
    let shared = there.dir.path().join("data/spaces/templates");
    assert_eq!(fs::read_dir(shared).unwrap().count(), 0);
    let own = there
        .dir
        .path()
        .join("data/spaces")
        .join(&copy[11..])
        .join("base/memory");
    let own = fs::metadata(own).unwrap();
    assert_eq!(own.len(), (512 << 20) + 16);
    assert!(own.blocks() * 512 < 1 << 20);
    let bytes = there.get(&copy).await.json()["bytes"].as_u64().unwrap();
    assert!(bytes > here.get(&space).await.json()["bytes"].as_u64().unwrap() + 5000);
    // It can be taken further.
    let further = there.get(&format!("{copy}/export")).await.body;
    let resumed = there.resume(&copy, "").await;
    assert_eq!(there.says(&resumed, "kept").await, "here");
    // Once to try it, once to go on.
    let over = |daemon: &Daemon| daemon.simulation.seen.thawed_over.lock().unwrap().clone();
    assert_eq!(over(&there), [Some(42), Some(42)]);
    // Where there is a memory of that name, that is taken.
    memory.write_all_at(&[43], 0).unwrap();
    let back = path_of(&here.import(&further).await);
    here.resume(&back, "").await;
    assert_eq!(over(&here), [Some(43), Some(43)]);
    assert!(
        !here
            .dir
            .path()
            .join("data/spaces")
            .join(&back[11..])
            .join("base")
            .exists()
    );
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn who_imports_owns_it_within_quota_and_limits() {
    let daemon = Daemon::with(Setup {
        keys: Some("one"),
        ..Setup::default()
    })
    .await;
    let ask = async |key: &str, method: &str, path: &str| {
        super::tenants::call(&daemon, key, method, path, "").await
    };
    let (small, poor) = (
        tenant(&daemon, "small", json!({"spaces": 1})).await,
        tenant(&daemon, "poor", json!({"ram_mib": 256})).await,
    );
    let created = ask("one", "POST", "/v1/sandboxes").await.json();
    let frozen = ask(
        "one",
        "POST",
        &format!("/v1/sandboxes/{}/freeze", created["id"].as_str().unwrap()),
    )
    .await
    .json();
    let space = format!("/v1/spaces/{}", frozen["id"].as_str().unwrap());
    assert_eq!(ask(&small, "GET", &format!("{space}/export")).await.status, 404);
    let file = ask("one", "GET", &format!("{space}/export")).await.body;
    let copy = path_of(&daemon.import_as(&small, &file).await);
    assert_eq!(ask(&small, "GET", &copy).await.status, 200);
    assert_eq!(ask("one", "GET", &copy).await.status, 404);
    let refused = daemon.import_as(&small, &file).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "space_quota"));
    let refused = daemon.import_as(&poor, &file).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "space_unusable"));
    assert!(refused.text().contains("512 MiB of memory"), "{}", refused.text());
    daemon.stop().await;
}

#[tokio::test]
async fn a_host_without_room_takes_none() {
    let mut setup = Setup::default();
    setup.disk.reserve_mib = Some(1000);
    setup.disk.probe = |_| {
        Some(DiskSpace {
            total_mib: 100_000,
            free_mib: 1000,
        })
    };
    let (full, other) = (Daemon::with(setup).await, Daemon::start().await);
    let (_, file) = other.exported().await;
    let refused = full.import(&file).await;
    assert_eq!((refused.status, refused.code().as_str()), (507, "host_disk_full"));
    assert!(full.spaces_on_disk().is_empty());
    other.stop().await;
    full.stop().await;
}

#[tokio::test]
async fn a_damaged_memory_of_a_template_is_not_gone_on_with() {
    let daemon = Daemon::start().await;
    let templates = daemon
        .dir
        .path()
        .join("data/spaces/templates")
        .join("0".repeat(32));
    fs::create_dir(&templates).unwrap();
    let memory = fs::File::create_new(templates.join("memory")).unwrap();
    memory.write_all_at(&[42; 5000], 3 << 20).unwrap();
    memory.write_all_at(&[0; 16], 512 << 20).unwrap();
    let base = crate::spaces::TemplateMemory {
        dir: templates.clone(),
        working_set: None,
    };
    base.sum().unwrap();
    daemon.simulation.faults.lock().unwrap().lies_over_nothing = true;
    let (space, file) = daemon.exported().await;
    let copy = path_of(&daemon.import(&file).await);
    // So that the change is later than the last, as the file system tells time.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    memory.write_all_at(&[43], 3 << 20).unwrap();
    memory.set_modified(later).unwrap();
    let refused = daemon.post(&format!("{space}/resume"), "").await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "space_unusable"));
    assert!(
        refused.text().contains("damaged between bytes 3145728"),
        "{}",
        refused.text()
    );
    let refused = daemon.get(&format!("{space}/export")).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "space_unusable"));
    eventually("nothing is left of the attempt", || daemon.alive() == 0).await;
    memory.write_all_at(&[42], 3 << 20).unwrap();
    memory
        .set_modified(later + std::time::Duration::from_secs(1))
        .unwrap();
    for space in [space, copy] {
        let resumed = daemon.resume(&space, "").await;
        assert_eq!(daemon.says(&resumed, "kept").await, "here");
    }
    daemon.stop().await;
}
