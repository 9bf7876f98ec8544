//! The name in the first bytes of a TLS connection.
//!
//! Strict and bounded: what is not a ClientHello to the letter of RFC 8446 (4.1.2) and RFC 6066 (3) has no name. Nothing
//! is kept; each look begins anew with all bytes there are.

use egress::Name;

/// What the beginning of a connection says of the name it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// More bytes may say.
    Unfinished,
    Name(Name),
    /// There is none, or something else is spoken.
    Nothing,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Longest fragment of a plaintext record.
const RECORD_BYTES_MAX: usize = 1 << 14;

/// Whether these bytes can only be those of TLS.
pub(crate) fn is_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE)
}

pub(crate) fn name_in_hello(bytes: &[u8]) -> Said {
    let hello = match hello_of(bytes) {
        Hello::Whole(hello) => hello,
        Hello::Unfinished => return Said::Unfinished,
        Hello::None => return Said::Nothing,
    };
    match name_of(&hello) {
        Some(name) => Said::Name(name),
        None => Said::Nothing,
    }
}

enum Hello {
    Whole(Vec<u8>),
    Unfinished,
    None,
}

/// Puts the ClientHello together from the records it is spread over.
fn hello_of(mut bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    loop {
        if let Some(hello) = whole_of(&message) {
            return hello;
        }
        let Some((header, rest)) = bytes.split_first_chunk::<5>() else {
            let is_record = bytes.first().is_none_or(|kind| *kind == HANDSHAKE);
            return if is_record { Hello::Unfinished } else { Hello::None };
        };
        let [kind, major, _, high, low] = *header;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || len == 0 || len > RECORD_BYTES_MAX {
            return Hello::None;
        }
        let fragment = rest.get(..len).unwrap_or(rest);
        message.extend_from_slice(fragment);
        if fragment.len() < len {
            return whole_of(&message).unwrap_or(Hello::Unfinished);
        }
        bytes = &rest[len..];
    }
}

/// A decision about what there is of a handshake's first message, unless more is needed.
fn whole_of(message: &[u8]) -> Option<Hello> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Some(Hello::None);
    }
    let [_, high, mid, low] = *message.first_chunk::<4>()?;
    let len = u32::from_be_bytes([0, high, mid, low]) as usize;
    if len > RECORD_BYTES_MAX {
        return Some(Hello::None);
    }
    let body = message.get(4..4 + len)?;
    Some(Hello::Whole(body.to_vec()))
}

fn name_of(hello: &[u8]) -> Option<Name> {
    let mut rest = Reader(hello);
    rest.take(2 + 32)?;
    rest.vector8()?; // session id
    rest.vector16()?; // cipher suites
    rest.vector8()?; // compression
    let mut extensions = Reader(rest.vector16()?);
    rest.end()?;
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let body = extensions.vector16()?;
        if kind != SERVER_NAME {
            continue;
        }
        // No kind comes twice: two readers might take two different ones.
        if name.is_some() {
            return None;
        }
        name = Some(name_in_extension(body)?);
    }
    name
}

fn name_in_extension(body: &[u8]) -> Option<Name> {
    let mut body = Reader(body);
    let mut list = Reader(body.vector16()?);
    body.end()?;
    let kind = *list.take(1)?.first()?;
    let name = list.vector16()?;
    list.end()?;
    (kind == HOST_NAME).then_some(())?;
    Name::from_ascii(name).ok()
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*bytes))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = *self.take(1)?.first()?;
        self.take(usize::from(len))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.number16()?;
        self.take(usize::from(len))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A hello as a client would send it, in records of at most so many bytes.
#[cfg(test)]
pub(crate) fn hello_for(name: Option<&[u8]>, record: usize) -> Vec<u8> {
    let with_length = |bytes: &[u8]| {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        [&len.to_be_bytes()[..], bytes].concat()
    };
    let mut extensions = vec![0, 43, 0, 3, 2, 3, 4];
    if let Some(name) = name {
        let entry = [&[HOST_NAME][..], &with_length(name)].concat();
        extensions.extend([0, 0]);
        extensions.extend(with_length(&with_length(&entry)));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(with_length(&extensions));
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let message = [&[CLIENT_HELLO, len[1], len[2], len[3]][..], &body].concat();
    let records = message.chunks(record.max(1));
    records
        .flat_map(|piece| [&[HANDSHAKE, 3, 1][..], &with_length(piece)].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_found_in_one_record_or_many_and_not_before_all_is_there() {
        let name: Name = "api.example.com".parse().unwrap();
        for record in [1, 7, 4096] {
            let hello = hello_for(Some(b"API.example.com"), record);
            assert_eq!(name_in_hello(&hello), Said::Name(name.clone()), "{record}");
            for cut in 0..hello.len() {
                assert_eq!(name_in_hello(&hello[..cut]), Said::Unfinished, "{record} {cut}");
            }
            let more = [&hello[..], b"more"].concat();
            assert_eq!(name_in_hello(&more), Said::Name(name.clone()));
        }
    }

    #[test]
    fn what_has_no_name_or_is_not_to_the_letter_has_none() {
        assert_eq!(name_in_hello(&hello_for(None, 4096)), Said::Nothing);
        assert_eq!(name_in_hello(&hello_for(Some(b"10.0.0.1"), 4096)), Said::Nothing);
        assert_eq!(
            name_in_hello(&hello_for(Some(b"a\0b.example"), 4096)),
            Said::Nothing
        );
        assert_eq!(name_in_hello(b"GET / HTTP/1.1\r\n"), Said::Nothing);
        assert_eq!(name_in_hello(&[22, 3, 1, 0, 0]), Said::Nothing);
        assert_eq!(name_in_hello(&[22, 3, 1, 0xff, 0xff]), Said::Nothing);
        assert_eq!(name_in_hello(&[22, 2, 1, 0, 9]), Said::Nothing);
        // Two names, of which two readers would take different ones.
        let mut twice = hello_for(Some(b"a.example"), 4096);
        let extension = [0, 0, 0, 14, 0, 12, 0, 0, 9];
        twice.extend(extension);
        twice.extend(b"b.example");
        for (at, by) in [(3, 18), (7, 18), (50, 18)] {
            let old = u16::from_be_bytes([twice[at], twice[at + 1]]);
            twice[at..at + 2].copy_from_slice(&(old + by).to_be_bytes());
        }
        assert_eq!(name_in_hello(&twice), Said::Nothing);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(name_in_hello(&bytes));
            drop(name_in_hello(&[&[22, 3, 1, 0, 200, 1, 0, 0, 190][..], &bytes].concat()));
        }

        #[test]
        fn a_damaged_hello_has_no_other_name(at in 0..80_usize, value: u8) {
            let mut hello = hello_for(Some(b"api.example.com"), 4096);
            if let Some(byte) = hello.get_mut(at) {
                *byte = value;
            }
            drop(name_in_hello(&hello));
        }
    }
}
