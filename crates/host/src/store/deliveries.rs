//! The tables of deliveries and of the attempts to make them: the outbox, and its log.

use rusqlite::{OptionalExtension as _, Row, params};

use super::tenants::{read, stored};
use super::{StoreError, Transaction};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryRow {
    /// Given by the database; 0 before.
    pub(crate) number: i64,
    pub(crate) id: String,
    pub(crate) webhook_id: String,
    /// What is told of one sandbox is told in order; empty for what has no order.
    pub(crate) sandbox: String,
    pub(crate) event_id: String,
    pub(crate) body: String,
    pub(crate) state: String,
    pub(crate) attempts: u32,
    pub(crate) created_at_ms: u64,
    pub(crate) next_ms: u64,
    pub(crate) replay_of: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttemptRow {
    pub(crate) attempt: u32,
    pub(crate) at_ms: u64,
    pub(crate) duration_ms: u64,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) answer: String,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    /// It is tried again at this time.
    Again(u64),
    Failed,
}

pub(crate) const PENDING: &str = "pending";

/// No attempt is put off for longer.
const LATEST_MS: u64 = 12 * 3600 * 1000;

const COLUMNS: &str =
    "number, id, webhook_id, sandbox, event_id, body, state, attempts, created_at_ms, next_ms, replay_of";

impl DeliveryRow {
    /// Appends it, unless it is there or its webhook has gone meanwhile; whether it did.
    pub(crate) fn append(&self, db: &Transaction<'_>) -> Result<bool, StoreError> {
        let mut statement = db.prepare(
            "INSERT OR IGNORE INTO deliveries (id, webhook_id, sandbox, event_id, body, state, attempts, created_at_ms, next_ms,
                replay_of)
             SELECT ?1, id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 FROM webhooks WHERE id = ?2",
        )?;
        let count = statement.execute(params![
            self.id,
            self.webhook_id,
            self.sandbox,
            self.event_id,
            self.body,
            self.state,
            self.attempts,
            stored(self.created_at_ms),
            stored(self.next_ms),
            self.replay_of,
        ])?;
        Ok(count > 0)
    }

    /// Those of a webhook that are to be sent now. What is told of one sandbox comes one after the other, unless one
    /// before it has been tried `hold` times already and waits for longer. What would be sent later than anything ever
    /// is was put off before the clock was set back.
    pub(crate) fn due(
        db: &Transaction<'_>,
        webhook: &str,
        now_ms: u64,
        hold: u32,
        limit: usize,
    ) -> Result<Vec<Self>, StoreError> {
        let mut statement = db.prepare(&format!(
            "SELECT {COLUMNS} FROM deliveries d
             WHERE webhook_id = ?1 AND state = 'pending' AND (next_ms <= ?2 OR next_ms > ?5) AND NOT EXISTS (
                SELECT 1 FROM deliveries e
                WHERE e.webhook_id = ?1 AND e.state = 'pending' AND e.sandbox = d.sandbox AND e.sandbox <> ''
                    AND e.number < d.number AND (e.attempts < ?3 OR e.next_ms <= ?2))
             ORDER BY next_ms, number LIMIT ?4"
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let absurd = stored(now_ms.saturating_add(LATEST_MS));
        let wanted = params![webhook, stored(now_ms), hold, limit, absurd];
        let rows = statement.query_map(wanted, read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// When the next of a webhook that is not due yet will be.
    pub(crate) fn next_due(
        db: &Transaction<'_>,
        webhook: &str,
        now_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        let sql =
            "SELECT min(next_ms) FROM deliveries WHERE webhook_id = ? AND state = 'pending' AND next_ms > ?";
        let mut statement = db.prepare(sql)?;
        let next = statement.query_row(params![webhook, stored(now_ms)], |row| {
            row.get::<_, Option<i64>>(0)
        })?;
        Ok(next.map(read))
    }

    /// Notes an attempt and what comes next.
    pub(crate) fn attempted(
        &self,
        db: &Transaction<'_>,
        attempt: &AttemptRow,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        let (state, next_ms) = match outcome {
            Outcome::Delivered => ("delivered", self.next_ms),
            Outcome::Again(at_ms) => (PENDING, at_ms),
            Outcome::Failed => ("failed", self.next_ms),
        };
        let sql = "UPDATE deliveries SET state = ?, next_ms = ?, attempts = ? WHERE number = ?";
        let changed = db.execute(sql, params![state, stored(next_ms), attempt.attempt, self.number])?;
        if changed > 0 {
            attempt.append(db, self.number)?;
        }
        Ok(())
    }

    /// Lets what waits to be sent again be sent now.
    pub(crate) fn hasten(db: &Transaction<'_>, webhook: &str, now_ms: u64) -> Result<(), StoreError> {
        let sql =
            "UPDATE deliveries SET next_ms = ?2 WHERE webhook_id = ?1 AND state = 'pending' AND next_ms > ?2";
        db.execute(sql, params![webhook, stored(now_ms)])?;
        Ok(())
    }

    /// Those of a webhook with their attempts, newest first.
    pub(crate) fn log(
        db: &Transaction<'_>,
        webhook: &str,
        before: Option<&str>,
        limit: u64,
    ) -> Result<Vec<(Self, Vec<AttemptRow>)>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM deliveries WHERE webhook_id = ?1 AND (?2 IS NULL OR
                number < (SELECT number FROM deliveries WHERE id = ?2 AND webhook_id = ?1))
             ORDER BY number DESC LIMIT ?3"
        );
        let mut statement = db.prepare(&sql)?;
        let rows = statement.query_map(params![webhook, before, stored(limit)], read_row)?;
        rows.map(|row| {
            let row = row?;
            let attempts = AttemptRow::of(db, row.number)?;
            Ok((row, attempts))
        })
        .collect()
    }

    pub(crate) fn find(db: &Transaction<'_>, webhook: &str, id: &str) -> Result<Option<Self>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE webhook_id = ? AND id = ?");
        Ok(db.query_row(&sql, [webhook, id], read_row).optional()?)
    }

    /// How many wait, by webhook.
    pub(crate) fn pending(db: &Transaction<'_>) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "SELECT webhook_id, count(*) FROM deliveries WHERE state = 'pending' GROUP BY webhook_id";
        let mut statement = db.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, read(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives up the oldest ones of a webhook with more than `most` that wait, and removes of what is over what is too
    /// old or too much. How many wait then.
    pub(crate) fn prune(
        db: &Transaction<'_>,
        webhook: &str,
        oldest_ms: u64,
        keep: u64,
        most: u64,
    ) -> Result<u64, StoreError> {
        db.execute(
            "UPDATE deliveries SET state = 'failed' WHERE webhook_id = ?1 AND state = 'pending' AND number <= (
                SELECT number FROM deliveries WHERE webhook_id = ?1 AND state = 'pending'
                ORDER BY number DESC LIMIT 1 OFFSET ?2)",
            params![webhook, stored(most)],
        )?;
        db.execute(
            "DELETE FROM deliveries WHERE webhook_id = ?1 AND state <> 'pending' AND (created_at_ms < ?2 OR number <= (
                SELECT number FROM deliveries WHERE webhook_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?3))",
            params![webhook, stored(oldest_ms), stored(keep)],
        )?;
        let sql = "SELECT count(*) FROM deliveries WHERE webhook_id = ? AND state = 'pending'";
        Ok(read(db.query_row(sql, [webhook], |row| row.get(0))?))
    }
}

