//! What sandboxes may reach, as people type it and read it: `on`, `off`, `allow=api.example.com,10.1.0.0/16;deny=…`.

use egress::{List, Policy, Rule};

const EXPECTED: &str = "expected on, off, or allow=RULE,… and perhaps ;deny=RULE,…";

pub(crate) fn policy(text: &str) -> Result<Policy, String> {
    match text {
        "on" => return Ok(Policy::Open),
        "off" => return Ok(Policy::Closed),
        _ => {}
    }
    let mut list = List::default();
    let mut allows = false;
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("allow", rules)) => {
                allows = true;
                list.allow.extend(rules_of(rules)?);
            }
            Some(("deny", rules)) => list.deny.extend(rules_of(rules)?),
            _ => return Err(EXPECTED.to_owned()),
        }
    }
    if allows {
        Ok(Policy::List(Box::new(list)))
    } else {
        Err(EXPECTED.to_owned())
    }
}

/// One rule, as an argument of its own.
pub(crate) fn rule(text: &str) -> Result<Rule, String> {
    text.parse::<Rule>().map_err(|error| error.to_string())
}

pub(crate) fn words(policy: &Policy) -> String {
    let joined = |rules: &[Rule]| {
        let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
        rules.join(", ")
    };
    match policy {
        Policy::Open => "everything public".to_owned(),
        Policy::Closed => "nothing".to_owned(),
        Policy::List(list) if list.allow.is_empty() => "nothing: no rule allows anything".to_owned(),
        Policy::List(list) if list.deny.is_empty() => joined(&list.allow),
        Policy::List(list) => format!("{}; but not {}", joined(&list.allow), joined(&list.deny)),
    }
}

fn rules_of(text: &str) -> Result<Vec<Rule>, String> {
    let rules = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    rules.map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_is_read_as_it_is_typed_and_shown_as_it_is_meant() {
        assert_eq!(policy("on"), Ok(Policy::Open));
        assert_eq!(policy("off"), Ok(Policy::Closed));
        let listed = policy("allow=api.example.com,10.1.0.0/16;deny=10.1.2.0/24").unwrap();
        assert_eq!(
            words(&listed),
            "api.example.com, 10.1.0.0/16; but not 10.1.2.0/24"
        );
        assert_eq!(
            words(&policy("allow=").unwrap()),
            "nothing: no rule allows anything"
        );
        for text in ["", "yes", "deny=a.example", "api.example.com"] {
            assert_eq!(policy(text), Err(EXPECTED.to_owned()), "{text}");
        }
        let wrong = policy("allow=https://api.example.com/").unwrap_err();
        assert!(wrong.contains("https://api.example.com/"), "{wrong}");
    }
}
