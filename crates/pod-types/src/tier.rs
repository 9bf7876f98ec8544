//! Tiers: what a tenant may have, and how single limits differ from its tier's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A named set of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    Free,
    Pro,
    Scale,
    /// No limit but what the host has: for those whose host it is.
    Unlimited,
}

/// One thing that can be limited. The names are part of the API and of the database: add, never rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Sandboxes at once, those that failed and were not deleted included.
    Sandboxes,
    /// Sandboxes created or forked each minute, in the long run.
    CreatesPerMinute,
    /// Sandboxes that may be created at once before that rate counts.
    CreateBurst,
    /// Runs in progress or queued at once, over all sandboxes.
    Runs,
    TimeoutSeconds,
    IdleTimeoutSeconds,
    RamMib,
    RootfsGb,
    /// Frozen sandboxes.
    Spaces,
    /// Room that all of them take on the host's disk.
    SpacesMib,
}

/// Limits of one tenant that differ from its tier's; `None` lifts one.
pub type Overrides = BTreeMap<Limit, Option<u64>>;

/// What one tenant may have. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub sandboxes: Option<u64>,
    pub creates_per_minute: Option<u64>,
    pub create_burst: Option<u64>,
    pub runs: Option<u64>,
    pub timeout_seconds: Option<u64>,
    pub idle_timeout_seconds: Option<u64>,
    pub ram_mib: Option<u64>,
    pub rootfs_gb: Option<u64>,
    pub spaces: Option<u64>,
    pub spaces_mib: Option<u64>,
    /// Whether sandboxes may be frozen instead of destroyed.
    pub persistent: bool,
}

/// Why a text names no tier or limit.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("expected one of {expected}")]
pub struct UnknownName {
    pub expected: &'static str,
}

impl Tier {
    pub const NAMES: &'static str = "free, pro, scale, unlimited";

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Scale => "scale",
            Self::Unlimited => "unlimited",
        }
    }

    /// Lifetimes and sizes are those that the hosted original publishes; it keeps its counts to itself, so those are ours.
    #[must_use]
    pub fn limits(self) -> Limits {
        let tier = |counts: [u64; 4], seconds: [u64; 2], sizes: [u64; 2], spaces: [u64; 2]| Limits {
            sandboxes: Some(counts[0]),
            creates_per_minute: Some(counts[1]),
            create_burst: Some(counts[2]),
            runs: Some(counts[3]),
            timeout_seconds: Some(seconds[0]),
            idle_timeout_seconds: Some(seconds[1]),
            ram_mib: Some(sizes[0]),
            rootfs_gb: Some(sizes[1]),
            spaces: Some(spaces[0]),
            spaces_mib: Some(spaces[1]),
            persistent: true,
        };
        match self {
            Self::Free => Limits {
                persistent: false,
                ..tier([5, 60, 10, 8], [30 * 60, 5 * 60], [1024, 4], [0, 0])
            },
            Self::Pro => tier([50, 600, 60, 64], [8 * 3600, 30 * 60], [4096, 16], [50, 64 << 10]),
            Self::Scale => tier(
                [250, 3000, 300, 256],
                [24 * 3600, 2 * 3600],
                [16_384, 64],
                [500, 512 << 10],
            ),
            Self::Unlimited => Limits {
                sandboxes: None,
                creates_per_minute: None,
                create_burst: None,
                runs: None,
                timeout_seconds: None,
                idle_timeout_seconds: None,
                ram_mib: None,
                rootfs_gb: None,
                spaces: None,
                spaces_mib: None,
                persistent: true,
            },
        }
    }
}

impl Limit {
    pub const ALL: [Self; 10] = [
        Self::Sandboxes,
        Self::CreatesPerMinute,
        Self::CreateBurst,
        Self::Runs,
        Self::TimeoutSeconds,
        Self::IdleTimeoutSeconds,
        Self::RamMib,
        Self::RootfsGb,
        Self::Spaces,
        Self::SpacesMib,
    ];

