//! Names that the machine itself knows: `/etc/hosts`, which is read again when it changes.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use egress::Name;

const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What is beyond is as if it were not there.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const ENTRIES_MAX: usize = 10_000;

/// Addresses of one name: what fits into an answer.
const ADDRESSES_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Hosts {
    file: Option<PathBuf>,
    stamp: Option<Stamp>,
    looked: Option<Instant>,
    names: HashMap<Name, Vec<IpAddr>>,
}

/// What differs when a file was changed.
type Stamp = (SystemTime, u64);

impl Hosts {
    /// Without a file no name is known.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            stamp: None,
            looked: None,
            names: HashMap::new(),
        }
    }

    /// All addresses of a name, or None if it is not in the file.
    pub(super) fn get(&mut self, name: &Name, now: Instant) -> Option<&[IpAddr]> {
        let due = self.looked.is_none_or(|looked| now > looked + LOOK_AGAIN_AFTER);
        if let Some(file) = self.file.clone().filter(|_| due) {
            self.looked = Some(now);
            self.look(&file);
        }
        self.names.get(name).map(Vec::as_slice)
    }

    fn look(&mut self, file: &Path) {
        let stamp = match fs::metadata(file) {
            Ok(metadata) => stamp(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (self.stamp, self.names) = (None, HashMap::new());
                return;
            }
            // One that cannot be read leaves what was known.
            Err(_) => return,
        };
        // What is no file might never end.
        if stamp.is_none() || stamp == self.stamp {
            return;
        }
        match read(file) {
            Ok(text) => (self.stamp, self.names) = (stamp, parse(&text)),
            Err(error) => tracing::warn!("cannot read {}: {error}", file.display()),
        }
    }
}

/// None for what is no ordinary file.
fn stamp(metadata: &Metadata) -> Option<Stamp> {
    let changed = metadata.modified().ok()?;
    metadata.is_file().then_some((changed, metadata.len()))
}

fn read(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(file)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    // A line that was cut would be another name.
    if bytes.len() as u64 == FILE_BYTES_MAX {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        bytes.truncate(whole);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As hosts(5) says. Loopback is each guest's own, so what is there is nothing to it.
fn parse(text: &str) -> HashMap<Name, Vec<IpAddr>> {
    let mut known: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse::<IpAddr>().ok()?;
        (!address.to_canonical().is_loopback()).then_some((address, words))
    });
    let entries = lines.flat_map(|(address, words)| words.map(move |name| (address, name)));
    for (address, name) in entries.take(ENTRIES_MAX) {
        let Some(name) = name.parse().ok().filter(|name| !is_local(name)) else {
            continue;
        };
        let addresses = known.entry(name).or_default();
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    known
}

fn is_local(name: &Name) -> bool {
    let name = name.as_str();
    name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn addresses(known: &HashMap<Name, Vec<IpAddr>>, of: &str) -> Vec<String> {
        let found = known.get(&name(of)).into_iter().flatten();
        found.map(ToString::to_string).collect()
    }

    #[test]
    fn the_file_is_read_as_its_manual_says() {
        let known = parse(
            "# 9.9.9.9 comment.example\n\
             10.0.0.1\tA.example  b.example # c.example\n\
             \n\
             2001:db8::1 a.example\r\n\
             10.0.0.2 a.example\n10.0.0.2 a.example\n\
             fe80::1%eth0 scoped.example\n\
             no-address d.example\n10.0.0.3\n10.0.0.4 bad..example 1.2.3.4 good.example\n\
             10.0.0.5 e.example#f.example",
        );
        assert_eq!(
            addresses(&known, "a.example"),
            ["10.0.0.1", "2001:db8::1", "10.0.0.2"]
        );
        assert_eq!(addresses(&known, "b.example"), ["10.0.0.1"]);
        assert_eq!(addresses(&known, "good.example"), ["10.0.0.4"]);
        assert_eq!(addresses(&known, "e.example"), ["10.0.0.5"]);
        assert_eq!(known.len(), 4, "{known:?}");
    }

    #[test]
    fn what_is_local_is_ignored() {
        let known = parse(
            "127.0.0.1 localhost own.example\n127.0.1.1 own.example\n::1 ip6-localhost\n\
             ::ffff:127.0.0.1 mapped.example\n10.0.0.1 localhost a.localhost localhost.localdomain\n",
        );
        assert_eq!(known.len(), 0, "{known:?}");
    }

    #[test]
    fn names_their_addresses_and_the_file_are_bounded() {
        let many: String = (0..20_000)
            .map(|n| format!("10.0.0.1 name-{n}.example\n"))
            .collect();
        assert_eq!(parse(&many).len(), ENTRIES_MAX);
        let one: String = (0..200).map(|n| format!("10.0.0.{n} a.example\n")).collect();
        assert_eq!(parse(&one)[&name("a.example")].len(), ADDRESSES_MAX);

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        fs::write(&file, "10.0.0.1 a.example b.example\n".repeat(50_000)).unwrap();
        let text = read(&file).unwrap();
        assert!(text.len() < 1024 * 1024 && text.ends_with("b.example"));
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_vanishes_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        let (mut hosts, mut now) = (Hosts::new(Some(file.clone())), Instant::now());
        let mut look = || {
            now += LOOK_AGAIN_AFTER * 2;
            hosts.get(&name("a.example"), now).map(<[IpAddr]>::to_vec)
        };
        assert_eq!(look(), None);
        fs::write(&file, "10.0.0.1 a.example\n").unwrap();
        assert_eq!(look(), Some(vec!["10.0.0.1".parse().unwrap()]));
        // Another size is enough, however coarse the file system's clock.
        fs::write(&file, "10.0.0.22 a.example\n").unwrap();
        assert_eq!(look(), Some(vec!["10.0.0.22".parse().unwrap()]));
        fs::remove_file(&file).unwrap();
        assert_eq!(look(), None);
        fs::create_dir(&file).unwrap();
        assert_eq!(look(), None);
    }
}
