//! What is refused before it is looked at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rate;

/// What both listeners bear. A trusted proxy (`native.trusted_proxies`) has no limit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections in all; 0: as many as the limit of open files (`ulimit -n`) leaves room for.
    pub connections: u32,
    /// Connections of one address, with each listener.
    pub connections_per_address: u32,
    /// Requests of one address, with each listener, whatever they ask for.
    pub requests: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 0,
            connections_per_address: 64,
            requests: Rate { per_minute: 60_000, burst: 10_000 },
        }
    }
}
