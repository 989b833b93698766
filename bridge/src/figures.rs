//! What is counted and measured, for Prometheus: each name with what it means.
//!
//! Counters and histograms go up where things happen; what says how full something is now is
//! measured when it is asked for. None of them names a person, a room or a group.

use std::{fmt::Write as _, time::Duration};

use causeway_server::{
    DELIVERY_BUCKETS, DELIVERY_SECONDS, SETUP_BUCKETS, SETUP_SECONDS, WEBHOOK_BUCKETS,
    WEBHOOK_SECONDS,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Histogram: seconds from accepting a message to its being delivered, and that committed.
pub const MESSAGE_SECONDS: &str = "causeway_message_seconds";
/// Histogram: seconds from a transaction's first byte to its answer.
pub const TRANSACTION_SECONDS: &str = "causeway_transaction_seconds";

/// Gauge: for how long each of what stands has stood, by kind and name.
pub const STANDING_SECONDS: &str = "causeway_standing_seconds";
const STANDING: &str = "For how long what stands has stood: that which has longest, by name.";

/// Upper bounds of [`MESSAGE_SECONDS`]: from a message that meets nobody before it, to one that
/// outlived a homeserver's bad day.
const MESSAGE_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3_600.0, 86_400.0];
/// Upper bounds of [`TRANSACTION_SECONDS`].
const TRANSACTION_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0];

/// Names and meanings; a test holds them against what is shown and what `docs/metrics.md` says.
pub const ALL: &[(&str, &str)] = &[
    (MESSAGE_SECONDS, "From accepting a message to its being delivered, by direction."),
    ("causeway_delivered_total", "Effects that were carried out, messages among them."),
    ("causeway_dead_letters_total", "Effects that were given up."),
    ("causeway_transactions_total", "Transactions of the homeserver that were taken in."),
    (TRANSACTION_SECONDS, "From a transaction's first byte to its answer."),
    ("causeway_events_total", "Events of transactions: new, repeated, or quarantined."),
    ("causeway_events_routed_total", "Events that were judged by the rules."),
    (
        "causeway_events_fetched_total",
        "Events that were read from the homeserver before any transaction brought them.",
    ),
    ("causeway_rooms_unreadable_total", "Rooms that the homeserver refused to show."),
    ("causeway_rooms_put_back_total", "Rooms of which the homeserver no longer has the newest."),
    ("causeway_native_failed_total", "Native messages that could not be read, by reason."),
    ("causeway_matrix_requests_total", "Requests to the homeserver, by call and outcome."),
    ("causeway_task_restarts_total", "Tasks that ended when they should not, and began again."),
    ("causeway_inbox_events", "Events that wait to be judged."),
    ("causeway_outbox_effects", "Effects that wait to be carried out."),
    ("causeway_lanes_waiting", "Lanes that have something in them, or stand still."),
    ("causeway_lanes_paused", "Lanes that stand still until somebody acts."),
    ("causeway_dead_letters", "Effects that were given up and are kept."),
    ("causeway_quarantined", "What could not be parsed or read, and is kept."),
    ("causeway_portals", "Portals that are open."),
    ("causeway_ghosts", "Ghosts that were made."),
    ("causeway_ready", "1 if messages can pass."),
    ("causeway_troubles", "What stands still, by kind."),
    (STANDING_SECONDS, STANDING),
    ("causeway_db_bytes", "Bytes of the database file."),
    ("causeway_wal_bytes", "Bytes of its write-ahead log."),
    ("causeway_db_transactions_total", "Transactions committed, each by itself or with others."),
    ("causeway_db_commits_total", "Commits, each with one fsync."),
    (
        "causeway_db_long_transactions_total",
        "Transactions that had the writer for longer than 100 ms.",
    ),
    ("causeway_mailbox_rows", "Rows that wait in mailboxes, a broadcast once."),
    ("causeway_mailbox_oldest_seconds", "How long the oldest message has waited in a mailbox."),
    ("causeway_parked_rows", "Rows that devices could not hold, set aside for each."),
    ("causeway_parked_bytes", "Bytes of what was set aside for devices that could not hold it."),
    ("causeway_kept_bytes", "Bytes of what the bridge has acknowledged and may read again."),
    ("causeway_messages_published_total", "Native messages taken in."),
    ("causeway_messages_delivered_total", "Mailbox rows acknowledged."),
    ("causeway_messages_expired_total", "Mailbox rows not fetched in time, a broadcast once."),
    ("causeway_messages_cleaned_total", "Envelopes dropped because their time had passed."),
    ("causeway_messages_failed_total", "Rows that cannot arrive at a device."),
    ("causeway_groups_created_total", "Native groups begun."),
    ("causeway_keys_rotated_total", "Chains that devices said they have begun."),
    ("causeway_event_streams", "Streams of events that are open."),
    ("causeway_key_envelopes_relayed_total", "Key distributions taken in."),
    (DELIVERY_SECONDS, "From taking a message in to one recipient's acknowledgement."),
    ("causeway_refused_total", "Requests of the native API that were refused."),
    ("causeway_limit_hits_total", "Requests and connections that met a limit, by its name."),
    ("causeway_connections", "Open connections of a listener."),
    ("causeway_groups", "Groups that are not closed."),
    ("causeway_members", "Their members, each as often as groups it is in."),
    ("causeway_servers_frames_total", "Frames of links with other servers, by way."),
    ("causeway_calls", "Calls that run."),
    ("causeway_call_participants", "Devices in them."),
    ("causeway_calls_started_total", "Calls begun."),
    ("causeway_calls_joined_total", "Devices that came into a call that another had begun."),
    ("causeway_call_switches_total", "What carries a call became another, by what and why."),
    (SETUP_SECONDS, "From coming into a call to the first sound, by what carries it."),
    ("causeway_calls_ended_total", "Calls that ended, by why."),
    ("causeway_sfu_up", "Whether LiveKit did what it was asked for last."),
    ("causeway_sfu_failures_total", "Requests that LiveKit failed at twice, by which."),
    ("causeway_sfu_tokens_total", "Tokens for LiveKit given out."),
    ("causeway_focus_tokens_total", "Tokens that clients of Matrix asked for, by outcome."),
    (
        "causeway_call_members_total",
        "What rooms said of who of Matrix is in their calls, by what became of it.",
    ),
    (
        "causeway_call_abroad_total",
        "Times that a native asked to hear who speaks on another homeserver's server for calls.",
    ),
    ("causeway_focus_leaves_total", "Leaves of calls that clients left to the focus, by outcome."),
    ("causeway_call_rings_total", "Calls of natives that rang in their rooms."),
    (
        "causeway_sfu_rooms_renewed_total",
        "Calls that got another room, as somebody came back into theirs again and again.",
    ),
    ("causeway_sfu_strangers_total", "Those put out of a room because they were not in its call."),
    ("causeway_sfu_webhooks_total", "Webhooks that came, by what became of them."),
    (WEBHOOK_SECONDS, "From what happened in a room to the webhook that says so."),
    ("causeway_servers_room_events_total", "Events of relay rooms, by way."),
    ("causeway_servers_room_missed_total", "Events of relay rooms that somebody missed."),
    ("causeway_relay_rooms", "Relay rooms that are used."),
    ("causeway_servers_refused_total", "Ops and messages of other servers that were refused."),
    ("causeway_servers_given_back_total", "Ops that a home had lost and another server gave back."),
    ("causeway_servers_second_histories_total", "Times that another history was shown of a group."),
    (
        "causeway_servers_kept_bytes",
        "Bytes of what other servers acknowledged that are kept for them.",
    ),
    (
        "causeway_servers_given_again_total",
        "Items given again to servers that were put back from a copy.",
    ),
    ("causeway_servers_gaps_total", "Times that a server lost more than another keeps."),
    ("causeway_servers_malformed_total", "Frames of other servers that made no sense."),
    ("causeway_servers_limited_total", "Times that another server came to a limit."),
    ("causeway_servers_dropped_total", "Frames dropped because none before them came."),
    ("causeway_servers_forgotten_total", "Other servers and their accounts forgotten, by what."),
    ("causeway_servers_denied_total", "Frames of servers that the configuration denies."),
    (
        "causeway_sync_not_understood_total",
        "What a /sync showed that is not of the specification, and was passed over.",
    ),
    ("causeway_sync_passed_over_total", "Answers to a /sync that were too long, and passed over."),
    ("causeway_servers_invitations_declined_total", "Invitations that the agent declined."),
    (
        "causeway_late_given_up_total",
        "Messages that were more than may wait for an op that another server had before them.",
    ),
    ("causeway_servers_strangers_total", "Frames of somebody who is no server's agent."),
    ("causeway_streams", "Streams of native clients that are open."),
];

