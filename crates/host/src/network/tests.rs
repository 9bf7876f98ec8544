//! What the network process is told, whatever becomes of it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::Policy;
use tempfile::TempDir;

use super::fake::FakeNetd;
use super::{InForce, Network, Wire, Wires};
use crate::host::Background;
use crate::metrics::Metrics;

const BOUND: Duration = Duration::from_secs(120);

struct Setting {
    wires: Arc<Wires>,
    network: Network,
    netd: FakeNetd,
    background: Background,
    dir: TempDir,
}

impl Setting {
    fn new() -> Self {
        Self::after(FakeNetd::default(), tempfile::tempdir().unwrap())
    }

    /// With a network process that may run already.
    fn after(netd: FakeNetd, dir: TempDir) -> Self {
        let (wires, background) = (Wires::new(), Background::default());
        let metrics = Arc::new(Metrics::new(std::iter::empty()));
        let spawner = Some(Arc::new(netd.clone()) as _);
        let network = Network::open(Arc::clone(&wires), spawner, dir.path(), &metrics, &background);
        Self {
            wires,
            network,
            netd,
            background,
            dir,
        }
    }

    fn vanish(self) -> (FakeNetd, TempDir) {
        self.background.stop();
        (self.netd, self.dir)
    }

    /// A wire that a VM has.
    fn begin(&self) -> (Wire, OwnedFd) {
        let (wire, end) = self.wires.make().unwrap();
        wire.begin(None);
        (wire, end)
    }

    async fn has(&self, wire: &Wire, policy: &Policy) {
        let what = format!("the wire has the policy {policy:?}");
        eventually(&what, || {
            self.netd.policy(wire.link().id()).as_ref() == Some(policy)
        })
        .await;
    }

