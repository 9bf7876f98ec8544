//! The database: made, found again, and refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pod_types::{Limit, Overrides, Tier};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    AuditFilter, AuditRow, KeyRow, NewTenant, Retention, Store, StoreError, StoreOpenError, TenantRow,
    UsageDelta, UsageRow,
};

fn file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("podflare.db");
    (dir, path)
}

fn tenant(name: &str) -> NewTenant {
    NewTenant {
        name: name.to_owned(),
        tier: Tier::Pro,
        overrides: Overrides::from([(Limit::Runs, None), (Limit::Sandboxes, Some(3))]),
        wake: Some(false),
        created_at_ms: 7,
    }
}

fn key(tenant_id: i64, number: u8) -> KeyRow {
    KeyRow {
        id: format!("key_{number}"),
        tenant_id,
        name: "ci".to_owned(),
        digest: [number; 32],
        tail: "abcd".to_owned(),
        created_at_ms: number.into(),
        last_used_ms: None,
        expires_at_ms: Some(9),
        revoked_at_ms: None,
    }
}

fn row(action: &str, at_ms: u64, actor: &'static str) -> AuditRow {
    AuditRow {
        id: 0,
        at_ms,
        actor,
        tenant: "a".to_owned(),
        key_id: None,
        remote: Some("127.0.0.1:9".to_owned()),
        action: action.to_owned(),
        target: None,
        result: "ok".to_owned(),
        detail: None,
    }
}

