//! Everything bootable, made from Debian packages: kernel, initrds, root file systems and disks.
//!
//! Reading order: [`ImageStore`] is the way in; [`kernel`](Kernel) and [`rootfs`](RootfsRequest) say what is
//! built; the rest are the tools they use. Nothing here mounts anything, and nothing knows of virtual machines,
//! HTTP or sandboxes. Every artifact is found by a digest of its own inputs, so a second call costs a stat.
#![forbid(unsafe_code)]

mod apt_sources;
mod bzimage;
mod certificates;
mod command;
mod cpio;
mod debootstrap;
mod digest;
mod disks;
mod elf;
mod error;
mod ext4;
mod initrd;
mod kernel;
mod mirror;
mod modules;
mod overlay;
mod progress;
mod rootfs;
mod store;
mod system;
mod template;
mod tools;
mod tree;
mod wheels;

pub use bzimage::{BzImageError, unpack_vmlinux};
pub use certificates::certificates;
pub use command::CommandError;
pub use cpio::{CpioArchive, CpioError};
pub use disks::state_disk;
pub use error::{BuildOptions, ImageError};
pub use initrd::{GuestInitrd, SOFTWARE_HOST_MODULES, guest_initrd, software_host_modules};
pub use kernel::Kernel;
pub use mirror::{MirrorError, MirrorSetting};
pub use modules::{Module, ModuleError};
pub use progress::{Progress, Silent};
pub use rootfs::{Rootfs, RootfsRequest};
pub use store::{ImageStore, StoreError};
pub use template::{File, Template, TemplateError};
pub use tools::{IMAGE_PACKAGES, Package, ToolsError, require_packages};

/// The Debian release kernels and root file systems come from: 13, with Linux 6.12 and Python 3.13.
pub const DEBIAN_SUITE: &str = "trixie";

/// The version of that release's Python, for which wheels are fetched.
pub const GUEST_PYTHON: &str = "3.13";

/// Gibibytes of a sandbox's root file system unless it asks for more.
pub const DEFAULT_ROOTFS_GIB: u32 = 4;
