//! What spaces lie over: memories of templates' snapshots, and disk images.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Spaces, TEMPLATES};
use crate::storage::make_private;

pub(super) const MEMORY: &str = "memory";
const WORKING_SET: &str = "working-set";

/// A memory file ends in the id of its snapshot.
pub(super) const ID_BYTES: usize = 16;
/// Of a disk image so many pieces are read, evenly spread. The first has the file system's own id and times.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: u64 = 4096;

/// The memory that a space lies over.
#[derive(Clone, Debug)]
pub(crate) struct TemplateMemory {
    pub(crate) dir: PathBuf,
    pub(crate) working_set: Option<PathBuf>,
}

impl Spaces {
    /// Keeps a snapshot's memory for as long as spaces lie over it, whatever becomes of the snapshot. `vm` is the
    /// directory that the VM process has filled.
    pub(crate) fn keep_template(&self, vm: &Path, working_set: Option<&Path>) -> io::Result<TemplateMemory> {
        let mut file = File::open(vm.join(MEMORY))?;
        let mut id = [0; ID_BYTES];
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(ID_BYTES as u64)))?;
        file.read_exact(&mut id)?;
        let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let dir = self.dir.join(TEMPLATES).join(digits);
        make_private(&dir)?;
        link(&vm.join(MEMORY), &dir.join(MEMORY))?;
        if let Some(file) = working_set {
            link(file, &dir.join(WORKING_SET))?;
        }
        let working_set = working_set.map(Path::to_owned);
        Ok(TemplateMemory { dir, working_set })
    }

    /// The memory with this id, in hexadecimal, if it is here.
    pub(crate) fn template(&self, id: &str) -> Option<TemplateMemory> {
        let named = is_memory_id(id);
        let dir = self.dir.join(TEMPLATES).join(id);
        let there = named && dir.join(MEMORY).is_file();
        there.then(|| TemplateMemory {
            working_set: Some(dir.join(WORKING_SET)).filter(|file| file.is_file()),
            dir,
        })
    }

    /// Removes memories over which no space lies and whose snapshot is gone.
    pub(super) fn forget_unused_templates(&self) -> io::Result<()> {
        let used: HashSet<String> = {
            let entries = self.entries();
            entries
                .values()
                .filter(|entry| entry.meta.own_base_bytes.is_none())
                .filter_map(|entry| entry.meta.base.clone())
                .collect()
        };
        for entry in fs::read_dir(self.dir.join(TEMPLATES))? {
            let entry = entry?;
            let links = fs::metadata(entry.path().join(MEMORY)).map_or(1, |file| file.nlink());
            if links <= 1 && !used.contains(&*entry.file_name().to_string_lossy()) {
                tracing::info!(dir = %entry.path().display(), "removing a template's memory that no space needs");
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether a text can be the id of a snapshot's memory.
pub(crate) fn is_memory_id(id: &str) -> bool {
    id.len() == 2 * ID_BYTES && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Whether a text can be what [`image_mark`] gives.
pub(super) fn is_image_mark(mark: &str) -> bool {
    is_memory_id(mark)
}

/// Tells disk images apart, on whatever host they lie. Reads the file.
pub(crate) fn image_mark(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(len.to_le_bytes());
    let mut sample = Vec::new();
    for number in 0..SAMPLES {
        file.seek(SeekFrom::Start(len / SAMPLES * number))?;
        sample.clear();
        file.by_ref().take(SAMPLE_BYTES).read_to_end(&mut sample)?;
        hash.update(&sample);
    }
    let digest = hash.finalize();
    Ok(digest
        .iter()
        .take(ID_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
