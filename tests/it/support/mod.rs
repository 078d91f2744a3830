//! What the stories are told with: a browser, a provider with faults, an application that echoes, and a clock by hand.

pub mod applications;
pub mod authority;
pub mod beside;
pub mod browser;
pub mod chromium;
pub mod demo;
pub mod fleet;
pub mod grpc;
pub mod h2c;
pub mod house;
pub mod lasting;
pub mod load;
pub mod process;
pub mod programs;
pub mod redis;
pub mod redis_groups;
pub mod relay;
pub mod slow;
pub mod tunnel;
pub mod upstream;
pub mod wire;
