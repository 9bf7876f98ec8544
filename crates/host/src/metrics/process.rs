//! The daemon's own process, as `/proc` tells it.

use std::fs;
use std::time::Duration;

use super::families::Families;

/// Ticks of the kernel's process times: `USER_HZ`, which is 100 on every architecture Linux runs VMs on.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// Zero where it cannot be learned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessState {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_fds: u64,
    max_fds: u64,
    threads: u64,
}

impl ProcessState {
    /// Reads a few files: not for the runtime's own threads.
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let field = |number: usize| stat_field(&stat, number).unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted = kernel.lines().find_map(|line| line.strip_prefix("btime "));
        let booted: f64 = booted.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0);
        Self {
            cpu_seconds: real(field(14) + field(15)) / TICKS_PER_SECOND,
            start_seconds: booted + real(field(22)) / TICKS_PER_SECOND,
            virtual_bytes: field(23),
            resident_bytes: field(24) * PAGE_BYTES,
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            max_fds: limits
                .lines()
                .find_map(|line| line.strip_prefix("Max open files"))
                .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
                .unwrap_or_default(),
            threads: field(20),
        }
    }

    pub(super) fn register(&self, families: &mut Families<'_>) {
        let cpu = prometheus_client::metrics::counter::ConstCounter::new(self.cpu_seconds);
        let help = "CPU time the daemon has used";
        families.0.register("process_cpu_seconds", help, cpu);
        let help = "When the daemon was started, in seconds since the Unix epoch";
        families
            .real("process_start_time_seconds", help)
            .set(self.start_seconds);
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory of the daemon that is in RAM",
                self.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Addresses the daemon has mapped",
                self.virtual_bytes,
            ),
            (
                "process_open_fds",
                "File descriptors the daemon has open",
                self.open_fds,
            ),
            (
                "process_max_fds",
                "File descriptors the daemon may have open",
                self.max_fds,
            ),
            ("process_threads", "Threads of the daemon", self.threads),
        ] {
            families
                .gauge(name, help)
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

/// CPU time of a process so far, from what the kernel counts anyway.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat_field(&stat, 14)? + stat_field(&stat, 15)?;
    Some(Duration::from_secs_f64(real(ticks) / TICKS_PER_SECOND))
}

/// A field of a line of `/proc/<pid>/stat`, numbered as in proc_pid_stat(5) from 4 on. The name before it is in
/// parentheses and may hold anything.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "2^52 ticks are a million years")]
fn real(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_all_of_it() {
        let state = ProcessState::read();
        assert!(state.resident_bytes > 0 && state.virtual_bytes >= state.resident_bytes);
        assert!(state.open_fds > 2 && state.max_fds >= state.open_fds);
        assert!(state.threads > 0 && state.start_seconds > 1e9);
        assert_eq!(stat_field("7 (a) b) S 42 7", 4), Some(42));
        assert!(cpu_time(std::process::id()).is_some());
        assert_eq!(cpu_time(0), None);
    }
}
