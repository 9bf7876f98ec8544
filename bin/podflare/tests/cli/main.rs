//! The command line as people and programs meet it: the real binary, and a host that answers from a script.
#![forbid(unsafe_code)]

#[cfg(test)]
mod config;
#[cfg(test)]
mod forks;
mod help;
mod image;
#[cfg(test)]
mod local;
#[cfg(test)]
mod run;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod support;
