//! One ciphertext for each message, and of its key a piece for each device.

use std::collections::{BTreeMap, HashSet};

use causeway_protocol::{
    envelope::{Kind, MAX_PAYLOAD, Piece, Submission, SubmittedTo},
    fanout::Context,
    ids::DeviceId,
    olm_plaintext::OlmPlaintext,
    roster::Roster,
};
use vodozemac::olm::Session;

use super::Plan;
use crate::{
    entropy,
    machine::{MachineError, Outgoing, SealError, work::Work},
    olm,
    schemes::pairwise::FanOut,
    storage::{accounts::KnownDevice, fan_outs, olm as sessions},
};

/// What stands beside a piece in an envelope: for whom it is.
const RECIPIENT: usize = DeviceId::LEN;

/// More than the longest piece takes, the first of a session, so that every message can be given again.
const PIECE: usize = 300;

/// Seals `items`, each for the `reached` devices.
pub(in crate::machine) async fn seal(
    work: &mut Work<'_>,
    plan: &Plan,
    head: &Roster,
    reached: &[KnownDevice],
    items: &[Outgoing],
) -> Result<Vec<Vec<Submission>>, SealError> {
    let (vault, now) = (work.vault(), work.now);
    let devices: Vec<DeviceId> = reached.iter().map(|known| known.record.device_id).collect();
    let found = sessions::newest_of(work.conn(), vault, &devices).await;
    let mut found = found.map_err(MachineError::from)?;
    let in_order = |device: &DeviceId| Some((*device, found.remove(device)?));
    let mut open: Vec<_> = devices.iter().filter_map(in_order).collect();
    let given: HashSet<DeviceId> = open.iter().map(|(device, _)| *device).collect();
    let lacking = lacking(work, plan, head, &given).await?;
    let mut sealed = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let (text, ttl_ms) = item.plaintext(position, now, head.policy().ttl_s)?;
        let context = Context {
            group: head.group(),
            sender: work.machine.me().record.device_id,
            epoch: head.epoch(),
            roster: head.hash(),
            msg_id: item.client_id,
        };
        let key = entropy::secret().map_err(MachineError::from)?;
        let fan_out = FanOut::seal(context, key, &text)
            .map_err(|_| SealError::TooLarge(position, text.len(), MAX_PAYLOAD))?;
        let least = fan_out.payload_len() + RECIPIENT + PIECE;
        if least > MAX_PAYLOAD {
            return Err(SealError::TooLarge(position, least, MAX_PAYLOAD));
        }
        let pieces =
            open.iter_mut().filter_map(|(device, session)| piece(&fan_out, device, session));
        let shards = shards(fan_out.payload_len(), pieces);
        let of = u16::try_from(shards.len()).unwrap_or(u16::MAX);
        let submissions: Vec<_> = (0..)
            .zip(shards)
            .map(|(n, pieces)| submission(work, head, ttl_ms, fan_out.payload(n, of), pieces))
            .collect();
        let names: Vec<_> = submissions.iter().map(Submission::name).collect();
        if !(names.is_empty() && lacking.is_empty()) {
            let script = &mut work.script;
            let until = now.plus_ms(ttl_ms);
            fan_outs::keep(script, vault, &fan_out, (&names, &lacking), (now, until))
                .map_err(MachineError::from)?;
        }
        sealed.push(submissions);
    }
    let moved: Vec<_> = open.iter().map(|(device, session)| (device, session)).collect();
    sessions::save_all(&mut work.script, vault, &moved, now).map_err(MachineError::from)?;
    Ok(sealed)
}

/// Those of the plan that cannot be given anything now, and may be later.
async fn lacking(
    work: &mut Work<'_>,
    plan: &Plan,
    head: &Roster,
    given: &HashSet<DeviceId>,
) -> Result<Vec<DeviceId>, MachineError> {
    let mut lacking = Vec::new();
    for device in plan.lacking.iter().filter(|device| !given.contains(&device.device_id)) {
        let Some(member) = head.member(&device.member_id) else { continue };
        if !work.trust(&member.account, &device.member_id).await?.is_wrong() {
            lacking.push(device.device_id);
        }
    }
    Ok(lacking)
}

/// The piece of one device; `None` if its session cannot send.
pub(super) fn piece(
    fan_out: &FanOut,
    device: &DeviceId,
    session: &mut Session,
) -> Option<(DeviceId, Piece)> {
    let bytes = OlmPlaintext::Piece(fan_out.piece(device)).to_bytes().ok()?;
    Some((*device, Piece(olm::seal(session, &bytes)?)))
}

/// Puts pieces together with as few copies of a payload of `payload` bytes as fit.
fn shards(
    payload: usize,
    pieces: impl Iterator<Item = (DeviceId, Piece)>,
) -> Vec<BTreeMap<DeviceId, Piece>> {
    let (mut shards, mut size) = (Vec::<BTreeMap<_, _>>::new(), 0);
    for (device, piece) in pieces {
        let takes = RECIPIENT + piece.0.len();
        if let Some(shard) = shards.last_mut().filter(|_| size + takes <= MAX_PAYLOAD) {
            shard.insert(device, piece);
            size += takes;
        } else {
            shards.push(BTreeMap::from([(device, piece)]));
            size = payload + takes;
        }
    }
    shards
}

fn submission(
    work: &Work<'_>,
    head: &Roster,
    ttl_ms: u64,
    payload: Vec<u8>,
    pieces: BTreeMap<DeviceId, Piece>,
) -> Submission {
    Submission {
        id: None,
        kind: Kind::Fanout,
        group: head.group(),
        epoch: head.epoch(),
        sender: work.machine.me().sender(),
        to: SubmittedTo::Devices(pieces),
        ttl_ms,
        payload,
    }
}
