//! Calls: what is kept of each, as one row.

pub(crate) mod elsewhere;
mod guest;

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    api::{
        CallDevice, CallIntent, CallMember, CallOut, CallParticipant, CallReaction, CallState,
        CallTopology,
    },
    call::{Call, Topology, Who, sfu_identity, sfu_room},
    ghost,
    ids::{AccountId, CallId, DeviceId, GroupId, Timestamp},
};
use causeway_store::Conn;
use serde::{Deserialize, Serialize};

pub(crate) use guest::{Guest, Kicked};

use super::{DeviceRow, Error, GroupRow, ms, name_of, number};

/// Devices that a state names as connected, of all participants: a mesh needs no more, and elsewhere they
/// are only shown.
const MOST_CONNECTED: usize = 128;

/// Who takes part in calls and is of another server, by that and group.
pub(crate) type Elsewhere = BTreeMap<String, BTreeMap<GroupId, BTreeSet<DeviceId>>>;

/// A call, and where it belongs.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Its place among all of the server.
    pub(crate) number: i64,
    pub(crate) group: GroupRow,
    pub(crate) group_id: GroupId,
    pub(crate) call_id: CallId,
    pub(crate) kept: Kept,
}

/// What is kept of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) call: Call,
    pub(crate) intent: CallIntent,
    pub(crate) started_by: CallDevice,
    pub(crate) started_ms: Timestamp,
    pub(crate) ended_ms: Option<Timestamp>,
    pub(crate) ended_by: Option<AccountId>,
    /// Of each participant what the rules need not know.
    pub(crate) people: BTreeMap<DeviceId, Person>,
    /// Who has taken part.
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) declined: Vec<AccountId>,
    pub(crate) out: Vec<CallOut>,
    /// What carries it since this was read, and why; not kept.
    #[serde(skip)]
    pub(crate) turned: Vec<(&'static str, &'static str)>,
    /// Who has sound since this was read, by what, and after how many ms; not kept.
    #[serde(skip)]
    pub(crate) set_up: Vec<(&'static str, u64)>,
    /// What its room on the server for bigger calls is called, where that is not its own.
    #[serde(default)]
    pub(crate) room: Option<String>,
    /// Where a bridge was in the group when it began, the server whose ghosts natives are called by there,
    /// to its end.
    #[serde(default)]
    pub(crate) ghosts: Option<String>,
    /// Of Matrix users what they are called there, and when they asked.
    #[serde(default)]
    pub(crate) guests: BTreeMap<String, Guest>,
    /// Matrix users who declined.
    #[serde(default)]
    pub(crate) declined_mirrors: Vec<String>,
    #[serde(default)]
    pub(crate) reactions: Vec<CallReaction>,
    /// Those of Matrix whom somebody took out.
    #[serde(default)]
    pub(crate) kicked: Vec<Kicked>,
}

/// A participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) account: AccountId,
    /// Its number here.
    pub(crate) row: i64,
    pub(crate) muted: bool,
    pub(crate) hand: bool,
    /// Whether there was sound between it and another.
    #[serde(default)]
    pub(crate) has_sound: bool,
}

impl Person {
    pub(crate) const fn device(&self) -> DeviceRow {
        DeviceRow(self.row)
    }
}

impl Kept {
    /// Who takes part and is of another server than `here`, and of which.
    pub(crate) fn elsewhere(&self, here: &str) -> impl Iterator<Item = (DeviceId, &str)> {
        let all = self.people.iter().map(|(device, person)| (*device, person.account.server()));
        all.filter(move |(_, server)| *server != here)
    }
}

impl Row {
    /// What its room is called.
    pub(crate) fn room(&self) -> String {
        let own = || sfu_room(&self.group_id, &self.call_id);
        self.kept.room.clone().unwrap_or_else(own)
    }

    /// Whether natives are called there by ghosts of this server, whose bridge shows the call.
    pub(crate) fn is_shown_by(&self, server: &str) -> bool {
        self.kept.ghosts.as_deref() == Some(server)
    }

    /// What a device of those who take part is called there.
    pub(crate) fn name_of(&self, device: &DeviceId) -> String {
        let whose = self.kept.ghosts.as_ref().zip(self.kept.people.get(device));
        let ghost = whose.and_then(|(server, it)| ghost::in_call(server, &it.account, device));
        ghost.unwrap_or_else(|| sfu_identity(&self.call_id, device))
    }

