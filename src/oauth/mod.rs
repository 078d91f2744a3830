//! The protocol's messages, one file each: the request and its response side by side. Pure.

pub mod access_token;
pub mod answer;
pub mod authorization;
pub mod client;
pub mod discovery;
pub mod distributed;
pub mod id_token;
pub mod introspection;
pub mod jwks;
pub mod jwt;
pub mod logout;
pub mod logout_token;
pub mod probe;
mod registered;
pub mod revocation;
pub mod token;
pub mod userinfo;

#[cfg(test)]
pub(crate) mod tests;
