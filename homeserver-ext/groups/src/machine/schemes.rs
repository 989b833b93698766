//! The one place that asks how a group's messages are sealed.
//!
//! A scheme is a folder of constructions in [`crate::schemes`], and a file here that does with rows
//! what those do with bytes. What all schemes share stands outside: the order of steps, the reach of
//! devices, envelopes to one device, what is held and for how long.

mod sender_keys;

use std::sync::Arc;

use causeway_protocol::{
    api::{SenderKeyReport, StreamRow},
    device::DeviceOf,
    envelope::{Envelope, Kind, Sender, Submission},
    ids::{ChainId, DeviceId, GroupId, Timestamp},
    olm_plaintext::{Missing, OlmPlaintext},
    roster::{Log, Roster, Scheme},
};
use causeway_store::{Conn, Row, Script};
use zeroize::Zeroizing;

use super::{
    Machine, MachineError, Outgoing, SealError,
    opening::{Opening, Taken},
    work::Work,
};
use crate::{
    schemes::sender_keys::{Suite, Wire},
    storage::{
        KEPT_MS,
        accounts::KnownDevice,
        chains::{self, OwnAndGiven},
        groups as rows,
    },
};

/// How long a key that was given and not acknowledged is kept (protocol §4.3).
const WEEK_MS: u64 = 7 * 24 * 3_600_000;

/// How a group's messages are sealed, as far as that is built.
enum Way {
    SenderKeys(Suite),
}

impl Way {
    fn of(roster: &Roster) -> Option<Self> {
        match roster.scheme() {
            Scheme::SenderKeys => {
                Suite::from_number(roster.effective_suite()).map(Self::SenderKeys)
            }
            Scheme::Pairwise | Scheme::SharedKey => None,
        }
    }
}

/// How the next messages of a group are to be sealed.
pub(super) enum Plan {
    SenderKeys(sender_keys::Plan),
}

impl Plan {
    /// Devices that are to be reached before.
    pub(super) fn lacking(&self) -> &[DeviceOf] {
        match self {
            Self::SenderKeys(plan) => &plan.lacking,
        }
    }

    /// Whether something begins that is written down before anything is sealed.
    pub(super) const fn begins(&self) -> bool {
        match self {
            Self::SenderKeys(plan) => plan.begins(),
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
            Ok(Plan::SenderKeys(sender_keys::plan(work, group, log, suite, count).await?))
        }
    }
}

/// Gives the `reached` devices what they lack, and seals `items`: for each what carries it.
pub(super) async fn seal(
    work: &mut Work<'_>,
    plan: Plan,
    head: &Roster,
    reached: &[KnownDevice],
    items: &[Outgoing],
) -> Result<Vec<Vec<Submission>>, SealError> {
    match plan {
        Plan::SenderKeys(plan) => sender_keys::send::seal(work, plan, head, reached, items).await,
    }
}

/// A message whose form says how it was sealed; nothing of it is verified.
pub(super) enum Form<'a> {
    SenderKeys(Wire<'a>),
}

impl<'a> Form<'a> {
    /// Reads it off what travelled, or says why it is nothing that can be opened.
    pub(super) fn parse(envelope: &'a Envelope) -> Result<Self, &'static str> {
        if envelope.kind == Kind::Fanout {
            return Err("not_built");
        }
        Wire::parse(&envelope.payload).map(Self::SenderKeys).map_err(|_| "malformed")
    }

    /// What its sender is asked for where the key is not held.
    pub(super) const fn missing(&self, envelope: &Envelope) -> Missing {
        match self {
            Self::SenderKeys(wire) => sender_keys::receive::missing(wire, envelope.epoch),
        }
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
    match form {
        Form::SenderKeys(wire) => {
            sender_keys::receive::open(work, (row, sender), device, wire, log).await
        }
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
        OlmPlaintext::SharedKey(..)
        | OlmPlaintext::Piece(_)
        | OlmPlaintext::Acknowledgement(..)
        | OlmPlaintext::KeyRequest(..)
        | OlmPlaintext::Invite(..)
        | OlmPlaintext::Dummy(_) => Ok(Taken::Refused("not_built")),
    }
}

/// What was made for `device` of the key that it misses, if that is kept still.
pub(super) async fn kept_key(
    work: &mut Work<'_>,
    head: &Roster,
    device: &DeviceId,
    missing: Missing,
) -> Result<Option<Zeroizing<Vec<u8>>>, MachineError> {
    match Way::of(head) {
        Some(Way::SenderKeys(_)) => {
            let week_ago = work.now.minus_ms(WEEK_MS);
            sender_keys::send::kept(work, head.group(), device, missing, week_ago).await
        }
        None => Ok(None),
    }
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
        None => Ok(Vec::new()),
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
        None => Ok(false),
    }
}

/// Seals nothing more in this group with what it was sealed with.
pub(super) async fn drop_own(conn: &mut Conn, group: &GroupId) -> Result<(), MachineError> {
    Ok(chains::drop_own(conn, group).await?)
}

/// As [`drop_own`], in every group.
pub(super) async fn drop_all_own(conn: &mut Conn) -> Result<(), MachineError> {
    Ok(chains::drop_all_own(conn).await?)
}

/// Lets go of keys that are too old.
pub(super) async fn expire(conn: &mut Conn, now: Timestamp) -> Result<(), MachineError> {
    chains::expire(conn, now.minus_ms(KEPT_MS)).await?;
    chains::forget_given(conn, now.minus_ms(WEEK_MS)).await?;
    Ok(())
}
