//! The table of tenants.

use pod_types::{Overrides, Tier};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{StoreError, Transaction};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantRow {
    /// Never given to another.
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) tier: Tier,
    pub(crate) overrides: Overrides,
    /// Whether requests wake its frozen sandboxes; as the host has it when it is none.
    pub(crate) wake: Option<bool>,
    pub(crate) created_at_ms: u64,
}

/// A tenant that is to be.
#[derive(Clone, Debug)]
pub(crate) struct NewTenant {
    pub(crate) name: String,
    pub(crate) tier: Tier,
    pub(crate) overrides: Overrides,
    /// Whether requests wake its frozen sandboxes; as the host has it when it is none.
    pub(crate) wake: Option<bool>,
    pub(crate) created_at_ms: u64,
}

const COLUMNS: &str = "id, name, tier, overrides, created_at_ms, wake";

impl TenantRow {
    pub(crate) fn all(transaction: &Transaction<'_>) -> Result<Vec<Self>, StoreError> {
        let mut statement = transaction.prepare(&format!("SELECT {COLUMNS} FROM tenants ORDER BY id"))?;
        let rows = statement.query_map([], Raw::read)?;
        rows.map(|row| row?.parse()).collect()
    }

    pub(crate) fn insert(transaction: &Transaction<'_>, new: NewTenant) -> Result<Self, StoreError> {
        let overrides = json(&new.overrides)?;
        transaction.execute(
            "INSERT INTO tenants (name, tier, overrides, created_at_ms, wake) VALUES (?, ?, ?, ?, ?)",
            params![
                new.name,
                new.tier.name(),
                overrides,
                stored(new.created_at_ms),
                new.wake
            ],
        )?;
        Ok(Self {
            id: transaction.last_insert_rowid(),
            name: new.name,
            tier: new.tier,
            overrides: new.overrides,
            wake: new.wake,
            created_at_ms: new.created_at_ms,
        })
    }

    /// The tenant of that name, made when there is none.
    pub(crate) fn ensure(transaction: &Transaction<'_>, new: NewTenant) -> Result<Self, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM tenants WHERE name = ?");
        let found = transaction.query_row(&sql, [&new.name], Raw::read).optional()?;
        match found {
            Some(row) => row.parse(),
            None => Self::insert(transaction, new),
        }
    }

    /// Writes what can change.
    pub(crate) fn update(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let overrides = json(&self.overrides)?;
        transaction.execute(
            "UPDATE tenants SET tier = ?, overrides = ?, wake = ? WHERE id = ?",
            params![self.tier.name(), overrides, self.wake, self.id],
        )?;
        Ok(())
    }

    /// Takes its keys along.
    pub(crate) fn delete(transaction: &Transaction<'_>, id: i64) -> Result<(), StoreError> {
        transaction.execute("DELETE FROM tenants WHERE id = ?", [id])?;
        Ok(())
    }
}

/// A row as it is stored.
struct Raw {
    id: i64,
    name: String,
    tier: String,
    overrides: String,
    created_at_ms: i64,
    wake: Option<bool>,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            tier: row.get(2)?,
            overrides: row.get(3)?,
            created_at_ms: row.get(4)?,
            wake: row.get(5)?,
        })
    }

    fn parse(self) -> Result<TenantRow, StoreError> {
        let unreadable = |what, text: &str| StoreError::Unreadable {
            what,
            text: text.to_owned(),
        };
        Ok(TenantRow {
            tier: self.tier.parse().map_err(|_| unreadable("tier", &self.tier))?,
            overrides: serde_json::from_str(&self.overrides)
                .map_err(|_| unreadable("list of limits", &self.overrides))?,
            id: self.id,
            name: self.name,
            wake: self.wake,
            created_at_ms: read(self.created_at_ms),
        })
    }
}

fn json(overrides: &Overrides) -> Result<String, StoreError> {
    serde_json::to_string(overrides).map_err(|error| StoreError::Unreadable {
        what: "list of limits",
        text: error.to_string(),
    })
}

/// SQLite's numbers are signed.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn read(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
