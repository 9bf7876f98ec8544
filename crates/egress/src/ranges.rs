//! What addresses are: public, private, this host's, or nobody's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Never to be reached, whatever anybody allows: nets that mean no other machine, and where clouds keep what their
/// machines are and may. Of the latter all are link-local but those that providers chose elsewhere.
const UNREACHABLE: [&str; 13] = [
    "0.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
];

/// This host, in any case.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Networks that are not everybody's. Those for documentation and benchmarks are not among them: nothing is there
/// outside of tests. The last is for translators of a site's own, which may lead anywhere in it.
const PRIVATE: [&str; 7] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "fc00::/7",
    "64:ff9b:1::/48",
];

/// What an address is to the sandboxes of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Public,
    /// Only with a rule for a network that lies in this range.
    Private(IpNet),
    /// The operator opened it for all sandboxes.
    Opened,
    /// This host itself, which no rule opens.
    Host,
    /// Nothing opens it.
    Unreachable,
}

/// What the operator of a host adds to what is known of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ranges {
    /// Never to be reached; comes before everything else.
    pub never: Vec<IpNet>,
    /// To be reached by default, private networks and loopback included.
    pub open: Vec<IpNet>,
    /// The host's own addresses; the network process fills them in.
    pub host: Vec<IpNet>,
    /// Further private networks.
    pub private: Vec<IpNet>,
}

impl Ranges {
    /// An address that only wraps another is the more forbidden of the two.
    #[must_use]
    pub fn class(&self, address: IpAddr) -> Class {
        let address = address.to_canonical();
        let outer = self.class_of(address);
        match wrapped(address).map(|inner| self.class_of(inner.into())) {
            None | Some(Class::Public | Class::Opened) => outer,
            Some(inner) if rank(&inner) > rank(&outer) => inner,
            Some(_) => outer,
        }
    }

    fn class_of(&self, address: IpAddr) -> Class {
        if contains(&self.never, address).is_some() || listed(&UNREACHABLE, address).is_some() {
            Class::Unreachable
        } else if contains(&self.open, address).is_some() {
            Class::Opened
        } else if contains(&self.host, address).is_some() || listed(&LOOPBACK, address).is_some() {
            Class::Host
        } else if let Some(net) = listed(&PRIVATE, address).or_else(|| contains(&self.private, address)) {
            Class::Private(net)
        } else {
            Class::Public
        }
    }
}

fn rank(class: &Class) -> u8 {
    match class {
        Class::Public | Class::Opened => 0,
        Class::Private(_) => 1,
        Class::Host => 2,
        Class::Unreachable => 3,
    }
}

fn contains(nets: &[IpNet], address: IpAddr) -> Option<IpNet> {
    nets.iter().find(|net| net.contains(&address)).copied()
}

fn listed(nets: &[&str], address: IpAddr) -> Option<IpNet> {
    // All of them are sound, which a test says.
    let mut nets = nets.iter().filter_map(|net| net.parse::<IpNet>().ok());
    nets.find(|net| net.contains(&address))
}

/// The address of IPv4 in one of IPv6 that is translated or tunnelled to it on the way: compatible, NAT64 and its
/// predecessor, 6to4, ISATAP. (One that is only mapped is just another spelling, and gone by now.)
fn wrapped(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let bytes = v6.octets();
    let at = |start: usize| -> Option<Ipv4Addr> {
        let four = bytes.get(start..)?.first_chunk::<4>()?;
        Some(Ipv4Addr::from(*four))
    };
    let is_low = matches!(v6.segments(), [0, 0, 0, 0, 0, 0, _, _]) && v6 != Ipv6Addr::LOCALHOST;
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => at(12),
        [0x2002, ..] => at(2),
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => at(12),
        _ if is_low => at(12),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(text: &str) -> Class {
        Ranges::default().class(text.parse().unwrap())
    }

    #[test]
    fn the_tables_are_sound() {
        for net in UNREACHABLE.iter().chain(&LOOPBACK).chain(&PRIVATE) {
            assert_eq!(net.parse::<IpNet>().unwrap().trunc().to_string(), *net);
        }
    }

    #[test]
    fn addresses_are_what_they_are_in_every_spelling() {
        for text in [
            "127.0.0.1",
            "127.255.1.2",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
        ] {
            assert_eq!(class(text), Class::Host, "{text}");
        }
        for text in [
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2a00:1450::5efe:7f00:1",
            "::ffff:0:7f00:1",
        ] {
            assert_eq!(class(text), Class::Host, "{text}");
        }
        for text in [
            "0.0.0.0",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
        ] {
            assert_eq!(class(text), Class::Unreachable, "{text}");
        }
        for text in [
            "10.0.2.2",
            "100.64.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "fd12::1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:c0a8:101::",
        ] {
            assert!(matches!(class(text), Class::Private(_)), "{text}");
        }
        for text in [
            "8.8.8.8",
            "172.32.0.1",
            "203.0.113.7",
            "192.0.2.2",
            "198.18.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2001:db8::1",
        ] {
            assert_eq!(class(text), Class::Public, "{text}");
        }
    }

    #[test]
    fn the_operator_opens_private_nets_and_loopback_but_not_what_nothing_opens() {
        let nets = |text: &str| vec![text.parse::<IpNet>().unwrap()];
        let open = Ranges {
            open: nets("0.0.0.0/0"),
            ..Ranges::default()
        };
        let class = |ranges: &Ranges, text: &str| ranges.class(text.parse().unwrap());
        assert_eq!(class(&open, "127.0.0.1"), Class::Opened);
        assert_eq!(class(&open, "10.0.0.1"), Class::Opened);
        assert_eq!(class(&open, "169.254.169.254"), Class::Unreachable);
        let more = Ranges {
            never: nets("8.8.8.0/24"),
            host: nets("203.0.113.9/32"),
            private: nets("198.51.100.0/24"),
            ..Ranges::default()
        };
        assert_eq!(class(&more, "8.8.8.8"), Class::Unreachable);
        assert_eq!(class(&more, "203.0.113.9"), Class::Host);
        assert!(matches!(class(&more, "198.51.100.1"), Class::Private(_)));
    }

    proptest! {
        #[test]
        fn wrapping_an_address_of_ipv4_frees_it_of_nothing(bits: u32, site: u64) {
            let v4 = Ipv4Addr::from_bits(bits);
            let ranges = Ranges::default();
            let class = ranges.class(v4.into());
            prop_assert_eq!(ranges.class(v4.to_ipv6_mapped().into()), class);
            let (low, site) = (u128::from(bits), u128::from(site));
            for wrapped in [
                (0x0064_ff9b_u128 << 96) | low,
                (0x2002_u128 << 112) | (low << 80) | (site & 0xffff),
                (site << 64) | (0x5efe << 32) | low,
            ] {
                prop_assert!(rank(&ranges.class(Ipv6Addr::from_bits(wrapped).into())) >= rank(&class));
            }
        }
    }
}
