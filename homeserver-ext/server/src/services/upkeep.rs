//! What is done without being asked: overdue rows go, and their senders are told.

pub(crate) mod elsewhere;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use causeway_protocol::{
    api::{EventAbout, EventKind},
    envelope::{Kind, MAX_TTL_MS, Recipient, compute_id},
    ids::Timestamp,
};
use causeway_store::{Conn, Db, Script, Tx};

use crate::{
    figures::Figures,
    live::{Live, News},
    storage::{
        self, DeviceRow, GroupRow, accounts, calls, devices,
        event_log::{self, GoesOn},
        events::{self, Event},
        former, groups, invites, keys,
        mailbox::{self, Overdue, Parcel, Said, To},
        servers,
    },
};

pub(crate) use waiting::count;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
/// Envelopes that one transaction drops at most, so that others need not wait long.
const BATCH: u32 = 200;
/// Groups that are looked at together, for what all have read.
const GROUPS: u32 = 256;
/// Rows of single devices that go with them at most.
const ROWS: u32 = 512;
/// How long a request to join waits.
const REQUEST_MS: u64 = 30 * DAY_MS;
/// How long a device is taken to be in a call of another server, of whose end nobody told.
const CALL_MS: u64 = 7 * DAY_MS;
/// Devices that are gone whose rest goes together.
const FORMER: u32 = 16;
/// How long devices that are gone, and keys that were claimed, are remembered: longer than anything
/// waits for them.
const FORMER_MS: u64 = 31 * DAY_MS;

/// Drops a batch of what is overdue, tells the senders, and forgets what nobody can ask for any
/// more. Whether there is more to do. `now` is by what things end, and can be long ago where no
/// two looks at the clock agree yet; what begins, begins at `seen`.
pub(crate) async fn purge(
    db: &Db,
    live: &Live,
    seen: Timestamp,
    now: Timestamp,
) -> Result<bool, storage::Error> {
    let overdue = mailbox::overdue(db.read().await?.conn(), now, BATCH).await?;
    let lacked = lacked(db, &overdue).await?;
    let mut tx = db.begin().await?;
    let mut by_sender: BTreeMap<DeviceRow, Vec<&Overdue>> = BTreeMap::new();
    let (mut rows, mut cleaned, mut left) = (0, 0, ROWS);
    let ending = usize::from(overdue.iter().any(|envelope| envelope.is_broadcast));
    let at = mailbox::take_numbers(tx.conn(), ending).await?;
    for envelope in &overdue {
        if left == 0 {
            break;
        }
        let keep_until = now.plus_ms(DAY_MS);
        let of_parked =
            mailbox::expire_parked(tx.conn(), envelope.envelope, keep_until, left).await?;
        left -= of_parked.gone;
        if !of_parked.is_all {
            left = 0;
            break;
        }
        let parked = of_parked.lacked;
        // What the server itself said to all is nobody's message.
        let is_said = !envelope.is_broadcast || envelope.sender.is_some();
        let is_message = is_said && !envelope.is_signal;
        let is_told = if envelope.is_broadcast {
            let is_new = mailbox::end(tx.conn(), envelope.envelope, at).await?;
            let is_lacked = is_new && lacked.contains(&envelope.envelope);
            rows += u64::from(is_lacked && is_message);
            is_lacked
        } else {
            let (count, is_gone) =
                mailbox::expire(tx.conn(), envelope.envelope, keep_until, left).await?;
            rows += if is_message { u64::from(count + parked) } else { 0 };
            left -= count;
            is_gone && count + parked > 0
        };
        cleaned += u64::from(is_told && is_message);
        if let Some(sender) = envelope.sender.filter(|_| is_told && !envelope.is_signal) {
            by_sender.entry(sender).or_default().push(envelope);
        }
    }
    for (sender, envelopes) in by_sender {
        match servers::progress::server_of(tx.conn(), sender).await? {
            Some(server) => owe(tx.conn(), server, sender, &envelopes).await?,
            None => tell(&mut tx, live, now, sender, &envelopes).await?,
        }
    }
    let forgotten = mailbox::forget(tx.conn(), now, BATCH).await?;
    devices::prune_nonces(tx.conn(), now).await?;
    keys::prune_claims(tx.conn(), now).await?;
    accounts::forget_lists(tx.conn(), now.minus_ms(accounts::FORMER_MS)).await?;
    invites::prune_requests(tx.conn(), now.minus_ms(REQUEST_MS)).await?;
    invites::forget_ended(tx.conn(), now.minus_ms(REQUEST_MS), BATCH).await?;
    calls::elsewhere::forget(tx.conn(), now.minus_ms(CALL_MS), BATCH).await?;
    let taken = servers::progress::forget_taken(tx.conn(), now, BATCH).await?;
    let given = servers::given::forget(tx.conn(), now, BATCH).await?;
    let left_over = [taken, given].iter().any(|count| *count >= u64::from(BATCH));
    let left_over = left_over | forget_former(tx.conn(), seen, now).await?;
    let mut script = Script::default();
    events::add(&mut script, now, Event::MessageExpired, rows);
    events::add(&mut script, now, Event::MessageCleaned, cleaned);
    script.run(tx.conn()).await?;
    events::prune(tx.conn(), now).await?;
    tx.commit().await?;
    metrics::counter!("causeway_messages_expired_total").increment(rows);
    metrics::counter!("causeway_messages_cleaned_total").increment(cleaned);
    Ok(left == 0 || left_over || overdue.len() >= BATCH as usize || forgotten >= u64::from(BATCH))
}

