//! Becoming somebody: what a clone must change before anybody may use it.
//!
//! All of it or nothing: an error means that the host destroys the clone, because two machines with one identity
//! draw the same secrets.

use std::fs;
use std::io;
use std::path::Path;

use agent_proto::Identity;
use rustix::system::sethostname;
use rustix::time::{ClockId, Timespec, clock_settime};
use thiserror::Error;

use crate::syscall::reseed_kernel;

/// Longest host name, in bytes (RFC 1035, section 2.3.4).
const HOSTNAME_MAX: usize = 63;
/// Address of the host's own name in `/etc/hosts`, as Debian does it.
const OWN_ADDRESS: &str = "127.0.1.1";

/// Which part of an identity did not take effect.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("a host name has 1 to {HOSTNAME_MAX} bytes of a-z, 0-9 and -")]
    Hostname,
    #[error("cannot reseed the kernel's randomness")]
    Entropy(#[source] io::Error),
    #[error("cannot set the clock")]
    Clock(#[source] io::Error),
    #[error("cannot set the host name")]
    SetHostname(#[source] io::Error),
    #[error("cannot write {path}")]
    Write { path: &'static str, source: io::Error },
}

/// What belongs to the whole machine. Services are given one of these, so that nothing is skipped by accident.
pub trait System: std::fmt::Debug + Send + Sync + 'static {
    /// Makes the machine the one described; returns when all of it has taken effect.
    ///
    /// # Errors
    /// Any part that could not be done.
    fn assume(&self, identity: &Identity) -> Result<(), IdentityError>;

    /// Sets the time of day, in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// Without the privilege to do so.
    fn set_clock(&self, wall_clock_ns: u64) -> Result<(), IdentityError>;
}

/// The machine is ours: a guest.
#[derive(Clone, Copy, Debug)]
pub struct Guest;

/// The machine is somebody else's: its name, clock and randomness are left alone.
#[derive(Clone, Copy, Debug)]
pub struct Native;

impl System for Native {
    fn assume(&self, _: &Identity) -> Result<(), IdentityError> {
        Ok(())
    }

    fn set_clock(&self, _: u64) -> Result<(), IdentityError> {
        Ok(())
    }
}

impl System for Guest {
    fn assume(&self, identity: &Identity) -> Result<(), IdentityError> {
        // First, so that whatever draws randomness from here on draws new randomness.
        reseed_kernel(identity.entropy).map_err(IdentityError::Entropy)?;
        self.set_clock(identity.wall_clock_ns)?;
        sethostname(identity.hostname.as_bytes())
            .map_err(|error| IdentityError::SetHostname(error.into()))?;
        write("/etc/hostname", &format!("{}\n", identity.hostname))?;
        write(
            "/etc/machine-id",
            &format!("{:032x}\n", u128::from_be_bytes(identity.machine_id)),
        )?;
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        write("/etc/hosts", &hosts_for(&hosts, &identity.hostname))
    }

    fn set_clock(&self, wall_clock_ns: u64) -> Result<(), IdentityError> {
        set_clock(wall_clock_ns).map_err(IdentityError::Clock)
    }
}

/// Refuses what would not survive as a host name or would break the files it is written to.
pub(crate) fn validate(identity: &Identity) -> Result<(), IdentityError> {
    let name = identity.hostname.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if (1..=HOSTNAME_MAX).contains(&name.len()) && name.iter().all(allowed) {
        Ok(())
    } else {
        Err(IdentityError::Hostname)
    }
}

fn set_clock(wall_clock_ns: u64) -> io::Result<()> {
    const NANOSECONDS: u64 = 1_000_000_000;
    let time = Timespec {
        tv_sec: (wall_clock_ns / NANOSECONDS)
            .try_into()
            .map_err(io::Error::other)?,
        tv_nsec: (wall_clock_ns % NANOSECONDS)
            .try_into()
            .map_err(io::Error::other)?,
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

fn write(path: &'static str, text: &str) -> Result<(), IdentityError> {
    fs::write(Path::new(path), text).map_err(|source| IdentityError::Write { path, source })
}

/// The file with this host's own line replaced, and everything else, which may be the user's, kept.
fn hosts_for(old: &str, hostname: &str) -> String {
    let is_own = |line: &&str| line.split_ascii_whitespace().next() == Some(OWN_ADDRESS);
    let mut hosts = String::new();
    if !old.lines().any(|line| line.starts_with("127.0.0.1")) {
        hosts.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    for line in old.lines().filter(|line| !is_own(line)) {
        hosts.push_str(line);
        hosts.push('\n');
    }
    hosts.push_str(&format!("{OWN_ADDRESS}\t{hostname}\n"));
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(hostname: &str) -> Identity {
        Identity {
            hostname: hostname.to_owned(),
            machine_id: [0; 16],
            wall_clock_ns: 0,
            entropy: [0; 32],
        }
    }

    #[test]
    fn only_plain_host_names_are_accepted() {
        assert!(validate(&named("sbx-0af")).is_ok());
        for bad in ["", "a b", "a\nb", "UPPER", "ä", &"x".repeat(64)] {
            assert!(
                matches!(validate(&named(bad)), Err(IdentityError::Hostname)),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn renaming_a_host_keeps_every_other_line_of_its_hosts_file() {
        let first = hosts_for("", "one");
        assert_eq!(
            first,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tone\n"
        );
        let edited = format!("{first}10.0.0.7\tdatabase\n");
        let second = hosts_for(&edited, "two");
        assert!(second.contains("database") && second.contains("127.0.1.1\ttwo") && !second.contains("one"));
        assert_eq!(hosts_for(&second, "two"), second);
    }
}
