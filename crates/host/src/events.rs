//! Names of what the log tells about sandboxes and VMs, in the field `event`. They do not change with the wording of
//! messages; `docs/operations.md` lists them, which a test compares.

pub(crate) const HTTP_REQUEST: &str = "http_request";
pub(crate) const SANDBOX_CREATED: &str = "sandbox_created";
pub(crate) const SANDBOX_FORKED: &str = "sandbox_forked";
pub(crate) const SANDBOX_MERGED: &str = "sandbox_merged";
pub(crate) const SANDBOX_ROLLED_BACK: &str = "sandbox_rolled_back";
pub(crate) const CHECKPOINT_MADE: &str = "checkpoint_made";
pub(crate) const CHECKPOINT_ADOPTED: &str = "checkpoint_adopted";
pub(crate) const SANDBOX_ADOPTED: &str = "sandbox_adopted";
pub(crate) const SANDBOX_FAILED: &str = "sandbox_failed";
pub(crate) const SANDBOX_EXPIRED: &str = "sandbox_expired";
pub(crate) const SANDBOX_DESTROYED: &str = "sandbox_destroyed";
pub(crate) const SANDBOX_FROZEN: &str = "sandbox_frozen";
pub(crate) const SANDBOX_RESUMED: &str = "sandbox_resumed";
pub(crate) const FREEZE_FAILED: &str = "freeze_failed";
pub(crate) const RESUME_FAILED: &str = "resume_failed";
pub(crate) const SPACE_IMPORTED: &str = "space_imported";
pub(crate) const IMPORT_FAILED: &str = "import_failed";
pub(crate) const VM_BOOTED: &str = "vm_booted";
pub(crate) const CLONE_READY: &str = "clone_ready";
pub(crate) const AGENT_CONNECTED: &str = "agent_connected";
pub(crate) const AGENT_LOST: &str = "agent_lost";
pub(crate) const ZYGOTE_READY: &str = "zygote_ready";
pub(crate) const SNAPSHOT_MADE: &str = "snapshot_made";
pub(crate) const POOL: &str = "pool";
pub(crate) const DISK_LOW: &str = "disk_low";
pub(crate) const DISK_WELL: &str = "disk_well";
pub(crate) const NETD_READY: &str = "netd_ready";
pub(crate) const NETD_ENDED: &str = "netd_ended";
pub(crate) const NETD_SAYS: &str = "netd_says";
pub(crate) const LINES_LEFT_OUT: &str = "lines_left_out";

#[cfg(test)]
pub(crate) const ALL: [&str; 30] = [
    HTTP_REQUEST,
    SANDBOX_CREATED,
    SANDBOX_FORKED,
    SANDBOX_MERGED,
    SANDBOX_ROLLED_BACK,
    CHECKPOINT_MADE,
    CHECKPOINT_ADOPTED,
    SANDBOX_ADOPTED,
    SANDBOX_FAILED,
    SANDBOX_EXPIRED,
    SANDBOX_DESTROYED,
    SANDBOX_FROZEN,
    SANDBOX_RESUMED,
    FREEZE_FAILED,
    RESUME_FAILED,
    SPACE_IMPORTED,
    IMPORT_FAILED,
    VM_BOOTED,
    CLONE_READY,
    AGENT_CONNECTED,
    AGENT_LOST,
    ZYGOTE_READY,
    SNAPSHOT_MADE,
    POOL,
    DISK_LOW,
    DISK_WELL,
    NETD_READY,
    NETD_ENDED,
    NETD_SAYS,
    LINES_LEFT_OUT,
];
