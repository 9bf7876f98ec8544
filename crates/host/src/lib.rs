//! The host daemon's library: sandboxes on this host, and the HTTP API over them.
//!
//! ```text
//!  http ──▶ Host (registry, admission) ──▶ Sandbox (handle) ◀── owner task ──▶ vm (process, control socket)
//!   │                                        │
//!   └── RunStream: one exec ──▶ agent connection (vsock) ──▶ guest
//! ```
//!
//! One task owns each sandbox: it boots the VM or is given one, has it cloned, notices its death and gives everything
//! back. Where VMs come from that need not be booted is the [nursery]. An exec does not pass
//! through it: the request's own connection task takes a warm agent connection from the sandbox and copies between
//! the two sockets, so that nothing is spawned, queued or locked for long between a request and its VM.
//!
//! This crate must not know KVM, image building, or how a run is carried out in the guest.
#![forbid(unsafe_code)]

mod clock;
mod config;
mod events;

mod agent;
mod storage;
mod vm;

mod budget;
mod checkpoints;
mod diff;
mod disk;
mod files;
mod happenings;
mod headroom;
mod host;
mod lifetimes;
mod memory;
mod metrics;
mod network;
mod nursery;
mod ports;
mod pty;
mod records;
mod replay;
mod sandbox;
mod secrets;
mod spaces;
mod store;
mod tenants;
mod webhooks;

mod auth;
mod http;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use auth::{Auth, AuthConfig, AuthConfigError, Mode};
pub use config::{DiskLimits, HostConfig, MemoryLimits, Pools, SpacesConfig, Timing, WebhooksConfig};
pub use disk::{DiskProbe, DiskSpace, disk_space};
pub use host::{Host, OpenError, ShutdownReport, TakenOver};
pub use http::{Api, serve, serve_metrics};
pub use memory::{Probe, memory_available_mib, private_mib};
pub use network::{NetdFiles, NetdProgram, NetdSettings, NetdSpawner};
pub use ports::{NotADomain, PortsDomain};
pub use storage::{DataDirError, Template, TemplateError, Templates};
pub use store::StoreOpenError;
pub use tenants::TenantsConfig;
pub use vm::{Code, NETWORK_USER, ProcessName, VmmProcess, VmmProgram, VmmSpawner};
pub use webhooks::{Allowed, NotANetwork};
