//! Throw-away runs through the whole path, so that a clone made after them has it all in memory.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use agent_proto::{Direction, ExecRequest, Exit, HEADER_LEN, Header, Language, Reply, Request};

/// Plays the host on a connection that the thread to be warmed serves.
pub(crate) fn warm_up(mut host: UnixStream) -> io::Result<()> {
    send(
        &mut host,
        &Request::Hello {
            version: agent_proto::VERSION,
        },
    )?;
    read_reply(&mut host)?;
    for (language, code) in [(Language::Python, "print(1)"), (Language::Bash, "echo 1")] {
        let run = ExecRequest {
            language,
            run: 0,
            timeout_ms: None,
            traceparent: None,
            code: code.to_owned(),
        };
        send(&mut host, &Request::Exec(run))?;
        for expected in [Reply::Stdout(b"1\n".to_vec()), Reply::Exit(Exit { code: 0 })] {
            let got = read_reply(&mut host)?;
            if got != expected {
                return Err(io::Error::other(format!("{got:?} instead of {expected:?}")));
            }
        }
    }
    Ok(())
}

fn send(host: &mut UnixStream, request: &Request) -> io::Result<()> {
    host.write_all(&request.encode().map_err(io::Error::other)?)
}

fn read_reply(host: &mut UnixStream) -> io::Result<Reply> {
    let mut header = [0; HEADER_LEN];
    host.read_exact(&mut header)?;
    let header = Header::decode(header, Direction::GuestToHost).map_err(io::Error::other)?;
    let mut body = vec![0; header.body_len];
    host.read_exact(&mut body)?;
    Reply::decode(header.kind, body).map_err(io::Error::other)
}
