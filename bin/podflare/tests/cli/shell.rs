//! `podflare shell` on a pseudo-terminal, with a host that answers from a script.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use client::scripted::{Answer, Ending, Request, Scripted};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{Cli, ID};

const PTY: &str = "pty_0123456789abcdef0123456789abcdef";
const READY: &str = "{\"type\":\"pty_ready\",\"session_id\":\"pty_0123456789abcdef0123456789abcdef\"}\n";
const EXIT_7: &str = "{\"type\":\"pty_exit\",\"data\":7}\n";
const BOUND: Duration = Duration::from_secs(120);

/// A terminal with the command in it.
struct Terminal {
    child: Child,
    slave: OwnedFd,
    master: File,
    output: mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    fn start(cli: &Cli, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: 33,
            ws_col: 99,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut command = cli.command(arguments);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(command);
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (tell, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if tell.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            slave,
            master,
            output,
            seen: Vec::new(),
        }
    }

    #[track_caller]
    fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + BOUND;
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let piece = self.output.recv_timeout(left);
            let shown = String::from_utf8_lossy(&self.seen).into_owned();
            self.seen
                .extend(piece.unwrap_or_else(|_| panic!("waited in vain for {text:?}: {shown}")));
        }
    }

    fn types(&self, keys: &[u8]) {
        rustix::io::write(&self.master, keys).unwrap();
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    #[track_caller]
    fn becomes_raw(&self) {
        let deadline = Instant::now() + BOUND;
        while !self.is_raw() {
            assert!(
                Instant::now() < deadline,
                "waited in vain until the terminal is raw"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end; gives the status, after a check that the terminal is as it was.
    #[track_caller]
    fn ends(&mut self) -> i32 {
        let status = self.child.wait().unwrap();
        assert!(!self.is_raw(), "the terminal was left raw");
        status.code().expect("the command was killed by a signal")
    }
}

fn data(text: &str, seq: usize) -> String {
    let data = match text {
        "hello" => "aGVsbG8=",
        "again" => "YWdhaW4=",
        _ => panic!("no base64 of {text}"),
    };
    format!("{{\"type\":\"pty_data\",\"data_b64\":\"{data}\",\"seq\":{seq}}}\n")
}

/// Opens a terminal as told, and lets it be attached to as told.
fn host(
    create: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    attach: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> Scripted {
    let own = format!("/v1/sandboxes/{ID}/pty");
    let created = format!(
        r#"{{"id":"{ID}","state":"ready","template":"default","ram_mib":1024,"rootfs_gb":4,"vcpus":1,"created_at_ms":0}}"#
    );
    Scripted::start(move |request| match request.line() {
        line if line == format!("POST {own}") => create(request),
        line if line.starts_with(&format!("GET {own}/{PTY}/attach")) => attach(request),
        line if line.starts_with(&format!("POST {own}/{PTY}/")) => Answer::new(204, ""),
        line if line == format!("GET {own}") => Answer::new(
            200,
            &format!(
                r#"[{{"pty_id":"{PTY}","cmd_label":"top\u001b[2J","created_at_ms":1,"exit_code":null}}]"#
            ),
        ),
        line if line == "POST /v1/sandboxes" => Answer::new(200, &created),
        line if line.starts_with("DELETE") => Answer::new(204, ""),
        _ => Answer::new(404, r#"{"error":"pty not found","code":"pty_not_found"}"#),
    })
    .unwrap()
}

fn nothing(_: &Request) -> Answer {
    Answer::new(404, r#"{"error":"pty not found","code":"pty_not_found"}"#)
}

#[test]
fn output_is_shown_and_the_exit_code_passed_on() {
    let host = host(
        |_| Answer::stream(&(READY.to_owned() + &data("hello", 0) + EXIT_7), Ending::Chunked),
        nothing,
    );
    let mut terminal = Terminal::start(&Cli::with(&host), &["shell", ID, "--", "python3", "-i"]);
    terminal.sees("hello");
    assert_eq!(terminal.ends(), 7);
    let seen = host.seen();
    assert_eq!(
        seen.requests[0].body,
        r#"{"argv":["python3","-i"],"cols":99,"rows":33}"#
    );
    assert!(!seen.lines().iter().any(|line| line.starts_with("DELETE")));
}

#[test]
fn keys_go_to_the_program_and_the_detach_keys_leave_it() {
    let host = host(
        |_| Answer::stream(&(READY.to_owned() + &data("hello", 0)), Ending::Endless),
        nothing,
    );
    let mut terminal = Terminal::start(&Cli::with(&host), &["shell"]);
    terminal.sees("hello");
    terminal.becomes_raw();
    terminal.types(b"\x03x");
    let typed = |text: &'static str| {
        move |seen: &client::scripted::Seen| seen.requests.iter().any(|r| r.body.contains(text))
    };
    // Ctrl-C is a key like any other.
    host.wait_until(typed("A3g=")).expect("the keys were sent");
    terminal.types(b"\x10\x11");
    terminal.sees(&format!("podflare shell {ID} --attach {PTY}"));
    assert_eq!(terminal.ends(), 0);
    // The fresh sandbox is still there: its program goes on.
    let lines = host.seen().lines();
    assert!(!lines.iter().any(|line| line.starts_with("DELETE")), "{lines:?}");
    assert!(
        lines.contains(&format!("POST /v1/sandboxes/{ID}/pty/{PTY}/resize")),
        "{lines:?}"
    );
}

#[test]
fn a_stream_that_breaks_goes_on_where_it_broke() {
    let host = host(
        |_| Answer::stream(&(READY.to_owned() + &data("hello", 0)), Ending::Cut),
        |_| Answer::stream(&(data("again", 5) + EXIT_7), Ending::Chunked),
    );
    let mut terminal = Terminal::start(&Cli::with(&host), &["shell", ID]);
    terminal.sees("helloagain");
    assert_eq!(terminal.ends(), 7);
    let attach = format!("GET /v1/sandboxes/{ID}/pty/{PTY}/attach?since_seq=5");
    assert!(host.seen().lines().contains(&attach));
}

#[test]
fn a_signal_puts_the_terminal_back_and_removes_a_fresh_sandbox() {
    for (signal, status) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        let host = host(
            |_| Answer::stream(&(READY.to_owned() + &data("hello", 0)), Ending::Endless),
            nothing,
        );
        let mut terminal = Terminal::start(&Cli::with(&host), &["shell"]);
        terminal.sees("hello");
        terminal.becomes_raw();
        let pid = terminal.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(terminal.ends(), status);
        assert!(
            host.seen()
                .lines()
                .contains(&format!("DELETE /v1/sandboxes/{ID}"))
        );
    }
}

#[test]
fn what_cannot_be_opened_is_told_and_leaves_nothing() {
    let no_program = "{\"type\":\"pty_error\",\"message\":\"there is no program\"}\n";
    let host = host(move |_| Answer::stream(no_program, Ending::Chunked), nothing);
    let cli = Cli::with(&host);
    let mut terminal = Terminal::start(&cli, &["shell"]);
    terminal.sees("there is no program");
    assert_eq!(terminal.ends(), 125);
    assert!(
        host.seen()
            .lines()
            .contains(&format!("DELETE /v1/sandboxes/{ID}"))
    );
    let mut terminal = Terminal::start(&cli, &["shell", ID, "--attach", PTY]);
    terminal.sees("pty not found");
    assert_eq!(terminal.ends(), 125);
    let piped = cli.run(&["shell", ID]);
    assert_eq!(piped.status, 125);
    assert!(piped.stderr.contains("standard input is none"), "{piped:?}");
    let wrong = cli.run(&["shell", ID, "--detach-keys", "ctrl-"]);
    assert_eq!(wrong.status, 2);
    assert!(wrong.stderr.contains("is no key"), "{wrong:?}");
}

#[test]
fn terminals_are_listed_without_their_escape_sequences() {
    let host = host(nothing, nothing);
    let cli = Cli::with(&host);
    let words = cli.run(&["shell", ID, "--list"]);
    assert!(words.stdout.contains(PTY) && words.stdout.contains("running") && words.stdout.contains("top"));
    assert!(!words.stdout.contains('\x1b'));
    let json: serde_json::Value =
        serde_json::from_str(&cli.run(&["shell", ID, "--list", "--json"]).stdout).unwrap();
    assert_eq!(json["terminals"][0]["pty_id"], PTY);
}
