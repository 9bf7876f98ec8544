//! Root file systems of templates: a Debian system and the template's own on top, as an ext4 image.
//!
//! ```text
//! system (Debian packages) ──┬─────────────────────────────> default.ext4
//!                            └── wheels (Python packages) ──> python-datasci.ext4
//! ```
//!
//! Each box is an artifact of its own, so what two templates share is built once, and changing one leaves the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use crate::certificates;
use crate::error::{BuildOptions, ImageError};
use crate::ext4::{Ext4, Inodes};
use crate::overlay;
use crate::store::{Artifact, ImageStore, PackageVersions, Request, Workshop};
use crate::system::System;
use crate::template::{File, Template};
use crate::tools::{IMAGE_PACKAGES, require_packages};
use crate::tree::{self, Tree};
use crate::wheels::Wheels;

/// Goes up when the same template is to be made into something else.
const RECIPE_VERSION: u32 = 2;
/// Enough for a disk whose writes end with its sandbox, in MiB; each sandbox writes to its own copy.
const JOURNAL_MIB: u32 = 16;
/// Tells the agent what to load into the REPL.
const REPL_FILE: &str = "/etc/podflare/template.json";

/// Root file systems to be built.
#[derive(Clone, Copy, Debug)]
pub struct RootfsRequest<'a> {
    pub templates: &'a [Template],
    pub size_gib: u32,
    /// PEM files, or directories with `.crt` and `.pem` files, that the sandboxes shall trust.
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
    system: &'a str,
    wheels: Option<&'a str>,
    files: &'a [File],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    first_run: &'a [String],
    size_gib: u32,
}

/// What [`REPL_FILE`] says.
#[derive(Serialize)]
struct Repl<'a> {
    imports: Vec<&'a String>,
    warm_up: Vec<&'a String>,
}

/// A template, and what its root file system is made of.
struct Parts<'a> {
    template: &'a Template,
    system: &'a System,
    wheels: Option<Wheels>,
    /// Those not in the system yet.
    files: Vec<File>,
    size_gib: u32,
}

impl ImageStore {
    /// Finds or builds root file systems, one for each template and in that order.
    ///
    /// # Errors
    /// When packages cannot be had, a template's commands fail, or certificates cannot be read.
    pub fn rootfs(
        &self,
        request: &RootfsRequest<'_>,
        options: &BuildOptions<'_>,
    ) -> Result<Vec<Rootfs>, ImageError> {
        let certificates = certificates::collect(request.extra_certificates)?;
        // A refresh must not give two templates two systems of the same name.
        let mut systems = BTreeMap::new();
        let mut built = Vec::new();
        for template in request.templates {
            let base = template.base().map_err(ImageError::Template)?;
            let root = base.as_ref().unwrap_or(template);
            if !systems.contains_key(&root.name) {
                let system = self.system(root, &certificates, options)?;
                systems.insert(root.name.clone(), system);
            }
            let parts = Parts {
                template,
                system: &systems[&root.name],
                wheels: self.wheels(template, options)?,
                files: own_files(template, base.as_ref())?,
                size_gib: request.size_gib,
            };
            built.push(self.rootfs_of(&parts, options)?);
        }
        Ok(built)
    }

    fn rootfs_of(&self, parts: &Parts<'_>, options: &BuildOptions<'_>) -> Result<Rootfs, ImageError> {
        let inputs = Inputs {
            recipe_version: RECIPE_VERSION,
            system: parts.system.identity(),
            wheels: parts.wheels.as_ref().map(Wheels::identity),
            files: &parts.files,
            first_run: &parts.template.first_run,
            size_gib: parts.size_gib,
        };
        // Made from what is here, so a refresh of that is enough: its identity is an input.
        let wanted = Request {
            kind: "rootfs",
            name: &parts.template.name,
            inputs: &inputs,
            refresh: false,
            progress: options.progress,
        };
        let artifact = self.get_or_build(&wanted, |workshop| build(workshop, parts, options))?;
        Ok(Rootfs { artifact })
    }
}

impl Rootfs {
    /// The raw ext4 image, sparse.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.artifact.path(&file_name(self.template()))
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

    /// What a host daemon looks for, by the names it knows: the image as `default.ext4`, and as `default.warm.py` the code
    /// its clones run first, if the template names any.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let names = [file_name(self.template()), first_run_name(self.template())];
        let files = names.map(|name| (self.artifact.path(&name), name));
        files.into_iter().filter(|(path, _)| path.exists()).collect()
    }
}

fn file_name(template: &str) -> String {
    format!("{template}.ext4")
}

fn first_run_name(template: &str) -> String {
    format!("{template}.warm.py")
}

