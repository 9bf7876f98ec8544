//! Secrets that a guest uses and never has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::{Trust, generate_authority};
use net_proto::{Command, Outcome, Secret, SecretValue, Verdict};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::daemon::{Daemon, Tls, loopback, open_loopback, policy};
use crate::guest::Guest;
use crate::outside::{Names, echo, noise, speaks_first};
use crate::tls::{Client, Root, Server};

const PLACEHOLDER: &str = "{{TOKEN-OF-GOOD}}";
const VALUE: &str = "hunter2-is-the-value";

struct Rig {
    names: Names,
    daemon: Daemon,
    guest: Guest,
    /// Is `good.example`.
    server: Server,
    /// That signed for the server.
    root: Root,
    /// That guests trust, as PEM.
    authority: String,
}

fn rig() -> Rig {
    let root = Root::new();
    let trusted = root.pem();
    rig_with(root, &trusted)
}

/// A secret for `good.example`, whose server's certificate need not be one that is trusted.
fn rig_with(root: Root, trusted: &str) -> Rig {
    let names = Names::default();
    for name in ["good.example", "other.example"] {
        names.set(name, &["127.0.0.1"]);
    }
    let pem = generate_authority().unwrap();
    let authority = pem.certificate.clone();
    let tls = Tls {
        authority: pem,
        trust: Trust::default().with_pem(trusted.as_bytes()).unwrap(),
    };
    let mut daemon = Daemon::start_with(loopback(), Some(names.serve()), Some(tls));
    let guest = daemon.guest(1, egress::Policy::Open);
    let server = root.server("good.example");
    let mut rig = Rig {
        names,
        daemon,
        guest,
        server,
        root,
        authority,
    };
    let secret = rig.secret(PLACEHOLDER, VALUE);
    assert_eq!(rig.set(vec![secret]), Outcome::Done);
    rig
}

impl Rig {
    fn secret(&self, placeholder: &str, value: &str) -> Secret {
        let host = format!("good.example:{}", self.server.address.port());
        Secret {
            placeholder: placeholder.to_owned(),
            value: SecretValue::new(value.to_owned()),
            hosts: vec![host.parse().unwrap()],
        }
    }

    fn set(&mut self, secrets: Vec<Secret>) -> Outcome {
        self.daemon.ask(Command::SetSecrets { wire: 1, secrets })
    }

    /// A connection of a guest that trusts the host's authority and nobody else.
    #[track_caller]
    fn connect(&mut self) -> Client {
        let to = self.server.address;
        let mut client = Client::new(&mut self.guest, to, "good.example", &[&self.authority], &[]);
        client.until_connected(&mut self.guest);
        client
    }

    #[track_caller]
    fn ask(&mut self, client: &mut Client, request: &str) -> (String, Vec<u8>) {
        client.ask(&mut self.guest, request.as_bytes())
    }

    #[track_caller]
    fn text(&mut self, client: &mut Client, request: &str) -> (String, String) {
        let (head, body) = self.ask(client, request);
        (head, String::from_utf8(body).unwrap())
    }
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: good.example\r\n{fields}\r\n")
}

#[test]
fn the_real_host_gets_the_value_where_the_guest_wrote_the_placeholder() {
    let mut rig = rig();
    let mut client = rig.connect();
    let basic = STANDARD.encode(format!("me:{PLACEHOLDER}"));
    let (head, _) = rig.ask(
        &mut client,
        &get("/a", &format!("X-Key: Bearer {PLACEHOLDER}\r\n")),
    );
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // The same connection goes on.
    let escaped = PLACEHOLDER.replace("{{", "%7B%7B").replace("}}", "%7D%7D");
    rig.ask(&mut client, &get(&format!("/b?key={escaped}&x=1"), ""));
    rig.ask(
        &mut client,
        &get("/c", &format!("Authorization: Basic {basic}\r\n")),
    );
    let heads = rig.server.heads();
    assert!(
        heads[0].contains(&format!("X-Key: Bearer {VALUE}\r\n")),
        "{}",
        heads[0]
    );
    assert!(
        heads[1].starts_with(&format!("GET /b?key={VALUE}&x=1 HTTP/1.1\r\n")),
        "{}",
        heads[1]
    );
    let wanted = STANDARD.encode(format!("me:{VALUE}"));
    assert!(
        heads[2].contains(&format!("Authorization: Basic {wanted}\r\n")),
        "{}",
        heads[2]
    );
    let entry = rig.daemon.log(1).pop().unwrap();
    assert_eq!(entry.name.as_deref(), Some("good.example"));
    assert_eq!(
        (entry.verdict, entry.address),
        (Verdict::Allowed, Some([127, 0, 0, 1].into()))
    );
}

