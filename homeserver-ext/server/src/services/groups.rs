//! Groups: their ops in order, judged as every client will judge them again.

pub(crate) mod elsewhere;
pub(crate) mod given_back;
mod noted;
mod put_down;
pub(crate) mod replica;

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{GroupHead, GroupPage, OpPage},
    device::DeviceList,
    ids::{Epoch, GroupId, MemberId, Timestamp},
    roster::{Body, Invalid, Kind, Op, Roster},
};
use causeway_store::{Conn, Db};

use crate::{
    live::Live,
    quota::{MAX_NAMED, MAX_SERVERS, Shares, TooMany, UsedUp},
    services::Behind,
    storage::{
        self, accounts,
        devices::Device,
        groups::{self, Group},
        servers,
        standing::{self, Standing},
    },
};

/// Ops of one answer.
pub(crate) const MAX_OPS: u32 = 1_000;
/// Devices that one op takes in or out at most, so that nobody waits for the writer longer than 100 ms:
/// 0.1 ms each, as measured with 4,800.
const MAX_MOVED: usize = 512;

/// Why an op was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostOpError {
    /// A mistake of the client, or worse; the same again is refused again.
    #[error("the op is not valid: {} (step {})", .0.reason(), .0.step())]
    Invalid(Invalid),
    /// Install what is missing, and sign anew.
    #[error("the op was made on another roster than the group's newest")]
    Behind(Behind),
    /// There is no such group, or none that the caller may know of.
    #[error("no such group")]
    Unknown,
    /// Create it at its creator's server.
    #[error("the group belongs to {0}, its creator's server")]
    OtherServer(String),
    /// Add people of the servers that are in it.
    #[error("a group reaches over {MAX_SERVERS} servers at most, and `{0}` would be one more")]
    TooManyServers(String),
    /// Fetch the account's newest device list, and name its identity and its devices.
    #[error(
        "`{0}` is not registered here with this identity and these devices; an op names each \
         account as its newest device list does. Where the server was put back from a backup and lost \
         that account, its operator has to start it once with --after-restore"
    )]
    Unregistered(String),
    /// Sign a list of fewer devices.
    #[error("`{0}` is named with more than {MAX_NAMED} devices")]
    Devices(String),
    /// Sign several ops instead.
    #[error("the op takes {0} devices in or out, at most {MAX_MOVED} go at once: sign several")]
    Moves(usize),
    /// Again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Close some.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<Invalid> for PostOpError {
    fn from(reason: Invalid) -> Self {
        Self::Invalid(reason)
    }
}

impl From<causeway_store::Error> for PostOpError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Begins a group with its `create`, whoever posts it; the same again is answered again.
pub(crate) async fn create(
    db: &Db,
    live: &Live,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    server: &str,
    bytes: &[u8],
) -> Result<GroupHead, PostOpError> {
    let op = Op::parse(bytes)?;
    if op.kind() != Kind::Create {
        return Err(Invalid::NoGroup.into());
    }
    let roster = Roster::create(&op)?;
    if let Some(other) = roster.members().values().find(|m| m.account.server() != server) {
        return Err(PostOpError::OtherServer(other.account.server().to_owned()));
    }
    let mut tx = db.begin_growing().await?;
    if let Some(group) = groups::by_id(tx.conn(), op.group()).await? {
        if groups::op_hash(tx.conn(), group.row, Epoch(0)).await? == Some(op.hash()) {
            return there_already(tx.conn(), caller, group).await;
        }
        // Two creates of one id: a fork at the very beginning (protocol §3.3).
        let Some(until) = reads_until(tx.conn(), caller, &group).await? else {
            return Err(PostOpError::Behind(Behind { epoch: Epoch(0), ops: Vec::new() }));
        };
        let ops = groups::ops(tx.conn(), group.row, Epoch(0), Epoch(0), 1).await?;
        return Err(PostOpError::Behind(Behind { epoch: until, ops }));
    }
    must_be_registered(tx.conn(), (now, None), &op, &roster).await?;
    // Of who signed it, too: others may post it again, to a server that has lost it.
    let creator = roster.member(&op.signer().member_id).map(|member| member.account.clone());
    let creator = creator.unwrap_or_else(|| caller.account.clone());
    shares.another_group(now, &creator, groups::begun_by(tx.conn(), &creator).await?)?;
    shares.group(now, &creator, bytes.len())?;
    put_down::begin((tx, live), now, server, (&op, &roster, &creator)).await?;
    metrics::counter!("causeway_groups_created_total").increment(1);
    Ok(head_of(&roster))
}

