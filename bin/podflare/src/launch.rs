//! What a host was started with, and whether that is still what is wanted.
//!
//! `up` writes it into the run directory before it starts a supervisor, which reads it there. A later `up` compares:
//! the same means that there is nothing to do, and what differs is why the host is started anew.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ::settings::{CONFIG_VARIABLE, Section};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use softhost::{HostKind, HostSetting, Limits, RunDir, Settings};

use crate::artifacts::{Artifacts, DEFAULT_TEMPLATE};
use crate::binaries::Binaries;
use crate::failure::Failure;
use crate::operator;
use crate::settings::Directories;

/// Name of the file in the run directory.
const FILE: &str = "launch.json";

/// Variables of the caller that the host daemon gets beside those of its settings.
const PASSED_ON: [&str; 17] = [
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_EXPORTER",
    "OTEL_LOGS_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BLRP_SCHEDULE_DELAY",
    "RUST_LOG",
    "RUST_BACKTRACE",
];

/// Everything that decides what a started host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) options: Options,
    pub(crate) kind: HostKind,
    /// Why this kind of host; not a difference worth a restart.
    pub(crate) reason: String,
    pub(crate) binaries: Binaries,
    pub(crate) artifacts: Artifacts,
    digests: Digests,
}

/// What a user can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) port: u16,
    /// Memory of the software host, in MiB.
    pub(crate) memory_mib: Option<u32>,
    /// Memory of a sandbox that asks for none, in MiB.
    pub(crate) ram_mib: Option<u32>,
    /// Sizes of pools, each `template=count`.
    #[serde(default)]
    pub(crate) pool: Vec<String>,
    /// PEM files and directories of them that sandboxes trust.
    pub(crate) ca_certificates: Vec<PathBuf>,
    /// Names of the templates besides the default one.
    #[serde(default)]
    pub(crate) templates: Vec<String>,
    /// Whether callers need a key also on this machine.
    #[serde(default)]
    pub(crate) require_keys: bool,
}

impl Options {
    /// Whether the host makes sandboxes from that template.
    pub(crate) fn offers(&self, template: &str) -> bool {
        template == DEFAULT_TEMPLATE || self.templates.iter().any(|name| name == template)
    }
}

/// SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Digests {
    hostd: String,
    vmm: String,
    #[serde(default)]
    netd: String,
    environment: String,
    #[serde(default)]
    operator: String,
}

impl Launch {
    pub(crate) fn new(
        options: Options,
        (kind, reason): (HostKind, String),
        binaries: Binaries,
        artifacts: Artifacts,
        (from_file, operator): (&[(String, String)], &str),
    ) -> Result<Self, Failure> {
        let digests = Digests {
            hostd: file_digest(&binaries.hostd)?,
            vmm: file_digest(&binaries.vmm)?,
            netd: file_digest(&binaries.netd)?,
            environment: environment_digest(from_file),
            operator: hexadecimal(&Sha256::digest(operator)),
        };
        Ok(Self {
            options,
            kind,
            reason,
            binaries,
            artifacts,
            digests,
        })
    }

    /// What the host that runs was started with, as far as it was written down.
    pub(crate) fn read(directories: &Directories) -> Option<Self> {
        serde_json::from_slice(&fs::read(directories.run.join(FILE)).ok()?).ok()
    }

    /// Writes it down for the supervisor and for later.
    pub(crate) fn write(&self, directories: &Directories) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            RunDir::open(&directories.run).map_err(io::Error::other)?;
            let path = directories.run.join(FILE);
            let new = path.with_extension("json.new");
            fs::write(&new, serde_json::to_vec_pretty(self)?)?;
            fs::rename(new, path)
        };
        write().map_err(|error| Failure::while_doing("run_dir", "cannot note what is to be started", &error))
    }

    /// What is different from a host that runs already; nothing when it is what is wanted.
    pub(crate) fn differences(&self, running: &Self) -> Vec<&'static str> {
        let checks = [
            ("the kind of host", self.kind != running.kind),
            ("the port", self.options.port != running.options.port),
            (
                "the host's memory",
                self.options.memory_mib != running.options.memory_mib,
            ),
            (
                "the sandboxes' memory",
                self.options.ram_mib != running.options.ram_mib,
            ),
            (
                "whether keys are required",
                self.options.require_keys != running.options.require_keys,
            ),
            (
                "the operator's token",
                self.digests.operator != running.digests.operator,
            ),
            ("the pools' sizes", self.options.pool != running.options.pool),
            ("podflare-hostd", self.digests.hostd != running.digests.hostd),
            ("podflare-vmm", self.digests.vmm != running.digests.vmm),
            ("podflare-netd", self.digests.netd != running.digests.netd),
            ("the images", self.artifacts.differ_from(&running.artifacts)),
            (
                "podflare-agent",
                self.artifacts.guest_initrd != running.artifacts.guest_initrd,
            ),
            (
                "the environment",
                self.digests.environment != running.digests.environment,
            ),
        ];
        checks
            .into_iter()
            .filter_map(|(what, differs)| differs.then_some(what))
            .collect()
    }

    /// The same in the supervisor's terms.
    pub(crate) fn settings(&self, directories: &Directories) -> Settings {
        let ram = self
            .options
            .ram_mib
            .map(|ram_mib| ["--ram-mib".to_owned(), ram_mib.to_string()]);
        let require = self.options.require_keys.then(|| "--require-keys".to_owned());
        let mut hostd_environment = environment(&[]);
        if let Ok(Some(token)) = operator::read(directories) {
            hostd_environment.push((operator::VARIABLE.to_owned(), token));
        }
        let pools = self.options.pool.iter();
        let pools = pools.map(|pool| ["--pool".to_owned(), pool.clone()]);
        Settings {
            run_dir: directories.run.clone(),
            port: self.options.port,
            memory_mib: self.options.memory_mib,
            // Decided once, by `up`; the supervisor is told.
            host: match self.kind {
                HostKind::Hardware => HostSetting::Hardware,
                HostKind::Software => HostSetting::Software,
            },
            hostd_arguments: ram.into_iter().chain(pools).flatten().chain(require).collect(),
            hostd_environment,
            limits: Limits::default(),
        }
    }
}

/// What the host daemon gets. Some of it is secret: it is inherited by the supervisor, and only a digest of it is
/// written down. A daemon on this machine shall not look for the configuration file once more.
fn environment(from_file: &[(String, String)]) -> Vec<(String, String)> {
    let hostd = Section::hostd();
    let settings = hostd.settings.into_iter().filter(|setting| !setting.set_by_up);
    let names = settings.filter_map(|setting| setting.variable);
    let value = |name: String| {
        let in_file = || from_file.iter().find(|(known, _)| *known == name);
        let value = env::var(&name)
            .ok()
            .or_else(|| in_file().map(|(_, value)| value.clone()))?;
        Some((name, value))
    };
    let given = names.chain(PASSED_ON.map(str::to_owned)).filter_map(value);
    given
        .chain([(CONFIG_VARIABLE.to_owned(), String::new())])
        .collect()
}

fn environment_digest(from_file: &[(String, String)]) -> String {
    let mut hash = Sha256::new();
    for (name, value) in environment(from_file) {
        // A byte that is in neither keeps pairs apart.
        hash.update(format!("{name}={value}\0"));
    }
    hexadecimal(&hash.finalize())
}

fn file_digest(path: &Path) -> Result<String, Failure> {
    let content = fs::read(path).map_err(|error| {
        Failure::while_doing("binaries", &format!("cannot read {}", path.display()), &error)
    })?;
    Ok(hexadecimal(&Sha256::digest(content)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
