//! To which addresses webhooks may go.
//!
//! A tenant names the receiver, and the host sends from where it stands: to its own services, its neighbours, the
//! metadata service of its cloud. So an address has to be public, or on a list that the operator wrote. What is judged
//! is the address that is connected to, never a name: a name may resolve to something else a moment later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// What is not public of IPv4, and what it is.
const NOT_PUBLIC_V4: [(&str, &str); 17] = [
    ("0.0.0.0/8", "this host"),
    ("10.0.0.0/8", "a private network"),
    ("100.64.0.0/10", "a carrier's private network"),
    ("127.0.0.0/8", "this host"),
    ("169.254.0.0/16", "link-local, where clouds keep metadata"),
    ("172.16.0.0/12", "a private network"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "a relay of 6to4"),
    ("192.168.0.0/16", "a private network"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/3", "multicast or reserved"),
];

/// Of IPv6 only this is public, without what follows.
const GLOBAL_V6: &str = "2000::/3";
const NOT_PUBLIC_V6: [(&str, &str); 5] = [
    ("2001::/23", "reserved, for Teredo among others"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "for documentation"),
    ("2620:4f:8000::/48", "reserved"),
];

/// The well-known prefix of NAT64: an address of IPv4 is in its last four bytes.
const NAT64: &str = "64:ff9b::/96";

/// Receivers that are not public and may be used all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(Vec<IpNet>);

/// Why nothing is sent to an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{address} is not public ({what}), and the host's setting webhook_allow does not have it")]
pub(crate) struct AddressRefused {
    pub(crate) address: IpAddr,
    pub(crate) what: &'static str,
}

/// Why a list is not one of networks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected networks like 10.0.0.0/8 or fd00::/8, got {0:?}")]
pub struct NotANetwork(pub String);

impl Allowed {
    /// What a developer's own machine is made of: loopback and private networks, metadata services not.
    #[must_use]
    pub fn nearby() -> Self {
        let nets = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "::1/128",
            "fc00::/7",
        ];
        Self(nets.iter().filter_map(|net| net.parse().ok()).collect())
    }

    /// # Errors
    /// The text that is neither a network nor an address.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, NotANetwork> {
        let one = |text: &str| {
            let text = text.trim();
            let net = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
            net.map_err(|_| NotANetwork(text.to_owned()))
        };
        texts.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// The address to connect to, if it may be used. Addresses that only wrap one of IPv4 are judged as that.
    pub(crate) fn judge(&self, address: IpAddr) -> Result<IpAddr, AddressRefused> {
        let bare = unwrapped(address);
        if self.0.iter().any(|net| net.contains(&bare)) {
            return Ok(reachable(address, bare));
        }
        match not_public(bare) {
            Some(what) => Err(AddressRefused { address, what }),
            None => Ok(reachable(address, bare)),
        }
    }
}

/// An address of NAT64 is how an IPv6-only host reaches IPv4; an IPv4-mapped one is just another spelling.
fn reachable(address: IpAddr, bare: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_none() => address,
        _ => bare,
    }
}

fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    if contains(NAT64, address) {
        let [.., a, b, c, d] = v6.octets();
        return Ipv4Addr::new(a, b, c, d).into();
    }
    address
}

fn not_public(address: IpAddr) -> Option<&'static str> {
    let listed = |nets: &[(&str, &'static str)]| {
        let found = nets.iter().find(|(net, _)| contains(net, address));
        found.map(|(_, what)| *what)
    };
    match address {
        IpAddr::V4(_) => listed(&NOT_PUBLIC_V4),
        IpAddr::V6(v6) if contains(GLOBAL_V6, address) => listed(&NOT_PUBLIC_V6).or(misused(v6)),
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() => Some("this host"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("multicast"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.is_unique_local() => Some("a private network"),
        IpAddr::V6(_) => Some("not a global address"),
    }
}

/// Translators with a prefix of their own (ISATAP) put `0:5efe` before an address of IPv4.
fn misused(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    (segments[5] == 0x5efe && segments[4] & 0xfdff == 0).then_some("ISATAP")
}

fn contains(net: &str, address: IpAddr) -> bool {
    // The nets above are sound, which a test says.
    net.parse::<IpNet>().is_ok_and(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(allowed: &Allowed, text: &str) -> Option<String> {
        let address = text.parse().unwrap();
        allowed.judge(address).ok().map(|address| address.to_string())
    }

    #[test]
    fn the_tables_are_sound() {
        let tables = NOT_PUBLIC_V4.iter().chain(&NOT_PUBLIC_V6).map(|(net, _)| *net);
        for net in tables.chain([GLOBAL_V6, NAT64]) {
            assert_eq!(net.parse::<IpNet>().unwrap().trunc().to_string(), net);
        }
        assert_eq!(Allowed::nearby().0.len(), 6);
    }

    #[test]
    fn what_is_not_public_is_refused_in_every_spelling() {
        let none = Allowed::default();
        for refused in [
            "0.0.0.0",
            "10.0.2.2",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1.2.3.4",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001::1",
            "2001:db8::1",
            "2a00:1450::5efe:7f00:1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "4000::1",
        ] {
            assert_eq!(judge(&none, refused), None, "{refused}");
        }
    }

    #[test]
    fn public_addresses_are_used_as_they_are_and_mapped_ones_as_what_they_are() {
        let none = Allowed::default();
        for (given, used) in [
            ("8.8.8.8", "8.8.8.8"),
            ("172.15.255.255", "172.15.255.255"),
            ("172.32.0.1", "172.32.0.1"),
            ("::ffff:8.8.8.8", "8.8.8.8"),
            ("64:ff9b::808:808", "64:ff9b::808:808"),
            ("2606:4700::1111", "2606:4700::1111"),
        ] {
            assert_eq!(judge(&none, given).as_deref(), Some(used), "{given}");
        }
    }

    #[test]
    fn a_list_allows_what_is_on_it_and_nothing_beside_it() {
        let some = Allowed::parse(["10.1.0.0/16", "127.0.0.1", " fd00::/8"]).unwrap();
        assert_eq!(judge(&some, "10.1.2.3").as_deref(), Some("10.1.2.3"));
        assert_eq!(judge(&some, "::ffff:10.1.2.3").as_deref(), Some("10.1.2.3"));
        assert_eq!(judge(&some, "fd00::1").as_deref(), Some("fd00::1"));
        assert_eq!(judge(&some, "10.2.0.1"), None);
        assert_eq!(judge(&some, "127.0.0.2"), None);
        assert_eq!(judge(&Allowed::nearby(), "169.254.169.254"), None);
        assert!(Allowed::parse(["10.0.0.0/40"]).is_err());
        assert!(Allowed::parse(["intranet"]).is_err());
    }

    proptest! {
        #[test]
        fn an_address_of_ipv4_has_the_same_verdict_in_every_wrapping(bits: u32) {
            let none = Allowed::default();
            let v4 = Ipv4Addr::from_bits(bits);
            let verdict = none.judge(v4.into()).is_ok();
            prop_assert_eq!(none.judge(v4.to_ipv6_mapped().into()).is_ok(), verdict);
            let nat64 = Ipv6Addr::from_bits((0x0064_ff9b_u128 << 96) | u128::from(bits));
            prop_assert_eq!(none.judge(nat64.into()).is_ok(), verdict);
        }
    }
}
