//! The header of a vsock packet, virtio 1.2 section 5.10.6, as plain data.
//!
//! The payload stays where it is, in any number of pieces of guest memory: drivers send it scattered (Linux does for
//! `MSG_ZEROCOPY`), and several receive buffers are filled with one system call.

/// Bytes of a header on the ring.
pub const HEADER_BYTES: usize = 44;

/// Longest payload of a packet; the bound Linux keeps too.
pub const PAYLOAD_BYTES_MAX: u32 = 64 * 1024;

/// VIRTIO_VSOCK_TYPE_STREAM, the only type offered.
pub const TYPE_STREAM: u16 = 1;

/// SHUTDOWN: the sender receives no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// SHUTDOWN: the sender sends no more.
pub const SHUTDOWN_SEND: u32 = 2;

/// Operations of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

/// Fields in their order on the ring, little-endian there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    /// Bytes of payload.
    pub len: u32,
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    /// Bytes the sender can buffer for this connection.
    pub buf_alloc: u32,
    /// Bytes the sender has taken out of that buffer so far, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Op {
    #[must_use]
    pub fn from_wire(op: u16) -> Option<Self> {
        let all = [
            Self::Request,
            Self::Response,
            Self::Reset,
            Self::Shutdown,
            Self::Data,
            Self::CreditUpdate,
            Self::CreditRequest,
        ];
        all.into_iter().find(|known| *known as u16 == op)
    }
}

impl Header {
    #[must_use]
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut fields = Fields { bytes };
        Self {
            src_cid: u64::from_le_bytes(fields.next()),
            dst_cid: u64::from_le_bytes(fields.next()),
            src_port: u32::from_le_bytes(fields.next()),
            dst_port: u32::from_le_bytes(fields.next()),
            len: u32::from_le_bytes(fields.next()),
            kind: u16::from_le_bytes(fields.next()),
            op: u16::from_le_bytes(fields.next()),
            flags: u32::from_le_bytes(fields.next()),
            buf_alloc: u32::from_le_bytes(fields.next()),
            fwd_cnt: u32::from_le_bytes(fields.next()),
        }
    }

    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut end = 0;
        let mut put = |field: &[u8]| {
            bytes[end..end + field.len()].copy_from_slice(field);
            end += field.len();
        };
        put(&self.src_cid.to_le_bytes());
        put(&self.dst_cid.to_le_bytes());
        put(&self.src_port.to_le_bytes());
        put(&self.dst_port.to_le_bytes());
        put(&self.len.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&self.op.to_le_bytes());
        put(&self.flags.to_le_bytes());
        put(&self.buf_alloc.to_le_bytes());
        put(&self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The reset that answers this packet when it belongs to no connection.
    #[must_use]
    pub fn reset_reply(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            op: Op::Reset as u16,
            ..Self::default()
        }
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
}

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        match self.bytes.split_first_chunk() {
            Some((field, rest)) => {
                self.bytes = rest;
                *field
            }
            None => [0; N],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_standard_has_them() {
        let mut bytes = [0; HEADER_BYTES];
        for (at, byte) in (1..).zip(&mut bytes) {
            *byte = at;
        }
        let header = Header::from_bytes(&bytes);
        assert_eq!(header.to_bytes(), bytes);
        assert_eq!(header.src_cid, 0x0807_0605_0403_0201);
        assert_eq!((header.src_port, header.len), (0x1413_1211, 0x1c1b_1a19));
        assert_eq!((header.kind, header.op), (0x1e1d, 0x201f));
        assert_eq!((header.buf_alloc, header.fwd_cnt), (0x2827_2625, 0x2c2b_2a29));
    }
}
