//! Groups: the head, the op log, and which devices count since when.

use causeway_protocol::{
    api::{GroupHead, OpBytes},
    device::DeviceOf,
    ids::{AccountId, Epoch, GroupId, MemberId, OpHash, RosterHash},
    roster::{Op, Roster},
};
use causeway_store::Conn;
use futures_util::TryStreamExt as _;

use super::{Error, GroupRow, logs, many, name_of, number};
use crate::quota::PAGE_BYTES;

/// Where a group stands, as far as most requests need to know.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) row: GroupRow,
    pub(crate) head: GroupHead,
    pub(crate) ttl_s: u64,
    /// Epoch of the last op after which envelopes must be sealed again.
    pub(crate) stale_below: Epoch,
    /// How many devices count.
    pub(crate) devices: u32,
}

#[derive(sqlx::FromRow)]
pub(super) struct GroupColumns {
    grp: GroupRow,
    group_id: Vec<u8>,
    epoch: i64,
    roster_hash: Vec<u8>,
    name: String,
    members: i64,
    closed: bool,
    ttl_s: i64,
    stale_below: i64,
    devices: i64,
}

impl TryFrom<GroupColumns> for Group {
    type Error = Error;

    fn try_from(columns: GroupColumns) -> Result<Self, Error> {
        Ok(Self {
            row: columns.grp,
            head: GroupHead {
                group: name_of!(GroupId, &columns.group_id, "group_id")?,
                epoch: Epoch(number(columns.epoch, "epoch")?),
                roster_hash: name_of!(RosterHash, &columns.roster_hash, "roster_hash")?,
                name: columns.name,
                members: number(columns.members, "members")?,
                closed: columns.closed,
            },
            ttl_s: number(columns.ttl_s, "ttl_s")?,
            stale_below: Epoch(number(columns.stale_below, "stale_below")?),
            devices: number(columns.devices, "devices")?,
        })
    }
}

/// A group by its id.
pub(crate) async fn by_id(conn: &mut Conn, group: GroupId) -> Result<Option<Group>, Error> {
    let row: Option<GroupColumns> = sqlx::query_as(
        "SELECT grp, group_id, epoch, roster_hash, name, members, closed, ttl_s, stale_below,
            devices
         FROM groups WHERE group_id = $1",
    )
    .bind(group.as_ref())
    .fetch_optional(conn)
    .await?;
    row.map(Group::try_from).transpose()
}

/// The groups that an account is in by this identity, by id, from `from` on.
pub(crate) async fn of_member(
    conn: &mut Conn,
    member: &MemberId,
    account: &AccountId,
    from: Option<GroupId>,
    limit: u32,
) -> Result<Vec<Group>, Error> {
    let rows: Vec<GroupColumns> = sqlx::query_as(
        "SELECT g.grp, g.group_id, g.epoch, g.roster_hash, g.name, g.members, g.closed, g.ttl_s,
                g.stale_below, g.devices
         FROM group_members m JOIN groups g ON g.grp = m.grp
         WHERE m.account = $1 AND m.member_id = $2 AND g.group_id >= $3
         ORDER BY g.group_id LIMIT $4",
    )
    .bind(account.as_str())
    .bind(member.as_ref())
    .bind(from.as_ref().map_or(&[][..], |from| from.as_ref()))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Group::try_from).collect()
}

/// All groups of this server after `after`, by id.
pub(crate) async fn all(
    conn: &mut Conn,
    after: Option<GroupId>,
    limit: u32,
) -> Result<Vec<Group>, Error> {
    let rows: Vec<GroupColumns> = sqlx::query_as(
        "SELECT grp, group_id, epoch, roster_hash, name, members, closed, ttl_s, stale_below,
            devices
         FROM groups WHERE group_id > $1 AND length(group_id) = 32 ORDER BY group_id LIMIT $2",
    )
    .bind(after.as_ref().map_or(&[][..], |after| after.as_ref()))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Group::try_from).collect()
}

/// Whose server orders a group's ops: its creator's. `None` where there is no such group, or it is from
/// before that was kept, and so of this server.
pub(crate) async fn home(conn: &mut Conn, group: GroupId) -> Result<Option<String>, Error> {
    let creator: Option<Option<String>> =
        sqlx::query_scalar("SELECT creator FROM groups WHERE group_id = $1")
            .bind(group.as_ref())
            .fetch_optional(conn)
            .await?;
    // Of a group from before that was kept there is none, and its home is here.
    let creator = creator.flatten().map(|creator| creator.parse::<AccountId>());
    let creator = creator.transpose().map_err(|_| Error::Row("creator"))?;
    Ok(creator.map(|creator| creator.server().to_owned()))
}

/// The roster at the head.
pub(crate) async fn roster(conn: &mut Conn, group: GroupRow) -> Result<Roster, Error> {
    let row: Vec<u8> = sqlx::query_scalar("SELECT roster FROM groups WHERE grp = $1")
        .bind(group)
        .fetch_one(conn)
        .await?;
    Roster::from_row(&row).map_err(|_| Error::Row("roster"))
}

