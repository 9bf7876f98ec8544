//! A guest on one end of a wire, the network on the other, and servers of the test as the outside.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod daemon;
mod guest;
mod outside;
mod tls;

mod bounds;
mod clones;
mod datagrams;
mod ipv6;
mod lists;
mod names;
mod policies;
mod secrets;
mod streams;
