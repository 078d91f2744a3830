//! The gateway from outside: real sockets, a real authorization server, and everything that can go wrong between them.

#![cfg(feature = "demo")]

mod administration;
mod bearer;
mod chooser;
mod chromium;
mod demo;
mod faults;
mod floor_plan;
mod forwarding;
mod grpc;
mod hostile;
mod http2;
mod keeping;
mod login;
mod logout;
mod operating;
mod redis;
mod redis_outage;
mod replicas;
mod stalls;
mod store_faults;
mod stores;
mod streams;
#[expect(unreachable_pub, reason = "a support module reads like a library of its own")]
mod support;
mod tls;
mod websocket;