/// Forgets a batch of what is left of devices that are gone and of keys that were claimed. Whether
/// there is more to do.
async fn forget_former(
    conn: &mut Conn,
    seen: Timestamp,
    now: Timestamp,
) -> Result<bool, storage::Error> {
    let before = now.minus_ms(FORMER_MS);
    let noticed = former::notice(conn, seen, BATCH).await?;
    let out = former::forget_in_groups(conn, before, BATCH).await?;
    let claimed = former::forget_claimed(conn, before, BATCH).await?;
    let mut left = u64::from(BATCH);
    for device in former::devices(conn, before, FORMER).await? {
        let most = u32::try_from(left).unwrap_or(BATCH);
        left = left.saturating_sub(former::forget(conn, device, most).await? + 1);
        if left == 0 {
            break;
        }
    }
    let batch = u64::from(BATCH);
    Ok(left == 0 || noticed >= batch || out >= batch || claimed >= BATCH as usize)
}

/// Those of the broadcasts that somebody has not acknowledged for whom they were. Whoever does so a
/// moment later is too late.
async fn lacked(db: &Db, overdue: &[Overdue]) -> Result<BTreeSet<i64>, storage::Error> {
    let mut read = db.read().await?;
    let mut groups = BTreeMap::new();
    let mut lacked = BTreeSet::new();
    for one in overdue.iter().filter(|one| one.is_broadcast) {
        let readers = match groups.entry(one.group) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                unknown.insert(mailbox::readers(read.conn(), one.group, 0).await?)
            }
        };
        let epoch = i64::from(one.epoch.0);
        let is_parked = mailbox::is_parked(read.conn(), one.envelope).await?;
        let (seq, sender) = (one.envelope, one.sender);
        let is_here = mailbox::is_here(read.conn(), sender).await?;
        if readers.lack(&Said { seq, epoch, sender, is_here, is_parked, is_taken: false }) {
            lacked.insert(one.envelope);
        }
    }
    Ok(lacked)
}

/// Lets go of what everybody has acknowledged for whom it was, in so many groups after `after`, unless
/// it is kept for somebody; behind which group to go on the next time.
pub(crate) async fn let_go(db: &Db, after: GroupRow) -> Result<GroupRow, storage::Error> {
    let mut group = after;
    for _ in 0..GROUPS {
        let Some(next) = let_go_in_next(db, group).await? else {
            return Ok(mailbox::NO_GROUP);
        };
        group = next;
    }
    Ok(group)
}

/// Likewise in the first group after this one in which a broadcast waits; which that is.
async fn let_go_in_next(db: &Db, after: GroupRow) -> Result<Option<GroupRow>, storage::Error> {
    let Some((group, done)) = read_by_all(db, after).await? else { return Ok(None) };
    for some in done.chunks(BATCH as usize) {
        let mut tx = db.begin().await?;
        let at = mailbox::take_numbers(tx.conn(), 1).await?;
        for (seq, is_kept) in some {
            if *is_kept {
                mailbox::set_kept(tx.conn(), *seq, at).await?;
            } else {
                mailbox::end(tx.conn(), *seq, at).await?;
            }
        }
        tx.commit().await?;
    }
    Ok(Some(group))
}