/// Makes the group that a valid `create` began, at the number `seq`; the caller has seen that there
/// is none.
pub(crate) async fn insert(
    conn: &mut Conn,
    op: &Op,
    roster: &Roster,
    seq: i64,
    creator: &AccountId,
) -> Result<GroupRow, Error> {
    let free = logs::take_free(conn).await?;
    let row: GroupRow = sqlx::query_scalar(
        "INSERT INTO groups
            (grp, group_id, epoch, roster, roster_hash, name, members, closed, ttl_s, stale_below,
             devices, creator)
         VALUES ($9, $1, 0, $2, $3, $4, $5, FALSE, $6, 0, $7, $8)
         ON CONFLICT (grp) DO UPDATE SET group_id = excluded.group_id, roster = excluded.roster,
            roster_hash = excluded.roster_hash, name = excluded.name, members = excluded.members,
            closed = FALSE, ttl_s = excluded.ttl_s, devices = excluded.devices,
            creator = excluded.creator
         RETURNING grp",
    )
    .bind(roster.group().as_ref())
    .bind(roster.to_row())
    .bind(roster.hash().as_ref())
    .bind(&roster.policy().name)
    .bind(i64::try_from(roster.members().len()).unwrap_or(i64::MAX))
    .bind(i64::from(roster.policy().ttl_s))
    .bind(devices(roster))
    .bind(creator.as_str())
    .bind(free)
    .fetch_one(&mut *conn)
    .await?;
    insert_op(conn, row, op).await?;
    let come: Vec<DeviceOf> = roster.devices().collect();
    follow(conn, row, None, roster, (&[], &come), seq).await?;
    Ok(row)
}

fn devices(roster: &Roster) -> i64 {
    roster.devices().count().try_into().unwrap_or(i64::MAX)
}

/// Moves a group on to `after`, which `op` made of `before` at the number `seq`; the devices that
/// were taken out and brought in.
pub(crate) async fn advance(
    conn: &mut Conn,
    group: GroupRow,
    op: &Op,
    (before, after): (&Roster, &Roster),
    stale_below: Epoch,
    seq: i64,
) -> Result<Vec<DeviceOf>, Error> {
    sqlx::query(
        "UPDATE groups SET epoch = $2, roster = $3, roster_hash = $4, name = $5, members = $6,
            closed = $7, ttl_s = $8, stale_below = $9, devices = $10 WHERE grp = $1",
    )
    .bind(group)
    .bind(i64::from(after.epoch().0))
    .bind(after.to_row())
    .bind(after.hash().as_ref())
    .bind(&after.policy().name)
    .bind(i64::try_from(after.members().len()).unwrap_or(i64::MAX))
    .bind(after.closed())
    .bind(i64::from(after.policy().ttl_s))
    .bind(i64::from(stale_below.0))
    .bind(devices(after))
    .execute(&mut *conn)
    .await?;
    insert_op(conn, group, op).await?;
    let (gone, come) = (before.taken_out(after), after.taken_out(before));
    follow(conn, group, Some(before), after, (&gone, &come), seq).await?;
    Ok(gone.into_iter().chain(come).collect())
}

