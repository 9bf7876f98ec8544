//! Debian systems: a template's packages and files, set up, as an archive that root file systems are made from.
//!
//! Templates with the same base share one, so the packages are fetched once and a change to one template leaves the
//! others as they are.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::DEBIAN_SUITE;
use crate::debootstrap::{Debootstrap, Kind};
use crate::digest;
use crate::error::{BuildOptions, ImageError};
use crate::overlay;
use crate::store::{Artifact, ImageStore, PackageVersions, Request, Workshop};
use crate::template::{File, Template};
use crate::tools::{IMAGE_PACKAGES, require_packages};

/// Goes up when the same template is to be made into something else.
const RECIPE_VERSION: u32 = 1;
/// Where the build's own script lies inside the file system while it runs.
const SETUP_SCRIPT: &str = "/.podflare-setup";
/// Where update-ca-certificates(8) looks for certificates that no package brings.
const CERTIFICATES: &str = "/usr/local/share/ca-certificates";
const FILE: &str = "system.tar";

/// A system; the template has no base.
#[derive(Clone, Debug)]
pub(crate) struct System(Artifact);

/// Of a template, what its system depends on.
#[derive(Serialize)]
struct Inputs<'a> {
    recipe_version: u32,
    suite: &'static str,
    packages: &'a [String],
    dpkg: &'a [String],
    setup: &'a [String],
    files: &'a [File],
    certificates_sha256: Vec<String>,
}

impl ImageStore {
    /// Finds or builds the system of a template, which trusts these certificates, each one PEM text.
    pub(crate) fn system(
        &self,
        template: &Template,
        certificates: &[String],
        options: &BuildOptions<'_>,
    ) -> Result<System, ImageError> {
        let inputs = Inputs::new(template, certificates);
        let wanted = Request {
            kind: "system",
            name: &template.name,
            inputs: &inputs,
            refresh: options.refresh,
            progress: options.progress,
        };
        self.get_or_build(&wanted, |workshop| {
            build(workshop, template, certificates, options)
        })
        .map(System)
    }
}

impl System {
    pub(crate) fn tar(&self) -> PathBuf {
        self.0.path(FILE)
    }

    /// Changes whenever the content does.
    pub(crate) fn identity(&self) -> &str {
        self.0.identity()
    }

    pub(crate) fn packages(&self) -> &PackageVersions {
        &self.0.manifest.packages
    }
}

impl<'a> Inputs<'a> {
    fn new(template: &'a Template, certificates: &[String]) -> Self {
        Self {
            recipe_version: RECIPE_VERSION,
            suite: DEBIAN_SUITE,
            packages: &template.packages,
            dpkg: &template.dpkg,
            setup: &template.setup,
            files: &template.files,
            certificates_sha256: certificates
                .iter()
                .map(|pem| digest::bytes(pem.as_bytes()))
                .collect(),
        }
    }
}

fn build(
    workshop: &Workshop,
    template: &Template,
    certificates: &[String],
    options: &BuildOptions<'_>,
) -> Result<PackageVersions, ImageError> {
    // Before the step begins: an installation is a step of its own.
    require_packages(IMAGE_PACKAGES, options.progress).map_err(ImageError::Tools)?;
    options.progress.step(&format!(
        "fetching the Debian packages of template {}",
        template.name
    ));
    let files = all_files(template, certificates);
    let overlay = overlay::pack(&files, &workshop.scratch, &workshop.log)?;
    let install = Debootstrap {
        kind: Kind::Install,
        packages: &template.packages,
        dpkg_options: &template.dpkg,
        hooks: vec![
            format!("tar-in {} /", quoted(&overlay)),
            format!(r#"chroot "$1" sh {SETUP_SCRIPT}"#),
            format!(r#"rm "$1{SETUP_SCRIPT}""#),
        ],
    };
    let packages = install.run(&workshop.out.join(FILE), &workshop.log, options)?;
    options.progress.done(&format!(
        "system of template {}: {} packages",
        template.name,
        packages.len()
    ));
    Ok(packages)
}

/// The template's files, the certificates, and the script that sets all up.
fn all_files(template: &Template, certificates: &[String]) -> Vec<File> {
    let mut files = template.files.clone();
    files.extend(certificates.iter().enumerate().map(|(index, pem)| File {
        path: format!("{CERTIFICATES}/extra-{index}.crt"),
        content: pem.clone(),
        executable: false,
    }));
    let mut script = "set -eux\nexport DEBIAN_FRONTEND=noninteractive HOME=/root LC_ALL=C.UTF-8\n".to_owned();
    if !certificates.is_empty() {
        script.push_str("update-ca-certificates\n");
    }
    for command in &template.setup {
        script.push_str(command);
        script.push('\n');
    }
    files.push(File {
        path: SETUP_SCRIPT.to_owned(),
        content: script,
        executable: false,
    });
    files
}

/// As one word of the hook language, which splits words like a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default() -> Template {
        Template::built_in("default").unwrap()
    }

    fn key(template: &Template, certificates: &[String]) -> String {
        digest::key(&Inputs::new(template, certificates)).unwrap()
    }

    #[test]
    fn the_key_follows_what_the_system_has_and_nothing_else() {
        let same = key(&default(), &[]);
        let other_repl = Template {
            imports: vec!["json".to_owned()],
            warm_up: vec!["1".to_owned()],
            description: "x".to_owned(),
            ..default()
        };
        assert_eq!(key(&other_repl, &[]), same, "what the REPL loads is added later");
        let others = [
            Template {
                packages: vec!["bash".to_owned()],
                ..default()
            },
            Template {
                setup: Vec::new(),
                ..default()
            },
            Template {
                files: Vec::new(),
                ..default()
            },
        ];
        let mut keys: Vec<_> = others.iter().map(|template| key(template, &[])).collect();
        keys.extend([same, key(&default(), &["certificate".to_owned()])]);
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn certificates_come_with_the_command_that_takes_them_up() {
        let files = all_files(&default(), &["pem".to_owned()]);
        let script = &files.last().unwrap().content;
        assert!(files.iter().any(|file| file.path.ends_with("/extra-0.crt")));
        assert!(script.contains("update-ca-certificates"));
        let without = all_files(&default(), &[]);
        assert!(!without.last().unwrap().content.contains("update-ca-certificates"));
    }
}
