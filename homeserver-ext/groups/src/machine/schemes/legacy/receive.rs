//! Chains of others: taken, and tried on what comes.

use std::sync::Arc;

use causeway_protocol::{
    api::StreamRow,
    content::{Content, Plaintext, Text, TextKind},
    device::DeviceOf,
    envelope::Sender,
    ids::{ClientId, Epoch, GroupId, Timestamp},
    olm_plaintext::{LegacyKey, Missing},
    roster::{Arrival, Log, Verdict},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Spoken, spoken};
use crate::{
    machine::{
        MachineError,
        opening::{Opening, Taken},
        work::Work,
    },
    schemes::legacy::{HeldKeys, OpenError, Suite, Taken as TakenIn, Unreachable},
    storage::{accounts::KnownDevice, chores, legacy},
};

/// The suite's messages name no chain: the sender is asked for the one that he speaks with.
pub(in crate::machine) const fn missing(epoch: Epoch) -> Missing {
    Missing { tag: [0; 4], index: 0, epoch }
}

/// Opens a message with what is held of its sender, where that device counts.
pub(in crate::machine) async fn open(
    work: &mut Work<'_>,
    (row, sender): (&StreamRow, &Sender),
    device: &KnownDevice,
    message: &Spoken,
    log: &Arc<Log>,
) -> Result<Opening, MachineError> {
    let (vault, now, envelope) = (work.vault(), work.now, &row.envelope);
    let held = legacy::held(work.conn(), vault, message.suite(), (&envelope.group, &sender.device))
        .await?;
    let Some(mut held) = held else { return Ok(Opening::NoKey) };
    let log = work.at_hand(Arc::clone(log), envelope.epoch).await?;
    // The suite names no roster: that of the envelope's epoch is meant.
    let Some(roster) = log.roster(envelope.epoch) else { return Ok(Opening::NoRoster) };
    let [h0, h1, h2, h3, ..] = *roster.hash().as_bytes();
    let verdict = log.judge(&Arrival {
        sender: device.record.device(),
        account: &sender.account,
        key_epoch: Some(envelope.epoch),
        header_epoch: envelope.epoch,
        hint: [h0, h1, h2, h3],
        place: row.seq,
    });
    let late = match verdict {
        Verdict::Open { late } => late,
        Verdict::HoldRoster => return Ok(Opening::NoRoster),
        refused => return Ok(Opening::Refused(refused.reason())),
    };
    let text = match message.open(&envelope.group, &sender.device, &mut held) {
        Ok(text) => text,
        Err(error) => return Ok(refused(error)),
    };
    let of = (&envelope.group, &sender.device);
    legacy::save_held(work.conn(), vault, of, &held, None, now).await?;
    let text = said(sender, message, now, &text);
    Ok(Opening::Opened { roster: Arc::clone(roster), text, late })
}

const fn refused(error: OpenError) -> Opening {
    Opening::Refused(match error {
        OpenError::Malformed => "malformed",
        OpenError::Context => "context",
        OpenError::NoKey | OpenError::Signature => "signature",
        OpenError::Index(Unreachable::Replay) => return Opening::Spent,
        OpenError::Index(Unreachable::TooOld) => "too_old",
        OpenError::Index(Unreachable::TooFar) => "too_far_ahead",
        OpenError::Ciphertext => "ciphertext",
    })
}

/// The same as a message of ours. Its name is made from what was signed, since its own is not.
fn said(sender: &Sender, message: &Spoken, now: Timestamp, text: &[u8]) -> Zeroizing<Vec<u8>> {
    let name = Sha256::new()
        .chain_update(b"causeway/legacy/name\0")
        .chain_update(sender.device.as_bytes())
        .chain_update(message.signature())
        .finalize();
    let mut client_id = [0; 16];
    client_id.iter_mut().zip(name).for_each(|(to, from)| *to = from);
    let plaintext = Plaintext {
        // `ren_a` says no time.
        sent_at: message.sent_at().unwrap_or(now),
        ttl_s: 0,
        client_id: ClientId::new(client_id),
        content: Content::Text(Text {
            kind: TextKind::Text,
            body: message.body(text),
            html: None,
            reply_to: None,
            mirror: None,
        }),
    };
    Zeroizing::new(plaintext.to_bytes())
}

/// Takes the chain that `peer` gave; what was said around it names group and devices, and was compared.
pub(in crate::machine) async fn take(
    work: &mut Work<'_>,
    group: GroupId,
    peer: &DeviceOf,
    given: &LegacyKey,
) -> Result<Taken, MachineError> {
    let (vault, now) = (work.vault(), work.now);
    let Some(log) = work.log(&group).await? else { return Ok(Taken::NoRoster) };
    let roster = log.head();
    // That of `create`: what was said before an upgrade may come after its op.
    let suite = Suite::from_number(given.suite);
    let Some(suite) = suite.filter(|suite| roster.suite() == suite.number()) else {
        return Ok(Taken::Refused("wrong_suite"));
    };
    // The op that lets its sender in may come after it.
    if roster.counts(peer).is_none() {
        return Ok(Taken::NoRoster);
    }
    let (of, version) = ((&group, &peer.device_id), Some(given.version));
    let chain = spoken::given(suite, given.text.as_bytes(), of, work.olm().await?);
    let Some(chain) = chain else { return Ok(Taken::Refused("malformed")) };
    let known = legacy::held(work.conn(), vault, suite, of).await?;
    let (held, taken) = match known {
        Some(mut held) => match held.take(chain) {
            Ok(taken) => (held, taken),
            Err(_) => return Ok(Taken::Refused("conflict")),
        },
        None => match HeldKeys::new(chain) {
            Ok(held) => (held, TakenIn::New),
            Err(_) => return Ok(Taken::Refused("malformed")),
        },
    };
    legacy::save_held(work.conn(), vault, of, &held, version, now).await?;
    if taken == TakenIn::New {
        chores::key_came(work.conn(), &group, &peer.device_id, [0; 4]).await?;
        return Ok(Taken::New);
    }
    Ok(Taken::Known)
}
