//! Runs a program to its end, or kills it when its time is up.

use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Most bytes kept of what a program writes to each of its outputs.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// How often an unfinished program is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What became of a program.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None` when its time was up and it was killed.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` without input, for at most `limit`.
pub(crate) fn run(mut command: Command, limit: Duration) -> io::Result<Finished> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(POLL);
    };
    // A grandchild may hold the pipes open for ever; what a killed program wrote is then not waited for.
    let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| match reader {
        Some(reader) if status.is_some() || reader.is_finished() => {
            String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
        }
        _ => String::new(),
    };
    Ok(Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        // What is beyond the bound is read and dropped, so that the program does not block on it.
        if pipe
            .by_ref()
            .take(OUTPUT_BYTES_MAX)
            .read_to_end(&mut kept)
            .is_ok()
        {
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_status_of_a_program_that_ends_are_returned() {
        let finished = run(sh("echo out; echo err >&2; exit 3"), Duration::from_secs(120)).unwrap();
        assert_eq!(finished.status.unwrap().code(), Some(3));
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str()),
            ("out\n", "err\n")
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_in_time() {
        let started = Instant::now();
        let finished = run(sh("exec sleep 600"), Duration::from_millis(100)).unwrap();
        assert!(finished.status.is_none());
        assert!(started.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn a_program_that_writes_too_much_is_not_blocked_by_it() {
        let finished = run(sh("head -c 1000000 /dev/zero"), Duration::from_secs(120)).unwrap();
        assert_eq!(finished.status.unwrap().code(), Some(0));
        assert_eq!(finished.stdout.len() as u64, OUTPUT_BYTES_MAX);
    }
}
