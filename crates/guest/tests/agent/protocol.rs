//! The protocol's edges.

use agent_proto::{FailureCode, Language, Reply, Request};

use crate::rig::Rig;

#[test]
fn another_version_is_refused_and_the_connection_ends() {
    let rig = Rig::new();
    let mut host = rig.stranger();
    host.send(&Request::Hello { version: 999 });
    assert!(matches!(host.reply(), Reply::Failed(failure) if failure.code == FailureCode::BadRequest));
    assert!(host.try_reply().is_err());
}

#[test]
fn a_connection_has_to_begin_with_hello() {
    let rig = Rig::new();
    let mut host = rig.stranger();
    host.send(&Request::Ping);
    assert!(matches!(host.reply(), Reply::Failed(_)));
    assert!(host.try_reply().is_err());
}

#[test]
fn garbage_ends_only_its_own_connection() {
    let rig = Rig::new();
    let mut good = rig.host();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 0, 0, 0, 200, 0, 0, 0],
    ] {
        let mut bad = rig.host();
        bad.send_bytes(garbage);
        assert!(bad.try_reply().is_err());
    }
    good.send(&Request::Ping);
    assert_eq!(good.reply(), Reply::Done);
}

#[test]
fn a_connection_is_used_for_many_requests() {
    let rig = Rig::new();
    let mut host = rig.host();
    for round in 0..20 {
        host.send(&Request::Ping);
        assert_eq!(host.reply(), Reply::Done);
        host.python(&round.to_string()).says(&format!("{round}\n"));
        host.bash(&format!("echo {round}")).says(&format!("{round}\n"));
    }
}

#[test]
fn power_off_is_acknowledged_and_then_asked_for() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.begin(Language::Python, "1", None);
    host.finish().says("1\n");
    host.send(&Request::PowerOff);
    assert_eq!(host.reply(), Reply::Done);
    rig.services().wait_for_power_off();
}
