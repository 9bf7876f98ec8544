//! Names and addresses: what guests ask the gateway, what the host's resolvers answer, and what is passed on of it.
//!
//! A question goes to the first of the host's resolvers that answers, each from a socket of its own, connected, so that
//! the kernel draws its port and takes answers from nobody else. What `/etc/hosts` knows is asked of nobody. Names that a policy does not allow are not asked for at
//! all, since a question tells its name to whoever runs the domain.

mod cache;
mod hosts;
mod message;
mod resolver;
mod servers;

pub(crate) use hosts::Hosts;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use message::fuzz;
pub(crate) use message::{ANSWER_BYTES_MAX, Answer, Query, question_for};
pub(crate) use resolver::{Answered, Asked, QUESTIONS_OF_WIRE_MAX, Resolver, Want};
pub use servers::Servers;
