//! Everything that can be wrong with this machine, as data: what was looked at, what was found, how to fix it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use image::{IMAGE_PACKAGES, Package};
use nix::sys::statvfs::statvfs;

use crate::decide::{Device, Facts, trial};
use crate::memory::{MEMORY_MIB_MIN, available_mib, machine_memory_mib};
use crate::operate::{self, Observed};
use crate::port;
use crate::qemu;
use crate::settings::{HostSetting, Settings};

/// Free disk below which building images fails, and below which it may soon, in GiB.
const DISK_GIB_MIN: u64 = 3;
const DISK_GIB_COMFORTABLE: u64 = 10;
/// A clock before this is wrong: 2025-01-01, in seconds since 1970. Certificates and package lists then fail.
const CLOCK_MIN_UNIX_S: u64 = 1_735_689_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckVerdict {
    Ok,
    /// Works, but not as well as it could.
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: CheckVerdict,
    /// What is the case.
    pub found: String,
    /// What to do about it, unless all is well.
    pub fix: Option<String>,
}

/// What [`diagnose`] looks at besides the machine itself.
#[derive(Clone, Debug)]
pub struct DoctorInput<'a> {
    pub settings: &'a Settings,
    pub cache_dir: &'a Path,
    /// Where the state disk is or will be.
    pub state_dir: &'a Path,
    pub hostd: &'a Path,
    pub vmm: &'a Path,
    pub netd: &'a Path,
    /// Files that a first start makes: name, and where it is once it is there.
    pub images: &'a [(&'a str, Option<PathBuf>)],
}

/// Looks at everything. Takes up to the limit of the trial guest, changes nothing.
#[must_use]
pub fn diagnose(input: &DoctorInput<'_>) -> Vec<Check> {
    let facts = Facts::gather();
    let hardware = hardware_works(input, &facts);
    let needs_qemu = match input.settings.host {
        HostSetting::Auto => hardware.is_err(),
        HostSetting::Hardware => false,
        HostSetting::Software => true,
    };
    let observed = operate::status(&input.settings.run_dir);
    let mut checks = vec![cpu(&facts), device(&facts), trial_guest(&hardware)];
    checks.push(qemu_check(needs_qemu));
    checks.extend(IMAGE_PACKAGES.iter().map(package));
    checks.push(memory(input.settings, needs_qemu));
    checks.push(disk("disk for images", input.cache_dir));
    checks.push(disk("disk for state", input.state_dir));
    checks.push(running(&observed));
    checks.push(port_check(input.settings.port, &observed));
    checks.push(clock());
    checks.push(program("host daemon", input.hostd));
    checks.push(program("VM process", input.vmm));
    checks.push(program("network", input.netd));
    checks.extend(
        input
            .images
            .iter()
            .map(|(name, path)| image_check(name, path.as_deref())),
    );
    checks
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: CheckVerdict::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            verdict: CheckVerdict::Warn,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            verdict: CheckVerdict::Fail,
            ..Self::warn(name, found, fix)
        }
    }
}

fn hardware_works(input: &DoctorInput<'_>, facts: &Facts) -> Result<(), String> {
    match facts.obstacle() {
        Some(reason) => Err(reason),
        None => trial(input.vmm, input.settings.limits.trial),
    }
}

fn cpu(facts: &Facts) -> Check {
    let name = "CPU";
    match facts.extension {
        Some(extension) => Check::ok(name, format!("has hardware virtualization ({extension})")),
        None if facts.virtual_machine => Check::warn(
            name,
            "shows neither vmx nor svm: this is a virtual machine without nested virtualization",
            "nothing needed, the software host is used; nested virtualization would be faster",
        ),
        None => Check::warn(
            name,
            "shows neither vmx nor svm",
            "turn virtualization on in the firmware if it has it; the software host is used until then",
        ),
    }
}

fn device(facts: &Facts) -> Check {
    let name = "/dev/kvm";
    match &facts.device {
        Device::Opens if facts.pvm => Check::warn(
            name,
            "opens, but is that of kvm_pvm, which runs no ordinary guest kernel",
            "nothing needed, the software host is used",
        ),
        Device::Opens => Check::ok(name, "opens"),
        Device::Missing => Check::warn(
            name,
            "is not there",
            "sudo modprobe kvm_intel (or kvm_amd), if the CPU can",
        ),
        Device::Denied => Check::warn(
            name,
            "may not be opened",
            "sudo usermod -aG kvm $USER, then log in again",
        ),
        Device::Broken(why) => Check::warn(
            name,
            format!("does not open: {why}"),
            "see the kernel's log: dmesg",
        ),
    }
}

fn trial_guest(hardware: &Result<(), String>) -> Check {
    let name = "trial guest";
    match hardware {
        Ok(()) => Check::ok(name, "ran on the KVM of this machine"),
        Err(reason) => Check::warn(name, reason.clone(), "nothing needed, the software host is used"),
    }
}

fn qemu_check(needed: bool) -> Check {
    let name = "QEMU";
    let install = "sudo apt-get install -y --no-install-recommends qemu-system-x86";
    match qemu::version() {
        None if needed => Check::fail(name, "is not installed", install),
        None => Check::ok(name, "is not installed, and not needed"),
        Some((major, minor)) if !qemu::has_tcg() => Check::fail(
            name,
            format!("{major}.{minor} cannot emulate a CPU (no TCG)"),
            install,
        ),
        Some((major, minor)) if (major, minor) < qemu::VERSION_MIN => {
            let (wanted, least) = qemu::VERSION_MIN;
            Check::warn(
                name,
                format!("{major}.{minor} is older than {wanted}.{least}, with which this was tried"),
                install,
            )
        }
        Some((major, minor)) => Check::ok(name, format!("{major}.{minor} with TCG")),
    }
}

