//! Which names a guest asked our resolver for, and what addresses it was told.
//!
//! Where nothing that is spoken carries a name, this is how an address leads to one; and the log tells names by it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use egress::Name;

/// Names of addresses that are remembered for one wire; the oldest go first.
const KNOWN_MAX: usize = 2048;

/// Names of one address: many sites share one.
const NAMES_MAX: usize = 16;

/// Programs keep addresses for longer than they were told to, and a connection is made to the name anyway.
const FRESH_AT_LEAST: Duration = Duration::from_mins(10);

#[derive(Clone, Debug, Default)]
pub(crate) struct NameMemory {
    by_address: HashMap<IpAddr, Vec<Known>>,
    /// In the order of being learnt first.
    order: VecDeque<(IpAddr, Name)>,
}

#[derive(Clone, Debug)]
struct Known {
    name: Name,
    until: Instant,
}

impl NameMemory {
    pub(crate) fn learn(&mut self, name: &Name, address: IpAddr, ttl: Duration, now: Instant) {
        let until = now + ttl.max(FRESH_AT_LEAST);
        let names = self.by_address.entry(address).or_default();
        if let Some(index) = names.iter().position(|known| known.name == *name) {
            // The last one that was asked for is the likeliest to be meant.
            let mut known = names.remove(index);
            known.until = until;
            names.push(known);
            return;
        }
        names.push(Known {
            name: name.clone(),
            until,
        });
        self.order.push_back((address, name.clone()));
        let crowded = (names.len() > NAMES_MAX).then(|| names.first().map(|known| known.name.clone()));
        if let Some(name) = crowded.flatten() {
            self.order
                .retain(|(other, known)| (*other, known) != (address, &name));
            self.forget(address, &name);
        }
        while self.order.len() > KNOWN_MAX {
            if let Some((address, name)) = self.order.pop_front() {
                self.forget(address, &name);
            }
        }
    }

    /// The names of an address that are still fresh, the newest first.
    pub(crate) fn names(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &Name> {
        let names = self
            .by_address
            .get(&address)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let fresh = names.iter().rev().filter(move |known| now <= known.until);
        fresh.map(|known| &known.name)
    }

    fn forget(&mut self, address: IpAddr, name: &Name) {
        if let Some(names) = self.by_address.get_mut(&address) {
            names.retain(|known| known.name != *name);
            if names.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_known_while_they_are_fresh_the_newest_first() {
        let (mut memory, now) = (NameMemory::default(), Instant::now());
        let address = IpAddr::from([1, 1, 1, 1]);
        memory.learn(&name("a.example"), address, Duration::from_secs(1), now);
        memory.learn(&name("b.example"), address, Duration::from_hours(2), now);
        memory.learn(&name("a.example"), address, Duration::from_secs(1), now);
        let names = |after| -> Vec<_> { memory.names(address, now + after).map(Name::as_str).collect() };
        assert_eq!(names(Duration::ZERO), ["a.example", "b.example"]);
        assert_eq!(names(Duration::from_hours(1)), ["b.example"]);
        assert_eq!(memory.names([1, 1, 1, 2].into(), now).count(), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut memory, now) = (NameMemory::default(), Instant::now());
        for number in 0..10_000_u32 {
            let one = IpAddr::from(number.to_be_bytes());
            memory.learn(&name("a.example"), one, Duration::ZERO, now);
            let shared = IpAddr::from([9, 9, 9, 9]);
            memory.learn(&name(&format!("n{number}.example")), shared, Duration::ZERO, now);
        }
        let known: usize = memory.by_address.values().map(Vec::len).sum();
        assert!(memory.order.len() <= KNOWN_MAX && known == memory.order.len());
        assert_eq!(memory.names([9, 9, 9, 9].into(), now).count(), NAMES_MAX);
    }
}
