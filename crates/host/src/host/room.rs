//! Room for one more: VMs that wait in pools give way to those that somebody wants.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::Host;
use super::turns::Line;
use crate::budget::{OverBudget, Reservation};
use crate::disk::DiskFull;
use crate::memory::{Pressure, TooLittle};
use crate::sandbox::Message;
use crate::tenants::{Account, Turn, TurnRefused};

/// What a VM needs to boot.
const BOOT_MIB: u64 = 160;

/// Why there is no room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoRoom {
    OverBudget(OverBudget),
    TooLittle(TooLittle),
    Disk(DiskFull),
}

/// Why a call whose turn it was could not go on.
#[derive(Debug)]
pub(super) enum Unserved {
    NoRoom(NoRoom),
    Turn(TurnRefused),
}

impl Host {
    /// Room for what a turn is for. Who has to wait for room does not keep others from their turns, and takes another
    /// turn afterwards.
    pub(super) async fn room_at_turn(
        &self,
        turn: Turn,
        line: Line<'_>,
        mib: u64,
        account: &Account,
    ) -> Result<(Reservation, Turn), Unserved> {
        // The budget has all of a booted VM's memory; what it needs at once the host must have, too: clones may have come
        // to use more than they count for.
        let at_once_mib = if matches!(line, Line::Boot) {
            mib.min(BOOT_MIB)
        } else {
            mib
        };
        if let Ok(reservation) = self.budget.take_now(mib)
            && self.memory.admit(at_once_mib).is_ok()
        {
            return Ok((reservation, turn));
        }
        drop(turn);
        let room = self.room_now(mib, at_once_mib, account).await;
        let reservation = room.map_err(Unserved::NoRoom)?;
        let turn = self
            .turns
            .enter(line, account.tenant())
            .await
            .map_err(Unserved::Turn)?;
        Ok((reservation, turn))
    }

    /// Room for VMs that count for so much, and need a part of it at once. Clones share the rest, and may come to use
    /// more: the host's available memory is what bounds that.
    async fn room_now(&self, mib: u64, at_once_mib: u64, account: &Account) -> Result<Reservation, NoRoom> {
        let reservation = self.room(mib, account).await?;
        let deadline = Instant::now() + self.config.timing.room_patience;
        loop {
            match self.memory.admit(at_once_mib) {
                Ok(()) => return Ok(reservation),
                Err(refused)
                    if !self.squeeze()
                        && (Instant::now() >= deadline || !self.tenants.is_below_share(account)) =>
                {
                    return Err(NoRoom::TooLittle(refused));
                }
                // What that gives back shows at the next look at the host's memory.
                Err(_) => drop(self.memory.next_look().await),
            }
        }
    }

    /// Room in the budget.
    ///
    /// A tenant with less than its share waits for what others give back, and gets it before them; others are told at
    /// once that there is none.
    async fn room(&self, mib: u64, account: &Account) -> Result<Reservation, NoRoom> {
        loop {
            if let Ok(reservation) = self.budget.take_now(mib) {
                return Ok(reservation);
            }
            // Emptying the pools for what will never fit helps nobody.
            if mib > self.budget.total_mib() || !self.squeeze() {
                let reserved = if mib <= self.budget.total_mib() && self.tenants.is_below_share(account) {
                    self.budget
                        .reserve_first(mib, self.config.timing.room_patience)
                        .await
                } else {
                    self.budget.reserve(mib).await
                };
                return reserved.map_err(NoRoom::OverBudget);
            }
        }
    }

    /// Ends one VM that waits in a pool. False when there is none.
    fn squeeze(&self) -> bool {
        self.nurseries.values().any(|nursery| nursery.squeeze())
    }

    /// Keeps the host's kernel from having to choose what to end. Never ends.
    pub(super) async fn guard_memory(host: Weak<Self>) {
        let mut critical = 0_u32;
        loop {
            let Some(watch) = host.upgrade().map(|host| Arc::clone(&host.memory)) else {
                return;
            };
            match watch.next_look().await {
                Pressure::None => critical = 0,
                Pressure::Critical => critical += 1,
            }
            let Some(host) = host.upgrade() else { return };
            if critical > 0 && !host.squeeze() && critical > 1 {
                if !host.lose_the_oldest_checkpoint().await && !host.freeze_for_memory().await {
                    host.end_the_largest().await;
                }
                critical = 0;
            }
        }
    }

    /// Of two evils: whoever has a checkpoint still has the sandbox. False when there is none.
    async fn lose_the_oldest_checkpoint(&self) -> bool {
        let all: Vec<_> = self
            .registry()
            .all()
            .flat_map(|sandbox| sandbox.checkpoints.all())
            .collect();
        let kept = all.into_iter().filter(|checkpoint| checkpoint.lost().is_none());
        let Some(oldest) = kept.min_by_key(|checkpoint| checkpoint.created_at_ms) else {
            return false;
        };
        if let Some(mut kept) = oldest.open().await {
            oldest.lose(&mut kept, "the host ran out of memory".to_owned());
        }
        true
    }

    /// Ends the sandbox that gives most back.
    async fn end_the_largest(&self) {
        let sandboxes: Vec<_> = self.registry().all().cloned().collect();
        let own_mib = self.config.memory.own;
        let measured = tokio::task::spawn_blocking(move || {
            let sizes = sandboxes.into_iter().filter_map(|sandbox| {
                let mib = own_mib(sandbox.vmm_pid()?)?;
                Some((mib, sandbox))
            });
            sizes.max_by_key(|(mib, _)| *mib)
        });
        if let Ok(Some((mib, sandbox))) = measured.await {
            let why = format!("the host ran out of memory, and this sandbox held the most of it ({mib} MiB)");
            tracing::error!(sandbox_id = %sandbox.id(), mib, "the host is out of memory; ending a sandbox");
            sandbox.tell(Message::Fail(why)).await;
        }
    }
}
