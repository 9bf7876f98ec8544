//! Questions about names.

use std::net::SocketAddr;

use egress::{Policy, Ranges};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use net_proto::{DNS_PORT, GATEWAY_IPV4, GATEWAY_IPV6, Protocol, Verdict};
use serde_json::json;

use crate::daemon::{Daemon, loopback, open_loopback, policy};
use crate::guest::Guest;
use crate::outside::Names;

pub(crate) fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 77;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Asks the gateway over UDP.
#[track_caller]
pub(crate) fn resolve(guest: &mut Guest, name: &str) -> (ResponseCode, Vec<String>) {
    resolve_at(guest, (GATEWAY_IPV4, DNS_PORT).into(), name, RecordType::A)
}

#[track_caller]
pub(crate) fn resolve_at(
    guest: &mut Guest,
    at: SocketAddr,
    name: &str,
    kind: RecordType,
) -> (ResponseCode, Vec<String>) {
    let socket = guest.udp();
    guest.send_to(socket, at, &question(name, kind));
    let (answer, from) = guest.receive_from(socket);
    assert_eq!(from, at);
    read(&answer)
}

fn read(answer: &[u8]) -> (ResponseCode, Vec<String>) {
    let answer = Message::from_vec(answer).unwrap();
    assert_eq!(answer.metadata.id, 77);
    let addresses = answer.answers.iter().map(|record| record.data.to_string());
    (answer.metadata.response_code, addresses.collect())
}

#[test]
fn the_gateway_tells_what_the_hosts_resolver_tells() {
    let names = Names::default();
    names.set("a.example", &["1.2.3.4", "2001:db8::1"]);
    let mut daemon = open_loopback(Some(names.serve()));
    let mut guest = daemon.guest(1, Policy::Open);
    let yes = ResponseCode::NoError;
    assert_eq!(
        resolve(&mut guest, "A.example"),
        (yes, vec!["1.2.3.4".to_owned()])
    );
    assert_eq!(
        resolve(&mut guest, "none.example"),
        (ResponseCode::NXDomain, vec![])
    );
    let at = (GATEWAY_IPV6, DNS_PORT).into();
    let found = resolve_at(&mut guest, at, "a.example", RecordType::AAAA);
    assert_eq!(found, (yes, vec!["2001:db8::1".to_owned()]));
    assert_eq!(daemon.counters(1).dns_queries, 3);
}

