//! Every setting of a host: its flag, its variable, its place in `podflare.toml`, its default, its documentation.
//!
//! ```text
//!  flag  >  environment  >  podflare.toml  >  default
//! ```
//!
//! A setting is a field of [`hostd::Options`] or [`up::Options`], described once, for clap. The configuration file has a
//! table for each of the two and a key for each field; its values become the defaults of the command line, so every
//! value passes the same parser wherever it comes from. The commented reference file is made from the same fields.
//!
//! This crate must not know what the settings do.
#![forbid(unsafe_code)]

pub mod hostd;
pub mod up;

mod check;
mod effective;
mod file;
mod place;
mod reference;
mod section;

pub use check::Problem;
pub use effective::{Effective, Origin, effective};
pub use file::{File, LoadError};
pub use place::{CONFIG_VARIABLE, Found, find};
pub use reference::reference;
pub use section::{Kind, Section, Setting};
