//! The table of usage: one row for each tenant and day (UTC) on which it used something.

use rusqlite::{Row, params};

use super::tenants::{read, stored};
use super::{StoreError, Transaction};

/// Days that are kept: a year, and a bit for who is late with the bill.
const DAYS_KEPT: i64 = 400;

/// What was used in a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsageDelta {
    /// Created and forked.
    pub(crate) sandboxes: u64,
    /// Sum of the times that sandboxes existed.
    pub(crate) sandbox_ms: u64,
    pub(crate) execs: u64,
    /// What clients sent to sandboxes, and what sandboxes sent to them.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// What sandboxes sent into the world, and received from it.
    pub(crate) network_sent: u64,
    pub(crate) network_received: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageRow {
    pub(crate) tenant_id: i64,
    /// Its name then.
    pub(crate) tenant: String,
    /// Days since the Unix epoch.
    pub(crate) day: i64,
    /// The same as in `2026-11-22`; filled in by the database.
    pub(crate) date: String,
    pub(crate) used: UsageDelta,
}

impl UsageRow {
    /// Adds to what is there.
    pub(crate) fn add(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let used = &self.used;
        transaction.execute(
            "INSERT INTO usage (tenant_id, tenant, day, sandboxes, sandbox_ms, execs, bytes_in, bytes_out,
                network_sent, network_received)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (tenant_id, day) DO UPDATE SET
                sandboxes = sandboxes + excluded.sandboxes,
                sandbox_ms = sandbox_ms + excluded.sandbox_ms,
                execs = execs + excluded.execs,
                bytes_in = bytes_in + excluded.bytes_in,
                bytes_out = bytes_out + excluded.bytes_out,
                network_sent = network_sent + excluded.network_sent,
                network_received = network_received + excluded.network_received",
            params![
                self.tenant_id,
                self.tenant,
                self.day,
                stored(used.sandboxes),
                stored(used.sandbox_ms),
                stored(used.execs),
                stored(used.bytes_in),
                stored(used.bytes_out),
                stored(used.network_sent),
                stored(used.network_received),
            ],
        )?;
        Ok(())
    }

    /// From that day on, by tenant and day.
    pub(crate) fn since(
        transaction: &Transaction<'_>,
        tenant_id: Option<i64>,
        day: i64,
    ) -> Result<Vec<Self>, StoreError> {
        let mut statement = transaction.prepare(
            "SELECT tenant_id, tenant, day, sandboxes, sandbox_ms, execs, bytes_in, bytes_out,
                date(day * 86400, 'unixepoch'), network_sent, network_received
             FROM usage WHERE day >= ?1 AND (?2 IS NULL OR tenant_id = ?2) ORDER BY tenant_id, day",
        )?;
        let rows = statement.query_map(params![day, tenant_id], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn prune(transaction: &Transaction<'_>, today: i64) -> Result<(), StoreError> {
        transaction.execute("DELETE FROM usage WHERE day < ?", [today - DAYS_KEPT])?;
        Ok(())
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    Ok(UsageRow {
        tenant_id: row.get(0)?,
        tenant: row.get(1)?,
        day: row.get(2)?,
        date: row.get(8)?,
        used: UsageDelta {
            sandboxes: read(row.get(3)?),
            sandbox_ms: read(row.get(4)?),
            execs: read(row.get(5)?),
            bytes_in: read(row.get(6)?),
            bytes_out: read(row.get(7)?),
            network_sent: read(row.get(9)?),
            network_received: read(row.get(10)?),
        },
    })
}
