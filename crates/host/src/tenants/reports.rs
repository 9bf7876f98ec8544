//! What is told of tenants, keys, usage and the audit log.

use api::{
    AuditEntry, AuditPage, AuditQuery, KeyInfo, KeyState, TenantInfo, UsageDay, UsageFigures, UsageReport,
};

use super::directory::Key;
use super::keeper::today;
use super::{Account, Tenants};
use crate::auth::Tenant;
use crate::clock;
use crate::store::{AuditFilter, AuditRow, StoreError, UsageDelta, UsageRow};

impl Tenants {
    pub(crate) fn describe(&self, account: &Account) -> TenantInfo {
        let now_ms = clock::now_ms();
        let directory = self.directory();
        let of_it = directory
            .keys()
            .filter(|key| key.account.tenant() == account.tenant());
        let valid = of_it.filter(|key| key.is_valid(now_ms)).count();
        TenantInfo {
            name: account.name().to_owned(),
            tier: account.tier(),
            limits: account.limits(),
            overrides: account.overrides(),
            wake: account.wake(),
            created_at_ms: account.created_at_ms(),
            keys: u32::try_from(valid).unwrap_or(u32::MAX),
            sandboxes: account.held(),
            runs: account.runs(),
        }
    }

    /// All keys, those that are not valid any more included, oldest first.
    pub(crate) fn key_infos(&self) -> Vec<KeyInfo> {
        let mut keys: Vec<_> = self.directory().keys().map(|key| key.describe()).collect();
        keys.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
        keys
    }

    /// What one tenant or all have used in the last days, up to this moment.
    pub(crate) async fn usage(
        &self,
        tenant: Option<Tenant>,
        days: u64,
    ) -> Result<Vec<UsageReport>, StoreError> {
        self.flush().await?;
        let first = today().saturating_sub(i64::try_from(days).unwrap_or(i64::MAX)) + 1;
        let id = tenant.map(|tenant| tenant.0);
        let rows = self.store.run(move |db| UsageRow::since(db, id, first)).await?;
        let mut reports: Vec<(i64, UsageReport)> = Vec::new();
        for row in rows {
            let used = figures(&row.used);
            let day = UsageDay { day: row.date, used };
            match reports.last_mut().filter(|(id, _)| *id == row.tenant_id) {
                Some((_, report)) => {
                    report.total = report.total.plus(&used);
                    report.days.push(day);
                }
                None => {
                    let report = UsageReport {
                        tenant: row.tenant,
                        total: used,
                        days: vec![day],
                    };
                    reports.push((row.tenant_id, report));
                }
            }
        }
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// A page of the audit log, with what has happened until a moment ago.
    pub(crate) async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let limit = query.limit;
        let filter = AuditFilter {
            before: query.before.and_then(|id| i64::try_from(id).ok()),
            tenant: query.tenant,
            action: query.action,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        let rows = self.store.run(move |db| AuditRow::select(db, &filter)).await?;
        let entries: Vec<_> = rows.into_iter().map(entry).collect();
        let is_full = entries.len() as u64 == limit;
        Ok(AuditPage {
            next_before: entries.last().map(|entry| entry.id).filter(|_| is_full),
            entries,
        })
    }
}

impl Key {
    pub(crate) fn describe(&self) -> KeyInfo {
        let now_ms = clock::now_ms();
        let state = match (self.revoked_at_ms(), self.expires_at_ms()) {
            (Some(_), _) => KeyState::Revoked,
            (None, None) => KeyState::Valid,
            (None, Some(at_ms)) if now_ms < at_ms => KeyState::Expiring,
            (None, Some(_)) => KeyState::Expired,
        };
        KeyInfo {
            id: self.id.to_string(),
            tenant: self.account.name().to_owned(),
            name: self.name.clone(),
            state,
            tail: self.tail.clone(),
            environment: self.is_environment,
            created_at_ms: self.created_at_ms,
            last_used_ms: self.last_used_ms(),
            expires_at_ms: self.expires_at_ms(),
            revoked_at_ms: self.revoked_at_ms(),
        }
    }
}

fn figures(used: &UsageDelta) -> UsageFigures {
    UsageFigures {
        sandboxes: used.sandboxes,
        sandbox_seconds: std::time::Duration::from_millis(used.sandbox_ms).as_secs_f64(),
        execs: used.execs,
        bytes_in: used.bytes_in,
        bytes_out: used.bytes_out,
        network_sent_bytes: used.network_sent,
        network_received_bytes: used.network_received,
    }
}

fn entry(row: AuditRow) -> AuditEntry {
    AuditEntry {
        id: u64::try_from(row.id).unwrap_or(0),
        at_ms: row.at_ms,
        actor: row.actor.to_owned(),
        tenant: row.tenant,
        key_id: row.key_id,
        remote: row.remote,
        action: row.action,
        target: row.target,
        result: row.result,
        detail: row.detail,
    }
}
