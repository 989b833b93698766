//! Keeps what was decided: facts in the portal's rows, deeds in the outbox.

use causeway_protocol::ids::Timestamp;
use causeway_store::Tx;
use ruma::UserId;

use super::{
    Error, dead_letters, lanes, late,
    outbox::{self, Entry},
    portals,
    sealed::Sealer,
};
use crate::domain::{
    effect::{Deed, Effect, Here, InGroup, InRoom},
    ending::{Word, word_of},
    ghost::txn_id,
    lane::Lane,
    mirror::client_id,
    portal::Portal,
    said::Spoken,
};

/// Time in which somebody is told once of what is never said for the same reason.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

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

/// What one transaction decided and has not kept yet.
#[derive(Debug, Default)]
pub struct Decided {
    deeds: Vec<Entry>,
    unsaid: Vec<(Entry, String)>,
    /// What may have been carried out before, and since when.
    again: Vec<(Vec<String>, Timestamp)>,
    /// What was taken back in its room before it went.
    taken_back: Vec<String>,
    /// What is known to stand aside.
    asides: lanes::Asides,
}

impl Decided {
    /// Nothing yet, where it was looked what stands aside.
    pub fn beside(asides: lanes::Asides) -> Self {
        Self { asides, ..Self::default() }
    }

    /// Takes in the effects of one input: facts go into `portal` at once.
    pub fn take(&mut self, portal: &mut Portal, cause: Cause<'_>, effects: Vec<Effect>) {
        let mut part = 0;
        for effect in effects {
            let deed = match effect {
                Effect::Here(fact) => {
                    portal.apply(&fact);
                    if let Here::Unsaid(spoken, reason) = fact {
                        self.unsaid(portal, cause, spoken, reason);
                    }
                    continue;
                }
                Effect::InRoom(deed) => deed.into(),
                Effect::InGroup(deed) => deed.into(),
            };
            self.deeds.push(entry(portal, cause, part, deed));
            part += 1;
        }
    }

    /// The lane into a group in which all of them are, if that is one.
    pub fn into_one_group(&self) -> Option<Lane> {
        let lane = &self.deeds.first()?.lane;
        let is_one = self.deeds.iter().all(|entry| entry.lane == *lane);
        (is_one && matches!(lane, Lane::ToNative(_))).then(|| lane.clone())
    }

    /// Whether a deed of this name is among them.
    pub fn has(&self, txn: &str) -> bool {
        self.deeds.iter().any(|entry| entry.txn == txn)
    }

    /// What goes under this name was taken back in its room.
    pub fn take_back(&mut self, txn: String) {
        self.taken_back.push(txn);
    }

    /// The same for an input that may have been taken in before, not earlier than `since`: its deeds
    /// are looked for before they are done.
    pub fn take_again(
        &mut self,
        portal: &mut Portal,
        cause: Cause<'_>,
        effects: Vec<Effect>,
        since: Timestamp,
    ) {
        let known = self.deeds.len();
        self.take(portal, cause, effects);
        let txns = self.deeds.iter().skip(known).map(|entry| entry.txn.clone()).collect();
        self.again.push((txns, since));
    }

    /// What will never be said; who said it is told, of the same reason once a day.
    fn unsaid(&mut self, portal: &Portal, cause: Cause<'_>, spoken: Spoken, reason: String) {
        let entry = said(portal, cause, spoken);
        if let Some(Word { notice, about }) = word_of(&entry.deed, &entry.author, &reason) {
            let day = cause.accepted_at.0 / DAY_MS;
            let id = format!("unsaid {day} {} {about}", entry.author);
            let expires_at = cause.accepted_at.plus_ms(DAY_MS);
            let cause = Cause { id: id.as_bytes(), expires_at, ..cause };
            self.deeds.push(self::entry(portal, cause, 0, notice));
        }
        self.unsaid.push((entry, reason));
    }

    /// Keeps all of it: what changed of `portals`, what is to be done, and what never will be.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn keep(
        self,
        tx: &mut Tx,
        vault: &Sealer,
        now: Timestamp,
        portals: impl Iterator<Item = &mut Portal>,
    ) -> Result<(), Error> {
        self.keep_last(tx, vault, now, portals).await?;
        Ok(tx.write_now().await?)
    }

    /// As [`keep`](Self::keep), where nothing of it is read in the transaction: some of it is left to
    /// its [end](Tx::later).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn keep_last(
        self,
        tx: &mut Tx,
        vault: &Sealer,
        now: Timestamp,
        portals: impl Iterator<Item = &mut Portal>,
    ) -> Result<(), Error> {
        for portal in portals {
            portals::save(tx, portal).await?;
        }
        for (entry, reason) in &self.unsaid {
            dead_letters::put(tx, vault, now, entry, reason, 0, None).await?;
        }
        outbox::put(tx, vault, &self.deeds, &self.asides).await?;
        for (txns, since) in &self.again {
            outbox::may_be_out(tx.later(), txns, *since);
        }
        for txn in &self.taken_back {
            late::take_back_first(tx.later(), txn);
        }
        Ok(())
    }
}

/// The row that a deed is carried out from. A cause's deeds have their places among each other in
/// their names, so that the same one is the same row.
fn entry(portal: &Portal, cause: Cause<'_>, part: u32, deed: Deed) -> Entry {
    let group = &portal.group;
    let (txn, accepted_at) = match deed {
        Deed::InRoom(InRoom::Say(spoken)) => return said(portal, cause, spoken),
        Deed::InRoom(_) => (txn_id(portal.names.bot(), group, cause.id, part), None),
        Deed::InGroup(InGroup::Say(_)) => {
            (client_id(group, cause.id, part).to_string(), Some(cause.accepted_at))
        }
        Deed::InGroup(_) => (client_id(group, cause.id, part).to_string(), None),
    };
    let lane = Lane::of(portal, &deed);
    let (author, expires_at) = (cause.author.to_owned(), cause.expires_at);
    Entry { lane, txn, author, deed, accepted_at, expires_at }
}

fn said(portal: &Portal, cause: Cause<'_>, spoken: Spoken) -> Entry {
    let ghost = portal.names.ghost(&spoken.account);
    let ghost: &UserId = ghost.as_deref().unwrap_or_else(|| portal.names.bot());
    let txn = txn_id(ghost, &portal.group, spoken.message_id.as_bytes(), 0);
    let (author, expires_at) = (spoken.account.to_string(), spoken.expires_at);
    let deed = Deed::InRoom(InRoom::Say(spoken));
    let (lane, accepted_at) = (Lane::of(portal, &deed), Some(cause.accepted_at));
    Entry { lane, txn, author, deed, accepted_at, expires_at }
}
