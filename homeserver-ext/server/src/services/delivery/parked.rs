//! What a device cannot hold yet stands apart, until it asks for it: nothing else waits for that.
//!
//! A row that is parked is not read. Its sender is told nothing but that it was delivered, until it is
//! taken or its time is over. What is over the sender's limit there is let go of, and only there: to
//! refuse what he posts would let any reader silence him, and keep away the key that mends it.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    api::{EventAbout, EventKind, Parked, ParkedPage, Unpark, Unparked},
    envelope::Sender,
    ids::{AccountId, DeviceId, GroupId, Seq, Timestamp},
};
use causeway_store::{Db, Script, Tx};

use super::stream_row;
use crate::{
    live::Live,
    quota::{Shares, UsedUp},
    storage::{
        self, GroupRow,
        devices::Device,
        event_log::{self, GoesOn},
        events::{self, Event},
        mailbox::{self, Parkable},
        servers::progress,
    },
};

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
/// Rows of one answer, and bytes of what they carry.
const ROWS: u32 = 64;
const BYTES: usize = 1 << 20;
/// Rows that one transaction lets go of at most, so that others need not wait long.
const BATCH: u32 = 512;
/// Rows that may be let go of at once.
const MAX_TAKEN: usize = 256;

/// Why nothing is handed out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnparkError {
    /// A mistake of the client.
    #[error("{0} rows, at most {MAX_TAKEN} can be taken at once")]
    TooMany(usize),
    /// Again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for UnparkError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Parks those of `rows` that wait for the device behind `after` and up to `ack`, as far as each
/// sender's limit goes.
pub(crate) async fn park(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    shares: &Shares,
    device: &Device,
    (after, ack): (Seq, Seq),
    rows: &BTreeSet<Seq>,
) -> Result<(), storage::Error> {
    let rows = rows.iter().filter(|seq| **seq > after && **seq <= ack);
    let rows: Vec<i64> = rows.filter_map(|seq| i64::try_from(seq.0).ok()).collect();
    let mut left = mailbox::parkable(tx.conn(), device, &rows).await?;
    while let Some(account) = left.first().map(|row| row.account.clone()) {
        let of = |row: &mut Parkable| row.account == account;
        let his: Vec<Parkable> = left.extract_if(.., of).collect();
        let (mut count, mut bytes) =
            mailbox::shares_parked(tx.conn(), device.row, &account).await?;
        let account: AccountId = account.parse().map_err(|_| storage::Error::Row("account"))?;
        // In order: what is refused is the newest.
        let fitting = his.iter().take_while(|row| {
            count += 1;
            bytes = bytes.saturating_add(u64::try_from(row.bytes).unwrap_or(u64::MAX));
            shares.may_be_parked(now, &account, count, bytes)
        });
        let (parked, refused) = his.split_at(fitting.count());
        mailbox::park(tx.conn(), device.row, parked).await?;
        mailbox::refuse(tx.conn(), device.row, refused, now.plus_ms(DAY_MS)).await?;
        progress::owe_full(tx.conn(), device.row, refused, mailbox::MAILBOX_FULL).await?;
        note((&mut *tx, live), now, &account, refused).await?;
    }
    Ok(())
}

/// Tells an account that rows of its cannot arrive, once for each group: not at whom.
async fn note(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    account: &AccountId,
    refused: &[Parkable],
) -> Result<(), storage::Error> {
    let mut by_group: BTreeMap<GroupRow, u64> = BTreeMap::new();
    for row in refused {
        *by_group.entry(row.grp).or_default() += 1;
    }
    let failed = by_group.values().sum();
    tx.once_committed(move || {
        metrics::counter!("causeway_messages_failed_total").increment(failed);
    });
    let mut script = Script::default();
    events::add(&mut script, now, Event::MessageFailed, failed);
    script.run(tx.conn()).await?;
    let first = mailbox::take_numbers(tx.conn(), by_group.len()).await?;
    for (event, (group, count)) in (first..).zip(by_group) {
        let (kind, account) = (EventKind::MessageFailed, account.clone());
        let it = GoesOn { kind, account, own: true, count, about: EventAbout::default() };
        let when = (now, now.minus_ms(HOUR_MS));
        event_log::go_on(tx.conn(), when, (group, event), it).await?;
        live.feed.tell(tx, event);
    }
    Ok(())
}

