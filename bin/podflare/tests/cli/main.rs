//! The command line as people and programs meet it: the real binary, and a host that answers from a script.
#![forbid(unsafe_code)]

#[cfg(test)]
mod config;
#[cfg(test)]
mod files;
#[cfg(test)]
mod forks;
#[cfg(test)]
mod forward;
mod help;
mod image;
#[cfg(test)]
mod local;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod run;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod support;
#[cfg(test)]
mod top;