    fn told(&self) -> Vec<String> {
        self.netd.with(|state| state.told.clone())
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < BOUND, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn list() -> Policy {
    Policy::from_json(&serde_json::json!({ "allow": ["api.example.com"] })).unwrap()
}

#[tokio::test]
async fn a_wire_reaches_nothing_until_it_is_said_what_it_may_and_is_told_of_when_a_vm_has_it() {
    let setting = Setting::new();
    let (wire, _end) = setting.wires.make().unwrap();
    let (other, _other_end) = setting.begin();
    setting.has(&other, &Policy::Closed).await;
    assert_eq!(setting.netd.policies().len(), 1, "one in stock is nobody's");
    wire.begin(None);
    wire.link().set_policy(list());
    assert_eq!(wire.link().in_force(BOUND).await, InForce::Yes);
    assert_eq!(setting.netd.policy(wire.link().id()), Some(list()));
    wire.link().set_policy(Policy::Open);
    setting.has(&wire, &Policy::Open).await;
}

#[tokio::test]
async fn a_clone_is_told_of_as_one_with_the_policy_of_its_parent() {
    let setting = Setting::new();
    let (parent, _end) = setting.begin();
    parent.link().set_policy(list());
    let (child, _child_end) = setting.wires.make().unwrap();
    child.begin(Some(parent.link()));
    setting.has(&child, &list()).await;
    let of = setting
        .netd
        .with(|state| state.wires[&child.link().id()].clone_of);
    assert_eq!(of, Some(parent.link().id()));
    // From there on they are two.
    parent.link().set_policy(Policy::Closed);
    setting.has(&parent, &Policy::Closed).await;
    assert_eq!(setting.netd.policy(child.link().id()), Some(list()));
}

#[tokio::test]
async fn a_change_that_nobody_takes_note_of_is_told_once_in_its_last_form() {
    let setting = Setting::new();
    let (wire, _end) = setting.begin();
    setting.has(&wire, &Policy::Closed).await;
    for _ in 0..100 {
        wire.link().set_policy(Policy::Open);
        wire.link().set_policy(Policy::Closed);
    }
    wire.link().set_policy(list());
    assert_eq!(wire.link().in_force(BOUND).await, InForce::Yes);
    let told = setting.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(setting.netd.policy(wire.link().id()), Some(list()));
}

#[tokio::test]
async fn a_wire_that_ends_is_detached_and_its_links_lead_nowhere() {
    let setting = Setting::new();
    let (wire, _end) = setting.begin();
    setting.has(&wire, &Policy::Closed).await;
    let link = wire.link().clone();
    drop(wire);
    eventually("the wire is detached", || setting.netd.policies().is_empty()).await;
    link.set_policy(Policy::Open);
    assert_eq!(link.in_force(BOUND).await, InForce::Nothing);
    assert_eq!(link.policy(), None);
}

#[tokio::test]
async fn when_the_process_dies_wires_are_lost_and_new_ones_have_what_was_wanted() {
    let setting = Setting::new();
    let (wire, _end) = setting.begin();
    wire.link().set_policy(list());
    assert_eq!(wire.link().in_force(BOUND).await, InForce::Yes);
    setting.netd.kill();
    tokio::time::timeout(BOUND, wire.lost()).await.unwrap();
    // What is changed meanwhile is in force, as nothing gets out.
    wire.link().set_policy(Policy::Closed);
    assert_eq!(wire.link().in_force(BOUND).await, InForce::Nothing);
    let end = wire.renew().unwrap();
    assert!(!wire.is_lost());
    wire.begin(None);
    setting.has(&wire, &Policy::Closed).await;
    assert_eq!(setting.netd.starts(), 2);
    rustix::net::send(&end, b"a frame", rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(setting.netd.frames(wire.link().id()), [b"a frame"]);
}

#[tokio::test]
async fn a_process_that_does_not_answer_is_killed_with_all_that_it_serves() {
    let setting = Setting::new();
    let (wire, _end) = setting.begin();
    wire.link().set_policy(Policy::Open);
    setting.has(&wire, &Policy::Open).await;
    setting.netd.be_deaf(true);
    wire.link().set_policy(Policy::Closed);
    assert_eq!(wire.link().in_force(BOUND).await, InForce::Nothing);
    assert!(setting.netd.policies().is_empty(), "it was killed");
    setting.netd.be_deaf(false);
    eventually("another one is up", || setting.wires.is_up()).await;
}

#[tokio::test]
async fn without_a_process_nothing_is_waited_for_and_questions_are_refused() {
    let netd = FakeNetd::default();
    netd.be_missing(true);
    let setting = Setting::after(netd, tempfile::tempdir().unwrap());
    let (wire, _end) = setting.begin();
    wire.link().set_policy(list());
    eventually("it is known that there is none", || setting.wires.is_dead()).await;
    assert_eq!(wire.link().in_force(BOUND).await, InForce::Nothing);
    setting
        .network
        .questions
        .log(wire.link().id(), 0, 10)
        .await
        .unwrap_err();
    setting.netd.be_missing(false);
    // It was not lost: nobody ever had its other end.
    setting.has(&wire, &list()).await;
}

#[tokio::test]
async fn the_next_daemon_finds_the_wires_that_it_claims_and_detaches_the_others() {
    let setting = Setting::new();
    let (wire, _end) = setting.begin();
    let (unknown, _unknown_end) = setting.begin();
    wire.link().set_policy(list());
    setting.has(&wire, &list()).await;
    setting.has(&unknown, &Policy::Closed).await;
    let (mine, theirs) = (wire.link().id(), unknown.link().id());
    let (netd, dir) = setting.vanish();
    // As when the daemon is gone: nobody is told.
    std::mem::forget((wire, unknown));
    let next = Setting::after(netd, dir);
    let wire = next.wires.claim(mine, Policy::Open);
    next.has(&wire, &Policy::Open).await;
    assert!(!wire.is_lost());
    assert_eq!(next.netd.starts(), 1);
    assert!(next.netd.policy(theirs).is_some(), "somebody may still claim it");
    next.wires.settle();
    eventually("the other one is detached", || next.netd.policy(theirs).is_none()).await;
    // One that the process has never had.
    let stranger = next.wires.claim(1, Policy::Open);
    assert!(stranger.is_lost());
}

#[tokio::test]
async fn a_network_that_is_switched_off_ends_the_process_of_the_daemon_before_and_starts_none() {
    let setting = Setting::new();
    let (wire, _end) = setting.begin();
    setting.has(&wire, &Policy::Closed).await;
    let claimed = wire.link().id();
    std::mem::forget(wire);
    let (netd, dir) = setting.vanish();
    netd.be_unwanted();
    let next = Setting::after(netd, dir);
    eventually("it has lost its wires", || next.netd.policy(claimed).is_none()).await;
    let wire = next.wires.claim(claimed, Policy::Open);
    assert!(wire.is_lost() && !next.wires.is_up());
    let (made, _end) = next.begin();
    made.link().set_policy(list());
    assert_eq!(made.link().in_force(BOUND).await, InForce::Nothing);
    assert_eq!(next.netd.starts(), 1);
}

/// With the real program.
#[tokio::test]
#[ignore = "needs podflare-netd, whose path PODFLARE_TEST_NETD says; `cargo xtask test` builds it and runs this"]
async fn the_real_network_process_is_started_told_found_again_and_ended() {
    let path =
        std::env::var_os("PODFLARE_TEST_NETD").expect("PODFLARE_TEST_NETD says where podflare-netd is");
    let dir = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new(std::iter::empty()));
    let open = |wires: &Arc<Wires>, background: &Background| {
        let program = super::NetdProgram::new(path.clone().into(), super::NetdSettings::default());
        let spawner = Some(Arc::new(program) as _);
        Network::open(Arc::clone(wires), spawner, dir.path(), &metrics, background)
    };
    // Who has 10.211.0.1?
    let mut question = vec![0xff; 6];
    question.extend(net_proto::GUEST_MAC);
    question.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    question.extend(net_proto::GUEST_MAC);
    question.extend(net_proto::GUEST_IPV4.octets());
    question.extend([0; 6]);
    question.extend(net_proto::GATEWAY_IPV4.octets());
    let answered = |end: &OwnedFd| {
        rustix::net::send(end, &question, rustix::net::SendFlags::NOSIGNAL).is_ok_and(|_| {
            std::thread::sleep(Duration::from_millis(50));
            let mut frame = [0; 100];
            let got = rustix::net::recv(end, &mut frame[..], rustix::net::RecvFlags::DONTWAIT);
            got.is_ok_and(|(bytes, _)| bytes > 0 && frame[6..12] == net_proto::GATEWAY_MAC)
        })
    };

    let (wires, background) = (Wires::new(), Background::default());
    let network = open(&wires, &background);
    let (wire, end) = wires.make().unwrap();
    wire.begin(None);
    wire.link().set_policy(list());
    eventually("the process is up", || wires.is_up()).await;
    assert_eq!(wire.link().in_force(BOUND).await, InForce::Yes);
    eventually("the gateway answers", || answered(&end)).await;
    let id = wire.link().id();
    assert_eq!(network.questions.log(id, 0, 10).await.unwrap().newest, 0);
    assert_eq!(network.questions.stats(Some(id)).await.unwrap().wires.len(), 1);
    background.stop();
    std::mem::forget(wire);
    tokio::time::sleep(Duration::from_millis(100)).await;

    let (wires, background) = (Wires::new(), Background::default());
    let network = open(&wires, &background);
    let wire = wires.claim(id, list());
    wires.settle();
    eventually("it is found again", || wires.is_up()).await;
    assert_eq!(wire.link().in_force(BOUND).await, InForce::Yes);
    assert!(!wire.is_lost());
    eventually("the gateway answers still", || answered(&end)).await;
    background.stop();
    network.end().await;
    eventually("it is gone, and its end of the wire", || {
        rustix::net::send(&end, &question, rustix::net::SendFlags::NOSIGNAL).is_err()
    })
    .await;
    assert!(
        std::fs::read_to_string(dir.path().join("netd.log"))
            .unwrap()
            .contains("listening")
    );
}
