//! The inventory of sender-key chains, as the devices that hold them report it.

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{EventAbout, EventKind, PutSenderKeys, SenderKeyInventory},
    ids::{DeviceId, GroupId, Timestamp},
    roster::{Role, Scheme},
};
use causeway_store::{Conn, Db, Script, Tx};

use crate::{
    live::Live,
    quota::{Shares, UsedUp},
    storage::{
        self,
        devices::Device,
        event_log::{self, GoesOn},
        events::{self, Event},
        groups::{self, Group},
        mailbox, sender_keys,
        standing::{self, Standing},
    },
};

const HOUR_MS: u64 = 3_600_000;
/// Chains of one report.
const MAX_KEYS: usize = 1_000;
/// Reasons of one report.
const MAX_REASONS: usize = 64;

/// Why a request about sender keys was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SenderKeysError {
    /// There is no such group, or none that the caller counts in.
    #[error("no such group")]
    Unknown,
    /// Ask an admin.
    #[error("only admins may ask everybody to rotate")]
    NotAdmin,
    /// Again after this many milliseconds.
    #[error("everybody was asked to rotate within the last hour")]
    TooSoon(u64),
    /// Again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Nothing to be done: what it says is the same for all messages to come.
    #[error(
        "each message of a pairwise group has a key of its own: there is none to report or to rotate"
    )]
    NoKeys,
    /// A mistake of the client.
    #[error("a report has at most {MAX_KEYS} chains, with 4-byte tags, and {MAX_REASONS} reasons")]
    Bad,
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for SenderKeysError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

async fn group_of(
    conn: &mut Conn,
    caller: &Device,
    id: GroupId,
) -> Result<(Group, Role), SenderKeysError> {
    let group = groups::by_id(conn, id).await?.ok_or(SenderKeysError::Unknown)?;
    let account = caller.account.as_str();
    match standing::of_device(conn, group.row, &caller.of(), account).await? {
        Standing::Counts(_, role) => Ok((group, role)),
        Standing::Listed | Standing::Until(_) | Standing::None => Err(SenderKeysError::Unknown),
    }
}

/// A page of what the group's devices said last.
pub(crate) async fn inventory(
    db: &Db,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    id: GroupId,
    from: Option<DeviceId>,
    limit: u32,
) -> Result<SenderKeyInventory, SenderKeysError> {
    shares.traffic(now, &caller.account, sender_keys::PAGE_BYTES)?;
    let mut read = db.read().await?;
    let (group, _) = group_of(read.conn(), caller, id).await?;
    let (reports, next) = sender_keys::page(read.conn(), group.row, from, limit).await?;
    let scheme = groups::roster(read.conn(), group.row).await?.scheme();
    Ok(SenderKeyInventory { reports, next, scheme: Some(scheme as u8) })
}

/// Replaces what the caller's device said; answers when everybody was last asked to rotate.
pub(crate) async fn report(
    db: &Db,
    live: &Live,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    id: GroupId,
    report: &PutSenderKeys,
) -> Result<Option<Timestamp>, SenderKeysError> {
    let is_well_formed = report.keys.len() <= MAX_KEYS
        && report.keys.iter().all(|key| key.tag.len() == 4)
        && report.failures.len() <= MAX_REASONS
        && report.failures.keys().all(|reason| reason.len() <= 64);
    if !is_well_formed {
        return Err(SenderKeysError::Bad);
    }
    shares.report(now, &caller.account)?;
    let mut tx = db.begin().await?;
    let (group, _) = group_of(tx.conn(), caller, id).await?;
    if !report.keys.is_empty() {
        must_have_keys(tx.conn(), &group).await?;
    }
    let last = sender_keys::last(tx.conn(), group.row, caller.row).await?;
    let news: Vec<_> = news(caller, last.as_ref(), report).collect();
    for news in &news {
        go_on((&mut tx, live), now, &group, caller, *news).await?;
    }
    sender_keys::put(tx.conn(), now, group.row, caller.row, report).await?;
    let asked = sender_keys::rotation(tx.conn(), group.row).await?;
    tx.commit().await?;
    let new = news.iter().filter(|(kind, _)| *kind == EventKind::KeyRotated);
    metrics::counter!("causeway_keys_rotated_total").increment(new.map(|(_, count)| count).sum());
    Ok(asked)
}

/// That the group's scheme has keys that live for longer than a message.
async fn must_have_keys(conn: &mut Conn, group: &Group) -> Result<(), SenderKeysError> {
    match groups::roster(conn, group.row).await?.scheme() {
        Scheme::SenderKeys | Scheme::SharedKey => Ok(()),
        Scheme::Pairwise => Err(SenderKeysError::NoKeys),
    }
}

/// What a device's report says that its last one did not: how many chains of its own are new, and how
/// many messages it could not open.
fn news(
    caller: &Device,
    last: Option<&PutSenderKeys>,
    report: &PutSenderKeys,
) -> impl Iterator<Item = (EventKind, u64)> {
    let own = |report: &PutSenderKeys| -> BTreeSet<Vec<u8>> {
        let keys = report.keys.iter().filter(|key| key.sender == caller.device_id);
        keys.map(|key| key.tag.clone()).collect()
    };
    let known = last.map(own).unwrap_or_default();
    let new = own(report).difference(&known).count();
    let failed = report.failures.values().map(|count| u64::from(*count)).sum();
    let news = [
        (EventKind::KeyRotated, u64::try_from(new).unwrap_or(u64::MAX)),
        (EventKind::KeyFailed, failed),
    ];
    news.into_iter().filter(|(_, count)| *count > 0)
}

/// Tells the group that something goes on with the caller's keys.
async fn go_on(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    group: &Group,
    caller: &Device,
    (kind, count): (EventKind, u64),
) -> Result<(), SenderKeysError> {
    let event = mailbox::take_numbers(tx.conn(), 1).await?;
    let account = caller.account.clone();
    let about = EventAbout { epoch: Some(group.head.epoch), ..EventAbout::default() };
    let it = GoesOn { kind, account, own: false, count, about };
    let when = (now, now.minus_ms(HOUR_MS));
    event_log::go_on(tx.conn(), when, (group.row, event), it).await?;
    if kind == EventKind::KeyRotated {
        let mut script = Script::default();
        events::add(&mut script, now, Event::KeyRotated, count);
        script.run(tx.conn()).await?;
    }
    live.feed.tell(tx, event);
    Ok(())
}

/// Asks the owners of all chains to rotate, once an hour; they learn it with their next report.
pub(crate) async fn ask_rotation(
    db: &Db,
    live: &Live,
    now: Timestamp,
    caller: &Device,
    id: GroupId,
) -> Result<(), SenderKeysError> {
    let mut tx = db.begin().await?;
    let (group, role) = group_of(tx.conn(), caller, id).await?;
    if role != Role::Admin {
        return Err(SenderKeysError::NotAdmin);
    }
    must_have_keys(tx.conn(), &group).await?;
    if let Some(last) = sender_keys::rotation(tx.conn(), group.row).await? {
        let wait = last.plus_ms(HOUR_MS).0.saturating_sub(now.0);
        if wait > 0 {
            return Err(SenderKeysError::TooSoon(wait));
        }
    }
    sender_keys::ask_rotation(tx.conn(), now, group.row).await?;
    go_on((&mut tx, live), now, &group, caller, (EventKind::KeyAsked, 1)).await?;
    Ok(tx.commit().await?)
}
