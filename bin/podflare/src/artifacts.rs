//! Everything bootable that a host needs, found in the cache or built.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use image::{
    BuildOptions, DEFAULT_ROOTFS_GIB, GuestInitrd, ImageError, ImageStore, Kernel, MirrorSetting, Progress,
    Rootfs, RootfsRequest, Template, TemplateError,
};
use pod_types::ErrorChain;
use serde::{Deserialize, Serialize};
use softhost::{HardwarePlan, HostKind, Plan, SoftwareFiles, SoftwarePlan};

use crate::authority;
use crate::binaries::Binaries;
use crate::failure::Failure;
use crate::settings::Directories;

/// Size of the software host's state disk, in GiB. It is sparse: only what sandboxes write takes room.
const STATE_DISK_GIB: u32 = 64;

/// The template every host has.
pub(crate) const DEFAULT_TEMPLATE: &str = "default";

/// Where the built things are. All but the state disk lie in the cache under digests of what they are made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Artifacts {
    pub(crate) guest_initrd: PathBuf,
    /// Digests of what kernel and root file systems were built from and as.
    identities: Vec<String>,
    /// Kernel and root file systems: a disk for a software host, a directory for hardware.
    images: PathBuf,
    /// Only a software host has one.
    state_disk: Option<PathBuf>,
}

/// What to build for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) kind: HostKind,
    pub(crate) directories: &'a Directories,
    pub(crate) binaries: &'a Binaries,
    /// Names of templates; the default one is always there.
    pub(crate) templates: &'a [String],
    pub(crate) ca_certificates: &'a [PathBuf],
    /// Build anew what is there, for today's security updates.
    pub(crate) refresh: bool,
    pub(crate) progress: &'a dyn Progress,
}

impl Artifacts {
    /// Finds or builds everything; quick when all is there.
    pub(crate) fn ensure(request: &Request<'_>) -> Result<Self, Failure> {
        let options = request.build_options();
        let store = open_store(request.directories)?;
        let kernel = store.kernel(&options).map_err(build_failure)?;
        let rootfs = build_rootfs(&store, request.templates, request.ca_certificates, &options)?;
        let authority = authority::ensure(
            request.directories,
            &request.binaries.netd,
            &image::certificates(request.ca_certificates).map_err(build_failure)?,
        );
        let authority = authority.map_err(|error| {
            Failure::while_doing("authority", "cannot keep this host's own authority", &error)
        })?;
        let parts = GuestInitrd {
            agent: &request.binaries.agent,
            authority: Some(&authority),
        };
        let guest_initrd = store.guest_initrd(&kernel, parts).map_err(build_failure)?;
        let identities = [kernel.identity()]
            .into_iter()
            .chain(rootfs.iter().map(Rootfs::identity));
        let identities = identities.map(str::to_owned).collect();
        let (images, state_disk) = match request.kind {
            HostKind::Software => {
                let images = store
                    .images_disk(&kernel, &rootfs, &options)
                    .map_err(build_failure)?;
                let state_disk = request.directories.state.join("state.ext4");
                image::state_disk(&state_disk, STATE_DISK_GIB, request.progress).map_err(build_failure)?;
                (images, Some(state_disk))
            }
            HostKind::Hardware => (link_images(&request.directories.state, &kernel, &rootfs)?, None),
        };
        Ok(Self {
            guest_initrd,
            identities,
            images,
            state_disk,
        })
    }

