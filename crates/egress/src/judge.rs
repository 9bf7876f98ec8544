//! What a policy says.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Class, List, Name, NetRule, Policy, Ranges, Rule, Transport};

/// About an address that a guest sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Only a name could allow it, and none is known yet. Of TCP alone.
    NameNeeded,
    Denied(Reason),
}

/// About a name that a guest has proven to mean, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameVerdict {
    Allowed {
        /// By a rule with a port of its own that is neither that of HTTP nor that of HTTPS: what is spoken there need not
        /// carry a name, so having asked our resolver for it is proof enough.
        by_resolving: bool,
    },
    Denied(Reason),
}

/// Why something is denied, in words for the sandbox's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    #[error("egress is off")]
    Closed,
    #[error("nothing may reach this address")]
    Unreachable,
    #[error("the address is the host's own")]
    Host,
    #[error("the address is private, and no rule for a network in its range allows it")]
    Private,
    #[error("a deny rule matches")]
    DenyRule,
    #[error("no allow rule matches")]
    NotAllowed,
    #[error("UDP is allowed to addresses and networks only, and none matches")]
    Udp,
}

impl Policy {
    /// May a guest send to this address?
    #[must_use]
    pub fn judge(&self, ranges: &Ranges, to: IpAddr, port: u16, transport: Transport) -> Verdict {
        let to = to.to_canonical();
        let class = ranges.class(to);
        match self {
            Self::Closed => Verdict::Denied(Reason::Closed),
            Self::Open => judge_class(class, |_| false).map_or_else(Verdict::Denied, |()| Verdict::Allowed),
            Self::List(list) => list.judge(class, to, port, transport),
        }
    }

    /// May our resolver tell this name's addresses, whatever port they are wanted for?
    #[must_use]
    pub fn may_resolve(&self, name: &Name) -> bool {
        match self {
            Self::Open => true,
            Self::Closed => false,
            Self::List(list) => {
                let denied = names(&list.deny).any(|rule| rule.port.is_none() && rule.matches_name(name));
                !denied && names(&list.allow).any(|rule| rule.matches_name(name))
            }
        }
    }

    /// May a guest reach what has this name, on this port?
    #[must_use]
    pub fn judge_name(&self, name: &Name, port: u16) -> NameVerdict {
        let list = match self {
            Self::Open => return NameVerdict::Allowed { by_resolving: true },
            Self::Closed => return NameVerdict::Denied(Reason::Closed),
            Self::List(list) => list,
        };
        if names(&list.deny).any(|rule| rule.matches(name, port)) {
            return NameVerdict::Denied(Reason::DenyRule);
        }
        let mut allowing = names(&list.allow)
            .filter(|rule| rule.matches(name, port))
            .peekable();
        if allowing.peek().is_none() {
            return NameVerdict::Denied(Reason::NotAllowed);
        }
        let by_resolving = !matches!(port, 80 | 443) && allowing.any(|rule| rule.port.is_some());
        NameVerdict::Allowed { by_resolving }
    }

    /// May an allowed name lead to this address? Without a port: may our resolver tell it? A name whose owner lets
    /// it resolve to somebody's private network opens nothing there.
    ///
    /// # Errors
    /// Why not.
    pub fn judge_resolved(&self, ranges: &Ranges, to: IpAddr, port: Option<u16>) -> Result<(), Reason> {
        let to = to.to_canonical();
        let class = ranges.class(to);
        match self {
            Self::Closed => Err(Reason::Closed),
            Self::Open => judge_class(class, |_| false),
            Self::List(list) => {
                let matches = |rule: &NetRule| match port {
                    Some(port) => rule.matches(to, port),
                    None => rule.net.contains(&to),
                };
                let denies = |rule: &NetRule| matches(rule) && (port.is_some() || rule.port.is_none());
                if nets(&list.deny).any(denies) {
                    return Err(Reason::DenyRule);
                }
                judge_class(class, |range| {
                    nets(&list.allow).any(|rule| matches(rule) && range.contains(&rule.net))
                })
            }
        }
    }
}

impl List {
    fn judge(&self, class: Class, to: IpAddr, port: u16, transport: Transport) -> Verdict {
        if let Class::Host | Class::Unreachable = class {
            return judge_class(class, |_| false).map_or_else(Verdict::Denied, |()| Verdict::Allowed);
        }
        if nets(&self.deny).any(|rule| rule.matches(to, port)) {
            return Verdict::Denied(Reason::DenyRule);
        }
        let mut allowing = nets(&self.allow).filter(|rule| rule.matches(to, port));
        let allowed = match class {
            Class::Private(range) => allowing.any(|rule| range.contains(&rule.net)),
            _ => allowing.next().is_some(),
        };
        if allowed {
            return Verdict::Allowed;
        }
        let by_name = names(&self.allow).any(|rule| rule.port.is_none_or(|own| own == port));
        match (class, transport) {
            // A name that leads into a private network is judged once it is known; see `judge_resolved`. The address that
            // the guest has means nothing then.
            (_, Transport::Tcp) if by_name => Verdict::NameNeeded,
            (Class::Private(_), _) => Verdict::Denied(Reason::Private),
            (_, Transport::Udp) if by_name => Verdict::Denied(Reason::Udp),
            _ => Verdict::Denied(Reason::NotAllowed),
        }
    }
}

fn judge_class(class: Class, opens: impl Fn(ipnet::IpNet) -> bool) -> Result<(), Reason> {
    match class {
        Class::Public | Class::Opened => Ok(()),
        Class::Private(range) if opens(range) => Ok(()),
        Class::Private(_) => Err(Reason::Private),
        Class::Host => Err(Reason::Host),
        Class::Unreachable => Err(Reason::Unreachable),
    }
}

fn nets(rules: &[Rule]) -> impl Iterator<Item = &NetRule> {
    rules.iter().filter_map(|rule| match rule {
        Rule::Net(rule) => Some(rule),
        Rule::Name(_) => None,
    })
}

fn names(rules: &[Rule]) -> impl Iterator<Item = &crate::NameRule> {
    rules.iter().filter_map(|rule| match rule {
        Rule::Name(rule) => Some(rule),
        Rule::Net(_) => None,
    })
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
