//! Invites and those who use them. The server never sees a link's secret, so it cannot let itself
//! in: it counts uses of a public key, and a device that holds the link checks everything again.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    api::{InvitePage, JoinPending, NewInvite, RequestPage},
    device::DeviceOf,
    envelope::{Envelope, Kind, MAX_TTL_MS, Recipient, Sender, compute_id},
    ids::{AccountId, DeviceId, Epoch, GroupId, InviteKey, RequestId, Timestamp},
    invite::{InviteFacts, Join, JoinRefused},
    keys::check_ed25519,
    roster::{Role, Roster},
};
use causeway_store::{Conn, Db, Tx};

use crate::{
    live::{Live, News},
    quota::{MAX_NAMED, MAX_SERVERS, Shares, TooMany, UsedUp},
    storage::{
        self, GroupRow,
        devices::Device,
        groups::{self, Group},
        invites,
        mailbox::{self, Boxes, Parcel, To},
        servers::{self, Told},
        standing::{self, Standing},
    },
};

/// For how long nobody is told again that the same one asks by the same link.
const ONCE_MS: u64 = 24 * 3_600_000;
/// Devices that are told of one request at most, which is one transaction's work.
const TOLD: usize = 512;

/// Why something about invites was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InviteError {
    /// There is no such group, or none that the caller counts in.
    #[error("no such group")]
    UnknownGroup,
    /// There is no such invite in this group.
    #[error("no such invite")]
    UnknownInvite,
    /// Ask an admin.
    #[error("only those who may add members may do this")]
    MayNotAdd,
    /// A mistake of the client.
    #[error("{0}")]
    Bad(&'static str),
    /// Take some back.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// Again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for InviteError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// A group in which the caller may add members, and the caller's role there.
async fn where_may_add(
    conn: &mut Conn,
    caller: &Device,
    id: GroupId,
) -> Result<(Group, Role), InviteError> {
    let group = groups::by_id(conn, id).await?.ok_or(InviteError::UnknownGroup)?;
    let account = caller.account.as_str();
    let role = match standing::of_device(conn, group.row, &caller.of(), account).await? {
        Standing::Counts(_, role) => role,
        Standing::Listed | Standing::Until(_) | Standing::None => {
            return Err(InviteError::UnknownGroup);
        }
    };
    let roster = groups::roster(conn, group.row).await?;
    if roster.may_add(&caller.member_id) { Ok((group, role)) } else { Err(InviteError::MayNotAdd) }
}

/// Takes an invite's public half in; the same again changes nothing.
pub(crate) async fn create(
    db: &Db,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    id: GroupId,
    invite: &NewInvite,
) -> Result<(), InviteError> {
    let NewInvite { ik_pub, expires_ms: expires, uses } = invite;
    // What lies beyond the end of a column is for ever either way.
    let expires = (*expires).min(storage::LAST);
    if *uses == 0 {
        return Err(InviteError::Bad("an invite must have at least one use"));
    }
    if expires <= now {
        return Err(InviteError::Bad("the invite has expired already"));
    }
    check_ed25519(ik_pub)
        .map_err(|_| InviteError::Bad("ik_pub is not a usable Ed25519 public key"))?;
    // It counts before the writer has to do with it, also where it changes nothing.
    let by = &caller.account;
    shares.op(now, by, 0)?;
    let mut tx = db.begin_growing().await?;
    let (group, _) = where_may_add(tx.conn(), caller, id).await?;
    if group.head.closed {
        return Err(InviteError::Bad("the group is closed"));
    }
    if let Some(known) = invites::by_key(tx.conn(), group.row, ik_pub).await? {
        let is_same = known.by == *by && known.expires_ms == expires && known.uses == *uses;
        let other = InviteError::Bad("there is an invite with this key and other terms");
        return if is_same { Ok(()) } else { Err(other) };
    }
    shares.another_invite(now, by, invites::open(tx.conn(), by, now).await?)?;
    invites::insert(tx.conn(), group.row, by, ik_pub, expires, *uses).await?;
    Ok(tx.commit().await?)
}

/// A page of the group's invites.
pub(crate) async fn page(
    db: &Db,
    caller: &Device,
    id: GroupId,
    from: Option<InviteKey>,
    limit: u32,
) -> Result<InvitePage, InviteError> {
    let mut read = db.read().await?;
    let (group, _) = where_may_add(read.conn(), caller, id).await?;
    let mut found = invites::page(read.conn(), group.row, from, limit + 1).await?;
    let next = found.get(limit as usize).map(|invite| invite.ik_pub);
    found.truncate(limit as usize);
    Ok(InvitePage { invites: found, next })
}

/// Takes an invite back: its maker may, also who is out of the group, and admins; also the second
/// time.
pub(crate) async fn revoke(
    db: &Db,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    id: GroupId,
    ik_pub: InviteKey,
) -> Result<(), InviteError> {
    shares.op(now, &caller.account, 0)?;
    let mut tx = db.begin().await?;
    let group = groups::by_id(tx.conn(), id).await?.ok_or(InviteError::UnknownGroup)?;
    let invite = invites::by_key(tx.conn(), group.row, &ik_pub).await?;
    if invite.as_ref().is_none_or(|invite| invite.by != caller.account) {
        let (_, role) = where_may_add(tx.conn(), caller, id).await?;
        if invite.is_none() {
            return Err(InviteError::UnknownInvite);
        }
        if role != Role::Admin {
            return Err(InviteError::MayNotAdd);
        }
    }
    invites::revoke(tx.conn(), group.row, &ik_pub).await?;
    Ok(tx.commit().await?)
}

/// Why a request to join was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// What is wrong, in the order of protocol §3.4; not all of it may be told.
    #[error("the request was refused: {0}")]
    Refused(JoinRefused),
    /// The link is good, and the request is another device's.
    #[error("the request is not by the device that posts it")]
    NotYours,
    /// The link is good, and the group has ended.
    #[error("the group is closed")]
    Closed,
    /// The link is good, and there is nothing to ask for.
    #[error("this identity is a member of the group already")]
    Member,
    /// The link is good, and the group has members of as many servers as it may.
    #[error(
        "a group reaches over {MAX_SERVERS} servers at most, and `{0}` would be one more: take part \
         with an account of one of them"
    )]
    TooManyServers(String),
    /// The link is good, and too many ask by it; again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<JoinRefused> for JoinError {
    fn from(reason: JoinRefused) -> Self {
        Self::Refused(reason)
    }
}

