//! What a sandbox starts from.
//!
//! A template is a kernel, an initial RAM disk and a disk image. A VM of it is booted from these, or restored from the
//! [snapshot](crate::nursery) of one that was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use vmm_proto::{ConsoleConfig, DiskConfig, RestoreConfig, VmConfig, VsockConfig};

use crate::vm::{CONSOLE_BYTES_MAX, VmFiles};

/// The template of a request that names none.
const DEFAULT: &str = "default";

/// The least of what every run does.
const WARM_CODE: &str = "print(1)";

/// Every guest has the same address on its own private channel.
const GUEST_CID: u32 = 3;

const GIB: u64 = 1024 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Template {
    pub name: String,
    /// An uncompressed ELF kernel.
    kernel: PathBuf,
    initrd: PathBuf,
    /// An ext4 image, never written.
    rootfs: PathBuf,
    rootfs_bytes: u64,
    /// Python that touches what an ordinary first run of this template would.
    warm_code: String,
}

/// All templates of this host, by name.
#[derive(Clone, Debug)]
pub struct Templates(BTreeMap<String, Template>);

/// How large an instance is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) vcpus: u8,
    pub(crate) ram_mib: u32,
    pub(crate) rootfs_gb: u32,
}

#[derive(Debug, Error)]
pub enum TemplateError {
    #[error("cannot use {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no default.ext4; build the images first", images.display())]
    NoDefault { images: PathBuf },
}

impl Templates {
    /// Finds the kernel `vmlinux` and every `<name>.ext4` in `images`, each with what warms it up in `<name>.warm.py`
    /// if there is one.
    ///
    /// # Errors
    /// A file that every template needs is missing, or there is no `default.ext4`.
    pub fn find(images: &Path, initrd: &Path) -> Result<Self, TemplateError> {
        let kernel = usable(&images.join("vmlinux"))?.0;
        let initrd = usable(initrd)?.0;
        let failed = |source| TemplateError::Io {
            path: images.to_owned(),
            source,
        };
        let mut templates = BTreeMap::new();
        for entry in fs::read_dir(images).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = template_name(&path) else {
                continue;
            };
            let (rootfs, rootfs_bytes) = usable(&path)?;
            let template = Template {
                name: name.clone(),
                kernel: kernel.clone(),
                initrd: initrd.clone(),
                rootfs,
                rootfs_bytes,
                warm_code: warm_code(&path)?,
            };
            templates.insert(name, template);
        }
        if templates.contains_key(DEFAULT) {
            Ok(Self(templates))
        } else {
            let images = images.to_owned();
            Err(TemplateError::NoDefault { images })
        }
    }

    pub(crate) fn get(&self, name: Option<&str>) -> Option<&Template> {
        self.0.get(name.unwrap_or(DEFAULT))
    }

    /// The template of a VM that exists already. One that this host has no more is stood in for by the default one, under
    /// its own name: nothing is started from it.
    pub(crate) fn of_existing(&self, name: &str) -> Option<Template> {
        let known = self.0.get(name).or_else(|| self.0.get(DEFAULT))?;
        Some(Template {
            name: name.to_owned(),
            ..known.clone()
        })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether it is the one of a request that names none.
    pub(crate) fn is_default(&self, template: &Template) -> bool {
        template.name == DEFAULT
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Template> {
        self.0.values()
    }
}

impl Template {
    /// Size of the root disk unless a larger one is asked for, in GiB, rounded up.
    pub(crate) fn rootfs_gb(&self) -> u32 {
        u32::try_from(self.rootfs_bytes.div_ceil(GIB)).unwrap_or(u32::MAX)
    }

    /// What the VM process of an instance is told.
    pub(crate) fn instantiate(&self, shape: Shape, files: &VmFiles) -> VmConfig {
        // A disk of exactly the template's size needs no growing in the guest.
        let size_bytes = if shape.rootfs_gb == self.rootfs_gb() {
            self.rootfs_bytes
        } else {
            u64::from(shape.rootfs_gb) * GIB
        };
        VmConfig {
            vcpus: shape.vcpus,
            ram_mib: shape.ram_mib,
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            kernel_arguments: String::new(),
            disk: DiskConfig {
                base: self.rootfs.clone(),
                layer: files.disk_layer(),
                size_bytes,
            },
            vsock: vsock(files),
            console: console(files),
        }
    }

    /// What a VM process is told that restores a VM of this template.
    pub(crate) fn restore(
        &self,
        snapshot: PathBuf,
        working_set: Option<PathBuf>,
        files: &VmFiles,
    ) -> RestoreConfig {
        RestoreConfig {
            snapshot,
            working_set,
            base: self.rootfs.clone(),
            layer: files.disk_layer(),
            vsock: vsock(files),
            console: console(files),
        }
    }

    /// What a VM of this template runs once before it waits in a pool. It must leave nothing behind.
    pub(crate) fn warm_code(&self) -> &str {
        &self.warm_code
    }

    /// The disk image, which is never written.
    pub(crate) fn image(&self) -> &Path {
        &self.rootfs
    }

    /// The files a VM of this template is made of: kernel, initial RAM disk, disk image.
    pub(crate) fn sources(&self) -> [&Path; 3] {
        [&self.kernel, &self.initrd, &self.rootfs]
    }
}

fn vsock(files: &VmFiles) -> VsockConfig {
    VsockConfig {
        guest_cid: GUEST_CID,
        socket: files.vsock_socket(),
    }
}

fn console(files: &VmFiles) -> ConsoleConfig {
    ConsoleConfig {
        log: files.console(),
        log_bytes_max: CONSOLE_BYTES_MAX,
    }
}

/// A file's real path (a VM process has another working directory) and length.
fn usable(path: &Path) -> Result<(PathBuf, u64), TemplateError> {
    let found = || Ok((path.canonicalize()?, path.metadata()?.len()));
    found().map_err(|source| TemplateError::Io {
        path: path.to_owned(),
        source,
    })
}

/// The code beside an image.
fn warm_code(rootfs: &Path) -> Result<String, TemplateError> {
    let path = rootfs.with_extension("warm.py");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(WARM_CODE.to_owned()),
        read => read.map_err(|source| TemplateError::Io { path, source }),
    }
}