#[test]
fn a_body_is_not_looked_at_and_streams_both_ways() {
    let mut rig = rig();
    let mut client = rig.connect();
    let mut body = noise(1024 * 1024);
    body[1000..1000 + PLACEHOLDER.len()].copy_from_slice(PLACEHOLDER.as_bytes());
    let head = get("/", &format!("Content-Length: {}\r\n", body.len())).replace("GET", "POST");
    let (_, answer) = client.ask(&mut rig.guest, &[head.as_bytes(), &body].concat());
    assert!(answer == body, "the body came back changed");
    // A client that asks before it sends is told to go on.
    client.write(
        head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")
            .as_bytes(),
    );
    assert!(client.head(&mut rig.guest).starts_with("HTTP/1.1 100"));
    let (_, answer) = client.ask(&mut rig.guest, &body);
    assert!(answer == body, "the body came back changed");
}

#[test]
fn a_guest_that_does_not_read_stops_the_host() {
    let mut rig = rig();
    let mut client = rig.connect();
    client.write(get("/endless", "").as_bytes());
    client.step(&mut rig.guest);
    let mut before = 0;
    let server = &rig.server;
    rig.guest.until("the host to stop", |guest| {
        guest.go_on(Duration::from_millis(700));
        let now = server.sent();
        let stopped = now > 0 && now == before;
        before = now;
        stopped
    });
    assert!(before < 64 * 1024 * 1024, "{before} bytes are kept somewhere");
    let received = client.read(&mut rig.guest, before + 1024 * 1024);
    assert!(received.len() > before);
}

#[test]
fn a_name_that_no_secret_is_for_is_not_touched() {
    let mut rig = rig();
    let other = rig.root.server("other.example");
    let secret = Secret {
        hosts: vec![format!("good.example:{}", other.address.port()).parse().unwrap()],
        ..rig.secret(PLACEHOLDER, VALUE)
    };
    rig.set(vec![secret]);
    let roots = [&*rig.root.pem(), &*rig.authority];
    let mut client = Client::new(&mut rig.guest, other.address, "other.example", &roots, &[]);
    client.until_connected(&mut rig.guest);
    assert_eq!(
        client.tls.peer_certificates().unwrap(),
        std::slice::from_ref(&other.certificate)
    );
    client.ask(
        &mut rig.guest,
        get("/", &format!("X-Key: {PLACEHOLDER}\r\n")).as_bytes(),
    );
    assert!(other.heads()[0].contains(PLACEHOLDER), "{:?}", other.heads());
    // Nor is a port that none is for.
    let to = rig.server.address;
    let mut client = Client::new(&mut rig.guest, to, "good.example", &roots, &[]);
    client.until_connected(&mut rig.guest);
    assert_eq!(
        client.tls.peer_certificates().unwrap(),
        std::slice::from_ref(&rig.server.certificate)
    );
}

#[test]
fn a_request_for_another_host_on_the_connection_gets_nothing() {
    let mut rig = rig();
    for request in [
        format!("GET / HTTP/1.1\r\nHost: other.example\r\nX-Key: {PLACEHOLDER}\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: good.example\r\nHost: other.example\r\nX-Key: {PLACEHOLDER}\r\n\r\n"
        ),
        format!("GET http://other.example/ HTTP/1.1\r\nHost: good.example\r\nX-Key: {PLACEHOLDER}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x@good.example\r\nX-Key: {PLACEHOLDER}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: good.example:1\r\nX-Key: {PLACEHOLDER}\r\n\r\n"),
    ] {
        let mut client = rig.connect();
        let (head, body) = rig.text(&mut client, &request);
        assert!(head.starts_with("HTTP/1.1 421"), "{request} {head}");
        assert!(body.contains("good.example"), "{body}");
    }
    // Nor does one that asks for what it was sent.
    let mut client = rig.connect();
    let trace = get("/", &format!("X-Key: {PLACEHOLDER}\r\n")).replace("GET", "TRACE");
    assert!(rig.ask(&mut client, &trace).0.starts_with("HTTP/1.1 405"));
    assert_eq!(rig.server.heads(), Vec::<String>::new());
}

