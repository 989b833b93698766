//! The one place that asks how a group's messages are sealed.
//!
//! A scheme is a folder of constructions in [`crate::schemes`], and a file here that does with rows
//! what those do with bytes. What all schemes share stands outside: the order of steps, the reach of
//! devices, envelopes to one device, what is held and for how long.

mod legacy;
mod pairwise;
mod sender_keys;
mod shared_key;

use std::sync::Arc;

use causeway_protocol::{
    api::{SenderKeyReport, StreamRow},
    device::DeviceOf,
    envelope::{Envelope, Kind, Sender, Submission},
    fanout,
    ids::{ChainId, ClientId, DeviceId, GroupId, Timestamp},
    olm_plaintext::{Missing, OlmPlaintext},
    roster::{Log, Roster, Scheme},
    shared_key::Alg,
};
use causeway_store::{Conn, Db, Row, Script, Tx};

use super::{
    Age, Machine, MachineError, Needs, Outgoing, SealError, SentIn,
    opening::{Opening, Taken},
    work::{ASK_SOON_MS, Work},
};
use crate::{
    schemes::{
        legacy::Suite as LegacySuite,
        sender_keys::{Suite, Wire},
        shared_key as shared,
    },
    storage::{
        KEPT_MS,
        accounts::KnownDevice,
        chains::{self, OwnAndGiven},
        chores::KeyRequest,
        fan_outs, groups as rows, legacy as rows_of_legacy, shared_keys,
    },
};

/// How long a key that was given and not acknowledged is kept (protocol §4.3).
const WEEK_MS: u64 = 7 * 24 * 3_600_000;

/// How a group's messages are sealed, as far as that is built.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    SenderKeys(Suite),
    Pairwise,
    SharedKey,
    Legacy(LegacySuite),
}

impl Way {
    fn of(roster: &Roster) -> Option<Self> {
        let suite = roster.effective_suite();
        match roster.scheme() {
            Scheme::SenderKeys => Suite::from_number(suite)
                .map(Self::SenderKeys)
                .or_else(|| LegacySuite::from_number(suite).map(Self::Legacy)),
            Scheme::Pairwise => (roster.suite() == 0).then_some(Self::Pairwise),
            Scheme::SharedKey => Alg::from_number(suite).map(|_| Self::SharedKey),
        }
    }
}

/// The suite of a group that begins with this scheme.
pub(super) const fn suite_of_new(scheme: Scheme) -> u8 {
    match scheme {
        Scheme::SenderKeys => Suite::Aes256Gcm.number(),
        Scheme::SharedKey => Alg::Aes256Gcm.number(),
        Scheme::Pairwise => 0,
    }
}

/// How the next messages of a group are to be sealed.
pub(super) enum Plan {
    SenderKeys(Box<sender_keys::Plan>),
    Pairwise(pairwise::Plan),
    SharedKey(shared_key::Plan),
    Legacy(Box<legacy::Plan>),
}

impl Plan {
    /// Devices that are to be reached before.
    pub(super) fn lacking(&self) -> &[DeviceOf] {
        match self {
            Self::SenderKeys(plan) => &plan.lacking,
            Self::Pairwise(plan) => &plan.lacking,
            Self::SharedKey(plan) => &plan.lacking,
            Self::Legacy(plan) => &plan.lacking,
        }
    }

    /// Whether it is a shared key whose time is over.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::SharedKey(plan) if plan.is_over)
    }

    /// Whether something begins that is written down before anything is sealed.
    pub(super) const fn begins(&self) -> bool {
        match self {
            Self::SenderKeys(plan) => plan.begins(),
            Self::Pairwise(_) | Self::Legacy(_) => true,
            Self::SharedKey(plan) => plan.begins(),
        }
    }
}

/// Asks for what a group is sealed with.
pub(super) fn look(script: &mut Script, group: &GroupId) {
    chains::select_own_and_given(script, group);
}

/// Reads what [`look`] asked for.
pub(super) fn looked(
    machine: &Machine,
    group: GroupId,
    rows: &[Row],
) -> Result<OwnAndGiven, MachineError> {
    Ok(chains::read_own_and_given(machine.vault(), &group, rows)?)
}

/// Plans `count` messages at once, and changes nothing.
pub(super) async fn plan(
    work: &mut Work<'_>,
    group: &rows::Group,
    log: &Log,
    count: usize,
) -> Result<Plan, SealError> {
    match Way::of(log.head()).ok_or(SealError::Scheme)? {
        Way::SenderKeys(suite) => {
            let plan = sender_keys::plan(work, group, log, suite, count).await?;
            Ok(Plan::SenderKeys(Box::new(plan)))
        }
        Way::Pairwise => Ok(Plan::Pairwise(pairwise::plan(work, log))),
        Way::SharedKey => shared_key::plan(work, group, log, count).await.map(Plan::SharedKey),
        Way::Legacy(suite) => {
            let plan = legacy::plan(work, group, log, suite, count).await?;
            Ok(Plan::Legacy(Box::new(plan)))
        }
    }
}

