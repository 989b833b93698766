//! Shared keys with rows (protocol §5.2): which one is sent under, and who makes the next.
//!
//! ```text
//! made ─► pre-active ─► active ─► accept-only ─► erased
//!         is given to    until another one is     an hour after it would
//!         all            sent under               be over; after a removal
//!                                                 at once
//! ```

pub(super) mod receive;
pub(super) mod send;
pub(super) mod tend;

use std::sync::Arc;

use causeway_protocol::{
    device::DeviceOf,
    ids::{DeviceId, Epoch, GroupId, Timestamp},
    roster::{Log, Role, Roster},
    shared_key::{Alg, MAX_MESSAGES},
};

use crate::{
    machine::{MachineError, SealError, key_rotation::interval_s, work::Work},
    schemes::shared_key::{GroupKey, Rank},
    storage::{
        groups as rows, ops,
        shared_keys::{self, Kept},
    },
};

pub(super) const HOUR_MS: u64 = 3_600_000;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
/// A key that is over is sent under so long still, by those who may make none: else nobody could say
/// anything while no admin's device is there.
const LATEST_MS: u64 = 7 * DAY_MS;
/// A key that the timer makes is made so long before it is sent under: meanwhile it is given to all.
const BEFORE_MS: u64 = 10 * 60_000;
/// Devices that are given a key before the first message under it; the others get it with the chores.
const AT_ONCE: usize = 64;
/// Messages that may have been sealed after a copy was taken which was put back.
const SKIPPED: u64 = 4_096;
/// A message that came before its key waits for it no longer than this.
pub(super) const KEPT_MS: u64 = LATEST_MS;

/// With which key the next messages are sealed.
pub(in crate::machine) struct Plan {
    key: Choice,
    /// Whether that one's time is over.
    pub(super) is_over: bool,
    /// Devices that do not have it, of which this one is to give it to some.
    pub(super) lacking: Vec<DeviceOf>,
}

enum Choice {
    /// The one with this rank.
    Kept(Rank),
    /// One that is made first.
    New(Next),
}

/// What a key is for that is to be made.
#[derive(Debug, Clone, Copy)]
struct Next {
    epoch: Epoch,
    generation: u8,
    /// From when on it is sent under.
    created: Timestamp,
}

impl Plan {
    pub(super) const fn begins(&self) -> bool {
        matches!(self.key, Choice::New(_))
    }
}

/// Plans `count` messages, which one key carries.
pub(super) async fn plan(
    work: &mut Work<'_>,
    group: &rows::Group,
    log: &Log,
    count: usize,
) -> Result<Plan, SealError> {
    let now = work.now;
    let keys = kept(work, &log.head().group()).await?;
    let count = u64::try_from(count).unwrap_or(MAX_MESSAGES);
    let chosen = choice(&keys, log, now, count);
    let (over, me) = (rotation(work).await?, work.machine.me().device());
    let is_due = match chosen {
        None => true,
        Some(kept) => {
            let is_over = now > over.of(kept) && !has_tried(&keys, log.head(), &me, now);
            group.rotate || is_over || has_leaked(work, log, kept).await?
        }
    };
    let mut made = None;
    if is_due {
        let (signer, _) = signer(work, log, log.head().epoch()).await?;
        made = next(log, &keys, &me, signer, now);
    }
    let mut lacking = Vec::new();
    let is_over = made.is_none() && chosen.is_some_and(|kept| now > kept.ends);
    let key = match (made, chosen) {
        (Some(next), _) => {
            lacking = others(log.head(), me.device_id).take(AT_ONCE).collect();
            Choice::New(next)
        }
        (None, Some(kept)) => {
            if kept.maker == me.device_id && !kept.is_given {
                lacking = tend::lacking(work, log.head(), kept, AT_ONCE).await?.now;
            }
            Choice::Kept(kept.rank())
        }
        (None, None) => return Err(SealError::NoKey),
    };
    Ok(Plan { key, is_over, lacking })
}

/// Numbers that are passed over where it was begun anew so often since a copy was taken: whoever puts
/// the same copy back once more uses none that it used the time before.
pub(super) const fn skipped(times: u64) -> u64 {
    let numbers = times.saturating_mul(SKIPPED);
    if numbers < MAX_MESSAGES { numbers } else { MAX_MESSAGES }
}

/// All devices but this one.
fn others(head: &Roster, me: DeviceId) -> impl Iterator<Item = DeviceOf> + '_ {
    head.devices().filter(move |device| device.device_id != me)
}

/// The keys of a group, read once.
async fn kept(work: &mut Work<'_>, group: &GroupId) -> Result<Arc<Vec<Kept>>, MachineError> {
    Ok(work.shared.keys(work.tx.conn(), work.machine.vault(), group).await?)
}

impl Kept {
    fn rank(&self) -> Rank {
        self.key.rank(self.generation)
    }

    /// Whether it was made in this history, for what the group seals with now.
    fn is_of(&self, log: &Log) -> bool {
        let entry = log.entry(self.key.epoch());
        entry.is_some_and(|entry| entry.roster_hash == self.roster)
            && Alg::from_number(log.head().effective_suite()) == Some(self.key.alg())
    }

    /// From when on it is sent under, however far ahead its maker says.
    fn begins(&self) -> Timestamp {
        self.created.min(self.at.plus_ms(BEFORE_MS))
    }

