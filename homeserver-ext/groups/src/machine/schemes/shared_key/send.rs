//! A shared key: made, given to whoever lacks it, and what is sealed under it.

use causeway_protocol::{
    envelope::{Kind, Recipient, Submission},
    ids::{GroupId, Timestamp},
    olm_plaintext::{Missing, OlmPlaintext, Route, SharedKey},
    roster::{Log, Roster},
    shared_key::{Alg, Context, Nonce},
};

use super::{
    Choice, HOUR_MS, LATEST_MS, Next, Plan, kept, may_give, receive::NEWEST, rotation, tag_of,
};
use crate::{
    entropy,
    machine::{
        MachineError, Outgoing, SealError,
        work::{ASK_AGAIN_MS, Work},
    },
    schemes::shared_key::{GroupKey, Rank},
    storage::{
        accounts::{self, Ask, KnownDevice},
        chores, groups as rows,
        owed::WAIT_MS,
        shared_keys::{self, Kept},
    },
};

/// Answers to key requests for one device in an hour.
const MAX_ANSWERS: i64 = 3;

/// Seals `items`, each for all, after the key was given to the `reached` devices.
pub(in crate::machine) async fn seal(
    work: &mut Work<'_>,
    plan: Plan,
    log: &Log,
    reached: &[KnownDevice],
    items: &[Outgoing],
) -> Result<Vec<Vec<Submission>>, SealError> {
    let rank = match plan.key {
        Choice::Kept(rank) => rank,
        Choice::New(next) => make(work, log, next).await?,
    };
    let keys = kept(work, &log.head().group()).await?;
    let kept = keys.iter().find(|kept| kept.rank() == rank).ok_or(SealError::NoKey)?;
    for device in &plan.lacking {
        let known = reached.iter().find(|known| known.record.device_id == device.device_id);
        if let Some(known) = known {
            give(work, kept, known).await?;
        } else {
            let next = Some(work.now.plus_ms(WAIT_MS));
            let put_off = shared_keys::give(work.conn(), &kept.key, &device.device_id, next);
            put_off.await.map_err(MachineError::from)?;
        }
    }
    let mut sealed = Vec::with_capacity(items.len());
    for ((position, item), counter) in items.iter().enumerate().zip(kept.next..) {
        sealed.push(vec![seal_one(work, (position, item), log.head(), (&kept.key, counter))?]);
    }
    let used = u64::try_from(items.len()).unwrap_or(u64::MAX);
    shared_keys::set_next(&mut work.script, &kept.key, kept.next.saturating_add(used));
    work.shared.forget(&log.head().group());
    Ok(sealed)
}

fn seal_one(
    work: &Work<'_>,
    (position, item): (usize, &Outgoing),
    head: &Roster,
    (key, counter): (&GroupKey, u64),
) -> Result<Submission, SealError> {
    let (text, ttl_ms) = item.plaintext(position, work.now, head.policy().ttl_s)?;
    let context = Context {
        group: head.group(),
        sender: work.machine.me().record.device_id,
        key: key.id(),
        roster: head.hash(),
    };
    let nonce = match key.alg() {
        Alg::Aes256Gcm | Alg::ChaCha20Poly1305 => entropy::bytes().map(Nonce::Salt),
        Alg::XSalsa20Poly1305 => entropy::bytes().map(Nonce::Whole),
    };
    let nonce = nonce.map_err(MachineError::from)?;
    let signing = work.machine.signing();
    let sealed = key.seal(&context, counter, nonce, signing, &text);
    let payload = sealed.map_err(|_| SealError::TooMany(position, position))?;
    SealError::check_size(position, payload.len())?;
    Ok(work.submission(head, Kind::Message, Recipient::Broadcast, ttl_ms, payload))
}

/// Makes a key, and gives it to nobody yet.
pub(super) async fn make(work: &mut Work<'_>, log: &Log, next: Next) -> Result<Rank, MachineError> {
    let (head, now, vault) = (log.head(), work.now, work.vault());
    let group = head.group();
    let alg = Alg::from_number(head.effective_suite()).ok_or(MachineError::Own("suite"))?;
    let roster = log.entry(next.epoch).map_or_else(|| head.hash(), |entry| entry.roster_hash);
    let over = rotation(work).await?;
    let kept = Kept {
        key: GroupKey::new(alg, group, next.epoch, entropy::secret()?),
        generation: next.generation,
        roster,
        maker: work.machine.me().record.device_id,
        created: next.created,
        ends: next.created.plus_ms(over.0),
        at: now,
        next: 0,
        retired: None,
        is_given: false,
    };
    shared_keys::insert(work.conn(), vault, &kept).await?;
    shared_keys::wake(work.conn(), &group).await?;
    rows::set_rotate(work.conn(), &group, false).await?;
    // A copy of before does not have it.
    work.sealed = true;
    work.shared.forget(&group);
    Ok(kept.rank())
}

