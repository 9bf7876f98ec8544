//! Confinement: what is left of this process's rights once it serves.
//!
//! Guests send it packets and the outside sends it answers, so it is to be worth little to whoever takes it over: from
//! then on it has no user's rights, opens no file but a few to read, starts nothing, and has a short list of system
//! calls. What it has to be able to do, reach the outside, remains.
//!
//! ```text
//!   socket bound, keys read → rights → files → threads started → system calls → serve
//! ```

mod files;
mod rights;
mod system_calls;

use std::path::Path;

use thiserror::Error;

pub(crate) use files::FilesError;
pub(crate) use rights::RightsError;
pub(crate) use system_calls::FilterError;

/// What could not be taken away. Nothing must be served then.
#[derive(Debug, Error)]
pub(crate) enum ConfineError {
    #[error("cannot give up rights")]
    Rights(#[source] RightsError),
    #[error("cannot give up files")]
    Files(#[source] FilesError),
    #[error("cannot give up system calls")]
    SystemCalls(#[source] FilterError),
}

/// Becomes another user, if one is named, who can never be more, and gives up all files but those in the directories of
/// `readable`. To be called by the only thread. Says how many files may be open.
pub(crate) fn give_up_rights(
    uid: Option<u32>,
    gid: Option<u32>,
    readable: &[&Path],
) -> Result<u64, ConfineError> {
    let descriptors = rights::drop_all(uid, gid).map_err(ConfineError::Rights)?;
    if !files::keep_to(readable).map_err(ConfineError::Files)? {
        tracing::info!("this kernel has no Landlock: files can be read as far as the user may");
    }
    Ok(descriptors)
}

/// Gives up all system calls but those that serving takes, in all threads, which have to be there already.
pub(crate) fn give_up_system_calls() -> Result<(), ConfineError> {
    system_calls::restrict().map_err(ConfineError::SystemCalls)
}

#[cfg(test)]
mod tests;
