//! The tables, and how older databases become what this version expects.
//!
//! To change them: append a step to [`STEPS`], never edit one that was released. `PRAGMA user_version` counts the
//! steps that a database has taken; all that are missing are taken in one transaction.

use rusqlite::{Connection, TransactionBehavior};

/// `application_id` of our databases: the letters "PdFl".
pub(super) const APPLICATION_ID: i64 = 0x5064_466c;

/// What this version expects in `user_version`: the number of steps.
pub(super) const VERSION: i64 = 5;

const STEPS: [&str; 5] = [TENANTS, WEBHOOKS, WAKE, NETWORK, SECRETS];

/// Times are milliseconds since the Unix epoch. Usage and audit rows outlive their tenants and keys, so they refer to
/// them without a constraint. A tenant's number is never given to another.
const TENANTS: &str = "
CREATE TABLE tenants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    tier TEXT NOT NULL,
    overrides TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant_id INTEGER NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    tail TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    last_used_ms INTEGER,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER
) STRICT;
CREATE INDEX keys_by_tenant ON keys (tenant_id);

CREATE TABLE usage (
    tenant_id INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    day INTEGER NOT NULL,
    sandboxes INTEGER NOT NULL,
    sandbox_ms INTEGER NOT NULL,
    execs INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    tenant TEXT NOT NULL,
    key_id TEXT,
    remote TEXT,
    action TEXT NOT NULL,
    target TEXT,
    result TEXT NOT NULL,
    detail TEXT
) STRICT;
CREATE INDEX audit_by_time ON audit (at_ms);
";

/// Secrets are kept as they are: signing needs them. A delivery's number gives the order in which things happened; the
/// numbers of those that are pending are looked up by webhook and time, and by webhook and sandbox.
const WEBHOOKS: &str = "
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    tenant_id INTEGER NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    description TEXT NOT NULL,
    secret TEXT NOT NULL,
    old_secret TEXT,
    old_secret_until_ms INTEGER,
    enabled INTEGER NOT NULL,
    disabled_reason TEXT,
    created_at_ms INTEGER NOT NULL,
    failing_since_ms INTEGER,
    last_success_ms INTEGER
) STRICT;
CREATE INDEX webhooks_by_tenant ON webhooks (tenant_id);

CREATE TABLE deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    webhook_id TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    sandbox TEXT NOT NULL,
    event_id TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    replay_of TEXT
) STRICT;
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, number);
CREATE INDEX deliveries_due ON deliveries (webhook_id, next_ms, number) WHERE state = 'pending';
CREATE INDEX deliveries_in_order ON deliveries (webhook_id, sandbox, number) WHERE state = 'pending';

CREATE TABLE attempts (
    delivery INTEGER NOT NULL REFERENCES deliveries (number) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status INTEGER,
    error TEXT,
    answer TEXT NOT NULL,
    PRIMARY KEY (delivery, attempt)
) STRICT, WITHOUT ROWID;
";

/// Whether requests wake a tenant's frozen sandboxes; NULL is as the host has it.
const WAKE: &str = "ALTER TABLE tenants ADD COLUMN wake INTEGER CHECK (wake IN (0, 1));";

/// What sandboxes sent into the world, and received from it.
const NETWORK: &str = "
ALTER TABLE usage ADD COLUMN network_sent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN network_received INTEGER NOT NULL DEFAULT 0;
";

/// Values are sealed, with a key that is not here.
const SECRETS: &str = "
CREATE TABLE secrets (
    tenant_id INTEGER NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    placeholder TEXT NOT NULL,
    hosts TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name)
) STRICT, WITHOUT ROWID;
";

/// Takes the steps that are missing.
pub(super) fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken = usize::try_from(from).unwrap_or(0);
    for step in STEPS.iter().skip(taken) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_of_an_older_database_are_as_the_host_is_set() {
        let mut database = Connection::open_in_memory().unwrap();
        for step in [TENANTS, WEBHOOKS] {
            database.execute_batch(step).unwrap();
        }
        let insert =
            "INSERT INTO tenants (name, tier, overrides, created_at_ms) VALUES ('a', 'pro', '{}', 1)";
        database.execute(insert, []).unwrap();
        migrate(&mut database, 2).unwrap();
        let wake = database.query_row("SELECT wake FROM tenants", [], |row| {
            row.get::<_, Option<bool>>(0)
        });
        assert_eq!(wake, Ok(None));
    }

    #[test]
    fn the_version_is_the_number_of_steps_and_each_is_sound() {
        assert_eq!(usize::try_from(VERSION), Ok(STEPS.len()));
        let mut database = Connection::open_in_memory().unwrap();
        migrate(&mut database, 0).unwrap();
        migrate(&mut database, VERSION).unwrap();
        let version = database.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
        assert_eq!(version, Ok(VERSION));
    }
}
