//! The kernel's tables of TCP sockets: `/proc/net/tcp` and `/proc/net/tcp6` (proc_pid_net(5)).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most of a table that is read, in bytes: some hundred thousand sockets. Those that listen come first in it.
const TABLE_BYTES_MAX: u64 = 16 << 20;
/// Most sockets that are kept of what listens.
const SOCKETS_MAX: usize = 4096;
/// `TCP_LISTEN` of `net/tcp_states.h`.
const LISTEN: &str = "0A";

/// A socket that waits for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) address: SocketAddr,
    pub(super) inode: u64,
}

/// All that listen, in no order.
pub(super) fn listening() -> Vec<Socket> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let files = tables.into_iter().filter_map(|table| File::open(table).ok());
    files
        .flat_map(|file| read(BufReader::new(file.take(TABLE_BYTES_MAX))))
        .take(SOCKETS_MAX)
        .collect()
}

fn read(table: impl BufRead) -> impl Iterator<Item = Socket> {
    table
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| parse(&line))
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`, where an address is 32-bit words in
/// the byte order of the machine, in hexadecimal.
fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    if state != LISTEN {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = SocketAddr::new(parse_address(address)?, port);
    Some(Socket { address, inode })
}

fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = text.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41 1 0000000000000000 100 0 0 10 0
   1: 0100007F:A000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 42 1 0000000000000000 20 4 30 10 -1
   2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 43 1 0 100 0 0 10 0
   3: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 44 1 0 100 0 0 10 0
";

    #[test]
    fn what_listens_is_found_and_nothing_else() {
        let found: Vec<_> = read(TABLE.as_bytes())
            .map(|socket| (socket.address.to_string(), socket.inode))
            .collect();
        let expected = [("127.0.0.1:8080", 41), ("[::1]:80", 43), ("127.0.0.1:81", 44)];
        assert_eq!(
            found,
            expected.map(|(address, inode)| (address.to_owned(), inode))
        );
    }

    #[test]
    fn a_socket_of_this_process_is_in_the_table() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(listening().iter().any(|socket| socket.address == address));
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in ".*") {
            parse(&line);
        }

        #[test]
        fn arbitrary_fields_never_panic(address in "[0-9A-Fa-f:é]{0,40}", inode in ".{0,8}") {
            parse(&format!("0: {address} x 0A 0 0 0 0 0 {inode}"));
        }
    }
}
