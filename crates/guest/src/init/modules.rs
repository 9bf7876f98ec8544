//! Loads the kernel modules the initrd brings, in the order of its list.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;
use rustix::system::finit_module;

use super::BootError;

/// One module a line, as a file name or a path under [`DIRECTORY`]; dependencies come before what needs them.
const LIST: &str = "/lib/modules-load.txt";
const DIRECTORY: &str = "/lib/modules";

pub(super) fn load_listed() -> Result<(), BootError> {
    let list = fs::read_to_string(LIST).map_err(|source| BootError::ModuleList { path: LIST, source })?;
    names(&list).try_for_each(load)
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn load(name: &str) -> Result<(), BootError> {
    let insert = || match finit_module(&File::open(path(name))?, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    };
    insert().map_err(|source| BootError::Module {
        name: name.to_owned(),
        source,
    })
}

/// `virtio`, `virtio.ko`, `/virtio.ko` and `/lib/modules/virtio.ko` all mean the same file.
fn path(name: &str) -> std::path::PathBuf {
    let name = name
        .strip_prefix(DIRECTORY)
        .unwrap_or(name)
        .trim_start_matches('/');
    let path = Path::new(DIRECTORY).join(name);
    if path.extension().is_some_and(|extension| extension == "ko") {
        path
    } else {
        path.with_extension("ko")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_may_have_comments_and_any_spelling_of_a_file() {
        let list = "# storage\nvirtio.ko\n\n /lib/modules/virtio_ring.ko \nkernel/drivers/vsock\n";
        let paths: Vec<_> = names(list).map(path).collect();
        assert_eq!(
            paths,
            ["virtio.ko", "virtio_ring.ko", "kernel/drivers/vsock.ko"]
                .map(|name| Path::new(DIRECTORY).join(name))
        );
    }
}
