//! Giving up rights while there is one thread.

use std::io;

use rustix::process::{Gid, Resource, Rlimit, Uid, geteuid, getrlimit, setrlimit};
use rustix::thread;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum RightsError {
    #[error("cannot raise the limit of open files")]
    Limit(#[source] io::Error),
    #[error("{0} is no id of a user or group")]
    Id(u32),
    #[error("cannot become another user")]
    User(#[source] io::Error),
    #[error("cannot give up the winning of rights")]
    NoNewPrivileges(#[source] io::Error),
}

/// Becomes another user, if one is named, who can never be more. Says how many files may be open.
pub(crate) fn drop_all(uid: Option<u32>, gid: Option<u32>) -> Result<u64, RightsError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| RightsError::Limit(error.into()))?;
    // A core would have what guests sent in it.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(|error| RightsError::Limit(error.into()))?;
    let user = |error: rustix::io::Errno| RightsError::User(error.into());
    if geteuid().is_root() && (uid.is_some() || gid.is_some()) {
        thread::set_thread_groups(&[]).map_err(user)?;
    }
    if let Some(gid) = gid {
        let gid = valid(gid).map(Gid::from_raw)?;
        thread::set_thread_res_gid(gid, gid, gid).map_err(user)?;
    }
    if let Some(uid) = uid {
        let uid = valid(uid).map(Uid::from_raw)?;
        thread::set_thread_res_uid(uid, uid, uid).map_err(user)?;
    }
    thread::set_no_new_privs(true).map_err(|error| RightsError::NoNewPrivileges(error.into()))?;
    Ok(limit.maximum.unwrap_or(u64::from(u32::MAX)))
}

/// The last one means "none" to the kernel.
fn valid(id: u32) -> Result<u32, RightsError> {
    if id == u32::MAX {
        Err(RightsError::Id(id))
    } else {
        Ok(id)
    }
}
