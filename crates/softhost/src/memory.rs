//! How much memory the software host gets.

use std::fs;

use thiserror::Error;

/// Least memory the machine works with, in MiB: about 300 for itself, the rest for one sandbox of 1 GiB.
pub const MEMORY_MIB_MIN: u32 = 1536;
/// Most memory it takes unasked, in MiB.
const MEMORY_MIB_DEFAULT_MAX: u32 = 8192;
/// What is left to everything else when a user names an amount, in MiB; QEMU itself needs some of it.
const RESERVE_MIB: u32 = 256;

/// Why the machine cannot have memory.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MemoryError {
    #[error(
        "too little memory: {available} MiB are free, the software host takes half of that and needs at least \
         {MEMORY_MIB_MIN} MiB; free some, or set an amount with --memory"
    )]
    TooLittle { available: u32 },
    #[error("{asked} MiB are too little for the software host; it needs at least {MEMORY_MIB_MIN} MiB")]
    BelowMinimum { asked: u32 },
    #[error(
        "{asked} MiB of memory are not there: {available} MiB are free, of which {RESERVE_MIB} stay free"
    )]
    NotThere { asked: u32, available: u32 },
    #[error("cannot tell how much memory is free: /proc/meminfo has no MemAvailable")]
    Unknown,
}

/// Decides how many MiB the machine gets.
///
/// # Errors
/// When too little is free, or less than is asked for.
pub fn machine_memory_mib(asked: Option<u32>) -> Result<u32, MemoryError> {
    decide(asked, available_mib().ok_or(MemoryError::Unknown)?)
}

/// Free memory in MiB, as far as this control group may use it.
#[must_use]
pub fn available_mib() -> Option<u32> {
    let free_mib = parse_available_kib(&fs::read_to_string("/proc/meminfo").ok()?)? / 1024;
    let number = |file: &str| {
        fs::read_to_string(format!("/sys/fs/cgroup/{file}"))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    // Absent outside containers and where there is no limit.
    let group_mib =
        number("memory.max").map(|limit| limit.saturating_sub(number("memory.current").unwrap_or(0)) >> 20);
    u32::try_from(group_mib.map_or(free_mib, |group| group.min(free_mib))).ok()
}

fn decide(asked: Option<u32>, available: u32) -> Result<u32, MemoryError> {
    match asked {
        Some(asked) if asked < MEMORY_MIB_MIN => Err(MemoryError::BelowMinimum { asked }),
        Some(asked) if asked > available.saturating_sub(RESERVE_MIB) => {
            Err(MemoryError::NotThere { asked, available })
        }
        Some(asked) => Ok(asked),
        None if available / 2 < MEMORY_MIB_MIN => Err(MemoryError::TooLittle { available }),
        None => Ok((available / 2).min(MEMORY_MIB_DEFAULT_MAX)),
    }
}

fn parse_available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_free_is_taken_up_to_8_gib() {
        assert_eq!(decide(None, 6000), Ok(3000));
        assert_eq!(decide(None, 64000), Ok(8192));
    }

    #[test]
    fn too_little_is_refused_with_what_is_free_and_what_is_needed() {
        let text = decide(None, 2000).unwrap_err().to_string();
        assert!(text.contains("2000") && text.contains("1536"), "{text}");
    }

    #[test]
    fn an_amount_asked_for_must_be_enough_and_be_there() {
        assert_eq!(decide(Some(4096), 5000), Ok(4096));
        assert_eq!(
            decide(Some(512), 5000),
            Err(MemoryError::BelowMinimum { asked: 512 })
        );
        assert_eq!(
            decide(Some(4096), 4200),
            Err(MemoryError::NotThere {
                asked: 4096,
                available: 4200
            })
        );
    }

    #[test]
    fn this_machine_says_what_is_free() {
        assert_eq!(
            parse_available_kib("MemTotal: 5 kB\nMemAvailable:   1234 kB\n"),
            Some(1234)
        );
        assert_eq!(parse_available_kib("MemAvailable: x kB"), None);
        assert!(available_mib().unwrap() > 0);
    }
}