#[test]
fn long_answers_go_over_tcp() {
    let names = Names::default();
    let many: Vec<String> = (0..200).map(|number| format!("1.2.3.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    names.set("many.example", &many);
    let mut daemon = open_loopback(Some(names.serve()));
    let mut guest = daemon.guest(1, Policy::Open);
    let at = (GATEWAY_IPV4, DNS_PORT).into();
    // Over UDP the answer is cut, and says so.
    assert_eq!(
        resolve(&mut guest, "many.example"),
        (ResponseCode::NoError, vec![])
    );
    let connection = guest.connect(at);
    for _ in 0..2 {
        let question = question("many.example", RecordType::A);
        let len = u16::try_from(question.len()).unwrap().to_be_bytes();
        guest.send(connection, &[&len[..], &question].concat());
        let head = guest.receive(connection, 2);
        let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let mut answer = head[2..].to_vec();
        if answer.len() < len {
            answer.extend(guest.receive(connection, len - answer.len()));
        }
        assert_eq!(read(&answer).1.len(), 200);
    }
}

#[test]
fn without_a_resolver_that_answers_the_gateway_says_that_it_failed() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut daemon = open_loopback(Some(address));
    let mut guest = daemon.guest(1, Policy::Open);
    assert_eq!(resolve(&mut guest, "a.example"), (ResponseCode::ServFail, vec![]));
}

#[test]
fn a_list_answers_only_names_that_it_allows_and_asks_for_no_others() {
    let names = Names::default();
    names.set("good.example", &["1.2.3.4", "10.0.0.1"]);
    names.set("bad.example", &["1.2.3.4"]);
    names.set("inside.example", &["10.0.0.1", "127.0.0.9", "169.254.169.254"]);
    let mut daemon = open_loopback(Some(names.serve()));
    let list = policy(json!({"allow": ["good.example", "inside.example"], "deny": ["127.0.0.0/8"]}));
    let mut guest = daemon.guest(1, list);
    let refused = (ResponseCode::Refused, vec![]);
    assert_eq!(
        resolve(&mut guest, "good.example"),
        (ResponseCode::NoError, vec!["1.2.3.4".to_owned()])
    );
    assert_eq!(resolve(&mut guest, "bad.example"), refused);
    assert_eq!(resolve(&mut guest, "secret.good.example"), refused);
    assert_eq!(resolve(&mut guest, "inside.example"), refused);
    assert_eq!(names.asked(), ["good.example.", "inside.example."]);
    let log = daemon.log(1);
    let denied: Vec<_> = log
        .iter()
        .map(|entry| (entry.name.as_deref().unwrap(), entry.protocol, entry.verdict))
        .collect();
    assert_eq!(
        denied,
        [
            ("bad.example", Protocol::Dns, Verdict::Denied),
            ("secret.good.example", Protocol::Dns, Verdict::Denied),
            ("inside.example", Protocol::Dns, Verdict::Denied),
        ]
    );
}

#[test]
fn names_that_the_machine_knows_are_asked_of_nobody() {
    let names = Names::default();
    for name in ["a.example", "own.example"] {
        names.set(name, &["1.2.3.4", "2001:db8::1"]);
    }
    let hosts = "203.0.113.9 A.example\n127.0.0.1 own.example localhost\n";
    let mut daemon = Daemon::start_with_hosts(loopback(), Some(names.serve()), None, hosts);
    let mut guest = daemon.guest(1, Policy::Open);
    let told = |address: &str| (ResponseCode::NoError, vec![address.to_owned()]);
    assert_eq!(resolve(&mut guest, "a.Example"), told("203.0.113.9"));
    let at = (GATEWAY_IPV6, DNS_PORT).into();
    let found = resolve_at(&mut guest, at, "a.example", RecordType::AAAA);
    assert_eq!(found, (ResponseCode::NoError, vec![]));
    assert_eq!(names.asked().len(), 0);
    // What is on loopback there is not known here.
    assert_eq!(resolve(&mut guest, "own.example"), told("1.2.3.4"));
    // And another kind of question is not answered from it.
    let other = resolve_at(&mut guest, at, "a.example", RecordType::TXT);
    assert_eq!(other, (ResponseCode::NoError, vec![]));
    assert_eq!(names.asked(), ["own.example.", "a.example."]);
}

#[test]
fn names_that_the_machine_knows_are_judged_like_all_others() {
    let hosts = "10.0.0.1 good.example mixed.example\n203.0.113.9 mixed.example bad.example\n";
    let names = Names::default();
    let mut daemon = Daemon::start_with_hosts(Ranges::default(), Some(names.serve()), None, hosts);
    let (refused, yes) = ((ResponseCode::Refused, vec![]), ResponseCode::NoError);
    let told = |address: &str| (yes, vec![address.to_owned()]);
    let mut open = daemon.guest(1, Policy::Open);
    assert_eq!(resolve(&mut open, "good.example"), told("10.0.0.1"));
    assert!(open.is_refused("10.0.0.1:80".parse().unwrap()));

    let list = policy(json!({"allow": ["good.example", "mixed.example"]}));
    let mut listed = daemon.guest(2, list);
    assert_eq!(resolve(&mut listed, "good.example"), refused);
    assert_eq!(resolve(&mut listed, "mixed.example"), told("203.0.113.9"));
    assert_eq!(resolve(&mut listed, "bad.example"), refused);
    daemon.set_policy(
        2,
        policy(json!({"allow": ["good.example:9000", "10.0.0.1:9000"]})),
    );
    assert_eq!(resolve(&mut listed, "good.example"), told("10.0.0.1"));
    assert_eq!(names.asked().len(), 0);
}
