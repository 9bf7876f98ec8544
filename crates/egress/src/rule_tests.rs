//! Rules are read as they are written, and errors say how to write them.

use proptest::prelude::*;

use super::*;

#[test]
fn every_form_is_read_and_written_back() {
    for (given, written) in [
        ("api.example.com", "api.example.com"),
        ("API.Example.com.", "api.example.com"),
        (" *.example.org:443 ", "*.example.org:443"),
        ("bücher.example:80", "xn--bcher-kva.example:80"),
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("10.1.0.0/16:22", "10.1.0.0/16:22"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4/32", "1.2.3.4"),
        ("1.2.3.4:53", "1.2.3.4:53"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        let rule: Rule = given.parse().unwrap();
        assert_eq!(rule.to_string(), written, "{given}");
        assert_eq!(written.parse::<Rule>().unwrap(), rule, "{given}");
    }
}

#[test]
fn an_error_names_the_rule_and_the_fix() {
    for (given, said) in [
        ("", "is empty"),
        ("https://example.com", "write only the name"),
        ("example.com/path", "write only the name"),
        ("example.com:https", "from 1 to 65535"),
        ("example.com:0", "from 1 to 65535"),
        ("example.com:+1", "from 1 to 65535"),
        ("example.com:65536", "from 1 to 65535"),
        ("2001:db8::1:70000", "[address]:port"),
        ("[2001:db8::1", "[address]:port"),
        ("[2001:db8::1]x", "[address]:port"),
        ("10.1.2.3/16", "10.1.0.0/16"),
        ("10.1.0.0/33", "number of bits"),
        ("exa*mple.com", "*.example.com"),
        ("*", "*.example.com"),
        ("*.*.com", "*.example.com"),
        ("127.1", "could be read as an address"),
        ("a b", "has a character"),
    ] {
        let error = given.parse::<Rule>().unwrap_err().to_string();
        assert!(error.contains(said), "{given}: {error}");
        assert!(error.starts_with(&format!("the rule {given:?} ")), "{error}");
    }
}

#[test]
fn a_long_rule_is_quoted_in_part() {
    let error = "é".repeat(100_000).parse::<Rule>().unwrap_err();
    assert!(error.to_string().len() < 500);
}

#[test]
fn a_rule_for_secrets_is_one_for_names() {
    assert!("api.example.com".parse::<NameRule>().is_ok());
    assert!("10.0.0.0/8".parse::<NameRule>().is_err());
}

#[test]
fn a_wildcard_is_for_what_is_below_and_a_port_for_itself() {
    let rule: NameRule = "*.example.org:443".parse().unwrap();
    let name = |text: &str| text.parse::<Name>().unwrap();
    assert!(rule.matches(&name("a.b.example.org"), 443));
    assert!(!rule.matches(&name("example.org"), 443));
    assert!(!rule.matches(&name("a.example.org"), 80));
}

proptest! {
    #[test]
    fn reading_never_panics_and_what_is_read_is_written_and_read_the_same(
        text in prop_oneof![".*", "[0-9a-f:.*/\\[\\]x-]{0,40}", "(\\*\\.)?[a-z]{1,3}(\\.[a-z]{1,3}){0,3}(:[0-9]{1,5})?"],
    ) {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
        }
    }
}