/// The code of a clone's first run: what every template begins with, then what this one adds.
fn first_run(statements: &[String]) -> Option<String> {
    (!statements.is_empty()).then(|| format!("print(1)\n{}\n", statements.join("\n")))
}

fn build(
    workshop: &Workshop,
    parts: &Parts<'_>,
    options: &BuildOptions<'_>,
) -> Result<PackageVersions, ImageError> {
    let name = &parts.template.name;
    require_packages(IMAGE_PACKAGES, options.progress).map_err(ImageError::Tools)?;
    options
        .progress
        .step(&format!("making the root file system of template {name}"));
    let overlay = overlay::pack(&parts.files, &workshop.scratch, &workshop.log)?;
    let system = parts.system.tar();
    let tree = Tree {
        system: &system,
        overlay: &overlay,
        wheels: parts.wheels.as_ref().map(Wheels::directory),
    };
    let file_system = Ext4 {
        label: name,
        size_mib: u64::from(parts.size_gib) * 1024,
        journal_mib: Some(JOURNAL_MIB),
        inodes: Inodes::ByRatio,
    };
    let image = workshop.out.join(file_name(name));
    let show = |line: &str| options.progress.detail(line);
    file_system.make_from_tree(&tree, &workshop.scratch, &image, &workshop.log, show)?;
    if let Some(code) = first_run(&parts.template.first_run) {
        let path = workshop.out.join(first_run_name(name));
        fs::write(&path, code).map_err(ImageError::file("write", &path))?;
    }
    options
        .progress
        .done(&format!("root file system of template {name}"));
    Ok(parts.system.packages().clone())
}

/// What the system does not bring: the word to the agent, and with a base the template's own files and commands.
fn own_files(template: &Template, base: Option<&Template>) -> Result<Vec<File>, ImageError> {
    let lineage = [base, Some(template)];
    let repl = Repl {
        imports: lineage.iter().flatten().flat_map(|one| &one.imports).collect(),
        warm_up: lineage.iter().flatten().flat_map(|one| &one.warm_up).collect(),
    };
    let mut files = vec![File {
        path: REPL_FILE.to_owned(),
        content: serde_json::to_string(&repl).map_err(ImageError::Repl)?,
        executable: false,
    }];
    if base.is_some() {
        files.extend(template.files.iter().cloned());
        files.push(File {
            path: tree::SETUP_SCRIPT.to_owned(),
            content: setup_script(template),
            executable: false,
        });
    }
    Ok(files)
}

/// pip is the sandbox's own, so the result is what `pip install` there would give; it fetches nothing here.
fn setup_script(template: &Template) -> String {
    let mut script = "set -eux\n".to_owned();
    if !template.wheels.is_empty() {
        script.push_str(&format!(
            "python3 -m pip install --no-index --no-deps --ignore-installed --no-compile --no-cache-dir {}/*.whl\npython3 -m pip check\n",
            tree::WHEELS
        ));
    }
    for command in &template.setup {
        script.push_str(command);
        script.push('\n');
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file<'f>(files: &'f [File], path: &str) -> Option<&'f str> {
        let found = files.iter().find(|file| file.path == path);
        found.map(|file| file.content.as_str())
    }

    #[test]
    fn the_agent_is_told_what_base_and_template_load() {
        let template = Template::built_in("python-datasci").unwrap();
        let base = template.base().unwrap();
        let files = own_files(&template, base.as_ref()).unwrap();
        let told: serde_json::Value = serde_json::from_str(file(&files, REPL_FILE).unwrap()).unwrap();
        let imports = told["imports"].as_array().unwrap();
        for wanted in ["json", "numpy as np"] {
            assert!(imports.iter().any(|import| import == wanted), "{wanted}: {told}");
        }
    }

    #[test]
    fn what_a_clone_runs_first_is_printed_code_a_line_each() {
        assert_eq!(first_run(&[]), None);
        let science = Template::built_in("python-datasci").unwrap();
        let code = first_run(&science.first_run).unwrap();
        assert!(code.starts_with("print(1)\nprint(pd.DataFrame("), "{code}");
        assert!(code.ends_with(")\n"), "{code}");
    }

    #[test]
    fn only_a_template_with_a_base_is_set_up_on_top_of_a_system() {
        let default = Template::built_in("default").unwrap();
        let files = own_files(&default, None).unwrap();
        assert_eq!(files.len(), 1, "the system has the rest");
        let science = Template::built_in("python-datasci").unwrap();
        let files = own_files(&science, Some(&default)).unwrap();
        let script = file(&files, tree::SETUP_SCRIPT).unwrap();
        assert!(
            script.contains("pip install") && script.contains("pip check"),
            "{script}"
        );
        assert!(
            file(&files, "/etc/hosts").is_none(),
            "the base's files are in its system"
        );
    }
}
