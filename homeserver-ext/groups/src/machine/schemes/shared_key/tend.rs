//! What is to be done about shared keys as time passes: the next one made, given to all, asked for.

use causeway_protocol::{
    api::SenderKeyReport,
    device::DeviceOf,
    ids::{GroupId, Timestamp},
    roster::{Log, Roster},
};
use causeway_store::Conn;

use super::{
    BEFORE_MS, HOUR_MS, LATEST_MS, Next, after, choice, has_tried, is_admin, kept, next, others,
    receive, rotation, send, signer, tag_of,
};
use crate::{
    machine::{Age, Machine, MachineError, Needs, SealError, reach::Reach, work::Work},
    schemes::shared_key::Wire,
    storage::{
        groups as rows,
        shared_keys::{self, Kept},
    },
};

const MINUTE_MS: u64 = 60_000;
/// Whoever is to make a key is waited for so long, until an admin makes another in its place.
const SIGNER_MS: u64 = 2 * MINUTE_MS;
/// Admins' devices make no key at the same time: each waits a minute longer, and no longer than this.
const MAX_TURNS: u64 = 30;
/// Devices that are given a key in one transaction.
const GIVEN_AT_ONCE: usize = 256;
/// What was given before goes out first.
const SOON_MS: u64 = 1_000;

/// Looks after the keys of groups in which that is due.
pub(in crate::machine) async fn tend(
    work: &mut Work<'_>,
    needs: &mut Needs,
) -> Result<(), MachineError> {
    let now = work.now;
    for group in shared_keys::due(work.conn(), now).await? {
        let next = tend_group(work, group, needs).await?;
        shared_keys::set_due(work.conn(), &group, next).await?;
    }
    Ok(())
}

/// Does what is due in one group; when something is due next.
async fn tend_group(
    work: &mut Work<'_>,
    group: GroupId,
    needs: &mut Needs,
) -> Result<Timestamp, MachineError> {
    let now = work.now;
    let mut at = now.plus_ms(HOUR_MS);
    let Some(log) = work.log(&group).await? else { return Ok(at) };
    let (row, log) = match work.may_send(group).await {
        Ok(may_send) => may_send,
        Err(SealError::Machine(error)) => return Err(error),
        Err(error) => {
            if let SealError::NotMember(_) | SealError::Closed = error {
                shared_keys::retire_all(work.conn(), &group, now).await?;
                work.shared.forget(&group);
            }
            let erased = send::erase_old(work, &log, &group).await?;
            return Ok(erased.map_or(at, |erased| erased.min(at)));
        }
    };
    match make(work, &row, &log).await? {
        Due::Now(next) => {
            send::make(work, &log, next).await?;
        }
        Due::At(later) => at = at.min(later),
        Due::Ask => {
            let epoch = log.head().epoch();
            receive::ask_for_newest(work, group, epoch, LATEST_MS).await?;
        }
        Due::Never => {}
    }
    let erased = send::erase_old(work, &log, &group).await?;
    let given = give(work, &row, &log, needs).await?;
    Ok(earliest(erased, given).map_or(at, |next| next.min(at)))
}

/// When a key is to be made here.
enum Due {
    Now(Next),
    At(Timestamp),
    /// Another is to make it, and is late.
    Ask,
    Never,
}

async fn make(work: &mut Work<'_>, row: &rows::Group, log: &Log) -> Result<Due, MachineError> {
    let (head, now, me) = (log.head(), work.now, work.machine.me().device());
    let keys = kept(work, &head.group()).await?;
    let (is_maker, turn) = (is_admin(head, &me), turn(head, &me));
    let Some(chosen) = choice(&keys, log, now, 1) else {
        let (signer, since) = signer(work, log, head.epoch()).await?;
        let made = next(log, &keys, &me, signer, now);
        let (at, next) = match made {
            Some(next) if signer == Some(me) => return Ok(Due::Now(next)),
            Some(next) => (since.plus_ms(turn), Some(next)),
            None if is_maker => (since.plus_ms(SIGNER_MS + turn), Some(after(head, &keys, now))),
            None => (since.plus_ms(MINUTE_MS), None),
        };
        return Ok(match next {
            _ if now < at => Due::At(at),
            Some(next) => Due::Now(next),
            None => Due::Ask,
        });
    };
    if !is_maker {
        return Ok(Due::Never);
    }
    if row.rotate {
        return Ok(Due::Now(after(head, &keys, now)));
    }
    if keys.iter().any(|kept| kept.waits(now) && kept.is_of(log) && !kept.only_opens()) {
        return Ok(Due::At(now.plus_ms(MINUTE_MS)));
    }
    let over = rotation(work).await?.of(chosen);
    let at = over.minus_ms(BEFORE_MS).plus_ms(turn);
    if now < at {
        return Ok(Due::At(at));
    }
    if has_tried(&keys, head, &me, now) {
        return Ok(Due::At(now.plus_ms(HOUR_MS)));
    }
    Ok(Due::Now(after(head, &keys, now.max(over))))
}

