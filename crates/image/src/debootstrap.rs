//! Fetches Debian packages with mmdebstrap(1), which needs neither root nor mounts that stay.

use std::path::Path;

use nix::unistd::geteuid;

use crate::DEBIAN_SUITE;
use crate::command::{CommandError, Tool, find_program};
use crate::error::{BuildOptions, ImageError};
use crate::mirror::Mirror;
use crate::store::PackageVersions;
use crate::tools::{IMAGE_PACKAGES, UNPRIVILEGED_PACKAGES, require_packages};

/// Marks the lines in which our hooks tell packages and versions.
const PACKAGE_LINE: &str = "podflare-package: ";
/// Tells what is installed in a root file system.
const LIST_INSTALLED: &str =
    r#"chroot "$1" dpkg-query --show --showformat 'podflare-package: ${Package} ${Version}\n'"#;
/// Tells what is about to be unpacked, from file names such as `busybox_1%3a1.37-6_amd64.deb`.
const LIST_ARCHIVES: &str = r#"ls "$1/var/cache/apt/archives" \
    | sed -n 's/^\([^_]*\)_\([^_]*\)_[^_]*\.deb$/podflare-package: \1 \2/p' | sed 's/%3a/:/'"#;

/// What to fetch.
#[derive(Debug)]
pub(crate) struct Debootstrap<'a> {
    pub(crate) kind: Kind,
    pub(crate) packages: &'a [String],
    /// Lines for the file system's own dpkg configuration.
    pub(crate) dpkg_options: &'a [String],
    /// Shell commands that change the finished file system, which lies at `$1`, or mmdebstrap's own hook commands.
    pub(crate) hooks: Vec<String>,
}

/// What to do with the packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unpack them; nothing is set up.
    Extract,
    /// Install them besides a minimal system.
    Install,
}

impl Debootstrap<'_> {
    /// Makes a tar archive of the file system. Without the security archive when only that one fails.
    pub(crate) fn run(
        &self,
        tar: &Path,
        log: &Path,
        options: &BuildOptions<'_>,
    ) -> Result<PackageVersions, ImageError> {
        require_packages(IMAGE_PACKAGES, options.progress).map_err(ImageError::Tools)?;
        if !geteuid().is_root() {
            require_packages(UNPRIVILEGED_PACKAGES, options.progress).map_err(ImageError::Tools)?;
        }
        let mirror = options
            .mirror
            .resolve(Path::new("/etc/apt"))
            .map_err(ImageError::Mirror)?;
        let mut security_failed = false;
        match self.run_with(&mirror, (tar, log), options, &mut security_failed) {
            Err(error) if security_failed => {
                options.progress.warn(&format!(
                    "the security archive cannot be used, going on without it: {error}"
                ));
                self.run_with(&mirror.without_security(), (tar, log), options, &mut false)
            }
            result => result,
        }
        .map_err(ImageError::Packages)
    }

    fn run_with(
        &self,
        mirror: &Mirror,
        (tar, log): (&Path, &Path),
        options: &BuildOptions<'_>,
        security_failed: &mut bool,
    ) -> Result<PackageVersions, CommandError> {
        let mode = if geteuid().is_root() { "root" } else { "unshare" };
        let mut tool = Tool::new("mmdebstrap", log)
            .args([
                format!("--mode={mode}"),
                "--architectures=amd64".to_owned(),
                "--format=tar".to_owned(),
            ])
            .arg(format!("--include={}", self.packages.join(",")))
            .arg("--aptopt=Acquire::Retries \"3\"")
            .args(
                apt_proxies(log)
                    .into_iter()
                    .map(|line| format!("--aptopt={line}")),
            )
            .args(self.dpkg_options.iter().map(|line| format!("--dpkgopt={line}")));
        tool = match self.kind {
            Kind::Extract => tool
                .arg("--variant=extract")
                .arg(format!("--extract-hook={LIST_ARCHIVES}")),
            Kind::Install => tool
                .arg("--variant=minbase")
                .args(self.hooks.iter().map(|hook| format!("--customize-hook={hook}")))
                // The host's proxies and our retries were for this run alone.
                .arg(r#"--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap""#)
                .arg(format!("--customize-hook={LIST_INSTALLED}")),
        };
        let mut versions = PackageVersions::new();
        tool.arg(DEBIAN_SUITE)
            .arg(tar)
            .args(mirror.sources(DEBIAN_SUITE))
            .run(|line| {
                if let Some((package, version)) = line
                    .strip_prefix(PACKAGE_LINE)
                    .and_then(|rest| rest.split_once(' '))
                {
                    versions.insert(package.to_owned(), version.to_owned());
                } else if let Some(text) = line.strip_prefix("I: ") {
                    options.progress.detail(text);
                }
                let is_error = line.starts_with("E:") || line.starts_with("Err:");
                *security_failed |=
                    is_error && mirror.security.as_ref().is_some_and(|uri| line.contains(uri));
            })?;
        Ok(versions)
    }
}

/// The host's proxy settings as lines of apt configuration; mmdebstrap reads none of the host's by itself, but
/// hands on the environment's.
fn apt_proxies(log: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    if find_program("apt-config").is_some() {
        let dump =
            Tool::new("apt-config", log).args(["dump", "--no-empty", "--format", "%F \"%v\";%n", "Acquire"]);
        let collected = dump.run(|line| {
            if is_proxy_line(line) {
                lines.push(line.to_owned());
            }
        });
        if collected.is_err() {
            lines.clear(); // a host whose apt is broken has no proxies we could know
        }
    }
    lines
}

fn is_proxy_line(line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    ["::proxy", "::cainfo", "::proxy-auto-detect", "::proxyautodetect"]
        .iter()
        .any(|end| name.contains(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_hosts_apt_configuration_only_what_reaching_mirrors_takes_is_used() {
        assert!(is_proxy_line(
            r#"Acquire::http::Proxy "http://proxy.example:3128";"#
        ));
        assert!(is_proxy_line(r#"Acquire::https::Proxy::m.example "DIRECT";"#));
        assert!(is_proxy_line(r#"Acquire::https::CaInfo "/etc/ssl/ca.pem";"#));
        assert!(!is_proxy_line(r#"Acquire::Languages "none";"#));
        assert!(!is_proxy_line(r#"Acquire::ForceIPv4 "::proxy";"#));
    }
}
