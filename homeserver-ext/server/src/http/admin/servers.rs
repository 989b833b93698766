//! Other servers, for the operator: how the links with them stand, and what he does about them.

mod pings;

use axum::{Json, extract::State};
use causeway_protocol::ids::{GroupId, Timestamp, is_server_name};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Admin, Path, Problem, ProblemBody, Query, checked, next};
use crate::{
    http::Api,
    services::servers::{self, AskError, Known},
};

/// Which page of servers.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ServersPage {
    /// Begin after this name: `next` of the page before.
    after: Option<String>,
    /// At most this many, 1 to 1,000; 100 if not given.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// Which page of the relay rooms that are shared with a server.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RoomsPage {
    /// Begin after this group: `next` of the page before.
    after: Option<GroupId>,
    /// At most this many, 1 to 1,000; 100 if not given.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// A page of servers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Servers {
    /// By name.
    servers: Vec<OtherServer>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How the link with one server stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OtherServer {
    /// Its name.
    name: String,
    /// Whether anything goes on.
    state: servers::State,
    /// When something came of it last; absent where nothing has.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_ms: Option<Timestamp>,
    /// Since when the operator lets nothing pass; absent where he does.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_ms: Option<Timestamp>,
    /// Until when nothing of it is taken, since too much made no sense; absent where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    shut_until_ms: Option<Timestamp>,
    /// Since when something waits there that it has not taken; absent where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_since_ms: Option<Timestamp>,
    /// Items on their way that it has not taken.
    waiting: u64,
    /// Bytes of what came of it before its turn.
    held_bytes: u64,
    /// Frames and items of it that made no sense, since this server was begun; likewise the next three.
    malformed: u64,
    /// Ops and messages of it that were refused.
    refused: u64,
    /// Times that it came to a limit.
    limited: u64,
    /// Times that it, or this server, was put back further than what is kept for it reaches.
    gaps: u64,
    /// What was wrong with it last; absent where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError>,
}

/// What was wrong with what a server sent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LastError {
    /// When.
    at_ms: Timestamp,
    /// What.
    why: String,
}

/// One server, and what is shared with it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerInFull {
    #[serde(flatten)]
    server: OtherServer,
    /// Groups that have members there and here.
    groups: u64,
    /// Devices there that are known here.
    devices: u64,
    /// Messages to single devices there that it has not taken.
    rows: u64,
    /// Bytes of what it acknowledged that are kept for the case that it is put back.
    kept_bytes: u64,
    /// A page of the relay rooms of these groups, by group.
    relay_rooms: Vec<RelayRoom>,
    /// `after` of the next page of them; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<GroupId>,
}

/// The Matrix room of the servers' agents that carries what is for all of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RelayRoom {
    /// Of which group.
    group: GroupId,
    /// Which room.
    room: String,
    /// Whether the server's agent is there, as far as this server's agent sees.
    in_room: bool,
    /// Whether messages for it go by the room: its agent is there, and missed none within the last minute.
    /// Else they go by the link.
    by_room: bool,
}

/// The other servers with members of a group.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "as the answer has it")]
pub(super) struct Replicas {
    /// The group's epoch here.
    epoch: u64,
    /// By name, 1,000 at most.
    replicas: Vec<GroupReplica>,
    /// The Matrix room of the servers' agents that carries what is for all; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_room: Option<String>,
}

/// What another server has of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupReplica {
    /// The server.
    server: String,
    /// Members' devices there.
    devices: u64,
    /// The epoch up to which it has taken the group's ops; absent where this server is not the group's
    /// home, or it has none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// Messages for the whole group that it has not taken; 1,000 at most are counted.
    waiting: u64,
    /// Whether its agent is in the group's relay room, as far as this server's agent sees.
    in_room: bool,
    /// Whether messages for it go by that room: its agent is there, and missed none within the last minute.
    /// Else they go by the link.
    by_room: bool,
}

impl From<Known> for OtherServer {
    fn from(known: Known) -> Self {
        let conduct = known.conduct;
        Self {
            name: known.name,
            state: known.state,
            heard_ms: (known.heard.0 > 0).then_some(known.heard),
            paused_ms: known.paused,
            shut_until_ms: known.shut_until,
            waits_since_ms: known.waits_since,
            waiting: known.queued as u64,
            held_bytes: known.held_bytes as u64,
            malformed: conduct.malformed,
            refused: conduct.refused,
            limited: conduct.limited,
            gaps: conduct.gaps,
            last_error: conduct.last.map(|(at_ms, why)| LastError { at_ms, why }),
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Storage(error) => error.into(),
            error => Self::BadRequest(error.to_string()),
        }
    }
}

