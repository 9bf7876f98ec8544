//! What a daemon that died has left behind: VM processes and their directories.
//!
//! A VM process names its directory on its command line, which is how it is known here: no file with a number in
//! it can go stale, and a process that got the number later does not have such a command line. A clone has the command
//! line of the VM it descends from, so this tells whose it is and not which it is.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::data_dir::{DataDirError, remove};

/// How long killed processes may take to be gone. Ending a VM with much memory takes a while on a busy host.
const DEATH_BOUND: Duration = Duration::from_secs(10);
const DEATH_PAUSE: Duration = Duration::from_millis(10);

/// Ends the VM processes whose directories are under `vms` and removes those directories.
pub(crate) fn clear(vms: &Path) -> Result<(), DataDirError> {
    let started = Instant::now();
    loop {
        let pids = vm_processes(vms);
        if pids.is_empty() {
            break;
        }
        if started.elapsed() > DEATH_BOUND {
            return Err(DataDirError::Undead { pids });
        }
        for pid in pids {
            tracing::warn!(pid, "ending a VM process that a dead daemon has left");
            let Ok(number) = i32::try_from(pid) else {
                continue;
            };
            // It may have ended by itself meanwhile; the next look tells.
            let _ = kill(Pid::from_raw(number), Signal::SIGKILL);
        }
        sleep(DEATH_PAUSE);
    }
    let failed = |source| DataDirError::Io {
        path: vms.to_owned(),
        source,
    };
    for entry in fs::read_dir(vms).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        tracing::info!(dir = %path.display(), "removing what a dead daemon has left");
        // A disk layer whose name was about to be taken away is no directory.
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => remove(&path),
            Ok(_) | Err(_) => fs::remove_file(&path),
        };
        removed.map_err(|source| DataDirError::Io {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Processes that run a VM whose directory is under `vms`.
pub(crate) fn vm_processes(vms: &Path) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            // Kernel threads and zombies have an empty one; a process that ended meanwhile has none.
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| names_vm_under(&line, vms))
        })
        .collect()
}

/// Whether a command line, arguments ended by zeros, is `… run --dir <vms>/<something>`.
fn names_vm_under(command_line: &[u8], vms: &Path) -> bool {
    let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    arguments.windows(3).any(|window| {
        window[0] == b"run"
            && window[1] == b"--dir"
            && window[2]
                .strip_prefix(vms.as_os_str().as_bytes())
                .is_some_and(|rest| rest.len() > 1 && rest.starts_with(b"/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_command_lines_of_vms_under_this_directory_are_ours() {
        let vms = Path::new("/data/vms");
        let ours = |line: &str| names_vm_under(line.replace(' ', "\0").as_bytes(), vms);
        assert!(ours("podflare-vmm run --dir /data/vms/sbx_1"));
        assert!(!ours("podflare-vmm run --dir /data/vms/"));
        assert!(!ours("podflare-vmm run --dir /data/vms2/sbx_1"));
        assert!(!ours("vi /data/vms/sbx_1/console.log"));
        assert!(!ours(""));
    }

    #[test]
    fn processes_and_directories_of_a_dead_daemon_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let vms = dir.path().canonicalize().unwrap();
        let vm = vms.join("sbx_1");
        fs::create_dir_all(vm.join("deep")).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "read line", "vmm", "run", "--dir"])
            .arg(&vm)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while vm_processes(&vms) != [child.id()] {
            assert!(
                started.elapsed() < DEATH_BOUND,
                "waited for the process to show its command line"
            );
            sleep(DEATH_PAUSE);
        }
        clear(&vms).unwrap();
        assert!(!vm.exists());
        assert!(vms.exists());
        assert_eq!(child.wait().unwrap().code(), None);
    }
}
