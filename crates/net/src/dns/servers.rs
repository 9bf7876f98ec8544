//! The host's resolvers: given, or from `/etc/resolv.conf`, which is read again when it changes.

use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// More are not asked.
pub(crate) const SERVERS_MAX: usize = 3;

const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
const FILE_BYTES_MAX: u64 = 64 * 1024;
const PORT: u16 = 53;

#[derive(Clone, Debug)]
pub struct Servers {
    file: Option<PathBuf>,
    changed: Option<SystemTime>,
    looked: Option<Instant>,
    servers: Vec<SocketAddr>,
}

impl Servers {
    /// These and no others.
    #[must_use]
    pub fn fixed(mut servers: Vec<SocketAddr>) -> Self {
        servers.truncate(SERVERS_MAX);
        Self {
            file: None,
            changed: None,
            looked: None,
            servers,
        }
    }

    #[must_use]
    pub fn of_file(file: &Path) -> Self {
        Self {
            file: Some(file.to_owned()),
            changed: None,
            looked: None,
            servers: Vec::new(),
        }
    }

    pub(super) fn get(&mut self, now: Instant) -> &[SocketAddr] {
        let due = self.looked.is_none_or(|looked| now > looked + LOOK_AGAIN_AFTER);
        if let Some(file) = self.file.as_deref().filter(|_| due) {
            self.looked = Some(now);
            let changed = fs::metadata(file).and_then(|file| file.modified()).ok();
            if changed.is_none() || changed != self.changed {
                // One that cannot be read leaves what was known.
                if let Ok(text) = read(file) {
                    self.servers = parse(&text);
                    self.changed = changed;
                }
            }
        }
        &self.servers
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(file)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As resolv.conf(5) says; without any the local machine is asked. Scopes of link-local addresses are not understood.
fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words
            .next()
            .filter(|word| *word == "nameserver")
            .and(words.next())?;
        address.parse::<IpAddr>().ok()
    });
    let servers: Vec<_> = addresses
        .take(SERVERS_MAX)
        .map(|address| SocketAddr::new(address, PORT))
        .collect();
    if servers.is_empty() {
        return vec![SocketAddr::from(([127, 0, 0, 1], PORT))];
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_its_manual_says() {
        let text = "# nameserver 9.9.9.9\nsearch a.example\nnameserver 10.0.2.3\n nameserver fd00::3 # x\nnameserver bad\n";
        let expected: Vec<SocketAddr> = vec!["10.0.2.3:53".parse().unwrap(), "[fd00::3]:53".parse().unwrap()];
        assert_eq!(parse(text), expected);
        assert_eq!(parse(""), ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(parse(&"nameserver 1.1.1.1\n".repeat(9)).len(), SERVERS_MAX);
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_vanishes_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resolv.conf");
        fs::write(&file, "nameserver 1.1.1.1\n").unwrap();
        let (mut servers, now) = (Servers::of_file(&file), Instant::now());
        assert_eq!(servers.get(now), ["1.1.1.1:53".parse().unwrap()]);
        fs::write(&file, "nameserver 2.2.2.2\n").unwrap();
        let old = fs::File::options().write(true).open(&file).unwrap();
        old.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let later = now + LOOK_AGAIN_AFTER * 2;
        assert_eq!(servers.get(later), ["2.2.2.2:53".parse().unwrap()]);
        fs::remove_file(&file).unwrap();
        assert_eq!(
            servers.get(later + LOOK_AGAIN_AFTER * 2),
            ["2.2.2.2:53".parse().unwrap()]
        );
    }
}
