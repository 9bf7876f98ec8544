//! The control channel into the software host: one line per message over its second serial port.
//!
//! A request is `id verb base64-argument`, an answer `id status base64-output`. A serial line carries noise: what
//! is left of an earlier conversation, an echo, half a line. So a request starts with a line break, its id is new,
//! and everything but the answer to it is skipped. The machine is not trusted: its answer is bounded.
//!
//! One connection is served at a time; another one waits until the first is closed.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::run_dir::RunDir;

/// Longest request, in bytes: well within what the machine's terminal buffers while its shell reads.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Longest answer, in bytes; the machine sends 64 KiB of output at most, in base64.
const ANSWER_BYTES_MAX: usize = 128 << 10;
/// How often a waiting request asks whether it should go on.
const SLICE: Duration = Duration::from_millis(250);

/// What the machine can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Ping,
    /// End everything in order and power off.
    PowerOff,
    /// Memory, load and processes, as text.
    Stats,
    /// Run a shell command for at most this long.
    Execute {
        command: &'a str,
        limit: Duration,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Exit status, 0 for success; 143 when a command was ended because its time was up.
    pub status: i32,
    /// What was printed, at most 64 KiB.
    pub output: Vec<u8>,
}

/// Why the machine did not answer.
#[derive(Debug, Error)]
pub enum ControlError {
    #[error("cannot reach the software host's control channel; is it running?")]
    Connect(#[source] io::Error),
    #[error("the control channel broke")]
    Broken(#[source] io::Error),
    #[error("the software host closed the control channel, so it has ended")]
    Closed,
    #[error("the software host did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the software host is being stopped")]
    Stopping,
    #[error("a command of {bytes} bytes is too long; {REQUEST_BYTES_MAX} are the most")]
    TooLong { bytes: usize },
    #[error("the software host answered with more than {ANSWER_BYTES_MAX} bytes")]
    TooMuch,
}

/// Sends a request and waits for its answer, unless `go_on` says otherwise meanwhile.
pub(crate) fn ask(
    run_dir: &RunDir,
    request: &Request<'_>,
    limit: Duration,
    mut go_on: impl FnMut() -> bool,
) -> Result<Answer, ControlError> {
    let id = new_id();
    let line = encode(&id, request)?;
    let connected = run_dir.connect(&run_dir.control_socket());
    let mut stream = connected.map_err(ControlError::Connect)?;
    let deadline = Instant::now() + limit;
    let prepared = stream
        .set_read_timeout(Some(SLICE))
        .and_then(|()| stream.set_write_timeout(Some(limit)));
    prepared
        .and_then(|()| stream.write_all(line.as_bytes()))
        .map_err(ControlError::Broken)?;
    let mut received = Vec::new();
    let mut part = [0; 4096];
    loop {
        if Instant::now() >= deadline {
            return Err(ControlError::Silent(limit));
        }
        if !go_on() {
            return Err(ControlError::Stopping);
        }
        match stream.read(&mut part) {
            Ok(0) => return Err(ControlError::Closed),
            Ok(len) => received.extend_from_slice(&part[..len]),
            Err(error) if is_pause(&error) => continue,
            Err(error) => return Err(ControlError::Broken(error)),
        }
        if let Some(answer) = find_answer(&mut received, &id) {
            return Ok(answer);
        }
        if received.len() > ANSWER_BYTES_MAX {
            return Err(ControlError::TooMuch);
        }
    }
}

pub(crate) fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Differs from the ids of earlier conversations, of which an answer may still be on the line.
fn new_id() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("r{:x}p{:x}", since.as_nanos(), std::process::id())
}

fn encode(id: &str, request: &Request<'_>) -> Result<String, ControlError> {
    let (verb, argument) = match request {
        Request::Ping => ("ping", String::new()),
        Request::PowerOff => ("poweroff", String::new()),
        Request::Stats => ("stats", String::new()),
        Request::Execute { command, limit } => ("exec", format!("{} {command}", limit.as_secs().max(1))),
    };
    let line = format!("\n{id} {verb} {}\n", STANDARD.encode(argument));
    if line.len() > REQUEST_BYTES_MAX {
        return Err(ControlError::TooLong { bytes: line.len() });
    }
    Ok(line)
}

/// Takes whole lines off `received` until one is the answer.
fn find_answer(received: &mut Vec<u8>, id: &str) -> Option<Answer> {
    while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = received.drain(..=end).collect();
        if let Some(answer) = parse_answer(&line, id) {
            return Some(answer);
        }
    }
    None
}