    /// As those are told who may know of it.
    pub(crate) fn state(&self) -> CallState {
        let Kept { call, .. } = &self.kept;
        let (topology, reason) = match call.topology {
            Topology::Mesh => (CallTopology::Mesh, None),
            Topology::Prepare => (CallTopology::Prepare, None),
            Topology::Dual => (CallTopology::Dual, None),
            Topology::Sfu => (CallTopology::Sfu, None),
            Topology::Shrink => (CallTopology::Shrink, None),
            Topology::Reconnecting => (CallTopology::Reconnecting, None),
            Topology::Ended(why) => (CallTopology::Ended, Some(why.name().to_owned())),
        };
        let mut left = MOST_CONNECTED;
        let participants = self.kept.people.iter().filter_map(|(device, person)| {
            let it = call.participants.get(&Who::Native(*device))?;
            let connected: Vec<_> =
                it.said.connected.iter().filter_map(native).take(left).collect();
            left -= connected.len();
            Some(CallParticipant {
                account: person.account.clone(),
                device: *device,
                since_ms: it.since,
                muted: person.muted,
                hand: person.hand,
                connected,
                lost: it.lost.is_some(),
                sfu: call.has_room().then(|| self.name_of(device)),
                via: "native".to_owned(),
            })
        });
        let participants: Vec<_> = participants.collect();
        let takes_part = |who: &&AccountId| participants.iter().any(|it| it.account == **who);
        let declined = self.kept.declined.iter().filter(|who| !takes_part(who)).cloned().collect();
        let natives = participants.into_iter().map(CallMember::Native);
        CallState {
            call: self.call_id,
            group: self.group_id,
            version: call.version,
            epoch: call.epoch,
            topology,
            intent: self.kept.intent,
            bridged: self.kept.ghosts.is_some(),
            started_by: self.kept.started_by.clone(),
            started_ms: self.kept.started_ms,
            deadline_ms: call.until,
            ended_ms: self.kept.ended_ms,
            reason,
            ended_by: self.kept.ended_by.clone(),
            declined,
            declined_mirrors: self.declined_mirrors(),
            reactions: self.kept.reactions.clone(),
            kicked: self.kicked(),
            clear: self.is_clear(),
            participants: natives.chain(self.shown_guests()).collect(),
            accounts: self.kept.accounts.clone(),
            out: self.kept.out.clone(),
        }
    }
}

/// The native device that somebody is.
pub(crate) const fn native(who: &Who) -> Option<DeviceId> {
    match who {
        Who::Native(device) => Some(*device),
        Who::Matrix(..) => None,
    }
}

#[derive(sqlx::FromRow)]
struct Columns {
    number: i64,
    grp: GroupRow,
    group_id: Vec<u8>,
    call_id: Vec<u8>,
    state: String,
}

impl TryFrom<Columns> for Row {
    type Error = Error;

    fn try_from(columns: Columns) -> Result<Self, Error> {
        Ok(Self {
            number: columns.number,
            group: columns.grp,
            group_id: name_of!(GroupId, &columns.group_id, "group_id")?,
            call_id: name_of!(CallId, &columns.call_id, "call_id")?,
            kept: serde_json::from_str(&columns.state).map_err(|_| Error::Row("state"))?,
        })
    }
}

/// The call that runs in a group.
pub(crate) async fn running(conn: &mut Conn, group: GroupRow) -> Result<Option<Row>, Error> {
    let row: Option<Columns> = sqlx::query_as(
        "SELECT c.number, c.grp, g.group_id, c.call_id, c.state
         FROM calls c JOIN groups g ON g.grp = c.grp WHERE c.grp = $1 AND c.ended_ms IS NULL",
    )
    .bind(group)
    .fetch_optional(conn)
    .await?;
    row.map(Row::try_from).transpose()
}

/// A call of a group, running or past.
pub(crate) async fn by_id(
    conn: &mut Conn,
    group: GroupRow,
    call: CallId,
) -> Result<Option<Row>, Error> {
    let row: Option<Columns> = sqlx::query_as(
        "SELECT c.number, c.grp, g.group_id, c.call_id, c.state
         FROM calls c JOIN groups g ON g.grp = c.grp WHERE c.grp = $1 AND c.call_id = $2",
    )
    .bind(group)
    .bind(call.as_ref())
    .fetch_optional(conn)
    .await?;
    row.map(Row::try_from).transpose()
}

/// Whether a call of any group is called so.
pub(crate) async fn is_elsewhere(conn: &mut Conn, call: CallId) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM calls WHERE call_id = $1)")
        .bind(call.as_ref())
        .fetch_one(conn)
        .await?)
}

/// A call by its place.
pub(crate) async fn by_number(conn: &mut Conn, call: i64) -> Result<Option<Row>, Error> {
    let row: Option<Columns> = sqlx::query_as(
        "SELECT c.number, c.grp, g.group_id, c.call_id, c.state
         FROM calls c JOIN groups g ON g.grp = c.grp WHERE c.number = $1",
    )
    .bind(call)
    .fetch_optional(conn)
    .await?;
    row.map(Row::try_from).transpose()
}

