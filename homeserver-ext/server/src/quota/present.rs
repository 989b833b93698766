//! The limits that are in force, which may change while the server runs: the one place that knows.

use tokio::sync::watch;

use super::{AccountQuotas, EdgeLimits, GuestQuotas};

/// Who sets them, and hands out what follows them.
#[derive(Debug)]
pub(crate) struct Present {
    pub(crate) accounts: watch::Sender<AccountQuotas>,
    pub(crate) guests: watch::Sender<GuestQuotas>,
    pub(crate) edge: watch::Sender<EdgeLimits>,
}

impl Present {
    pub(crate) fn new(accounts: AccountQuotas, guests: GuestQuotas, edge: EdgeLimits) -> Self {
        Self {
            accounts: watch::Sender::new(accounts),
            guests: watch::Sender::new(guests),
            edge: watch::Sender::new(edge),
        }
    }

    /// From the next request, and the next connection, on.
    pub(crate) fn set(&self, accounts: AccountQuotas, guests: GuestQuotas, edge: EdgeLimits) {
        self.accounts.send_replace(accounts);
        self.guests.send_replace(guests);
        self.edge.send_replace(edge);
    }
}