fn parse_answer(line: &[u8], id: &str) -> Option<Answer> {
    let line = std::str::from_utf8(line).ok()?.trim();
    let mut words = line.split(' ');
    if words.next() != Some(id) {
        return None;
    }
    let status = words.next()?.parse().ok()?;
    let output = STANDARD.decode(words.next().unwrap_or_default()).ok()?;
    Some(Answer { status, output })
}

/// Feeds bytes from a machine to the parser of answers.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz_answers(data: &[u8]) {
    let mut received = data.to_vec();
    while find_answer(&mut received, "r1").is_some() {}
    assert!(!received.contains(&b'\n'), "whole lines are consumed");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;
    use std::thread;

    fn answer(status: i32, output: &[u8]) -> Answer {
        Answer {
            status,
            output: output.to_vec(),
        }
    }

    #[test]
    fn an_answer_is_found_among_noise_an_echo_and_an_older_answer() {
        let mut received = b"\x00\xffboot\nr2 ping \nr1 0 b2xk\r\nr2 exec !!\nr2 7 aGk=\r\nrest".to_vec();
        assert_eq!(find_answer(&mut received, "r2"), Some(answer(7, b"hi")));
        assert_eq!(received, b"rest");
        assert_eq!(find_answer(&mut received, "r2"), None);
    }

    #[test]
    fn a_command_is_one_word_on_the_line_whatever_is_in_it() {
        let request = Request::Execute {
            command: "echo a\nreboot",
            limit: Duration::from_secs(5),
        };
        let line = encode("r9", &request).unwrap();
        let words: Vec<&str> = line.trim().split(' ').collect();
        assert_eq!(words[..2], ["r9", "exec"]);
        assert_eq!(STANDARD.decode(words[2]).unwrap(), b"5 echo a\nreboot");
        let long = "x".repeat(REQUEST_BYTES_MAX);
        let request = Request::Execute {
            command: &long,
            limit: Duration::ZERO,
        };
        assert!(matches!(
            encode("r9", &request),
            Err(ControlError::TooLong { .. })
        ));
    }

    #[test]
    fn a_conversation_works_in_a_directory_with_a_very_long_path() {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(&directory.path().join("x".repeat(200))).unwrap();
        let at = File::open(run_dir.root()).unwrap();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/control.sock", at.as_raw_fd())).unwrap();
        let machine = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.map(Result::unwrap).find(|line| !line.is_empty()).unwrap();
            let (id, verb) = request.trim().split_once(' ').unwrap();
            assert_eq!(verb, "ping");
            write!(stream, "noise\n{id} 0 {}\n", STANDARD.encode("pong")).unwrap();
            let second = listener.accept().unwrap();
            (stream, second)
        });
        let limit = Duration::from_secs(10);
        assert_eq!(
            ask(&run_dir, &Request::Ping, limit, || true).unwrap(),
            answer(0, b"pong")
        );
        let error = ask(&run_dir, &Request::Ping, limit, || false).unwrap_err();
        assert!(matches!(error, ControlError::Stopping), "{error:?}");
        machine.join().unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(data: Vec<u8>, lines in "(r1 -?[0-9]{0,12} [a-zA-Z0-9+/=]{0,20}\n){0,4}") {
            fuzz_answers(&data);
            fuzz_answers(lines.as_bytes());
        }

        #[test]
        fn answers_survive_the_way(status: i32, output: Vec<u8>) {
            let line = format!("r1 {status} {}\n", STANDARD.encode(&output));
            prop_assert_eq!(find_answer(&mut line.into_bytes(), "r1"), Some(answer(status, &output)));
        }
    }
}
