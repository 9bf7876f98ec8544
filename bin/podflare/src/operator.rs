//! The operator's token: what makes `podflare key`, `tenant`, `usage` and `audit` more than any caller's.
//!
//! `up` makes it once, in a file of the state directory that only its owner can read, and hands it to the host. It is
//! sent only to that host, or to one that is named together with `PODFLARE_OPERATOR_TOKEN`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use crate::settings::Directories;

/// Variable with the token; also how the host gets it.
pub(crate) const VARIABLE: &str = "PODFLARE_OPERATOR_TOKEN";

const FILE: &str = "operator.token";
const PREFIX: &str = "pf_op_";
const RANDOM_BYTES: usize = 32;

/// The token of the host on this machine, if there ever was one.
pub(crate) fn read(directories: &Directories) -> io::Result<Option<String>> {
    match fs::read_to_string(directories.state.join(FILE)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same, made when there is none.
pub(crate) fn ensure(directories: &Directories) -> io::Result<String> {
    if let Some(token) = read(directories)? {
        return Ok(token);
    }
    let mut random = [0; RANDOM_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!("{PREFIX}{digits}");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directories.state)?;
    let path = directories.state.join(FILE);
    let new = path.with_extension("token.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)?;
    Ok(token)
}