/// The next group in which a broadcast waits, and which of them nobody lacks any more; and whether
/// somebody may have to read it again.
async fn read_by_all(
    db: &Db,
    after: GroupRow,
) -> Result<Option<(GroupRow, Vec<(i64, bool)>)>, storage::Error> {
    let mut read = db.read().await?;
    let Some((group, first)) = mailbox::next_said(read.conn(), after).await? else {
        return Ok(None);
    };
    // Who comes in from here on reads what comes from here on.
    let last = mailbox::last_number(read.conn()).await?;
    let readers = mailbox::readers(read.conn(), group, first).await?;
    let (mut after, until) = (first - 1, last.min(readers.bound()));
    let mut done = Vec::new();
    loop {
        let said = mailbox::said(read.conn(), group, after, until, BATCH).await?;
        let Some(newest) = said.last() else { return Ok(Some((group, done))) };
        after = newest.seq;
        let read = said.iter().filter(|said| !readers.lack(said));
        done.extend(read.map(|said| (said.seq, readers.may_read_again(said))));
    }
}

/// Has the server of the sender told for whom they ended.
async fn owe(
    conn: &mut Conn,
    server: i64,
    sender: DeviceRow,
    envelopes: &[&Overdue],
) -> Result<(), storage::Error> {
    for envelope in envelopes {
        let Some(id) = envelope.name else { continue };
        let place = (envelope.envelope, envelope.group, envelope.is_broadcast);
        servers::progress::owe_expired(conn, (server, sender, id), place).await?;
    }
    Ok(())
}

/// An `expired` row for each envelope, to its sender.
async fn tell(
    tx: &mut Tx,
    live: &Live,
    now: Timestamp,
    sender: DeviceRow,
    envelopes: &[&Overdue],
) -> Result<(), storage::Error> {
    note(tx, live, now, sender, envelopes).await?;
    let boxes = mailbox::box_of(tx.conn(), sender).await?;
    let Some(device) = boxes.devices().next().copied() else { return Ok(()) };
    let to = Recipient::Device(device);
    let parcels: Vec<Parcel<'_>> = envelopes
        .iter()
        .filter_map(|envelope| {
            let payload = envelope.name.as_ref()?.as_ref();
            Some(Parcel {
                name: compute_id(Kind::Expired, None, &to, payload, None),
                kind: Kind::Expired,
                group: envelope.group,
                epoch: envelope.epoch,
                sender: None,
                to: To::Device(device),
                at: now,
                ttl_ms: MAX_TTL_MS,
                expires: Some(now.plus_ms(MAX_TTL_MS)),
                keep_until: now.plus_ms(MAX_TTL_MS),
                payload,
            })
        })
        .collect();
    let first = mailbox::put(tx.conn(), &boxes, &parcels).await?;
    let mut news = News::default();
    news.own(first, device);
    live.tell(tx, news);
    Ok(())
}

/// That they expired, for those of the sender's account who watch: once for each group.
async fn note(
    tx: &mut Tx,
    live: &Live,
    now: Timestamp,
    sender: DeviceRow,
    envelopes: &[&Overdue],
) -> Result<(), storage::Error> {
    let Some(account) = devices::account(tx.conn(), sender).await? else { return Ok(()) };
    let mut by_group: BTreeMap<GroupRow, (u64, &Overdue)> = BTreeMap::new();
    for envelope in envelopes {
        let (count, last) = by_group.entry(envelope.group).or_insert((0, *envelope));
        (*count, *last) = (*count + 1, *envelope);
    }
    let first = mailbox::take_numbers(tx.conn(), by_group.len()).await?;
    for (event, (group, (count, last))) in (first..).zip(by_group) {
        let about =
            EventAbout { epoch: Some(last.epoch), envelope: last.name, ..EventAbout::default() };
        let (kind, account) = (EventKind::MessageExpired, account.clone());
        let it = GoesOn { kind, account, own: true, count, about };
        let when = (now, now.minus_ms(HOUR_MS));
        event_log::go_on(tx.conn(), when, (group, event), it).await?;
        live.feed.tell(tx, event);
    }
    Ok(())
}

/// How full the server is, the size of its files aside.
pub(crate) async fn totals(db: &Db, now: Timestamp) -> Result<Figures, storage::Error> {
    let mut read = db.read().await?;
    let mailbox_rows = mailbox::count(read.conn()).await?;
    let oldest = mailbox::oldest(read.conn()).await?;
    let oldest_waiting_ms = oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0));
    let (groups, members) = groups::count(read.conn()).await?;
    let kept_bytes = mailbox::kept_bytes(read.conn()).await?;
    let given_bytes = servers::given::bytes(read.conn()).await?;
    let (parked_rows, parked_bytes) = mailbox::parked_in_all(read.conn()).await?;
    let (calls, call_participants) = calls::count(read.conn()).await?;
    Ok(Figures {
        mailbox_rows,
        oldest_waiting_ms,
        kept_bytes,
        given_bytes,
        parked_rows,
        parked_bytes,
        groups,
        members,
        calls,
        call_participants,
        ..Figures::default()
    })
}
