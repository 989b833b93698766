//! Ops that a group's home lost, given back to it by another server of the group (protocol §7.3).

use causeway_protocol::{
    ids::{GroupId, Timestamp},
    roster::{Kind, Op, Roster},
};
use causeway_store::{Db, Tx};

use super::{
    PostOpError, must_be_registered, put_down,
    replica::{self, Giver, Took},
    server_beyond,
};
use crate::{
    live::Live,
    storage::{
        self,
        groups::{self, Group},
        logs::Size,
    },
};

/// Takes ops that `from` was asked for, in their order: as the group's home what it lost, and otherwise what
/// is lacked.
pub(crate) async fn take(
    (db, live): (&Db, &Live),
    now: Timestamp,
    (here, from, most): (&str, &str, Size),
    id: GroupId,
    ops: &[Vec<u8>],
) -> Result<Took, storage::Error> {
    if !is_home(db, here, id, ops).await? {
        return replica::take_of((db, live), now, (here, from, most, Giver::Any), id, ops).await;
    }
    for bytes in ops {
        let Ok(op) = Op::parse(bytes) else { return Ok(Took::Refused("malformed")) };
        if op.group() != id {
            return Ok(Took::Refused("wrong_group"));
        }
        let took = take_one((db, live), now, (here, from), id, &op).await;
        match took {
            Ok(Took::All) => {}
            Ok(took) => return Ok(took),
            Err(PostOpError::Storage(error)) => return Err(error),
            Err(why) => {
                tracing::debug!(%why, server = from, group = %id, "an op was not given back");
                return Ok(Took::Refused("not_as_posted"));
            }
        }
    }
    Ok(Took::All)
}

/// Whether the group's home is here: where it is not known, by who began it.
async fn is_home(
    db: &Db,
    here: &str,
    id: GroupId,
    ops: &[Vec<u8>],
) -> Result<bool, storage::Error> {
    let mut read = db.read().await?;
    if groups::by_id(read.conn(), id).await?.is_some() {
        let home = groups::home(read.conn(), id).await?;
        return Ok(home.is_none_or(|home| home == here));
    }
    let first = ops.first().and_then(|op| Op::parse(op).ok());
    let first = first.filter(|op| op.kind() == Kind::Create);
    let roster = first.as_ref().and_then(|op| Roster::create(op).ok());
    Ok(roster.is_some_and(|it| it.members().values().all(|member| member.account.server() == here)))
}

/// Judges an op as if it were posted now. Of its own accounts the giver is believed, as when it shows them.
async fn take_one(
    (db, live): (&Db, &Live),
    now: Timestamp,
    (here, from): (&str, &str),
    id: GroupId,
    op: &Op,
) -> Result<Took, PostOpError> {
    let mut tx: Tx = db.begin_growing().await?;
    let Some(group) = groups::by_id(tx.conn(), id).await? else {
        return begin((tx, live), now, (here, from), op).await;
    };
    if let Some(known) = groups::op_hash(tx.conn(), group.row, op.epoch()).await? {
        let is_known = known == op.hash();
        return Ok(if is_known { Took::All } else { Took::Refused("second_history") });
    }
    let before = groups::roster(tx.conn(), group.row).await?;
    if Some(op.epoch()) != before.epoch().next() {
        return Ok(Took::Missing);
    }
    if op.prev() != before.hash() {
        return Ok(Took::Refused("second_history"));
    }
    let after = before.apply(op)?;
    if let Some(beyond) = server_beyond(here, &after) {
        return Err(PostOpError::TooManyServers(beyond));
    }
    must_be_registered(tx.conn(), (now, Some(from)), op, &after).await?;
    go_on((tx, live), now, here, &group, (op, &before, &after)).await
}

async fn begin(
    (mut tx, live): (Tx, &Live),
    now: Timestamp,
    (here, from): (&str, &str),
    op: &Op,
) -> Result<Took, PostOpError> {
    if op.kind() != Kind::Create {
        return Ok(Took::Missing);
    }
    let roster = Roster::create(op)?;
    must_be_registered(tx.conn(), (now, Some(from)), op, &roster).await?;
    let creator = roster.member(&op.signer().member_id).map(|member| member.account.clone());
    let Some(creator) = creator else { return Ok(Took::Refused("invalid")) };
    put_down::begin((tx, live), now, here, (op, &roster, &creator)).await?;
    Ok(Took::All)
}

async fn go_on(
    (tx, live): (Tx, &Live),
    now: Timestamp,
    here: &str,
    group: &Group,
    rosters: (&Op, &Roster, &Roster),
) -> Result<Took, PostOpError> {
    put_down::go_on((tx, live), now, (here, true), group, rosters).await?;
    metrics::counter!("causeway_servers_given_back_total").increment(1);
    Ok(Took::All)
}