/// Moves a group on by one op, whoever posts it; the same again is answered again.
pub(crate) async fn post_op(
    db: &Db,
    live: &Live,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    (server, id): (&str, GroupId),
    bytes: &[u8],
) -> Result<GroupHead, PostOpError> {
    let op = Op::parse(bytes)?;
    if op.group() != id && op.kind() != Kind::Create {
        return Err(Invalid::WrongGroup.into());
    }
    let mut tx = db.begin().await?;
    let group = groups::by_id(tx.conn(), id).await?.ok_or(PostOpError::Unknown)?;
    if groups::op_hash(tx.conn(), group.row, op.epoch()).await? == Some(op.hash()) {
        return there_already(tx.conn(), caller, group).await;
    }
    shares.op(now, &caller.account, bytes.len())?;
    let before = groups::roster(tx.conn(), group.row).await?;
    let fits = Some(op.epoch()) == before.epoch().next() && op.prev() == before.hash();
    if op.kind() != Kind::Create && !fits {
        match behind(tx.conn(), caller, &group, op.epoch()).await? {
            Some(behind) => return Err(PostOpError::Behind(behind)),
            None => return Err(PostOpError::Unknown),
        }
    }
    let after = before.apply(&op)?;
    if let Some(beyond) = server_beyond(server, &after) {
        return Err(PostOpError::TooManyServers(beyond));
    }
    let moved = moved(&op, &before);
    if moved > MAX_MOVED {
        return Err(PostOpError::Moves(moved));
    }
    shares.moves(now, &caller.account, moved)?;
    must_be_registered(tx.conn(), (now, None), &op, &after).await?;
    if let Ok(Body::Add(entries)) = op.body() {
        let added = entries.iter().map(|entry| entry.member_id);
        // Of who signed it: others may post it again, to a server that has lost it.
        let signer = before.member(&op.signer().member_id);
        let signer = signer.map_or(&caller.account, |signer| &signer.account);
        let strangers = groups::strangers(tx.conn(), group.row, signer, added).await?;
        shares.strangers(now, signer, strangers)?;
    }
    put_down::go_on((tx, live), now, (server, true), &group, (&op, &before, &after)).await?;
    Ok(head_of(&after))
}

/// A server beyond this one and as many others as a group may have members of.
fn server_beyond(here: &str, roster: &Roster) -> Option<String> {
    let servers: BTreeSet<&str> =
        roster.members().values().map(|member| member.account.server()).collect();
    let mut others = servers.into_iter().filter(|server| *server != here);
    others.nth(MAX_SERVERS - 1).map(str::to_owned)
}

/// Devices that an op takes into the group or out of it, each of which is a row.
fn moved(op: &Op, before: &Roster) -> usize {
    let devices = |id: &MemberId| before.member(id).map_or(0, |member| member.devices.len());
    match op.body() {
        Ok(Body::Add(entries)) => entries.iter().map(|entry| entry.devices.ids.len()).sum(),
        Ok(Body::Remove(ids)) => ids.iter().map(devices).sum(),
        // Of one account at most.
        Ok(
            Body::Create(_)
            | Body::Devices(_)
            | Body::Leave
            | Body::Role(..)
            | Body::Policy(_)
            | Body::Close,
        )
        | Err(_) => 0,
    }
}

/// A name is a key: whoever an op names must be registered with the identity and the devices that it
/// says (protocol §3.2). Otherwise anybody could write under anybody's name. The accounts of a server that
/// gives the op back are as it says.
async fn must_be_registered(
    conn: &mut Conn,
    (now, giver): (Timestamp, Option<&str>),
    op: &Op,
    after: &Roster,
) -> Result<(), PostOpError> {
    let named: Vec<MemberId> = match op.body() {
        Ok(Body::Create(_) | Body::Devices(_)) => vec![op.signer().member_id],
        Ok(Body::Add(entries)) => entries.iter().map(|entry| entry.member_id).collect(),
        Ok(Body::Remove(_) | Body::Role(..) | Body::Policy(_) | Body::Leave | Body::Close)
        | Err(_) => Vec::new(),
    };
    let since = now.minus_ms(accounts::FORMER_MS);
    for id in named {
        let Some(member) = after.members().get(&id) else { continue };
        if member.devices.len() > MAX_NAMED {
            return Err(PostOpError::Devices(member.account.to_string()));
        }
        let mut lists = accounts::lists_since(conn, &member.account, since).await?;
        // Of another server's account what that server said last.
        let shown = servers::account(conn, &member.account).await?;
        lists.extend(shown.map(|(shown, _)| shown.list));
        // An identity is one account's: another's would have no mailbox here.
        let of_identity = accounts::list_of(conn, &id).await?;
        if of_identity.is_some_and(|list| list.account != member.account) {
            return Err(PostOpError::Unregistered(member.account.to_string()));
        }
        if giver == Some(member.account.server()) {
            continue;
        }
        let is_registered = lists.iter().any(|list| {
            list.member_id == id
                && list.version == member.list_version
                && *list.devices == *member.devices
        });
        // A list that this database lost, in an op that it is given back: of who is the same.
        let is_other =
            |list: &DeviceList| list.member_id == id && list.version != member.list_version;
        let may_be_lost = giver.is_some() && !lists.is_empty() && lists.iter().all(is_other);
        if !is_registered && may_be_lost && accounts::was_put_back(conn, now).await? {
            continue;
        }
        // One that this database lost, and nobody has taken since: it can say nothing here, and the
        // group goes on.
        if !is_registered && !accounts::may_be_lost(conn, now, &member.account).await? {
            return Err(PostOpError::Unregistered(member.account.to_string()));
        }
    }
    Ok(())
}

