//! The daemon through its real router on a real TCP socket, with simulated VMs.

mod adoption;
mod checkpoints;
mod client;
mod deaths;
mod diffs;
mod documents;
mod exposition;
mod files;
mod forks;
mod lifetimes;
mod log_lines;
mod metrics;
mod network;
mod pools;
mod ports;
mod pressure;
mod pty_sockets;
mod ptys;
mod replays;
mod requests;
mod runs;
mod sandboxes;
mod shares;
mod spaces;
mod tenants;
mod transfers;
mod webhooks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::simulation::{Boot, Simulation};
use crate::{
    Api, AuthConfig, DiskLimits, DiskSpace, Host, HostConfig, MemoryLimits, NetdSpawner, Pools, PortsDomain,
    ShutdownReport, SpacesConfig, Templates, TenantsConfig, Timing, WebhooksConfig, serve,
};

/// Nothing in these tests takes longer on a machine that works.
const BOUND: Duration = Duration::from_secs(120);

/// The operator's token.
const OPERATOR: &str = "pf_op_test";

/// A daemon with its data in a directory of its own.
struct Daemon {
    address: SocketAddr,
    host: Arc<Host>,
    api: Arc<Api>,
    simulation: Simulation,
    stop: CancellationToken,
    done: CancellationToken,
    serving: JoinHandle<()>,
    dir: Arc<TempDir>,
}

struct Setup {
    timing: Timing,
    keys: Option<&'static str>,
    require_keys: bool,
    region: Option<&'static str>,
    metrics_key: Option<&'static str>,
    boot: Boot,
    pools: Pools,
    tenants: TenantsConfig,
    webhooks: WebhooksConfig,
    disk: DiskLimits,
    memory: MemoryLimits,
    spaces: SpacesConfig,
    ports_domain: Option<PortsDomain>,
    network: Option<Arc<dyn NetdSpawner>>,
}

/// Every sandbox is booted.
fn no_pools() -> Pools {
    Pools {
        snapshots: false,
        sizes: BTreeMap::new(),
        refills_at_once: 1,
        working_sets: true,
    }
}

/// Sandboxes are cloned from snapshots, and so many wait in the pool of the default template.
fn pool_of(size: u32) -> Pools {
    Pools {
        snapshots: true,
        sizes: BTreeMap::from([("default".to_owned(), size), ("science".to_owned(), 0)]),
        refills_at_once: 1,
        working_sets: true,
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            timing: Timing {
                boot_deadline: Duration::from_secs(10),
                heartbeat: Duration::from_millis(100),
                shutdown_grace: Duration::from_millis(200),
                ..Timing::default()
            },
            keys: None,
            require_keys: false,
            region: None,
            metrics_key: None,
            boot: Boot::Normal,
            pools: no_pools(),
            tenants: TenantsConfig::default(),
            webhooks: WebhooksConfig::default(),
            disk: DiskLimits {
                reserve_mib: None,
                probe: |_| {
                    Some(DiskSpace {
                        total_mib: 100_000,
                        free_mib: 90_000,
                    })
                },
            },
            memory: MemoryLimits {
                budget_mib: 4096,
                floor_mib: 0,
                probe: || None,
                own: |_| None,
            },
            spaces: SpacesConfig::default(),
            ports_domain: Some(PortsDomain::localhost()),
            network: None,
        }
    }
}

