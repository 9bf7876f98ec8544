//! What listens, and connections to it through the agent.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;

use agent_proto::{FailureCode, Listening, PortReply, PortRequest, Reply, Request};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use crate::rig::{BOUND, Host, Rig, eventually};

impl Host {
    #[track_caller]
    fn listening(&mut self) -> Vec<Listening> {
        self.send(&Request::Port(PortRequest::List));
        match self.reply() {
            Reply::Port(PortReply::Listening(list)) => list,
            other => panic!("{other:?} instead of a list"),
        }
    }

    fn connect(&mut self, port: u16) -> Reply {
        self.send(&Request::Port(PortRequest::Connect { port }));
        self.reply()
    }

    fn rest_of_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream().read_to_end(&mut bytes).unwrap();
        bytes
    }
}

fn server(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

/// A port that nobody listens on, nor can while this is held.
fn quiet_port() -> (OwnedFd, u16) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address.port())
}

#[test]
fn what_listens_is_listed_with_its_process() {
    let rig = Rig::new();
    let (_listener, port) = server("127.0.0.1:0");
    let mut host = rig.host();
    let list = host.listening();
    let ours: Vec<_> = list.iter().filter(|entry| entry.port == port).collect();
    assert_eq!(ours.len(), 1, "{list:?}");
    assert!(ours[0].address.is_loopback());
    let process = ours[0].process.as_ref().unwrap();
    assert_eq!(process.pid, std::process::id());
    assert!(!process.command.is_empty());
    // The connection is free for other requests.
    host.python("1 + 1").says("2\n");
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_on_its_own() {
    let rig = Rig::new();
    let (listener, port) = server("127.0.0.1:0");
    let program = thread::spawn(move || {
        let mut stream = accept(&listener);
        // It speaks first.
        stream.write_all(b"hello ").unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        stream.write_all(&question).unwrap();
        question
    });
    let mut host = rig.host();
    assert_eq!(host.connect(port), Reply::Done);
    host.send_bytes(b"question");
    host.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(host.rest_of_bytes(), b"hello question");
    assert_eq!(program.join().unwrap(), b"question");
}

#[test]
fn a_program_that_has_said_all_still_hears() {
    let rig = Rig::new();
    let (listener, port) = server("127.0.0.1:0");
    let program = thread::spawn(move || {
        let mut stream = accept(&listener);
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let mut host = rig.host();
    assert_eq!(host.connect(port), Reply::Done);
    assert_eq!(host.rest_of_bytes(), b"bye");
    host.send_bytes(b"still here");
    drop(host);
    assert_eq!(program.join().unwrap(), b"still here");
}

#[test]
fn many_bytes_arrive_whole_in_both_directions_at_once() {
    const BYTES: usize = 20_000_000;
    let rig = Rig::new();
    let (listener, port) = server("127.0.0.1:0");
    let program = thread::spawn(move || {
        let mut stream = accept(&listener);
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&pattern(BYTES)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        writing.join().unwrap();
        all
    });
    let mut host = rig.host();
    assert_eq!(host.connect(port), Reply::Done);
    let mut writer = host.stream().try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&pattern(BYTES)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(host.rest_of_bytes() == pattern(BYTES));
    writing.join().unwrap();
    assert!(program.join().unwrap() == pattern(BYTES));
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251).to_le_bytes()[0]).collect()
}

#[test]
fn a_program_that_does_not_read_holds_up_the_host_and_nobody_else() {
    let rig = Rig::new();
    let (listener, port) = server("127.0.0.1:0");
    let mut host = rig.host();
    assert_eq!(host.connect(port), Reply::Done);
    let program = accept(&listener);
    host.stream().set_nonblocking(true).unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0_usize;
    // Buffers on the way are bounded: soon nothing more is taken, and nothing more after a while either.
    let mut quiet = 0;
    while quiet < 20 {
        match host.stream().write(&piece) {
            Ok(count) => (sent, quiet) = (sent + count, 0),
            Err(_) => {
                quiet += 1;
                thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        assert!(sent < 100_000_000, "somebody holds {sent} bytes");
    }
    rig.host().python("1 + 1").says("2\n");
    // The host is gone while the program takes nothing: it still gets what was sent, and then the end.
    drop(host);
    let mut program = program;
    let mut got = Vec::new();
    program.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent);
}

#[test]
fn a_port_without_a_listener_is_refused_and_the_connection_stays_free() {
    let rig = Rig::new();
    let mut host = rig.host();
    let (_held, port) = quiet_port();
    match host.connect(port) {
        Reply::Failed(failure) => {
            assert_eq!(failure.code, FailureCode::NotFound);
            assert_eq!(failure.message, format!("nothing listens on port {port}"));
        }
        other => panic!("{other:?}"),
    }
    host.python("1 + 1").says("2\n");
}

#[test]
fn what_listens_on_another_address_is_found() {
    let rig = Rig::new();
    // All of 127.0.0.0/8 is this machine; where there is no IPv6, that one is left out.
    let addresses = ["[::1]:0", "127.0.0.5:0", "0.0.0.0:0"];
    for address in addresses {
        let Ok(listener) = TcpListener::bind(address) else {
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        let mut host = rig.host();
        assert_eq!(host.connect(port), Reply::Done, "{address}");
        let mut program = accept(&listener);
        program.write_all(b"here").unwrap();
        drop(program);
        assert_eq!(host.rest_of_bytes(), b"here");
    }
}

#[test]
fn a_host_that_goes_away_closes_the_programs_connection() {
    let rig = Rig::new();
    let (listener, port) = server("127.0.0.1:0");
    let mut host = rig.host();
    assert_eq!(host.connect(port), Reply::Done);
    let mut program = accept(&listener);
    drop(host);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    // A program that goes on all the same is cut off.
    eventually("the program is told that nobody takes it", || {
        program.write_all(&[0; 1024]).is_err()
    });
    eventually("the agent has let go", || rig.connections() == 0);
}

#[test]
fn a_program_that_ignores_the_end_of_a_silent_host_is_let_go_of() {
    let rig = Rig::new();
    let (listener, port) = server("127.0.0.1:0");
    let mut host = rig.host();
    assert_eq!(host.connect(port), Reply::Done);
    let _program = accept(&listener);
    host.stream().shutdown(Shutdown::Write).unwrap();
    drop(host);
    eventually("the agent has let go", || rig.connections() == 0);
}

#[test]
fn a_clone_closes_its_programs_connections() {
    let rig = Rig::new();
    let (listener, port) = server("127.0.0.1:0");
    let mut host = rig.host();
    assert_eq!(host.connect(port), Reply::Done);
    let mut program = accept(&listener);
    rig.clone_machine();
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    eventually("the agent has let go", || rig.has_let_go());
}

#[test]
fn a_program_that_resets_ends_the_connection() {
    let rig = Rig::new();
    let (listener, port) = server("127.0.0.1:0");
    let mut host = rig.host();
    assert_eq!(host.connect(port), Reply::Done);
    let program = accept(&listener);
    host.send_bytes(b"unread");
    // Closing with unread bytes is a reset.
    let mut first = [0];
    program.peek(&mut first).unwrap();
    drop(program);
    assert_eq!(host.rest_of_bytes(), b"");
    drop(host);
    eventually("the agent has let go", || rig.connections() == 0);
}
