//! A host that answers from a script: real TCP, real HTTP/1.1, no sandboxes. For tests.
//!
//! The script is a function from a request to an [`Answer`]. Every request is recorded, and so is every client that
//! went away in the middle of a stream, because that is how a run is cancelled.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between the heartbeats of a stream that never ends; a real host's are 10 s apart.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(20);

/// A test that has not seen what it waits for by now has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// What the script says.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub ending: Ending,
}

/// How an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With `Content-Length`, whole.
    Whole,
    /// Chunked, and complete.
    Chunked,
    /// Chunked, and the connection is closed before the last chunk.
    Cut,
    /// Chunked, and after the body come heartbeats until the client goes away.
    Endless,
}

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub requests: Vec<Request>,
    /// Clients that closed an endless stream.
    pub gone: usize,
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

impl Request {
    /// A header's value; the name is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Method and path in one text, handy to match on.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Answer {
    #[must_use]
    pub fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            body: body.to_owned(),
            ending: Ending::Whole,
        }
    }

    /// A stream of lines.
    #[must_use]
    pub fn stream(body: &str, ending: Ending) -> Self {
        Self {
            status: 200,
            body: body.to_owned(),
            ending,
        }
    }
}

impl Seen {
    /// Method and path of each request so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.requests.iter().map(Request::line).collect()
    }
}

impl Scripted {
    /// Starts on a free loopback port.
    ///
    /// # Errors
    /// When the kernel gives no port.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let script: Arc<Script> = Arc::new(script);
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::Acquire) {
                    break;
                }
                let (shared, script) = (Arc::clone(&accepting), Arc::clone(&script));
                thread::spawn(move || serve(&stream, &*script, &shared));
            }
        });
        Ok(Self { address, shared })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared.lock().clone()
    }

    /// Waits until what has happened satisfies the condition; `None` when it did not within two minutes.
    #[must_use]
    pub fn wait_until(&self, condition: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.shared.lock();
        while !condition(&seen) {
            let left = deadline.checked_duration_since(Instant::now())?;
            seen = self
                .shared
                .changed
                .wait_timeout(seen, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Some(seen.clone())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Answers the requests of one connection until the client closes it or an answer's ending does.
fn serve(stream: &TcpStream, script: &Script, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some(request)) = read_request(&mut reader) {
        let answer = script(&request);
        shared.record(|seen| seen.requests.push(request));
        match write_answer(stream, &answer, shared) {
            Ok(()) if answer.ending != Ending::Cut => {}
            Ok(()) | Err(_) => break,
        }
    }
    if shared.stopped.load(Ordering::Acquire) {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked")
    {
        let body = read_chunks(reader)?;
        return Ok(Some(Request {
            method,
            path,
            headers,
            body,
        }));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    Ok(Some(Request {
        method,
        path,
        headers,
        body,
    }))
}

/// A body whose end is not known before.
fn read_chunks(reader: &mut impl BufRead) -> io::Result<String> {
    let mut body = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        reader.by_ref().take(length).read_to_string(&mut body)?;
        reader.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn write_answer(mut stream: &TcpStream, answer: &Answer, shared: &Shared) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {} Scripted\r\n", answer.status)?;
    match answer.ending {
        Ending::Whole => write!(
            stream,
            "content-length: {}\r\n\r\n{}",
            answer.body.len(),
            answer.body
        ),
        Ending::Chunked => {
            write!(stream, "transfer-encoding: chunked\r\n\r\n")?;
            write_chunk(stream, &answer.body)?;
            stream.write_all(b"0\r\n\r\n")
        }
        Ending::Cut => {
            write!(stream, "transfer-encoding: chunked\r\n\r\n")?;
            write_chunk(stream, &answer.body)
        }
        Ending::Endless => {
            let written = write_endlessly(stream, &answer.body, shared);
            if written.is_err() {
                shared.record(|seen| seen.gone += 1);
            }
            written
        }
    }
}

/// Until the caller goes away, which may be before it has read the body.
fn write_endlessly(mut stream: &TcpStream, body: &str, shared: &Shared) -> io::Result<()> {
    write!(stream, "transfer-encoding: chunked\r\n\r\n")?;
    write_chunk(stream, body)?;
    while !shared.stopped.load(Ordering::Acquire) {
        write_chunk(stream, "\n")?;
        thread::sleep(HEARTBEAT_EVERY);
    }
    Ok(())
}

fn write_chunk(mut stream: &TcpStream, data: &str) -> io::Result<()> {
    if data.is_empty() {
        Ok(())
    } else {
        write!(stream, "{:x}\r\n{data}\r\n", data.len())
    }
}
