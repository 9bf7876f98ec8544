//! Decides which Debian mirror packages come from: the setting, or the one this host uses itself.

use std::path::Path;

use thiserror::Error;

use crate::apt_sources::{self, Source};
use crate::tools::KEYRING;

/// Names of Debian suites a host may follow, that is, of its main archive's releases since 2021.
const DEBIAN_SUITES: [&str; 10] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];
/// The keyring's name as sources refer to it, whatever its directory and extension.
const KEYRING_STEM: &str = "debian-archive-keyring";

/// Which mirror to use, as the user said; what is not said is taken from the host's apt configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorSetting {
    /// URI of the main archive: the environment's `PODFLARE_DEBIAN_MIRROR`.
    pub main: Option<String>,
    /// URI of the security archive: the environment's `PODFLARE_DEBIAN_SECURITY_MIRROR`.
    pub security: Option<String>,
}

/// The archives to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) main: String,
    pub(crate) security: Option<String>,
}

/// Why there is no mirror.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MirrorError {
    #[error(
        "no Debian mirror in {directory}; set PODFLARE_DEBIAN_MIRROR to the URI of one, as in a sources.list line"
    )]
    NotFound { directory: String },
    #[error("{uri:?} is not the URI of a Debian mirror")]
    Uri { uri: String },
}

impl MirrorSetting {
    /// Reads the setting from the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            main: variable("PODFLARE_DEBIAN_MIRROR"),
            security: variable("PODFLARE_DEBIAN_SECURITY_MIRROR"),
        }
    }

    /// Fills in what is not set from an apt configuration directory such as `/etc/apt`.
    pub(crate) fn resolve(&self, apt_directory: &Path) -> Result<Mirror, MirrorError> {
        for uri in [&self.main, &self.security].into_iter().flatten() {
            if !is_usable(uri) {
                return Err(MirrorError::Uri { uri: uri.clone() });
            }
        }
        let sources = apt_sources::read(apt_directory);
        let main = self.main.clone().or_else(|| main_archive(&sources));
        let main = main.ok_or_else(|| MirrorError::NotFound {
            directory: apt_directory.display().to_string(),
        })?;
        Ok(Mirror {
            main,
            security: self.security.clone().or_else(|| security_archive(&sources)),
        })
    }
}

impl Mirror {
    /// Lines for `sources.list` that follow a release with its updates.
    pub(crate) fn sources(&self, suite: &str) -> Vec<String> {
        let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} main");
        let mut lines = vec![
            line(&self.main, suite),
            line(&self.main, &format!("{suite}-updates")),
        ];
        lines.extend(
            self.security
                .iter()
                .map(|uri| line(uri, &format!("{suite}-security"))),
        );
        lines
    }

    /// The same without security updates.
    pub(crate) fn without_security(&self) -> Self {
        Self {
            main: self.main.clone(),
            security: None,
        }
    }
}

/// Others publish for Debian's suites too, so a source that says it is Debian's goes before one that says nothing.
fn main_archive(sources: &[Source]) -> Option<String> {
    let candidates = || {
        sources
            .iter()
            .filter(|source| DEBIAN_SUITES.contains(&source.suite.as_str()) && is_debian(source))
    };
    let signed = candidates().find(|source| source.signed_by.contains(KEYRING_STEM));
    let updated = |candidate: &&Source| {
        let updates = format!("{}-updates", candidate.suite);
        sources
            .iter()
            .any(|source| source.uri == candidate.uri && source.suite == updates)
    };
    signed
        .or_else(|| candidates().find(updated))
        .or_else(|| candidates().next())
        .map(|source| source.uri.clone())
}

fn security_archive(sources: &[Source]) -> Option<String> {
    let is_security = |source: &&Source| {
        let suite = source
            .suite
            .strip_suffix("-security")
            .or_else(|| source.suite.strip_suffix("/updates"));
        suite.is_some_and(|suite| DEBIAN_SUITES.contains(&suite)) && is_debian(source)
    };
    sources.iter().find(is_security).map(|source| source.uri.clone())
}

/// A source verified with somebody else's key is somebody else's.
fn is_debian(source: &Source) -> bool {
    let by_debian = source.signed_by.is_empty() || source.signed_by.contains(KEYRING_STEM);
    by_debian && source.components.iter().any(|component| component == "main") && is_usable(&source.uri)
}

fn is_usable(uri: &str) -> bool {
    let scheme = [
        "http://",
        "https://",
        "file:/",
        "mirror+http://",
        "mirror+https://",
    ];
    scheme.iter().any(|scheme| uri.starts_with(scheme))
        && !uri.contains(char::is_whitespace)
        && !uri.contains(['[', ']', '"'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn resolve(setting: &MirrorSetting, list: &str) -> Result<Mirror, MirrorError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("sources.list"), list).unwrap();
        setting.resolve(directory.path())
    }

    #[test]
    fn the_mirror_is_the_one_the_host_uses() {
        let list = "deb http://m.example/debian bookworm main\n\
                    deb http://m.example/debian bookworm-updates main\n\
                    deb http://s.example/debian-security bookworm-security main\n";
        let mirror = resolve(&MirrorSetting::default(), list).unwrap();
        assert_eq!(mirror.main, "http://m.example/debian");
        assert_eq!(
            mirror.security.as_deref(),
            Some("http://s.example/debian-security")
        );
        let sources = mirror.sources("trixie");
        assert_eq!(sources.len(), 3);
        assert!(
            sources[2].ends_with("http://s.example/debian-security trixie-security main"),
            "{sources:?}"
        );
    }

    #[test]
    fn third_parties_that_publish_for_debian_are_not_taken_for_it() {
        let list = "deb [signed-by=/k/vendor.gpg] https://vendor.example/12 bookworm main\n\
                    deb https://other.example/12 bookworm main\n\
                    deb https://tools.example nodistro main\n\
                    deb cdrom:[Debian]/ bookworm main\n\
                    deb http://m.example/debian bookworm main\n\
                    deb http://m.example/debian bookworm-updates main\n";
        assert_eq!(
            resolve(&MirrorSetting::default(), list).unwrap().main,
            "http://m.example/debian"
        );
        let signed = format!("{list}deb [signed-by={KEYRING}] http://d.example/debian bookworm main\n");
        assert_eq!(
            resolve(&MirrorSetting::default(), &signed).unwrap().main,
            "http://d.example/debian"
        );
    }

    #[test]
    fn elsewhere_the_error_names_the_setting() {
        let ubuntu = "deb http://archive.example/ubuntu noble main universe\n";
        let error = resolve(&MirrorSetting::default(), ubuntu)
            .unwrap_err()
            .to_string();
        assert!(error.contains("PODFLARE_DEBIAN_MIRROR"), "{error}");
        let setting = MirrorSetting {
            main: Some("http://x.example/debian".to_owned()),
            security: None,
        };
        assert_eq!(
            resolve(&setting, ubuntu).unwrap(),
            Mirror {
                main: "http://x.example/debian".to_owned(),
                security: None
            }
        );
    }

    #[test]
    fn a_setting_that_is_no_uri_is_refused() {
        for uri in [
            "m.example/debian",
            "http://m.example/debian trixie main",
            "cdrom:x",
        ] {
            let setting = MirrorSetting {
                main: Some(uri.to_owned()),
                security: None,
            };
            assert_eq!(
                resolve(&setting, ""),
                Err(MirrorError::Uri { uri: uri.to_owned() })
            );
        }
    }
}
