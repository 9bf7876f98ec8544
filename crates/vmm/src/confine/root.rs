//! Namespaces, and a root directory without the host's files.

use std::ffi::CStr;
use std::io;
use std::path::Path;

use libc::c_int;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_move, mount_remount,
    unmount,
};
use rustix::process::{chdir, chroot, pivot_root};

/// Own mounts, network (nothing but a loopback that is down), IPC objects and host name.
pub(super) const NAMESPACES: c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

pub(super) fn unshare(namespaces: c_int) -> io::Result<()> {
    // SAFETY: takes flags only. Shared state it separates (the file system context) belongs to this thread alone.
    if unsafe { libc::unshare(namespaces) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes `dir` the root of this process's own mount namespace.
pub(super) fn change(dir: &Path) -> io::Result<()> {
    const HERE: &CStr = c".";
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount_bind(dir, dir)?;
    mount_remount(
        dir,
        MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        c"",
    )?;
    chdir(dir)?;
    match pivot_root(HERE, HERE) {
        // The old root lies on top of the new one now.
        Ok(()) => unmount(HERE, UnmountFlags::DETACH)?,
        // The initial root of a machine without disks cannot be pivoted away from; it is covered instead. Nobody
        // without rights gets out of a root that is a mount's own.
        Err(Errno::INVAL) => {
            mount_move(HERE, "/")?;
            chroot(HERE)?;
        }
        Err(error) => return Err(error.into()),
    }
    chdir("/")?;
    debug_assert!(rustix::fs::statat(CWD, "/proc", rustix::fs::AtFlags::empty()).is_err());
    Ok(())
}
