//! Extra certification authorities: collected from the host's files, one certificate each.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ImageError;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// Deepest directory below a given one.
const DEPTH_MAX: usize = 4;

/// The certificates of files and directories as one text, each once.
///
/// # Errors
/// As when an image is built with them: a path cannot be read, or a file that was given itself holds no certificate.
pub fn certificates(paths: &[PathBuf]) -> Result<String, ImageError> {
    Ok(collect(paths)?.concat())
}

/// Reads the certificates of PEM files and of all `.crt` and `.pem` files in directories; sorted, each once.
///
/// update-ca-certificates(8) wants one certificate a file, so bundles are taken apart.
///
/// # Errors
/// When a path cannot be read, or a file that was given itself holds no certificate.
pub(crate) fn collect(paths: &[PathBuf]) -> Result<Vec<String>, ImageError> {
    let mut found = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            collect_directory(path, 0, &mut found)?;
        } else {
            let certificates = read(path)?;
            if certificates.is_empty() {
                return Err(ImageError::NoCertificate { path: path.clone() });
            }
            found.extend(certificates);
        }
    }
    Ok(found.into_iter().collect())
}

fn collect_directory(directory: &Path, depth: usize, found: &mut BTreeSet<String>) -> Result<(), ImageError> {
    for entry in fs::read_dir(directory).map_err(ImageError::file("list", directory))? {
        let path = entry.map_err(ImageError::file("list", directory))?.path();
        if path.is_dir() && depth < DEPTH_MAX {
            collect_directory(&path, depth + 1, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "crt" || extension == "pem")
        {
            found.extend(read(&path)?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<String>, ImageError> {
    let bytes = fs::read(path).map_err(ImageError::file("read", path))?;
    Ok(split(&String::from_utf8_lossy(&bytes)))
}

/// The certificates in a PEM text; what stands between them (RFC 7468 allows explanations) is dropped.
pub(crate) fn split(text: &str) -> Vec<String> {
    let bodies = text.split(BEGIN).skip(1).filter_map(|part| part.split_once(END));
    bodies
        .map(|(body, _)| {
            let lines: Vec<_> = body
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(body: &str) -> String {
        format!("{BEGIN}\n{body}\n{END}\n")
    }

    #[test]
    fn bundles_are_taken_apart_and_duplicates_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(
            directory.path().join("a.crt"),
            format!("Name of B\n{}# and A\r\n{}", pem("BBBB"), pem("AAAA\r")),
        )
        .unwrap();
        fs::write(inner.join("b.pem"), pem("AAAA")).unwrap();
        fs::write(directory.path().join("key.txt"), pem("CCCC")).unwrap();
        assert_eq!(
            collect(&[directory.path().to_owned()]).unwrap(),
            [pem("AAAA"), pem("BBBB")]
        );
    }

    #[test]
    fn a_file_without_a_certificate_is_an_error_an_empty_directory_is_not() {
        let directory = tempfile::tempdir().unwrap();
        assert!(collect(&[directory.path().to_owned()]).unwrap().is_empty());
        let file = directory.path().join("wrong.pem");
        fs::write(&file, "-----BEGIN PRIVATE KEY-----").unwrap();
        assert!(matches!(collect(&[file]), Err(ImageError::NoCertificate { .. })));
        assert!(matches!(
            collect(&[directory.path().join("gone")]),
            Err(ImageError::File { .. })
        ));
    }
}
