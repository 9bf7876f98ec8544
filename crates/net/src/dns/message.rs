//! Reading and changing DNS messages.

use std::net::IpAddr;
use std::time::Duration;

use egress::Name;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name as DnsName, RData, Record, RecordType};

/// Longest message we read, as over TCP.
pub(crate) const ANSWER_BYTES_MAX: usize = u16::MAX as usize;

/// Longest question: one name and a few options.
const QUERY_BYTES_MAX: usize = 4096;

/// Longest answer over UDP that resolvers are asked for: what passes every path unfragmented.
const DATAGRAM_BYTES_MAX: u16 = 1232;

/// How long an answer without addresses is believed at most.
const NEGATIVE_MAX: Duration = Duration::from_mins(1);
const POSITIVE_MAX: Duration = Duration::from_hours(1);

/// For how long guests may believe what this machine's own file says: it can change at any time.
const OWN_SECONDS: u32 = 5;

/// One question, understood.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    message: Message,
    /// None for one that is no name of a host, a root or a stray byte: nothing but a policy that allows all allows it.
    pub(crate) name: Option<Name>,
}

/// What makes two questions the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    name: DnsName,
    kind: u16,
    class: u16,
    dnssec: bool,
    unchecked: bool,
}

/// An answer of a resolver to a question of ours.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    message: Message,
}

impl Query {
    /// None for what gets no answer.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > QUERY_BYTES_MAX {
            return None;
        }
        let message = Message::from_vec(bytes).ok()?;
        let ordinary = message.metadata.message_type == MessageType::Query
            && message.metadata.op_code == OpCode::Query
            && message.queries.len() == 1;
        if !ordinary {
            return None;
        }
        let name = message.queries.first().and_then(|question| ours(&question.name));
        Some(Self { message, name })
    }

    fn question(&self) -> Option<&Question> {
        self.message.queries.first()
    }

    pub(crate) fn key(&self) -> Option<Key> {
        let question = self.question()?;
        Some(Key {
            name: question.name.to_lowercase(),
            kind: question.query_type.into(),
            class: question.query_class.into(),
            dnssec: self.wants_dnssec(),
            unchecked: self.message.metadata.checking_disabled,
        })
    }

    /// As it is sent to a resolver: with none of the options a guest may have put in, and for datagrams of ours.
    pub(crate) fn with_id(&self, id: u16) -> Option<Vec<u8>> {
        let mut message = Message::query();
        message.metadata.id = id;
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.message.metadata.checking_disabled;
        message.metadata.authentic_data = self.message.metadata.authentic_data;
        message.add_queries(self.message.queries.iter().cloned());
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_BYTES_MAX);
        edns.set_dnssec_ok(self.wants_dnssec());
        message.set_edns(edns);
        message.to_vec().ok()
    }

    fn wants_dnssec(&self) -> bool {
        self.message
            .edns
            .as_ref()
            .is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// Whether it asks for addresses of version 6; None if it asks for something else.
    pub(crate) fn wants_v6(&self) -> Option<bool> {
        let question = self.question()?;
        match question.query_type {
            RecordType::A if question.query_class == DNSClass::IN => Some(false),
            RecordType::AAAA if question.query_class == DNSClass::IN => Some(true),
            _ => None,
        }
    }

    pub(crate) fn refusal(&self) -> Option<Vec<u8>> {
        self.respond(ResponseCode::Refused)
    }

    pub(crate) fn failure(&self) -> Option<Vec<u8>> {
        self.respond(ResponseCode::ServFail)
    }

    fn respond(&self, code: ResponseCode) -> Option<Vec<u8>> {
        let mut response = Message::response(self.message.metadata.id, OpCode::Query);
        response.metadata.recursion_desired = self.message.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.metadata.response_code = code;
        response.add_queries(self.message.queries.iter().cloned());
        response.to_vec().ok()
    }

    /// Longest answer over UDP.
    pub(crate) fn payload_max(&self) -> usize {
        usize::from(self.message.max_payload())
    }
}