/// Gives `known` a key, once; where it cannot be given now, later.
pub(super) async fn give(
    work: &mut Work<'_>,
    kept: &Kept,
    known: &KnownDevice,
) -> Result<(), MachineError> {
    let (device, now) = (known.record.device_id, work.now);
    let next = if hand(work, kept, known).await? { None } else { Some(now.plus_ms(WAIT_MS)) };
    Ok(shared_keys::give(work.conn(), &kept.key, &device, next).await?)
}

/// Finishes the envelope with a key; `false` where there is no session for it.
async fn hand(work: &mut Work<'_>, kept: &Kept, known: &KnownDevice) -> Result<bool, MachineError> {
    let key = &kept.key;
    let route = Route {
        group: key.group(),
        from: work.machine.me().record.device_id,
        to: known.record.device_id,
    };
    let item = SharedKey {
        alg: key.alg().number(),
        generation: kept.generation,
        epoch: key.epoch(),
        roster_hash: kept.roster,
        created_ms: kept.created,
        not_after_ms: kept.ends,
        key: key.expose().clone(),
    };
    let Ok(bytes) = OlmPlaintext::SharedKey(route, item).to_bytes() else { return Ok(false) };
    work.send_direct(route.group, known, Kind::KeyDistribution, &bytes).await
}

/// Gives `known` again the key that it misses, or the newest one, if it may have it from here. Whoever
/// asks for a key that he has made himself has lost it: he is given it back by whoever has it, to open
/// with what is there, and another is made.
pub(in crate::machine) async fn answer(
    work: &mut Work<'_>,
    log: &Log,
    known: &KnownDevice,
    missing: Missing,
) -> Result<(), MachineError> {
    let (now, group, device) = (work.now, log.head().group(), known.record.device());
    let (me, keys) = (work.machine.me().device(), kept(work, &group).await?);
    let newest = super::choice(&keys, log, now, 1);
    let mut asked: Vec<&Kept> = Vec::new();
    if missing.tag == NEWEST {
        asked.extend(newest);
    } else {
        asked.extend(keys.iter().filter(|kept| tag_of(&kept.key) == missing.tag));
    }
    for kept in asked {
        let is_his = kept.maker == device.device_id;
        if is_his {
            rows::set_rotate(work.conn(), &group, true).await?;
            shared_keys::wake_known(work.conn(), &group).await?;
        }
        let then = work.roster_at(log, kept.key.epoch()).await?;
        let counted = then.is_some_and(|then| then.counts(&device).is_some());
        if !counted || !kept.is_of(log) || !(is_his || may_give(&me, log, kept)) {
            continue;
        }
        let hour_ago = now.minus_ms(HOUR_MS);
        let device = device.device_id;
        if !chores::may_answer(work.conn(), &device, now, hour_ago, MAX_ANSWERS).await? {
            return Ok(());
        }
        if !hand(work, kept, known).await? {
            let since = now.minus_ms(ASK_AGAIN_MS);
            accounts::ask(work.conn(), Ask::Claim, device.as_bytes(), since).await?;
        }
    }
    Ok(())
}

/// Erases what nothing is opened with any more: an hour after another key was sent under and this one
/// is over, and after somebody went as soon as all is opened that stands before that in the mailbox.
///
/// A key that another took the place of early is kept until it would have been over: whoever has not
/// heard of the other one seals under it until then.
pub(super) async fn erase_old(
    work: &mut Work<'_>,
    log: &Log,
    group: &GroupId,
) -> Result<Option<Timestamp>, MachineError> {
    let (keys, now) = (kept(work, group).await?, work.now);
    let newest = super::choice(&keys, log, now, 0).map(Kept::rank);
    let mut next = None;
    for kept in keys.iter() {
        let (id, epoch) = (kept.key.id(), kept.key.epoch());
        let cut = log.entries().iter().rev().take_while(|entry| entry.epoch > epoch);
        let cut = cut.filter(|entry| !entry.taken_out.is_empty()).last();
        let other = newest.is_some_and(|newest| newest != kept.rank());
        // What the timer has made is not sent under yet.
        let is_over = cut.is_some() || (other && !kept.waits(now));
        let since = match kept.retired {
            Some(since) => since,
            None if !is_over => continue,
            None => {
                shared_keys::retire(work.conn(), &kept.key, now).await?;
                now
            }
        };
        let (at_once, until) = match cut {
            None => (false, since.max(kept.ends).plus_ms(HOUR_MS)),
            Some(cut) if cut.place.is_some() => {
                (!shared_keys::any_waits(work.conn(), group).await?, since.plus_ms(HOUR_MS))
            }
            // What stands before it in the mailbox has not been read yet.
            Some(_) => (false, since.plus_ms(LATEST_MS)),
        };
        if at_once || now >= until {
            shared_keys::erase(work.conn(), group, &id).await?;
        } else {
            next = Some(next.map_or(until, |next: Timestamp| next.min(until)));
        }
    }
    work.shared.forget(group);
    Ok(next)
}
