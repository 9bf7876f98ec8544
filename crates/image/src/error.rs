//! What a build is given, and how it fails.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::bzimage::BzImageError;
use crate::command::CommandError;
use crate::cpio::CpioError;
use crate::elf::ElfError;
use crate::mirror::{MirrorError, MirrorSetting};
use crate::modules::ModuleError;
use crate::progress::Progress;
use crate::store::StoreError;
use crate::template::TemplateError;
use crate::tools::ToolsError;

/// What all builds take besides their own inputs; none of it is part of an artifact's key.
#[derive(Clone, Debug)]
pub struct BuildOptions<'a> {
    /// Where packages come from.
    pub mirror: MirrorSetting,
    /// Build anew although the artifact is there, so that it has today's security updates.
    pub refresh: bool,
    pub progress: &'a dyn Progress,
}

/// Why an artifact could not be made.
#[derive(Debug, Error)]
pub enum ImageError {
    #[error("the cache of images cannot be used")]
    Store(#[source] StoreError),
    #[error("a program that building takes cannot be had")]
    Tools(#[source] ToolsError),
    #[error("it is not known where Debian packages come from")]
    Mirror(#[source] MirrorError),
    #[error("the template cannot be built")]
    Template(#[source] TemplateError),
    #[error("cannot write down what the REPL loads")]
    Repl(#[source] serde_json::Error),
    #[error("cannot get Debian packages")]
    Packages(#[source] CommandError),
    #[error("cannot get the template's Python packages with pip, as it is configured here")]
    Wheels(#[source] CommandError),
    #[error("cannot unpack the packages of the kernel")]
    UnpackPackages(#[source] CommandError),
    #[error("cannot unpack the kernel")]
    Kernel(#[source] BzImageError),
    #[error("the kernel package has no {what}")]
    KernelPackage { what: &'static str },
    #[error("cannot take modules from the kernel package")]
    Modules(#[source] ModuleError),
    #[error("cannot put an initrd together")]
    Initrd(#[source] CpioError),
    #[error("the agent {} is not an executable", path.display())]
    AgentFormat { path: PathBuf, source: ElfError },
    #[error("the agent {} is not linked statically, so an initrd cannot run it", path.display())]
    AgentNotStatic { path: PathBuf },
    #[error("cannot make a file system")]
    FileSystem(#[source] CommandError),
    #[error("cannot set the template up and make a file system of it")]
    Tree(#[source] CommandError),
    #[error("no certificate in {}", path.display())]
    NoCertificate { path: PathBuf },
    #[error("the authority that guests are to trust is {count} certificates instead of one")]
    Authority { count: usize },
    #[error("cannot {what} {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl ImageError {
    /// For `map_err` on operations with one file.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

impl From<StoreError> for ImageError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
