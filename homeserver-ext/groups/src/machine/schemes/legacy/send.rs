//! The own chain: begun, given to whoever lacks it, moved on with every message.

use causeway_protocol::{
    content::Content,
    envelope::{Kind, Recipient, Submission},
    ids::GroupId,
    olm_plaintext::{LegacyKey, OlmPlaintext, Route},
    roster::Roster,
};
use serde_json::json;

use super::{Plan, group_id, sender_public_key};
use crate::{
    entropy,
    machine::{MachineError, Outgoing, SealError, work::Work},
    schemes::legacy::{
        MAX_PLAINTEXT,
        opus_v1::{Envelope, OwnKey, SUITE, TooLong},
    },
    storage::{
        accounts::KnownDevice,
        chores, groups as rows,
        legacy::{self, Own},
    },
};

const HOUR_MS: u64 = 3_600_000;
/// Answers to key requests for one device in an hour (protocol §4.3).
const MAX_ANSWERS: i64 = 3;
/// The highest `min_version` that this program follows.
const VERSION: u8 = 2;

/// Seals `items`, each for all, after the chain was given to the `reached` devices.
pub(in crate::machine) async fn seal(
    work: &mut Work<'_>,
    Plan { own, .. }: Plan,
    head: &Roster,
    reached: &[KnownDevice],
    items: &[Outgoing],
) -> Result<Vec<Vec<Submission>>, SealError> {
    let (group, vault) = (head.group(), work.vault());
    let mut own = match own {
        Some(own) => own,
        None => begin(work, group, head).await?,
    };
    for known in reached {
        if give(work, group, &own.key, known).await? {
            legacy::give(work.conn(), &group, &known.record.device_id)
                .await
                .map_err(MachineError::from)?;
        }
    }
    let mut sealed = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        sealed.push(seal_one(work, position, item, head, &mut own.key)?);
    }
    legacy::save_own(work.conn(), vault, &group, &own).await.map_err(MachineError::from)?;
    Ok(sealed)
}

/// Gives `known` the chain from here on: of what it was given before nothing is kept.
pub(in crate::machine) async fn answer(
    work: &mut Work<'_>,
    head: &Roster,
    known: &KnownDevice,
) -> Result<(), MachineError> {
    let (vault, now, group) = (work.vault(), work.now, head.group());
    let device = known.record.device_id;
    let Some(own) = legacy::own(work.conn(), vault, &group).await? else { return Ok(()) };
    let since = now.minus_ms(HOUR_MS);
    if own.given.contains(&device)
        && chores::may_answer(work.conn(), &device, now, since, MAX_ANSWERS).await?
    {
        give(work, group, &own.key, known).await?;
    }
    Ok(())
}

/// What a seed's client can be told of a message: its text. Of anything else there is nothing.
fn seal_one(
    work: &Work<'_>,
    position: usize,
    item: &Outgoing,
    head: &Roster,
    key: &mut OwnKey,
) -> Result<Vec<Submission>, SealError> {
    let Content::Text(text) = &item.content else { return Ok(Vec::new()) };
    let (_, ttl_ms) = item.plaintext(position, work.now, head.policy().ttl_s)?;
    let plaintext = json!({"body": text.body, "reply_to": null}).to_string();
    let nonce = entropy::bytes().map_err(MachineError::from)?;
    let sealed = key.seal(nonce, plaintext.as_bytes());
    let (index, ciphertext, signature) =
        sealed.map_err(|TooLong(bytes)| SealError::TooLarge(position, bytes, MAX_PLAINTEXT))?;
    let me = work.machine.me().record.device_id;
    let message_id = hex::encode(item.client_id.as_bytes());
    let envelope = Envelope::new(
        (group_id(&head.group()), message_id),
        sender_public_key(&me),
        work.now.0,
        (index, &ciphertext, signature),
    );
    let payload = envelope.to_json().into_bytes();
    SealError::check_size(position, payload.len())?;
    Ok(vec![work.submission(head, Kind::Message, Recipient::Broadcast, ttl_ms, payload)])
}

async fn begin(work: &mut Work<'_>, group: GroupId, head: &Roster) -> Result<Own, MachineError> {
    let key = OwnKey::new(&entropy::secret()?, &entropy::secret()?);
    rows::set_rotate(work.conn(), &group, false).await?;
    legacy::drop_own(work.conn(), &group).await?;
    let given = std::collections::HashSet::new();
    Ok(Own { key, epoch: head.epoch(), created: work.now, given })
}

/// Gives `known` the chain from here on; whether it could be given.
async fn give(
    work: &mut Work<'_>,
    group: GroupId,
    key: &OwnKey,
    known: &KnownDevice,
) -> Result<bool, MachineError> {
    let from = work.machine.me().record.device_id;
    let route = Route { group, from, to: known.record.device_id };
    let text = key.distribution().to_json();
    let given = OlmPlaintext::Legacy(route, LegacyKey { suite: SUITE, version: VERSION, text });
    let Ok(bytes) = given.to_bytes() else { return Ok(false) };
    work.send_direct(group, known, Kind::KeyDistribution, &bytes).await
}