/// For how long an admin's device lets those before it go first.
fn turn(head: &Roster, me: &DeviceOf) -> u64 {
    let before = head.devices().filter(|device| is_admin(head, device) && device < me).count();
    u64::try_from(before).unwrap_or(MAX_TURNS).min(MAX_TURNS) * MINUTE_MS
}

/// Gives this device's keys to those who lack them, a page at a time; when there is more to be given.
async fn give(
    work: &mut Work<'_>,
    row: &rows::Group,
    log: &Log,
    needs: &mut Needs,
) -> Result<Option<Timestamp>, MachineError> {
    let (head, now, me) = (log.head(), work.now, work.machine.me().record.device_id);
    let (keys, window) = (kept(work, &head.group()).await?, log.window(head.epoch()));
    let is_mine = |kept: &&Kept| kept.maker == me && !kept.is_given && kept.key.epoch() >= window;
    let mut at = None;
    for kept in keys.iter().filter(is_mine) {
        if row.has_finished {
            return Ok(Some(now.plus_ms(SOON_MS)));
        }
        let Lacking { now: page, next } = lacking(work, head, kept, GIVEN_AT_ONCE).await?;
        if page.is_empty() && next.is_none() {
            shared_keys::set_given(work.conn(), &kept.key).await?;
            work.shared.forget(&head.group());
        }
        at = earliest(at, if page.is_empty() { next } else { Some(now) });
        for device in page {
            match work.reach(log, &device).await? {
                Reach::Session(known) => send::give(work, kept, &known).await?,
                other => {
                    let next = work.wait_for(other, needs);
                    shared_keys::give(work.conn(), &kept.key, &device.device_id, Some(next))
                        .await?;
                }
            }
        }
    }
    Ok(at)
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Who lacks a key of this device's.
pub(super) struct Lacking {
    /// Those who can be given it now, as far as was asked for.
    pub(super) now: Vec<DeviceOf>,
    /// When there are more.
    next: Option<Timestamp>,
}

/// The first `most` devices that lack a key.
pub(super) async fn lacking(
    work: &mut Work<'_>,
    head: &Roster,
    kept: &Kept,
    most: usize,
) -> Result<Lacking, MachineError> {
    let (now, me) = (work.now, work.machine.me().record.device_id);
    let given = shared_keys::given(work.conn(), &kept.key).await?;
    let mut lacking = Lacking { now: Vec::new(), next: None };
    for device in others(head, me) {
        let at = match given.get(&device.device_id) {
            Some(None) => continue,
            Some(Some(at)) => *at,
            None => now,
        };
        if at <= now && lacking.now.len() < most {
            lacking.now.push(device);
        } else {
            lacking.next = earliest(lacking.next, Some(at.max(now)));
        }
    }
    Ok(lacking)
}

/// How good the oldest key still is that one of these messages is under.
pub(in crate::machine) async fn age(
    machine: &Machine,
    conn: &mut Conn,
    now: Timestamp,
    group: &GroupId,
    wires: &[Wire<'_>],
) -> Result<Age, MachineError> {
    let keys = shared_keys::of_group(conn, machine.vault(), group).await?;
    let current = |wire: &Wire<'_>| {
        keys.iter().find(|kept| kept.retired.is_none() && tag_of(&kept.key) == wire.header().tag)
    };
    let mut age = Age::Current;
    for wire in wires {
        match current(wire) {
            None => return Ok(Age::Outdated),
            Some(kept) if now > kept.ends => age = Age::Over,
            Some(_) => {}
        }
    }
    Ok(age)
}

/// The newest key, as the server is told of it.
pub(in crate::machine) async fn report(
    machine: &Machine,
    conn: &mut Conn,
    group: GroupId,
) -> Result<Vec<SenderKeyReport>, MachineError> {
    let keys = shared_keys::of_group(conn, machine.vault(), &group).await?;
    let newest = keys.iter().filter(|kept| !kept.only_opens()).max_by_key(|kept| kept.rank());
    let own = newest.map(|kept| SenderKeyReport {
        tag: tag_of(&kept.key).to_vec(),
        sender: machine.me().record.device_id,
        epoch: kept.key.epoch(),
        next_index: u32::try_from(kept.next).ok(),
        unacknowledged: 0,
    });
    Ok(own.into_iter().collect())
}

/// Whether this device may make another key than one that came before `asked`.
pub(in crate::machine) async fn is_from_before(
    machine: &Machine,
    conn: &mut Conn,
    head: &Roster,
    asked: Timestamp,
) -> Result<bool, MachineError> {
    let keys = shared_keys::of_group(conn, machine.vault(), &head.group()).await?;
    let newest = keys.iter().map(|kept| kept.at).max();
    Ok(is_admin(head, &machine.me().device()) && newest.is_some_and(|at| at < asked))
}
