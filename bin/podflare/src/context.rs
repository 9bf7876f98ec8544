//! What every command is given.

use std::env;

use ::settings::{File, Found};
use client::{Client, Endpoint, EndpointSources};

use crate::configuration;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::local;
use crate::operator;
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
        Ok(Client::new(self.endpoint(self.global.api_key.clone())?))
    }

    /// A client of the same host with the operator's rights.
    pub(crate) fn operator(&self) -> Result<Client, Failure> {
        let endpoint = self.endpoint(None)?;
        let given = env::var(operator::VARIABLE)
            .ok()
            .filter(|token| !token.trim().is_empty());
        let token = match given {
            Some(token) => Some(token.trim().to_owned()),
            None => self.local_token(endpoint.url())?,
        };
        let token = token.ok_or_else(|| {
            let text = format!("the operator's token of the host at {} is not here", endpoint.url());
            Failure::new("no_operator_token", text).hint(
                "on the machine that runs the host it is the file operator.token of its state directory (--state-dir); \
                 elsewhere set PODFLARE_OPERATOR_TOKEN",
            )
        })?;
        let endpoint = Endpoint::new(endpoint.url(), Some(token));
        endpoint
            .map(Client::new)
            .map_err(|error| Failure::because("operator", &error))
    }

    /// The token from the state directory, if the host it belongs to is the one at this URL.
    fn local_token(&self, url: &str) -> Result<Option<String>, Failure> {
        let directories = self.directories()?;
        if local::url(&directories).is_none_or(|own| own.trim_end_matches('/') != url) {
            return Ok(None);
        }
        operator::read(&directories)
            .map_err(|error| Failure::while_doing("operator", "cannot read the operator's token", &error))
    }

    fn endpoint(&self, key: Option<String>) -> Result<Endpoint, Failure> {
        let sources = EndpointSources {
            url: self.global.api_url.clone(),
            key,
            local_url: self
                .directories()
                .ok()
                .and_then(|directories| local::url(&directories)),
        };
        Endpoint::resolve(sources, |name| env::var(name).ok()).map_err(|error| {
            Failure::because("endpoint", &error).hint("check --api-url, PODFLARE_API_URL and the key")
        })
    }
}
