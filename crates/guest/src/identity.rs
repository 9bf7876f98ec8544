//! Becoming somebody: what a clone must change before anybody may use it.
//!
//! All of it or nothing: an error means that the host destroys the clone, because two machines with one identity
//! draw the same secrets.
//!
//! Every clone pays for this before its first answer, most of all for each page it touches for the first time. So it is a
//! dozen system calls on descriptors that were opened beforehand, nothing is started, and no block of the disk changes:
//! the [files](files) that hold names are in memory.

mod files;

use std::fs::File;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use agent_proto::Identity;
use rustix::system::sethostname;
use rustix::time::{ClockId, Timespec, clock_settime};
use thiserror::Error;

use crate::syscall::reseed_kernel;
use crate::write_back::WriteBack;
use files::Files;

/// Longest host name, in bytes (RFC 1035, section 2.3.4).
const HOSTNAME_MAX: usize = 63;

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
    #[error("cannot open the kernel's source of randomness")]
    Open(#[source] io::Error),
    #[error("cannot prepare /etc/{name}")]
    Prepare { name: &'static str, source: io::Error },
    #[error("cannot write /etc/{name}")]
    Write { name: &'static str, source: io::Error },
}

/// What belongs to the whole machine. Services are given one of these, so that nothing is skipped by accident.
pub trait System: std::fmt::Debug + Send + Sync + 'static {
    /// Makes the machine the one described; returns when all of it has taken effect.
    ///
    /// # Errors
    /// Any part that could not be done.
    fn assume(&self, identity: &Identity) -> Result<(), IdentityError>;

    /// Puts the clock forward, or back where it is negative.
    ///
    /// # Errors
    /// Without the privilege to do so, or to a time that is none.
    fn move_clock(&self, forward_ns: i64) -> Result<(), IdentityError>;

    /// Says when files are written to the disk.
    ///
    /// # Errors
    /// The kernel does not let itself be told.
    fn write_back(&self, when: WriteBack) -> io::Result<()>;
}

/// The machine is ours: a guest.
#[derive(Debug)]
pub struct Guest {
    random: File,
    files: Files,
}

/// The machine is somebody else's: its name, clock and randomness are left alone.
#[derive(Clone, Copy, Debug)]
pub struct Native;

impl System for Native {
    fn assume(&self, _: &Identity) -> Result<(), IdentityError> {
        Ok(())
    }

    fn move_clock(&self, _: i64) -> Result<(), IdentityError> {
        Ok(())
    }

    fn write_back(&self, _: WriteBack) -> io::Result<()> {
        Ok(())
    }
}

impl Guest {
    /// Prepares the machine for becoming somebody.
    ///
    /// # Errors
    /// When the files in `/etc` cannot be replaced, or there is no `/dev/urandom`.
    pub fn new() -> Result<Self, IdentityError> {
        Ok(Self {
            random: File::options()
                .write(true)
                .open("/dev/urandom")
                .map_err(IdentityError::Open)?,
            files: Files::prepare("/etc".as_ref(), "/run/podflare".as_ref())?,
        })
    }
}

impl System for Guest {
    fn assume(&self, identity: &Identity) -> Result<(), IdentityError> {
        // First, so that whatever draws randomness from here on draws new randomness.
        reseed_kernel(&self.random, identity.entropy).map_err(IdentityError::Entropy)?;
        if let Some(wall_clock_ns) = identity.wall_clock_ns {
            set_clock(wall_clock_ns).map_err(IdentityError::Clock)?;
        }
        sethostname(identity.hostname.as_bytes())
            .map_err(|error| IdentityError::SetHostname(error.into()))?;
        self.files.write(identity)
    }

    fn move_clock(&self, forward_ns: i64) -> Result<(), IdentityError> {
        let moved = wall_clock_ns().checked_add_signed(forward_ns);
        let moved = moved.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput));
        moved.and_then(set_clock).map_err(IdentityError::Clock)
    }

    fn write_back(&self, when: WriteBack) -> io::Result<()> {
        when.set()
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

/// What the clock shows, in nanoseconds since the Unix epoch.
pub(crate) fn wall_clock_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(hostname: &str) -> Identity {
        Identity {
            hostname: hostname.to_owned(),
            machine_id: [0; 16],
            wall_clock_ns: None,
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
}
