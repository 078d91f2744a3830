//! The gateway from outside: real sockets, a real authorization server, and everything that can go wrong between them.

#![cfg(feature = "demo")]

mod administration;
mod applications;
mod bearer;
mod chooser;
mod chromium;
mod chromium_accounts;
mod client_certificates;
mod decisions;
mod demo;
mod doctor;
mod doors;
mod endings;
mod exhaustion;
mod extended_connect;
mod faults;
mod floor_plan;
mod forwarding;
mod grpc;
mod h2spec;
mod handover;
mod hostile;
mod http2;
mod keeping;
mod keys;
mod limits;
mod login;
mod logout;
mod operating;
mod other_account;
mod overage;
mod proxied;
mod redis;
mod redis_outage;
mod reload;
mod reload_streams;
mod replicas;
mod resource_metadata;
mod round_trips;
mod slow_refresh;
mod stalls;
mod step_up;
mod store_faults;
mod stores;
mod streams;
#[expect(unreachable_pub, reason = "a support module reads like a library of its own")]
mod support;
mod telling;
mod tls;
mod tls_front;
mod tls_renewal;
mod vouching;
mod websocket;
