//! The table of keys. The keys themselves are not in it, only their digests.

use rusqlite::{Row, params};

use super::tenants::{read, stored};
use super::{StoreError, Transaction};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) tenant_id: i64,
    pub(crate) name: String,
    /// SHA-256 of the key.
    pub(crate) digest: [u8; 32],
    /// The key's last characters, so that people know which one is meant.
    pub(crate) tail: String,
    pub(crate) created_at_ms: u64,
    pub(crate) last_used_ms: Option<u64>,
    /// It was rotated, and is valid until then.
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) revoked_at_ms: Option<u64>,
}

const COLUMNS: &str =
    "id, tenant_id, name, digest, tail, created_at_ms, last_used_ms, expires_at_ms, revoked_at_ms";

impl KeyRow {
    /// Oldest first.
    pub(crate) fn all(transaction: &Transaction<'_>) -> Result<Vec<Self>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM keys ORDER BY created_at_ms, rowid");
        let mut statement = transaction.prepare(&sql)?;
        let rows = statement.query_map([], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn insert(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let sql = format!("INSERT INTO keys ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
        transaction.execute(
            &sql,
            params![
                self.id,
                self.tenant_id,
                self.name,
                self.digest,
                self.tail,
                stored(self.created_at_ms),
                self.last_used_ms.map(stored),
                self.expires_at_ms.map(stored),
                self.revoked_at_ms.map(stored),
            ],
        )?;
        Ok(())
    }

    pub(crate) fn expire(transaction: &Transaction<'_>, id: &str, at_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE keys SET expires_at_ms = ? WHERE id = ?";
        transaction.execute(sql, params![stored(at_ms), id])?;
        Ok(())
    }

    pub(crate) fn revoke(transaction: &Transaction<'_>, id: &str, at_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE keys SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms IS NULL";
        transaction.execute(sql, params![stored(at_ms), id])?;
        Ok(())
    }

    pub(crate) fn used(transaction: &Transaction<'_>, id: &str, at_ms: u64) -> Result<(), StoreError> {
        let sql = "UPDATE keys SET last_used_ms = ? WHERE id = ?";
        transaction.execute(sql, params![stored(at_ms), id])?;
        Ok(())
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(read));
    Ok(KeyRow {
        id: row.get(0)?,
        tenant_id: row.get(1)?,
        name: row.get(2)?,
        digest: row.get(3)?,
        tail: row.get(4)?,
        created_at_ms: read(row.get(5)?),
        last_used_ms: time(6)?,
        expires_at_ms: time(7)?,
        revoked_at_ms: time(8)?,
    })
}
