//! Ops of groups whose home is another server, as that gives them.

use std::collections::BTreeSet;

use causeway_protocol::{
    ids::{AccountId, GroupId, Timestamp},
    roster::{Body, Kind, Op, Roster},
};
use causeway_store::{Conn, Db};

use super::put_down;
use crate::{
    live::Live,
    storage::{
        self,
        groups::{self, Group},
        logs::{self, Size},
        servers,
    },
};

/// What became of ops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Took {
    /// All are here.
    All,
    /// One is not valid, another stands in its place, or it is not its home's to give: it and those behind
    /// it are left out.
    Refused(&'static str),
    /// Those before are not here.
    Missing,
    /// As much is kept of the groups of this home as may be: it and those behind it are left out.
    Full,
}

/// Takes ops that the home gives, in their order; those that are here already are passed over. It has
/// judged who is registered; what an op may, is judged here as by every client.
pub(crate) async fn take(
    of: (&Db, &Live),
    now: Timestamp,
    (here, from, most): (&str, &str, Size),
    id: GroupId,
    ops: &[Vec<u8>],
) -> Result<Took, storage::Error> {
    take_of(of, now, (here, from, most, Giver::Home), id, ops).await
}

/// Who may give ops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Giver {
    /// The home alone.
    Home,
    /// Another server of the group, too, which was asked for them, once the group is known.
    Any,
}

/// As [`take`], of who is to give them.
pub(super) async fn take_of(
    (db, live): (&Db, &Live),
    now: Timestamp,
    (here, from, most, giver): (&str, &str, Size, Giver),
    id: GroupId,
    ops: &[Vec<u8>],
) -> Result<Took, storage::Error> {
    for bytes in ops {
        let Ok(op) = Op::parse(bytes) else { return Ok(Took::Refused("malformed")) };
        let took = match groups::by_id(db.read().await?.conn(), id).await? {
            None if op.kind() == Kind::Create => {
                begin(db, live, now, (here, from, most), id, &op).await?
            }
            None => Took::Missing,
            Some(group) => go_on((db, live), now, (here, from, most, giver), &group, &op).await?,
        };
        if took != Took::All {
            return Ok(took);
        }
    }
    Ok(Took::All)
}

async fn begin(
    db: &Db,
    live: &Live,
    now: Timestamp,
    (here, from, most): (&str, &str, Size),
    id: GroupId,
    op: &Op,
) -> Result<Took, storage::Error> {
    let Ok(roster) = Roster::create(op) else { return Ok(Took::Refused("invalid")) };
    let creator = roster.member(&op.signer().member_id).map(|member| member.account.clone());
    let Some(creator) = creator.filter(|creator| creator.server() == from) else {
        return Ok(Took::Refused("not_its_home"));
    };
    if op.group() != id {
        return Ok(Took::Refused("wrong_group"));
    }
    let mut tx = db.begin_growing().await?;
    if !has_room(tx.conn(), from, (op, true), most).await? {
        return Ok(Took::Full);
    }
    put_down::begin((tx, live), now, here, (op, &roster, &creator)).await?;
    Ok(Took::All)
}

async fn go_on(
    (db, live): (&Db, &Live),
    now: Timestamp,
    (here, from, most, giver): (&str, &str, Size, Giver),
    group: &Group,
    op: &Op,
) -> Result<Took, storage::Error> {
    let mut tx = db.begin_growing().await?;
    let home = groups::home(tx.conn(), group.head.group).await?;
    let is_home = home.as_deref() == Some(from);
    if giver == Giver::Home && !is_home {
        return Ok(Took::Refused("not_its_home"));
    }
    let before = groups::roster(tx.conn(), group.row).await?;
    if let Some(known) = groups::op_hash(tx.conn(), group.row, op.epoch()).await? {
        let is_known = known == op.hash();
        return Ok(if is_known { Took::All } else { Took::Refused("second_history") });
    }
    if Some(op.epoch()) != before.epoch().next() {
        return Ok(Took::Missing);
    }
    if op.prev() != before.hash() {
        return Ok(Took::Refused("second_history"));
    }
    let Ok(after) = before.apply(op) else { return Ok(Took::Refused("invalid")) };
    let mut members = before.members().values().chain(after.members().values());
    if !is_home && !members.any(|member| member.account.server() == from) {
        return Ok(Took::Refused("not_in_group"));
    }
    let is_idle = !after.members().values().any(|member| member.account.server() == here);
    let home = home.as_deref().unwrap_or(here);
    if !has_room(tx.conn(), home, (op, is_idle), most).await? {
        return Ok(Took::Full);
    }
    put_down::go_on((tx, live), now, (here, false), group, (op, &before, &after)).await?;
    Ok(Took::All)
}

/// Whether there is room for an op of a group of `home`. A home gives the ops from the first on, so that nobody here
/// is in the group before the last of them; of what has nobody here a sixteenth is kept.
async fn has_room(
    conn: &mut Conn,
    home: &str,
    (op, is_idle): (&Op, bool),
    most: Size,
) -> Result<bool, storage::Error> {
    let (kept, more) = (logs::kept(conn, home).await?, Size::of(op));
    let most_idle = Size { entries: most.entries / 16, bytes: most.bytes / 16 };
    Ok(kept.all.fits(more, most) && (!is_idle || kept.idle.fits(more, most_idle)))
}

/// How many servers ops name of which nothing is known here.
pub(crate) async fn unknown_servers(
    db: &Db,
    here: &str,
    ops: &[impl AsRef<[u8]> + Sync],
) -> Result<usize, storage::Error> {
    let mut named = BTreeSet::new();
    for op in ops.iter().filter_map(|op| Op::parse(op.as_ref()).ok()) {
        let Ok(Body::Add(entries)) = op.body() else { continue };
        let accounts = entries.iter().filter_map(|entry| entry.account.parse::<AccountId>().ok());
        named.extend(accounts.map(|account| account.server().to_owned()));
    }
    let (mut read, mut count) = (db.read().await?, 0);
    for name in named.iter().filter(|name| *name != here) {
        count += usize::from(servers::of_name(read.conn(), name).await?.is_none());
    }
    Ok(count)
}

/// Whether a group is known here.
pub(crate) async fn is_known(db: &Db, group: GroupId) -> Result<bool, storage::Error> {
    Ok(groups::by_id(db.read().await?.conn(), group).await?.is_some())
}

/// Who orders a group's ops, where that is another server.
pub(crate) async fn other_home(
    db: &Db,
    here: &str,
    group: GroupId,
) -> Result<Option<String>, storage::Error> {
    let home = groups::home(db.read().await?.conn(), group).await?;
    Ok(home.filter(|home| home != here))
}
