//! The tables of the configuration file and the settings in each, as clap describes them.

use std::any::TypeId;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Args as _, Command, CommandFactory as _};

use crate::{hostd, up};

/// Options that are about the configuration file itself or about nothing that lasts.
const NOT_SETTINGS: [&str; 3] = ["config", "help", "version"];

/// What `podflare up` tells the daemon itself; only a daemon that is started by hand takes these from elsewhere.
const SET_BY_UP: [&str; 9] = [
    "addr",
    "exposed_as",
    "data_dir",
    "images",
    "guest_initrd",
    "vmm",
    "netd",
    "authority",
    "vcpus",
];

/// One table.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name in the file.
    pub name: &'static str,
    pub settings: Vec<Setting>,
}

/// One key.
#[derive(Clone, Debug)]
pub struct Setting {
    pub key: String,
    /// Sentences for people.
    pub help: String,
    pub kind: Kind,
    /// Without dashes.
    pub flag: Option<String>,
    pub variable: Option<String>,
    /// As text; empty when there is none, or it depends on the machine.
    pub default: Vec<String>,
    /// The only values, if there are few.
    pub words: Vec<String>,
    /// Never shown.
    pub secret: bool,
    /// `podflare up` decides it.
    pub set_by_up: bool,
    pub(crate) arg: Arg,
}

/// What a value is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Flag,
    Integer,
    /// Seconds, whole or not.
    Seconds,
    Text,
    Path,
    /// Of text or paths.
    List,
}

impl Section {
    /// `[up]`
    #[must_use]
    pub fn up() -> Self {
        Self::of("up", &up::Options::augment_args(Command::new("up")))
    }

    /// `[hostd]`
    #[must_use]
    pub fn hostd() -> Self {
        Self::of("hostd", &hostd::Options::command())
    }

    /// In the order of the file.
    #[must_use]
    pub fn all() -> [Self; 2] {
        [Self::up(), Self::hostd()]
    }

    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    fn of(name: &'static str, command: &Command) -> Self {
        let settings = command
            .get_arguments()
            .filter(|arg| !NOT_SETTINGS.contains(&arg.get_id().as_str()))
            .map(|arg| Setting::of(name, arg))
            .collect();
        Self { name, settings }
    }
}

impl Setting {
    fn of(section: &str, arg: &Arg) -> Self {
        let help = arg.get_long_help().or_else(|| arg.get_help());
        let values = arg.get_possible_values();
        let kind = Kind::of(arg);
        let texts = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        Self {
            key: arg.get_id().to_string(),
            help: help.map(ToString::to_string).unwrap_or_default(),
            kind,
            flag: arg.get_long().filter(|_| !arg.is_hide_set()).map(str::to_owned),
            variable: arg.get_env().map(texts),
            default: arg
                .get_default_values()
                .iter()
                .map(|value| texts(value))
                .collect(),
            words: match kind {
                Kind::Flag => Vec::new(),
                _ => values.iter().map(|value| value.get_name().to_owned()).collect(),
            },
            secret: section == "hostd" && arg.is_hide_env_values_set(),
            set_by_up: section == "hostd" && SET_BY_UP.contains(&arg.get_id().as_str()),
            arg: arg.clone(),
        }
    }
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        let of = arg.get_value_parser().type_id();
        let is = |other: TypeId| of == other;
        match arg.get_action() {
            ArgAction::SetTrue => Self::Flag,
            ArgAction::Append => Self::List,
            _ if [
                TypeId::of::<u8>(),
                TypeId::of::<u16>(),
                TypeId::of::<u32>(),
                TypeId::of::<u64>(),
            ]
            .into_iter()
            .any(is) =>
            {
                Self::Integer
            }
            _ if is(TypeId::of::<Duration>()) => Self::Seconds,
            _ if is(TypeId::of::<PathBuf>()) => Self::Path,
            _ => Self::Text,
        }
    }

    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Integer => "a whole number",
            Self::Seconds => "a number of seconds",
            Self::Text => "text in quotes",
            Self::Path => "a path in quotes",
            Self::List => "a list of texts, as in [\"a\", \"b\"]",
        }
    }
}