#[test]
fn a_secret_that_is_taken_away_or_changed_ends_its_connections_at_once() {
    let mut rig = rig();
    let (first, changed) = (rig.secret(PLACEHOLDER, VALUE), rig.secret(PLACEHOLDER, "another"));
    let second = rig.secret("{{SECOND-TOKEN}}", "second");
    let request = get("/", &format!("X-Key: {PLACEHOLDER} {{{{SECOND-TOKEN}}}}\r\n"));
    let mut client = rig.connect();
    rig.ask(&mut client, &request);
    // One more changes nothing for the old one, and the connection has it from now on.
    rig.set(vec![second.clone(), first.clone()]);
    rig.ask(&mut client, &request);
    assert!(rig.server.heads()[1].contains(&format!("X-Key: {VALUE} second\r\n")));
    rig.set(vec![second, changed]);
    rig.guest.until_reset(client.connection);
    let mut client = rig.connect();
    rig.ask(&mut client, &request);
    assert!(rig.server.heads()[2].contains("X-Key: another second\r\n"));
    rig.set(vec![]);
    rig.guest.until_reset(client.connection);
    // Without one the guest talks to the host itself.
    let to = rig.server.address;
    let mut client = Client::new(&mut rig.guest, to, "good.example", &[&rig.root.pem()], &[]);
    client.until_connected(&mut rig.guest);
    rig.ask(&mut client, &request);
    assert!(rig.server.heads()[3].contains(PLACEHOLDER));
    let log = rig.daemon.log(1);
    assert!(
        log.iter()
            .any(|entry| entry.reason.as_deref() == Some("the secrets were changed"))
    );
}

#[test]
fn a_host_that_does_not_prove_its_name_gets_nothing_and_the_guest_is_told_why() {
    let mut rig = rig_with(Root::new(), &Root::new().pem());
    let mut client = rig.connect();
    let (head, body) = rig.text(&mut client, &get("/", &format!("X-Key: {PLACEHOLDER}\r\n")));
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert!(body.contains("its certificate is not trusted"), "{body}");
    assert_eq!(rig.server.heads(), Vec::<String>::new());
    rig.guest.tcp(client.connection).close();
    let daemon = &mut rig.daemon;
    rig.guest.until("the log to say so", |_| {
        let entry = daemon.log(1).pop().unwrap();
        entry.verdict == Verdict::Failed && entry.reason.unwrap().contains("not trusted")
    });
}

#[test]
fn a_host_that_closes_closes_the_guests_connection() {
    let mut rig = rig();
    let mut client = rig.connect();
    let (head, _) = rig.ask(&mut client, &get("/last", ""));
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    rig.guest.until("the end", |guest| {
        client.step(guest);
        !guest.tcp(client.connection).may_recv()
    });
    assert_eq!(client.failure, None);
}

#[test]
fn what_is_no_tls_on_the_port_of_a_secret_goes_on_as_it_would() {
    let mut rig = rig();
    let (mute, first) = (echo("127.0.0.1:0"), speaks_first("127.0.0.1:0", b"welcome"));
    let hosts = [mute, first].map(|to| format!("good.example:{}", to.port()).parse().unwrap());
    let secret = Secret {
        hosts: hosts.into(),
        ..rig.secret(PLACEHOLDER, VALUE)
    };
    assert_eq!(rig.set(vec![secret]), Outcome::Done);
    let request = get("/", &format!("X-Key: {PLACEHOLDER}\r\n"));
    let connection = rig.guest.connect(mute);
    rig.guest.send(connection, request.as_bytes());
    assert_eq!(rig.guest.receive(connection, request.len()), request.as_bytes());
    // A guest that waits for the other side to begin waits longer, but not in vain.
    let connection = rig.guest.connect(first);
    assert_eq!(rig.guest.receive(connection, 7), b"welcome");
}