    /// The files of a host, for whoever wants to see whether they are there.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        vec![self.images.clone(), self.guest_initrd.clone()]
    }

    /// Whether kernel or root file systems are others.
    pub(crate) fn differ_from(&self, other: &Self) -> bool {
        self.identities != other.identities
            || self.images != other.images
            || self.state_disk != other.state_disk
    }

    /// The parts in the supervisor's terms. The kernel comes from the cache again, where it is for sure.
    pub(crate) fn plan(&self, request: &Request<'_>, memory_mib: Option<u32>) -> Result<Plan, Failure> {
        let binaries = request.binaries.clone();
        let Some(state_disk) = self.state_disk.clone() else {
            return Ok(Plan::Hardware(HardwarePlan {
                hostd: binaries.hostd,
                vmm: binaries.vmm,
                netd: binaries.netd,
                authority: authority::directory(request.directories),
                guest_initrd: self.guest_initrd.clone(),
                images: self.images.clone(),
                vcpus: HARDWARE_VCPUS,
            }));
        };
        let kernel = open_store(request.directories)?
            .kernel(&request.build_options())
            .map_err(build_failure)?;
        let files = SoftwareFiles {
            images_disk: self.images.clone(),
            state_disk,
            guest_initrd: self.guest_initrd.clone(),
            hostd: binaries.hostd,
            vmm: binaries.vmm,
            netd: binaries.netd,
            authority: authority::directory(request.directories),
        };
        let memory_mib =
            softhost::machine_memory_mib(memory_mib).map_err(|error| Failure::because("memory", &error))?;
        SoftwarePlan::new(&kernel, files, memory_mib)
            .map(Plan::Software)
            .map_err(build_failure)
    }
}

/// CPUs of a sandbox on hardware virtualization; the software host has one emulated CPU.
const HARDWARE_VCPUS: u32 = 2;

impl<'a> Request<'a> {
    fn build_options(&self) -> BuildOptions<'a> {
        BuildOptions {
            mirror: MirrorSetting::from_env(),
            refresh: self.refresh,
            progress: self.progress,
        }
    }
}

pub(crate) fn open_store(directories: &Directories) -> Result<ImageStore, Failure> {
    ImageStore::open(&directories.cache).map_err(|error| Failure::because("cache", &error))
}

/// Finds or builds the root file systems of these templates and of the default one.
pub(crate) fn build_rootfs(
    store: &ImageStore,
    names: &[String],
    extra_certificates: &[PathBuf],
    options: &BuildOptions<'_>,
) -> Result<Vec<Rootfs>, Failure> {
    let others = names
        .iter()
        .map(String::as_str)
        .filter(|&name| name != DEFAULT_TEMPLATE);
    let names: Vec<_> = [DEFAULT_TEMPLATE].into_iter().chain(others).collect();
    let request = RootfsRequest {
        templates: &templates(&names)?,
        size_gib: DEFAULT_ROOTFS_GIB,
        extra_certificates,
    };
    store.rootfs(&request, options).map_err(build_failure)
}

/// The templates of these names, each once.
pub(crate) fn templates(names: &[&str]) -> Result<Vec<Template>, Failure> {
    let mut found: Vec<Template> = Vec::new();
    for name in names {
        let template = Template::built_in(name).map_err(|error| match error {
            TemplateError::Unknown { .. } => Failure::usage(error.to_string()),
            error => Failure::because("template", &error),
        })?;
        if !found.contains(&template) {
            found.push(template);
        }
    }
    Ok(found)
}

/// A directory with the names a host daemon looks for, pointing into the cache.
fn link_images(state: &Path, kernel: &Kernel, rootfs: &[Rootfs]) -> Result<PathBuf, Failure> {
    let directory = state.join("images");
    let link = || -> io::Result<()> {
        fs::create_dir_all(&directory)?;
        replace_link(&kernel.vmlinux(), &directory.join("vmlinux"))?;
        rootfs
            .iter()
            .flat_map(Rootfs::files)
            .try_for_each(|(path, name)| replace_link(&path, &directory.join(name)))
    };
    link().map_err(|error| {
        Failure::while_doing("images", &format!("cannot fill {}", directory.display()), &error)
    })?;
    Ok(directory)
}

fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    let new = link.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    symlink(target, &new)?;
    fs::rename(new, link)
}

pub(crate) fn build_failure(error: ImageError) -> Failure {
    let text = ErrorChain(&error).to_string();
    let failure = Failure::new("image", format!("cannot build the images: {text}"));
    // Most errors of the builder say themselves what to do.
    if text.contains("install with") || text.contains("set PODFLARE_") {
        failure
    } else {
        failure.hint("`podflare doctor` checks what building takes; the tools' own output is in the cache's log directory")
    }
}
