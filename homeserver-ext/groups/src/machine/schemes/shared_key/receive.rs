//! Shared keys of others: taken, asked for, and tried on what comes.

use std::{collections::BTreeSet, sync::Arc};

use causeway_protocol::{
    api::StreamRow,
    device::DeviceOf,
    envelope::Sender,
    ids::{Epoch, GroupId},
    olm_plaintext::{KeyRefused, Missing, Route, SharedKey},
    roster::{Arrival, Log, Verdict},
    shared_key::{Alg, Context, MAX_MESSAGES},
};
use causeway_store::Conn;
use ed25519_dalek::VerifyingKey;

use super::{BEFORE_MS, DAY_MS, LATEST_MS, is_admin, kept, others, signer, tag_of};
use crate::{
    machine::{
        MachineError,
        opening::{Opening, Taken},
        work::Work,
    },
    schemes::shared_key::{GroupKey, OpenError, Verified, Wire},
    storage::{
        accounts::KnownDevice,
        chores::{self, KeyRequest},
        groups as rows, ops, settings,
        shared_keys::{self, Kept},
    },
};

/// Asks for the key that is sent under now, whatever it is called.
pub(super) const NEWEST: [u8; 4] = [0; 4];

/// What `wire` would be opened with.
pub(in crate::machine) fn missing(wire: &Wire<'_>, epoch: Epoch) -> Missing {
    let header = wire.header();
    let index = u32::try_from(header.counter).unwrap_or(u32::MAX);
    Missing { tag: header.tag, index, epoch }
}

/// Opens it with every key that has its tag, in the order of protocol §5.2.
pub(in crate::machine) async fn open(
    work: &mut Work<'_>,
    (row, sender): (&StreamRow, &Sender),
    device: &KnownDevice,
    wire: &Wire<'_>,
    log: &Arc<Log>,
) -> Result<Opening, MachineError> {
    let (envelope, header) = (&row.envelope, *wire.header());
    let keys = kept(work, &envelope.group).await?;
    let mut log = Arc::clone(log);
    let mut tried = Opening::NoKey;
    let named = |kept: &&Kept| tag_of(&kept.key) == header.tag;
    for kept in keys.iter().filter(named) {
        if !kept.is_of(&log) {
            continue;
        }
        if let Err(error) = wire.fits(&kept.key) {
            tried = Opening::Refused(reason(error));
            continue;
        }
        if log.is_meant(envelope.epoch, header.hint) {
            log = work.at_hand(log, envelope.epoch).await?;
        }
        let verdict = log.judge(&Arrival {
            sender: device.record.device(),
            account: &sender.account,
            key_epoch: Some(kept.key.epoch()),
            header_epoch: envelope.epoch,
            hint: header.hint,
            place: row.seq,
        });
        match verdict {
            Verdict::Open { late: false } => {}
            // Whoever went has this key, and may have sealed it.
            Verdict::Open { late: true } => {
                tried = Opening::Refused("stale_key");
                continue;
            }
            Verdict::HoldRoster => {
                tried = Opening::NoRoster;
                continue;
            }
            refused => {
                tried = Opening::Refused(refused.reason());
                continue;
            }
        }
        let Some(roster) = log.by_hint(envelope.epoch, header.hint) else { continue };
        let context = Context {
            group: envelope.group,
            sender: sender.device,
            key: kept.key.id(),
            roster: roster.hash(),
        };
        let Ok(signing) = VerifyingKey::from_bytes(sender.device.as_bytes()) else {
            return Ok(Opening::Refused(reason(OpenError::Signature)));
        };
        let slot = work.shared.slot(work.tx.conn(), &kept.key, sender.device).await?;
        let verified = wire.verify(&kept.key, &mut slot.window, &context, &signing);
        match verified.and_then(Verified::open) {
            Ok(text) => {
                slot.moved = true;
                return Ok(Opening::Opened { roster: Arc::clone(roster), text, late: false });
            }
            Err(OpenError::Replay(_)) if work.was_seen(sender, envelope.id).await? => {
                return Ok(Opening::Known);
            }
            Err(error) => tried = Opening::Refused(reason(error)),
        }
    }
    Ok(tried)
}

