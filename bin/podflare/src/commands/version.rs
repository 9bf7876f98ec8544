//! `podflare version`.

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Say which version this is and what it was built for
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// `debug` or `release`.
    profile: &'static str,
    /// Processor and operating system.
    target: String,
    /// Whether it runs without shared libraries.
    static_linked: bool,
}

pub(crate) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        profile: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        static_linked: cfg!(target_feature = "crt-static"),
    };
    context.printer.show(&version)?;
    Ok(Exit::Ok)
}

impl Show for Version {
    fn words(&self, _: Paint) -> String {
        let linked = if self.static_linked { "static" } else { "dynamic" };
        format!(
            "podflare {} ({}, {}, {linked})",
            self.version, self.target, self.profile
        )
    }
}
