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
mod diff;
mod files;
mod host;
mod memory;
mod metrics;
mod nursery;
mod pty;
mod replay;
mod sandbox;
mod store;
mod tenants;

mod auth;
mod http;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use auth::{Auth, AuthConfig, AuthConfigError, Mode};
pub use config::{HostConfig, MemoryLimits, Pools, Timing};
pub use host::{Host, OpenError, ShutdownReport};
pub use http::{Api, serve, serve_metrics};
pub use memory::{Probe, memory_available_mib};
pub use storage::{DataDirError, Template, TemplateError, Templates};
pub use store::StoreOpenError;
pub use tenants::TenantsConfig;
pub use vm::{Code, VmmProcess, VmmProgram, VmmSpawner};
