//! Can the KVM of this machine run an ordinary guest?
//!
//! A `/dev/kvm` that opens proves nothing: some kernels offer one that creates VMs but crawls through an ordinary
//! guest kernel by emulating it. So the CPU must show `vmx` or `svm`, and a small trial guest must run to its end
//! within a time limit. Nothing is remembered: a look takes milliseconds where the answer is no, and a machine
//! may have been moved, reconfigured or updated since.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::settings::HostSetting;
use crate::timed;

const KVM: &str = "/dev/kvm";

/// Where sandboxes will run, with the reason as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Hardware { reason: String },
    Software { reason: String },
}

/// What can be seen without running anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `vmx` or `svm`, whichever the CPU shows.
    pub(crate) extension: Option<&'static str>,
    /// Whether this is itself a virtual machine.
    pub(crate) virtual_machine: bool,
    /// Whether the kernel emulates KVM for kernels made for it (module `kvm_pvm`).
    pub(crate) pvm: bool,
    pub(crate) device: Device,
}

/// State of `/dev/kvm`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Device {
    #[default]
    Missing,
    Denied,
    Broken(String),
    Opens,
}

/// What `podflare-vmm probe` prints.
#[derive(Debug, Deserialize)]
struct Trial {
    ok: bool,
    #[serde(default)]
    reason: Option<String>,
}

/// Decides for this machine. `vmm` is the program whose `probe` command runs the trial guest.
#[must_use]
pub fn decide(setting: HostSetting, vmm: &Path, trial_limit: Duration) -> Verdict {
    match setting {
        HostSetting::Hardware => Verdict::Hardware {
            reason: "hardware virtualization is set".to_owned(),
        },
        HostSetting::Software => Verdict::Software {
            reason: "the software host is set".to_owned(),
        },
        HostSetting::Auto => match Facts::gather().obstacle() {
            Some(reason) => Verdict::Software { reason },
            None => match trial(vmm, trial_limit) {
                Ok(()) => Verdict::Hardware {
                    reason: "a trial guest ran on the KVM of this machine".to_owned(),
                },
                Err(reason) => Verdict::Software { reason },
            },
        },
    }
}

impl Verdict {
    /// The reason, as one sentence without a full stop.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Hardware { reason } | Self::Software { reason } => reason,
        }
    }
}

impl Facts {
    pub(crate) fn gather() -> Self {
        let flags = fs::read_to_string("/proc/cpuinfo")
            .map(|text| cpu_flags(&text))
            .unwrap_or_default();
        let has = |flag: &str| flags.iter().any(|known| known == flag);
        Self {
            extension: ["vmx", "svm"].into_iter().find(|flag| has(flag)),
            virtual_machine: has("hypervisor"),
            pvm: Path::new("/sys/module/kvm_pvm").exists(),
            device: Device::look(),
        }
    }

    /// Why hardware virtualization is out of the question, if it is.
    pub(crate) fn obstacle(&self) -> Option<String> {
        if self.extension.is_none() {
            let here = if self.virtual_machine {
                "this virtual machine has no hardware virtualization (its CPU shows neither vmx nor svm)"
            } else {
                "the CPU shows neither vmx nor svm; its virtualization may be off in the firmware"
            };
            let device = match (&self.device, self.pvm) {
                (Device::Missing, _) => "",
                (_, true) => ", and its /dev/kvm (kvm_pvm) cannot run an ordinary guest kernel",
                (_, false) => ", and its /dev/kvm cannot run an ordinary guest kernel without",
            };
            return Some(format!("{here}{device}"));
        }
        match &self.device {
            Device::Opens => None,
            Device::Missing => Some(
                "the CPU has hardware virtualization but there is no /dev/kvm; try: sudo modprobe kvm_intel \
                 (or kvm_amd)"
                    .to_owned(),
            ),
            Device::Denied => Some(
                "/dev/kvm may not be opened; join its group with: sudo usermod -aG kvm $USER, then log in again"
                    .to_owned(),
            ),
            Device::Broken(why) => Some(format!("/dev/kvm does not open ({why})")),
        }
    }
}

