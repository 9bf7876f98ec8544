//! A process of its own confines itself and tries; what it cannot take back would be in the way of other tests.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::{env, fs, thread};

use nix::ifaddrs::getifaddrs;
use rustix::net::{AddressFamily, SocketType, socket};

const DIRECTORY: &str = "PODFLARE_TEST_CONFINED";

/// What is to be possible, and what not: names, and whether they worked.
fn attempts(directory: &Path, outside: std::net::SocketAddr) -> Vec<(&'static str, bool)> {
    let ok = |result: io::Result<()>| result.is_ok();
    let raw = |family, kind| socket(family, kind, None).is_ok();
    vec![
        (
            "reads a file that it may",
            fs::read(directory.join("may/hosts")).is_ok(),
        ),
        ("connects", ok(TcpStream::connect(outside).map(drop))),
        ("makes pairs", ok(UnixStream::pair().map(drop))),
        (
            "makes datagram sockets",
            raw(AddressFamily::INET6, SocketType::DGRAM),
        ),
        (
            "lists addresses",
            getifaddrs().is_ok_and(|mut all| all.next().is_some()),
        ),
        ("allocates", vec![1_u8; 64 << 20].iter().all(|byte| *byte == 1)),
        (
            "NOT reads another file",
            File::open(directory.join("secret")).is_ok(),
        ),
        (
            "NOT reads about itself, by Landlock",
            File::open("/proc/self/environ").is_ok(),
        ),
        (
            "NOT makes a file",
            File::create(directory.join("may/new")).is_ok(),
        ),
        (
            "NOT writes a file that it may read",
            File::options()
                .write(true)
                .open(directory.join("may/hosts"))
                .is_ok(),
        ),
        (
            "NOT removes a file",
            fs::remove_file(directory.join("may/hosts")).is_ok(),
        ),
        (
            "NOT lists a directory",
            fs::read_dir(directory.join("may")).is_ok(),
        ),
        (
            "NOT runs a program",
            ok(Command::new("/bin/true").status().map(drop)),
        ),
        (
            "NOT starts a thread",
            ok(thread::Builder::new().spawn(|| ()).map(drop)),
        ),
        ("NOT listens", ok(TcpListener::bind("127.0.0.1:0").map(drop))),
        (
            "NOT waits for datagrams",
            ok(UdpSocket::bind("127.0.0.1:0").map(drop)),
        ),
        (
            "NOT talks to other programs here",
            raw(AddressFamily::UNIX, SocketType::STREAM),
        ),
        ("NOT sees packets", raw(AddressFamily::PACKET, SocketType::RAW)),
        ("NOT makes up packets", raw(AddressFamily::INET, SocketType::RAW)),
    ]
}

/// Not a test: what the test below runs, in another process.
#[test]
#[ignore = "run by another test"]
fn confined_process() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = listener.local_addr().unwrap();
    super::rights::drop_all(None, None).unwrap();
    let has_landlock = super::files::keep_to(&[&directory.join("may/hosts")]).unwrap();
    // As the thread for secrets is.
    let (mut ours, mut its) = UnixStream::pair().unwrap();
    let other = thread::spawn(move || {
        its.read_exact(&mut [0]).unwrap();
        File::open("/proc/self/environ").is_ok()
    });
    super::give_up_system_calls().unwrap();
    for (name, worked) in attempts(directory, outside) {
        if name.ends_with("by Landlock") && !has_landlock {
            continue;
        }
        let wanted = !name.starts_with("NOT");
        println!("{name}: {}", if worked == wanted { "as wanted" } else { "WRONG" });
    }
    ours.write_all(b"!").unwrap();
    println!(
        "other threads: {}",
        if other.join().unwrap() {
            "WRONG"
        } else {
            "as wanted"
        }
    );
    println!("done");
}

#[test]
fn a_confined_process_reads_its_files_and_reaches_the_outside_and_can_do_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("may")).unwrap();
    fs::write(directory.path().join("may/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(directory.path().join("secret"), "secret").unwrap();
    let done = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "confine::tests::confined_process",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        said.contains("\ndone"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(!said.contains("WRONG"), "{said}");
}

#[test]
fn an_abort_is_still_seen_as_one() {
    // The list has the call by which a process kills itself; without it an abort would end in an endless loop of the C
    // library's attempts.
    let done = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "confine::tests::aborting_process",
            "--ignored",
            "--nocapture",
        ])
        .env(DIRECTORY, "/")
        .output()
        .unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(done.status.signal(), Some(libc::SIGABRT), "{done:?}");
}

/// Not a test either.
#[test]
#[ignore = "run by another test"]
fn aborting_process() {
    if env::var_os(DIRECTORY).is_some() {
        super::give_up_rights(None, None, &[]).unwrap();
        super::give_up_system_calls().unwrap();
        std::process::abort();
    }
}
