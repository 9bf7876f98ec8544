//! Durable truth: tenants, keys, usage and the audit log, in one SQLite database.
//!
//! ```text
//!  async tasks ──jobs──▶ bounded channel ──▶ one thread with the only connection ──▶ podflare.db (WAL)
//! ```
//!
//! Nothing between a request and its VM waits for it: what requests need is in memory (see [`crate::tenants`]) and
//! changes when the store has changed. A job is a transaction of its own; it is on the disk when its answer is there.
//!
//! A database that is damaged, that belongs to something else or that a newer version has made is refused, never
//! deleted or repaired: its owner has to decide.

mod audit;
mod deliveries;
mod error;
mod keys;
mod open;
mod schema;
mod secrets;
mod tenants;
#[cfg(test)]
mod tests;
mod usage;
mod webhooks;
mod worker;

pub(crate) use audit::{AuditFilter, AuditRow, Retention};
pub(crate) use deliveries::{AttemptRow, DeliveryRow, Outcome, PENDING};
pub(crate) use error::StoreError;
pub(crate) use keys::KeyRow;
pub use open::StoreOpenError;
pub(crate) use secrets::SecretRow;
pub(crate) use tenants::{NewTenant, TenantRow};
pub(crate) use usage::{UsageDelta, UsageRow};
pub(crate) use webhooks::HookRow;
pub(crate) use worker::{CheckReport, Store};

/// The store's one connection, lent to a job.
pub(crate) type Transaction<'a> = rusqlite::Transaction<'a>;
