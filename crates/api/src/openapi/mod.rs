//! The OpenAPI document of the API, made from the types that travel and a table of operations.
//!
//! ```text
//!  request and response types ──schemars──▶ components ─┐
//!  routes/*.rs: one Operation per route ──────assemble──┴─▶ document() ──▶ /openapi.json, docs/openapi.json
//! ```
//!
//! Requests are parsed by hand, so their schemas could drift from the parsers: tests generate bodies from the schemas
//! and compare both verdicts. How to document a new route stands in `docs/adding-a-route.md`.

mod assemble;
mod content;
mod operation;
mod parameters;
mod routes;
mod schemas;
mod stand_ins;

#[cfg(test)]
mod tests;

pub use assemble::document;
pub use operation::{Method, Operation};
pub use routes::operations;
pub(crate) use stand_ins::{
    CheckpointIdText, LimitsObject, OverridesObject, PtyIdText, SandboxIdText, SecretName, SpaceIdText,
    TierText,
};
