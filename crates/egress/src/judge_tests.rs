//! What policies say about addresses and names.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn list(allow: &[&str], deny: &[&str]) -> Policy {
    Policy::from_json(&json!({"allow": allow, "deny": deny})).unwrap()
}

fn judge(policy: &Policy, to: &str, port: u16) -> Verdict {
    policy.judge(&Ranges::default(), to.parse().unwrap(), port, Transport::Tcp)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn open_is_what_is_public_and_closed_is_nothing() {
    assert_eq!(judge(&Policy::Open, "1.1.1.1", 443), Verdict::Allowed);
    for (to, reason) in [
        ("10.0.0.1", Reason::Private),
        ("127.0.0.1", Reason::Host),
        ("169.254.169.254", Reason::Unreachable),
        ("::ffff:10.0.0.1", Reason::Private),
    ] {
        assert_eq!(judge(&Policy::Open, to, 80), Verdict::Denied(reason), "{to}");
    }
    assert_eq!(
        judge(&Policy::Closed, "1.1.1.1", 443),
        Verdict::Denied(Reason::Closed)
    );
    assert!(Policy::Open.may_resolve(&name("a.example")) && !Policy::Closed.may_resolve(&name("a.example")));
}

#[test]
fn a_network_rule_opens_a_private_net_only_if_it_lies_in_it() {
    let policy = list(
        &["10.1.0.0/16", "0.0.0.0/0", "127.0.0.1", "169.254.169.254"],
        &["10.1.2.0/24"],
    );
    assert_eq!(judge(&policy, "10.1.0.1", 1), Verdict::Allowed);
    assert_eq!(judge(&policy, "10.1.2.1", 1), Verdict::Denied(Reason::DenyRule));
    assert_eq!(judge(&policy, "192.168.0.1", 1), Verdict::Denied(Reason::Private));
    assert_eq!(judge(&policy, "8.8.8.8", 1), Verdict::Allowed);
    assert_eq!(judge(&policy, "127.0.0.1", 1), Verdict::Denied(Reason::Host));
    assert_eq!(
        judge(&policy, "169.254.169.254", 80),
        Verdict::Denied(Reason::Unreachable)
    );
    assert_eq!(
        judge(&policy, "2001:db8::1", 1),
        Verdict::Denied(Reason::NotAllowed)
    );
}

#[test]
fn only_a_name_opens_what_only_names_allow_and_never_for_udp() {
    let policy = list(&["*.example.org:443", "1.2.3.4:53"], &["bad.example.org"]);
    assert_eq!(judge(&policy, "8.8.8.8", 443), Verdict::NameNeeded);
    assert_eq!(judge(&policy, "10.0.0.1", 443), Verdict::NameNeeded);
    assert_eq!(judge(&policy, "8.8.8.8", 80), Verdict::Denied(Reason::NotAllowed));
    assert_eq!(
        judge(&policy, "169.254.169.254", 443),
        Verdict::Denied(Reason::Unreachable)
    );
    assert_eq!(judge(&policy, "1.2.3.4", 53), Verdict::Allowed);
    let udp = |to: &str, port| policy.judge(&Ranges::default(), to.parse().unwrap(), port, Transport::Udp);
    assert_eq!(udp("8.8.8.8", 443), Verdict::Denied(Reason::Udp));
    assert_eq!(udp("8.8.8.8", 53), Verdict::Denied(Reason::NotAllowed));
    assert_eq!(udp("1.2.3.4", 53), Verdict::Allowed);
    assert!(policy.may_resolve(&name("a.example.org")) && !policy.may_resolve(&name("bad.example.org")));
    assert!(!policy.may_resolve(&name("example.org")) && !policy.may_resolve(&name("evil.example")));
}

#[test]
fn a_name_is_judged_with_its_port_and_needs_no_proof_where_no_proof_is_spoken() {
    let policy = list(
        &["git.example:22", "git.example", "web.example:443"],
        &["git.example:8080"],
    );
    let judge = |text: &str, port| policy.judge_name(&name(text), port);
    assert_eq!(
        judge("git.example", 22),
        NameVerdict::Allowed { by_resolving: true }
    );
    assert_eq!(
        judge("git.example", 9418),
        NameVerdict::Allowed { by_resolving: false }
    );
    assert_eq!(
        judge("web.example", 443),
        NameVerdict::Allowed { by_resolving: false }
    );
    assert_eq!(judge("web.example", 80), NameVerdict::Denied(Reason::NotAllowed));
    assert_eq!(judge("git.example", 8080), NameVerdict::Denied(Reason::DenyRule));
    assert!(policy.may_resolve(&name("git.example")));
}

#[test]
fn a_name_that_resolves_to_something_private_opens_nothing_without_a_network_rule() {
    let policy = list(
        &["a.example", "10.1.0.0/16", "192.168.0.0/16:80"],
        &["8.8.8.8", "9.9.9.9:25"],
    );
    let judge = |to: &str, port| policy.judge_resolved(&Ranges::default(), to.parse().unwrap(), port);
    assert_eq!(judge("1.1.1.1", Some(443)), Ok(()));
    assert_eq!(judge("10.1.0.1", Some(443)), Ok(()));
    assert_eq!(judge("10.2.0.1", Some(443)), Err(Reason::Private));
    assert_eq!(judge("127.0.0.1", Some(443)), Err(Reason::Host));
    assert_eq!(judge("8.8.8.8", None), Err(Reason::DenyRule));
    assert_eq!(judge("9.9.9.9", None), Ok(()));
    assert_eq!(judge("9.9.9.9", Some(25)), Err(Reason::DenyRule));
    assert_eq!(judge("192.168.0.1", None), Ok(()));
    assert_eq!(judge("192.168.0.1", Some(443)), Err(Reason::Private));
}

prop_compose! {
    fn any_list()(
        allow in prop::collection::vec(any_rule(), 0..6),
        deny in prop::collection::vec(any_rule(), 0..3),
    ) -> Policy {
        Policy::List(Box::new(List { allow, deny }))
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let port = prop::option::of(1..4_u16);
    prop_oneof![
        (any::<u32>(), 0..=32_u8, port.clone()).prop_map(|(bits, len, port)| {
            let net = ipnet::Ipv4Net::new(Ipv4Addr::from_bits(bits), len)
                .unwrap()
                .trunc();
            Rule::Net(NetRule {
                net: net.into(),
                port,
            })
        }),
        (any::<u128>(), 0..=128_u8, port.clone()).prop_map(|(bits, len, port)| {
            let net = ipnet::Ipv6Net::new(Ipv6Addr::from_bits(bits), len)
                .unwrap()
                .trunc();
            Rule::Net(NetRule {
                net: net.into(),
                port,
            })
        }),
        ("[ab]\\.[ab]", any::<bool>(), port).prop_map(|(text, below, port)| {
            let name = text.parse().unwrap();
            Rule::Name(crate::NameRule { name, below, port })
        }),
    ]
}

proptest! {
    /// Whatever the rules: what nothing opens stays shut, and a deny rule wins.
    #[test]
    fn no_rules_open_what_nothing_opens(policy in any_list(), bits: u32, port in 1..4_u16, udp: bool) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let ranges = Ranges::default();
        for to in [
            Ipv4Addr::from_bits(0x7f00_0000 | (bits & 0xff_ffff)),
            Ipv4Addr::from_bits(0xa9fe_0000 | (bits & 0xffff)),
            Ipv4Addr::from_bits(0xe000_0000 | bits),
        ] {
            let verdict = policy.judge(&ranges, to.into(), port, transport);
            prop_assert!(matches!(verdict, Verdict::Denied(_)), "{to}: {verdict:?}");
            prop_assert_eq!(policy.judge(&ranges, to.to_ipv6_mapped().into(), port, transport), verdict);
            prop_assert!(policy.judge_resolved(&ranges, to.into(), Some(port)).is_err());
        }
    }

    #[test]
    fn more_denying_allows_nothing_more_and_more_allowing_denies_nothing_more(
        policy in any_list(),
        extra in any_rule(),
        bits: u32,
        port in 1..4_u16,
    ) {
        let Policy::List(list) = &policy else { return Ok(()) };
        let mut stricter = list.clone();
        stricter.deny.push(extra.clone());
        let mut looser = list.clone();
        looser.allow.push(extra);
        let ranges = Ranges::default();
        let to = IpAddr::from(Ipv4Addr::from_bits(bits));
        let allowed = |list: &List| {
            let policy = Policy::List(Box::new(list.clone()));
            policy.judge(&ranges, to, port, Transport::Tcp) == Verdict::Allowed
        };
        prop_assert!(!allowed(&stricter) || allowed(list));
        prop_assert!(!allowed(list) || allowed(&looser));
    }

    /// A name that may be reached may be resolved, or else its rule would be of no use.
    #[test]
    fn what_may_be_reached_by_name_may_be_resolved(policy in any_list(), text in "([ab]\\.){1,2}[ab]", port in 1..4_u16) {
        let name = name(&text);
        let reachable = matches!(policy.judge_name(&name, port), NameVerdict::Allowed { .. });
        prop_assert!(!reachable || policy.may_resolve(&name));
    }

    #[test]
    fn a_policy_survives_being_written(policy in any_list()) {
        let written = serde_json::to_string(&policy).unwrap();
        prop_assert_eq!(serde_json::from_str::<Policy>(&written).unwrap(), policy);
    }
}
