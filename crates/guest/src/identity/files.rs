//! The files in `/etc` that hold the machine's names.
//!
//! They are links into a file system in memory. On the disk each of them would cost a fresh clone a transaction of the
//! journal and a write of the disk, for what nobody reads after the machine's end. They are written in place, through
//! descriptors opened once. User code may still replace a link by a file of its own, which is then left alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use agent_proto::Identity;

use super::IdentityError;

/// Address of the host's own name in `/etc/hosts`, as Debian does it.
const OWN_ADDRESS: &str = "127.0.1.1";
/// Longest `/etc/hosts` that is read, in bytes; a longer one is the user's and left alone.
const HOSTS_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Files {
    hostname: Named,
    machine_id: Named,
    hosts: Named,
}

#[derive(Debug)]
struct Named {
    name: &'static str,
    file: File,
}

impl Files {
    /// Moves the files from `etc` to `memory`, with links in their places.
    pub(super) fn prepare(etc: &Path, memory: &Path) -> Result<Self, IdentityError> {
        let named = |name: &'static str| {
            prepare(&etc.join(name), &memory.join(name))
                .map(|file| Named { name, file })
                .map_err(|source| IdentityError::Prepare { name, source })
        };
        Ok(Self {
            hostname: named("hostname")?,
            machine_id: named("machine-id")?,
            hosts: named("hosts")?,
        })
    }

    /// Writes what is not so already.
    pub(super) fn write(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.hostname
            .update(|_| Some(format!("{}\n", identity.hostname)))?;
        self.machine_id
            .update(|_| Some(format!("{:032x}\n", u128::from_be_bytes(identity.machine_id))))?;
        self.hosts
            .update(|old| Some(hosts_for(std::str::from_utf8(old).ok()?, &identity.hostname)))
    }
}

impl Named {
    /// Replaces what the file holds by what it shall hold, given the former.
    fn update(&self, new: impl FnOnce(&[u8]) -> Option<String>) -> Result<(), IdentityError> {
        self.try_update(new).map_err(|source| IdentityError::Write {
            name: self.name,
            source,
        })
    }

    fn try_update(&self, new: impl FnOnce(&[u8]) -> Option<String>) -> io::Result<()> {
        let mut old = vec![0; 4096];
        let mut length = 0;
        loop {
            let count = self.file.read_at(&mut old[length..], length as u64)?;
            length += count;
            if count == 0 {
                break;
            }
            if length == old.len() {
                if length >= HOSTS_MAX {
                    return Ok(());
                }
                old.resize(2 * length, 0);
            }
        }
        let Some(new) = new(&old[..length]) else {
            return Ok(());
        };
        if new.as_bytes() == &old[..length] {
            return Ok(());
        }
        self.file.write_all_at(new.as_bytes(), 0)?;
        if new.len() < length {
            self.file.set_len(new.len() as u64)?;
        }
        Ok(())
    }
}

fn prepare(path: &Path, in_memory: &Path) -> io::Result<File> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        content => content?,
    };
    fs::create_dir_all(in_memory.parent().unwrap_or(in_memory))?;
    fs::write(in_memory, content)?;
    // At no time is there no such file.
    let link = path.with_extension("podflare");
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(in_memory, &link)?;
    fs::rename(&link, path)?;
    File::options().read(true).write(true).open(in_memory)
}

/// The file with this host's own line replaced, and everything else, which may be the user's, kept.
fn hosts_for(old: &str, hostname: &str) -> String {
    let is_own = |line: &&str| line.split_ascii_whitespace().next() == Some(OWN_ADDRESS);
    let mut hosts = String::with_capacity(old.len() + 160);
    if !old.lines().any(|line| line.starts_with("127.0.0.1")) {
        hosts.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    for line in old.lines().filter(|line| !is_own(line)) {
        hosts.push_str(line);
        hosts.push('\n');
    }
    hosts.push_str(OWN_ADDRESS);
    hosts.push('\t');
    hosts.push_str(hostname);
    hosts.push('\n');
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(hostname: &str) -> Identity {
        Identity {
            hostname: hostname.to_owned(),
            machine_id: [0xab; 16],
            wall_clock_ns: None,
            entropy: [0; 32],
        }
    }

    #[test]
    fn names_are_readable_where_they_belong_and_what_the_user_adds_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (etc, memory) = (directory.path().join("etc"), directory.path().join("run/own"));
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("hosts"), "127.0.0.1 localhost sandbox\n").unwrap();
        // As after a start that was cut short.
        fs::write(etc.join("hostname.podflare"), "").unwrap();
        let files = Files::prepare(&etc, &memory).unwrap();
        let read = |name: &str| fs::read_to_string(etc.join(name)).unwrap();
        files.write(&identity("a-long-name")).unwrap();
        assert_eq!(read("hostname"), "a-long-name\n");
        assert_eq!(read("machine-id"), format!("{}\n", "ab".repeat(16)));
        let added = "10.0.0.7\tdatabase\n".repeat(500);
        fs::write(etc.join("hosts"), read("hosts") + &added).unwrap();
        files.write(&identity("short")).unwrap();
        assert_eq!(read("hostname"), "short\n");
        assert_eq!(
            read("hosts"),
            format!("127.0.0.1 localhost sandbox\n{added}127.0.1.1\tshort\n")
        );
        assert_eq!(fs::read_dir(&etc).unwrap().count(), 3);
        // The agent's next start finds its own links.
        Files::prepare(&etc, &memory)
            .unwrap()
            .write(&identity("again"))
            .unwrap();
        assert_eq!(read("hostname"), "again\n");
    }

    #[test]
    fn a_file_is_not_written_when_nothing_changes() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::prepare(directory.path(), &directory.path().join("run")).unwrap();
        files.write(&identity("same")).unwrap();
        let modified = |name: &str| {
            fs::metadata(directory.path().join(name))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = ["hostname", "machine-id", "hosts"].map(modified);
        files.write(&identity("same")).unwrap();
        assert_eq!(["hostname", "machine-id", "hosts"].map(modified), before);
    }

    #[test]
    fn renaming_a_host_keeps_every_other_line_of_its_hosts_file() {
        let first = hosts_for("", "one");
        assert_eq!(
            first,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tone\n"
        );
        let edited = format!("{first}10.0.0.7\tdatabase\n");
        let second = hosts_for(&edited, "two");
        assert!(second.contains("database") && second.contains("127.0.1.1\ttwo") && !second.contains("one"));
        assert_eq!(hosts_for(&second, "two"), second);
    }
}
