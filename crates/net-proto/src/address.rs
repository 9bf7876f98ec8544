//! Who is who on a wire. The same on every wire, so that a clone needs nothing but a new one.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Largest packet of IP on a wire, in bytes. Connections end in the network process, so it has nothing to do with any path
/// outside; it is as large as lets a whole frame lie in one piece of four pages in the kernel's socket buffers
/// (16384 bytes without 320 that the kernel keeps there itself).
pub const MTU: u16 = 16_000;

/// Destination, source and type before each packet.
pub const FRAME_HEADER_BYTES: usize = 14;

/// Longest frame, in bytes. A longer one is dropped.
pub const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + MTU as usize;

/// Both locally administered.
pub const GUEST_MAC: [u8; 6] = [0x02, 0x70, 0x6f, 0x64, 0x00, 0x02];
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x70, 0x6f, 0x64, 0x00, 0x01];

pub const GUEST_IPV4: Ipv4Addr = Ipv4Addr::new(10, 211, 0, 2);
/// Also the guest's resolver.
pub const GATEWAY_IPV4: Ipv4Addr = Ipv4Addr::new(10, 211, 0, 1);
pub const PREFIX_BITS_IPV4: u8 = 24;

pub const GUEST_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd70, 0x6f64, 0, 0, 0, 0, 0, 2);
/// Also the guest's resolver.
pub const GATEWAY_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd70, 0x6f64, 0, 0, 0, 0, 0, 1);
pub const PREFIX_BITS_IPV6: u8 = 64;

/// Where the gateway answers questions about names, over UDP and TCP.
pub const DNS_PORT: u16 = 53;
