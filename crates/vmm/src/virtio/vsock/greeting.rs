//! The line with which a host process names the guest port it wants: `CONNECT <port>\n`.

use thiserror::Error;

/// Longest line, its end included: "CONNECT 4294967295\n" is 19 bytes.
pub const LINE_BYTES_MAX: usize = 32;

/// What has been read of a line so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The whole line, `used` bytes long, asks for `port`.
    Connect { port: u32, used: usize },
    /// More must be read.
    Incomplete,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum GreetingError {
    #[error("the line does not end within {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the line is not `CONNECT <port>`")]
    Malformed,
}

/// Reads the line at the start of `bytes`.
///
/// # Errors
/// It can never become a line that asks for a port.
pub fn parse(bytes: &[u8]) -> Result<Greeting, GreetingError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX {
            Ok(Greeting::Incomplete)
        } else {
            Err(GreetingError::TooLong)
        };
    };
    let line = str::from_utf8(&window[..end]).map_err(|_| GreetingError::Malformed)?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    let digits = line.strip_prefix("CONNECT ").ok_or(GreetingError::Malformed)?;
    // `parse` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(GreetingError::Malformed);
    }
    let port = digits.parse().map_err(|_| GreetingError::Malformed)?;
    Ok(Greeting::Connect { port, used: end + 1 })
}

/// The parser on anything.
///
/// # Panics
/// It takes what it should not.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz_greeting(data: &[u8]) {
    for end in 0..=data.len().min(2 * LINE_BYTES_MAX) {
        if let Ok(Greeting::Connect { port, used }) = parse(&data[..end]) {
            assert!(used <= LINE_BYTES_MAX && data[used - 1] == b'\n');
            // Bytes after the line do not change what it says.
            assert_eq!(parse(&data[..used]), Ok(Greeting::Connect { port, used }));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_names_a_port_and_leaves_what_follows() {
        let whole = Ok(Greeting::Connect { port: 1024, used: 13 });
        assert_eq!(parse(b"CONNECT 1024\n"), whole);
        assert_eq!(parse(b"CONNECT 1024\nhello"), whole);
        assert_eq!(
            parse(b"CONNECT 1024\r\n"),
            Ok(Greeting::Connect { port: 1024, used: 14 })
        );
        assert_eq!(
            parse(b"CONNECT 4294967295\n"),
            Ok(Greeting::Connect {
                port: u32::MAX,
                used: 19
            })
        );
        for end in 0..12 {
            assert_eq!(parse(&b"CONNECT 1024\n"[..end]), Ok(Greeting::Incomplete));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for line in [
            "\n",
            "CONNECT\n",
            "CONNECT \n",
            "connect 1\n",
            "CONNECT +1\n",
            "CONNECT -1\n",
            "CONNECT 1 2\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(GreetingError::Malformed), "{line:?}");
        }
        assert_eq!(parse(b"CONNECT 4294967296\n"), Err(GreetingError::Malformed));
        assert_eq!(parse(b"CONNECT \xff\n"), Err(GreetingError::Malformed));
        assert_eq!(parse(&[b'0'; LINE_BYTES_MAX]), Err(GreetingError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_fine(data: Vec<u8>, port: u32) {
            fuzz_greeting(&data);
            let mut line = format!("CONNECT {port}\n").into_bytes();
            line.extend(data);
            fuzz_greeting(&line);
        }
    }
}
