//! A user without rights.

use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

use libc::{c_int, c_ulong};

use super::ConfineError;

/// `_LINUX_CAPABILITY_VERSION_3` of capget(2): two words of each set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// A user and group id that nothing else on the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserId(pub u32);

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Default)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl UserId {
    /// Gives a directory and what is in it to this user.
    pub(super) fn own(self, dir: &Path) -> io::Result<()> {
        lchown(dir, Some(self.0), Some(self.0))?;
        for entry in fs::read_dir(dir)? {
            lchown(entry?.path(), Some(self.0), Some(self.0))?;
        }
        Ok(())
    }
}

/// In a new user namespace: this process's user is called there what it is called outside.
pub(super) fn map_self(uid: u32, gid: u32) -> io::Result<()> {
    // The group map may only be written by who has renounced changing groups (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Leaves nothing to a user that could be used against others: no capability, now or later, no core dump, no debugger.
pub(super) fn give_up_rights(user: Option<UserId>) -> Result<(), ConfineError> {
    let failed = |what| move |source| ConfineError::Rights { what, source };
    drop_bounding_set().map_err(failed("the bounding set of capabilities"))?;
    if let Some(UserId(id)) = user {
        // SAFETY: these take numbers; an empty list of groups is not read.
        check(unsafe { libc::setgroups(0, std::ptr::null()) }).map_err(failed("supplementary groups"))?;
        // SAFETY: as above.
        check(unsafe { libc::setresgid(id, id, id) }).map_err(failed("its group"))?;
        // SAFETY: as above.
        check(unsafe { libc::setresuid(id, id, id) }).map_err(failed("its user"))?;
    }
    drop_capabilities().map_err(failed("capabilities"))?;
    control(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(failed("new privileges"))?;
    control(libc::PR_SET_DUMPABLE, 0).map_err(failed("core dumps"))
}

fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        match control(libc::PR_CAPBSET_DROP, capability) {
            // The kernel knows no more.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let none: [CapabilityWord; 2] = Default::default();
    // SAFETY: header and sets have the layout of capset(2) for this version, and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn control(option: c_int, argument: c_ulong) -> io::Result<()> {
    const UNUSED: c_ulong = 0;
    // SAFETY: the options used here take numbers only.
    check(unsafe { libc::prctl(option, argument, UNUSED, UNUSED, UNUSED) })
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