    /// Whether it is given already, and not sent under yet.
    fn waits(&self, now: Timestamp) -> bool {
        now < self.begins()
    }

    /// Whether it was lost and given back: its numbers may have been used, so nothing is sealed under it,
    /// and nobody takes it from here.
    const fn only_opens(&self) -> bool {
        self.next > MAX_MESSAGES
    }

    /// How well it is sent under now; `None`: not at all.
    fn stage(&self, now: Timestamp) -> Option<u8> {
        if now > self.ends.max(self.at).plus_ms(LATEST_MS) {
            None
        } else if now > self.ends {
            Some(0)
        } else if self.waits(now) {
            Some(1)
        } else {
            Some(2)
        }
    }
}

/// The key that `count` messages are sealed under: none of before somebody went or came, and of those
/// that are sent under now the one of the highest rank.
fn choice<'a>(keys: &'a [Kept], log: &Log, now: Timestamp, count: u64) -> Option<&'a Kept> {
    let least = log.window(log.head().epoch());
    let has_room = |kept: &&Kept| kept.next.saturating_add(count) <= MAX_MESSAGES;
    let usable = keys.iter().filter(|kept| kept.key.epoch() >= least && kept.is_of(log));
    let staged = usable.filter(has_room).filter_map(|kept| Some((kept.stage(now)?, kept)));
    staged.max_by_key(|(stage, kept)| (*stage, kept.rank())).map(|(_, kept)| kept)
}

/// After how long a key is over.
#[derive(Debug, Clone, Copy)]
struct Rotation(u64);

impl Rotation {
    /// When a key is over, as it says or as it is here, whichever is earlier.
    fn of(self, kept: &Kept) -> Timestamp {
        kept.ends.min(kept.begins().max(kept.at).plus_ms(self.0))
    }
}

/// As it is set here, and a day where it is not.
async fn rotation(work: &mut Work<'_>) -> Result<Rotation, MachineError> {
    let seconds = interval_s(work.conn()).await?;
    Ok(Rotation(u64::from(seconds) * 1_000))
}

/// What this device may make now: the first key of a window if it has signed the op that began it, and
/// any other if its member is admin. Where whoever signed is there, he is left to it.
fn next(
    log: &Log,
    keys: &[Kept],
    me: &DeviceOf,
    signer: Option<DeviceOf>,
    created: Timestamp,
) -> Option<Next> {
    let epoch = log.window(log.head().epoch());
    let has_any =
        keys.iter().any(|kept| kept.key.epoch() >= epoch && kept.is_of(log) && !kept.only_opens());
    match signer {
        Some(signer) if !has_any => {
            (signer == *me).then_some(Next { epoch, generation: 0, created })
        }
        _ => is_admin(log.head(), me).then(|| after(log.head(), keys, created)),
    }
}

/// The generation after all that there are at the newest epoch.
fn after(head: &Roster, keys: &[Kept], created: Timestamp) -> Next {
    let at_head = keys.iter().filter(|kept| kept.key.epoch() == head.epoch() && !kept.only_opens());
    let generation = at_head.map(|kept| kept.generation).max().unwrap_or(0).saturating_add(1);
    Next { epoch: head.epoch(), generation, created }
}

/// Whether this device has just made one in place of a key that is over, and that one is sent under all
/// the same: its maker gave it a rank that nothing is above until there is another roster.
fn has_tried(keys: &[Kept], head: &Roster, me: &DeviceOf, now: Timestamp) -> bool {
    keys.iter().any(|kept| {
        kept.maker == me.device_id
            && kept.key.epoch() == head.epoch()
            && !kept.waits(now)
            && now < kept.at.plus_ms(HOUR_MS)
    })
}

fn is_admin(head: &Roster, device: &DeviceOf) -> bool {
    head.counts(device).is_some_and(|member| member.role == Role::Admin)
}

/// Whoever signed the op with which the window of `epoch` began, if it counts still, and when that op
/// was installed here.
async fn signer(
    work: &mut Work<'_>,
    log: &Log,
    epoch: Epoch,
) -> Result<(Option<DeviceOf>, Timestamp), MachineError> {
    let (head, window) = (log.head(), log.window(epoch));
    let Some((signer, at)) = ops::signer(work.conn(), &head.group(), window).await? else {
        return Ok((None, Timestamp(0)));
    };
    Ok((head.counts(&signer).map(|_| signer), at))
}

/// Whether this device gave the key to one who turned out not to be who he is called.
async fn has_leaked(work: &mut Work<'_>, log: &Log, kept: &Kept) -> Result<bool, MachineError> {
    let me = work.machine.me().record.device_id;
    if kept.maker != me || !work.any_untrusted(log, |_| true).await? {
        return Ok(false);
    }
    let given = shared_keys::given(work.conn(), &kept.key).await?;
    let has = |device: &DeviceOf| given.get(&device.device_id).is_some_and(Option::is_none);
    work.any_untrusted(log, has).await
}

/// Whether a person's device may give `kept` to others: it made it, or might have.
fn may_give(me: &DeviceOf, log: &Log, kept: &Kept) -> bool {
    !kept.only_opens()
        && (kept.maker == me.device_id || (kept.generation > 0 && is_admin(log.head(), me)))
}

/// The first bytes of a key's id, which its messages carry.
const fn tag_of(key: &GroupKey) -> [u8; 4] {
    let id = key.id();
    let [a, b, c, d, ..] = *id.as_bytes();
    [a, b, c, d]
}
