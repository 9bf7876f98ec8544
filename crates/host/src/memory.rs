//! The host's memory as its kernel sees it.
//!
//! Clones share memory, so what they could use at most adds up to far more than there is. They are admitted by what
//! clones were measured to need, and only while the host really has that much left above a floor.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifecycle::Room;
use tokio::time::sleep;

/// Of the x86-64 kernel's counters.
const PAGE_BYTES: u64 = 4096;

/// How often memory is looked at, far from the floor and near it.
const CALM: Duration = Duration::from_secs(1);
const ALERT: Duration = Duration::from_millis(200);

/// Tells how much memory is available, in MiB. Tests have their own.
pub type Probe = fn() -> Option<u64>;

pub(crate) struct MemoryWatch {
    probe: Probe,
    floor_mib: u64,
    /// At the last look; without limit when it cannot be learned.
    available_mib: AtomicU64,
    /// Admitted since then.
    promised_mib: AtomicU64,
}

/// The host has too little left, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLittle {
    pub(crate) wanted_mib: u64,
    pub(crate) available_mib: u64,
    pub(crate) floor_mib: u64,
}

/// How the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    None,
    /// Half of what must stay free is gone: something must end before the kernel chooses what.
    Critical,
}

impl MemoryWatch {
    pub(crate) fn new(probe: Probe, floor_mib: u64) -> Arc<Self> {
        let watch = Self {
            available_mib: AtomicU64::new(u64::MAX),
            promised_mib: AtomicU64::new(0),
            probe,
            floor_mib,
        };
        watch.look();
        Arc::new(watch)
    }

    /// Admits something that will soon need so much.
    pub(crate) fn admit(&self, wanted_mib: u64) -> Result<(), TooLittle> {
        let available_mib = self.left();
        if available_mib < self.floor_mib.saturating_add(wanted_mib) {
            return Err(TooLittle {
                wanted_mib,
                available_mib,
                floor_mib: self.floor_mib,
            });
        }
        self.promised_mib.fetch_add(wanted_mib, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there is room for one more VM of a pool.
    pub(crate) fn room(&self, one_more_mib: u64) -> Room {
        Room::of(self.left(), self.floor_mib, one_more_mib)
    }

    /// Waits until the next look is due, and looks.
    pub(crate) async fn next_look(&self) -> Pressure {
        let near = self.available_mib.load(Ordering::Relaxed) < self.floor_mib.saturating_mul(3);
        sleep(if near { ALERT } else { CALM }).await;
        self.look();
        if self.is_critical() {
            Pressure::Critical
        } else {
            Pressure::None
        }
    }

    /// At the last look.
    pub(crate) fn is_critical(&self) -> bool {
        self.available_mib.load(Ordering::Relaxed) < self.floor_mib / 2
    }

    fn look(&self) {
        let available = (self.probe)().unwrap_or(u64::MAX);
        self.promised_mib.store(0, Ordering::Relaxed);
        self.available_mib.store(available, Ordering::Relaxed);
    }

    fn left(&self) -> u64 {
        let available = self.available_mib.load(Ordering::Relaxed);
        available.saturating_sub(self.promised_mib.load(Ordering::Relaxed))
    }
}

/// What the host's kernel says a new process could use without swapping, in MiB.
#[must_use]
pub fn memory_available_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some(kib_after(&text, "MemAvailable:")? / 1024)
}

/// Memory of a process in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Shared or not.
    pub(crate) resident_bytes: u64,
    /// What no file backs.
    pub(crate) own_bytes: u64,
}

/// From counters the kernel keeps anyway.
pub(crate) fn memory_of(pid: u32) -> Option<Memory> {
    // Fields: size, resident, of it backed by files, …, in pages (proc_pid_statm(5)).
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut fields = text.split_ascii_whitespace().skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let of_files: u64 = fields.next()?.parse().ok()?;
    Some(Memory {
        resident_bytes: resident * PAGE_BYTES,
        own_bytes: resident.saturating_sub(of_files) * PAGE_BYTES,
    })
}

/// Memory that only this process has, in MiB. Walks its page tables: not for where somebody waits.
#[must_use]
pub fn private_mib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = kib_after(&text, "Private_Dirty:")? + kib_after(&text, "Private_Clean:")?;
    Some(kib / 1024)
}

fn kib_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_admitted_counts_until_the_next_look() {
        let watch = MemoryWatch::new(|| Some(1000), 256);
        watch.admit(700).unwrap();
        let refusal = watch.admit(50).unwrap_err();
        let expected = TooLittle {
            wanted_mib: 50,
            available_mib: 300,
            floor_mib: 256,
        };
        assert_eq!(refusal, expected);
        assert_eq!(watch.room(30), Room::Tight);
        watch.look();
        watch.admit(50).unwrap();
        assert_eq!(watch.room(30), Room::Ample);
    }

    #[test]
    fn a_host_that_does_not_tell_its_memory_admits_everything() {
        let watch = MemoryWatch::new(|| None, 256);
        watch.admit(1 << 40).unwrap();
    }

    #[test]
    fn a_process_has_memory_of_its_own() {
        assert!(private_mib(std::process::id()).unwrap() < memory_available_mib().unwrap() * 100);
        assert_eq!(private_mib(0), None);
    }
}
