//! The supervisor with real processes: a script in place of the host daemon, and the test as its API.

use super::*;
use crate::operate::{self, Observed};
use crate::plan::HardwarePlan;
use crate::settings::Limits;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicUsize};

/// A host under test; its supervisor runs in a thread and is stopped by a flag instead of a signal.
struct Fixture {
    directory: tempfile::TempDir,
    settings: Settings,
    stops_asked: Arc<AtomicUsize>,
    well: Arc<AtomicBool>,
}

/// A free port that is none of those the kernel gives to whoever asks for any, or somebody would get it meanwhile.
fn port_for_later() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1000).unwrap() * 10;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::SeqCst)) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = port_for_later();
        let run_dir = directory.path().join("run");
        let settings = Settings {
            port,
            limits,
            ..crate::settings::tests::settings(&run_dir)
        };
        Self {
            directory,
            settings,
            stops_asked: Arc::default(),
            well: Arc::new(AtomicBool::new(true)),
        }
    }

    fn plan(&self, script: &str) -> Plan {
        let hostd = self.directory.path().join("hostd");
        fs::write(&hostd, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&hostd, fs::Permissions::from_mode(0o755)).unwrap();
        let nothing = self.directory.path().join("nothing");
        Plan::Hardware(HardwarePlan {
            hostd,
            vmm: nothing.clone(),
            netd: nothing.clone(),
            authority: nothing.clone(),
            guest_initrd: nothing.clone(),
            images: nothing,
            vcpus: 2,
        })
    }

    fn supervise(&self, plan: Plan) -> thread::JoinHandle<Result<End, SuperviseError>> {
        let (settings, asked) = (self.settings.clone(), Arc::clone(&self.stops_asked));
        thread::spawn(move || {
            run(&settings, &plan, "a test", |_| {
                thread::sleep(Duration::from_millis(5));
                let pending = asked.load(Ordering::SeqCst) > 0;
                if pending && asked.fetch_sub(1, Ordering::SeqCst) > 0 {
                    Wake::StopAsked
                } else {
                    Wake::Nothing
                }
            })
        })
    }

    /// Answers on the port from when the host is being started, as before that the port must be free.
    fn serve(&self) {
        self.wait_for("a status", |_| true);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.settings.port)).unwrap();
        let well = Arc::clone(&self.well);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 512]);
                if well.load(Ordering::SeqCst) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok");
                }
            }
        });
    }

    #[track_caller]
    fn wait_for(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        let path = self.settings.run_dir.join("status.json");
        let deadline = Instant::now() + Duration::from_secs(120);
        while Instant::now() < deadline {
            if let Some(status) = Status::read(Path::new(&path)).filter(&condition) {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!(
            "waited 120 s for {what}; the status is {:?}",
            Status::read(Path::new(&path))
        );
    }

    fn ask_to_stop(&self) {
        self.stops_asked.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_host_that_dies_is_started_again_and_stops_when_asked() {
    let fixture = Fixture::new(Limits {
        restart_delay: Duration::from_millis(50),
        ..Limits::default()
    });
    let supervisor = fixture.supervise(fixture.plan("exec tail -f /dev/null"));
    fixture.serve();
    let running = fixture.wait_for("running", |status| status.state == State::Running);
    let process = running.process.unwrap();
    assert!(running.boot_ms.is_some());

    process.signal(Signal::SIGKILL).unwrap();
    let again = fixture.wait_for("running again", |status| {
        status.state == State::Running && status.restarts == 1
    });
    assert_ne!(again.process, Some(process));
    assert!(again.last_error.unwrap().contains("killed by signal 9"));

    let observed = operate::status(&fixture.settings.run_dir).unwrap();
    assert!(matches!(observed, Observed::Supervised(_)), "{observed:?}");
    fixture.ask_to_stop();
    assert_eq!(supervisor.join().unwrap().unwrap(), End::Stopped);
    assert!(!again.process.unwrap().is_alive());
    fixture.wait_for("stopped", |status| status.state == State::Stopped);
    let observed = operate::status(&fixture.settings.run_dir).unwrap();
    assert!(matches!(observed, Observed::NotRunning { .. }), "{observed:?}");
}

#[test]
fn a_host_that_goes_silent_is_killed_and_started_again() {
    let limits = Limits {
        // Longer than it takes a busy machine to answer.
        silence: Duration::from_secs(3),
        ..Limits::default()
    };
    let fixture = Fixture::new(limits);
    let supervisor = fixture.supervise(fixture.plan("exec tail -f /dev/null"));
    fixture.serve();
    fixture.wait_for("running", |status| status.state == State::Running);
    fixture.well.store(false, Ordering::SeqCst);
    let status = fixture.wait_for("a restart", |status| status.restarts >= 1);
    assert!(status.last_error.unwrap().contains("did not answer"));
    fixture.well.store(true, Ordering::SeqCst);
    fixture.wait_for("running again", |status| status.state == State::Running);
    fixture.ask_to_stop();
    assert_eq!(supervisor.join().unwrap().unwrap(), End::Stopped);
}

#[test]
fn a_host_that_never_comes_up_fails_with_what_it_said() {
    let fixture = Fixture::new(Limits {
        restart_delay: Duration::from_millis(10),
        ..Limits::default()
    });
    let end = fixture
        .supervise(fixture.plan("echo no images here; exit 4"))
        .join()
        .unwrap()
        .unwrap();
    let End::Failed(why) = end else { panic!("{end:?}") };
    assert!(
        why.contains("status 4") && why.contains("no images here"),
        "{why}"
    );
    let status = fixture.wait_for("failed", |status| status.state == State::Failed);
    assert_eq!(status.retries, 2);
}

#[test]
fn a_host_that_ignores_the_request_to_stop_is_killed() {
    let fixture = Fixture::new(Limits {
        stop: Duration::from_millis(200),
        ..Limits::default()
    });
    let supervisor = fixture.supervise(fixture.plan("trap '' TERM; while :; do sleep 0.1; done"));
    fixture.serve();
    let status = fixture.wait_for("running", |status| status.state == State::Running);
    fixture.ask_to_stop();
    assert_eq!(supervisor.join().unwrap().unwrap(), End::Stopped);
    assert!(!status.process.unwrap().is_alive());
}

#[test]
fn a_host_left_behind_by_a_killed_supervisor_is_ended_first() {
    let fixture = Fixture::new(Limits::default());
    let run_dir = RunDir::open(&fixture.settings.run_dir).unwrap();
    let plan = fixture.plan("while :; do sleep 0.1; done");
    let mut orphan = plan.spawn(&fixture.settings, &run_dir).unwrap();
    let process = ProcessId::of(orphan.id().cast_signed()).unwrap();
    let reaper = thread::spawn(move || orphan.wait());
    // A new process shows what it is only once it executes its program.
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let observed = operate::status(run_dir.root()).unwrap();
        if matches!(&observed, Observed::Abandoned { processes } if processes.contains(&process)) {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "waited 120 s for the host left behind to be seen: {observed:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }

    let supervisor = fixture.supervise(plan);
    fixture.serve();
    fixture.wait_for("running", |status| status.state == State::Running);
    assert!(!process.is_alive());
    reaper.join().unwrap().unwrap();

    let busy = run(&fixture.settings, &fixture.plan("exit 0"), "a test", |_| {
        Wake::Nothing
    })
    .unwrap_err();
    assert!(
        ErrorChain(&busy).to_string().contains("podflare down"),
        "{busy:?}"
    );
    fixture.ask_to_stop();
    assert_eq!(supervisor.join().unwrap().unwrap(), End::Stopped);
}

#[test]
fn a_taken_port_is_told_before_anything_starts() {
    let fixture = Fixture::new(Limits::default());
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, fixture.settings.port)).unwrap();
    let error = fixture
        .supervise(fixture.plan("exit 0"))
        .join()
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(error, SuperviseError::Port(PortError::TakenBy { .. })),
        "{error:?}"
    );
}

#[test]
fn a_host_can_be_asked_to_end_whatever_signals_the_supervisor_takes() {
    let signals = Signals::listen().unwrap();
    let fixture = Fixture::new(Limits::default());
    let run_dir = RunDir::open(&fixture.settings.run_dir).unwrap();
    let mut child = fixture
        .plan("exec tail -f /dev/null")
        .spawn(&fixture.settings, &run_dir)
        .unwrap();
    ProcessId::of(child.id().cast_signed())
        .unwrap()
        .signal(Signal::SIGTERM)
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        assert!(
            Instant::now() < deadline,
            "waited 120 s for the host to end by SIGTERM"
        );
        assert_eq!(signals.wait(PollTimeout::from(TICK_MS)), Wake::Nothing);
    }
}
