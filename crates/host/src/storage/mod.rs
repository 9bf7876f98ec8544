//! What lies on this host's disks: templates to start from, and the daemon's own data.

mod data_dir;
mod leftovers;
mod reaper;
mod template;

pub use data_dir::DataDirError;
pub use template::{Template, TemplateError, Templates};

pub(crate) use data_dir::{DataDir, make_private, remove};
pub(crate) use leftovers::{Spared, clear};
pub(crate) use reaper::Reaper;
pub(crate) use template::Shape;
