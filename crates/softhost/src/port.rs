//! Who listens on a port of this machine.
//!
//! `/proc/net/tcp` (and `tcp6`) tell the socket's inode, `/proc/<pid>/fd` whose it is. Without the right to look
//! into another user's process its name stays unknown.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use thiserror::Error;

use crate::processes::ProcessId;

/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTEN: &str = "0A";
/// 127.0.0.1 and the wildcards as `/proc/net/tcp` and `tcp6` spell them.
const ADDRESSES: &[&str] = &[
    "0100007F",
    "00000000",
    "00000000000000000000000000000000",
    "0000000000000000FFFF00000100007F",
    "0000000000000000FFFF000000000000",
];

/// A process with a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    pub pid: i32,
    pub command: String,
}

/// Why a port cannot be ours.
#[derive(Debug, Error)]
pub enum PortError {
    #[error(
        "port {port} on 127.0.0.1 is taken by {command} (process {pid}); end it, or choose another port with --port"
    )]
    TakenBy { port: u16, pid: i32, command: String },
    #[error("port {port} on 127.0.0.1 is taken by another user's process; choose another with --port")]
    Taken { port: u16 },
    #[error("cannot listen on port {port} of 127.0.0.1; choose another with --port")]
    Unusable { port: u16, source: io::Error },
}

/// Fails when somebody else has the port, saying who.
///
/// # Errors
/// When nobody new can listen on 127.0.0.1 at this port.
pub fn require_free(port: u16) -> Result<(), PortError> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(match owner(port) {
            Some(PortOwner { pid, command }) => PortError::TakenBy { port, pid, command },
            None => PortError::Taken { port },
        }),
        Err(source) => Err(PortError::Unusable { port, source }),
    }
}

/// The process that listens on this port of 127.0.0.1, if it can be known.
#[must_use]
pub fn owner(port: u16) -> Option<PortOwner> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listener_inode(&fs::read_to_string(table).ok()?, port))?;
    let socket = format!("socket:[{inode}]");
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let pid = pids
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| holds(*pid, &socket))?;
    Some(PortOwner {
        pid,
        command: ProcessId::of(pid)?.name()?,
    })
}

fn holds(pid: i32, socket: &str) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
    })
}

/// The inode of the socket that listens on the port, from the text of `/proc/net/tcp` or `tcp6`.
fn listener_inode(table: &str, port: u16) -> Option<u64> {
    let wanted = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, local_port) = fields.get(1)?.rsplit_once(':')?;
        let ours = local_port == wanted && ADDRESSES.contains(&address) && *fields.get(3)? == LISTEN;
        if ours { fields.get(9)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1B9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0 100 0 0 10 0
   1: 0100007F:1B9F 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 777 1 0 20 4 30 10 -1
   2: 0200000A:1BA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 888 1 0 100 0 0 10 0
   3: 00000000:1BA1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 999 1 0 100 0 0 10 0
";

    #[test]
    fn a_listener_on_loopback_or_everywhere_is_found_and_others_are_not() {
        assert_eq!(listener_inode(TABLE, 0x1b9e), Some(12345));
        assert_eq!(listener_inode(TABLE, 0x1b9f), None, "a connection is no listener");
        assert_eq!(
            listener_inode(TABLE, 0x1ba0),
            None,
            "10.0.0.2 is not ours to care about"
        );
        assert_eq!(listener_inode(TABLE, 0x1ba1), Some(999));
    }

    #[test]
    fn a_taken_port_names_this_very_process() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = require_free(port).unwrap_err();
        let PortError::TakenBy { pid, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(pid.cast_unsigned(), std::process::id());
        assert!(error.to_string().contains("--port"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_table_without_a_panic(text in "(?s).{0,300}", port: u16) {
            let _ = listener_inode(&text, port);
        }
    }
}
