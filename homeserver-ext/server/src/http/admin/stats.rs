//! How much happened, for the operator.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, Problem, ProblemBody};
use crate::{
    http::Api,
    services::operator,
    storage::events::{Event, Totals},
};

/// How much happened since this server was begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupStats {
    #[serde(flatten)]
    in_all: Counts,
    /// In the last 24 hours, to the hour.
    last_24_hours: Counts,
    /// Groups that are not closed, now.
    groups: u64,
    /// Their members, each as often as groups it is in.
    users_subscribed: u64,
}

/// How often something happened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Counts {
    /// Messages taken in.
    messages_published: u64,
    /// Rows acknowledged, by each device; ops among them.
    messages_delivered: u64,
    /// Rows that cannot arrive: a device could not hold them.
    messages_failed: u64,
    /// Rows that were not fetched in time, a broadcast once.
    messages_expired: u64,
    /// Envelopes dropped for that.
    messages_cleaned: u64,
    /// Groups begun.
    groups_created: u64,
    /// Members that came in.
    members_joined: u64,
    /// Members that went.
    members_left: u64,
    /// Ops taken in.
    rosters_changed: u64,
    /// Key distributions taken in.
    keys_distributed: u64,
    /// Chains that devices said they have begun.
    keys_rotated: u64,
}

impl Counts {
    fn of(totals: &Totals, pick: impl Fn((u64, u64)) -> u64) -> Self {
        let of = |event| pick(totals.of(event));
        Self {
            messages_published: of(Event::MessagePublished),
            messages_delivered: of(Event::MessageDelivered),
            messages_failed: of(Event::MessageFailed),
            messages_expired: of(Event::MessageExpired),
            messages_cleaned: of(Event::MessageCleaned),
            groups_created: of(Event::GroupCreated),
            members_joined: of(Event::GroupJoined),
            members_left: of(Event::GroupLeft),
            rosters_changed: of(Event::RosterChanged),
            keys_distributed: of(Event::KeyDistributed),
            keys_rotated: of(Event::KeyRotated),
        }
    }
}

/// `GET /_causeway/admin/v1/stats` – how much happened in the groups of this server.
///
/// Where the native server runs in another process this one has none: 404.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/stats", tag = "events",
    responses((status = 200, body = GroupStats), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn stats(_: Admin, State(api): State<Api>) -> Result<Json<GroupStats>, Problem> {
    let (totals, (groups, users_subscribed)) = operator::totals(&api.db, api.clock.now()).await?;
    Ok(Json(GroupStats {
        in_all: Counts::of(&totals, |(all, _)| all),
        last_24_hours: Counts::of(&totals, |(_, lately)| lately),
        groups,
        users_subscribed,
    }))
}
