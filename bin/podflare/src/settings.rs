//! Options every command understands, resolved against the environment once.

use std::env;
use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;

/// Names of logs in the run directory: of the host, and of the process that watches it.
pub(crate) const CONSOLE: &str = "console.log";
pub(crate) const SUPERVISOR_LOG: &str = "supervisor.log";

/// Variable that names the state directory.
pub(crate) const STATE_DIR_VARIABLE: &str = "PODFLARE_STATE_DIR";

/// Options every command understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Print results as JSON, one document a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Base URL of the host [default: PODFLARE_API_URL, PODFLARE_HOSTD_URL, or the host running here]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api_url: Option<String>,

    /// API key, when the host wants one [default: PODFLARE_API_KEY]
    #[arg(long, global = true, value_name = "KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// Configuration file of the local host [default: PODFLARE_CONFIG, or podflare.toml in the state directory,
    /// ~/.config/podflare or /etc/podflare]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where the local host keeps its state [default: ~/.local/state/podflare]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = STATE_DIR_VARIABLE,
        hide_env = true
    )]
    pub(crate) state_dir: Option<PathBuf>,

    /// Where built images are kept [default: ~/.cache/podflare]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "PODFLARE_CACHE_DIR",
        hide_env = true
    )]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// Directories of the host on this machine, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directories {
    /// Sandboxes and what must survive a restart.
    pub(crate) state: PathBuf,
    /// What is alive now: sockets, pid and status files, logs.
    pub(crate) run: PathBuf,
    /// Built images; may be deleted at any time.
    pub(crate) cache: PathBuf,
}

impl Directories {
    /// Resolves the directories: arguments, then the XDG base directories, then those below the home directory.
    ///
    /// # Errors
    /// When there is neither an argument nor a home directory.
    pub(crate) fn resolve(args: &GlobalArgs) -> Result<Self, Failure> {
        let state = directory(args.state_dir.as_ref(), "XDG_STATE_HOME", ".local/state")?;
        let cache = directory(args.cache_dir.as_ref(), "XDG_CACHE_HOME", ".cache")?;
        Ok(Self {
            run: state.join("run"),
            state,
            cache,
        })
    }
}

fn directory(given: Option<&PathBuf>, variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    let set = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let path = match given {
        Some(path) => path.clone(),
        None => set(variable)
            .or_else(|| set("HOME").map(|home| home.join(below_home)))
            .map(|base| base.join("podflare"))
            .ok_or_else(|| {
                Failure::new(
                    "no_home",
                    "there is no home directory to keep the host's files in",
                )
                .hint("name the directories with --state-dir and --cache-dir")
            })?,
    };
    std::path::absolute(&path)
        .map_err(|error| Failure::while_doing("directory", &path.display().to_string(), &error))
}
