//! The own chain: begun, given to whoever lacks it, moved on with every message.

use causeway_protocol::{
    content::Content,
    envelope::{Kind, Recipient, Submission},
    ids::GroupId,
    olm_plaintext::{LegacyKey, OlmPlaintext, Route},
    roster::Roster,
};

use super::{
    Plan,
    spoken::{self, Saying},
};
use crate::{
    entropy,
    machine::{MachineError, Outgoing, SealError, work::Work},
    schemes::legacy::{MAX_PLAINTEXT, OwnKey, SealError as NotSealed, Suite},
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
    Plan { suite, own, .. }: Plan,
    head: &Roster,
    reached: &[KnownDevice],
    items: &[Outgoing],
) -> Result<Vec<Vec<Submission>>, SealError> {
    let (group, vault) = (head.group(), work.vault());
    let mut own = match own {
        Some(own) => own,
        None => begin(work, group, suite, head).await?,
    };
    for known in reached {
        if give(work, group, (suite, &own.key), known).await? {
            legacy::give(work.conn(), &group, &known.record.device_id)
                .await
                .map_err(MachineError::from)?;
        }
    }
    let mut sealed = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        sealed.push(seal_one(work, position, item, head, (suite, &mut own.key))?);
    }
    legacy::save_own(work.conn(), vault, &group, &own).await.map_err(MachineError::from)?;
    Ok(sealed)
}

/// Gives `known` the chain from here on: of what it was given before nothing is kept.
pub(in crate::machine) async fn answer(
    work: &mut Work<'_>,
    head: &Roster,
    suite: Suite,
    known: &KnownDevice,
) -> Result<(), MachineError> {
    let (vault, now, group) = (work.vault(), work.now, head.group());
    let device = known.record.device_id;
    let Some(own) = legacy::own(work.conn(), vault, suite, &group).await? else { return Ok(()) };
    let since = now.minus_ms(HOUR_MS);
    if own.given.contains(&device)
        && chores::may_answer(work.conn(), &device, now, since, MAX_ANSWERS).await?
    {
        give(work, group, (suite, &own.key), known).await?;
    }
    Ok(())
}

/// What a seed's client can be told of a message: its text. Of anything else there is nothing.
fn seal_one(
    work: &Work<'_>,
    position: usize,
    item: &Outgoing,
    head: &Roster,
    (suite, key): (Suite, &mut OwnKey),
) -> Result<Vec<Submission>, SealError> {
    let Content::Text(text) = &item.content else { return Ok(Vec::new()) };
    let (_, ttl_ms) = item.plaintext(position, work.now, head.policy().ttl_s)?;
    let nonce = entropy::bytes().map_err(MachineError::from)?;
    let saying = Saying {
        group: head.group(),
        sender: work.machine.me().record.device_id,
        name: item.client_id,
        at: work.now,
    };
    let said = spoken::say(suite, key, &saying, nonce, &text.body);
    let payload = said.map_err(|why| match why {
        NotSealed::TooLong(bytes) => SealError::TooLarge(position, bytes, MAX_PLAINTEXT),
        // A new chain begins long before.
        NotSealed::Ended => SealError::Scheme,
    })?;
    let payload = payload.into_bytes();
    SealError::check_size(position, payload.len())?;
    Ok(vec![work.submission(head, Kind::Message, Recipient::Broadcast, ttl_ms, payload)])
}

async fn begin(
    work: &mut Work<'_>,
    group: GroupId,
    suite: Suite,
    head: &Roster,
) -> Result<Own, MachineError> {
    let id = match suite {
        Suite::OpusV1 => 0,
        Suite::RenA => u32::from_le_bytes(entropy::bytes()?).max(1),
    };
    let key = OwnKey::new(suite, id, &entropy::secret()?, &entropy::secret()?);
    rows::set_rotate(work.conn(), &group, false).await?;
    legacy::drop_own(work.conn(), &group).await?;
    let given = std::collections::HashSet::new();
    Ok(Own { key, epoch: head.epoch(), created: work.now, given })
}

/// Gives `known` the chain from here on; whether it could be given.
async fn give(
    work: &mut Work<'_>,
    group: GroupId,
    (suite, key): (Suite, &OwnKey),
    known: &KnownDevice,
) -> Result<bool, MachineError> {
    let from = work.machine.me().record.device_id;
    let route = Route { group, from, to: known.record.device_id };
    let to = &known.record.curve25519;
    let Some(text) = spoken::give(suite, key, (&group, &from), to)? else { return Ok(false) };
    let given =
        OlmPlaintext::Legacy(route, LegacyKey { suite: suite.number(), version: VERSION, text });
    let Ok(bytes) = given.to_bytes() else { return Ok(false) };
    work.send_direct(group, known, Kind::KeyDistribution, &bytes).await
}
