//! One sandbox: the handle everybody holds, the task that owns it, and the runs in it.

mod handle;
mod owner;
mod run;

pub(crate) use handle::{Beginning, Sandbox, Spec};
pub(crate) use owner::{CreateError, CreateFailure, Message, Owner};
pub(crate) use run::{RunEnd, RunStream};
