//! Keys that are given again: to whoever could not open his piece, and to whoever had none to be begun with.

use causeway_protocol::{
    envelope::{Kind, Piece, Submission, SubmittedTo},
    fanout::Context,
    ids::Timestamp,
    olm_plaintext::Missing,
    roster::Log,
};

use super::{DAY_MS, send};
use crate::{
    entropy,
    machine::{MachineError, Needs, reach::Reach, work::Work},
    schemes::pairwise::FanOut,
    storage::{
        accounts::KnownDevice,
        chores::{self, Finished},
        fan_outs::{self, Owed},
        olm as sessions,
        owed::WAIT_MS,
    },
};

/// So often a device may say of one message that it could not open it.
const MAX_TRIES: i64 = 3;

/// `known` could not open a message: if it was in the group when that was said, it is given the key again.
pub(in crate::machine) async fn asked(
    work: &mut Work<'_>,
    log: &Log,
    known: &KnownDevice,
    Missing { tag, index, .. }: Missing,
) -> Result<(), MachineError> {
    let (group, since) = (log.head().group(), work.now.minus_ms(DAY_MS));
    let begins = [tag, index.to_be_bytes()].concat();
    let found = fan_outs::find(work.conn(), &group, &begins, since).await?;
    let Some((name, epoch)) = found else { return Ok(()) };
    let then = work.roster_at(log, epoch).await?;
    let device = known.record.device();
    if then.is_some_and(|then| then.counts(&device).is_some()) {
        let device = &device.device_id;
        fan_outs::could_not_open(work.conn(), &group, &name, device, MAX_TRIES).await?;
    }
    Ok(())
}

/// Makes the pieces that are owed, as far as there are sessions.
pub(in crate::machine) async fn pay(
    work: &mut Work<'_>,
    needs: &mut Needs,
) -> Result<(), MachineError> {
    let (now, me) = (work.now, work.machine.me().device());
    for owed in fan_outs::owed(work.conn(), now).await? {
        let log = work.log(&owed.group).await?;
        let log = log.filter(|log| log.head().counts(&me).is_some() && !log.head().closed());
        let device = log
            .as_ref()
            .and_then(|log| log.head().devices().find(|counts| counts.device_id == owed.device));
        let (Some(log), Some(device)) = (log, device) else {
            fan_outs::forgive(work.conn(), &owed).await?;
            continue;
        };
        match work.reach(&log, &device).await? {
            Reach::Session(known) if give(work, &log, &known, &owed).await? => {}
            Reach::Session(_) => {
                fan_outs::put_off(work.conn(), &owed, now.plus_ms(WAIT_MS)).await?;
            }
            other => {
                let next = work.wait_for(other, needs);
                fan_outs::put_off(work.conn(), &owed, next).await?;
            }
        }
    }
    Ok(())
}

/// Seals the key for one device; `false` if its session cannot send.
async fn give(
    work: &mut Work<'_>,
    log: &Log,
    known: &KnownDevice,
    owed: &Owed,
) -> Result<bool, MachineError> {
    let (vault, now, device) = (work.vault(), work.now, owed.device);
    let sender = work.machine.me().sender();
    let Some((fan_out, expires)) = fan_outs::load(work.conn(), vault, sender.device, owed).await?
    else {
        return Ok(true);
    };
    let head = log.head();
    let fan_out = if fan_out.context().epoch == head.epoch() {
        fan_out
    } else {
        // The group has moved on, and the server takes nothing of before: it is said anew.
        let context = Context { epoch: head.epoch(), roster: head.hash(), ..*fan_out.context() };
        let Some(again) = anew(&fan_out, context)? else { return Ok(true) };
        again
    };
    let session = sessions::newest(work.conn(), vault, &known.record.device_id).await?;
    let Some(mut session) = session else { return Ok(false) };
    let Some((_, piece)) = send::piece(&fan_out, &device, &mut session) else { return Ok(false) };
    work.sealed = true;
    sessions::save(work.conn(), vault, &device, &session, now).await?;
    let finished = finished(&sender, &fan_out, owed, piece, left(now, expires));
    fan_outs::given(work.conn(), owed, &finished.id).await?;
    chores::finish(work.conn(), &finished, now).await?;
    Ok(true)
}

/// The same text under another key, in another context.
fn anew(fan_out: &FanOut, context: Context) -> Result<Option<FanOut>, MachineError> {
    let Ok(text) = fan_out.open() else { return Ok(None) };
    Ok(FanOut::seal(context, entropy::secret()?, &text).ok())
}

fn finished(
    sender: &causeway_protocol::envelope::Sender,
    fan_out: &FanOut,
    owed: &Owed,
    piece: Piece,
    ttl_ms: u64,
) -> Finished {
    let (epoch, payload) = (fan_out.context().epoch, fan_out.payload(0, 1));
    let submission = Submission {
        id: None,
        kind: Kind::Fanout,
        group: owed.group,
        epoch,
        sender: sender.clone(),
        to: SubmittedTo::Devices([(owed.device, piece.clone())].into()),
        ttl_ms,
        payload,
    };
    Finished {
        id: submission.name(),
        group: owed.group,
        device: owed.device,
        kind: Kind::Fanout,
        payload: submission.payload,
        ttl_ms,
        piece: Some((epoch, piece)),
    }
}

/// For how long it is to be kept still.
const fn left(now: Timestamp, expires: Timestamp) -> u64 {
    let left = expires.0.saturating_sub(now.0);
    if left == 0 { 1 } else { left }
}
