//! What a daemon that is gone has left behind and nobody takes over: VM processes and their directories.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::data_dir::{DataDirError, remove};
use crate::vm::VmmSpawner;

/// How long killed processes may take to be gone. Ending a VM with much memory takes a while on a busy host.
const DEATH_BOUND: Duration = Duration::from_secs(10);
const DEATH_PAUSE: Duration = Duration::from_millis(10);

/// What stays.
#[derive(Debug, Default)]
pub(crate) struct Spared {
    pub(crate) pids: HashSet<u32>,
    /// Names of directories.
    pub(crate) dirs: HashSet<OsString>,
}

/// Ends the VM processes whose directories are under `vms` and removes those directories. To be called within a runtime.
pub(crate) fn clear(vms: &Path, spawner: &dyn VmmSpawner, spared: &Spared) -> Result<(), DataDirError> {
    let started = Instant::now();
    loop {
        let mut left = spawner.running(vms);
        left.retain(|name| !spared.pids.contains(&name.pid));
        if left.is_empty() {
            break;
        }
        if started.elapsed() > DEATH_BOUND {
            let pids = left.iter().map(|name| name.pid).collect();
            return Err(DataDirError::Undead { pids });
        }
        for name in left {
            // It may have ended by itself meanwhile; the next look tells.
            if let Ok(mut process) = spawner.adopt(name) {
                tracing::info!(pid = name.pid, "ending a VM process that a dead daemon has left");
                process.kill();
            }
        }
        sleep(DEATH_PAUSE);
    }
    let failed = |source| DataDirError::Io {
        path: vms.to_owned(),
        source,
    };
    for entry in fs::read_dir(vms).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if spared.dirs.contains(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        tracing::debug!(dir = %path.display(), "removing what a dead daemon has left");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::VmmProgram;
    use std::process::{Child, Command, Stdio};

    fn vm_process(vm: &Path) -> Child {
        Command::new("sh")
            .args(["-c", "read line", "vmm", "run", "--dir"])
            .arg(vm)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[tokio::test]
    async fn processes_and_directories_of_a_dead_daemon_are_cleared_but_for_those_that_are_spared() {
        let dir = tempfile::tempdir().unwrap();
        let vms = dir.path().canonicalize().unwrap();
        let spawner = VmmProgram::new("podflare-vmm".into(), false);
        for name in ["1", "2", "3"] {
            fs::create_dir_all(vms.join(name).join("deep")).unwrap();
        }
        fs::write(vms.join("9.layer"), "").unwrap();
        let (mut ends, mut stays) = (vm_process(&vms.join("1")), vm_process(&vms.join("2")));
        let started = Instant::now();
        while spawner.running(&vms).len() < 2 {
            assert!(
                started.elapsed() < DEATH_BOUND,
                "waited for the processes to show their command lines"
            );
            sleep(DEATH_PAUSE);
        }
        let spared = Spared {
            pids: HashSet::from([stays.id()]),
            dirs: HashSet::from(["2".into()]),
        };
        clear(&vms, &spawner, &spared).unwrap();
        assert_eq!(fs::read_dir(&vms).unwrap().count(), 1);
        assert!(vms.join("2/deep").exists());
        assert_eq!(ends.wait().unwrap().code(), None);
        assert_eq!(stays.try_wait().unwrap(), None);
        clear(&vms, &spawner, &Spared::default()).unwrap();
        assert_eq!(stays.wait().unwrap().code(), None);
    }
}
