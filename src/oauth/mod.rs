//! The protocol's messages, one file each: the request and its response side by side. Pure.

pub mod authorization;
pub mod client;
pub mod jwt;
pub mod token;