impl Device {
    fn look() -> Self {
        match OpenOptions::new().read(true).write(true).open(KVM) {
            Ok(_) => Self::Opens,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Denied,
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}

/// Runs the trial guest; the error says why it did not do.
pub(crate) fn trial(vmm: &Path, limit: Duration) -> Result<(), String> {
    let mut command = Command::new(vmm);
    command.arg("probe");
    let finished = timed::run(command, limit)
        .map_err(|error| format!("the trial guest could not be started ({error})"))?;
    let Some(status) = finished.status else {
        let seconds = limit.as_secs_f32();
        return Err(format!(
            "the KVM of this machine did not finish a trial guest within {seconds} s"
        ));
    };
    // The answer is the last line; anything before it is talk.
    let line = finished
        .stdout
        .lines()
        .rfind(|line| line.starts_with('{'))
        .unwrap_or_default();
    match serde_json::from_str::<Trial>(line) {
        Ok(Trial { ok: true, .. }) if status.success() => Ok(()),
        Ok(Trial {
            reason: Some(reason), ..
        }) => Err(format!("a trial guest did not run: {reason}")),
        _ => {
            let said = finished
                .stderr
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or("it said nothing");
            Err(format!("the trial guest failed ({status}): {said}"))
        }
    }
}

fn cpu_flags(cpuinfo: &str) -> Vec<String> {
    let line = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .unwrap_or_default();
    let (_, flags) = line.split_once(':').unwrap_or_default();
    flags.split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn vmm(directory: &Path, script: &str) -> PathBuf {
        let path = directory.join("vmm");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn flags_are_whole_words_of_the_first_cpu() {
        let flags = cpu_flags("processor: 0\nflags\t\t: fpu vmx_like svm\nflags\t: vmx\n");
        assert_eq!(flags, ["fpu", "vmx_like", "svm"]);
    }

    #[test]
    fn a_kvm_device_without_cpu_support_is_not_believed() {
        let facts = Facts {
            virtual_machine: true,
            pvm: true,
            device: Device::Opens,
            ..Facts::default()
        };
        let reason = facts.obstacle().unwrap();
        assert!(
            reason.contains("neither vmx nor svm") && reason.contains("kvm_pvm"),
            "{reason}"
        );
    }

    #[test]
    fn a_denied_device_says_which_group_to_join() {
        let facts = Facts {
            extension: Some("vmx"),
            device: Device::Denied,
            ..Facts::default()
        };
        assert!(facts.obstacle().unwrap().contains("usermod -aG kvm"));
    }

    #[test]
    fn the_trial_guest_decides() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Duration::from_secs(120);
        let try_script = |script: &str, limit| trial(&vmm(directory.path(), script), limit);
        assert_eq!(
            try_script("echo talk; echo '{\"ok\":true,\"took_ms\":3}'", limit),
            Ok(())
        );
        let refused = try_script("echo '{\"ok\":false,\"reason\":\"no long mode\"}'; exit 1", limit);
        assert!(refused.unwrap_err().ends_with("no long mode"));
        let slow = try_script("exec sleep 600", Duration::from_millis(50));
        assert!(slow.unwrap_err().contains("within 0.05 s"));
        assert!(try_script("exit 7", limit).is_err());
        assert!(trial(Path::new("/nowhere/vmm"), limit).is_err());
    }

    #[test]
    fn a_setting_overrides_without_looking() {
        let decided = |setting| decide(setting, Path::new("/nowhere/vmm"), Duration::ZERO);
        assert!(matches!(decided(HostSetting::Hardware), Verdict::Hardware { .. }));
        assert!(matches!(decided(HostSetting::Software), Verdict::Software { .. }));
    }
}