/// `GET /_causeway/admin/v1/servers` – the other servers that something is known of, by name.
///
/// Where the native server runs in another process this one has no list: 404.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/servers", tag = "servers", params(ServersPage),
    responses((status = 200, body = Servers), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn servers(
    _: Admin,
    State(api): State<Api>,
    Query(page): Query<ServersPage>,
) -> Result<Json<Servers>, Problem> {
    let limit = checked(page.limit)?;
    let of = (&api.db, api.clock.now());
    let known = api.servers.known(of, page.after.as_deref(), limit).await?;
    let next = next(known.len(), limit, known.last().map(|known| known.name.clone()));
    Ok(Json(Servers { servers: known.into_iter().map(OtherServer::from).collect(), next }))
}

/// `GET /_causeway/admin/v1/servers/{name}` – one of them, and what is shared with it; of the relay rooms a page.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/servers/{name}", tag = "servers",
    params(("name" = String, Path, description = "The server."), RoomsPage),
    responses((status = 200, body = ServerInFull), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn server(
    _: Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(page): Query<RoomsPage>,
) -> Result<Json<ServerInFull>, Problem> {
    in_full(&api, &name, page).await
}

/// `POST /_causeway/admin/v1/servers/{name}/pause` – lets nothing pass to and from it, also after a
/// restart, until `resume`. What is for it waits for as long as its group keeps it; requests of clients
/// that concern it are refused. Also one that was never spoken with.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/servers/{name}/pause", tag = "servers",
    params(("name" = String, Path, description = "The server.")),
    responses((status = 200, body = ServerInFull), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn pause(
    _: Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ServerInFull>, Problem> {
    if !is_server_name(&name) || name == api.config.server_name {
        return Err(Problem::BadRequest("that is not the name of another server".to_owned()));
    }
    api.servers.set_paused(&api.db, &name, Some(api.clock.now())).await?;
    in_full(&api, &name, RoomsPage::default()).await
}

/// `POST /_causeway/admin/v1/servers/{name}/resume` – lets it pass again.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/servers/{name}/resume", tag = "servers",
    params(("name" = String, Path, description = "The server.")),
    responses((status = 200, body = ServerInFull), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn resume(
    _: Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ServerInFull>, Problem> {
    known(&api, &name).await?;
    api.servers.set_paused(&api.db, &name, None).await?;
    in_full(&api, &name, RoomsPage::default()).await
}

/// `POST /_causeway/admin/v1/servers/{name}/reset` – begins the link with it anew, as a start does: what
/// it has not taken goes again at once, and it is listened to again. Nothing is lost by it; requests
/// that wait for its answer end unanswered.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/servers/{name}/reset", tag = "servers",
    params(("name" = String, Path, description = "The server.")),
    responses((status = 200, body = ServerInFull), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn reset(
    _: Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ServerInFull>, Problem> {
    known(&api, &name).await?;
    api.servers.reset(&name);
    in_full(&api, &name, RoomsPage::default()).await
}

/// How one step of a ping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// As it should.
    Ok,
    /// It is why there is no answer.
    Failed,
    /// It cannot be seen, or was not come to.
    Unknown,
}

/// One step of the way to another server and back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PingStep {
    /// `allowed` by this server's lists; `agent`: it was handed to this server's agent; `taken` by the other native
    /// server; `answered`.
    step: &'static str,
    /// How it ended.
    outcome: Outcome,
    /// What was seen, and, where it failed, what to do.
    what: String,
}

/// What became of a ping.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ping {
    /// Which server.
    name: String,
    /// The Matrix user there that was spoken to.
    agent: String,
    /// It has answered.
    answered: bool,
    /// After so many milliseconds; absent where it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    /// What runs there, as it says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    software: Option<String>,
    /// The steps, in their order.
    steps: Vec<PingStep>,
}

/// `POST /_causeway/admin/v1/servers/{name}/ping` – asks it something small over the way that all takes, and says
/// how far that came. It answers within 20 s, also where the other server does not; one that was never spoken with
/// is asked too, and nothing is stored of it.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/servers/{name}/ping", tag = "servers",
    params(("name" = String, Path, description = "The server.")),
    responses((status = 200, body = Ping), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn ping(
    _: Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Ping>, Problem> {
    if !is_server_name(&name) || name == api.config.server_name {
        return Err(Problem::BadRequest("that is not the name of another server".to_owned()));
    }
    let pinged = api.servers.ping((&api.db, api.clock.now()), &name).await;
    Ok(Json(pings::shown(name, pinged)?))
}

async fn known(api: &Api, name: &str) -> Result<(Known, servers::Shared), Problem> {
    let found = api.servers.of_name((&api.db, api.clock.now()), name).await?;
    found.ok_or(Problem::NotFound("server"))
}

async fn in_full(api: &Api, name: &str, page: RoomsPage) -> Result<Json<ServerInFull>, Problem> {
    let limit = checked(page.limit)?;
    let (known, shared) = known(api, name).await?;
    let rooms = api.servers.rooms_with(&api.db, name, (page.after, limit)).await?;
    let next = next(rooms.len(), limit, rooms.last().map(|with| with.group));
    let relay_rooms = rooms.into_iter().map(|with| RelayRoom {
        group: with.group,
        room: with.room,
        in_room: with.carries.is_in,
        by_room: with.carries.is_heard,
    });
    Ok(Json(ServerInFull {
        server: known.into(),
        groups: shared.groups,
        devices: shared.devices,
        rows: shared.rows,
        kept_bytes: shared.kept_bytes,
        relay_rooms: relay_rooms.collect(),
        next,
    }))
}

/// `GET /_causeway/admin/v1/groups/{group}/replicas` – the other servers with members of a group, and how
/// much of it they have.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/groups/{group}/replicas", tag = "groups",
    params(("group" = GroupId, Path, description = "The group.")),
    responses((status = 200, body = Replicas), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn replicas(
    _: Admin,
    State(api): State<Api>,
    Path(group): Path<GroupId>,
) -> Result<Json<Replicas>, Problem> {
    let found = servers::replicas((&api.db, &api.config.server_name), group).await?;
    let (epoch, replicas) = found.ok_or(Problem::NotFound("group"))?;
    let (relay_room, carries) = api.servers.room_of(&api.db, group).await?.unzip();
    let carries = carries.unwrap_or_default();
    let replicas = replicas.into_iter().map(|replica| GroupReplica {
        in_room: carries.get(&replica.name).is_some_and(|it| it.is_in),
        by_room: carries.get(&replica.name).is_some_and(|it| it.is_heard),
        server: replica.name,
        devices: replica.devices,
        epoch: replica.epoch,
        waiting: replica.waiting,
    });
    Ok(Json(Replicas { epoch, replicas: replicas.collect(), relay_room }))
}