/// Places of the calls that run under this id: two groups may have drawn the same.
pub(crate) async fn running_by_id(conn: &mut Conn, call: CallId) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT number FROM calls WHERE call_id = $1 AND ended_ms IS NULL")
        .bind(call.as_ref())
        .fetch_all(conn)
        .await?)
}

/// Whether there is, or was, any under this id.
pub(crate) async fn is_known(conn: &mut Conn, call: CallId) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM calls WHERE call_id = $1)")
        .bind(call.as_ref())
        .fetch_one(conn)
        .await?)
}

/// Calls of a group, the newest first, from `from` on.
pub(crate) async fn of_group(
    conn: &mut Conn,
    group: GroupRow,
    from: i64,
    limit: u32,
) -> Result<Vec<Row>, Error> {
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT c.number, c.grp, g.group_id, c.call_id, c.state
         FROM calls c JOIN groups g ON g.grp = c.grp
         WHERE c.grp = $1 AND c.number <= $2 ORDER BY c.number DESC LIMIT $3",
    )
    .bind(group)
    .bind(from)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Row::try_from).collect()
}

/// Calls that run, in the order of their places, after `after`.
pub(crate) async fn all_running(
    conn: &mut Conn,
    after: i64,
    limit: u32,
) -> Result<Vec<Row>, Error> {
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT c.number, c.grp, g.group_id, c.call_id, c.state
         FROM calls c JOIN groups g ON g.grp = c.grp
         WHERE c.ended_ms IS NULL AND c.number > $1 ORDER BY c.number LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter().map(Row::try_from);
    // One that cannot be read is set aside when something is due in it; others go on.
    Ok(rows.filter_map(Result::ok).collect())
}

/// Places of calls in which something is due by `now`, at most `limit`.
pub(crate) async fn due(conn: &mut Conn, now: Timestamp, limit: u32) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT number FROM calls WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2")
        .bind(ms(now))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?)
}

/// How many calls run, and how many take part in them.
pub(crate) async fn count(conn: &mut Conn) -> Result<(u64, u64), Error> {
    let (calls, participants): (i64, i64) = sqlx::query_as(
        "SELECT count(*), COALESCE(sum(participants), 0) FROM calls WHERE ended_ms IS NULL",
    )
    .fetch_one(conn)
    .await?;
    Ok((number(calls, "count")?, number(participants, "participants")?))
}

/// Writes a call down: a new one, or in the place of what was there.
pub(crate) async fn put(conn: &mut Conn, row: &Row, due: Option<Timestamp>) -> Result<(), Error> {
    let participants = row.kept.people.len();
    sqlx::query(
        "INSERT INTO calls (number, grp, call_id, ended_ms, due_ms, participants, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (number) DO UPDATE SET ended_ms = excluded.ended_ms, due_ms = excluded.due_ms,
            participants = excluded.participants, state = excluded.state",
    )
    .bind(row.number)
    .bind(row.group)
    .bind(row.call_id.as_ref())
    .bind(row.kept.ended_ms.map(ms))
    .bind(due.map(ms))
    .bind(i64::try_from(participants).unwrap_or(i64::MAX))
    .bind(serde_json::to_string(&row.kept).map_err(|_| Error::Row("state"))?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a call whose row cannot be read, so that it stands in nobody's way.
pub(crate) async fn set_aside(conn: &mut Conn, call: i64, now: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE calls SET ended_ms = $2, due_ms = NULL WHERE number = $1")
        .bind(call)
        .bind(ms(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets at most `limit` of the calls that ended before `before`; how many.
pub(crate) async fn forget(conn: &mut Conn, before: Timestamp, limit: u32) -> Result<u64, Error> {
    let done = sqlx::query(
        "DELETE FROM calls WHERE number IN
            (SELECT number FROM calls WHERE ended_ms < $1 ORDER BY ended_ms LIMIT $2)",
    )
    .bind(ms(before))
    .bind(i64::from(limit))
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Forgets what ended in a group beyond its newest `most` calls, a few at a time.
pub(crate) async fn forget_beyond(
    conn: &mut Conn,
    group: GroupRow,
    most: u32,
) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM calls WHERE ended_ms IS NOT NULL AND number IN
            (SELECT number FROM calls WHERE grp = $1 ORDER BY number DESC LIMIT 8 OFFSET $2)",
    )
    .bind(group)
    .bind(i64::from(most))
    .execute(conn)
    .await?;
    Ok(())
}
