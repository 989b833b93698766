//! Chains of others: taken, acknowledged, and tried on what comes.

use std::{collections::BTreeMap, sync::Arc};

use causeway_protocol::{
    api::StreamRow,
    device::DeviceOf,
    envelope::{Kind, Sender},
    ids::{ChainId, DeviceId, Epoch, GroupId},
    olm_plaintext::{Distribution, Missing, OlmPlaintext, Refused, Route},
    roster::{Arrival, Log, Verdict},
    sender_key::Context,
};

use crate::{
    machine::{
        MachineError,
        opening::{Opening, Taken},
        work::{Slot, Work},
    },
    schemes::sender_keys::{HeldChain, OpenError, Opened, Verified, Wire},
    storage::{
        accounts::KnownDevice,
        chains,
        chores::{self, AckDue},
    },
};

/// Acknowledgements wait so long for others to go with them; the protocol allows a minute.
const ACK_AFTER_MS: u64 = 2_000;

/// What `wire` would be opened with.
pub(in crate::machine) const fn missing(wire: &Wire<'_>, epoch: Epoch) -> Missing {
    let header = wire.header();
    Missing { tag: header.tag, index: header.index, epoch }
}

/// Steps 2 to 8 with every chain that has the message's tag.
pub(in crate::machine) async fn open(
    work: &mut Work<'_>,
    (row, sender): (&StreamRow, &Sender),
    device: &KnownDevice,
    wire: &Wire<'_>,
    log: &Arc<Log>,
) -> Result<Opening, MachineError> {
    let envelope = &row.envelope;
    let header = *wire.header();
    let mut tried = Opening::NoKey;
    let mut log = Arc::clone(log);
    let held = work.chains(envelope.group, sender.device, header.tag).await?;
    if !held.is_empty() && log.is_meant(envelope.epoch, header.hint) {
        log = work.at_hand(log, envelope.epoch).await?;
    }
    for slot in work.chains(envelope.group, sender.device, header.tag).await? {
        let chain = slot.chain.id();
        let verdict = log.judge(&Arrival {
            sender: device.record.device(),
            account: &sender.account,
            key_epoch: Some(slot.chain.epoch()),
            header_epoch: envelope.epoch,
            hint: header.hint,
            place: row.seq,
        });
        let late = match verdict {
            Verdict::Open { late } => late,
            Verdict::HoldRoster => {
                tried = Opening::NoRoster;
                continue;
            }
            refused => {
                tried = Opening::Refused(refused.reason());
                continue;
            }
        };
        let Some(roster) = log.by_hint(envelope.epoch, header.hint) else { continue };
        let context =
            Context { group: envelope.group, sender: sender.device, chain, roster: roster.hash() };
        let opened =
            wire.verify(&mut slot.chain, &context).and_then(Verified::open).map(Opened::spend);
        tried = match opened {
            Ok(text) => {
                slot.moved = true;
                return Ok(Opening::Opened { roster: Arc::clone(roster), text, late });
            }
            Err(OpenError::Spent) => Opening::Spent,
            Err(OpenError::Malformed) => Opening::Refused("malformed"),
            Err(OpenError::Signature) => Opening::Refused("signature"),
            Err(OpenError::Ciphertext) => Opening::Refused("ciphertext"),
        };
    }
    Ok(tried)
}

