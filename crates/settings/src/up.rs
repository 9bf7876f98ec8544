//! What `podflare up` decides before there is a daemon.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Settings of `podflare up`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Port of the API on 127.0.0.1; without it that of PODFLARE_HOSTD_ADDR, then 7070
    #[arg(long)]
    pub port: Option<u16>,

    /// Where sandboxes run: `auto` uses hardware virtualization if it works
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "KIND",
        env = "PODFLARE_HOST_KIND",
        hide_env_values = true,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub kind: Kind,

    /// Memory of the software host, in MiB [default: half of what is free, at most 8 GiB]
    #[arg(
        long,
        visible_alias = "memory",
        value_name = "MIB",
        env = "PODFLARE_MEMORY_MIB",
        hide_env_values = true
    )]
    pub memory_mib: Option<u32>,

    /// PEM file, or directory of them, that sandboxes shall trust (can be repeated)
    #[arg(
        long,
        value_name = "PATH",
        env = "PODFLARE_CA_CERTIFICATES",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub ca_certificates: Vec<PathBuf>,

    /// Template to have besides `default` (can be repeated); `podflare image ls` shows all
    #[arg(
        long = "template",
        value_name = "NAME",
        env = "PODFLARE_TEMPLATES",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub templates: Vec<String>,
}

/// Where sandboxes run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    #[default]
    Auto,
    Hardware,
    Software,
}
