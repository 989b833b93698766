//! A group's log, as another server may read it (protocol §7.2, §7.3).

use causeway_protocol::{
    api::{OpBytes, OpPage},
    envelope::Sender,
    ids::{Epoch, GroupId, RosterHash},
    link::Head,
    roster::{Op, Roster},
};
use causeway_store::{Conn, Db};

use super::{MAX_OPS, server_beyond};
use crate::storage::{
    self,
    groups::{self, Group},
    servers::shared,
};

/// Characters of ops in one answer.
const MAX_CHARACTERS: usize = 50_000;

/// A page of ops for another server, at least one where there is one; `None` where it may not read the log.
pub(crate) async fn ops(
    db: &Db,
    server: &str,
    id: GroupId,
    from: Epoch,
) -> Result<Option<OpPage>, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), id).await? else { return Ok(None) };
    let until = shared::reads_until(read.conn(), &group, server).await?;
    let Some(until) = until else { return Ok(None) };
    let mut ops = groups::ops(read.conn(), group.row, from, until, MAX_OPS).await?;
    let mut room = MAX_CHARACTERS;
    let fitting = ops.iter().take_while(|op| {
        let rest = room.checked_sub(op.0.len() * 4 / 3 + 4);
        room = rest.unwrap_or(0);
        rest.is_some()
    });
    let fitting = fitting.count().max(1);
    ops.truncate(fitting);
    let count = u32::try_from(ops.len()).unwrap_or(u32::MAX);
    let next = Epoch(from.0.saturating_add(count));
    let next = (count > 0 && next <= until).then_some(next);
    Ok(Some(OpPage { ops, epoch: until, next }))
}

/// What a server's word on where a group stands asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Nothing,
    /// It may have ops that are not here.
    Ask,
    /// It lacks some, and is told where the group stands.
    Tell(Head),
    /// Its roster of the same epoch is another.
    SecondHistory,
    /// It has nobody in the group, and had not.
    Stranger,
}

/// Judges where `server` says that a group stands.
pub(crate) async fn hear(db: &Db, server: &str, said: &Head) -> Result<Heard, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), said.group).await? else { return Ok(Heard::Ask) };
    let until = shared::reads_until(read.conn(), &group, server).await?;
    let Some(until) = until else { return Ok(Heard::Stranger) };
    if said.epoch > group.head.epoch {
        return Ok(Heard::Ask);
    }
    if said.epoch > until {
        return Ok(Heard::Nothing);
    }
    let Some(hash) = roster_hash(read.conn(), &group, said.epoch).await? else {
        return Ok(Heard::Nothing);
    };
    if hash != said.roster_hash {
        return Ok(Heard::SecondHistory);
    }
    if said.epoch == until {
        return Ok(Heard::Nothing);
    }
    let hash = roster_hash(read.conn(), &group, until).await?;
    Ok(hash.map_or(Heard::Nothing, |roster_hash| {
        let group = said.group;
        Heard::Tell(Head { group, stream: None, seq: None, epoch: until, roster_hash })
    }))
}

/// What a server has to do with a group of this home to which it has an op posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poster {
    /// Nobody of it is or was in the group, and the op lets nobody of it in.
    Stranger,
    /// It had somebody in the group: of it nothing new is noted.
    Former,
    /// Somebody of it is in the group, or comes in by the op.
    Member {
        /// Whether the op is signed by who may, and goes on where the group stands. Who is registered is to
        /// be seen.
        fits: bool,
    },
}

/// Judges who posts an op to a group here by what is known of it, before anything is noted or asked.
pub(crate) async fn poster(
    db: &Db,
    (here, server): (&str, &str),
    id: GroupId,
    op: &[u8],
) -> Result<Poster, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), id).await? else { return Ok(Poster::Stranger) };
    let before = groups::roster(read.conn(), group.row).await?;
    let after = Op::parse(op).ok().and_then(|op| next(&before, &op));
    if has_member(&before, server) || after.as_ref().is_some_and(|it| has_member(it, server)) {
        let fits = after.is_some_and(|after| server_beyond(here, &after).is_none());
        return Ok(Poster::Member { fits });
    }
    let was_in = shared::was_in_until(read.conn(), group.row, server).await?;
    Ok(if was_in.is_some() { Poster::Former } else { Poster::Stranger })
}