/// Gives the `reached` devices what they lack, and seals `items`: for each what carries it.
pub(super) async fn seal(
    work: &mut Work<'_>,
    plan: Plan,
    log: &Log,
    reached: &[KnownDevice],
    items: &[Outgoing],
) -> Result<Vec<Vec<Submission>>, SealError> {
    let head = log.head();
    match plan {
        Plan::SenderKeys(plan) => sender_keys::send::seal(work, *plan, head, reached, items).await,
        Plan::Pairwise(plan) => pairwise::send::seal(work, &plan, head, reached, items).await,
        Plan::SharedKey(plan) => shared_key::send::seal(work, plan, log, reached, items).await,
        Plan::Legacy(plan) => legacy::send::seal(work, *plan, head, reached, items).await,
    }
}

/// A message whose form says how it was sealed; nothing of it is verified.
pub(super) enum Form<'a> {
    SenderKeys(Wire<'a>),
    Pairwise(fanout::Message<'a>),
    SharedKey(shared::Wire<'a>),
    Legacy(Box<legacy::Spoken>),
}

/// What a message cannot be opened without.
pub(super) struct Lacked {
    pub(super) request: KeyRequest,
    /// After how long it is asked for: it may be on its way.
    pub(super) first_ms: u64,
    /// For how long whoever is asked has it.
    pub(super) kept_ms: u64,
}

impl<'a> Form<'a> {
    /// Reads it off what travelled, or says why it is nothing that can be opened.
    pub(super) fn parse(envelope: &'a Envelope) -> Result<Self, &'static str> {
        let payload = &envelope.payload;
        let form = match (envelope.kind, payload.first()) {
            (Kind::Fanout, _) => fanout::Message::parse(payload).map(Self::Pairwise).ok(),
            (_, Some(b'{')) => {
                legacy::Spoken::parse(payload).map(|read| Self::Legacy(Box::new(read)))
            }
            (_, Some(0x30..=0x3f)) => shared::Wire::parse(payload).map(Self::SharedKey).ok(),
            _ => Wire::parse(payload).map(Self::SenderKeys).ok(),
        };
        form.ok_or("malformed")
    }

    /// Whether a group with this roster has messages of this form; one that was upgraded has none of its
    /// legacy suite any more.
    fn is_of(&self, roster: &Roster) -> bool {
        let legacy = LegacySuite::from_number(roster.effective_suite());
        match self {
            Self::SenderKeys(_) => roster.scheme() == Scheme::SenderKeys && legacy.is_none(),
            Self::Pairwise(_) => roster.scheme() == Scheme::Pairwise,
            Self::SharedKey(_) => roster.scheme() == Scheme::SharedKey,
            Self::Legacy(message) => legacy == Some(message.suite()),
        }
    }

    /// The tag of the chain that it was sealed with, if it was.
    pub(super) const fn chain(&self) -> Option<[u8; 4]> {
        match self {
            Self::SenderKeys(wire) => Some(wire.header().tag),
            Self::Pairwise(_) | Self::SharedKey(_) | Self::Legacy(_) => None,
        }
    }

    /// What is asked for where `me` does not hold the key: of its sender, but for a key that all share.
    pub(super) fn missing(&self, envelope: &Envelope, me: DeviceId) -> Lacked {
        let group = envelope.group;
        let sender = envelope.sender.as_ref().map_or(me, |sender| sender.device);
        let (missing, device, first_ms, kept_ms) = match self {
            Self::SenderKeys(wire) => {
                (sender_keys::receive::missing(wire, envelope.epoch), sender, 0, KEPT_MS)
            }
            Self::Pairwise(message) => {
                (pairwise::receive::missing(message, envelope), sender, 0, pairwise::DAY_MS)
            }
            Self::Legacy(_) => (legacy::receive::missing(envelope.epoch), sender, 0, KEPT_MS),
            Self::SharedKey(wire) => {
                let missing = shared_key::receive::missing(wire, envelope.epoch);
                (missing, me, ASK_SOON_MS, shared_key::KEPT_MS)
            }
        };
        Lacked { request: KeyRequest { group, device, missing }, first_ms, kept_ms }
    }

    /// Whether its key may be here although nothing is known of its sender: it travels in the message
    /// itself, or is everybody's. Then the sender's record is waited for, and not a key of his.
    pub(super) const fn has_key(&self) -> bool {
        match self {
            Self::SenderKeys(_) | Self::Legacy(_) => false,
            Self::Pairwise(_) | Self::SharedKey(_) => true,
        }
    }
}

/// Of whom a key is asked that was asked for so often before; `None` where he is there no more.
pub(super) async fn asked_of(
    work: &mut Work<'_>,
    log: &Log,
    request: &KeyRequest,
    tries: i64,
) -> Result<Option<DeviceOf>, MachineError> {
    match log.head().scheme() {
        Scheme::SenderKeys | Scheme::Pairwise => {
            Ok(log.head().devices().find(|device| device.device_id == request.device))
        }
        Scheme::SharedKey => shared_key::receive::asked_of(work, log, request, tries).await,
    }
}

/// Steps 2 to 8 of the receive order, with every key that may be the one.
pub(super) async fn open(
    work: &mut Work<'_>,
    (row, sender): (&StreamRow, &Sender),
    device: &KnownDevice,
    form: &Form<'_>,
    log: &Arc<Log>,
) -> Result<Opening, MachineError> {
    let is_of = if LegacySuite::from_number(log.head().suite()).is_some() {
        // Upgraded or not yet, by the time when it was sealed.
        let epoch = row.envelope.epoch;
        let log = work.at_hand(Arc::clone(log), epoch).await?;
        let Some(roster) = log.roster(epoch) else { return Ok(Opening::NoRoster) };
        form.is_of(roster)
    } else {
        form.is_of(log.head())
    };
    if !is_of {
        return Ok(Opening::Refused("wrong_scheme"));
    }
    // Whoever has a shared key opens what is their own, which was shown when it was said.
    if sender.device == work.machine.me().record.device_id {
        return Ok(Opening::Known);
    }
    match form {
        Form::SenderKeys(wire) => {
            sender_keys::receive::open(work, (row, sender), device, wire, log).await
        }
        Form::Pairwise(message) => {
            pairwise::receive::open(work, (row, sender), device, message, log).await
        }
        Form::SharedKey(wire) => {
            shared_key::receive::open(work, (row, sender), device, wire, log).await
        }
        Form::Legacy(message) => {
            legacy::receive::open(work, (row, sender), device, message, log).await
        }
    }
}

/// Whether what was held came meanwhile in another envelope.
pub(super) async fn was_shown(work: &mut Work<'_>, row: &StreamRow) -> Result<bool, MachineError> {
    match (Form::parse(&row.envelope), &row.envelope.sender) {
        (Ok(Form::Pairwise(message)), Some(sender)) => {
            work.was_said(sender, &message.header.msg_id).await
        }
        _ => Ok(false),
    }
}

impl Machine {
    /// How a message of this device's went that was sealed for each recipient by itself; `None` for any
    /// other, which goes to all as it is.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn sent_in(
        &self,
        tx: &mut Tx,
        group: GroupId,
        name: ClientId,
    ) -> Result<Option<SentIn>, MachineError> {
        Ok(fan_outs::sent_in(tx.conn(), &group, &name).await?)
    }
}

/// Takes a key that `peer` gave.
pub(super) async fn take_key(
    work: &mut Work<'_>,
    group: GroupId,
    peer: &DeviceOf,
    key: &OlmPlaintext,
) -> Result<Taken, MachineError> {
    match key {
        OlmPlaintext::Distribution(distribution) => {
            sender_keys::receive::take(work, group, peer, distribution).await
        }
        OlmPlaintext::SharedKey(route, item) => {
            shared_key::receive::take(work, peer, route, item).await
        }
        OlmPlaintext::Legacy(_, given) => legacy::receive::take(work, group, peer, given).await,
        OlmPlaintext::Piece(_)
        | OlmPlaintext::Acknowledgement(..)
        | OlmPlaintext::KeyRequest(..)
        | OlmPlaintext::Invite(..)
        | OlmPlaintext::History(..)
        | OlmPlaintext::Call(..)
        | OlmPlaintext::Dummy(_) => Ok(Taken::Refused("wrong_kind")),
    }
}

/// Gives `known` again what it says it misses, if that was made for it and is kept still.
pub(super) async fn answer(
    work: &mut Work<'_>,
    log: &Log,
    known: &KnownDevice,
    missing: Missing,
) -> Result<(), MachineError> {
    match Way::of(log.head()) {
        Some(Way::SenderKeys(_)) => {
            let week_ago = work.now.minus_ms(WEEK_MS);
            sender_keys::send::answer(work, log.head().group(), known, missing, week_ago).await
        }
        Some(Way::Pairwise) => pairwise::again::asked(work, log, known, missing).await,
        Some(Way::SharedKey) => shared_key::send::answer(work, log, known, missing).await,
        Some(Way::Legacy(suite)) => legacy::send::answer(work, log.head(), suite, known).await,
        None => Ok(()),
    }
}

/// Gives what is owed of messages and keys, where it can be given now.
pub(super) async fn pay(work: &mut Work<'_>, needs: &mut Needs) -> Result<(), MachineError> {
    shared_key::tend::tend(work, needs).await?;
    pairwise::again::pay(work, needs).await
}

/// A device says which keys it has.
pub(super) async fn acknowledged(
    work: &mut Work<'_>,
    group: &GroupId,
    device: &DeviceOf,
    chains: &[(ChainId, u32)],
) -> Result<(), MachineError> {
    sender_keys::send::acknowledged(work, group, device, chains).await
}

/// Says to others which of their keys are here, where that is due.
pub(super) async fn acknowledge(work: &mut Work<'_>) -> Result<(), MachineError> {
    sender_keys::receive::acknowledge(work).await
}

/// The keys of a group as the server is told of them: names and counts.
pub(super) async fn report(
    machine: &Machine,
    conn: &mut Conn,
    head: &Roster,
) -> Result<Vec<SenderKeyReport>, MachineError> {
    match Way::of(head) {
        Some(Way::SenderKeys(_)) => {
            sender_keys::inventory::report(machine, conn, head.group()).await
        }
        Some(Way::SharedKey) => shared_key::tend::report(machine, conn, head.group()).await,
        Some(Way::Pairwise | Way::Legacy(_)) | None => Ok(Vec::new()),
    }
}

/// Whether what this device seals with is from before `asked`.
pub(super) async fn is_from_before(
    machine: &Machine,
    conn: &mut Conn,
    head: &Roster,
    asked: Timestamp,
) -> Result<bool, MachineError> {
    match Way::of(head) {
        Some(Way::SenderKeys(_)) => {
            sender_keys::inventory::is_from_before(machine, conn, head.group(), asked).await
        }
        Some(Way::SharedKey) => shared_key::tend::is_from_before(machine, conn, head, asked).await,
        Some(Way::Pairwise | Way::Legacy(_)) | None => Ok(false),
    }
}

/// How good the oldest key still is that one of these messages of this device's is sealed under.
pub(super) async fn age(
    machine: &Machine,
    db: &Db,
    now: Timestamp,
    group: &GroupId,
    messages: impl Iterator<Item = &[u8]>,
) -> Result<Age, MachineError> {
    let wires: Vec<_> = messages.filter_map(|wire| shared::Wire::parse(wire).ok()).collect();
    if wires.is_empty() {
        return Ok(Age::Current);
    }
    let mut read = db.read().await?;
    shared_key::tend::age(machine, read.conn(), now, group, &wires).await
}

/// A group has this roster now.
pub(super) async fn moved_on(conn: &mut Conn, head: &Roster) -> Result<(), MachineError> {
    match head.scheme() {
        Scheme::SenderKeys | Scheme::Pairwise => Ok(()),
        Scheme::SharedKey => Ok(shared_keys::wake(conn, &head.group()).await?),
    }
}

/// What a group's keys need may have changed.
pub(super) async fn look_after(conn: &mut Conn, group: &GroupId) -> Result<(), MachineError> {
    Ok(shared_keys::wake_known(conn, group).await?)
}

/// Seals nothing more in this group with what it was sealed with. The keys of fan-outs seal nothing
/// more anyway, and go after a day: whoever is back before gives them again.
pub(super) async fn drop_own(conn: &mut Conn, group: &GroupId) -> Result<(), MachineError> {
    look_after(conn, group).await?;
    rows_of_legacy::drop_own(conn, group).await?;
    Ok(chains::drop_own(conn, group).await?)
}

/// As [`drop_own`], in every group; `times` as often as was begun anew since this was known.
pub(super) async fn drop_all_own(conn: &mut Conn, times: u64) -> Result<(), MachineError> {
    let numbers = shared_key::skipped(times);
    shared_keys::skip(conn, numbers).await?;
    shared_key::receive::pass_over(conn, numbers).await?;
    rows_of_legacy::drop_all_own(conn).await?;
    Ok(chains::drop_all_own(conn).await?)
}

/// Lets go of keys that are too old.
pub(super) async fn expire(conn: &mut Conn, now: Timestamp) -> Result<(), MachineError> {
    chains::expire(conn, now.minus_ms(KEPT_MS)).await?;
    rows_of_legacy::expire(conn, now.minus_ms(KEPT_MS)).await?;
    chains::forget_given(conn, now.minus_ms(WEEK_MS)).await?;
    fan_outs::expire(conn, now.minus_ms(pairwise::DAY_MS), now.minus_ms(KEPT_MS)).await?;
    Ok(())
}
