//! What every command is given.

use std::env;

use ::settings::{File, Found};
use client::{Client, Endpoint, EndpointSources};

use crate::configuration;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::local;
use crate::output::Printer;
use crate::settings::{Directories, GlobalArgs, STATE_DIR_VARIABLE};

/// Settings resolved once, and the ways to the outside.
pub(crate) struct Context {
    pub(crate) printer: Printer,
    pub(crate) interrupts: Interrupts,
    global: GlobalArgs,
}

impl Context {
    pub(crate) fn new(printer: Printer, interrupts: Interrupts, global: GlobalArgs) -> Self {
        Self {
            printer,
            interrupts,
            global,
        }
    }

    /// Directories of the host on this machine.
    pub(crate) fn directories(&self) -> Result<Directories, Failure> {
        Directories::resolve(&self.global)
    }

    /// The configuration file that counts for the host on this machine, if there is one.
    pub(crate) fn configuration(&self) -> Result<Option<File>, Failure> {
        configuration::load(&self.global)
    }

    /// Where that file is.
    pub(crate) fn configuration_place(&self) -> Result<Option<Found>, Failure> {
        configuration::find(&self.global)
    }

    /// Whether the arguments or the environment name a host, which then need not be one on this machine.
    pub(crate) fn names_a_host(&self) -> bool {
        self.global.api_url.is_some() || client::names_a_host(|name| env::var(name).ok())
    }

    /// Options that other commands need to find the same local host, each followed by a space.
    pub(crate) fn options_of_local_commands(&self) -> String {
        // A directory from the environment is there for the other commands, too.
        let given = self
            .global
            .state_dir
            .as_ref()
            .filter(|given| env::var_os(STATE_DIR_VARIABLE).is_none_or(|set| set != given.as_os_str()));
        given
            .map(|given| format!("--state-dir {} ", given.display()))
            .unwrap_or_default()
    }

    /// A client of the host that the arguments, the environment or the run directory name, in that order.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let sources = EndpointSources {
            url: self.global.api_url.clone(),
            key: self.global.api_key.clone(),
            local_url: self
                .directories()
                .ok()
                .and_then(|directories| local::url(&directories)),
        };
        let endpoint = Endpoint::resolve(sources, |name| env::var(name).ok()).map_err(|error| {
            Failure::because("endpoint", &error).hint("check --api-url, PODFLARE_API_URL and the key")
        })?;
        Ok(Client::new(endpoint))
    }
}
