//! One sandbox: the handle everybody holds, the task that owns it, and the runs in it.

mod allowance;
mod birth;
mod disk_room;
mod handle;
mod network;
mod owner;
mod run;
mod standing;
mod tally;
mod uses;

pub(crate) use birth::{Birth, BootPlan, CreateError, CreateFailure};
pub(crate) use handle::{Beginning, Origin, Sandbox, Spec, Terms, Title};
pub(crate) use network::NotInForce;
pub(crate) use owner::{Message, Owner, Start, Tools};
pub(crate) use run::{Run, RunEnd, RunStream};
pub(crate) use uses::InUse;
