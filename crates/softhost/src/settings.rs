//! What a user decides about the host; everything else follows from it.

use std::path::PathBuf;
use std::time::Duration;

/// Port of the API on loopback unless the user says otherwise.
pub const DEFAULT_PORT: u16 = 7070;

/// Which host is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostSetting {
    /// Hardware virtualization when it works, the software host when not.
    #[default]
    Auto,
    /// Hardware virtualization, unexamined.
    Hardware,
    /// The software host, even where KVM would do.
    Software,
}

impl HostSetting {
    /// Reads a setting as people write it: `auto`, `hardware` or `software`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "auto" => Some(Self::Auto),
            "hardware" => Some(Self::Hardware),
            "software" => Some(Self::Software),
            _ => None,
        }
    }
}

/// Everything a user can set. Nothing below this reads the environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where a running host keeps its lock, status, console and sockets; one host per directory.
    pub run_dir: PathBuf,
    /// Port of the API on 127.0.0.1.
    pub port: u16,
    /// Memory of the software host in MiB; `None` takes half of what is free, at most 8 GiB.
    pub memory_mib: Option<u32>,
    pub host: HostSetting,
    /// Further arguments for the host daemon.
    pub hostd_arguments: Vec<String>,
    /// Environment of the host daemon, such as API keys; kept out of every command line.
    pub hostd_environment: Vec<(String, String)>,
    pub limits: Limits,
}

/// How long things may take and how often they may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From power-on to the first answer of the API. A boot takes 4 to 8 s; a busy machine needs a multiple.
    pub boot: Duration,
    /// Boots tried in a row before giving up.
    pub boot_tries: u32,
    /// Silence of a host that has answered before, until it counts as wedged.
    pub silence: Duration,
    /// Restarts allowed within `restart_window`; one more and the host has failed.
    pub restarts: u32,
    pub restart_window: Duration,
    /// Pause before a start that follows an end.
    pub restart_delay: Duration,
    /// From the request to stop until the host is killed.
    pub stop: Duration,
    /// Time the trial guest gets to show that KVM works.
    pub trial: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(60),
            boot_tries: 3,
            silence: Duration::from_secs(60),
            restarts: 5,
            restart_window: Duration::from_secs(600),
            restart_delay: Duration::from_millis(500),
            stop: Duration::from_secs(60),
            trial: Duration::from_secs(8),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::Path;

    pub(crate) fn settings(run_dir: &Path) -> Settings {
        Settings {
            run_dir: run_dir.to_owned(),
            port: DEFAULT_PORT,
            memory_mib: None,
            host: HostSetting::Auto,
            hostd_arguments: Vec::new(),
            hostd_environment: Vec::new(),
            limits: Limits::default(),
        }
    }

    #[test]
    fn a_host_setting_is_one_of_three_words() {
        assert_eq!(HostSetting::parse(" Software "), Some(HostSetting::Software));
        assert_eq!(HostSetting::parse("hardware"), Some(HostSetting::Hardware));
        assert_eq!(HostSetting::parse(""), Some(HostSetting::Auto));
        assert_eq!(HostSetting::parse("fast"), None);
    }
}
