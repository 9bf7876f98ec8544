//! Certification authorities beyond those of the distribution: that of the host, which the initrd brings, and those the
//! image was built with.
//!
//! Debian's own programs look into one bundle. Others carry a list of their own (certifi under Python's `requests`, Node's
//! runtime) and trust an authority that was added to a machine only when variables of the environment point them there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the initrd brings the host's, as PEM text; it need not.
const BROUGHT: &str = "/podflare-ca.crt";
/// What it is called among those that update-ca-certificates(8) takes up, so that it survives that.
const ADDED: &str = "usr/local/share/ca-certificates";
const NAME: &str = "podflare-ca.crt";
/// All that are trusted, those of the distribution included.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Longest certificate that is taken, in bytes.
const BYTES_MAX: u64 = 64 * 1024;

/// Variables that name the bundle: OpenSSL (Python's `ssl`, Ruby, Go and Rust programs), `requests`, pip, curl, git.
const BUNDLE_VARIABLES: [&str; 5] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
];
/// Node adds what this file holds to its own list.
const NODE_VARIABLE: &str = "NODE_EXTRA_CA_CERTS";

/// The host's certificate, if it has one.
pub(super) fn brought() -> io::Result<Option<String>> {
    let length = match fs::metadata(BROUGHT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?.len(),
    };
    if length > BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read_to_string(BROUGHT).map(Some)
}

/// Has the machine with this root trust a certificate, once.
pub(super) fn install(root: &Path, pem: &str) -> io::Result<()> {
    let pem = format!("{}\n", pem.trim());
    let directory = root.join(ADDED);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(NAME), &pem)?;
    let bundle = root.join(BUNDLE);
    let mut text = match fs::read_to_string(&bundle) {
        // A template without certificates trusts nobody else; a bundle of one would make programs believe that it does.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    if text.contains(&pem) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&pem);
    fs::write(&bundle, text)
}

/// What programs of the user need in their environment, in the machine with this root: nothing, as long as it trusts
/// nobody the distribution does not.
#[must_use]
pub fn environment(root: &Path) -> Vec<(String, String)> {
    let Some(added) = added(&root.join(ADDED)) else {
        return Vec::new();
    };
    let within = |path: &Path| Path::new("/").join(path.strip_prefix(root).unwrap_or(path));
    let mut variables = vec![(NODE_VARIABLE, within(&added))];
    let bundle = root.join(BUNDLE);
    if bundle.exists() {
        // The bundle has all of them, where there are several.
        variables = vec![(NODE_VARIABLE, within(&bundle))];
        variables.extend(BUNDLE_VARIABLES.map(|name| (name, within(&bundle))));
    }
    variables
        .into_iter()
        .map(|(name, path)| (name.to_owned(), path.display().to_string()))
        .collect()
}

/// A certificate that was added, if any was.
fn added(directory: &Path) -> Option<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "crt"))
        .collect();
    files.sort();
    files.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----";

    fn root(bundle: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        if let Some(text) = bundle {
            let path = root.path().join(BUNDLE);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_hosts_certificate_is_added_once_to_all_others() {
        let root = root(Some("others"));
        for _ in 0..2 {
            install(root.path(), PEM).unwrap();
        }
        let bundle = fs::read_to_string(root.path().join(BUNDLE)).unwrap();
        assert_eq!(bundle, format!("others\n{PEM}\n"));
        let added = root.path().join(ADDED).join(NAME);
        assert_eq!(fs::read_to_string(added).unwrap(), format!("{PEM}\n"));
    }

    #[test]
    fn programs_with_lists_of_their_own_are_pointed_at_the_bundle() {
        let root = root(Some("others\n"));
        assert!(environment(root.path()).is_empty());
        install(root.path(), PEM).unwrap();
        let variables = environment(root.path());
        assert_eq!(variables.len(), 6);
        for (name, value) in variables {
            assert_eq!(value, "/etc/ssl/certs/ca-certificates.crt", "{name}");
        }
    }

    #[test]
    fn a_machine_without_a_bundle_gets_none() {
        let root = root(None);
        install(root.path(), PEM).unwrap();
        assert!(!root.path().join(BUNDLE).exists());
        let variables = environment(root.path());
        let expected = "/usr/local/share/ca-certificates/podflare-ca.crt";
        assert_eq!(variables, [(NODE_VARIABLE.to_owned(), expected.to_owned())]);
    }

    #[test]
    fn certificates_the_image_was_built_with_count_as_well() {
        let root = root(Some("all\n"));
        let directory = root.path().join(ADDED);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("readme"), "").unwrap();
        assert!(environment(root.path()).is_empty());
        fs::write(directory.join("extra-0.crt"), PEM).unwrap();
        assert_eq!(environment(root.path()).len(), 6);
    }
}