/// Takes the chain that `peer` gave, if it is judged well.
pub(in crate::machine) async fn take(
    work: &mut Work<'_>,
    group: GroupId,
    peer: &DeviceOf,
    distribution: &Distribution,
) -> Result<Taken, MachineError> {
    let (id, start) = (distribution.chain_id(), distribution.start_index);
    let mut log = work.log(&group).await?;
    if let Some(known) = &log
        && let Some(epoch) = known.epoch_of(&distribution.roster_hash)
    {
        log = Some(work.at_hand(Arc::clone(known), epoch).await?);
    }
    let held = work.chains(group, peer.device_id, tag_of(&id)).await?;
    let holds_it = held.iter().any(|slot| slot.chain.id() == id);
    let me = work.machine.me().device();
    match distribution.judge(log.as_deref(), &me, peer, |_| holds_it) {
        Ok(()) => {
            let Ok(chain) = HeldChain::from_distribution(distribution) else {
                return Ok(Taken::Refused("bad_nodes"));
            };
            install(work, peer, chain, start).await?;
            Ok(Taken::New)
        }
        Err(Refused::Held) => {
            owe_acknowledgement(work, group, peer.device_id, id, start).await?;
            Ok(Taken::Known)
        }
        Err(Refused::UnknownRoster | Refused::UnknownGroup) => Ok(Taken::NoRoster),
        Err(refused) => Ok(Taken::Refused(reason(refused))),
    }
}

/// Says to others which of their chains are here, after a while in which more may come.
pub(in crate::machine) async fn acknowledge(work: &mut Work<'_>) -> Result<(), MachineError> {
    let before = work.now.minus_ms(ACK_AFTER_MS);
    let mut due: BTreeMap<(GroupId, DeviceId), Vec<AckDue>> = BTreeMap::new();
    for ack in chores::acks_due(work.conn(), before).await? {
        due.entry((ack.group, ack.device)).or_default().push(ack);
    }
    let me = work.machine.me().record.device_id;
    for ((group, device), acks) in due {
        if let Some(known) = work.device(device).await? {
            if work.is_to_be_met(&group, &known).await? {
                continue;
            }
            let route = Route { group, from: me, to: device };
            let chains = acks.iter().map(|ack| (ack.chain, ack.start)).collect();
            if let Ok(bytes) = OlmPlaintext::Acknowledgement(route, chains).to_bytes() {
                let _sent = work.send_direct(group, &known, Kind::KeyAck, &bytes).await?;
            }
        }
        for ack in &acks {
            chores::ack_done(work.conn(), ack).await?;
        }
    }
    Ok(())
}

async fn install(
    work: &mut Work<'_>,
    peer: &DeviceOf,
    chain: HeldChain,
    start: u32,
) -> Result<(), MachineError> {
    let (vault, now) = (work.vault(), work.now);
    let (group, sender, id) = (chain.group(), peer.device_id, chain.id());
    chains::insert_held(work.conn(), vault, &chain, now).await?;
    work.chains(group, sender, tag_of(&id)).await?.push(Slot { chain, moved: false });
    owe_acknowledgement(work, group, sender, id, start).await?;
    chores::key_came(work.conn(), &group, &sender, tag_of(&id)).await?;
    Ok(())
}

async fn owe_acknowledgement(
    work: &mut Work<'_>,
    group: GroupId,
    device: DeviceId,
    chain: ChainId,
    start: u32,
) -> Result<(), MachineError> {
    let now = work.now;
    let due = AckDue { group, device, chain, start };
    Ok(chores::ack_due(work.conn(), &due, now).await?)
}

/// What the messages of a chain carry of its id.
const fn tag_of(chain: &ChainId) -> [u8; 4] {
    let [a, b, c, d, ..] = *chain.as_bytes();
    [a, b, c, d]
}

const fn reason(refused: Refused) -> &'static str {
    match refused {
        Refused::BadNodes => "bad_nodes",
        Refused::WrongSuite => "wrong_suite",
        Refused::NotThePeer => "not_the_peer",
        Refused::NotForMe => "not_for_me",
        Refused::UnknownGroup => "unknown_group",
        Refused::UnknownRoster => "unknown_roster",
        Refused::RosterBeforeChain => "roster_before_chain",
        Refused::SenderNotCounting => "sender_not_counting",
        Refused::RecipientNotCounting => "recipient_not_counting",
        Refused::CutBetween => "cut_between",
        Refused::Held => "held",
    }
}
