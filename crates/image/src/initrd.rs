//! The guest's initrd, and the modules of both guest and software host.
//!
//! The agent is `/init`. It loads the files named in `/lib/modules-load.txt`, one a line, from `/lib/modules/`
//! in that order, mounts the root file system and goes on there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cpio::{CpioArchive, CpioError};
use crate::digest;
use crate::elf;
use crate::error::ImageError;
use crate::kernel::Kernel;
use crate::modules::Module;
use crate::progress::Silent;
use crate::store::{ImageStore, PackageVersions, Request};

/// What a guest needs to reach its devices; ext4 is built in.
const GUEST_MODULES: [&str; 7] = [
    "virtio_mmio",
    "virtio_blk",
    "virtio_rng",
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
    "pvpanic_mmio",
];

/// What the software host needs: KVM on the emulated AMD processor, and QEMU's PCI devices.
pub const SOFTWARE_HOST_MODULES: [&str; 6] = [
    "kvm",
    "kvm_amd",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
];

/// Goes up when the same agent and kernel are to be put together in another way.
const RECIPE_VERSION: u32 = 1;
const FILE: &str = "initrd.cpio";

#[derive(Serialize)]
struct Inputs<'a> {
    recipe_version: u32,
    kernel: &'a str,
    agent_sha256: &'a str,
}

/// The guest's initrd with that agent, a static executable, as PID 1.
///
/// # Errors
/// When the agent is not one, or the kernel lacks a module.
pub fn guest_initrd(kernel: &Kernel, agent: &Path) -> Result<Vec<u8>, ImageError> {
    assemble(kernel, read_agent(agent)?)
}

/// The modules of the software host, in load order.
///
/// # Errors
/// When the kernel lacks one.
pub fn software_host_modules(kernel: &Kernel) -> Result<Vec<Module>, ImageError> {
    kernel.modules(&SOFTWARE_HOST_MODULES)
}

impl ImageStore {
    /// The same as [`guest_initrd`] as a file of the cache.
    ///
    /// # Errors
    /// As [`guest_initrd`], and when the cache cannot be written.
    pub fn guest_initrd(&self, kernel: &Kernel, agent: &Path) -> Result<PathBuf, ImageError> {
        let agent = read_agent(agent)?;
        let sha256 = digest::bytes(&agent);
        let inputs = Inputs {
            recipe_version: RECIPE_VERSION,
            kernel: kernel.identity(),
            agent_sha256: &sha256,
        };
        let request = Request {
            kind: "initrd",
            name: "guest",
            inputs: &inputs,
            refresh: false,
            progress: &Silent,
        };
        let artifact = self.get_or_build::<_, ImageError>(&request, |workshop| {
            let path = workshop.out.join(FILE);
            fs::write(&path, assemble(kernel, agent)?).map_err(ImageError::file("write", path))?;
            Ok(PackageVersions::new())
        })?;
        Ok(artifact.path(FILE))
    }
}

fn read_agent(path: &Path) -> Result<Vec<u8>, ImageError> {
    let agent = fs::read(path).map_err(ImageError::file("read", path))?;
    match elf::needs_loader(&agent) {
        Ok(false) => Ok(agent),
        Ok(true) => Err(ImageError::AgentNotStatic {
            path: path.to_owned(),
        }),
        Err(source) => Err(ImageError::AgentFormat {
            path: path.to_owned(),
            source,
        }),
    }
}

fn assemble(kernel: &Kernel, agent: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    let modules = kernel.modules(&GUEST_MODULES)?;
    archive(agent, modules)
        .and_then(|archive| archive.to_bytes())
        .map_err(ImageError::Initrd)
}

fn archive(agent: Vec<u8>, modules: Vec<Module>) -> Result<CpioArchive, CpioError> {
    let mut archive = CpioArchive::new();
    archive.add_file("init", 0o755, agent)?;
    // The kernel opens it as the standard streams of PID 1 before that could make one.
    archive.add_char_device("dev/console", 0o600, (5, 1))?;
    archive.add_char_device("dev/null", 0o666, (1, 3))?;
    for mount_point in ["proc", "sys", "run", "newroot"] {
        archive.add_dir(mount_point, 0o755)?;
    }
    let list: String = modules.iter().map(|module| module.file_name() + "\n").collect();
    archive.add_file("lib/modules-load.txt", 0o644, list.into_bytes())?;
    for module in modules {
        archive.add_file(
            &format!("lib/modules/{}", module.file_name()),
            0o644,
            module.bytes,
        )?;
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::testing;
    use crate::modules::tests::write_tree;

    fn kernel(store: &ImageStore, version: u32) -> Kernel {
        let builtin: Vec<_> = GUEST_MODULES
            .into_iter()
            .filter(|name| *name != "virtio_blk")
            .collect();
        Kernel::for_tests(store, version, |directory| {
            write_tree(directory, &[("block/virtio_blk", "depends=\0")], &builtin);
        })
    }

    #[test]
    fn the_initrd_holds_the_agent_and_the_list_of_modules() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let agent = directory.path().join("agent");
        fs::write(&agent, testing::static_executable()).unwrap();
        let initrd = guest_initrd(&kernel(&store, 1), &agent).unwrap();
        let text = String::from_utf8_lossy(&initrd);
        assert!(text.contains("lib/modules-load.txt\0") && text.contains("virtio_blk.ko\n"));
        assert!(text.contains("lib/modules/virtio_blk.ko\0") && !text.contains("virtio_mmio"));
        assert!(initrd.windows(4).any(|window| window == b"init"));
    }

    #[test]
    fn an_agent_that_needs_a_loader_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let agent = directory.path().join("agent");
        fs::write(&agent, testing::dynamic_executable()).unwrap();
        let error = guest_initrd(&kernel(&store, 1), &agent).unwrap_err();
        assert!(matches!(error, ImageError::AgentNotStatic { .. }), "{error:?}");
    }

    #[test]
    fn only_a_changed_agent_or_kernel_makes_another_initrd() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let agent = directory.path().join("agent");
        fs::write(&agent, testing::static_executable()).unwrap();
        let first = store.guest_initrd(&kernel(&store, 1), &agent).unwrap();
        assert_eq!(store.guest_initrd(&kernel(&store, 1), &agent).unwrap(), first);
        let other_kernel = store.guest_initrd(&kernel(&store, 2), &agent).unwrap();
        assert_ne!(other_kernel, first);
        fs::write(&agent, testing::object_with_changed_code()).unwrap();
        assert_ne!(
            store.guest_initrd(&kernel(&store, 2), &agent).unwrap(),
            other_kernel
        );
    }
}