impl Answer {
    /// None for bytes that are not an answer to this question.
    pub(crate) fn read(bytes: &[u8], id: u16, query: &Query) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        let asked = query.question()?;
        let same = message.metadata.message_type == MessageType::Response
            && message.metadata.id == id
            && message.queries.first().is_some_and(|question| {
                question.name.to_lowercase() == asked.name.to_lowercase()
                    && question.query_type == asked.query_type
                    && question.query_class == asked.query_class
            });
        same.then_some(Self { message })
    }

    /// What we know ourselves.
    pub(crate) fn of_addresses(query: &Query, addresses: impl Iterator<Item = IpAddr>) -> Option<Self> {
        let name = &query.question()?.name;
        let mut message = Message::response(query.message.metadata.id, OpCode::Query);
        message.metadata.recursion_desired = query.message.metadata.recursion_desired;
        message.metadata.recursion_available = true;
        message.add_answers(addresses.map(|address| {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            };
            Record::from_rdata(name.clone(), OWN_SECONDS, data)
        }));
        Some(Self { message })
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.message.metadata.truncation
    }

    /// The resolver could not, or would not, say: another may.
    pub(crate) fn is_useless(&self) -> bool {
        matches!(
            self.message.metadata.response_code,
            ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp
        )
    }

    /// For how long it may be kept. None: not at all.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        let positive = !self.message.answers.is_empty();
        let known = matches!(
            self.message.metadata.response_code,
            ResponseCode::NoError | ResponseCode::NXDomain
        );
        if !known || self.is_truncated() {
            return None;
        }
        let records = self.message.answers.iter().chain(&self.message.authorities);
        let least = records.map(seconds_of).min()?;
        let max = if positive { POSITIVE_MAX } else { NEGATIVE_MAX };
        let lifetime = Duration::from_secs(u64::from(least)).min(max);
        (!lifetime.is_zero()).then_some(lifetime)
    }

    /// The same some time later.
    pub(crate) fn aged(&self, age: Duration) -> Self {
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let mut message = self.message.clone();
        let sections = [
            &mut message.answers,
            &mut message.authorities,
            &mut message.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(seconds);
        }
        Self { message }
    }

    /// Addresses that it gives, and for how long each is good.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IpAddr, Duration)> {
        let records = self.message.answers.iter();
        records.filter_map(|record| {
            let ttl = Duration::from_secs(u64::from(record.ttl));
            Some((address_of(record)?, ttl))
        })
    }

    /// Takes out addresses that must not be told. Says whether there were addresses, and none is left.
    pub(crate) fn retain(&mut self, keep: impl Fn(IpAddr) -> bool) -> bool {
        let before = self.addresses().count();
        let kept = |record: &Record| address_of(record).is_none_or(&keep);
        self.message.answers.retain(kept);
        self.message.additionals.retain(kept);
        before > 0 && self.addresses().next().is_none()
    }

    /// As the answer to a guest's question, of at most so many bytes, or else marked as cut.
    pub(crate) fn for_query(&self, query: &Query, max: usize) -> Option<Vec<u8>> {
        let mut message = self.message.clone();
        message.metadata.id = query.message.metadata.id;
        message.queries.clone_from(&query.message.queries);
        // Whoever sent no options understands none.
        if query.message.edns.is_none() {
            message.edns = None;
        }
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= max {
            return Some(bytes);
        }
        let mut cut = message.truncate();
        cut.answers.clear();
        cut.metadata.truncation = true;
        cut.to_vec().ok().filter(|bytes| bytes.len() <= max)
    }
}

/// A question of our own for the addresses of a name.
pub(crate) fn question_for(name: &Name, v6: bool) -> Option<Query> {
    let mut message = Message::query();
    let kind = if v6 { RecordType::AAAA } else { RecordType::A };
    let dns_name = DnsName::from_ascii(format!("{name}.")).ok()?;
    message.add_query(Question::query(dns_name, kind));
    message.metadata.recursion_desired = true;
    Some(Query {
        message,
        name: Some(name.clone()),
    })
}

fn ours(name: &DnsName) -> Option<Name> {
    Name::from_ascii(name.to_ascii().as_bytes()).ok()
}

fn address_of(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) if record.dns_class == DNSClass::IN => Some(address.0.into()),
        RData::AAAA(address) if record.dns_class == DNSClass::IN => Some(address.0.into()),
        _ => None,
    }
}

/// That something is not there is good for what its zone says (RFC 2308, 5).
fn seconds_of(record: &Record) -> u32 {
    match &record.data {
        RData::SOA(zone) => record.ttl.min(zone.minimum),
        _ => record.ttl,
    }
}

