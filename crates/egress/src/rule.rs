//! One rule of a list, as people write it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{InvalidName, Name};

/// How much of a rule an error quotes, in characters.
const QUOTE_CHARS_MAX: usize = 80;

/// `api.example.com`, `*.example.org:443`, `10.1.0.0/16`, `1.2.3.4:53`, `[2001:db8::1]:443`, `2001:db8::/32`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    Net(NetRule),
    Name(NameRule),
}

/// Addresses, and one port of them or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetRule {
    /// Without bits of a host.
    pub net: IpNet,
    pub port: Option<u16>,
}

/// A name or all names below it, and one port of it or all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameRule {
    pub name: Name,
    /// Written `*.` before the name, which itself is not meant then.
    pub below: bool,
    pub port: Option<u16>,
}

/// Why a text is no rule; it names the rule and the fix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the rule {rule:?} {problem}")]
pub struct InvalidRule {
    /// Its beginning, when it is long.
    pub rule: String,
    pub problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    #[error("is empty; write a name, an address or a network")]
    Empty,
    #[error("has a scheme or a path; write only the name, and a port if need be")]
    Url,
    #[error("has no valid port after its colon; write a number from 1 to 65535")]
    Port,
    #[error("has an IPv6 address with a port; write it as [address]:port")]
    Brackets,
    #[error("has bits beyond the length of its network; write it as {0}")]
    HostBits(IpNet),
    #[error("is no network; write an address, a slash and the number of bits, like 10.1.0.0/16")]
    Net,
    #[error("has a `*` that does not stand for the whole first part; write it as *.example.com")]
    Wildcard,
    #[error("{0}; write a name like api.example.com, an address or a network")]
    Name(InvalidName),
}

impl NetRule {
    #[must_use]
    pub fn matches(&self, address: IpAddr, port: u16) -> bool {
        self.net.contains(&address) && self.port.is_none_or(|own| own == port)
    }
}

impl NameRule {
    #[must_use]
    pub fn matches_name(&self, name: &Name) -> bool {
        if self.below {
            name.is_below(&self.name)
        } else {
            *name == self.name
        }
    }

    #[must_use]
    pub fn matches(&self, name: &Name, port: u16) -> bool {
        self.port.is_none_or(|own| own == port) && self.matches_name(name)
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        parse(text.trim()).map_err(|problem| InvalidRule {
            rule: text.chars().take(QUOTE_CHARS_MAX).collect(),
            problem,
        })
    }
}

impl FromStr for NameRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        match text.parse()? {
            Rule::Name(rule) => Ok(rule),
            Rule::Net(_) => Err(InvalidRule {
                rule: text.chars().take(QUOTE_CHARS_MAX).collect(),
                problem: Problem::Name(InvalidName::Number),
            }),
        }
    }
}

fn parse(text: &str) -> Result<Rule, Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if text.contains("://") {
        return Err(Problem::Url);
    }
    // An address of IPv6, before its colons are taken for that of a port.
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Rule::Net(whole(address, None)));
    }
    if let Some(rest) = text.strip_prefix('[') {
        return parse_bracketed(rest);
    }
    let (what, port) = match text.rsplit_once(':') {
        // A network of IPv6 without a port ends in `/bits`.
        Some((_, end)) if end.contains('/') => (text, None),
        Some((what, _)) if what.contains(':') => return Err(Problem::Brackets),
        Some((what, port)) => (what, Some(parse_port(port)?)),
        None => (text, None),
    };
    if let Ok(address) = what.parse::<IpAddr>() {
        return Ok(Rule::Net(whole(address, port)));
    }
    if what.contains('/') {
        return parse_net(what, port);
    }
    let (below, name) = match what.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, what),
    };
    if name.contains('*') {
        return Err(Problem::Wildcard);
    }
    let name = name.parse().map_err(Problem::Name)?;
    Ok(Rule::Name(NameRule { name, below, port }))
}

/// What follows a bracket: `address]`, `address]:port` or `net/bits]:port`.
fn parse_bracketed(rest: &str) -> Result<Rule, Problem> {
    let (inside, after) = rest.split_once(']').ok_or(Problem::Brackets)?;
    let port = match after.strip_prefix(':') {
        Some(port) => Some(parse_port(port)?),
        None if after.is_empty() => None,
        None => return Err(Problem::Brackets),
    };
    if inside.contains('/') {
        return parse_net(inside, port);
    }
    let address = inside.parse::<IpAddr>().map_err(|_| Problem::Brackets)?;
    Ok(Rule::Net(whole(address, port)))
}

fn parse_net(text: &str, port: Option<u16>) -> Result<Rule, Problem> {
    let Ok(net) = text.parse::<IpNet>() else {
        let before = text.split('/').next().unwrap_or_default();
        let is_name = before.parse::<Name>().is_ok();
        return Err(if is_name { Problem::Url } else { Problem::Net });
    };
    if net.trunc() != net {
        return Err(Problem::HostBits(net.trunc()));
    }
    Ok(Rule::Net(NetRule { net: bare(net), port }))
}

fn parse_port(text: &str) -> Result<u16, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or(Problem::Port)
}

fn whole(address: IpAddr, port: Option<u16>) -> NetRule {
    NetRule {
        net: IpNet::from(address.to_canonical()),
        port,
    }
}

/// Networks of IPv4 may be spelled as IPv6; addresses are compared as what they are.
fn bare(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let bits = v6.prefix_len().checked_sub(96);
    let inner = v6.network().to_ipv4_mapped().zip(bits);
    inner
        .and_then(|(v4, bits)| IpNet::new(v4.into(), bits).ok())
        .unwrap_or(net)
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(rule) => rule.fmt(formatter),
            Self::Name(rule) => rule.fmt(formatter),
        }
    }
}

impl fmt::Display for NetRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = self.net.prefix_len() == self.net.max_prefix_len();
        let text = if single {
            self.net.addr().to_string()
        } else {
            self.net.to_string()
        };
        match (self.port, self.net) {
            (None, _) => formatter.write_str(&text),
            (Some(port), IpNet::V4(_)) => write!(formatter, "{text}:{port}"),
            (Some(port), IpNet::V6(_)) => write!(formatter, "[{text}]:{port}"),
        }
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*." } else { "" };
        write!(formatter, "{star}{}", self.name)?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for NameRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NameRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
