//! The daemon from its first line of log to its last.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use host::{
    Allowed, Api, AuthConfig, DiskLimits, Host, HostConfig, MemoryLimits, Mode, NETWORK_USER, NetdProgram,
    NetdSettings, NotADomain, NotANetwork, OpenError, Pools, PortsDomain, SpacesConfig, TemplateError,
    Templates, TenantsConfig, Timing, VmmProgram, WebhooksConfig, disk_space, memory_available_mib,
    private_mib, serve, serve_metrics,
};
use ipnet::IpNet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;
use settings::hostd::Options;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What is left to the host itself, in MiB: of the memory available at the start, and at any time later.
const HOST_RESERVE_MIB: u64 = 256;

const DEFAULT_TEMPLATE: &str = "default";

/// A zygote makes one clone after the other, so that more would only wait for it.
const REFILLS_MAX: usize = 4;

/// More threads than this make the daemon no faster: it copies between sockets.
const WORKERS_MAX: usize = 4;

#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot listen on {addr}")]
    Listen {
        addr: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot find the templates")]
    Templates(#[source] TemplateError),
    #[error("cannot find the VM program {}", path.display())]
    Vmm {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot find the network program {}", path.display())]
    Netd {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{setting}: {text:?} is no network; write an address, a slash and the number of bits, like 10.1.0.0/16"
    )]
    Network { setting: &'static str, text: String },
    #[error("cannot learn how much memory is available; give --memory-budget-mib")]
    Memory,
    #[error("--ports-domain")]
    PortsDomain(#[source] NotADomain),
    #[error("--webhook-allow")]
    WebhookAllow(#[source] NotANetwork),
    #[error("cannot open the host")]
    Open(#[source] OpenError),
    #[error("VM processes were left at the end and had to be killed: {0:?}")]
    Left(Vec<u32>),
}

pub(crate) fn run(options: Options) -> Result<(), RunError> {
    raise_open_files();
    runtime()
        .map_err(RunError::Runtime)?
        .block_on(serve_until_signal(options))
}

async fn serve_until_signal(options: Options) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Runtime)?;
    let listener = TcpListener::bind(options.addr)
        .await
        .map_err(|source| RunError::Listen {
            addr: options.addr.to_string(),
            source,
        })?;
    let addr = listener.local_addr().unwrap_or(options.addr);
    let key = options
        .metrics_key
        .as_deref()
        .map(str::trim)
        .filter(|key| !key.is_empty());
    let api = Api::new(options.region.clone(), key);
    let (stop, done) = (CancellationToken::new(), CancellationToken::new());
    let config = config(&options)?;
    let timing = config.timing;
    let serving = tokio::spawn(serve(
        listener,
        Arc::clone(&api),
        timing,
        stop.clone(),
        done.clone(),
    ));
    serve_metrics_apart(&options, &api, timing, &stop).await?;
    let vmm = Arc::new(vmm(&options)?);
    let budget = config.memory.budget_mib;
    // Clearing what a dead daemon has left takes its time; health checks are answered meanwhile.
    let opened = tokio::task::spawn_blocking(move || Host::open(config, vmm)).await;
    let host = opened
        .map_err(|error| RunError::Runtime(error.into()))?
        .map_err(RunError::Open)?;
    // Nobody meets half of what there was.
    host.take_over().await;
    api.ready(Arc::clone(&host));
    announce(addr, host.auth().mode(), budget);

    let name = match signals.first().await {
        Asked::ToHandOver => {
            stop.cancel();
            let sandboxes = host.leave_running().await;
            done.cancel();
            tracing::info!(
                sandboxes,
                "SIGUSR1: handing over, sandboxes go on without this daemon"
            );
            return Ok(());
        }
        Asked::ToStop(name) => name,
    };
    tracing::info!(
        "{name}: stopping, runs have {} s to end",
        timing.shutdown_grace.as_secs_f32()
    );
    stop.cancel();
    let report = host
        .shutdown(async {
            let name = signals.next().await;
            tracing::warn!("{name} again: stopping at once");
        })
        .await;
    done.cancel();
    drop(serving.await);
    tracing::info!(
        sandboxes = report.sandboxes,
        frozen = report.frozen,
        runs_cut = report.runs_cut,
        "stopped"
    );
    if report.processes_left.is_empty() {
        Ok(())
    } else {
        Err(RunError::Left(report.processes_left))
    }
}

/// Metrics on an address of their own, when there is one.
async fn serve_metrics_apart(
    options: &Options,
    api: &Arc<Api>,
    timing: Timing,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let Some(addr) = options.metrics_addr else {
        return Ok(());
    };
    let listener = TcpListener::bind(addr).await.map_err(|source| RunError::Listen {
        addr: addr.to_string(),
        source,
    })?;
    let addr = listener.local_addr().unwrap_or(addr);
    tracing::info!("metrics, for whoever reaches it, at http://{addr}/metrics");
    tokio::spawn(serve_metrics(listener, Arc::clone(api), timing, stop.clone()));
    Ok(())
}

fn announce(addr: std::net::SocketAddr, mode: Mode, budget_mib: u64) {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(
        "podflare-hostd {version} listens on http://{addr}, auth {mode}, {budget_mib} MiB for sandboxes"
    );
    if mode == Mode::Disabled {
        tracing::warn!("AUTHENTICATION IS DISABLED: whoever reaches this address runs code here");
    }
}

fn config(options: &Options) -> Result<HostConfig, RunError> {
    let templates = Templates::find(&options.images, &options.guest_initrd).map_err(RunError::Templates)?;
    let budget = options
        .memory_budget_mib
        .or_else(|| memory_available_mib().map(|mib| mib.saturating_sub(HOST_RESERVE_MIB)))
        .ok_or(RunError::Memory)?;
    Ok(HostConfig {
        data_dir: options.data_dir.clone(),
        templates,
        vcpus: options.vcpus,
        ram_mib: options.ram_mib,
        memory: MemoryLimits {
            budget_mib: budget,
            floor_mib: HOST_RESERVE_MIB,
            probe: memory_available_mib,
            own: private_mib,
        },
        vm_limits: options.vm_limits,
        disk: DiskLimits {
            reserve_mib: options.disk_reserve_mib,
            probe: disk_space,
        },
        pools: pools(options),
        boots_at_once: options.boot_concurrency,
        runs_per_sandbox: 64,
        checkpoints_per_sandbox: options.checkpoints,
        ports_domain: ports_domain(options).map_err(RunError::PortsDomain)?,
        region: options.region.clone(),
        endpoint: options.public_url.clone(),
        auth: AuthConfig {
            keys: options.api_keys.clone(),
            disabled: options.auth_disabled,
            required: options.require_keys,
            operator_token: options.operator_token.clone(),
        },
        address: options.exposed_as.unwrap_or(options.addr),
        tenants: TenantsConfig {
            default_tier: options.default_tier,
            audit_age: Duration::from_secs(24 * 3600 * u64::from(options.audit_days)),
            audit_rows: options.audit_rows,
            ..TenantsConfig::default()
        },
        webhooks: WebhooksConfig {
            allow: webhook_allow(&options.webhook_allow).map_err(RunError::WebhookAllow)?,
        },
        spaces: SpacesConfig {
            wake: options.wake_spaces,
            keep: options
                .space_days
                .map(|days| Duration::from_secs(24 * 3600 * u64::from(days))),
            shutdown_freeze: options.shutdown_freeze,
            ..SpacesConfig::default()
        },
        network: Some(Arc::new(netd(options)?)),
        timing: Timing {
            boot_deadline: options.boot_deadline,
            shutdown_grace: options.shutdown_grace,
            ..Timing::default()
        },
    })
}

/// Browsers lead names below `localhost` to their own machine, which is this one where it is reached by a loopback address.
fn ports_domain(options: &Options) -> Result<Option<PortsDomain>, NotADomain> {
    match options.ports_domain.as_deref().map(str::trim) {
        Some("none") => Ok(None),
        Some(domain) if !domain.is_empty() => domain.parse().map(Some),
        _ => {
            let address = options.exposed_as.unwrap_or(options.addr);
            Ok(address.ip().is_loopback().then(PortsDomain::localhost))
        }
    }
}

/// `none` is a list of nothing, which is not the same as no list.
fn webhook_allow(texts: &[String]) -> Result<Option<Allowed>, NotANetwork> {
    let networks = texts
        .iter()
        .map(|text| text.trim())
        .filter(|text| *text != "none");
    let allowed = Allowed::parse(networks)?;
    Ok((!texts.is_empty()).then_some(allowed))
}

/// A refill has a CPU to itself; at most half of them are taken by what nobody waits for.
fn pools(options: &Options) -> Pools {
    let cpus = available_parallelism().map_or(1, NonZeroUsize::get);
    let mut sizes: BTreeMap<String, u32> = options.pool.iter().cloned().collect();
    if let Some(size) = options.pool_size {
        sizes.entry(DEFAULT_TEMPLATE.to_owned()).or_insert(size);
    }
    Pools {
        snapshots: !options.boot_only,
        working_sets: !options.no_working_sets,
        sizes,
        refills_at_once: u32::try_from((cpus / 2).clamp(1, REFILLS_MAX)).unwrap_or(1),
    }
}

fn netd(options: &Options) -> Result<NetdProgram, RunError> {
    let path = program(options.netd.as_ref(), "podflare-netd");
    let settings = NetdSettings {
        off: options.no_network,
        open: networks("--network-allow", &options.network_allow)?,
        never: networks("--network-deny", &options.network_deny)?,
        resolvers: options.network_resolvers.clone(),
        authority: options.authority.clone(),
        // Only root can become somebody else.
        user: (!options.unconfined && geteuid().is_root()).then_some(NETWORK_USER),
    };
    match path.canonicalize() {
        Ok(path) => Ok(NetdProgram::new(path, settings)),
        Err(source) => Err(RunError::Netd { path, source }),
    }
}

/// Networks, or addresses.
fn networks(setting: &'static str, texts: &[String]) -> Result<Vec<IpNet>, RunError> {
    let one = |text: &String| {
        let text = text.trim();
        let net = text.parse::<IpNet>().ok();
        let net = net.or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
        net.map(|net| net.trunc()).ok_or_else(|| RunError::Network {
            setting,
            text: text.to_owned(),
        })
    };
    texts.iter().map(one).collect()
}

/// Where a program is said to be, or else next to this one.
fn program(given: Option<&PathBuf>, name: &str) -> PathBuf {
    given.cloned().unwrap_or_else(|| {
        let own = std::env::current_exe().unwrap_or_default();
        own.with_file_name(name)
    })
}

fn vmm(options: &Options) -> Result<VmmProgram, RunError> {
    let path = program(options.vmm.as_ref(), "podflare-vmm");
    match path.canonicalize() {
        Ok(path) => Ok(VmmProgram::new(path, !options.unconfined)),
        Err(source) => Err(RunError::Vmm { path, source }),
    }
}

/// One CPU is served best by one thread: no wake-ups between threads.
fn runtime() -> io::Result<Runtime> {
    match available_parallelism().map_or(1, NonZeroUsize::get) {
        1 => Builder::new_current_thread().enable_all().build(),
        cpus => Builder::new_multi_thread()
            .worker_threads(cpus.min(WORKERS_MAX))
            .enable_all()
            .build(),
    }
}

/// Each connection and each sandbox needs a few; the soft limit is often 1024.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
}

/// What a signal asks for.
enum Asked {
    /// By the signal of that name.
    ToStop(&'static str),
    /// The next daemon takes over what runs.
    ToHandOver,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hand_over: signal(SignalKind::user_defined1())?,
        })
    }

    async fn first(&mut self) -> Asked {
        tokio::select! {
            _ = self.hand_over.recv() => Asked::ToHandOver,
            _ = self.terminate.recv() => Asked::ToStop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::ToStop("SIGINT"),
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
