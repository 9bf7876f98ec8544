//! What is copied, opened.

use std::ffi::OsString;
use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::{self, JoinHandle};

use api::FileKind;
use archive::{FileError, Packed};
use client::Client;
use pod_types::ErrorChain;

use crate::failure::Failure;
use crate::location::{Location, own_name};

/// Of permissions, what is taken along.
pub(super) const MODE_MASK: u32 = 0o777;

/// The content of one file, or of a tree as a tar archive.
pub(super) struct Cargo {
    pub(super) content: Box<dyn Read + Send>,
    pub(super) kind: Kind,
    /// For the eye only.
    pub(super) size_hint: Option<u64>,
    /// How it is called in a directory that it is put into; what is in a directory goes without one.
    pub(super) name: Option<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File { size: Option<u64>, mode: Option<u32> },
    Tree,
}

/// An archive that another thread makes. Its end is an end only if all went well there.
struct Packing {
    pipe: PipeReader,
    packer: Option<JoinHandle<Result<Packed, FileError>>>,
}

impl Cargo {
    pub(super) fn open(client: &Client, from: &Location) -> Result<Self, Failure> {
        match from {
            Location::Stream => Ok(Self {
                content: Box::new(io::stdin()),
                kind: Kind::File {
                    size: None,
                    mode: None,
                },
                size_hint: None,
                name: None,
            }),
            Location::Local(path) => Self::local(path),
            Location::Sandbox { id, path } => {
                let name = own_name(path);
                let info = client.file_info(*id, path)?;
                if info.kind == FileKind::Directory {
                    return Ok(Self {
                        content: Box::new(client.read_tree(*id, path)?),
                        kind: Kind::Tree,
                        size_hint: None,
                        name,
                    });
                }
                let mode = u32::from_str_radix(&info.mode, 8).ok();
                Ok(Self {
                    content: Box::new(client.read_file(*id, path)?),
                    kind: Kind::File {
                        size: None,
                        mode: mode.map(|mode| mode & MODE_MASK),
                    },
                    // It may change until it is read, and files of the kernel say nothing about what they hold.
                    size_hint: Some(info.size).filter(|size| *size > 0),
                    name,
                })
            }
        }
    }

    fn local(path: &Path) -> Result<Self, Failure> {
        let name = own_name(path.as_os_str().as_bytes());
        if fs::metadata(path).is_ok_and(|meta| meta.is_dir()) {
            let content = Packing::start(path)
                .map_err(|error| Failure::while_doing("local_file", "cannot read the directory", &error))?;
            return Ok(Self {
                content: Box::new(content),
                kind: Kind::Tree,
                size_hint: None,
                name,
            });
        }
        let opened = archive::open_regular(rustix::fs::CWD, path, true);
        let (file, stat) = opened.map_err(|error| Failure::because("local_file", &error))?;
        let mode = fs::Permissions::from_mode(stat.st_mode).mode() & MODE_MASK;
        // A file that grows meanwhile is copied as it was.
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Self {
            content: Box::new(file.take(size)),
            kind: Kind::File {
                size: Some(size),
                mode: Some(mode),
            },
            size_hint: Some(size),
            name,
        })
    }
}

impl Packing {
    fn start(path: &Path) -> io::Result<Self> {
        let (pipe, sink) = io::pipe()?;
        let path = path.to_owned();
        let packer = thread::Builder::new()
            .name("packer".to_owned())
            .spawn(move || archive::pack(&path, io::BufWriter::with_capacity(64 * 1024, sink)))?;
        Ok(Self {
            pipe,
            packer: Some(packer),
        })
    }
}

impl Read for Packing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        match self.packer.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(_))) => Ok(0),
            Some(Ok(Err(error))) => Err(io::Error::other(ErrorChain(&error).to_string())),
            Some(Err(_)) => Err(io::Error::other("the archive could not be made")),
        }
    }
}
