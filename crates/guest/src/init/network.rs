//! The network as every guest has it: the loopback interface, and one that leads to the gateway.
//!
//! Addresses are the same in every guest and set once, before the template's snapshot is taken, so a clone has nothing to
//! do: no DHCP, no question for an address, and the gateway's station is known for good. The device itself says how
//! long packets may be. Nothing that the kernel sends by itself, unasked, is left to a clone.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use net_proto::{
    GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_MAC, GUEST_IPV4, GUEST_IPV6, PREFIX_BITS_IPV4, PREFIX_BITS_IPV6,
};
use rustix::net::netdevice::name_to_index;

use super::netlink::{Message, Netlink};

/// The loopback interface is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const INTERFACE: &str = "eth0";
/// The interface is there as soon as its driver is loaded, or some milliseconds later.
const INTERFACE_WAIT: Duration = Duration::from_secs(10);
const INTERFACE_POLL: Duration = Duration::from_millis(1);

const RESOLVERS: &str = "/etc/resolv.conf";

/// Where the kernel keeps what it does about IPv6 on the interface.
const IPV6: &str = "/proc/sys/net/ipv6/conf/eth0";
/// Addresses are ours alone and never change, and no router says anything: no duplicate detection, no solicitations, no
/// addresses from advertisements, none that change for privacy's sake, none for the link alone. Membership of the groups
/// that come with an address is told at once; later, it would be told by every clone.
const IPV6_SETTINGS: [(&str, &str); 7] = [
    ("accept_dad", "0"),
    ("accept_ra", "0"),
    ("router_solicitations", "0"),
    ("autoconf", "0"),
    ("use_tempaddr", "-1"),
    ("addr_gen_mode", "1"),
    ("mldv2_unsolicited_report_interval", "1"),
];

/// One of the two protocols on the wire.
struct Side {
    guest: IpAddr,
    prefix_bits: u8,
    gateway: IpAddr,
}

const IPV4_SIDE: Side = Side {
    guest: IpAddr::V4(GUEST_IPV4),
    prefix_bits: PREFIX_BITS_IPV4,
    gateway: IpAddr::V4(GATEWAY_IPV4),
};
const IPV6_SIDE: Side = Side {
    guest: IpAddr::V6(GUEST_IPV6),
    prefix_bits: PREFIX_BITS_IPV6,
    gateway: IpAddr::V6(GATEWAY_IPV6),
};

/// Brings the loopback interface up.
pub(super) fn loopback() -> io::Result<()> {
    Netlink::open()?.ask(&Message::up(LOOPBACK_INDEX))
}

/// Makes the way out.
pub(super) fn up() -> io::Result<()> {
    let netlink = Netlink::open()?;
    let interface = await_interface(&netlink)?;
    let has_ipv6 = settings(Path::new(IPV6))?;
    netlink.ask(&Message::up(interface))?;
    IPV4_SIDE.set(&netlink, interface)?;
    if has_ipv6 {
        IPV6_SIDE.set(&netlink, interface)?;
    }
    Ok(())
}

/// Names the resolver, unless the template has named one.
pub(super) fn resolver() -> io::Result<()> {
    let old = match fs::read_to_string(RESOLVERS) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        old => old.unwrap_or_default(),
    };
    resolvers(&old).map_or(Ok(()), |new| fs::write(RESOLVERS, new))
}

impl Side {
    fn set(&self, netlink: &Netlink, interface: u32) -> io::Result<()> {
        netlink.ask(&Message::address(interface, self.guest, self.prefix_bits))?;
        netlink.ask(&Message::neighbour(interface, self.gateway, GATEWAY_MAC))?;
        netlink.ask(&Message::default_route(interface, self.gateway))
    }
}

fn await_interface(netlink: &Netlink) -> io::Result<u32> {
    let deadline = Instant::now() + INTERFACE_WAIT;
    loop {
        match name_to_index(netlink, INTERFACE) {
            Err(rustix::io::Errno::NODEV) if Instant::now() < deadline => thread::sleep(INTERFACE_POLL),
            result => return Ok(result?),
        }
    }
}

/// Before the interface is up, or it has begun. False when the kernel does without IPv6.
fn settings(directory: &Path) -> io::Result<bool> {
    if !directory.exists() {
        return Ok(false);
    }
    for (name, value) in IPV6_SETTINGS {
        match fs::write(directory.join(name), value) {
            // Not every kernel has each.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

/// What the list of resolvers becomes, if it is to change.
fn resolvers(old: &str) -> Option<String> {
    let named = old
        .lines()
        .any(|line| line.split_whitespace().next() == Some("nameserver"));
    (!named).then(|| format!("nameserver {GATEWAY_IPV4}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    fn ip(arguments: &str) -> String {
        let output = Command::new("ip").args(arguments.split(' ')).output();
        let output = output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8(output.stdout).unwrap(),
        );
        output.trim().to_owned()
    }

    /// A thread with a network of its own, where the kernel lets it have one and the tool that looks at it is there.
    fn in_own_network(test: fn()) {
        let thread = thread::spawn(move || {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("not tried: no rights to a network of its own");
                return;
            }
            ip("link add eth0 address 02:70:6f:64:00:02 type veth peer name gateway");
            ip("link set gateway up");
            if ip("link show eth0").is_empty() {
                eprintln!("not tried: no interface like a guest's");
                return;
            }
            test();
        });
        thread.join().unwrap();
    }

    #[test]
    fn a_guest_has_its_addresses_a_gateway_it_need_not_look_for_and_nothing_else() {
        in_own_network(|| {
            loopback().unwrap();
            // A second time changes nothing.
            up().unwrap();
            up().unwrap();
            assert!(ip("link show lo").contains("UP"));
            let addresses = ip("-brief address show dev eth0");
            assert!(addresses.contains("10.211.0.2/24"), "{addresses}");
            let routes = ip("route show default");
            assert!(routes.starts_with("default via 10.211.0.1 dev eth0"), "{routes}");
            let neighbours = ip("neigh show dev eth0");
            let gateway = "10.211.0.1 lladdr 02:70:6f:64:00:01 PERMANENT";
            assert!(neighbours.contains(gateway), "{neighbours}");
            if Path::new(IPV6).exists() {
                assert!(addresses.contains("fd70:6f64::2/64"), "{addresses}");
                assert!(!addresses.contains("fe80"), "{addresses}");
                let tentative = ip("address show dev eth0 tentative");
                assert_eq!(tentative, "", "the address can be used at once");
                let routes = ip("-6 route show default");
                assert!(
                    routes.starts_with("default via fd70:6f64::1 dev eth0"),
                    "{routes}"
                );
                let gateway = "fd70:6f64::1 lladdr 02:70:6f:64:00:01";
                assert!(ip("neigh show dev eth0").contains(gateway));
            }
        });
    }

    #[test]
    fn a_template_that_names_a_resolver_keeps_it() {
        assert_eq!(resolvers("# none\n").as_deref(), Some("nameserver 10.211.0.1\n"));
        assert_eq!(resolvers("").as_deref(), Some("nameserver 10.211.0.1\n"));
        assert_eq!(resolvers("search x\n nameserver\t192.0.2.1\n"), None);
        assert!(resolvers("#nameserver 192.0.2.1\n").is_some());
    }
}
