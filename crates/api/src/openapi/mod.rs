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

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use schemars::JsonSchema;

pub use assemble::document;
pub use operation::{Method, Operation};
pub use routes::operations;

/// How a sandbox's id looks in a schema.
#[derive(Debug, JsonSchema)]
#[schemars(inline, extend("pattern" = "^sbx_[0-9a-f]{32}$"))]
#[expect(dead_code, reason = "it stands for another type in schemas only")]
pub(crate) struct SandboxIdText(Cow<'static, str>);
