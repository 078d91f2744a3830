//! Sessions in Redis or Valkey: shared by all replicas, and there when one of them starts anew.

mod breaker;
mod connector;
mod line;
mod settings;

pub use settings::{RedisSettings, RedisSettingsError};
