//! Makes ext4 file systems in sparse files with mke2fs(8), without mounting anything.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use crate::command::Tool;
use crate::digest;
use crate::error::ImageError;
use crate::overlay::FIXED_TIME;
use crate::tree::Tree;

/// All features by name, so that the result does not depend on the host's version or configuration of mke2fs.
/// Left out are those that Debian 12's mke2fs does not know.
const FEATURES: &str = "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,\
                        dir_nlink,extra_isize,metadata_csum";
/// A file system to be made.
#[derive(Debug)]
pub(crate) struct Ext4<'a> {
    /// At most 16 bytes; also decides the UUID.
    pub(crate) label: &'a str,
    pub(crate) size_mib: u64,
    /// None for a file system that is only read.
    pub(crate) journal_mib: Option<u32>,
    pub(crate) inodes: Inodes,
}

/// How many files a file system can hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inodes {
    /// mke2fs's ratio, one for 16 KiB of space.
    ByRatio,
    Exactly(u32),
}

impl Ext4<'_> {
    /// Makes it without files.
    pub(crate) fn make_empty(&self, image: &Path, log: &Path) -> Result<(), ImageError> {
        self.create_sparse(image)?;
        self.environment(Tool::new("mke2fs", log))
            .args(self.arguments(image, None))
            .run(|_| {})
            .map_err(ImageError::FileSystem)
    }

    /// Makes it with the files of a directory, which keep the owners they have.
    pub(crate) fn make_from_directory(
        &self,
        directory: &Path,
        image: &Path,
        log: &Path,
    ) -> Result<(), ImageError> {
        self.create_sparse(image)?;
        self.environment(Tool::new("mke2fs", log))
            .args(self.arguments(image, Some(directory)))
            .run(|_| {})
            .map_err(ImageError::FileSystem)
    }

    /// Makes it with the files of a tree, whoever we are: they have the owners they have there.
    pub(crate) fn make_from_tree(
        &self,
        tree: &Tree<'_>,
        scratch: &Path,
        image: &Path,
        log: &Path,
        on_line: impl FnMut(&str),
    ) -> Result<(), ImageError> {
        self.create_sparse(image)?;
        let place = scratch.join("tree");
        self.environment(tree.tool(&place, log))
            .arg("mke2fs")
            .args(self.arguments(image, Some(&place)))
            .run(on_line)
            .map_err(ImageError::Tree)
    }

    fn create_sparse(&self, image: &Path) -> Result<(), ImageError> {
        File::create(image)
            .and_then(|file| file.set_len(self.size_mib << 20))
            .map_err(ImageError::file("make", image))
    }

    fn environment<'t>(&self, tool: Tool<'t>) -> Tool<'t> {
        // 0 would mean "now" to mke2fs.
        tool.env("E2FSPROGS_FAKE_TIME", FIXED_TIME.to_string())
            .env("SOURCE_DATE_EPOCH", FIXED_TIME.to_string())
    }

    fn arguments(&self, image: &Path, content: Option<&Path>) -> Vec<OsString> {
        let uuid = uuid(self.label);
        let journal = if self.journal_mib.is_some() {
            ",has_journal,resize_inode"
        } else {
            ""
        };
        // Nothing is left for the kernel to initialise in the background, where it would write to each sandbox's
        // own layer; and `discard` first turns the file, which must exist, into one hole, of which mke2fs knows
        // that it reads as zeros, so that it marks structures as initialised without writing them (without
        // `lazy_itable_init=0` it would not mark them). No blocks are kept for root, who is the only user.
        let extended =
            format!("hash_seed={uuid},discard,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0");
        let mut arguments: Vec<OsString> = [
            "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-L", self.label, "-U", &uuid,
        ]
        .map(Into::into)
        .to_vec();
        arguments.extend([
            "-O".into(),
            format!("{FEATURES}{journal}").into(),
            "-E".into(),
            extended.into(),
        ]);
        if let Some(mib) = self.journal_mib {
            arguments.extend(["-J".into(), format!("size={mib}").into()]);
        }
        match self.inodes {
            Inodes::ByRatio => arguments.extend(["-i".into(), "16384".into()]),
            Inodes::Exactly(count) => arguments.extend(["-N".into(), count.to_string().into()]),
        }
        if let Some(content) = content {
            arguments.extend(["-d".into(), content.into()]);
        }
        arguments.extend([image.into(), format!("{}M", self.size_mib).into()]);
        arguments
    }
}

/// The same label has the same UUID on every host.
fn uuid(label: &str) -> String {
    let digits = digest::bytes(label.as_bytes());
    format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..32]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_follow_labels() {
        assert_eq!(uuid("a").len(), 36);
        assert_eq!(uuid("a"), uuid("a"));
        assert_ne!(uuid("a"), uuid("b"));
    }
}
