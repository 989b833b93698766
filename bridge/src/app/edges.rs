//! What each listener bears: the configuration, and how many files may be open.

use causeway_server::{Edge, EdgeLimits, Proxies};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

use super::server_clock;
use crate::config::Config;

/// Fewest descriptors that are kept for databases, the homeserver and the log.
const RESERVE: u64 = 64;
/// Where no limit is set, or a higher one than anybody needs.
const PLENTY: u64 = 40_000;

/// A listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// Of native clients.
    Native,
    /// Of the homeserver, probes and the operator.
    Appservice,
}

/// Raises the limit of open files as far as the process may.
pub(super) fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// How many connections of `listener` fit where so many files may be open. A quarter of these is
/// kept, and a quarter of the rest is for the homeserver, probes and the operator: strangers reach
/// the other listener.
fn connections(listener: Listener, files: u64) -> u64 {
    let files = files.min(PLENTY);
    let free = files.saturating_sub((files / 4).max(RESERVE));
    let appservice = free / 4;
    match listener {
        Listener::Native => free - appservice,
        Listener::Appservice => appservice,
    }
    .max(8)
}

/// What stands before the router of the homeserver, probes and the operator.
pub(super) fn appservice(config: &Config, limits: watch::Receiver<EdgeLimits>) -> Edge {
    Edge::new("appservice", limits, proxies(config), server_clock())
}

/// What `listener` bears.
pub(super) fn limits(config: &Config, listener: Listener) -> EdgeLimits {
    let limits = &config.limits;
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fit = connections(listener, files);
    let wanted = u64::from(limits.connections);
    let most = if wanted == 0 { fit } else { wanted.min(fit) };
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    EdgeLimits {
        connections: number(most),
        per_address: number(limits.connections_per_address.into()),
        requests: Some(limits.requests.into()),
    }
}

/// The proxies that are believed; what is none was refused when the configuration was read.
pub(super) fn proxies(config: &Config) -> Proxies {
    config.native.trusted_proxies.iter().filter_map(|proxy| proxy.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Listener, connections};

    #[test]
    fn whatever_the_limit_some_files_are_kept() {
        for (files, native, appservice) in [
            (0, 8, 8),
            (64, 8, 8),
            (256, 144, 48),
            (1_024, 576, 192),
            (1 << 20, 22_500, 7_500),
            (u64::MAX, 22_500, 7_500),
        ] {
            let fit = |listener| connections(listener, files);
            let found = (fit(Listener::Native), fit(Listener::Appservice));
            assert_eq!(found, (native, appservice), "{files}");
        }
    }
}
