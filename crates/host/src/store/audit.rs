//! The table of the audit log. Rows are appended, and removed only when they are too old or too many.

use std::time::Duration;

use rusqlite::{Row, params};

use super::tenants::{read, stored};
use super::{StoreError, Transaction};

/// Who did what, when, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditRow {
    /// Given by the database; 0 before.
    pub(crate) id: i64,
    pub(crate) at_ms: u64,
    /// `tenant`, `operator` or `host`.
    pub(crate) actor: &'static str,
    pub(crate) tenant: String,
    pub(crate) key_id: Option<String>,
    pub(crate) remote: Option<String>,
    pub(crate) action: String,
    /// The sandbox, tenant or key that it was done to.
    pub(crate) target: Option<String>,
    /// `ok`, or the code of the error.
    pub(crate) result: String,
    pub(crate) detail: Option<String>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    pub(crate) age: Duration,
    /// Rows of tenants; an operator's are few, and are not pushed out by what tenants do.
    pub(crate) rows: u64,
}

/// Which rows are wanted, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    /// Only older ones than this row.
    pub(crate) before: Option<i64>,
    pub(crate) tenant: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) limit: u32,
}

impl AuditRow {
    pub(crate) fn append(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let mut statement = transaction.prepare(
            "INSERT INTO audit (at_ms, actor, tenant, key_id, remote, action, target, result, detail)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        statement.execute(params![
            stored(self.at_ms),
            self.actor,
            self.tenant,
            self.key_id,
            self.remote,
            self.action,
            self.target,
            self.result,
            self.detail,
        ])?;
        Ok(())
    }

    pub(crate) fn select(
        transaction: &Transaction<'_>,
        filter: &AuditFilter,
    ) -> Result<Vec<Self>, StoreError> {
        let mut statement = transaction.prepare(
            "SELECT id, at_ms, actor, tenant, key_id, remote, action, target, result, detail FROM audit
             WHERE id < ?1 AND (?2 IS NULL OR tenant = ?2) AND (?3 IS NULL OR action = ?3)
             ORDER BY id DESC LIMIT ?4",
        )?;
        let before = filter.before.unwrap_or(i64::MAX);
        let wanted = params![before, filter.tenant, filter.action, filter.limit];
        let rows = statement.query_map(wanted, read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Removes what need not be kept.
    pub(crate) fn prune(
        transaction: &Transaction<'_>,
        now_ms: u64,
        keep: Retention,
    ) -> Result<(), StoreError> {
        let age_ms = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
        let oldest = stored(now_ms.saturating_sub(age_ms));
        transaction.execute("DELETE FROM audit WHERE at_ms < ?", [oldest])?;
        transaction.execute(
            "DELETE FROM audit WHERE actor = 'tenant' AND id <= (
                SELECT id FROM audit WHERE actor = 'tenant' ORDER BY id DESC LIMIT 1 OFFSET ?)",
            [stored(keep.rows)],
        )?;
        Ok(())
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    let actor: String = row.get(2)?;
    Ok(AuditRow {
        id: row.get(0)?,
        at_ms: read(row.get(1)?),
        actor: match actor.as_str() {
            "tenant" => "tenant",
            "operator" => "operator",
            _ => "host",
        },
        tenant: row.get(3)?,
        key_id: row.get(4)?,
        remote: row.get(5)?,
        action: row.get(6)?,
        target: row.get(7)?,
        result: row.get(8)?,
        detail: row.get(9)?,
    })
}
