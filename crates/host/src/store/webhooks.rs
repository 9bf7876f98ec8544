//! The table of webhooks.

use api::WebhookEvent;
use rusqlite::{Row, params};

use super::tenants::{read, stored};
use super::{StoreError, Transaction};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookRow {
    pub(crate) id: String,
    pub(crate) tenant_id: i64,
    pub(crate) url: String,
    pub(crate) events: Vec<WebhookEvent>,
    pub(crate) description: String,
    pub(crate) secret: String,
    /// The one before, and until when it counts.
    pub(crate) old_secret: Option<(String, u64)>,
    pub(crate) enabled: bool,
    pub(crate) disabled_reason: Option<String>,
    pub(crate) created_at_ms: u64,
    pub(crate) failing_since_ms: Option<u64>,
    pub(crate) last_success_ms: Option<u64>,
}

const COLUMNS: &str = "id, tenant_id, url, events, description, secret, old_secret, old_secret_until_ms, enabled, \
                       disabled_reason, created_at_ms, failing_since_ms, last_success_ms";

impl HookRow {
    /// Oldest first.
    pub(crate) fn all(transaction: &Transaction<'_>) -> Result<Vec<Self>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM webhooks ORDER BY created_at_ms, rowid");
        let mut statement = transaction.prepare(&sql)?;
        let rows = statement.query_map([], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes it, whether it was there or not.
    pub(crate) fn put(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO webhooks ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET url = excluded.url, events = excluded.events,
                description = excluded.description, secret = excluded.secret, old_secret = excluded.old_secret,
                old_secret_until_ms = excluded.old_secret_until_ms, enabled = excluded.enabled,
                disabled_reason = excluded.disabled_reason, failing_since_ms = excluded.failing_since_ms,
                last_success_ms = excluded.last_success_ms"
        );
        let events: Vec<&str> = self.events.iter().map(|event| event.name()).collect();
        let old = self.old_secret.as_ref();
        transaction.execute(
            &sql,
            params![
                self.id,
                self.tenant_id,
                self.url,
                events.join(" "),
                self.description,
                self.secret,
                old.map(|(secret, _)| secret),
                old.map(|(_, until)| stored(*until)),
                self.enabled,
                self.disabled_reason,
                stored(self.created_at_ms),
                self.failing_since_ms.map(stored),
                self.last_success_ms.map(stored),
            ],
        )?;
        Ok(())
    }

    /// Takes its deliveries along.
    pub(crate) fn delete(transaction: &Transaction<'_>, id: &str) -> Result<(), StoreError> {
        transaction.execute("DELETE FROM webhooks WHERE id = ?", [id])?;
        Ok(())
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<HookRow> {
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(read));
    let events: String = row.get(3)?;
    let old: Option<String> = row.get(6)?;
    Ok(HookRow {
        id: row.get(0)?,
        tenant_id: row.get(1)?,
        url: row.get(2)?,
        // An event that this version does not know is one that it does not tell.
        events: events.split(' ').filter_map(|name| name.parse().ok()).collect(),
        description: row.get(4)?,
        secret: row.get(5)?,
        old_secret: old.zip(time(7)?),
        enabled: row.get(8)?,
        disabled_reason: row.get(9)?,
        created_at_ms: read(row.get(10)?),
        failing_since_ms: time(11)?,
        last_success_ms: time(12)?,
    })
}
