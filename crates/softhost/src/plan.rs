//! What a host is made of: every file that must be there before it can start.

use std::fmt;
use std::path::PathBuf;

use image::{ImageError, Kernel, Module, software_host_modules};

/// One of the two hosts, with all it needs.
#[derive(Debug)]
pub enum Plan {
    Software(SoftwarePlan),
    Hardware(HardwarePlan),
}

/// The parts of the software host. Programs are read at every start, so a new build is in the next one.
pub struct SoftwarePlan {
    /// The kernel as an ELF file: QEMU starts it at its PVH entry, which saves unpacking on an emulated CPU.
    pub vmlinux: PathBuf,
    /// Content of a static busybox.
    pub busybox: Vec<u8>,
    /// Kernel modules in load order.
    pub modules: Vec<Module>,
    /// Disk with guest kernel and root file systems; read only, so several machines can share it.
    pub images_disk: PathBuf,
    /// Disk with what must outlive the machine.
    pub state_disk: PathBuf,
    /// Initrd of the sandboxes, with the agent.
    pub guest_initrd: PathBuf,
    /// Static executable of the host daemon.
    pub hostd: PathBuf,
    /// Static executable of the VM process.
    pub vmm: PathBuf,
    /// Static executable of the network.
    pub netd: PathBuf,
    /// Directory of the host's own authority.
    pub authority: PathBuf,
    /// See [`machine_memory_mib`](crate::machine_memory_mib).
    pub memory_mib: u32,
}

/// The parts of a host on hardware virtualization: the host daemon as an ordinary process.
#[derive(Clone, Debug)]
pub struct HardwarePlan {
    pub hostd: PathBuf,
    pub vmm: PathBuf,
    pub netd: PathBuf,
    /// Directory of the host's own authority.
    pub authority: PathBuf,
    pub guest_initrd: PathBuf,
    /// Directory with guest kernel and root file systems, laid out as on the images disk.
    pub images: PathBuf,
    /// CPUs of a sandbox.
    pub vcpus: u32,
}

/// Files of a software host that do not come from the kernel package.
#[derive(Clone, Debug)]
pub struct SoftwareFiles {
    pub images_disk: PathBuf,
    pub state_disk: PathBuf,
    pub guest_initrd: PathBuf,
    pub hostd: PathBuf,
    pub vmm: PathBuf,
    pub netd: PathBuf,
    pub authority: PathBuf,
}

impl SoftwarePlan {
    /// Takes kernel, modules and busybox from the kernel artifact.
    ///
    /// # Errors
    /// When the kernel has not what the machine needs, or cannot be read.
    pub fn new(kernel: &Kernel, files: SoftwareFiles, memory_mib: u32) -> Result<Self, ImageError> {
        let busybox_path = kernel.busybox();
        let busybox = std::fs::read(&busybox_path).map_err(|source| ImageError::File {
            what: "read",
            path: busybox_path,
            source,
        })?;
        Ok(Self {
            vmlinux: kernel.vmlinux(),
            busybox,
            modules: software_host_modules(kernel)?,
            images_disk: files.images_disk,
            state_disk: files.state_disk,
            guest_initrd: files.guest_initrd,
            hostd: files.hostd,
            vmm: files.vmm,
            netd: files.netd,
            authority: files.authority,
            memory_mib,
        })
    }
}

impl fmt::Debug for SoftwarePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwarePlan")
            .field("vmlinux", &self.vmlinux)
            .field("images_disk", &self.images_disk)
            .field("state_disk", &self.state_disk)
            .field("memory_mib", &self.memory_mib)
            .finish_non_exhaustive()
    }
}
