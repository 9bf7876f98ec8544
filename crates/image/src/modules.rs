//! Picks kernel modules and puts them into an order in which they load.
//!
//! A module tells what it needs in its `.modinfo` section: `depends=` is a must, `softdep=pre: … post: …` a wish
//! (see modprobe.d(5)). Files spell the same module with `-` or `_`; names are compared with `_`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use thiserror::Error;

use crate::elf::{self, ElfError};

/// Largest module accepted, in bytes; the largest of Debian's cloud kernel has under 10 MB.
const MODULE_BYTES_MAX: u64 = 128 << 20;
/// Deepest directory below `modules/<release>`.
const DEPTH_MAX: usize = 16;

/// A kernel module, decompressed.
#[derive(Clone, PartialEq, Eq)]
pub struct Module {
    /// Normalised, e.g. `kvm_amd`.
    pub name: String,
    /// The ELF object, as `finit_module(2)` takes it.
    pub bytes: Vec<u8>,
}

/// The modules of one kernel: files on disk and names of those built in.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModuleTree {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// Why modules could not be had.
#[derive(Debug, Error)]
pub enum ModuleError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the kernel has no module {name}, neither as a file nor built in{}", needed_by(wanted_by.as_deref()))]
    Missing { name: String, wanted_by: Option<String> },
    #[error("{} is compressed in a way that is not understood", path.display())]
    Compression { path: PathBuf },
    #[error("the module {name} cannot be understood")]
    Format { name: String, source: ElfError },
}

fn needed_by(module: Option<&str>) -> String {
    module.map_or_else(String::new, |module| format!(", and {module} needs it"))
}

impl Module {
    /// What the module's file is called in an initrd, e.g. `kvm_amd.ko`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.ko", self.name)
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl ModuleTree {
    /// Reads the names of all modules under `modules/<release>`.
    pub(crate) fn open(directory: &Path) -> Result<Self, ModuleError> {
        let mut tree = Self::default();
        let list = directory.join("modules.builtin");
        let text = fs::read_to_string(&list).map_err(|source| ModuleError::Read { path: list, source })?;
        tree.builtin = text
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        tree.index(&directory.join("kernel"), 0)?;
        Ok(tree)
    }

    /// Returns the modules and all they need in load order; names that are built in are left out.
    pub(crate) fn load_order(&self, names: &[&str]) -> Result<Vec<Module>, ModuleError> {
        let mut resolution = Resolution {
            tree: self,
            seen: BTreeSet::new(),
            loaded: Vec::new(),
        };
        for name in names {
            resolution.add(&normalised(name), None)?;
        }
        Ok(resolution.loaded)
    }

    fn index(&mut self, directory: &Path, depth: usize) -> Result<(), ModuleError> {
        let failed = |source| ModuleError::Read {
            path: directory.to_owned(),
            source,
        };
        if depth > DEPTH_MAX {
            return Ok(());
        }
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                self.index(&entry.path(), depth + 1)?;
            } else if let Some(name) = module_name(&entry.path()) {
                self.files.insert(name, entry.path());
            }
        }
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.builtin.contains(name)
    }
}

/// A depth-first walk over dependencies, which ends since every name is entered once.
struct Resolution<'a> {
    tree: &'a ModuleTree,
    seen: BTreeSet<String>,
    loaded: Vec<Module>,
}

impl Resolution<'_> {
    fn add(&mut self, name: &str, wanted_by: Option<&str>) -> Result<(), ModuleError> {
        if !self.seen.insert(name.to_owned()) || self.tree.builtin.contains(name) {
            return Ok(());
        }
        let Some(path) = self.tree.files.get(name) else {
            return Err(ModuleError::Missing {
                name: name.to_owned(),
                wanted_by: wanted_by.map(str::to_owned),
            });
        };
        let bytes = read_module(path)?;
        let info = elf::section(&bytes, ".modinfo").map_err(|source| ModuleError::Format {
            name: name.to_owned(),
            source,
        })?;
        let needs = Needs::parse(info);
        for soft in needs.before.iter().filter(|soft| self.tree.knows(soft)) {
            self.add(soft, Some(name))?;
        }
        for hard in &needs.hard {
            self.add(hard, Some(name))?;
        }
        self.loaded.push(Module {
            name: name.to_owned(),
            bytes,
        });
        for soft in needs.after.iter().filter(|soft| self.tree.knows(soft)) {
            self.add(soft, Some(name))?;
        }
        Ok(())
    }
}

/// What a module says it needs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    hard: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

impl Needs {
    /// Parses a `.modinfo` section: `key=value` texts, each ended by a zero byte.
    fn parse(section: &[u8]) -> Self {
        let mut needs = Self::default();
        for field in section.split(|byte| *byte == 0) {
            match String::from_utf8_lossy(field).split_once('=') {
                Some(("depends", list)) => {
                    needs
                        .hard
                        .extend(list.split(',').filter(|name| !name.is_empty()).map(normalised));
                }
                Some(("softdep", text)) => needs.add_soft(text),
                _ => {}
            }
        }
        needs
    }

    fn add_soft(&mut self, text: &str) {
        let mut after = false;
        for word in text.split_whitespace() {
            match word {
                "pre:" => after = false,
                "post:" => after = true,
                name if after => self.after.push(normalised(name)),
                name => self.before.push(normalised(name)),
            }
        }
    }
}

fn normalised(name: &str) -> String {
    name.replace('-', "_")
}

/// `…/virtio-rng.ko.xz` is the file of module `virtio_rng`; other files are of none.
fn module_name(path: &Path) -> Option<String> {
    let (stem, extension) = path.file_name()?.to_str()?.split_once(".ko")?;
    matches!(extension, "" | ".xz" | ".zst" | ".gz").then(|| normalised(stem))
}

fn read_module(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let failed = |source| ModuleError::Read {
        path: path.to_owned(),
        source,
    };
    let packed = fs::read(path).map_err(failed)?;
    let unpack = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader
            .take(MODULE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
            .map_err(failed)
    };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(packed),
        Some("xz") => unpack(&mut XzReader::new(packed.as_slice(), false)),
        Some("zst") => {
            let decoder = StreamingDecoder::new(packed.as_slice());
            unpack(&mut decoder.map_err(|error| failed(io::Error::other(error)))?)
        }
        _ => Err(ModuleError::Compression {
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
