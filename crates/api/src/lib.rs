//! What travels over HTTP: requests, responses, errors and stream events, as the client sees them.
//!
//! Requests are validated by hand ([`InvalidRequest`] names the field and the fix, which serde's own texts do
//! not); responses and events are plain serde types. [`EventEncoder`] turns raw output bytes into the NDJSON of an
//! `exec` stream.
//!
//! This crate must not know sockets, an HTTP library, or what a sandbox is made of.
#![forbid(unsafe_code)]

mod fields;

mod change;
mod checkpoint;
mod create;
mod diff;
mod egress;
mod egress_log;
mod exec;
mod files;
mod fork;
mod ports;
mod pty;
mod pty_event;
mod replay;

mod admin;
mod webhooks;

mod capacity;
mod sandbox;
mod secret;
mod space;

mod error;

mod encode;
mod event;

mod openapi;

pub use admin::{
    AUDIT_LIMIT_MAX, AuditEntry, AuditPage, AuditQuery, GRACE_SECONDS_MAX, KeyInfo, KeyList, KeyState,
    NewKey, NewKeyRequest, NewTenantRequest, RotateRequest, SetTenantRequest, StoreReport, TenantInfo,
    TenantList, USAGE_DAYS_MAX, UsageDay, UsageFigures, UsageList, UsageQuery, UsageReport,
};
pub use capacity::{
    Bucket, Capacity, DiskCapacity, Headroom, HeadroomKind, Histogram, Latency, MemoryCapacity, PoolCapacity,
    PoolState, RecentMinute, RunCapacity, SandboxCounts,
};
pub use change::{ChangeRequest, Wish};
pub use checkpoint::{
    Checkpoint, CheckpointList, CheckpointRequest, CheckpointState, RollbackRequest, RolledBack,
};
pub use create::{CreateRequest, RAM_MIB_MAX, RAM_MIB_MIN, ROOTFS_GB_MAX};
pub use diff::{DIFF_PATHS_MAX, Diff, DiffEntry, DiffRequest, FileKind};
pub use egress_log::{
    EGRESS_LOG_LIMIT_MAX, EgressLogEntry, EgressLogPage, EgressLogQuery, EgressProtocol, EgressVerdict,
};
#[cfg(any(test, feature = "fuzzing"))]
pub use encode::fuzz_event_encoder;
pub use encode::{Channel, EventEncoder, LINE_BYTES_MAX};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use event::{Event, EventData, EventKind};
pub use exec::{ExecRequest, Language, TIMEOUT_MS_MAX};
pub use fields::InvalidRequest;
pub use files::{
    DirectoryListing, FILE_PATH_BYTES_MAX, FileChange, FileChangeKind, FileInfo, FilesQuery, KIND_HEADER,
    LIST_ENTRIES_MAX, MODE_HEADER, UnpackedArchive, percent_encoded,
};
pub use fork::{FORK_MAX, ForkRequest, Forked};
pub use openapi::{Method, Operation, document, operations};
pub use ports::{PortInfo, PortList, PortProcess, SHARE_SECONDS_MAX, ShareRequest, SharedPort};
pub use pty::{
    PtyCreateRequest, PtyInfo, PtyInputRequest, PtyProgram, PtyReadAnswer, PtyReadRequest, PtyResizeRequest,
};
pub use pty_event::PtyEvent;
pub use replay::ReplayRequest;
pub use sandbox::{
    CreatedSandbox, SandboxInfo, SandboxList, SandboxNetwork, SandboxState, SandboxStats, SandboxUsage,
    Source,
};
pub use secret::{SECRETS_MAX, SecretInfo, SecretList, SecretRequest};
pub use space::{FreezeCause, FreezeRequest, ResumeRequest, SPACE_MEDIA_TYPE, SpaceInfo, SpaceList};
pub use webhooks::{
    AttemptInfo, DELIVERIES_LIMIT_MAX, DeliveriesQuery, DeliveryInfo, DeliveryList, DeliveryState,
    NewWebhook, WEBHOOK_TEST_TYPE, WebhookChange, WebhookEvent, WebhookInfo, WebhookList, WebhookPayload,
    WebhookRequest,
};

/// Longest request body, in bytes. The official client's largest body is an upload of a few MiB in base64.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
