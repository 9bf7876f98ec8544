//! Sandboxes whose time has run out, and changes of that time.

use std::sync::{Arc, Weak};

use api::{ChangeRequest, FreezeCause};
use lifecycle::{EndReason, Expiry, Phase, TooShort, Verdict, Wish};
use pod_types::SandboxId;

use super::Host;
use crate::auth::Tenant;
use crate::events;
use crate::happenings::Happening;
use crate::lifetimes::Fate;
use crate::sandbox::{Message, NotInForce, Sandbox, Terms, Title};

/// Why the terms of a sandbox are not changed.
#[derive(Debug)]
pub(crate) enum ChangeRefused {
    Unknown,
    TooShort(TooShort),
    /// It is not known yet whether what it may reach from now on holds.
    NotInForce,
}

impl Host {
    /// Ends sandboxes in time. Never ends.
    pub(super) async fn keep_time(host: Weak<Self>) {
        let Some(scheduler) = host.upgrade().map(|host| Arc::clone(&host.scheduler)) else {
            return;
        };
        loop {
            let due = scheduler.next().await;
            let Some(host) = host.upgrade() else { return };
            host.look_at(&due);
        }
    }

    /// Puts a sandbox on the agenda. To be called when its terms have become others; uses take care of themselves.
    pub(super) fn watch(&self, sandbox: &Arc<Sandbox>) {
        let at = match sandbox.verdict() {
            Verdict::Over(_) => self.scheduler.uptime().now(),
            Verdict::LookAt(at) => at,
            Verdict::Never => return sandbox.set_alarm(None),
        };
        sandbox.set_alarm(Some(self.scheduler.set(at, sandbox)));
    }

    fn look_at(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        match sandbox.verdict() {
            Verdict::Over(Expiry::Idle) if sandbox.may_freeze() => self.freeze_idle(sandbox),
            Verdict::Over(which) => self.expire(sandbox, which),
            Verdict::LookAt(_) | Verdict::Never => self.watch(sandbox),
        }
    }

    /// Freezes a sandbox that nobody uses. What cannot be frozen goes on living, and is watched from then on as if it had
    /// been used.
    fn freeze_idle(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let (host, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        self.owners.spawn(async move {
            if host.freeze(&sandbox, FreezeCause::Idle).await.is_err() {
                sandbox.touch();
                host.watch(&sandbox);
            }
        });
    }

    /// Ends a sandbox.
    fn expire(self: &Arc<Self>, sandbox: &Arc<Sandbox>, which: Expiry) {
        let (title, closed) = {
            // Under the lock: a merge may give it another id and other terms.
            let mut registry = self.registry();
            let title = sandbox.title();
            if sandbox.verdict() != Verdict::Over(which) {
                drop(registry);
                return self.watch(sandbox);
            }
            let reason = EndReason::Expired(which);
            let closed = sandbox.advance(|machine| match which {
                Expiry::Lifetime => machine.end_unless_freezing(reason),
                Expiry::Idle => machine.end_unless_used(reason),
            });
            if closed {
                registry.forget(sandbox);
            }
            (title, closed)
        };
        if !closed {
            return match sandbox.phase() {
                // Whoever holds it until its VM is gone needs no more looks.
                Phase::Ending { .. } | Phase::Gone { .. } => sandbox.set_alarm(None),
                // It is a space in a moment, or goes on after all.
                Phase::Freezing => {
                    let soon = self.scheduler.uptime().now().plus_s(1);
                    sandbox.set_alarm(Some(self.scheduler.set(soon, sandbox)));
                }
                // Somebody came at the last moment.
                _ => self.watch(sandbox),
            };
        }
        let Title { id, terms } = title;
        let fate = Fate {
            which,
            after_s: terms.seconds(which),
        };
        self.obituaries
            .write(id, sandbox.tenant, fate, self.scheduler.uptime().now());
        self.metrics().expirations.count(which);
        tracing::info!(
            event = events::SANDBOX_EXPIRED,
            sandbox_id = %id,
            which = ?which,
            after_s = fate.after_s,
            "sandbox expired"
        );
        self.happened(sandbox, Happening::Expired { which });
        self.dismiss(sandbox, EndReason::Expired(which));
    }

    /// Has the VM of a sandbox end that nobody knows any more.
    pub(super) fn dismiss(&self, sandbox: &Arc<Sandbox>, reason: EndReason) {
        sandbox.forget_record();
        sandbox.leave_slot();
        let mailbox = sandbox.mailbox();
        // An owner that is busy has room for the word; if not, somebody waits for it who is not the client.
        if let Err(error) = mailbox.try_send(Message::End(reason)) {
            let word = error.into_inner();
            self.owners.spawn(async move { drop(mailbox.send(word).await) });
        }
    }

    /// What became of a tenant's sandbox whose time ran out, and how many seconds ago.
    pub(crate) fn fate(&self, id: SandboxId, tenant: Tenant) -> Option<(Fate, u64)> {
        self.obituaries.of(id, tenant, self.scheduler.uptime().now())
    }

    /// Gives a sandbox other terms, which counts as a use. What is asked for is capped without a word, as when it was
    /// created. What it may reach holds when this returns.
    pub(crate) async fn change(
        &self,
        id: SandboxId,
        tenant: Tenant,
        wanted: &ChangeRequest,
    ) -> Result<Arc<Sandbox>, ChangeRefused> {
        let sandbox = {
            // Titles change under this lock only.
            let registry = self.registry();
            let sandbox = Arc::clone(registry.find(id, tenant).ok_or(ChangeRefused::Unknown)?);
            let limits = sandbox.account.limits();
            let Title { id, terms } = sandbox.title();
            let lifetime = terms.lifetime().change(
                self.scheduler.uptime().now(),
                (wish(wanted.timeout_seconds), wish(wanted.idle_timeout_seconds)),
                (limits.timeout_seconds, limits.idle_timeout_seconds),
            );
            let lifetime = lifetime.map_err(ChangeRefused::TooShort)?;
            let persistent = wanted.persistent.map(|wanted| wanted && limits.persistent);
            let terms = Terms {
                timeout_seconds: lifetime.life_s,
                idle_timeout_seconds: lifetime.idle_s,
                persistent: persistent.unwrap_or(terms.persistent),
                ..terms
            };
            sandbox.touch();
            sandbox.rename(Title { id, terms });
            if let Some(egress) = &wanted.egress {
                sandbox.wire.set_policy(egress.clone());
            }
            sandbox
        };
        sandbox.note_change();
        self.watch(&sandbox);
        if wanted.egress.is_some() {
            let settled = sandbox.network_settles().await;
            settled.map_err(|NotInForce| ChangeRefused::NotInForce)?;
        }
        Ok(sandbox)
    }
}

fn wish(wanted: api::Wish) -> Wish {
    match wanted {
        api::Wish::Keep => Wish::Keep,
        api::Wish::Most => Wish::Most,
        api::Wish::Seconds(seconds) => Wish::Seconds(seconds),
    }
}
