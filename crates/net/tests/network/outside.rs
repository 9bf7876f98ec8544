//! Servers of the test.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// Serves each connection on a thread of its own.
pub(crate) fn serve(on: &str, each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(on).unwrap();
    let address = listener.local_addr().unwrap();
    let each = Arc::new(each);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    address
}

pub(crate) fn echo(on: &str) -> SocketAddr {
    serve(on, |mut stream| {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// Says its own name first, and then echoes.
pub(crate) fn speaks_first(on: &str, text: &'static [u8]) -> SocketAddr {
    serve(on, move |mut stream| {
        let _ = stream.write_all(text);
        let mut buffer = [0; 4096];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

pub(crate) fn udp_echo(on: &str) -> SocketAddr {
    let socket = UdpSocket::bind(on).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    });
    address
}

/// An address that nobody listens on, nor can while this is held.
pub(crate) fn nobody() -> (OwnedFd, SocketAddr) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address.into())
}

/// A port that is free for UDP may be somebody's for TCP.
fn one_port_for_both() -> (UdpSocket, TcpListener) {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
            return (socket, listener);
        }
    }
}

/// A resolver with names of its own, over UDP and TCP, that notes what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Names {
    known: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.known.lock().unwrap().insert(format!("{name}."), addresses);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn serve(&self) -> SocketAddr {
        let (socket, listener) = one_port_for_both();
        let address = socket.local_addr().unwrap();
        let names = self.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                let answer = names.answer(&buffer[..count], 512);
                let _ = socket.send_to(&answer, from);
            }
        });
        let names = self.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut len = [0; 2];
                stream.read_exact(&mut len).unwrap();
                let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
                stream.read_exact(&mut query).unwrap();
                let answer = names.answer(&query, 65_535);
                let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&[&len[..], &answer].concat()).unwrap();
            }
        });
        address
    }

    fn answer(&self, query: &[u8], max: usize) -> Vec<u8> {
        let query = Message::from_vec(query).unwrap();
        let question = query.queries[0].clone();
        let mut message = Message::response(query.metadata.id, OpCode::Query);
        message.add_queries([question.clone()]);
        let name = question.name.to_ascii().to_lowercase();
        self.asked.lock().unwrap().push(name.clone());
        match self.known.lock().unwrap().get(&name) {
            None => message.metadata.response_code = ResponseCode::NXDomain,
            Some(addresses) => {
                for address in addresses {
                    let (data, kind) = match address {
                        IpAddr::V4(v4) => (RData::A(A(*v4)), RecordType::A),
                        IpAddr::V6(v6) => (RData::AAAA(AAAA(*v6)), RecordType::AAAA),
                    };
                    if kind == question.query_type {
                        message.add_answer(Record::from_rdata(question.name.clone(), 0, data));
                    }
                }
            }
        }
        let bytes = message.to_vec().unwrap();
        if bytes.len() <= max {
            return bytes;
        }
        message.answers.clear();
        message.metadata.truncation = true;
        message.to_vec().unwrap()
    }
}

/// Bytes that differ everywhere.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}