/// What gathers them, with the buckets of each histogram.
///
/// # Errors
/// None that can happen: no list of buckets is empty.
pub fn builder() -> Result<PrometheusBuilder, BuildError> {
    let of = |name: &str| Matcher::Full(name.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(of(MESSAGE_SECONDS), &MESSAGE_BUCKETS)?
        .set_buckets_for_metric(of(TRANSACTION_SECONDS), &TRANSACTION_BUCKETS)?
        .set_buckets_for_metric(of(DELIVERY_SECONDS), &DELIVERY_BUCKETS)?
        .set_buckets_for_metric(of(SETUP_SECONDS), &SETUP_BUCKETS)?
        .set_buckets_for_metric(of(WEBHOOK_SECONDS), &WEBHOOK_BUCKETS)
}

/// Gathers whatever this process counts from now on.
///
/// # Errors
/// Something gathers already.
pub fn gather() -> Result<PrometheusHandle, BuildError> {
    let shown = builder()?.install_recorder()?;
    describe();
    Ok(shown)
}

/// Tells what gathers now what each name means.
pub fn describe() {
    for (name, meaning) in ALL {
        // The meaning is kept by name alone; the kind is that of the first figure.
        metrics::describe_gauge!(*name, *meaning);
    }
}

/// [`STANDING_SECONDS`] in Prometheus's text format, of names in which nothing is to be escaped.
/// Whatever gathers keeps each label for ever; here is what stands now and nothing else.
pub fn standing<'a>(stood: impl Iterator<Item = (&'a str, &'a str, Duration)>) -> String {
    let mut text =
        format!("# HELP {STANDING_SECONDS} {STANDING}\n# TYPE {STANDING_SECONDS} gauge\n");
    for (kind, name, stood) in stood {
        let seconds = stood.as_secs();
        // A string takes all that is written.
        let _ = writeln!(text, "{STANDING_SECONDS}{{kind=\"{kind}\",name=\"{name}\"}} {seconds}");
    }
    text
}