impl From<causeway_store::Error> for JoinError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Who asks to be let in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker<'a> {
    /// A device of this server.
    Here(&'a Device),
    /// One of another server, which has checked its session.
    There(&'a Sender),
}

impl Asker<'_> {
    const fn account(&self) -> &AccountId {
        match self {
            Self::Here(device) => &device.account,
            Self::There(sender) => &sender.account,
        }
    }

    /// Whether a request, whose signatures are right, is its own. Which identity an account of another
    /// server has is asked by whoever admits.
    fn made(&self, request: &Join) -> bool {
        let is_its_device = match self {
            Self::Here(device) => request.device == device.of(),
            Self::There(sender) => request.device.device_id == sender.device,
        };
        is_its_device && request.account == self.account().as_str()
    }
}

/// Takes a request in, and one use of its invite; those who may sign the `add` are told.
///
/// The same request again, and a newer one by the same identity, take no further use; a newer one
/// takes the place of the former, and is not told within a day.
pub(crate) async fn join(
    (db, live): (&Db, &Live),
    now: Timestamp,
    shares: &Shares,
    (here, asker): (&str, Asker<'_>),
    id: GroupId,
    bytes: &[u8],
) -> Result<JoinPending, JoinError> {
    shares.join(now, asker.account())?;
    let request = Join::parse(bytes)?;
    let request_id = request.id().map_err(|_| JoinRefused::Malformed)?;
    // It goes to many mailboxes as it is, and into an op.
    if request.devices.ids.len() > MAX_NAMED {
        return Err(JoinRefused::Malformed.into());
    }
    let member = &request.device.member_id;
    let mut tx = db.begin_growing().await?;
    let group = groups::by_id(tx.conn(), id).await?.ok_or(JoinRefused::Stranger)?;
    let invite = invites::by_key(tx.conn(), group.row, &request.ik_pub).await?;
    let has_used = invites::is_used_by(tx.conn(), group.row, &request.ik_pub, member).await?;
    let facts = invite.as_ref().map(|invite| InviteFacts {
        group: id,
        ik_pub: invite.ik_pub,
        expires: invite.expires_ms,
        revoked: invite.revoked,
        // The use that this identity has taken stays its own.
        uses_left: if has_used { 1 } else { invite.uses.saturating_sub(invite.used) },
    });
    request.judge(facts.as_ref(), now)?;
    if !asker.made(&request) {
        return Err(JoinError::NotYours);
    }
    if invites::has_request(tx.conn(), group.row, &request_id).await? {
        return Ok(JoinPending { id: request_id });
    }
    if group.head.closed {
        return Err(JoinError::Closed);
    }
    let roster = groups::roster(tx.conn(), group.row).await?;
    if roster.member(member).is_some() {
        return Err(JoinError::Member);
    }
    let of_members = roster.members().values().map(|member| member.account.server());
    let servers: BTreeSet<&str> = of_members.chain([here]).collect();
    let its = asker.account().server();
    if !servers.contains(its) && servers.len() >= MAX_SERVERS {
        return Err(JoinError::TooManyServers(its.to_owned()));
    }
    if !has_used {
        shares.first_by(now, asker.account(), request.ik_pub)?;
        invites::take_use(tx.conn(), group.row, &request.ik_pub, member).await?;
    }
    invites::put_request(tx.conn(), now, group.row, &request_id, member, bytes).await?;
    let since = now.minus_ms(ONCE_MS);
    if invites::tell(tx.conn(), now, group.row, &request.ik_pub, member, since).await? {
        let by = invite.as_ref().map(|invite| &invite.by);
        let boxes = signers(&mut tx, group.row, here, (&roster, by, &request_id)).await?;
        let rows = boxes.devices().count();
        shares.envelopes(now, asker.account(), rows, rows * bytes.len())?;
        tell((&mut tx, live), now, &boxes, (group.row, roster.epoch()), bytes).await?;
    }
    tx.commit().await?;
    Ok(JoinPending { id: request_id })
}

/// Mailboxes of those who are told of a request: devices here that may sign the `add`, those of the
/// link's maker first, then admins', who are given each other's links; of many others some, and for another
/// request others. And one device of each other server that has some, which tells the others itself.
async fn signers(
    tx: &mut Tx,
    group: GroupRow,
    here: &str,
    (roster, by, request): (&Roster, Option<&AccountId>, &RequestId),
) -> Result<Boxes, storage::Error> {
    let server = |device: &DeviceOf| Some(roster.member(&device.member_id)?.account.server());
    let (own, others): (Vec<_>, Vec<_>) =
        told(roster, by, request).into_iter().partition(|device| server(device) == Some(here));
    let own = own.iter().take(TOLD).map(|device| device.device_id);
    let known: Vec<_> = others.iter().take(TOLD).map(|device| device.device_id).collect();
    let known = mailbox::boxes_among(tx.conn(), group, &known).await?;
    let others = others.iter().filter(|device| known.has(&device.device_id));
    let mut of_servers = BTreeMap::new();
    for device in others {
        of_servers.entry(server(device)).or_insert(device.device_id);
    }
    let all: Vec<_> = own.chain(of_servers.into_values()).collect();
    mailbox::boxes_among(tx.conn(), group, &all).await
}

/// Devices that may sign the `add`, in the order in which they are told.
fn told(roster: &Roster, by: Option<&AccountId>, request: &RequestId) -> Vec<DeviceOf> {
    let place = |device: &DeviceOf| {
        let member = roster.member(&device.member_id)?;
        let is_maker = by.is_some_and(|by| *by == member.account);
        let ids = device.device_id.as_ref().iter().zip(request.as_ref());
        let turn: Vec<u8> = ids.map(|(device, request)| device ^ request).collect();
        Some((!is_maker, member.role != Role::Admin, turn))
    };
    let mut signers: Vec<DeviceOf> =
        roster.devices().filter(|device| roster.may_add(&device.member_id)).collect();
    signers.sort_by_cached_key(place);
    signers
}

/// A `join` row for each of these mailboxes.
async fn tell(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    boxes: &Boxes,
    (group, epoch): (GroupRow, Epoch),
    request: &[u8],
) -> Result<(), storage::Error> {
    let signers: Vec<DeviceId> = boxes.devices().copied().collect();
    let parcels: Vec<Parcel<'_>> = signers
        .iter()
        .map(|device| {
            let to = Recipient::Device(*device);
            Parcel {
                name: compute_id(Kind::Join, None, &to, request, None),
                kind: Kind::Join,
                group,
                epoch,
                sender: None,
                to: To::Device(*device),
                at: now,
                ttl_ms: MAX_TTL_MS,
                expires: Some(now.plus_ms(MAX_TTL_MS)),
                keep_until: now.plus_ms(MAX_TTL_MS),
                payload: request,
            }
        })
        .collect();
    let first = mailbox::put(tx.conn(), boxes, &parcels).await?;
    let mut news = News::default();
    for (seq, device) in (first..).zip(signers) {
        news.own(seq, device);
    }
    live.tell(tx, news);
    Ok(())
}

/// Tells those here who may sign the `add` of a request, as `from`, the group's home, does. What came before
/// comes again after a start: a device passes over a request that it has.
pub(crate) async fn told_by_home(
    (db, live): (&Db, &Live),
    now: Timestamp,
    (here, from): (&str, &str),
    envelope: &Envelope,
) -> Result<Told, storage::Error> {
    let Ok(request) = Join::parse(&envelope.payload) else { return Ok(Told::Refused("malformed")) };
    let many = request.devices.ids.len() > MAX_NAMED;
    let (true, false, Ok(id)) = (request.group == envelope.group, many, request.id()) else {
        return Ok(Told::Refused("malformed"));
    };
    let mut tx = db.begin_growing().await?;
    let group = match servers::of_home(tx.conn(), from, (envelope.group, envelope.epoch)).await? {
        Ok(group) => group,
        Err(told) => return Ok(told),
    };
    let roster = groups::roster(tx.conn(), group.row).await?;
    let own = told(&roster, None, &id).into_iter().filter(|device| {
        roster.member(&device.member_id).is_some_and(|member| member.account.server() == here)
    });
    let own: Vec<_> = own.take(TOLD).map(|device| device.device_id).collect();
    let boxes = mailbox::boxes_among(tx.conn(), group.row, &own).await?;
    tell((&mut tx, live), now, &boxes, (group.row, roster.epoch()), &envelope.payload).await?;
    tx.commit().await?;
    Ok(Told::Done)
}

/// A page of the requests that wait.
pub(crate) async fn requests(
    db: &Db,
    caller: &Device,
    id: GroupId,
    from: Option<RequestId>,
    limit: u32,
) -> Result<RequestPage, InviteError> {
    let mut read = db.read().await?;
    let (group, _) = where_may_add(read.conn(), caller, id).await?;
    let mut found = invites::requests(read.conn(), group.row, from, limit + 1).await?;
    let next = found.get(limit as usize).map(|request| request.id);
    found.truncate(limit as usize);
    Ok(RequestPage { requests: found, next })
}

/// Drops a request; also the second time.
pub(crate) async fn drop_request(
    db: &Db,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    id: GroupId,
    request: RequestId,
) -> Result<(), InviteError> {
    shares.op(now, &caller.account, 0)?;
    let mut tx = db.begin().await?;
    let (group, _) = where_may_add(tx.conn(), caller, id).await?;
    invites::drop_request(tx.conn(), group.row, &request).await?;
    Ok(tx.commit().await?)
}