    pub const NAMES: &'static str = "sandboxes, creates_per_minute, create_burst, runs, timeout_seconds, \
                                     idle_timeout_seconds, ram_mib, rootfs_gb, spaces, spaces_mib";

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sandboxes => "sandboxes",
            Self::CreatesPerMinute => "creates_per_minute",
            Self::CreateBurst => "create_burst",
            Self::Runs => "runs",
            Self::TimeoutSeconds => "timeout_seconds",
            Self::IdleTimeoutSeconds => "idle_timeout_seconds",
            Self::RamMib => "ram_mib",
            Self::RootfsGb => "rootfs_gb",
            Self::Spaces => "spaces",
            Self::SpacesMib => "spaces_mib",
        }
    }

    /// Least and most that makes sense.
    #[must_use]
    pub fn range(self) -> (u64, u64) {
        match self {
            Self::Sandboxes | Self::Spaces => (0, 1_000_000),
            Self::SpacesMib => (0, 1 << 30),
            Self::CreatesPerMinute | Self::CreateBurst | Self::Runs => (1, 1_000_000),
            Self::TimeoutSeconds | Self::IdleTimeoutSeconds => (1, 100 * 365 * 24 * 3600),
            Self::RamMib => (128, 65_536),
            Self::RootfsGb => (1, 1024),
        }
    }
}

impl Limits {
    /// A tier's, but for what differs.
    #[must_use]
    pub fn new(tier: Tier, overrides: &Overrides) -> Self {
        let mut limits = tier.limits();
        for (limit, value) in overrides {
            *limits.field(*limit) = *value;
        }
        limits
    }

    /// The life that a sandbox gets, in seconds, silently capped; `None` is no end.
    #[must_use]
    pub fn lifetime_s(&self, asked: Option<u64>) -> Option<u64> {
        capped(asked, self.timeout_seconds)
    }

    /// The time without a use that it gets, in seconds, silently capped; `None` is no end.
    #[must_use]
    pub fn idle_s(&self, asked: Option<u64>) -> Option<u64> {
        capped(asked, self.idle_timeout_seconds)
    }

    fn field(&mut self, limit: Limit) -> &mut Option<u64> {
        match limit {
            Limit::Sandboxes => &mut self.sandboxes,
            Limit::CreatesPerMinute => &mut self.creates_per_minute,
            Limit::CreateBurst => &mut self.create_burst,
            Limit::Runs => &mut self.runs,
            Limit::TimeoutSeconds => &mut self.timeout_seconds,
            Limit::IdleTimeoutSeconds => &mut self.idle_timeout_seconds,
            Limit::RamMib => &mut self.ram_mib,
            Limit::RootfsGb => &mut self.rootfs_gb,
            Limit::Spaces => &mut self.spaces,
            Limit::SpacesMib => &mut self.spaces_mib,
        }
    }
}

/// Whoever asks for nothing gets the most there is. Where there is no most, nothing ends that nobody asked to end: on a host
/// of one's own, an afternoon away must cost nobody their work.
fn capped(asked: Option<u64>, most: Option<u64>) -> Option<u64> {
    match (asked, most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tier {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let all = [Self::Free, Self::Pro, Self::Scale, Self::Unlimited];
        let found = all.into_iter().find(|tier| tier.name() == text);
        found.ok_or(UnknownName {
            expected: Self::NAMES,
        })
    }
}

impl FromStr for Limit {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|limit| limit.name() == text);
        found.ok_or(UnknownName {
            expected: Self::NAMES,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for limit in Limit::ALL {
            assert_eq!(limit.name().parse(), Ok(limit));
            assert!(Limit::NAMES.contains(limit.name()));
        }
        for name in Tier::NAMES.split(", ") {
            assert_eq!(name.parse::<Tier>().unwrap().name(), name);
        }
        assert!("Free".parse::<Tier>().is_err());
    }

    #[test]
    fn what_is_asked_for_is_capped_and_what_is_not_gets_the_most() {
        let free = Tier::Free.limits();
        assert_eq!(
            (free.lifetime_s(None), free.lifetime_s(Some(u64::MAX))),
            (Some(1800), Some(1800))
        );
        assert_eq!(
            (free.idle_s(Some(60)), free.idle_s(Some(3600))),
            (Some(60), Some(300))
        );
        let unlimited = Tier::Unlimited.limits();
        assert_eq!(
            (unlimited.lifetime_s(None), unlimited.lifetime_s(Some(1 << 40))),
            (None, Some(1 << 40))
        );
    }

    #[test]
    fn an_override_changes_one_limit_and_can_lift_it() {
        let overrides = Overrides::from([(Limit::Sandboxes, Some(2)), (Limit::RamMib, None)]);
        let limits = Limits::new(Tier::Free, &overrides);
        assert_eq!(
            (limits.sandboxes, limits.ram_mib, limits.rootfs_gb),
            (Some(2), None, Some(4))
        );
    }
}
