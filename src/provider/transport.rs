//! The one way to send bytes to a provider.
