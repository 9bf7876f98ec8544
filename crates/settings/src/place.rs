//! Where the configuration file is.

use std::env;
use std::path::{Path, PathBuf};

/// Names the file; empty means that there is none, wherever one may lie.
pub const CONFIG_VARIABLE: &str = "PODFLARE_CONFIG";

const NAME: &str = "podflare.toml";

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    /// What named it: it has to be there then.
    pub named_by: Option<&'static str>,
}

/// The file that counts: the one that is named, or else the first that exists of those in the state directory, in the
/// user's configuration and in `/etc`.
#[must_use]
pub fn find(named: Option<&Path>, state_dir: Option<&Path>) -> Option<Found> {
    if let Some(path) = named {
        return Some(Found {
            path: path.to_owned(),
            named_by: Some("--config"),
        });
    }
    if let Some(path) = env::var_os(CONFIG_VARIABLE) {
        return (!path.is_empty()).then(|| Found {
            path: path.into(),
            named_by: Some(CONFIG_VARIABLE),
        });
    }
    let places = candidates(state_dir).into_iter();
    let mut existing = places.filter(|path| path.is_file());
    existing.next().map(|path| Found { path, named_by: None })
}

/// Where a file is looked for, in this order.
pub(crate) fn candidates(state_dir: Option<&Path>) -> Vec<PathBuf> {
    let set = |name: &str| {
        let path = env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let user = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let state = state_dir.map(|state| state.join(NAME));
    let user = user.map(|user| user.join("podflare").join(NAME));
    let system = Path::new("/etc/podflare").join(NAME);
    state.into_iter().chain(user).chain([system]).collect()
}