async fn insert_op(conn: &mut Conn, group: GroupRow, op: &Op) -> Result<(), Error> {
    sqlx::query("INSERT INTO ops (grp, epoch, op_hash, op) VALUES ($1, $2, $3, $4)")
        .bind(group)
        .bind(i64::from(op.epoch().0))
        .bind(op.hash().as_ref())
        .bind(op.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Brings the rows of members and devices from one roster to the next. Those who go still read the
/// op that took them out, those who come read from the op that brought them in.
async fn follow(
    conn: &mut Conn,
    group: GroupRow,
    before: Option<&Roster>,
    after: &Roster,
    (gone, come): (&[DeviceOf], &[DeviceOf]),
    seq: i64,
) -> Result<(), Error> {
    let epoch = i64::from(after.epoch().0);
    for device in gone {
        sqlx::query(
            "UPDATE group_devices SET until_epoch = $3, until_seq = $5
             WHERE grp = $1 AND device_id = $2 AND member_id = $4 AND until_epoch IS NULL",
        )
        .bind(group)
        .bind(device.device_id.as_ref())
        .bind(epoch)
        .bind(device.member_id.as_ref())
        .bind(seq)
        .execute(&mut *conn)
        .await?;
    }
    many::insert(
        conn,
        "INSERT INTO group_devices (grp, device_id, member_id, from_epoch, after_seq) ",
        come,
        "",
        |values, device| {
            values
                .bind(group)
                .bind(device.device_id.as_ref().to_vec())
                .bind(device.member_id.as_ref().to_vec())
                .bind(epoch)
                .bind(seq - 1);
        },
    )
    .await?;
    let absent = before.into_iter().flat_map(|before| before.members().keys());
    for member in absent.filter(|id| after.member(id).is_none()) {
        sqlx::query("DELETE FROM group_members WHERE grp = $1 AND member_id = $2")
            .bind(group)
            .bind(member.as_ref())
            .execute(&mut *conn)
            .await?;
    }
    let former = |id: &MemberId| before.and_then(|before| before.member(id));
    let changed: Vec<_> =
        after.members().iter().filter(|(id, member)| former(id) != Some(member)).collect();
    many::insert(
        conn,
        "INSERT INTO group_members (grp, member_id, account, role) ",
        &changed,
        " ON CONFLICT (grp, member_id) DO UPDATE
          SET account = excluded.account, role = excluded.role",
        |values, (id, member)| {
            values
                .bind(group)
                .bind(id.as_ref().to_vec())
                .bind(member.account.as_str().to_owned())
                .bind(member.role as i16);
        },
    )
    .await?;
    Ok(())
}

/// Which op made an epoch.
pub(crate) async fn op_hash(
    conn: &mut Conn,
    group: GroupRow,
    epoch: Epoch,
) -> Result<Option<OpHash>, Error> {
    let hash: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT op_hash FROM ops WHERE grp = $1 AND epoch = $2")
            .bind(group)
            .bind(i64::from(epoch.0))
            .fetch_optional(conn)
            .await?;
    hash.map(|hash| name_of!(OpHash, &hash, "op_hash")).transpose()
}

/// Ops of the epochs `from ..= until` in order, at most `limit` and 4 MiB.
pub(crate) async fn ops(
    conn: &mut Conn,
    group: GroupRow,
    from: Epoch,
    until: Epoch,
    limit: u32,
) -> Result<Vec<OpBytes>, Error> {
    let mut rows = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT op FROM ops WHERE grp = $1 AND epoch >= $2 AND epoch <= $3
         ORDER BY epoch LIMIT $4",
    )
    .bind(group)
    .bind(i64::from(from.0))
    .bind(i64::from(until.0))
    .bind(i64::from(limit))
    .fetch(conn);
    // What would not fit is not even read.
    let (mut ops, mut room) = (Vec::new(), PAGE_BYTES);
    while let Some(op) = rows.try_next().await? {
        let Some(rest) = room.checked_sub(op.len()) else { break };
        room = rest;
        ops.push(OpBytes(op));
    }
    Ok(ops)
}

/// Groups that are not closed, and their members.
pub(crate) async fn count(conn: &mut Conn) -> Result<(u64, u64), Error> {
    let (groups, members): (i64, i64) = sqlx::query_as(
        "SELECT count(*), COALESCE(sum(members), 0) FROM groups WHERE closed = FALSE",
    )
    .fetch_one(conn)
    .await?;
    Ok((number(groups, "count")?, number(members, "members")?))
}

/// How many groups an account has begun that are not closed and that it is in.
pub(crate) async fn begun_by(conn: &mut Conn, creator: &AccountId) -> Result<u32, Error> {
    let begun: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM groups g WHERE g.creator = $1 AND g.closed = FALSE
                AND EXISTS (SELECT 1 FROM group_members m
                    WHERE m.grp = g.grp AND m.account = g.creator)",
    )
    .bind(creator.as_str())
    .fetch_one(conn)
    .await?;
    number(begun, "groups")
}

/// Groups that are looked at for whether two know each other: those in which one came last.
const COMMON: i64 = 100;

/// How many of those who are to be added to a group have not asked to be, and are in none of the
/// other groups of who adds them.
pub(crate) async fn strangers(
    conn: &mut Conn,
    group: GroupRow,
    by: &AccountId,
    added: impl Iterator<Item = MemberId>,
) -> Result<usize, Error> {
    let mut strangers = 0;
    for member in added {
        let is_known: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM join_requests WHERE grp = $1 AND member_id = $2)
                OR EXISTS (
                    SELECT 1 FROM (
                        SELECT grp FROM group_members WHERE account = $3 AND grp <> $1
                        ORDER BY grp DESC LIMIT $4) AS mine
                    JOIN group_members theirs
                        ON theirs.grp = mine.grp AND theirs.member_id = $2)",
        )
        .bind(group)
        .bind(member.as_ref())
        .bind(by.as_str())
        .bind(COMMON)
        .fetch_one(&mut *conn)
        .await?;
        strangers += usize::from(!is_known);
    }
    Ok(strangers)
}

/// Whether a bridge of this server, which is called `here`, is among the members.
pub(crate) async fn has_bridge(
    conn: &mut Conn,
    group: GroupRow,
    here: &str,
) -> Result<bool, Error> {
    Ok(bridges(conn, group).await?.iter().any(|account| is_of(account, here)))
}

/// The server of the bridge that is in a group, if one is.
pub(crate) async fn bridge_server(
    conn: &mut Conn,
    group: GroupRow,
) -> Result<Option<String>, Error> {
    let bridges = bridges(conn, group).await?;
    let server = bridges.first().and_then(|account| account.split_once(':'));
    Ok(server.map(|(_, server)| server.to_owned()))
}

async fn bridges(conn: &mut Conn, group: GroupRow) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar("SELECT account FROM group_members WHERE grp = $1 AND role = 2")
        .bind(group)
        .fetch_all(conn)
        .await?)
}

/// Whether an account is one of the server `here`.
fn is_of(account: &str, here: &str) -> bool {
    account.split_once(':').is_some_and(|(_, server)| server == here)
}
