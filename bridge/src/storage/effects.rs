//! Keeps what was decided: the rows that each effect changes, and what is to be carried out.

use causeway_protocol::ids::Timestamp;
use causeway_store::Tx;
use ruma::UserId;

use super::{
    Error, dead_letters, ghosts,
    lanes::{self, Lane},
    outbox::Entry,
    portals,
    sealed::Sealer,
};
use crate::domain::{Effect, Spoken, ghost::txn_id, mirror::client_id, portal::Portal};

/// What an effect came from.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// The same whenever the same input is routed again: event id, envelope id, epoch.
    pub id: &'a [u8],
    /// Who, for people to read.
    pub author: &'a str,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When its effects end being of use.
    pub expires_at: Timestamp,
}

/// Keeps the effects of one input; what is to be carried out goes to `entries`, for
/// [`super::outbox::put`].
///
/// # Errors
/// [`Error`]
pub async fn keep(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    portal: &mut Portal,
    cause: Cause<'_>,
    effects: Vec<Effect>,
    entries: &mut Vec<Entry>,
) -> Result<(), Error> {
    for (part, effect) in (0..).zip(effects) {
        portal.apply(&effect);
        let id = portal.id;
        match &effect {
            Effect::Announce(mirrors, gone) => portals::announce(tx, id, mirrors, gone).await?,
            Effect::Standing(account, Some(by)) => ghosts::removed(tx, id, account, by).await?,
            Effect::Standing(account, None) => ghosts::has_left(tx, id, account).await?,
            Effect::Pause => {
                portals::encrypted(tx, id).await?;
                lanes::pause(tx, Lane::ToMatrix(id), "the room is encrypted").await?;
            }
            Effect::Close => portals::close(tx, id).await?,
            Effect::Fail(spoken, reason) => {
                let entry = spoken_entry(portal, cause, spoken.clone());
                dead_letters::put(tx, vault, now, &entry, reason, 0, None).await?;
            }
            Effect::ToMatrix(_)
            | Effect::ToNative(_)
            | Effect::NoticeNative(_)
            | Effect::NoticeMatrix(_)
            | Effect::MakeRoom
            | Effect::Invite(_)
            | Effect::Leave(_) => {}
        }
        entries.extend(entry(portal, cause, part, effect));
    }
    Ok(())
}

/// The row that an effect is carried out from; `None` where our own rows were all of it.
fn entry(portal: &Portal, cause: Cause<'_>, part: u32, effect: Effect) -> Option<Entry> {
    let id = portal.id;
    let by_bot = |lane| (lane, txn_id(portal.names.bot(), &portal.group, cause.id, part));
    let by_bridge = || (Lane::ToNative(id), client_id(&portal.group, cause.id, part).to_string());
    let (lane, txn) = match &effect {
        Effect::ToMatrix(spoken) => return Some(spoken_entry(portal, cause, spoken.clone())),
        Effect::ToNative(_) | Effect::Announce(..) | Effect::NoticeNative(_) => by_bridge(),
        Effect::NoticeMatrix(_) | Effect::MakeRoom | Effect::Invite(_) => {
            by_bot(Lane::ToMatrix(id))
        }
        // What says nothing in the room goes on while the room is encrypted.
        Effect::Leave(_) | Effect::Close if portal.encrypted => by_bot(Lane::Bot(id)),
        Effect::Leave(_) | Effect::Close => by_bot(Lane::ToMatrix(id)),
        Effect::Pause => by_bot(Lane::Bot(id)),
        Effect::Standing(..) | Effect::Fail(..) => return None,
    };
    let accepted_at = matches!(effect, Effect::ToNative(_)).then_some(cause.accepted_at);
    let (author, expires_at) = (cause.author.to_owned(), cause.expires_at);
    Some(Entry { lane, txn, author, effect, accepted_at, expires_at })
}

fn spoken_entry(portal: &Portal, cause: Cause<'_>, spoken: Spoken) -> Entry {
    let ghost = portal.names.ghost(&spoken.account);
    let ghost: &UserId = ghost.as_deref().unwrap_or_else(|| portal.names.bot());
    Entry {
        lane: Lane::ToMatrix(portal.id),
        txn: txn_id(ghost, &portal.group, spoken.message_id.as_bytes(), 0),
        author: spoken.account.to_string(),
        accepted_at: Some(cause.accepted_at),
        expires_at: spoken.expires_at,
        effect: Effect::ToMatrix(spoken),
    }
}