/// Takes the key that `peer` gave, if it is judged well.
pub(in crate::machine) async fn take(
    work: &mut Work<'_>,
    peer: &DeviceOf,
    route: &Route,
    item: &SharedKey,
) -> Result<Taken, MachineError> {
    let group = route.group;
    let mut log = work.log(&group).await?;
    if let Some(known) = &log
        && let Some(epoch) = known.epoch_of(&item.roster_hash)
    {
        log = Some(work.at_hand(Arc::clone(known), epoch).await?);
    }
    let signer = ops::signer(work.conn(), &group, item.epoch).await?;
    let signer = signer.map(|(signer, _)| signer);
    let (me, now) = (work.machine.me().device(), work.now);
    let mut next = numbers(work).await?;
    match item.judge(route, log.as_deref(), &me, peer, |_| signer) {
        Ok(()) => {}
        Err(KeyRefused::NotMaker)
            if log.as_deref().is_some_and(|log| item.is_given_back(log, &me, peer, |_| signer)) =>
        {
            next = MAX_MESSAGES + 1;
        }
        Err(KeyRefused::UnknownRoster | KeyRefused::UnknownGroup) => return Ok(Taken::NoRoster),
        Err(refused) => return Ok(Taken::Refused(refusal(refused))),
    }
    let Some(alg) = Alg::from_number(item.alg) else {
        return Ok(Taken::Refused(refusal(KeyRefused::Malformed)));
    };
    let key = GroupKey::new(alg, group, item.epoch, item.key.clone());
    if kept(work, &group).await?.iter().any(|kept| kept.key.id() == key.id()) {
        came(work, &key).await?;
        return Ok(Taken::Known);
    }
    came(work, &key).await?;
    let kept = Kept {
        key,
        generation: item.generation,
        roster: item.roster_hash,
        maker: peer.device_id,
        created: item.created_ms,
        // Whatever its maker says.
        ends: item.not_after_ms.min(now.plus_ms(BEFORE_MS + LATEST_MS)),
        at: now,
        next,
        retired: None,
        is_given: true,
    };
    let vault = work.vault();
    shared_keys::insert(work.conn(), vault, &kept).await?;
    shared_keys::wake(work.conn(), &group).await?;
    work.shared.forget(&group);
    Ok(Taken::NewForAll)
}

/// Where keys that come begin to be numbered, since a copy was put back: one that this device has sealed
/// under before may come again, and none of before is sent under for longer than this.
const PASSED_OVER: &str = "shared_key_numbers";
const PASSED_OVER_MS: u64 = DAY_MS + LATEST_MS;

/// Passes over so many numbers more under each key that comes.
pub(in crate::machine) async fn pass_over(
    conn: &mut Conn,
    numbers: u64,
) -> Result<(), MachineError> {
    let known = settings::get(conn, PASSED_OVER).await?.and_then(|known| passed_over(&known));
    let numbers = known.map_or(0, |(numbers, _)| numbers).saturating_add(numbers);
    // A copy that is put back day after day leaves numbers all the same. Until when they are passed over
    // is said where the time is known.
    let numbers = numbers % (MAX_MESSAGES / 2);
    Ok(settings::put(conn, PASSED_OVER, &numbers.to_string()).await?)
}

/// How many numbers are passed over, and until when.
fn passed_over(known: &str) -> Option<(u64, Option<u64>)> {
    match known.split_once(' ') {
        None => Some((known.parse().ok()?, None)),
        Some((numbers, until)) => Some((numbers.parse().ok()?, Some(until.parse().ok()?))),
    }
}

