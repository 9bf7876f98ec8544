//! The description that lies beside each artifact, for people and for whoever builds on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PackageVersions, StoreError, since_epoch};
use crate::digest::{self, FileDigest};

/// What an artifact is, what it was made from and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    /// The inputs whose digest is the artifact's key.
    pub(crate) inputs: Value,
    pub(crate) packages: PackageVersions,
    /// Milliseconds since 1970.
    pub(crate) built_at_ms: u128,
    /// The files at the artifact's top.
    pub(crate) files: BTreeMap<String, FileDigest>,
    /// Digest of the contents of those files and of the packages' versions.
    pub(crate) identity: String,
}

impl Manifest {
    /// Describes what has been built in a directory.
    pub(super) fn of(
        directory: &Path,
        name: &str,
        inputs: &impl Serialize,
        packages: PackageVersions,
    ) -> Result<Self, StoreError> {
        let list = || StoreError::file("list", directory);
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(list())? {
            let entry = entry.map_err(list())?;
            if entry.file_type().map_err(list())?.is_file() {
                let path = entry.path();
                let digest = digest::file(&path).map_err(StoreError::file("read", &path))?;
                files.insert(entry.file_name().to_string_lossy().into_owned(), digest);
            }
        }
        Ok(Self {
            name: name.to_owned(),
            inputs: serde_json::to_value(inputs).map_err(StoreError::Encode)?,
            identity: digest::key(&(&files, &packages)).map_err(StoreError::Encode)?,
            packages,
            built_at_ms: since_epoch().as_millis(),
            files,
        })
    }
}