impl Daemon {
    async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let simulation = Simulation::default();
        *simulation.boot.lock().unwrap() = setup.boot;
        Self::open(setup, simulation, dir).await
    }

    /// With data that a daemon before it may have left.
    async fn open(setup: Setup, simulation: Simulation, dir: TempDir) -> Self {
        Self::open_shared(setup, simulation, Arc::new(dir)).await
    }

    /// The same, in a directory that others have, too.
    async fn open_shared(setup: Setup, simulation: Simulation, dir: Arc<TempDir>) -> Self {
        let images = dir.path().join("images");
        std::fs::create_dir_all(&images).unwrap();
        for name in ["vmlinux", "default.ext4", "science.ext4", "guest.cpio"] {
            std::fs::write(images.join(name), vec![0; 4096]).unwrap();
        }
        let config = HostConfig {
            data_dir: dir.path().join("data"),
            templates: Templates::find(&images, &images.join("guest.cpio")).unwrap(),
            vcpus: 1,
            ram_mib: 512,
            memory: setup.memory,
            disk: setup.disk,
            vm_limits: false,
            pools: setup.pools,
            boots_at_once: 2,
            runs_per_sandbox: 4,
            checkpoints_per_sandbox: 3,
            region: setup.region.map(str::to_owned),
            ports_domain: setup.ports_domain,
            endpoint: setup.region.map(|region| format!("https://{region}.example")),
            auth: AuthConfig {
                keys: setup.keys.map(str::to_owned),
                operator_token: Some(OPERATOR.to_owned()),
                required: setup.require_keys,
                ..AuthConfig::default()
            },
            address: ([127, 0, 0, 1], 0).into(),
            tenants: setup.tenants,
            webhooks: setup.webhooks,
            spaces: setup.spaces,
            network: setup.network,
            timing: setup.timing,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Api::new(config.region.clone(), setup.metrics_key);
        let (stop, done) = (CancellationToken::new(), CancellationToken::new());
        let server = serve(
            listener,
            Arc::clone(&api),
            setup.timing,
            stop.clone(),
            done.clone(),
        );
        let serving = tokio::spawn(server);
        let starting = client::get(address, "/v1/healthz").await;
        assert_eq!((starting.status, starting.text().as_str()), (503, "starting"));
        let host = Host::open(config, Arc::new(simulation.clone())).unwrap();
        host.take_over().await;
        api.ready(Arc::clone(&host));
        Self {
            address,
            host,
            api,
            simulation,
            stop,
            done,
            serving,
            dir,
        }
    }

    async fn get(&self, path: &str) -> client::Response {
        client::get(self.address, path).await
    }

    async fn post(&self, path: &str, body: &str) -> client::Response {
        client::request(self.address, "POST", path, body).await
    }

    async fn delete(&self, path: &str) -> client::Response {
        client::request(self.address, "DELETE", path, "").await
    }

    /// Creates a sandbox and gives its path.
    async fn sandbox(&self) -> String {
        let created = self.post("/v1/sandboxes", "{}").await;
        assert_eq!(created.status, 200, "{}", created.text());
        let id = created.json()["id"].as_str().unwrap().to_owned();
        format!("/v1/sandboxes/{id}")
    }

    /// Forks a sandbox and gives the paths of its children.
    async fn fork(&self, sandbox: &str, count: u8) -> Vec<String> {
        let body = serde_json::json!({ "n": count }).to_string();
        let forked = self.post(&format!("{sandbox}/fork"), &body).await;
        assert_eq!(forked.status, 200, "{}", forked.text());
        let children = forked.json()["children"].as_array().unwrap().clone();
        children
            .iter()
            .map(|id| format!("/v1/sandboxes/{}", id.as_str().unwrap()))
            .collect()
    }

    /// The only line a run prints.
    async fn says(&self, sandbox: &str, code: &str) -> String {
        self.run(sandbox, code)
            .await
            .lines(api::EventKind::Stdout)
            .join("\n")
    }

    async fn run(&self, sandbox: &str, code: &str) -> client::Response {
        let body = serde_json::json!({ "code": code }).to_string();
        self.post(&format!("{sandbox}/exec"), &body).await
    }

    /// Directories of VMs on disk that are in use: those in stock are empty houses.
    fn vm_dirs(&self) -> usize {
        let vms = self.dir.path().join("data/vms");
        let dirs = std::fs::read_dir::<&Path>(&vms).unwrap().count();
        dirs.saturating_sub(self.host.tools.homes.in_stock())
    }

    fn alive(&self) -> u32 {
        self.simulation.seen.alive.load(Ordering::SeqCst)
    }

    fn cancelled(&self) -> u32 {
        self.simulation.seen.cancelled.load(Ordering::SeqCst)
    }

    /// Stops after a VM died before it could tell whom it had made: on a real host the reaper finds those.
    async fn stop_with_orphans(self) {
        self.simulation.kill_all();
        self.stop().await;
    }

    async fn stop(self) -> ShutdownReport {
        self.end_shared().await.0
    }

    /// The same, and leaves its data.
    async fn end(self) -> (ShutdownReport, TempDir) {
        let (report, dir) = self.end_shared().await;
        (report, Arc::into_inner(dir).unwrap())
    }

    async fn end_shared(self) -> (ShutdownReport, Arc<TempDir>) {
        self.stop.cancel();
        let report = self.host.shutdown(std::future::pending()).await;
        self.done.cancel();
        self.serving.await.unwrap();
        eventually("no VM is left", || {
            self.simulation.seen.alive.load(Ordering::SeqCst) == 0
        })
        .await;
        (report, self.dir)
    }
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < BOUND, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
