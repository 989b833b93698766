//! What a listener bears, before anything of what is sent to it is looked at.

use super::Quota;

/// What a listener bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address, or of the 64 bits of an IPv6 address that name a network; a
    /// trusted proxy has as many as there are.
    pub per_address: usize,
    /// Requests of one address, as a trusted proxy names it.
    pub requests: Option<Quota>,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_address: 64,
            requests: Some(Quota::per_minute(60_000, 10_000)),
        }
    }
}
