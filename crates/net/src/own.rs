//! The host's own addresses: what listens on all of them was not meant for guests.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

/// Of all interfaces. None when the kernel does not tell, which the log says.
pub(crate) fn addresses() -> Option<Vec<IpNet>> {
    let interfaces = getifaddrs()
        .inspect_err(|error| tracing::warn!("cannot list the host's own addresses: {error}"))
        .ok()?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
        v4.or(v6).map(IpNet::from)
    };
    Some(interfaces.filter_map(address).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_is_among_the_hosts_own_addresses() {
        let own = super::addresses().unwrap();
        assert!(own.contains(&"127.0.0.1/32".parse().unwrap()), "{own:?}");
    }
}
