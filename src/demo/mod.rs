//! Everything that is needed to try the gateway: somebody to log in at, and an application that cannot log anybody in.

pub mod authorization_server;
mod keys;
pub mod legacy_app;
mod site;