/// How many of these ops go on, one after the other, from where a group stands here, or from its beginning
/// where it is not known; none, where that makes no roster with anybody of `server` in it and is no group of
/// somebody here.
pub(crate) async fn that_follow(
    db: &Db,
    (here, server): (&str, &str),
    id: GroupId,
    ops: &[&[u8]],
) -> Result<usize, storage::Error> {
    let mut read = db.read().await?;
    let mut roster = match groups::by_id(read.conn(), id).await? {
        Some(group) => Some(groups::roster(read.conn(), group.row).await?),
        None => None,
    };
    drop(read);
    let mut is_in = roster.as_ref().is_some_and(|roster| has_member(roster, server));
    let mut count = 0;
    for op in ops.iter().map_while(|op| Op::parse(op).ok().filter(|op| op.group() == id)) {
        roster = match roster {
            Some(before) if op.epoch() <= before.epoch() => Some(before),
            Some(before) => next(&before, &op),
            None => {
                let created = Roster::create(&op).ok();
                // One of somebody here; whether it is hers by her own key is seen when it is taken.
                is_in |= created.as_ref().is_some_and(|it| has_member(it, here));
                created
            }
        };
        let Some(roster) = &roster else { break };
        is_in |= has_member(roster, server);
        count += 1;
    }
    Ok(if is_in { count } else { 0 })
}

/// The roster that an op makes of this one, if it goes on from it.
fn next(before: &Roster, op: &Op) -> Option<Roster> {
    let goes_on = Some(op.epoch()) == before.epoch().next() && op.prev() == before.hash();
    if goes_on { before.apply(op).ok() } else { None }
}

fn has_member(roster: &Roster, server: &str) -> bool {
    roster.members().values().any(|member| member.account.server() == server)
}

/// Whether a group here has this device of this account now.
pub(crate) async fn names(db: &Db, id: GroupId, who: &Sender) -> Result<bool, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), id).await? else { return Ok(false) };
    let roster = groups::roster(read.conn(), group.row).await?;
    Ok(roster
        .members()
        .values()
        .any(|member| member.account == who.account && member.devices.contains(&who.device)))
}

/// Whether a server has a member of a group that is known here.
pub(crate) async fn is_in(db: &Db, server: &str, id: GroupId) -> Result<bool, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), id).await? else { return Ok(false) };
    Ok(has_member(&groups::roster(read.conn(), group.row).await?, server))
}

/// Whether this op stands in its place in a group here.
pub(crate) async fn has(db: &Db, id: GroupId, op: &Op) -> Result<bool, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), id).await? else { return Ok(false) };
    let known = groups::op_hash(read.conn(), group.row, op.epoch()).await?;
    Ok(known == Some(op.hash()))
}

/// The roster that the op of an epoch made.
async fn roster_hash(
    conn: &mut Conn,
    group: &Group,
    epoch: Epoch,
) -> Result<Option<RosterHash>, storage::Error> {
    if epoch == group.head.epoch {
        return Ok(Some(group.head.roster_hash));
    }
    let Some(next) = epoch.next() else { return Ok(None) };
    let next = groups::ops(conn, group.row, next, next, 1).await?;
    Ok(next.first().and_then(|next| Some(Op::parse(&next.0).ok()?.prev())))
}

/// The epoch of a group here; `None` where it is not known.
pub(crate) async fn epoch(db: &Db, id: GroupId) -> Result<Option<Epoch>, storage::Error> {
    let group = groups::by_id(db.read().await?.conn(), id).await?;
    Ok(group.map(|group| group.head.epoch))
}

/// The ops of a group behind `epoch`, so many at most.
pub(crate) async fn behind(
    db: &Db,
    id: GroupId,
    epoch: Epoch,
    most: u32,
) -> Result<Vec<OpBytes>, storage::Error> {
    let mut read = db.read().await?;
    let group = groups::by_id(read.conn(), id).await?;
    match (group, epoch.next()) {
        (Some(group), Some(next)) => {
            groups::ops(read.conn(), group.row, next, group.head.epoch, most).await
        }
        (None, _) | (_, None) => Ok(Vec::new()),
    }
}