fn package(package: &Package) -> Check {
    let Package { binary, package } = *package;
    let present = if binary.starts_with('/') {
        Path::new(binary).exists()
    } else {
        // Also where ordinary users have no path to, as mke2fs is.
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|directory| directory.join(binary).exists())
    };
    if present {
        Check::ok(package, format!("{binary} is there"))
    } else {
        let fix = format!("sudo apt-get install -y --no-install-recommends {package}");
        Check::fail(package, format!("{binary} is missing"), fix)
    }
}

fn memory(settings: &Settings, needs_qemu: bool) -> Check {
    let name = "memory";
    let available = available_mib().unwrap_or(0);
    if !needs_qemu {
        return Check::ok(name, format!("{available} MiB free"));
    }
    match machine_memory_mib(settings.memory_mib) {
        Ok(mib) => Check::ok(
            name,
            format!("{available} MiB free, the software host takes {mib}"),
        ),
        Err(error) => Check::fail(
            name,
            error.to_string(),
            format!(
                "free some memory; at least {MEMORY_MIB_MIN} MiB for the software host and as much for the rest"
            ),
        ),
    }
}

fn disk(name: &'static str, directory: &Path) -> Check {
    // The directory may be yet to be made; what counts is the file system it will be on.
    let Some(existing) = directory.ancestors().find(|path| path.exists()) else {
        return Check::fail(
            name,
            format!("{} has no parent", directory.display()),
            "choose another directory",
        );
    };
    let free_gib = match statvfs(existing) {
        Ok(statistics) => (statistics.blocks_available() * statistics.fragment_size()) >> 30,
        Err(error) => {
            return Check::fail(
                name,
                format!("{}: {error}", existing.display()),
                "choose another directory",
            );
        }
    };
    let found = format!("{free_gib} GiB free for {}", directory.display());
    let fix = format!("free some; {DISK_GIB_COMFORTABLE} GiB are comfortable");
    match free_gib {
        ..DISK_GIB_MIN => Check::fail(name, found, fix),
        DISK_GIB_MIN..DISK_GIB_COMFORTABLE => Check::warn(name, found, fix),
        _ => Check::ok(name, found),
    }
}

fn running(observed: &Result<Observed, operate::OperateError>) -> Check {
    let name = "running host";
    match observed {
        Ok(Observed::NotRunning { .. }) => Check::ok(name, "none, and nothing left behind"),
        Ok(Observed::Supervised(status)) => {
            let pid = status.supervisor.pid;
            Check::ok(
                name,
                format!(
                    "{:?} at {}, supervised by process {pid}",
                    status.state, status.url
                ),
            )
        }
        Ok(Observed::Abandoned { processes }) => {
            let pids: Vec<String> = processes.iter().map(|process| process.pid.to_string()).collect();
            Check::warn(
                name,
                format!("its supervisor was killed; left behind: {}", pids.join(", ")),
                "podflare down",
            )
        }
        Err(error) => Check::fail(name, error.to_string(), "see whose directory it is"),
    }
}

fn port_check(port: u16, observed: &Result<Observed, operate::OperateError>) -> Check {
    let name = "port";
    if matches!(observed, Ok(Observed::Supervised(status)) if status.port == port) {
        return Check::ok(name, format!("{port} is ours"));
    }
    match port::require_free(port) {
        Ok(()) => Check::ok(name, format!("{port} is free")),
        Err(error) => Check::fail(name, error.to_string(), "podflare up --port ANOTHER"),
    }
}

fn clock() -> Check {
    let name = "clock";
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    if now >= CLOCK_MIN_UNIX_S {
        Check::ok(name, "plausible")
    } else {
        Check::fail(
            name,
            "is years behind",
            "set it; packages and certificates are refused otherwise",
        )
    }
}

fn program(name: &'static str, path: &Path) -> Check {
    if path.is_file() {
        Check::ok(name, path.display().to_string())
    } else {
        Check::fail(
            name,
            format!("{} is not there", path.display()),
            "build it: cargo xtask up",
        )
    }
}

fn image_check(name: &str, path: Option<&Path>) -> Check {
    match path {
        Some(path) if path.exists() => Check::ok("images", format!("{name}: {}", path.display())),
        _ => Check::warn(
            "images",
            format!("{name}: not built yet"),
            "nothing needed, the first start builds it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_well_comes_with_a_fix() {
        let directory = tempfile::tempdir().unwrap();
        let settings = crate::settings::tests::settings(&directory.path().join("run"));
        let nowhere = directory.path().join("nowhere");
        let input = DoctorInput {
            settings: &settings,
            cache_dir: &nowhere,
            state_dir: directory.path(),
            hostd: &nowhere,
            vmm: &nowhere,
            netd: &nowhere,
            images: &[("root file system", None)],
        };
        let checks = diagnose(&input);
        for check in &checks {
            assert_eq!(
                check.verdict == CheckVerdict::Ok,
                check.fix.is_none(),
                "{check:?}"
            );
            assert!(!check.found.is_empty(), "{check:?}");
        }
        let failed = checks.iter().filter(|check| check.verdict == CheckVerdict::Fail);
        assert!(
            failed.map(|check| check.name).any(|name| name == "host daemon"),
            "{checks:?}"
        );
    }
}
