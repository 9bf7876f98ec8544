//! What is, rather than what has happened: looked at when somebody asks.

use api::{Capacity, PoolCapacity, PoolState};

use super::families::Families;

const MIB: u64 = 1024 * 1024;

/// The host at one moment.
#[derive(Clone, Debug)]
pub(crate) struct HostState {
    pub(crate) capacity: Capacity,
    /// So little memory is left that VMs are ended.
    pub(crate) pressure: bool,
    /// So little room is left on the disk that guests may not use all of theirs.
    pub(crate) disk_pressure: bool,
    /// Directories of VMs that are to be removed.
    pub(crate) doomed_homes: u64,
    /// Deliveries of webhooks that wait to be made.
    pub(crate) deliveries: u64,
    /// The network process does what it is told.
    pub(crate) netd_up: bool,
    /// VMs that are connected to it.
    pub(crate) wires: u64,
    /// Tasks of the runtime.
    pub(crate) tasks: u64,
}

impl HostState {
    pub(super) fn register(&self, families: &mut Families<'_>) {
        let build = families.gauge_family("build_info", "Always 1; the version is a label");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        build.get_or_create(&vec![("version", version)]).set(1);
        self.sandboxes(families);
        self.memory(families);
        let tasks = families.gauge("runtime_tasks", "Tasks of the daemon's runtime");
        tasks.set(whole(self.tasks));
        let help = "1 while the network process does what it is told; otherwise no sandbox reaches anything";
        families.gauge("netd_up", help).set(i64::from(self.netd_up));
        let help = "VMs that are connected to the network process";
        families.gauge("network_wires", help).set(whole(self.wires));
        let help = "Deliveries of webhooks that wait to be sent, or sent again";
        families
            .gauge("webhook_deliveries_pending", help)
            .set(whole(self.deliveries));
        for pool in Pool::ALL {
            pool.register(families, &self.capacity.pools);
        }
    }

    fn sandboxes(&self, families: &mut Families<'_>) {
        let counts = &self.capacity.sandboxes;
        let states = [
            ("booting", counts.booting),
            ("ready", counts.ready),
            ("failed", counts.failed),
            ("ending", counts.ending),
        ];
        let family = families.gauge_family("sandboxes", "Sandboxes, by state");
        for (state, count) in states {
            let labels = vec![("state", state.to_owned())];
            family.get_or_create(&labels).set(count.into());
        }
        let help = "What is still to be given back: VMs that are ending, directories to be removed";
        let family = families.gauge_family("teardown_backlog", help);
        for (what, count) in [("vms", counts.ending.into()), ("directories", self.doomed_homes)] {
            family
                .get_or_create(&vec![("what", what.to_owned())])
                .set(whole(count));
        }
        let help = "Runs in progress, those that wait in their sandbox's queue included";
        families
            .gauge("runs_in_progress", help)
            .set(self.capacity.execs.running.into());
    }

    fn memory(&self, families: &mut Families<'_>) {
        let memory = &self.capacity.memory;
        let sizes = [
            (
                "memory_budget_bytes",
                "What all sandboxes together may count for",
                Some(memory.budget_mib),
            ),
            (
                "memory_used_bytes",
                "What they count for, those in pools included",
                Some(memory.used_mib),
            ),
            (
                "host_memory_available_bytes",
                "What the host's kernel calls available",
                memory.host_available_mib,
            ),
        ];
        for (name, help, mib) in sizes {
            if let Some(mib) = mib {
                families.gauge(name, help).set(whole(mib.saturating_mul(MIB)));
            }
        }
        if let Some(disk) = &self.capacity.disk {
            let sizes = [
                (
                    "disk_free_bytes",
                    "Room on the file system with the sandboxes' disks",
                    disk.free_mib,
                ),
                (
                    "disk_reserve_bytes",
                    "What of it is not for sandboxes",
                    disk.reserve_mib,
                ),
            ];
            for (name, help, mib) in sizes {
                families.gauge(name, help).set(whole(mib.saturating_mul(MIB)));
            }
        }
        let help = "1 while so little room is left on the host's disk that guests may not use all of theirs";
        families
            .gauge("disk_pressure", help)
            .set(i64::from(self.disk_pressure));
        let help = "1 while so little of the host's memory is left that VMs are ended for it";
        families
            .gauge("memory_pressure", help)
            .set(i64::from(self.pressure));
    }
}

/// What is shown of each pool.
#[derive(Clone, Copy, Debug)]
enum Pool {
    Ready,
    Size,
    Target,
    Filling,
    CloneBytes,
    Hits,
    Misses,
    Restores,
}

impl Pool {
    const ALL: [Self; 8] = [
        Self::Ready,
        Self::Size,
        Self::Target,
        Self::Filling,
        Self::CloneBytes,
        Self::Hits,
        Self::Misses,
        Self::Restores,
    ];

    fn register(self, families: &mut Families<'_>, pools: &[PoolCapacity]) {
        let (name, help) = self.described();
        let labelled = pools
            .iter()
            .map(|pool| (vec![("template", pool.template.clone())], self.of(pool)));
        if matches!(self, Self::Hits | Self::Misses | Self::Restores) {
            let family = families.counter_family(name, help);
            labelled.for_each(|(labels, value)| {
                family.get_or_create(&labels).inc_by(value);
            });
        } else {
            let family = families.gauge_family(name, help);
            labelled.for_each(|(labels, value)| {
                family.get_or_create(&labels).set(whole(value));
            });
        }
    }

    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Ready => (
                "template_ready",
                "1 when VMs of the template can be cloned, 0 when they are booted",
            ),
            Self::Size => ("pool_vms", "VMs that wait, ready to be handed out"),
            Self::Target => ("pool_target", "VMs that should wait"),
            Self::Filling => ("pool_filling", "VMs that are being made for the pool"),
            Self::CloneBytes => (
                "clone_estimate_bytes",
                "Memory that a clone of the template counts for",
            ),
            Self::Hits => ("pool_hits", "Creations served from the pool"),
            Self::Misses => ("pool_misses", "Creations that the pool could not serve"),
            Self::Restores => (
                "zygote_restores",
                "Times the VM that clones are made of was restored",
            ),
        }
    }

    fn of(self, pool: &PoolCapacity) -> u64 {
        match self {
            Self::Ready => u64::from(pool.state == PoolState::Ready),
            Self::Size => pool.size.into(),
            Self::Target => pool.target.into(),
            Self::Filling => pool.filling.into(),
            Self::CloneBytes => u64::from(pool.clone_mib) * MIB,
            Self::Hits => pool.hits,
            Self::Misses => pool.misses,
            Self::Restores => pool.restores,
        }
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