/// A page of whom rows are parked of for the caller's device.
pub(crate) async fn page(
    db: &Db,
    caller: &Device,
    from: Seq,
    limit: u32,
) -> Result<ParkedPage, storage::Error> {
    let mut read = db.read().await?;
    let found = mailbox::parked_of(read.conn(), caller.row, from, limit + 1).await?;
    let seq = |seq: i64| Seq(u64::try_from(seq).unwrap_or(0));
    let next = found.get(limit as usize).map(|of| seq(of.first));
    let parked = found.into_iter().take(limit as usize).map(|of| {
        let account = of.account.parse().map_err(|_| storage::Error::Row("account"))?;
        let device = DeviceId::from_slice(&of.device_id);
        Ok(Parked {
            group: GroupId::from_slice(&of.group_id)
                .map_err(|_| storage::Error::Row("group_id"))?,
            sender: Sender {
                account,
                device: device.map_err(|_| storage::Error::Row("device_id"))?,
            },
            first: seq(of.first),
            rows: u64::try_from(of.rows).unwrap_or(0),
            bytes: u64::try_from(of.bytes).unwrap_or(0),
        })
    });
    Ok(ParkedPage { parked: parked.collect::<Result<_, storage::Error>>()?, next })
}

/// Lets go of what the caller's device has taken, and hands out what is parked behind `after`.
pub(crate) async fn unpark(
    db: &Db,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    Unpark { group, sender, after, taken }: &Unpark,
) -> Result<Unparked, UnparkError> {
    if taken.len() > MAX_TAKEN {
        return Err(UnparkError::TooMany(taken.len()));
    }
    shares.traffic(now, &caller.account, BYTES)?;
    if !taken.is_empty() {
        let mut tx = db.begin().await?;
        let place = mailbox::place(tx.conn(), caller.row).await?;
        let rows: Vec<i64> = taken.iter().filter_map(|seq| i64::try_from(seq.0).ok()).collect();
        let keep = place.kept.map(|_| now);
        let count = mailbox::take_parked(tx.conn(), caller.row, &rows, keep).await?;
        let mut script = Script::default();
        events::add(&mut script, now, Event::MessageDelivered, count);
        script.run(tx.conn()).await?;
        tx.commit().await?;
        metrics::counter!("causeway_messages_delivered_total").increment(count);
    }
    let mut read = db.read().await?;
    let acked = mailbox::place(read.conn(), caller.row).await?.acked;
    let last_seq = mailbox::ends(read.conn(), caller.row).await?.last;
    let of = (group.as_ref(), sender.as_ref());
    let keys = mailbox::parked(read.conn(), caller.row, of, *after, ROWS).await?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    for row in mailbox::waiting_parked(read.conn(), caller.row, &keys).await? {
        bytes += row.payload.len();
        if bytes > BYTES && !rows.is_empty() {
            break;
        }
        rows.push(stream_row(caller, row)?);
    }
    shares.was_less(&caller.account, BYTES, bytes);
    Ok(Unparked { rows, acked: Seq(u64::try_from(acked).unwrap_or(0)), last_seq })
}

/// Lets go of some of what is parked for accounts that have left the group. Whether there may be more.
pub(crate) async fn drop_left(db: &Db, now: Timestamp) -> Result<bool, storage::Error> {
    if !mailbox::is_left(db.read().await?.conn()).await? {
        return Ok(false);
    }
    let mut tx = db.begin().await?;
    let (gone, is_more) = mailbox::drop_left(tx.conn(), BATCH).await?;
    let mut script = Script::default();
    events::add(&mut script, now, Event::MessageFailed, gone);
    tx.commit_with(script).await?;
    metrics::counter!("causeway_messages_failed_total").increment(gone);
    Ok(is_more)
}
