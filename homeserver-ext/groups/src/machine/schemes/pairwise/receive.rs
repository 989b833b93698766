//! A piece, the key that is in it, and what that opens.

use std::sync::Arc;

use causeway_protocol::{
    api::StreamRow,
    envelope::{Envelope, Sender},
    fanout::{Context, Message},
    ids::ClientId,
    olm_plaintext::{Missing, OlmPlaintext},
    roster::{Arrival, Log, Verdict},
};

use crate::{
    machine::{
        MachineError,
        opening::Opening,
        work::{Judged, Work},
    },
    schemes::pairwise as scheme,
    storage::{accounts::KnownDevice, holds},
};

/// What `envelope` would be opened with: its name, as far as a key request has room for it.
pub(in crate::machine) fn missing(message: &Message<'_>, envelope: &Envelope) -> Missing {
    let name = message.header.msg_id.as_bytes();
    let (tag, rest) = name.split_first_chunk().unwrap_or((&[0; 4], &[]));
    let (index, _) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
    Missing { tag: *tag, index: u32::from_be_bytes(*index), epoch: envelope.epoch }
}

/// Judges who says it and when, and only then opens the reader's piece: what is refused before moves no
/// session.
pub(in crate::machine) async fn open(
    work: &mut Work<'_>,
    (row, sender): (&StreamRow, &Sender),
    device: &KnownDevice,
    message: &Message<'_>,
    log: &Arc<Log>,
) -> Result<Opening, MachineError> {
    let (envelope, header) = (&row.envelope, &message.header);
    let [a, b, c, d, ..] = *header.roster.as_bytes();
    let mut log = Arc::clone(log);
    if log.epoch_of(&header.roster) != Some(envelope.epoch) {
        return Ok(Opening::NoRoster);
    }
    log = work.at_hand(log, envelope.epoch).await?;
    let verdict = log.judge(&Arrival {
        sender: device.record.device(),
        account: &sender.account,
        // Its key is as old as the message.
        key_epoch: Some(envelope.epoch),
        header_epoch: envelope.epoch,
        hint: [a, b, c, d],
        place: row.seq,
    });
    let late = match verdict {
        Verdict::Open { late } => late,
        Verdict::HoldRoster => return Ok(Opening::NoRoster),
        refused => return Ok(Opening::Refused(refused.reason())),
    };
    let Some(roster) = log.by_hash(&header.roster) else { return Ok(Opening::NoRoster) };
    let Some(sealed) = &envelope.piece else { return Ok(Opening::Refused("malformed")) };
    let said = if work.judged == Judged::AgainOpened {
        OlmPlaintext::parse(&sealed.0).map_err(|_| "bad_plaintext")
    } else {
        work.open_olm(device, row.seq, &sealed.0).await?
    };
    let piece = match said {
        Ok(OlmPlaintext::Piece(piece)) => piece,
        Ok(_) => return refused(work, row, sender, "wrong_kind").await,
        Err("bad_plaintext") => return refused(work, row, sender, "malformed").await,
        Err("olm") => return no_piece(work, row, sender, &header.msg_id).await,
        Err(reason) => return Ok(Opening::Refused(reason)),
    };
    let context = Context {
        group: envelope.group,
        sender: sender.device,
        epoch: envelope.epoch,
        roster: header.roster,
        msg_id: header.msg_id,
    };
    let me = work.machine.me().record.device_id;
    match scheme::open(message, &context, &me, &piece) {
        Ok(text) => {
            let missing = missing(message, envelope);
            work.key_came(envelope.group, sender.device, missing.tag).await?;
            Ok(Opening::Opened { roster: Arc::clone(roster), text, late })
        }
        Err(error) => refused(work, row, sender, error.reason()).await,
    }
}

/// The piece was opened, which it is once, and what it opens is nothing: so the same row is known, when
/// it comes again.
async fn refused(
    work: &mut Work<'_>,
    row: &StreamRow,
    sender: &Sender,
    reason: &'static str,
) -> Result<Opening, MachineError> {
    let (id, now) = (row.envelope.id, work.now);
    holds::see(work.conn(), &sender.device, *id.as_bytes(), id, now).await?;
    Ok(Opening::Refused(reason))
}

/// No session opens the piece: it was opened before, or the sessions of the two devices no longer fit.
async fn no_piece(
    work: &mut Work<'_>,
    row: &StreamRow,
    sender: &Sender,
    name: &ClientId,
) -> Result<Opening, MachineError> {
    if work.was_seen(sender, row.envelope.id).await? || work.was_said(sender, name).await? {
        return Ok(Opening::Known);
    }
    work.wedged(&sender.device).await?;
    Ok(Opening::NoKey)
}
