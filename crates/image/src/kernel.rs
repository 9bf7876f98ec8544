//! Debian's cloud kernel, taken apart: what a virtual machine boots, what QEMU boots, and the modules of both.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::DEBIAN_SUITE;
use crate::bzimage::unpack_vmlinux;
use crate::command::Tool;
use crate::debootstrap::{Debootstrap, Kind};
use crate::error::{BuildOptions, ImageError};
use crate::modules::{Module, ModuleTree};
use crate::store::{Artifact, ImageStore, PackageVersions, Request, Workshop};

/// Goes up when the same packages are to be made into something else.
const RECIPE_VERSION: u32 = 1;
/// busybox is the user land of the software host; it travels along since it comes from the same place.
const PACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "busybox-static"];
/// What is unpacked of the packages and their dependencies.
const UNPACKED: [&str; 3] = ["./boot", "./usr/lib/modules", "./usr/bin/busybox"];

const VMLINUX: &str = "vmlinux";
const VMLINUZ: &str = "vmlinuz";
const CONFIG: &str = "config";
const BUSYBOX: &str = "busybox";
const RELEASE: &str = "release";
const MODULES: &str = "modules";

/// A kernel, with its modules and busybox.
#[derive(Clone, Debug)]
pub struct Kernel {
    artifact: Artifact,
    modules: ModuleTree,
    release: String,
}

#[derive(Serialize)]
struct Inputs {
    recipe_version: u32,
    suite: &'static str,
    packages: [&'static str; 2],
}

impl ImageStore {
    /// Finds or fetches the kernel.
    ///
    /// # Errors
    /// When packages cannot be had or are not what we know.
    pub fn kernel(&self, options: &BuildOptions<'_>) -> Result<Kernel, ImageError> {
        let inputs = Inputs {
            recipe_version: RECIPE_VERSION,
            suite: DEBIAN_SUITE,
            packages: PACKAGES,
        };
        let request = Request {
            kind: "kernel",
            name: "cloud",
            inputs: &inputs,
            refresh: options.refresh,
            progress: options.progress,
        };
        Kernel::from_artifact(self.get_or_build(&request, |workshop| build(workshop, options))?)
    }
}

impl Kernel {
    /// The ELF kernel that a virtual machine monitor boots.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.artifact.path(VMLINUX)
    }

    /// The same kernel as packaged, which QEMU boots.
    #[must_use]
    pub fn vmlinuz(&self) -> PathBuf {
        self.artifact.path(VMLINUZ)
    }

    /// The options the kernel was built with, as text.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.artifact.path(CONFIG)
    }

    /// A static busybox of the same Debian release.
    #[must_use]
    pub fn busybox(&self) -> PathBuf {
        self.artifact.path(BUSYBOX)
    }

    /// What `uname -r` prints under it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Changes whenever the kernel does.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.artifact.identity()
    }

    /// The modules of those names and all they need, in load order. What is built in is left out.
    ///
    /// # Errors
    /// When a module is neither there nor built in, or cannot be read.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>, ImageError> {
        self.modules.load_order(names).map_err(ImageError::Modules)
    }

    fn from_artifact(artifact: Artifact) -> Result<Self, ImageError> {
        let release_file = artifact.path(RELEASE);
        let release = fs::read_to_string(&release_file).map_err(ImageError::file("read", release_file))?;
        let modules = ModuleTree::open(&artifact.path(MODULES)).map_err(ImageError::Modules)?;
        Ok(Self {
            modules,
            release: release.trim().to_owned(),
            artifact,
        })
    }
}

fn build(workshop: &Workshop, options: &BuildOptions<'_>) -> Result<PackageVersions, ImageError> {
    options.progress.step("fetching the Debian kernel");
    let tar = workshop.scratch.join("packages.tar");
    let packages = PACKAGES.map(str::to_owned);
    let fetch = Debootstrap {
        kind: Kind::Extract,
        packages: &packages,
        dpkg_options: &[],
        hooks: Vec::new(),
    };
    let mut versions = fetch.run(&tar, &workshop.log, options)?;
    versions.retain(|package, _| package.starts_with("linux-image") || PACKAGES.contains(&package.as_str()));

    let tree = workshop.scratch.join("packages");
    fs::create_dir(&tree).map_err(ImageError::file("make", &tree))?;
    Tool::new("tar", &workshop.log)
        .args(["--extract", "--no-same-owner", "--file"])
        .arg(&tar)
        .arg("--directory")
        .arg(&tree)
        .args(UNPACKED)
        .run(|_| {})
        .map_err(ImageError::UnpackPackages)?;
    options.progress.detail("unpacking the kernel");
    let release = take_apart(&tree, &workshop.out)?;
    options.progress.done(&format!("kernel {release}"));
    Ok(versions)
}

/// Moves what is needed from the unpacked packages; returns the kernel's release.
fn take_apart(tree: &Path, out: &Path) -> Result<String, ImageError> {
    let modules = tree.join("usr/lib/modules");
    let mut releases = fs::read_dir(&modules).map_err(ImageError::file("list", &modules))?;
    let release = match (releases.next(), releases.next()) {
        (Some(Ok(entry)), None) => entry.file_name().to_string_lossy().into_owned(),
        _ => {
            return Err(ImageError::KernelPackage {
                what: "modules of exactly one kernel",
            });
        }
    };
    let rename = |from: PathBuf, name: &str, what| {
        if !from.exists() {
            return Err(ImageError::KernelPackage { what });
        }
        fs::rename(&from, out.join(name)).map_err(ImageError::file("move", from))
    };
    rename(modules.join(&release), MODULES, "modules")?;
    rename(
        tree.join(format!("boot/vmlinuz-{release}")),
        VMLINUZ,
        "kernel image",
    )?;
    rename(
        tree.join(format!("boot/config-{release}")),
        CONFIG,
        "kernel configuration",
    )?;
    rename(tree.join("usr/bin/busybox"), BUSYBOX, "busybox")?;

    let vmlinuz = out.join(VMLINUZ);
    let packed = fs::read(&vmlinuz).map_err(ImageError::file("read", vmlinuz))?;
    let unpacked = unpack_vmlinux(&packed).map_err(ImageError::Kernel)?;
    let write = |name: &str, data: &[u8]| {
        fs::write(out.join(name), data).map_err(ImageError::file("write", out.join(name)))
    };
    write(VMLINUX, &unpacked)?;
    write(RELEASE, release.as_bytes())?;
    Ok(release)
}

#[cfg(test)]
impl Kernel {
    /// A kernel made up of whatever is in `directory/modules`.
    pub(crate) fn for_tests(store: &ImageStore, version: u32, prepare: impl FnOnce(&Path)) -> Self {
        let request = Request {
            kind: "kernel",
            name: "test",
            inputs: &version,
            refresh: false,
            progress: &crate::Silent,
        };
        let built = store.get_or_build::<_, ImageError>(&request, |workshop| {
            prepare(&workshop.out.join(MODULES));
            fs::write(workshop.out.join(RELEASE), format!("6.12.{version}")).unwrap();
            fs::write(workshop.out.join(VMLINUX), format!("kernel {version}")).unwrap();
            Ok(PackageVersions::new())
        });
        Self::from_artifact(built.unwrap()).unwrap()
    }
}
