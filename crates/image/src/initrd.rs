//! The guest's initrd, and the modules of both guest and software host.
//!
//! The agent is `/init`. It loads the files named in `/lib/modules-load.txt`, one a line, from `/lib/modules/`
//! in that order, mounts the root file system and goes on there. The guest trusts the authority in `/podflare-ca.crt`, if
//! there is one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::certificates;
use crate::cpio::{CpioArchive, CpioError};
use crate::digest;
use crate::elf;
use crate::error::ImageError;
use crate::kernel::Kernel;
use crate::modules::Module;
use crate::progress::Silent;
use crate::store::{ImageStore, PackageVersions, Request};

/// What a guest needs to reach its devices; ext4, IPv6 and packet sockets are built in.
const GUEST_MODULES: [&str; 8] = [
    "virtio_mmio",
    "virtio_blk",
    "virtio_rng",
    "virtio_net",
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
const RECIPE_VERSION: u32 = 2;
const FILE: &str = "initrd.cpio";
/// Where the agent looks for a certification authority.
const AUTHORITY_FILE: &str = "podflare-ca.crt";

#[derive(Serialize)]
struct Inputs<'a> {
    recipe_version: u32,
    kernel: &'a str,
    agent_sha256: &'a str,
    authority_sha256: Option<&'a str>,
}

/// What the guest's initrd is made of besides its kernel's modules.
#[derive(Clone, Copy, Debug)]
pub struct GuestInitrd<'a> {
    /// A static executable, PID 1.
    pub agent: &'a Path,
    /// A certification authority that the guest is to trust, as PEM text.
    pub authority: Option<&'a str>,
}

/// The guest's initrd.
///
/// # Errors
/// When the agent is not one, the authority is no certificate, or the kernel lacks a module.
pub fn guest_initrd(kernel: &Kernel, parts: GuestInitrd<'_>) -> Result<Vec<u8>, ImageError> {
    let (agent, authority) = parts.read()?;
    assemble(kernel, agent, authority)
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
    pub fn guest_initrd(&self, kernel: &Kernel, parts: GuestInitrd<'_>) -> Result<PathBuf, ImageError> {
        let (agent, authority) = parts.read()?;
        let sha256 = digest::bytes(&agent);
        let authority_sha256 = authority.as_deref().map(digest::bytes);
        let inputs = Inputs {
            recipe_version: RECIPE_VERSION,
            kernel: kernel.identity(),
            agent_sha256: &sha256,
            authority_sha256: authority_sha256.as_deref(),
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
            fs::write(&path, assemble(kernel, agent, authority)?).map_err(ImageError::file("write", path))?;
            Ok(PackageVersions::new())
        })?;
        Ok(artifact.path(FILE))
    }
}

impl GuestInitrd<'_> {
    /// The agent, and the authority, both as they go into the archive.
    fn read(self) -> Result<(Vec<u8>, Option<Vec<u8>>), ImageError> {
        let authority = self.authority.map(one_certificate).transpose()?;
        Ok((read_agent(self.agent)?, authority))
    }
}

/// The one certificate in a PEM text, without what stands around it.
fn one_certificate(pem: &str) -> Result<Vec<u8>, ImageError> {
    match <[String; 1]>::try_from(certificates::split(pem)) {
        Ok([certificate]) => Ok(certificate.into_bytes()),
        Err(found) => Err(ImageError::Authority { count: found.len() }),
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

fn assemble(kernel: &Kernel, agent: Vec<u8>, authority: Option<Vec<u8>>) -> Result<Vec<u8>, ImageError> {
    let modules = kernel.modules(&GUEST_MODULES)?;
    archive(agent, authority, modules)
        .and_then(|archive| archive.to_bytes())
        .map_err(ImageError::Initrd)
}

fn archive(
    agent: Vec<u8>,
    authority: Option<Vec<u8>>,
    modules: Vec<Module>,
) -> Result<CpioArchive, CpioError> {
    let mut archive = CpioArchive::new();
    archive.add_file("init", 0o755, agent)?;
    if let Some(authority) = authority {
        archive.add_file(AUTHORITY_FILE, 0o644, authority)?;
    }
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

    fn only(agent: &Path) -> GuestInitrd<'_> {
        GuestInitrd {
            agent,
            authority: None,
        }
    }

    #[test]
    fn the_initrd_holds_the_agent_and_the_list_of_modules() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let agent = directory.path().join("agent");
        fs::write(&agent, testing::static_executable()).unwrap();
        let initrd = guest_initrd(&kernel(&store, 1), only(&agent)).unwrap();
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
        let error = guest_initrd(&kernel(&store, 1), only(&agent)).unwrap_err();
        assert!(matches!(error, ImageError::AgentNotStatic { .. }), "{error:?}");
    }

    #[test]
    fn an_authority_comes_along_and_makes_another_initrd() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let agent = directory.path().join("agent");
        fs::write(&agent, testing::static_executable()).unwrap();
        let kernel = kernel(&store, 1);
        let pem = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let with = |authority: &str| {
            let parts = GuestInitrd {
                authority: Some(authority),
                ..only(&agent)
            };
            store.guest_initrd(&kernel, parts)
        };
        let without = store.guest_initrd(&kernel, only(&agent)).unwrap();
        let one = with(&pem("AAAA")).unwrap();
        assert!(one != without && one != with(&pem("BBBB")).unwrap());
        assert_eq!(with(&format!("Of this host\n{}", pem("AAAA"))).unwrap(), one);
        let bytes = fs::read(one).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("podflare-ca.crt\0") && text.contains(&pem("AAAA")));
        let none = String::from_utf8_lossy(&fs::read(without).unwrap()).into_owned();
        assert!(!none.contains("podflare-ca"));
        for (wrong, found) in [("AAAA".to_owned(), 0), (pem("A") + &pem("B"), 2)] {
            let error = with(&wrong).unwrap_err();
            assert!(
                matches!(error, ImageError::Authority { count } if count == found),
                "{error:?}"
            );
        }
    }

    #[test]
    fn only_a_changed_agent_or_kernel_makes_another_initrd() {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path()).unwrap();
        let agent = directory.path().join("agent");
        fs::write(&agent, testing::static_executable()).unwrap();
        let first = store.guest_initrd(&kernel(&store, 1), only(&agent)).unwrap();
        assert_eq!(
            store.guest_initrd(&kernel(&store, 1), only(&agent)).unwrap(),
            first
        );
        let other_kernel = store.guest_initrd(&kernel(&store, 2), only(&agent)).unwrap();
        assert_ne!(other_kernel, first);
        fs::write(&agent, testing::object_with_changed_code()).unwrap();
        assert_ne!(
            store.guest_initrd(&kernel(&store, 2), only(&agent)).unwrap(),
            other_kernel
        );
    }
}
