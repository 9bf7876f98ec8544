//! The configuration file, and what it does to the command line of `up`.

use std::env;
use std::net::SocketAddr;

use ::settings::{File, Found, LoadError, Section};
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::settings::{Directories, GlobalArgs};

/// Says where the daemon listens, to those who start it by hand.
const ADDRESS_VARIABLE: &str = "PODFLARE_HOSTD_ADDR";

/// The file that counts, whether or not it can be used.
pub(crate) fn find(global: &GlobalArgs) -> Result<Option<Found>, Failure> {
    let directories = Directories::resolve(global)?;
    Ok(::settings::find(
        global.config.as_deref(),
        Some(&directories.state),
    ))
}

pub(crate) fn load(global: &GlobalArgs) -> Result<Option<File>, Failure> {
    let found = find(global)?;
    found.map(|found| File::load(&found).map_err(failure)).transpose()
}

pub(crate) fn failure(error: LoadError) -> Failure {
    let failure = Failure::because("config", &error);
    match error {
        LoadError::Read { .. } => failure.hint("`podflare config init` writes a file with every setting"),
        LoadError::Unsound { .. } => {
            failure.hint("docs/podflare.toml and `podflare config init` have every setting")
        }
    }
}

/// Reads the command line of `up` again, with what the file says in the place of the defaults.
pub(crate) fn read_again(cli: Cli) -> Result<Cli, Failure> {
    let file = load(&cli.global)?.unwrap_or_default();
    let port = port_of_address(&file)?;
    let command = Cli::command().mut_subcommand("up", |up| {
        let up = file.apply(&Section::up(), up);
        match port {
            Some(port) => up.mut_arg("port", |arg| arg.default_value(port.to_string())),
            None => up,
        }
    });
    // The same arguments were read before, so nothing new is wrong with them.
    Cli::from_arg_matches(&command.get_matches()).map_err(|error| Failure::usage(error.to_string()))
}

/// The port of the daemon's address: that of the variable goes before the file's `[up] port`, that of the file's
/// `[hostd] addr` after it.
fn port_of_address(file: &File) -> Result<Option<u16>, Failure> {
    let (up, hostd) = (Section::up(), Section::hostd());
    let in_file = |section: &Section, key: &str| {
        let (texts, _) = file.get(section, section.setting(key)?)?;
        texts.first().cloned()
    };
    let address = match env::var(ADDRESS_VARIABLE) {
        Ok(address) => address,
        Err(_) if in_file(&up, "port").is_some() => return Ok(None),
        Err(_) => match in_file(&hostd, "addr") {
            Some(address) => address,
            None => return Ok(None),
        },
    };
    let parsed: SocketAddr = address.parse().map_err(|_| {
        let text = format!(
            "{ADDRESS_VARIABLE}: expected an address and a port, as in 127.0.0.1:7070, got {address:?}"
        );
        Failure::new("address", text)
    })?;
    if parsed.ip().is_loopback() {
        return Ok(Some(parsed.port()));
    }
    let text = format!("the address of the daemon is {parsed}, and `podflare up` serves 127.0.0.1 only");
    Err(Failure::new("address", text).hint(
        "let a reverse proxy on this machine forward to it, or start podflare-hostd by hand; \
         --port names the port of `podflare up`",
    ))
}