/// The first number under a key that comes now.
async fn numbers(work: &mut Work<'_>) -> Result<u64, MachineError> {
    let now = work.now;
    let conn = work.conn();
    let known = settings::get(conn, PASSED_OVER).await?.and_then(|known| passed_over(&known));
    match known {
        None => Ok(0),
        Some((_, Some(until))) if until < now.0 => {
            settings::delete(conn, PASSED_OVER).await?;
            Ok(0)
        }
        Some((numbers, Some(_))) => Ok(numbers),
        Some((numbers, None)) => {
            let until = now.plus_ms(PASSED_OVER_MS).0;
            settings::put(conn, PASSED_OVER, &format!("{numbers} {until}")).await?;
            Ok(numbers)
        }
    }
}

/// It is asked for no more.
async fn came(work: &mut Work<'_>, key: &GroupKey) -> Result<(), MachineError> {
    let (group, me) = (key.group(), work.machine.me().record.device_id);
    for tag in [tag_of(key), NEWEST] {
        chores::key_came(work.conn(), &group, &me, tag).await?;
    }
    work.requested = None;
    Ok(())
}

/// Whom a key is asked of that was asked for so often before: first whoever signed the op with which it
/// began, then each admin's devices in turn; where it may have been made here, and is lost, all others.
pub(in crate::machine) async fn asked_of(
    work: &mut Work<'_>,
    log: &Log,
    request: &KeyRequest,
    tries: i64,
) -> Result<Option<DeviceOf>, MachineError> {
    let (head, me) = (log.head(), work.machine.me().record.device_id);
    let (signer, _) = signer(work, log, request.missing.epoch).await?;
    let admins = head.devices().filter(|device| is_admin(head, device) && Some(*device) != signer);
    let mut candidates: Vec<DeviceOf> = signer.into_iter().chain(admins).collect();
    candidates.retain(|device| device.device_id != me);
    let me = work.machine.me().device();
    if candidates.is_empty() && is_admin(head, &me) {
        // It was made here, and is lost: all take the next.
        rows::set_rotate(work.conn(), &request.group, true).await?;
        shared_keys::wake_known(work.conn(), &request.group).await?;
    }
    if signer == Some(me) || is_admin(head, &me) {
        let known: BTreeSet<_> = candidates.iter().map(|device| device.device_id).collect();
        let rest = others(head, me.device_id).filter(|device| !known.contains(&device.device_id));
        candidates.extend(rest);
    }
    let turn = usize::try_from(tries).unwrap_or(0).checked_rem(candidates.len());
    Ok(turn.and_then(|turn| candidates.get(turn).copied()))
}

/// Notes that the newest key of a group is to be asked for.
pub(super) async fn ask_for_newest(
    work: &mut Work<'_>,
    group: GroupId,
    epoch: Epoch,
    kept_ms: u64,
) -> Result<(), MachineError> {
    let (now, device) = (work.now, work.machine.me().record.device_id);
    let missing = Missing { tag: NEWEST, index: 0, epoch };
    let request = KeyRequest { group, device, missing };
    Ok(chores::request_key(work.conn(), &request, (now, now.plus_ms(kept_ms))).await?)
}

const fn reason(error: OpenError) -> &'static str {
    match error {
        OpenError::Malformed => "malformed",
        OpenError::WrongAlg => "wrong_alg",
        OpenError::Cap => "counter_cap",
        OpenError::Replay(_) => "replay",
        OpenError::Signature => "bad_signature",
        OpenError::Box => "bad_box",
    }
}

const fn refusal(refused: KeyRefused) -> &'static str {
    match refused {
        KeyRefused::Malformed => "malformed",
        KeyRefused::NotThePeer => "not_the_peer",
        KeyRefused::NotForMe => "not_for_me",
        KeyRefused::UnknownGroup => "unknown_group",
        KeyRefused::WrongAlg => "wrong_alg",
        KeyRefused::UnknownRoster => "unknown_roster",
        KeyRefused::NotMaker => "not_maker",
        KeyRefused::RecipientNotCounting => "recipient_not_counting",
    }
}
