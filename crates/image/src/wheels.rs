//! Python packages of templates: fetched by pip(1) as this machine is configured to, for the Python of the sandboxes.
//!
//! Only finished wheels are taken, and exactly those the template names. Nothing of them is executed here.

use std::path::Path;

use serde::Serialize;

use crate::GUEST_PYTHON;
use crate::command::Tool;
use crate::error::{BuildOptions, ImageError};
use crate::store::{Artifact, ImageStore, PackageVersions, Request, Workshop};
use crate::template::Template;
use crate::tools::{Package, require_packages};

/// Goes up when the same wheels are to be fetched in another way.
const RECIPE_VERSION: u32 = 1;
/// Brings pip.
const PIP_PACKAGES: &[Package] = &[Package {
    binary: "pip3",
    package: "python3-pip",
}];
/// C libraries whose programs run on that of the sandboxes, as minor versions of glibc 2 (PEP 600); it has 2.41. pip
/// knows only exact names when it fetches for another machine.
const GLIBC_MINOR: std::ops::RangeInclusive<u32> = 5..=41;
/// The name of 2.17 before PEP 600.
const OLD_PLATFORM: &str = "manylinux2014_x86_64";

/// A directory of wheels.
#[derive(Clone, Debug)]
pub(crate) struct Wheels(Artifact);

#[derive(Serialize)]
struct Inputs<'a> {
    recipe_version: u32,
    python: &'static str,
    wheels: &'a [String],
}

impl ImageStore {
    /// Finds or fetches a template's Python packages. Since their versions are pinned, a refresh brings no others.
    pub(crate) fn wheels(
        &self,
        template: &Template,
        options: &BuildOptions<'_>,
    ) -> Result<Option<Wheels>, ImageError> {
        if template.wheels.is_empty() {
            return Ok(None);
        }
        let inputs = Inputs {
            recipe_version: RECIPE_VERSION,
            python: GUEST_PYTHON,
            wheels: &template.wheels,
        };
        let wanted = Request {
            kind: "wheels",
            name: &template.name,
            inputs: &inputs,
            refresh: false,
            progress: options.progress,
        };
        self.get_or_build(&wanted, |workshop| fetch(workshop, template, options))
            .map(|artifact| Some(Wheels(artifact)))
    }
}

impl Wheels {
    pub(crate) fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Changes whenever the content does.
    pub(crate) fn identity(&self) -> &str {
        self.0.identity()
    }
}

fn fetch(
    workshop: &Workshop,
    template: &Template,
    options: &BuildOptions<'_>,
) -> Result<PackageVersions, ImageError> {
    require_packages(PIP_PACKAGES, options.progress).map_err(ImageError::Tools)?;
    options.progress.step(&format!(
        "fetching the Python packages of template {}",
        template.name
    ));
    let platforms = GLIBC_MINOR.map(|minor| format!("manylinux_2_{minor}_x86_64"));
    Tool::new("pip3", &workshop.log)
        .args([
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--progress-bar=off",
        ])
        .args(["--disable-pip-version-check", "--implementation=cp"])
        .arg(format!("--python-version={GUEST_PYTHON}"))
        .args(platforms.map(|platform| format!("--platform={platform}")))
        .arg(format!("--platform={OLD_PLATFORM}"))
        .arg("--dest")
        .arg(&workshop.out)
        .args(&template.wheels)
        .run(|line| {
            if let Some(requirement) = line.strip_prefix("Collecting ") {
                options.progress.detail(requirement);
            }
        })
        .map_err(ImageError::Wheels)?;
    options.progress.done(&format!(
        "Python packages of template {}: {}",
        template.name,
        template.wheels.len()
    ));
    Ok(template
        .wheels
        .iter()
        .filter_map(|pin| pin.split_once("=="))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect())
}
