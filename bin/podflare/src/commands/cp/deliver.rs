//! Puts what is copied where it belongs.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use api::FileKind;
use archive::{FileError, Staged};
use client::{Client, WriteOptions};
use pod_types::SandboxId;

use super::cargo::{Cargo, Kind, MODE_MASK};
use crate::failure::Failure;
use crate::location::Location;
use crate::output::Meter;

/// Bytes moved at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What came of it.
pub(super) struct Delivered {
    /// Where it is now.
    pub(super) to: String,
    pub(super) bytes: u64,
    pub(super) entries: Option<u64>,
}

pub(super) fn deliver(client: &Client, cargo: Cargo, to: &Location) -> Result<Delivered, Failure> {
    let meter = Meter::new(cargo.content, cargo.size_hint);
    match to {
        Location::Stream => stream(meter),
        Location::Local(path) => local(meter, cargo.kind, &inside(path, &cargo.name, path.is_dir())),
        Location::Sandbox { id, path } => {
            let is_directory = match client.file_info(*id, path) {
                Ok(head) => head.kind == FileKind::Directory,
                Err(error) if error.code() == "file_not_found" => path.ends_with(b"/"),
                Err(error) => return Err(error.into()),
            };
            let path = inside(
                Path::new(std::ffi::OsStr::from_bytes(path)),
                &cargo.name,
                is_directory,
            );
            remote(client, meter, cargo.kind, *id, &path)
        }
    }
}

/// Things go into a directory under their own names.
fn inside(path: &Path, name: &Option<std::ffi::OsString>, is_directory: bool) -> PathBuf {
    match name {
        Some(name) if is_directory => path.join(name),
        _ => path.to_owned(),
    }
}

fn stream(mut content: Meter) -> Result<Delivered, Failure> {
    let mut stdout = io::stdout().lock();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = content.read(&mut piece).map_err(|error| broken(&error))?;
        if count == 0 {
            stdout.flush()?;
            return Ok(Delivered {
                to: "-".to_owned(),
                bytes: content.count(),
                entries: None,
            });
        }
        stdout.write_all(&piece[..count])?;
    }
}

fn local(mut content: Meter, kind: Kind, path: &Path) -> Result<Delivered, Failure> {
    let to = archive::shown(path.as_os_str().as_bytes());
    match kind {
        Kind::Tree => {
            fs::create_dir_all(path)
                .map_err(|error| FileError::system("make the directory", path.as_os_str().as_bytes(), error))
                .map_err(|error| local_failure(&error))?;
            let unpacked =
                archive::unpack(path, &mut content, MODE_MASK).map_err(|error| local_failure(&error))?;
            Ok(Delivered {
                to,
                bytes: unpacked.bytes,
                entries: Some(unpacked.entries),
            })
        }
        Kind::File { mode, size } => {
            let staged = Staged::begin(path, false).map_err(|error| local_failure(&error))?;
            let mut staged = staged.with_mode(mode);
            staged
                .need_room(size.unwrap_or(0))
                .map_err(|error| local_failure(&error))?;
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                let count = content.read(&mut piece).map_err(|error| broken(&error))?;
                if count == 0 {
                    break;
                }
                staged
                    .write(&piece[..count])
                    .map_err(|error| local_failure(&error))?;
            }
            staged.commit(|_| true).map_err(|error| local_failure(&error))?;
            Ok(Delivered {
                to,
                bytes: content.count(),
                entries: None,
            })
        }
    }
}

fn remote(
    client: &Client,
    mut content: Meter,
    kind: Kind,
    id: SandboxId,
    path: &Path,
) -> Result<Delivered, Failure> {
    let bytes = path.as_os_str().as_bytes();
    let to = format!("{id}:{}", archive::shown(bytes));
    Ok(match kind {
        Kind::Tree => {
            let unpacked = client.write_tree(id, bytes, &mut content)?;
            Delivered {
                to,
                bytes: unpacked.bytes,
                entries: Some(unpacked.entries),
            }
        }
        Kind::File { size, mode } => {
            let options = WriteOptions { mode, length: size };
            let info = client.write_file(id, bytes, options, &mut content)?;
            Delivered {
                to,
                bytes: info.size,
                entries: None,
            }
        }
    })
}

fn local_failure(error: &FileError) -> Failure {
    Failure::because("local_file", error)
}

fn broken(error: &io::Error) -> Failure {
    Failure::while_doing("transfer_broken", "the content broke off", error)
}
