//! The own chain: begun, given to whoever lacks it, moved on with every message.

use std::collections::HashSet;

use causeway_protocol::{
    device::DeviceOf,
    envelope::{Kind, Recipient, Submission},
    ids::{ChainId, DeviceId, Epoch, GroupId, Timestamp},
    olm_plaintext::{Missing, OlmPlaintext},
    roster::{Role, Roster},
};

use zeroize::Zeroizing;

use super::Plan;
use crate::{
    entropy,
    machine::{
        MachineError, Outgoing, SealError, Trust,
        work::{ASK_AGAIN_MS, Work},
    },
    schemes::sender_keys::{ChainSecrets, OwnChain, Seed, Suite},
    storage::{
        accounts::{self, Ask, KnownDevice},
        chains, chores, groups as rows,
    },
};

const HOUR_MS: u64 = 3_600_000;
/// Answers to key requests for one device in an hour (protocol §4.3).
const MAX_ANSWERS: i64 = 3;

/// Seals `items`, each for all, after the chain was given to the `reached` devices.
pub(in crate::machine) async fn seal(
    work: &mut Work<'_>,
    plan: Plan,
    head: &Roster,
    reached: &[KnownDevice],
    items: &[Outgoing],
) -> Result<Vec<Vec<Submission>>, SealError> {
    let Plan { suite, chain, lacking } = plan;
    let (group, vault) = (head.group(), work.vault());
    let mut chain = match chain {
        Some(chain) => chain,
        None => begin(work, group, suite, head.epoch()).await?,
    };
    let owed = if lacking.is_empty() {
        HashSet::new()
    } else {
        chains::owed_to(work.conn(), &chain.id()).await.map_err(MachineError::from)?
    };
    for device in reached {
        let is_owed = owed.contains(&device.record.device_id);
        give(work, head, &chain, (device, is_owed)).await?;
    }
    let given: HashSet<_> = reached.iter().map(|device| device.record.device_id).collect();
    let is_left_out = |device: &&DeviceOf| {
        !given.contains(&device.device_id) && !owed.contains(&device.device_id)
    };
    for device in lacking.iter().filter(is_left_out) {
        owe(work, head, &chain, device).await?;
    }
    let mut sealed = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        sealed.push(vec![seal_one(work, position, item, head, &mut chain)?]);
    }
    chains::save_own(&mut work.script, vault, &group, &chain).map_err(MachineError::from)?;
    Ok(sealed)
}

/// Gives again what was given to `known` of the chain with this tag, until it says that it has it.
pub(in crate::machine) async fn answer(
    work: &mut Work<'_>,
    group: GroupId,
    known: &KnownDevice,
    missing: Missing,
    since: Timestamp,
) -> Result<(), MachineError> {
    let (vault, now, device) = (work.vault(), work.now, known.record.device_id);
    let tag = missing.tag;
    let kept = chains::stored_distribution(work.conn(), vault, &group, &device, tag, since).await?;
    let Some(kept) = kept else { return Ok(()) };
    let hour_ago = now.minus_ms(HOUR_MS);
    if chores::may_answer(work.conn(), &device, now, hour_ago, MAX_ANSWERS).await? {
        let sent = work.send_direct(group, known, Kind::KeyDistribution, &kept).await?;
        if sent {
            chains::was_given(work.conn(), &group, &device, tag).await?;
        } else {
            let since = now.minus_ms(ASK_AGAIN_MS);
            accounts::ask(work.conn(), Ask::Claim, device.as_bytes(), since).await?;
        }
    }
    Ok(())
}

/// `device` has these chains: what it was given need not be kept. The bridge's is: its database is one
/// that is put back from copies, in which what came over Olm since does not open.
pub(in crate::machine) async fn acknowledged(
    work: &mut Work<'_>,
    group: &GroupId,
    device: &DeviceOf,
    chains: &[(ChainId, u32)],
) -> Result<(), MachineError> {
    let log = work.log(group).await?;
    let member = log.as_ref().and_then(|log| log.head().counts(device));
    let is_bridge = member.is_some_and(|member| member.role == Role::Bridge);
    for (chain, _) in chains {
        chains::acknowledged(work.conn(), chain, &device.device_id, is_bridge).await?;
    }
    Ok(())
}

fn seal_one(
    work: &Work<'_>,
    position: usize,
    item: &Outgoing,
    head: &Roster,
    chain: &mut OwnChain,
) -> Result<Submission, SealError> {
    let (text, ttl_ms) = item.plaintext(position, work.now, head.policy().ttl_s)?;
    let salt = entropy::bytes().map_err(MachineError::from)?;
    let sealed = chain.seal(&head.hash(), salt, &text);
    let payload = sealed.map_err(|_| SealError::TooMany(position, position))?;
    SealError::check_size(position, payload.len())?;
    Ok(work.submission(head, Kind::Message, Recipient::Broadcast, ttl_ms, payload))
}

async fn begin(
    work: &mut Work<'_>,
    group: GroupId,
    suite: Suite,
    epoch: Epoch,
) -> Result<OwnChain, MachineError> {
    let secrets = ChainSecrets {
        root: Seed::new(*entropy::secret()?),
        signing: entropy::secret()?,
        rand: entropy::bytes()?,
    };
    rows::set_rotate(work.conn(), &group, false).await?;
    let sender = work.machine.me().record.device_id;
    Ok(OwnChain::new(suite, group, sender, epoch, work.now, secrets))
}

/// Gives `known` the chain from here on, or from where it was left out.
async fn give(
    work: &mut Work<'_>,
    head: &Roster,
    chain: &OwnChain,
    (known, is_owed): (&KnownDevice, bool),
) -> Result<(), MachineError> {
    let (vault, now) = (work.vault(), work.now);
    let (group, device) = (head.group(), known.record.device_id);
    let owed =
        if is_owed { chains::owed(work.conn(), vault, &chain.id(), &device).await? } else { None };
    let Some(bytes) = owed.or_else(|| cover(chain, head, device, now)) else { return Ok(()) };
    if work.send_direct(group, known, Kind::KeyDistribution, &bytes).await? {
        chains::give(work.conn(), vault, &group, &chain.id(), &device, &bytes, now).await?;
    }
    Ok(())
}

/// Keeps for a device that cannot be reached what it needs to open what is said from here on: else nobody could
/// give it that, since the chain goes on. Who is not who he is called is owed nothing.
async fn owe(
    work: &mut Work<'_>,
    head: &Roster,
    chain: &OwnChain,
    device: &DeviceOf,
) -> Result<(), MachineError> {
    let (vault, now, group) = (work.vault(), work.now, head.group());
    let Some(member) = head.member(&device.member_id) else { return Ok(()) };
    let trust = work.trust(&member.account, &device.member_id).await?;
    if trust != Trust::Unmet && !trust.is_trusted() {
        return Ok(());
    }
    let Some(bytes) = cover(chain, head, device.device_id, now) else { return Ok(()) };
    chains::owe(work.conn(), vault, &group, &chain.id(), &device.device_id, &bytes, now).await?;
    Ok(())
}

fn cover(
    chain: &OwnChain,
    head: &Roster,
    device: DeviceId,
    now: Timestamp,
) -> Option<Zeroizing<Vec<u8>>> {
    let distribution = chain.distribution(device, head.hash(), now)?;
    OlmPlaintext::Distribution(distribution).to_bytes().ok()
}
