//! What `net-proto` will say.

/// Bytes of an IP packet.
pub const MTU: u16 = 16384;
/// Bytes of an Ethernet frame.
pub const FRAME_BYTES_MAX: usize = 14 + MTU as usize;
pub const GUEST_MAC: [u8; 6] = [0x02, 0x70, 0x6f, 0x64, 0x00, 0x02];