impl AttemptRow {
    fn append(&self, db: &Transaction<'_>, delivery: i64) -> Result<(), StoreError> {
        db.execute(
            "INSERT OR REPLACE INTO attempts (delivery, attempt, at_ms, duration_ms, status, error, answer)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                delivery,
                self.attempt,
                stored(self.at_ms),
                stored(self.duration_ms),
                self.status,
                self.error,
                self.answer,
            ],
        )?;
        Ok(())
    }

    /// Of a delivery, oldest first.
    pub(crate) fn of(db: &Transaction<'_>, delivery: i64) -> Result<Vec<Self>, StoreError> {
        let mut statement = db.prepare(
            "SELECT attempt, at_ms, duration_ms, status, error, answer FROM attempts WHERE delivery = ? ORDER BY attempt",
        )?;
        let rows = statement.query_map([delivery], |row| {
            Ok(Self {
                attempt: row.get(0)?,
                at_ms: read(row.get(1)?),
                duration_ms: read(row.get(2)?),
                status: row.get(3)?,
                error: row.get(4)?,
                answer: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<DeliveryRow> {
    Ok(DeliveryRow {
        number: row.get(0)?,
        id: row.get(1)?,
        webhook_id: row.get(2)?,
        sandbox: row.get(3)?,
        event_id: row.get(4)?,
        body: row.get(5)?,
        state: row.get(6)?,
        attempts: row.get(7)?,
        created_at_ms: read(row.get(8)?),
        next_ms: read(row.get(9)?),
        replay_of: row.get(10)?,
    })
}