#[test]
fn a_client_that_would_like_another_protocol_is_given_http_1_1() {
    let mut rig = rig();
    let (to, roots) = (rig.server.address, [&*rig.authority]);
    let mut client = Client::new(&mut rig.guest, to, "good.example", &roots, &["h2", "http/1.1"]);
    client.until_connected(&mut rig.guest);
    assert_eq!(client.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    // One that knows no other is told so.
    let mut client = Client::new(&mut rig.guest, to, "good.example", &roots, &["h2"]);
    rig.guest.until("an alert", |guest| {
        client.step(guest);
        client.failure.is_some()
    });
}

#[test]
fn a_connection_may_become_another_protocol() {
    let mut rig = rig();
    let mut client = rig.connect();
    let fields = format!("Connection: upgrade\r\nUpgrade: echo\r\nX-Key: {PLACEHOLDER}\r\n");
    let (head, _) = rig.ask(&mut client, &get("/", &fields));
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client.write(PLACEHOLDER.as_bytes());
    assert_eq!(
        client.read(&mut rig.guest, PLACEHOLDER.len()),
        PLACEHOLDER.as_bytes()
    );
    assert!(rig.server.heads()[0].contains(VALUE));
}

#[test]
fn a_list_decides_over_names_of_secrets_as_over_others() {
    let mut rig = rig();
    let port = rig.server.address.port();
    rig.daemon
        .set_policy(1, policy(json!({"allow": [format!("good.example:{port}")]})));
    let mut client = rig.connect();
    rig.ask(&mut client, &get("/", &format!("X-Key: {PLACEHOLDER}\r\n")));
    assert!(rig.server.heads()[0].contains(VALUE));
    rig.daemon
        .set_policy(1, policy(json!({"allow": ["other.example"]})));
    rig.guest.until_reset(client.connection);
    // Where the name leads to is judged, too.
    rig.daemon
        .set_policy(1, policy(json!({"allow": ["good.example"]})));
    rig.names.set("good.example", &["10.0.0.1"]);
    let to = rig.server.address;
    let mut client = Client::new(&mut rig.guest, to, "good.example", &[&rig.authority], &[]);
    rig.guest.until("a reset", |guest| {
        client.step(guest);
        guest.tcp(client.connection).state() == smoltcp::socket::tcp::State::Closed
    });
}

#[test]
fn a_clone_has_its_parents_secrets_and_loses_them_alone() {
    let mut rig = rig();
    let mut clone = rig.daemon.attach(2, egress::Policy::Open, Some(1));
    let (to, roots) = (rig.server.address, [&*rig.authority]);
    let mut client = Client::new(&mut clone, to, "good.example", &roots, &[]);
    client.until_connected(&mut clone);
    client.ask(
        &mut clone,
        get("/", &format!("X-Key: {PLACEHOLDER}\r\n")).as_bytes(),
    );
    assert!(rig.server.heads()[0].contains(VALUE));
    let command = Command::SetSecrets {
        wire: 2,
        secrets: vec![],
    };
    assert_eq!(rig.daemon.ask(command), Outcome::Done);
    clone.until_reset(client.connection);
    let mut own = rig.connect();
    rig.ask(&mut own, &get("/", &format!("X-Key: {PLACEHOLDER}\r\n")));
    assert!(rig.server.heads()[1].contains(VALUE));
}

/// Everything that was logged by this process.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_value_is_in_the_log_whatever_happens_to_a_connection() {
    let logged = Logged::default();
    let writer = logged.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let mut rig = rig();
    let request = get("/", &format!("X-Key: {PLACEHOLDER}\r\n"));
    let mut client = rig.connect();
    rig.ask(&mut client, &request);
    // One whose guest goes away in the middle of an answer, and one that speaks no HTTP.
    let mut client = rig.connect();
    client.write(request.replace("/ ", "/endless ").as_bytes());
    client.read(&mut rig.guest, 100_000);
    rig.guest.tcp(client.connection).abort();
    let mut client = rig.connect();
    client.write(format!("\0\0{PLACEHOLDER}\r\n\r\n").as_bytes());
    let answer = client.read(&mut rig.guest, 12);
    assert_eq!(answer, b"HTTP/1.1 400");
    let is_there = |what: &str| {
        let logged = logged.0.lock().unwrap();
        logged.windows(what.len()).any(|bytes| bytes == what.as_bytes())
    };
    rig.guest.until("a line of the log", |_| {
        is_there("a connection with secrets ended")
    });
    assert!(!is_there(VALUE), "a value was logged");
    let entries = format!("{:?}", rig.daemon.log(1));
    assert!(!entries.contains(VALUE));
    let said = Command::SetSecrets {
        wire: 1,
        secrets: vec![rig.secret(PLACEHOLDER, VALUE)],
    };
    assert!(!format!("{said:?}").contains(VALUE));
}

#[test]
fn what_cannot_be_served_is_refused_in_words_without_the_value() {
    let mut rig = rig();
    let mut bad = rig.secret("short", VALUE);
    let Outcome::Failed(why) = rig.set(vec![bad.clone()]) else {
        panic!("a short placeholder was taken")
    };
    assert!(
        why.contains("placeholder of secret 1") && !why.contains(VALUE),
        "{why}"
    );
    let mut daemon = open_loopback(None);
    let guest = daemon.guest(1, egress::Policy::Open);
    PLACEHOLDER.clone_into(&mut bad.placeholder);
    let secrets = |secrets| Command::SetSecrets { wire: 1, secrets };
    let Outcome::Failed(why) = daemon.ask(secrets(vec![bad])) else {
        panic!("secrets were taken without an authority")
    };
    assert!(why.contains("--ca-cert"), "{why}");
    assert_eq!(daemon.ask(secrets(vec![])), Outcome::Done);
    drop(guest);
}
