//! How near a host that runs is to each of its limits.

use api::{Headroom, HeadroomKind};

use super::{FAIL, Finding};
use crate::context::Context;

/// Of a limit, in percent: from here on it is worth a word, and from here on things are refused.
const WARN_AT: u64 = 80;
const FAIL_AT: u64 = 97;

/// Nothing where no host answers, or it is not this user's: others say that.
pub(super) fn findings(context: &Context) -> Vec<Finding> {
    let client = context.operator().ok();
    let capacity = client.and_then(|client| client.capacity_of_all().ok());
    let Some(capacity) = capacity else {
        return Vec::new();
    };
    let mut all = vec![limits(capacity.vms_unlimited)];
    all.extend(capacity.headroom.into_iter().map(finding));
    all
}

/// Whether the kernel holds each VM's process to what it needs.
fn limits(unlimited: Option<String>) -> Finding {
    let name = "limits of VMs";
    match unlimited {
        None => Finding {
            name,
            verdict: "ok",
            found: "each VM's process has a control group with limits on memory and threads".to_owned(),
            fix: None,
        },
        Some(why) => Finding {
            name,
            verdict: "warn",
            found: format!("VM processes share the daemon's limits: {why}"),
            fix: Some(
                "set vm_limits, and run the daemon as root, or in a unit with Delegate=yes, on a host with cgroup v2".to_owned(),
            ),
        },
    }
}

fn finding(headroom: Headroom) -> Finding {
    let Headroom { what, used, limit } = headroom;
    let percent = used.saturating_mul(100).checked_div(limit).unwrap_or(100);
    let verdict = match percent {
        0..WARN_AT => "ok",
        // Memory that is handed out is there to be handed out.
        _ if what == HeadroomKind::MemoryBudget => "warn",
        WARN_AT..FAIL_AT => "warn",
        _ => FAIL,
    };
    let (name, unit, fix) = described(what);
    Finding {
        name,
        verdict,
        found: format!("{used} of {limit} {unit} ({percent} %)"),
        fix: (verdict != "ok").then(|| fix.to_owned()),
    }
}

fn described(what: HeadroomKind) -> (&'static str, &'static str, &'static str) {
    match what {
        HeadroomKind::MemoryBudget => (
            "room for sandboxes",
            "MiB",
            "delete sandboxes, or give the host more memory: `podflare up --memory-mib`, or memory_budget_mib on hardware",
        ),
        HeadroomKind::Disk => (
            "disk of sandboxes",
            "MiB without the reserve",
            "delete sandboxes or files in them, or make the disk with the data directory larger; `disk_reserve_mib` says how much stays free",
        ),
        HeadroomKind::Threads => (
            "threads",
            "threads of the host",
            "raise kernel.pid_max and kernel.threads-max with sysctl, or run fewer sandboxes",
        ),
        HeadroomKind::OpenFiles => (
            "open files",
            "descriptors of the daemon",
            "raise the daemon's limit: `ulimit -Hn`, or LimitNOFILE= in its unit",
        ),
        HeadroomKind::FilesOfHost => (
            "files of the host",
            "open files of the host",
            "raise fs.file-max with sysctl, or find who holds so many: lsof",
        ),
        HeadroomKind::Maps => (
            "memory maps",
            "maps of one VM",
            "raise vm.max_map_count with sysctl",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_used_up_comes_with_its_fix() {
        let of = |what, used| {
            finding(Headroom {
                what,
                used,
                limit: 1000,
            })
        };
        assert_eq!(of(HeadroomKind::Disk, 10).verdict, "ok");
        assert_eq!(of(HeadroomKind::Disk, 10).fix, None);
        let near = of(HeadroomKind::Threads, 850);
        assert_eq!(near.verdict, "warn");
        assert!(near.fix.unwrap().contains("pid_max"));
        assert_eq!(of(HeadroomKind::OpenFiles, 990).verdict, FAIL);
        assert_eq!(of(HeadroomKind::MemoryBudget, 1000).verdict, "warn");
        let nothing = finding(Headroom {
            what: HeadroomKind::Maps,
            used: 0,
            limit: 0,
        });
        assert_eq!(nothing.verdict, FAIL);
    }
}
