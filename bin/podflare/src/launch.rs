//! What a host was started with, and whether that is still what is wanted.
//!
//! `up` writes it into the run directory before it starts a supervisor, which reads it there. A later `up` compares:
//! the same means that there is nothing to do, and what differs is why the host is started anew.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use softhost::{HostKind, HostSetting, Limits, RunDir, Settings};

use crate::artifacts::{Artifacts, DEFAULT_TEMPLATE};
use crate::binaries::Binaries;
use crate::failure::Failure;
use crate::settings::Directories;

/// Name of the file in the run directory.
const FILE: &str = "launch.json";

/// Variables of the caller that the host daemon gets. Some are secret: they are inherited by the supervisor, and only
/// a digest of them is written down.
const PASSED_ON: [&str; 26] = [
    "PODFLARE_API_KEYS",
    "PODFLARE_AUTH_DISABLED",
    "PODFLARE_REGION",
    "PODFLARE_PUBLIC_URL",
    "PODFLARE_POOL",
    "PODFLARE_BOOT_ONLY",
    "PODFLARE_LOG",
    "PODFLARE_LOG_FORMAT",
    "PODFLARE_METRICS_KEY",
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
    environment: String,
}

impl Launch {
    pub(crate) fn new(
        options: Options,
        (kind, reason): (HostKind, String),
        binaries: Binaries,
        artifacts: Artifacts,
    ) -> Result<Self, Failure> {
        let digests = Digests {
            hostd: file_digest(&binaries.hostd)?,
            vmm: file_digest(&binaries.vmm)?,
            environment: environment_digest(),
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
            ("the pools' sizes", self.options.pool != running.options.pool),
            ("podflare-hostd", self.digests.hostd != running.digests.hostd),
            ("podflare-vmm", self.digests.vmm != running.digests.vmm),
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
            hostd_arguments: ram.into_iter().chain(pools).flatten().collect(),
            hostd_environment: environment(),
            limits: Limits::default(),
        }
    }
}

fn environment() -> Vec<(String, String)> {
    let value = |name: &str| Some((name.to_owned(), env::var(name).ok()?));
    PASSED_ON.into_iter().filter_map(value).collect()
}

fn environment_digest() -> String {
    let mut hash = Sha256::new();
    for (name, value) in environment() {
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