/// Arbitrary bytes as a question and as its answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let cut = bytes.len() / 2;
    let (first, second) = bytes.split_at(cut);
    for query in [bytes, first].into_iter().filter_map(Query::read) {
        drop((query.refusal(), query.failure(), query.key(), query.with_id(7)));
        let id = u16::from_be_bytes([
            second.first().copied().unwrap_or(0),
            second.get(1).copied().unwrap_or(0),
        ]);
        if let Some(mut answer) = Answer::read(second, id, &query) {
            let _ = (answer.lifetime(), answer.is_useless(), answer.is_truncated());
            answer.retain(|address| address.is_ipv4());
            let short = answer.aged(Duration::from_secs(3)).for_query(&query, 512);
            assert!(
                short.is_none_or(|bytes| bytes.len() <= 512),
                "an answer is longer than it may be"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{A, AAAA};
    use proptest::prelude::*;

    fn answer(query: &Query, addresses: &[&str]) -> Vec<u8> {
        let mut message = Message::response(9, OpCode::Query);
        message.add_queries(query.message.queries.iter().cloned());
        for address in addresses {
            let data = match address.parse().unwrap() {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            };
            message.add_answer(Record::from_rdata(
                query.message.queries[0].name.clone(),
                60,
                data,
            ));
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn addresses_are_taken_out_and_ages_are_counted() {
        let query = question_for(&"a.example".parse().unwrap(), false).unwrap();
        let bytes = answer(&query, &["1.2.3.4", "10.0.0.1"]);
        let mut read = Answer::read(&bytes, 9, &query).unwrap();
        assert_eq!(read.lifetime(), Some(Duration::from_secs(60)));
        assert!(!read.retain(|address| address != IpAddr::from([10, 0, 0, 1])));
        let told = read.aged(Duration::from_secs(20)).for_query(&query, 512).unwrap();
        let told = Answer::read(&told, 0, &query).or_else(|| {
            let id = query.message.metadata.id;
            Answer::read(&told, id, &query)
        });
        let addresses: Vec<_> = told.unwrap().addresses().collect();
        assert_eq!(addresses, [([1, 2, 3, 4].into(), Duration::from_secs(40))]);
        assert!(read.retain(|_| false));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let query = question_for(&"a.example".parse().unwrap(), false).unwrap();
        let other = question_for(&"b.example".parse().unwrap(), false).unwrap();
        let sixth = question_for(&"a.example".parse().unwrap(), true).unwrap();
        let bytes = answer(&query, &["1.2.3.4"]);
        assert!(Answer::read(&bytes, 9, &query).is_some());
        assert!(Answer::read(&bytes, 8, &query).is_none());
        assert!(Answer::read(&bytes, 9, &other).is_none());
        assert!(Answer::read(&bytes, 9, &sixth).is_none());
        assert!(Answer::read(&query.with_id(9).unwrap(), 9, &query).is_none());
    }

    #[test]
    fn an_answer_that_is_too_long_is_cut_and_says_so() {
        let query = question_for(&"a.example".parse().unwrap(), true).unwrap();
        let many: Vec<String> = (0..100).map(|number| format!("2001:db8::{number:x}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let read = Answer::read(&answer(&query, &many), 9, &query).unwrap();
        assert!(read.for_query(&query, 65_535).unwrap().len() > 512);
        let cut = read.for_query(&query, 512).unwrap();
        let cut = Answer::read(&cut, query.message.metadata.id, &query).unwrap();
        assert!(cut.is_truncated() && cut.addresses().next().is_none());
    }

    #[test]
    fn a_refusal_repeats_the_question() {
        let query = question_for(&"a.example".parse().unwrap(), false).unwrap();
        let refusal = Message::from_vec(&query.refusal().unwrap()).unwrap();
        assert_eq!(refusal.metadata.response_code, ResponseCode::Refused);
        assert_eq!(refusal.queries, query.message.queries);
        assert_eq!(refusal.metadata.id, query.message.metadata.id);
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(bytes: Vec<u8>, flips in prop::collection::vec((0..200_usize, any::<u8>()), 0..4)) {
            fuzz(&bytes);
            let query = question_for(&"a.example".parse().unwrap(), false).unwrap();
            let mut message = [query.with_id(9).unwrap(), answer(&query, &["1.2.3.4", "::1"])].concat();
            for (at, value) in flips {
                if let Some(byte) = message.get_mut(at) {
                    *byte = value;
                }
            }
            fuzz(&message);
        }
    }
}