async fn reopened(store: Store, path: &Path) -> Store {
    store.close().await;
    Store::open(path).unwrap()
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let (_dir, path) = file();
    let store = Store::open(&path).unwrap();
    let written = store
        .run(|db| {
            let row = TenantRow::insert(db, tenant("acme"))?;
            key(row.id, 1).insert(db)?;
            Ok(row)
        })
        .await
        .unwrap();
    let store = reopened(store, &path).await;
    let (tenants, keys) = store
        .run(|db| Ok((TenantRow::all(db)?, KeyRow::all(db)?)))
        .await
        .unwrap();
    assert_eq!(tenants, std::slice::from_ref(&written));
    assert_eq!(keys, [key(written.id, 1)]);
    // The number of one that was removed is not given again: what it used is not another's.
    store
        .run(move |db| TenantRow::delete(db, written.id))
        .await
        .unwrap();
    let (next, keys) = store
        .run(|db| Ok((TenantRow::insert(db, tenant("acme"))?, KeyRow::all(db)?)))
        .await
        .unwrap();
    assert!(next.id > written.id && keys.is_empty());
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_transaction_that_fails_leaves_nothing() {
    let (_dir, path) = file();
    let store = Store::open(&path).unwrap();
    let failed = store
        .run(|db| {
            TenantRow::insert(db, tenant("a"))?;
            TenantRow::insert(db, tenant("a"))
        })
        .await;
    assert!(failed.unwrap_err().is_conflict());
    assert_eq!(store.run(TenantRow::all).await.unwrap(), []);
}

#[tokio::test]
async fn many_at_once_are_all_done_or_told_that_the_store_is_busy() {
    let (_dir, path) = file();
    let store = Store::open(&path).unwrap();
    let mut jobs = tokio::task::JoinSet::new();
    for number in 0..600 {
        let store = store.clone();
        jobs.spawn(async move {
            let name = format!("tenant-{number}");
            store.run(move |db| TenantRow::insert(db, tenant(&name))).await
        });
    }
    let done = jobs.join_all().await;
    let refused = done
        .iter()
        .filter(|done| matches!(done, Err(StoreError::Busy)))
        .count();
    let rows = store.run(TenantRow::all).await.unwrap().len();
    assert_eq!(rows + refused, 600);
    assert!(rows >= 256, "{rows}");
}

#[tokio::test]
async fn usage_adds_up_by_day() {
    let (_dir, path) = file();
    let store = Store::open(&path).unwrap();
    let used = |tenant_id, day, execs| UsageRow {
        tenant_id,
        tenant: "a".to_owned(),
        day,
        date: format!("1970-01-0{}", day + 1),
        used: UsageDelta {
            execs,
            ..UsageDelta::default()
        },
    };
    let rows = store
        .run(move |db| {
            for row in [used(1, 5, 2), used(1, 5, 3), used(1, 6, 1), used(2, 6, 9)] {
                row.add(db)?;
            }
            UsageRow::since(db, Some(1), 0)
        })
        .await
        .unwrap();
    assert_eq!(rows, [used(1, 5, 5), used(1, 6, 1)]);
    let later = store.run(|db| UsageRow::since(db, None, 6)).await.unwrap();
    assert_eq!(later.len(), 2);
}

#[tokio::test]
async fn the_audit_log_is_paged_and_what_tenants_do_does_not_push_out_an_operators_rows() {
    let (_dir, path) = file();
    let store = Store::open(&path).unwrap();
    let page = |before, limit| AuditFilter {
        before,
        limit,
        ..AuditFilter::default()
    };
    let keep = Retention {
        age: Duration::from_millis(500),
        rows: 10,
    };
    let (newest, older, kept) = store
        .run(move |db| {
            row("old", 1, "operator").append(db)?;
            row("key_created", 1000, "operator").append(db)?;
            for _ in 0..30 {
                row("exec", 1000, "tenant").append(db)?;
            }
            let newest = AuditRow::select(db, &page(None, 5))?;
            let older = AuditRow::select(db, &page(newest.last().map(|row| row.id), 100))?;
            AuditRow::prune(db, 1200, keep)?;
            Ok((newest, older, AuditRow::select(db, &page(None, 100))?))
        })
        .await
        .unwrap();
    assert_eq!((newest.len(), older.len()), (5, 27));
    assert!(newest[0].id > newest[4].id && newest[4].id > older[0].id);
    assert_eq!(kept.iter().filter(|row| row.action == "exec").count(), 10);
    assert_eq!(kept.last().unwrap().action, "key_created");
}

#[tokio::test]
async fn a_newer_a_foreign_and_a_damaged_database_are_refused_and_left_as_they_are() {
    type Spoil = fn(&Path);
    let newer: Spoil = |path| {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
    };
    let foreign: Spoil = |path| {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "application_id", 5).unwrap();
    };
    let torn: Spoil = |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let garbage: Spoil = |path| std::fs::write(path, [b'x'; 9000]).unwrap();
    for (spoil, word) in [
        (newer, "newer"),
        (foreign, "something else"),
        (torn, "damaged"),
        (garbage, "damaged"),
    ] {
        let (_dir, path) = file();
        let store = Store::open(&path).unwrap();
        store.run(|db| TenantRow::insert(db, tenant("a"))).await.unwrap();
        store.close().await;
        spoil(&path);
        let before = std::fs::read(&path).unwrap();
        let refused = Store::open(&path).unwrap_err().to_string();
        assert!(refused.contains(word), "{word}: {refused}");
        assert!(refused.contains("move"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn a_directory_in_the_place_of_the_file_is_an_error_that_names_it() {
    let (dir, path) = file();
    std::fs::create_dir(&path).unwrap();
    let refused = Store::open(&path).unwrap_err();
    assert!(matches!(refused, StoreOpenError::Make { .. }));
    assert!(refused.to_string().contains(&dir.path().display().to_string()));
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_says_so_and_writing_goes_on_when_there_is_room() {
    let (_dir, path) = file();
    let store = Store::open(&path).unwrap();
    let limit = |pages: i64| {
        move |db: &super::Transaction<'_>| Ok(db.pragma_update(None, "max_page_count", pages)?)
    };
    store.run(limit(1)).await.unwrap();
    let big = |db: &super::Transaction<'_>| TenantRow::insert(db, tenant(&"a".repeat(100_000)));
    let refused = store.run(big).await.unwrap_err();
    assert!(matches!(refused, StoreError::DiskFull(_)), "{refused}");
    store.run(limit(100_000)).await.unwrap();
    store.run(big).await.unwrap();
}
