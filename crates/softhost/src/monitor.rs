//! QEMU's own control socket (QMP): JSON, one object a line.
//!
//! QEMU serves one connection at a time; another one waits for its greeting until the first is closed. It speaks
//! unasked too (events), which is skipped. The machine inside has no part in what is said here, yet QEMU emulates it,
//! so answers are bounded and have deadlines like the machine's own.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thiserror::Error;

use crate::control::is_pause;
use crate::run_dir::RunDir;

/// How long QEMU may take for an answer. It is busy emulating, and may be kept from its processor.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a wait looks at the time.
const SLICE: Duration = Duration::from_millis(250);
/// Longest line, in bytes; what we ask for has answers of a few hundred.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Why QEMU did not do what it was asked for.
#[derive(Debug, Error)]
pub enum MonitorError {
    #[error("cannot reach the software host's monitor; is it running?")]
    Connect(#[source] io::Error),
    #[error("the monitor's connection broke")]
    Broken(#[source] io::Error),
    #[error("the software host closed its monitor, so it has ended")]
    Closed,
    #[error("the monitor did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the monitor answers with more than {LINE_BYTES_MAX} bytes")]
    TooMuch,
    #[error("the monitor does not speak its protocol")]
    Protocol,
    #[error("the monitor refused {command}: {reason}")]
    Refused { command: String, reason: String },
}

#[derive(Debug)]
pub(crate) struct Monitor {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Monitor {
    /// Connects, and waits until it is our turn.
    pub(crate) fn connect(run_dir: &RunDir) -> Result<Self, MonitorError> {
        let stream = run_dir.connect(&run_dir.monitor_socket());
        Self::greet(stream.map_err(MonitorError::Connect)?)
    }

    fn greet(stream: UnixStream) -> Result<Self, MonitorError> {
        let prepared = stream.set_read_timeout(Some(SLICE));
        prepared
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(MonitorError::Broken)?;
        let mut monitor = Self {
            stream,
            received: Vec::new(),
        };
        let greeting = monitor.line(Instant::now() + PATIENCE)?;
        if greeting.get("QMP").is_none() {
            return Err(MonitorError::Protocol);
        }
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Asks for one thing and waits until it is done.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<(), MonitorError> {
        let request = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        let written = self.stream.write_all(request.as_bytes());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => MonitorError::Closed,
            _ => MonitorError::Broken(error),
        })?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.line(deadline)?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                return Err(MonitorError::Refused {
                    command: command.to_owned(),
                    reason: error["desc"].as_str().unwrap_or("without a reason").to_owned(),
                });
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<Value, MonitorError> {
        let mut part = [0; 4096];
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|_| MonitorError::Protocol);
            }
            if self.received.len() > LINE_BYTES_MAX {
                return Err(MonitorError::TooMuch);
            }
            if Instant::now() >= deadline {
                return Err(MonitorError::Silent);
            }
            match self.stream.read(&mut part) {
                Ok(0) => return Err(MonitorError::Closed),
                Ok(len) => self.received.extend_from_slice(&part[..len]),
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(MonitorError::Broken(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::thread;

    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

    /// A QEMU that says `lines` in answer to each request in turn; gives what it was asked.
    fn spoken(greeting: &str, answers: &'static [&str]) -> (UnixStream, thread::JoinHandle<Vec<Value>>) {
        let (ours, mut its) = UnixStream::pair().unwrap();
        its.write_all(format!("{greeting}\r\n").as_bytes()).unwrap();
        let serving = thread::spawn(move || {
            let mut asked = Vec::new();
            let mut lines = BufReader::new(its.try_clone().unwrap()).lines();
            for answer in answers {
                let Some(Ok(line)) = lines.next() else { break };
                asked.push(serde_json::from_str(&line).unwrap());
                its.write_all(format!("{answer}\r\n").as_bytes()).unwrap();
            }
            asked
        });
        (ours, serving)
    }

    #[test]
    fn events_between_a_question_and_its_answer_are_skipped() {
        let answers = &[
            r#"{"return": {}}"#,
            "{\"event\": \"RTC_CHANGE\", \"data\": {}}\r\n{\"return\": {}}",
        ];
        let (ours, serving) = spoken(GREETING, answers);
        let mut monitor = Monitor::greet(ours).unwrap();
        monitor.execute("object-del", &json!({"id": "a"})).unwrap();
        let asked = serving.join().unwrap();
        assert_eq!(asked[0]["execute"], "qmp_capabilities");
        assert_eq!(
            asked[1],
            json!({"execute": "object-del", "arguments": {"id": "a"}})
        );
    }

    #[test]
    fn a_refusal_says_what_was_refused_and_why_and_an_end_is_told_from_silence() {
        let answers = &[
            r#"{"return": {}}"#,
            r#"{"error": {"class": "GenericError", "desc": "object 'a' not found"}}"#,
        ];
        let (ours, _) = spoken(GREETING, answers);
        let mut monitor = Monitor::greet(ours).unwrap();
        let error = monitor.execute("object-del", &json!({"id": "a"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the monitor refused object-del: object 'a' not found"
        );
        let error = monitor.execute("object-del", &json!({"id": "a"})).unwrap_err();
        assert!(
            matches!(error, MonitorError::Closed | MonitorError::Broken(_)),
            "{error:?}"
        );
    }

    #[test]
    fn what_is_no_monitor_is_refused_and_an_endless_line_too() {
        let (ours, _) = spoken("{}", &[]);
        assert!(matches!(Monitor::greet(ours), Err(MonitorError::Protocol)));
        let (ours, mut its) = UnixStream::pair().unwrap();
        let flooding = thread::spawn(move || while its.write_all(&[b'x'; 4096]).is_ok() {});
        assert!(matches!(Monitor::greet(ours), Err(MonitorError::TooMuch)));
        flooding.join().unwrap();
    }
}