fn template_name(path: &Path) -> Option<String> {
    if path.extension()? != "ext4" {
        return None;
    }
    Some(path.file_stem()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ext4_image_next_to_the_kernel_is_a_template() {
        let dir = tempfile::tempdir().unwrap();
        let initrd = dir.path().join("guest.cpio");
        let find = || Templates::find(dir.path(), &initrd);
        fs::write(&initrd, "").unwrap();
        assert!(matches!(find(), Err(TemplateError::Io { .. })));
        fs::write(dir.path().join("vmlinux"), "").unwrap();
        fs::write(dir.path().join("science.ext4"), "").unwrap();
        fs::write(dir.path().join("science.warm.py"), "print(np)").unwrap();
        assert!(matches!(find(), Err(TemplateError::NoDefault { .. })));
        fs::File::create(dir.path().join("default.ext4"))
            .unwrap()
            .set_len(3 * GIB + 4096)
            .unwrap();
        let templates = find().unwrap();
        assert_eq!(templates.names().collect::<Vec<_>>(), ["default", "science"]);
        let default = templates.get(None).unwrap();
        assert_eq!(default.warm_code(), "print(1)");
        assert_eq!(templates.get(Some("science")).unwrap().warm_code(), "print(np)");
        assert_eq!(default.rootfs_gb(), 4);
        let files = VmFiles {
            dir: PathBuf::from("/d"),
        };
        let size = |rootfs_gb| {
            let shape = Shape {
                vcpus: 1,
                ram_mib: 512,
                rootfs_gb,
            };
            default.instantiate(shape, &files).disk.size_bytes
        };
        assert_eq!((size(4), size(8)), (3 * GIB + 4096, 8 * GIB));
    }
}
