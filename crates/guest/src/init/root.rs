//! The root disk: wait for it, mount it, move into it, grow it.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{chdir, chroot};

use super::{BootError, mounts};
use crate::services::Services;
use crate::write_back::{self, WriteBack};

const DEVICE: &str = "/dev/vda";
/// Size of the disk in sectors of 512 bytes.
const DEVICE_SECTORS: &str = "/sys/class/block/vda/size";
const NEW_ROOT: &str = "/newroot";
/// The disk appears some milliseconds after its driver is loaded; in an emulated machine it may take longer.
const DISK_WAIT: Duration = Duration::from_secs(20);
const DISK_POLL: Duration = Duration::from_millis(1);
/// As late as the rest, see [`crate::write_back`].
const COMMIT_LATE: &CStr = c"commit=86400";
const RESIZE: &str = "/usr/sbin/resize2fs";
/// Less than this is a file system's own overhead and not worth growing for, in bytes.
const GROWTH_MIN: u64 = 256 << 20;

/// Mounts the root disk and makes it the root.
pub(super) fn enter() -> Result<(), BootError> {
    await_disk()?;
    let mount_error = |source: io::Error| BootError::Mount {
        target: NEW_ROOT,
        source,
    };
    fs::create_dir_all(NEW_ROOT).map_err(mount_error)?;
    mount(DEVICE, NEW_ROOT, "ext4", MountFlags::NOATIME, COMMIT_LATE)
        .map_err(|error| mount_error(error.into()))?;
    for target in mounts::early_targets() {
        let inside = format!("{NEW_ROOT}{target}");
        fs::create_dir_all(&inside)
            .and_then(|()| Ok(mount_move(target, &*inside)?))
            .map_err(|source| BootError::Mount { target, source })?;
    }
    switch().map_err(BootError::SwitchRoot)?;
    if let Err(error) = write_back::bound().and_then(|()| WriteBack::Late.set()) {
        super::say(&format!(
            "the disk is written to more often than it needs to be: {error}"
        ));
    }
    Ok(())
}

fn switch() -> io::Result<()> {
    // The initrd lives in memory, this program included, which stays as long as it runs.
    let initrd = fs::metadata("/")?.dev();
    empty(Path::new("/"), initrd);
    chdir(NEW_ROOT)?;
    mount_move(".", "/")?;
    chroot(".")?;
    chdir("/")?;
    Ok(())
}

/// Deletes everything under `directory` that is on the same file system. What cannot be deleted only costs memory.
fn empty(directory: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.dev() != device => {}
            Ok(metadata) if metadata.is_dir() => {
                empty(&path, device);
                let _ = fs::remove_dir(&path);
            }
            Ok(_) => {
                let _ = fs::remove_file(&path);
            }
            Err(_) => {}
        }
    }
}

fn await_disk() -> Result<(), BootError> {
    let deadline = Instant::now() + DISK_WAIT;
    while !Path::new(DEVICE).exists() {
        if Instant::now() >= deadline {
            return Err(BootError::NoDisk {
                device: DEVICE,
                seconds: DISK_WAIT.as_secs(),
            });
        }
        thread::sleep(DISK_POLL);
    }
    Ok(())
}

/// Grows the root file system to the size of its disk, if the disk is larger and the tool is there. ext4 grows while
/// it is in use; it takes a moment.
pub fn grow_root(services: &Services) {
    let disk_sectors = fs::read_to_string(DEVICE_SECTORS)
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let (Some(disk_sectors), Ok(root)) = (disk_sectors, statvfs("/")) else {
        return;
    };
    let needed = disk_sectors.saturating_mul(512) > root.f_blocks.saturating_mul(root.f_frsize) + GROWTH_MIN;
    if !needed || !Path::new(RESIZE).exists() {
        return;
    }
    let mut command = Command::new(RESIZE);
    command
        .arg(DEVICE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    if let Err(error) = services.run_to_end(&mut command) {
        super::say(&format!("the root file system has not been grown: {error}"));
    }
}