/// Where a group stands, to who posts an op that is there already: an op says nothing about who may
/// know what came after it. Who was taken out is told as far as he read the log, and no name.
async fn there_already(
    conn: &mut Conn,
    caller: &Device,
    group: Group,
) -> Result<GroupHead, PostOpError> {
    let until = reads_until(conn, caller, &group).await?.ok_or(PostOpError::Unknown)?;
    let Some(next) = until.next().filter(|_| until < group.head.epoch) else {
        return Ok(group.head);
    };
    let next = groups::ops(conn, group.row, next, next, 1).await?;
    let next = next.first().ok_or(PostOpError::Unknown)?;
    Ok(GroupHead {
        epoch: until,
        roster_hash: Op::parse(&next.0)?.prev(),
        name: String::new(),
        members: 0,
        closed: false,
        group: group.head.group,
    })
}

/// What one lacks whose op does not fit; `None` for those who may not know.
async fn behind(
    conn: &mut Conn,
    caller: &Device,
    group: &Group,
    epoch: Epoch,
) -> Result<Option<Behind>, storage::Error> {
    let head = group.head.epoch;
    let Some(until) = reads_until(conn, caller, group).await? else { return Ok(None) };
    // An op right after the head, on another roster: the two histories differ at the head.
    let from = if Some(epoch) == head.next() { head } else { epoch };
    let ops = groups::ops(conn, group.row, from, until, MAX_OPS).await?;
    Ok(Some(Behind { epoch: until, ops }))
}

/// Up to which op a device may read the log: members' devices all of it, those taken out up to the op that
/// did so, strangers nothing.
async fn reads_until(
    conn: &mut Conn,
    caller: &Device,
    group: &Group,
) -> Result<Option<Epoch>, storage::Error> {
    let account = caller.account.as_str();
    Ok(match standing::of_device(conn, group.row, &caller.of(), account).await? {
        Standing::Counts(..) | Standing::Listed => Some(group.head.epoch),
        Standing::Until(until) => Some(until),
        Standing::None => None,
    })
}

fn head_of(roster: &Roster) -> GroupHead {
    GroupHead {
        group: roster.group(),
        epoch: roster.epoch(),
        roster_hash: roster.hash(),
        name: roster.policy().name.clone(),
        members: u32::try_from(roster.members().len()).unwrap_or(u32::MAX),
        closed: roster.closed(),
    }
}

/// A page of the groups that the caller's account is in.
pub(crate) async fn mine(
    db: &Db,
    caller: &Device,
    from: Option<GroupId>,
    limit: u32,
) -> Result<GroupPage, storage::Error> {
    let mut read = db.read().await?;
    let found =
        groups::of_member(read.conn(), &caller.member_id, &caller.account, from, limit + 1).await?;
    let mut heads: Vec<GroupHead> = found.into_iter().map(|group| group.head).collect();
    let next = heads.get(limit as usize).map(|head| head.group);
    heads.truncate(limit as usize);
    Ok(GroupPage { groups: heads, next })
}

/// Where a group stands; `None` for those who are not in it.
pub(crate) async fn head(
    db: &Db,
    caller: &Device,
    id: GroupId,
) -> Result<Option<GroupHead>, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), id).await? else { return Ok(None) };
    let account = caller.account.as_str();
    let standing = standing::of_device(read.conn(), group.row, &caller.of(), account).await?;
    Ok(match standing {
        Standing::Counts(..) | Standing::Listed => Some(group.head),
        Standing::Until(_) | Standing::None => None,
    })
}

/// A page of ops; `None` for those who may not read the log.
pub(crate) async fn ops(
    db: &Db,
    caller: &Device,
    id: GroupId,
    from: Epoch,
    limit: u32,
) -> Result<Option<OpPage>, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), id).await? else { return Ok(None) };
    let Some(until) = reads_until(read.conn(), caller, &group).await? else { return Ok(None) };
    let ops = groups::ops(read.conn(), group.row, from, until, limit).await?;
    let count = u32::try_from(ops.len()).unwrap_or(u32::MAX);
    let next = Epoch(from.0.saturating_add(count));
    Ok(Some(OpPage { ops, epoch: until, next: (next <= until).then_some(next) }))
}
