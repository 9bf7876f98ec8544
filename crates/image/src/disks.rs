//! The software host's two disks: images, which are only read, and state, which is kept.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::command::Tool;
use crate::error::{BuildOptions, ImageError};
use crate::ext4::{Ext4, Inodes};
use crate::kernel::Kernel;
use crate::progress::Progress;
use crate::rootfs::Rootfs;
use crate::store::{ImageStore, PackageVersions, Request, Workshop};
use crate::tools::{IMAGE_PACKAGES, require_packages};

/// Goes up when the same images are to be put together in another way.
const RECIPE_VERSION: u32 = 1;
const FILE: &str = "images.ext4";
const LABEL_IMAGES: &str = "podflare-images";
const LABEL_STATE: &str = "podflare-state";
/// For a file system's own structures, in MiB, besides a share of its content.
const OVERHEAD_MIB: u64 = 32;
/// Files on the disk of images; ext4 takes some for itself.
const IMAGES_INODES: u32 = 128;
const STATE_JOURNAL_MIB: u32 = 32;

#[derive(Serialize)]
struct Inputs<'a> {
    recipe_version: u32,
    kernel: &'a str,
    rootfs: Vec<(&'a str, &'a str)>,
}

impl ImageStore {
    /// Finds or makes the disk of images: an ext4 file system labelled `podflare-images` with `vmlinux` and the
    /// [files](Rootfs::files) of each root file system, as sparse inside as outside.
    ///
    /// # Errors
    /// When the file system cannot be made.
    pub fn images_disk(
        &self,
        kernel: &Kernel,
        rootfs: &[Rootfs],
        options: &BuildOptions<'_>,
    ) -> Result<PathBuf, ImageError> {
        let mut images: Vec<_> = rootfs
            .iter()
            .map(|rootfs| (rootfs.template(), rootfs.identity()))
            .collect();
        images.sort_unstable();
        let inputs = Inputs {
            recipe_version: RECIPE_VERSION,
            kernel: kernel.identity(),
            rootfs: images,
        };
        // Made from what is here, so a refresh of that is enough: its identity is an input.
        let request = Request {
            kind: "images",
            name: "images",
            inputs: &inputs,
            refresh: false,
            progress: options.progress,
        };
        let artifact = self.get_or_build(&request, |workshop| {
            let mut files = vec![(kernel.vmlinux(), "vmlinux".to_owned())];
            files.extend(rootfs.iter().flat_map(Rootfs::files));
            build(workshop, &files, options.progress)
        })?;
        Ok(artifact.path(FILE))
    }
}

fn build(
    workshop: &Workshop,
    files: &[(PathBuf, String)],
    progress: &dyn Progress,
) -> Result<PackageVersions, ImageError> {
    require_packages(IMAGE_PACKAGES, progress).map_err(ImageError::Tools)?;
    progress.step("making the disk of images");
    let tree = workshop.scratch.join("images");
    fs::create_dir(&tree).map_err(ImageError::file("make", &tree))?;
    let mut content_bytes = 0;
    for (from, name) in files {
        bring(from, &tree.join(name), &workshop.log)?;
        // `st_blocks` counts units of 512 bytes, and only those that are no holes.
        content_bytes += fs::metadata(from)
            .map_err(ImageError::file("read", from))?
            .blocks()
            * 512;
    }
    let content_mib = content_bytes.div_ceil(1 << 20);
    let file_system = Ext4 {
        label: LABEL_IMAGES,
        size_mib: content_mib + content_mib / 20 + OVERHEAD_MIB,
        journal_mib: None,
        inodes: Inodes::Exactly(IMAGES_INODES),
    };
    let image = workshop.out.join(FILE);
    file_system.make_from_directory(&tree, &image, &workshop.log)?;
    progress.done(&format!("disk of images: {content_mib} MiB"));
    Ok(PackageVersions::new())
}

/// Links a file, or copies it with its holes where links cannot be made.
fn bring(from: &Path, to: &Path, log: &Path) -> Result<(), ImageError> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let copy = Tool::new("cp", log)
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([from, to]);
    copy.run(|_| {}).map_err(ImageError::FileSystem)
}

/// Makes an empty ext4 file system labelled `podflare-state` in a sparse file, unless the file is there already.
///
/// # Errors
/// When the file system cannot be made.
pub fn state_disk(path: &Path, size_gib: u32, progress: &dyn Progress) -> Result<(), ImageError> {
    if path.exists() {
        return Ok(());
    }
    require_packages(IMAGE_PACKAGES, progress).map_err(ImageError::Tools)?;
    progress.step("making the state disk");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(ImageError::file("make", parent))?;
    }
    let unfinished = path.with_extension(format!("unfinished-{}", std::process::id()));
    let log = path.with_extension("log");
    let file_system = Ext4 {
        label: LABEL_STATE,
        size_mib: u64::from(size_gib) * 1024,
        journal_mib: Some(STATE_JOURNAL_MIB),
        inodes: Inodes::ByRatio,
    };
    file_system.make_empty(&unfinished, &log)?;
    // A link, since that never replaces the disk that somebody else may have made meanwhile.
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished).map_err(ImageError::file("remove", &unfinished))?;
    if !path.exists() {
        linked.map_err(ImageError::file("make", path))?;
    }
    progress.done(&format!("state disk: {size_gib} GiB"));
    Ok(())
}
