//! The table of secrets, whose values are sealed.

use rusqlite::{Row, params};

use super::tenants::{read, stored};
use super::{StoreError, Transaction};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretRow {
    pub(crate) tenant_id: i64,
    pub(crate) name: String,
    pub(crate) placeholder: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) sealed: Vec<u8>,
    pub(crate) created_at_ms: u64,
    pub(crate) changed_at_ms: u64,
}

impl SecretRow {
    pub(crate) fn all(transaction: &Transaction<'_>) -> Result<Vec<Self>, StoreError> {
        let mut statement = transaction.prepare(
            "SELECT tenant_id, name, placeholder, hosts, sealed, created_at_ms, changed_at_ms FROM secrets
             ORDER BY tenant_id, name",
        )?;
        let rows = statement.query_map([], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes it, whether it was there or not.
    pub(crate) fn put(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        transaction.execute(
            "INSERT INTO secrets (tenant_id, name, placeholder, hosts, sealed, created_at_ms, changed_at_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (tenant_id, name) DO UPDATE SET placeholder = excluded.placeholder, hosts = excluded.hosts,
                sealed = excluded.sealed, changed_at_ms = excluded.changed_at_ms",
            params![
                self.tenant_id,
                self.name,
                self.placeholder,
                self.hosts.join(" "),
                self.sealed,
                stored(self.created_at_ms),
                stored(self.changed_at_ms),
            ],
        )?;
        Ok(())
    }

    pub(crate) fn delete(
        transaction: &Transaction<'_>,
        tenant_id: i64,
        name: &str,
    ) -> Result<(), StoreError> {
        transaction.execute(
            "DELETE FROM secrets WHERE tenant_id = ? AND name = ?",
            params![tenant_id, name],
        )?;
        Ok(())
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<SecretRow> {
    let hosts: String = row.get(3)?;
    Ok(SecretRow {
        tenant_id: row.get(0)?,
        name: row.get(1)?,
        placeholder: row.get(2)?,
        // No name has a space in it.
        hosts: hosts.split(' ').map(str::to_owned).collect(),
        sealed: row.get(4)?,
        created_at_ms: read(row.get(5)?),
        changed_at_ms: read(row.get(6)?),
    })
}
