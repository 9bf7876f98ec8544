//! The cache of everything built, each thing under a digest of its own inputs.
//!
//! ```text
//! <root>/<kind>/<key>/         an artifact: its files and manifest.json, complete since renamed into place last
//! <root>/tmp/<kind>/<pid>/     where the holder of the lock builds; what a killed build left is removed by the next
//! <root>/lock/<kind>           locked by whoever builds something of that kind
//! <root>/log/<kind>.log        output of the tools of the last build
//! ```
//!
//! A reader takes no lock: an artifact is there whole or not at all. A refresh exchanges the old directory for
//! the new one in one step; whoever has files of the old one open keeps them.

mod files;
mod manifest;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use thiserror::Error;

use crate::command::CommandError;
use crate::digest;
use crate::progress::Progress;
use files::{install, remove_tree, sync_tree};
pub(crate) use manifest::Manifest;

/// Artifacts of a kind and name that are kept: the newest one, and older ones for whoever goes back a step.
const KEPT_PER_NAME: usize = 3;
const MANIFEST: &str = "manifest.json";

/// A cache directory.
#[derive(Clone, Debug)]
pub struct ImageStore {
    root: PathBuf,
}

/// What is asked of the store.
#[derive(Debug)]
pub(crate) struct Request<'a, I> {
    /// A directory of the store; builds of one kind exclude each other.
    pub(crate) kind: &'static str,
    /// Whom artifacts of this kind replace: those of the same name.
    pub(crate) name: &'a str,
    /// All that decides what comes out.
    pub(crate) inputs: &'a I,
    pub(crate) refresh: bool,
    pub(crate) progress: &'a dyn Progress,
}

/// Where a build puts things.
#[derive(Debug)]
pub(crate) struct Workshop {
    /// Becomes the artifact.
    pub(crate) out: PathBuf,
    /// Thrown away afterwards.
    pub(crate) scratch: PathBuf,
    /// Holds both.
    place: PathBuf,
    /// Takes the output of tools.
    pub(crate) log: PathBuf,
}

/// Something built.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub(crate) directory: PathBuf,
    pub(crate) manifest: Manifest,
}

/// Names and versions of the packages an artifact is made from.
pub(crate) type PackageVersions = std::collections::BTreeMap<String, String>;

/// Why the cache cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot {what} {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot encode the description of an artifact")]
    Encode(#[source] serde_json::Error),
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: CommandError },
}

impl StoreError {
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

impl ImageStore {
    /// Opens a cache directory, making it if need be.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(cache_dir: &Path) -> Result<Self, StoreError> {
        let store = Self {
            root: std::path::absolute(cache_dir).map_err(StoreError::file("find", cache_dir))?,
        };
        for part in ["lock", "log", "tmp"] {
            let path = store.root.join(part);
            fs::create_dir_all(&path).map_err(StoreError::file("make", &path))?;
        }
        Ok(store)
    }

    /// Finds the artifact, or has it built while nobody else builds one of its kind.
    pub(crate) fn get_or_build<I: Serialize, E: From<StoreError>>(
        &self,
        request: &Request<'_, I>,
        build: impl FnOnce(&Workshop) -> Result<PackageVersions, E>,
    ) -> Result<Artifact, E> {
        let asked_at = since_epoch();
        let key = digest::key(request.inputs).map_err(StoreError::Encode)?;
        let directory = self.root.join(request.kind).join(&key);
        if let Some(artifact) = Artifact::read(&directory)
            && !request.refresh
        {
            return Ok(artifact);
        }
        let _lock = self.lock(request.kind, request.progress)?;
        if let Some(artifact) = Artifact::read(&directory)
            && (!request.refresh || artifact.manifest.built_at_ms >= asked_at.as_millis())
        {
            return Ok(artifact); // somebody else built it while we waited
        }
        let workshop = self.workshop(request.kind)?;
        let packages = build(&workshop)?;
        let manifest = Manifest::of(&workshop.out, request.name, request.inputs, packages)?;
        let artifact = self.keep(&workshop, directory, manifest)?;
        self.prune(request.kind, request.name)?;
        Ok(artifact)
    }

    fn lock(&self, kind: &str, progress: &dyn Progress) -> Result<File, StoreError> {
        let path = self.root.join("lock").join(kind);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(StoreError::file("open", &path))?;
        if file.try_lock().is_err() {
            progress.step(&format!("waiting for another process that builds the {kind}"));
            file.lock().map_err(StoreError::file("lock", &path))?;
        }
        Ok(file)
    }

    /// An empty place to build in; what is there belongs to nobody alive, since we hold the lock.
    fn workshop(&self, kind: &str) -> Result<Workshop, StoreError> {
        let place = self.root.join("tmp").join(kind);
        let log = self.root.join("log").join(format!("{kind}.log"));
        remove_tree(&place, &log)?;
        // By process, so that a tool that outlives a killed builder for a while writes to nobody else's files.
        let own = place.join(std::process::id().to_string());
        let workshop = Workshop {
            out: own.join("out"),
            scratch: own.join("scratch"),
            place,
            log,
        };
        for path in [&workshop.out, &workshop.scratch] {
            fs::create_dir_all(path).map_err(StoreError::file("make", path))?;
        }
        File::create(&workshop.log).map_err(StoreError::file("write", &workshop.log))?;
        Ok(workshop)
    }

    /// Moves what was built into place, durably: a crash leaves the old artifact or the new one.
    fn keep(
        &self,
        workshop: &Workshop,
        directory: PathBuf,
        manifest: Manifest,
    ) -> Result<Artifact, StoreError> {
        let path = workshop.out.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest).map_err(StoreError::Encode)?;
        fs::write(&path, text).map_err(StoreError::file("write", &path))?;
        sync_tree(&workshop.out)?;
        install(&workshop.out, &directory)?;
        remove_tree(&workshop.place, &workshop.log)?;
        Ok(Artifact { directory, manifest })
    }

    /// Removes the artifacts of that name that have been replaced long ago.
    fn prune(&self, kind: &str, name: &str) -> Result<(), StoreError> {
        let place = self.root.join(kind);
        let entries = fs::read_dir(&place).map_err(StoreError::file("list", &place))?;
        let mut artifacts: Vec<_> = entries
            .filter_map(|entry| Artifact::read(&entry.ok()?.path()))
            .filter(|artifact| artifact.manifest.name == name)
            .collect();
        artifacts.sort_by_key(|artifact| std::cmp::Reverse(artifact.manifest.built_at_ms));
        let log = self.root.join("log").join(format!("{kind}.log"));
        artifacts
            .iter()
            .skip(KEPT_PER_NAME)
            .try_for_each(|artifact| remove_tree(&artifact.directory, &log))
    }
}

impl Artifact {
    /// The artifact in that directory, if there is one.
    fn read(directory: &Path) -> Option<Self> {
        let text = fs::read(directory.join(MANIFEST)).ok()?;
        Some(Self {
            directory: directory.to_owned(),
            manifest: serde_json::from_slice(&text).ok()?,
        })
    }

    /// Stands for the artifact's content in the inputs of another: a refresh keeps the key and changes this.
    pub(crate) fn identity(&self) -> &str {
        &self.manifest.identity
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
