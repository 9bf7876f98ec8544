//! Root file systems of templates: a minimal Debian, the template's packages and files, as an ext4 image.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::DEBIAN_SUITE;
use crate::certificates;
use crate::debootstrap::{Debootstrap, Kind};
use crate::digest;
use crate::error::{BuildOptions, ImageError};
use crate::ext4::{Ext4, Inodes};
use crate::overlay;
use crate::store::{Artifact, ImageStore, PackageVersions, Request, Workshop};
use crate::template::{File, Template};

/// Goes up when the same template is to be made into something else.
const RECIPE_VERSION: u32 = 1;
/// Enough for a disk whose writes end with its sandbox, in MiB; each sandbox writes to its own copy.
const JOURNAL_MIB: u32 = 16;
/// Where the build's own script lies inside the file system while it runs.
const SETUP_SCRIPT: &str = "/.podflare-setup";
/// Where update-ca-certificates(8) looks for certificates that no package brings.
const CERTIFICATES: &str = "/usr/local/share/ca-certificates";

/// A root file system to be built.
#[derive(Clone, Copy, Debug)]
pub struct RootfsRequest<'a> {
    pub template: &'a Template,
    pub size_gib: u32,
    /// PEM files, or directories with `.crt` and `.pem` files, that the sandbox shall trust.
    pub extra_certificates: &'a [PathBuf],
}

/// A root file system.
#[derive(Clone, Debug)]
pub struct Rootfs {
    artifact: Artifact,
}

/// Of a template, what its root file system depends on.
#[derive(Serialize)]
struct Inputs<'a> {
    recipe_version: u32,
    suite: &'static str,
    packages: &'a [String],
    dpkg: &'a [String],
    setup: &'a [String],
    files: &'a [File],
    certificates_sha256: Vec<String>,
    size_gib: u32,
}

impl ImageStore {
    /// Finds or builds a root file system.
    ///
    /// # Errors
    /// When packages cannot be had, the template's commands fail, or certificates cannot be read.
    pub fn rootfs(
        &self,
        request: &RootfsRequest<'_>,
        options: &BuildOptions<'_>,
    ) -> Result<Rootfs, ImageError> {
        let certificates = certificates::collect(request.extra_certificates)?;
        let inputs = Inputs::new(request, &certificates);
        let wanted = Request {
            kind: "rootfs",
            name: &request.template.name,
            inputs: &inputs,
            refresh: options.refresh,
            progress: options.progress,
        };
        let artifact = self.get_or_build(&wanted, |workshop| {
            build(workshop, request, &certificates, options)
        })?;
        Ok(Rootfs { artifact })
    }
}

impl Rootfs {
    /// The raw ext4 image, sparse.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.artifact.path(&self.file_name())
    }

    /// The name of the template it is made from.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.artifact.manifest.name
    }

    /// Changes whenever the content does.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.artifact.identity()
    }

    /// What the image is called, here and on the disk of images: `default.ext4`.
    #[must_use]
    pub fn file_name(&self) -> String {
        file_name(self.template())
    }
}

impl<'a> Inputs<'a> {
    fn new(request: &RootfsRequest<'a>, certificates: &[String]) -> Self {
        Self {
            recipe_version: RECIPE_VERSION,
            suite: DEBIAN_SUITE,
            packages: &request.template.packages,
            dpkg: &request.template.dpkg,
            setup: &request.template.setup,
            files: &request.template.files,
            certificates_sha256: certificates
                .iter()
                .map(|pem| digest::bytes(pem.as_bytes()))
                .collect(),
            size_gib: request.size_gib,
        }
    }
}

fn file_name(template: &str) -> String {
    format!("{template}.ext4")
}

fn build(
    workshop: &Workshop,
    request: &RootfsRequest<'_>,
    certificates: &[String],
    options: &BuildOptions<'_>,
) -> Result<PackageVersions, ImageError> {
    let template = request.template;
    options.progress.step(&format!(
        "building the root file system of template {}",
        template.name
    ));
    let files = all_files(template, certificates);
    let overlay = overlay::pack(&files, &workshop.scratch, &workshop.log)?;
    let tar = workshop.scratch.join("rootfs.tar");
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
    let packages = install.run(&tar, &workshop.log, options)?;

    options.progress.detail("making the ext4 image");
    let file_system = Ext4 {
        label: &template.name,
        size_mib: u64::from(request.size_gib) * 1024,
        journal_mib: Some(JOURNAL_MIB),
        inodes: Inodes::ByRatio,
    };
    let image = workshop.out.join(file_name(&template.name));
    file_system.make_from_tar(&tar, &workshop.scratch, &image, &workshop.log)?;
    fs::remove_file(&tar).map_err(ImageError::file("remove", &tar))?;
    options.progress.done(&format!(
        "root file system of template {}: {} packages",
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

    fn key(template: &Template, size_gib: u32, certificates: &[String]) -> String {
        let request = RootfsRequest {
            template,
            size_gib,
            extra_certificates: &[],
        };
        digest::key(&Inputs::new(&request, certificates)).unwrap()
    }

    #[test]
    fn the_key_follows_what_is_on_the_disk_and_nothing_else() {
        let template = Template::built_in("default").unwrap().unwrap();
        let same = key(&template, 4, &[]);
        let other_repl = Template {
            imports: vec!["json".to_owned()],
            description: "x".to_owned(),
            ..template.clone()
        };
        assert_eq!(
            key(&other_repl, 4, &[]),
            same,
            "imports are a matter of the snapshot"
        );
        let more_packages = Template {
            packages: vec!["bash".to_owned()],
            ..template.clone()
        };
        let keys = [
            same,
            key(&more_packages, 4, &[]),
            key(&template, 8, &[]),
            key(&template, 4, &["certificate".to_owned()]),
            key(
                &Template {
                    setup: Vec::new(),
                    ..template.clone()
                },
                4,
                &[],
            ),
            key(
                &Template {
                    files: Vec::new(),
                    ..template.clone()
                },
                4,
                &[],
            ),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn certificates_come_with_the_command_that_takes_them_up() {
        let template = Template::built_in("default").unwrap().unwrap();
        let files = all_files(&template, &["pem".to_owned()]);
        let script = &files.last().unwrap().content;
        assert!(files.iter().any(|file| file.path.ends_with("/extra-0.crt")));
        assert!(script.contains("update-ca-certificates"));
        assert!(
            !all_files(&template, &[])
                .last()
                .unwrap()
                .content
                .contains("update-ca-certificates")
        );
    }
}
