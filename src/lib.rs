//! Vestibule: the room in front of an application.
//!
//! A reverse proxy that finds out who is at the door, decides whether they may pass, and tells the application behind
//! it who they are.
//!
//! # The map, in reading order
//!
//! [`gateway`] is the walk of a request; read it first. [`policy`] decides, [`oauth`] speaks the protocol, and both are
//! pure. [`provider`] is an authorization server over the wire, [`upstream`] is the application, [`session`] is what is
//! remembered about a login. [`server`] owns the sockets, [`config`] turns the file into settings, [`cli`] the
//! arguments into commands. [`identity`], [`time`], [`secret`], [`trust`],
//! [`certificate`] and [`telemetry`] are the ground floor.
//!
//! # What always holds
//!
//! 1. Nothing reaches an upstream without a [`policy::Permit`], and nothing unscrubbed.
//! 2. [`oauth`], [`policy`] and [`identity`] wait for nothing, read no clock and draw no randomness.
//! 3. No room but [`config`] knows the shape of the file.
//! 4. A cached verdict is evidence: requirements are evaluated on every request, and `now` decides what is over.
//! 5. Work that many wait for runs in a task of its own and outlives the request that started it.
//! 6. Every wait has a limit; every cache, cookie, queue, header and body has a size.
//! 7. Secrets have no debug text, no `==` and no serialisation.

#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used
)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod certificate;
pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod gateway;
pub mod identity;
pub mod oauth;
pub mod policy;
pub mod provider;
pub mod secret;
pub mod server;
pub mod session;
pub mod telemetry;
pub mod time;
pub mod trust;
pub mod upstream;
