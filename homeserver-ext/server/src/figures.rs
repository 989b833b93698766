//! What whoever watches over the server wants to know: how full it is, and how fast.
//!
//! Counters and the histogram count up where things happen; what says how full it is now is
//! measured when it is asked for (`App::measure`). None of them names a person or a group.

/// Histogram: seconds from taking an envelope in to its acknowledgement by one recipient.
pub const DELIVERY_SECONDS: &str = "causeway_delivery_seconds";

/// Upper bounds of [`DELIVERY_SECONDS`]: from a push to a device that listens, to one that was
/// away for a week.
pub const DELIVERY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0, 604_800.0];

/// Histogram: seconds from what happened in a room of LiveKit's to the webhook that says so.
pub const WEBHOOK_SECONDS: &str = "causeway_sfu_webhook_lag_seconds";

/// Upper bounds of [`WEBHOOK_SECONDS`]; LiveKit says when only to the second.
pub const WEBHOOK_BUCKETS: [f64; 6] = [1.0, 2.0, 5.0, 15.0, 60.0, 300.0];

/// Histogram: seconds from a device's coming into a call in which somebody is to its first sound, as it says
/// of the mesh, and as LiveKit shows.
pub const SETUP_SECONDS: &str = "causeway_call_setup_seconds";

/// Upper bounds of [`SETUP_SECONDS`]; after 30 s a pair has failed.
pub const SETUP_BUCKETS: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0];

/// How full the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Bytes of the database file.
    pub db_bytes: u64,
    /// Bytes of its write-ahead log.
    pub wal_bytes: u64,
    /// Transactions committed since the start.
    pub transactions: u64,
    /// Commits that covered them.
    pub commits: u64,
    /// Transactions that had the writer for longer than 100 ms.
    pub long_transactions: u64,
    /// Mailbox rows that wait, of all devices.
    pub mailbox_rows: u64,
    /// Milliseconds that the oldest message has waited; ops, which wait for ever, aside. 0 if
    /// nothing waits.
    pub oldest_waiting_ms: u64,
    /// Bytes of payload that are kept although they were acknowledged.
    pub kept_bytes: u64,
    /// Bytes of what other servers acknowledged that are kept for them.
    pub given_bytes: u64,
    /// Rows that devices could not hold, each device's for itself.
    pub parked_rows: u64,
    /// Bytes of what they carry.
    pub parked_bytes: u64,
    /// Groups that are not closed.
    pub groups: u64,
    /// Their members, each as often as groups it is in.
    pub members: u64,
    /// Calls that run.
    pub calls: u64,
    /// Devices in them.
    pub call_participants: u64,
}

impl Figures {
    /// Says them to whatever gathers metrics in this process.
    #[expect(clippy::cast_precision_loss, reason = "what a gauge takes")]
    pub(crate) fn gauge(&self) {
        metrics::gauge!("causeway_mailbox_rows").set(self.mailbox_rows as f64);
        let oldest = self.oldest_waiting_ms as f64 / 1_000.0;
        metrics::gauge!("causeway_mailbox_oldest_seconds").set(oldest);
        metrics::gauge!("causeway_kept_bytes").set(self.kept_bytes as f64);
        metrics::gauge!("causeway_servers_kept_bytes").set(self.given_bytes as f64);
        metrics::gauge!("causeway_parked_rows").set(self.parked_rows as f64);
        metrics::gauge!("causeway_parked_bytes").set(self.parked_bytes as f64);
        metrics::gauge!("causeway_groups").set(self.groups as f64);
        metrics::gauge!("causeway_members").set(self.members as f64);
        metrics::gauge!("causeway_calls").set(self.calls as f64);
        metrics::gauge!("causeway_call_participants").set(self.call_participants as f64);
        metrics::gauge!("causeway_db_bytes", "db" => "server").set(self.db_bytes as f64);
        metrics::gauge!("causeway_wal_bytes", "db" => "server").set(self.wal_bytes as f64);
        for (name, count) in [
            ("causeway_db_transactions_total", self.transactions),
            ("causeway_db_commits_total", self.commits),
            ("causeway_db_long_transactions_total", self.long_transactions),
        ] {
            metrics::counter!(name, "db" => "server").absolute(count);
        }
    }
}
