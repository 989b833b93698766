//! Accounts of third servers that what another asks names: asked of those servers, and what needs them put
//! aside meanwhile, so that it holds nothing else up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use causeway_protocol::{
    ids::{AccountId, GroupId, ItemId, Timestamp},
    link::{Ask, Call, Item},
};
use causeway_store::Db;
use serde_json::json;

use super::{AskError, Servers, lock, random};

/// What is put aside at once, of all servers; beyond it nothing is waited for.
const MAX_ASIDE: usize = 256;
/// Of that, what one server sent.
const MAX_OF_ONE: usize = 16;
/// Accounts that are asked for at once.
const MAX_ASKED: usize = 2_048;
/// Of these, for one server: as many as one op may name.
const MAX_FOR_ONE: usize = 512;
/// Groups of which one has ops that found no room, of all servers; others are told of within the hour.
const MAX_LATER: usize = 10_000;
/// How long a server is waited for, milliseconds: whoever asked waits no longer.
const PATIENCE_MS: u64 = 30_000;
/// How long an answer is good, milliseconds: what does not fit it is judged as it is.
const ANSWERED_MS: u64 = 5_000;

/// What is put aside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Aside {
    /// A server's ask, by its id.
    Ask(String, ItemId, Ask),
    /// A server has ops of a group.
    Ops(String, GroupId),
}

impl Aside {
    /// Which server sent it.
    fn from(&self) -> &str {
        match self {
            Self::Ask(from, ..) | Self::Ops(from, _) => from,
        }
    }
}

/// What became of what needs accounts of other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookedUp {
    /// They are asked, and it is put aside until they have answered.
    Aside,
    /// All have just answered: it is judged as it is.
    Nothing,
    /// There is no room for it.
    Full,
}

/// What is asked for, and what waits for it. A restart forgets it: whoever waits asks again.
#[derive(Default)]
pub(super) struct LookUps {
    asked: Mutex<Vec<(ItemId, AccountId, Timestamp)>>,
    answered: Mutex<Vec<(AccountId, Timestamp)>>,
    aside: Mutex<Waiting>,
}

/// What waits until other servers have shown accounts.
#[derive(Default)]
struct Waiting {
    aside: Vec<(Vec<AccountId>, Timestamp, Aside)>,
    /// Who has ops of which group for which there was no room.
    later: BTreeSet<(String, GroupId)>,
    /// How much has found an end since something was put there.
    freed: usize,
}

impl Waiting {
    /// Lets go of what has waited for too long.
    fn tidy(&mut self, now: Timestamp) {
        let before = self.aside.len();
        self.aside.retain(|(_, until, _)| now < *until);
        self.freed += before - self.aside.len();
    }

    /// What is put aside for a server.
    fn of(&self, from: &str) -> impl Iterator<Item = &(Vec<AccountId>, Timestamp, Aside)> {
        self.aside.iter().filter(move |(_, _, aside)| aside.from() == from)
    }

    /// There is no room: who asks does so again, and ops are asked for again.
    fn full(&mut self, aside: Option<Aside>) -> LookedUp {
        if let Some(Aside::Ops(from, group)) = aside
            && self.later.len() < MAX_LATER
        {
            if self.later.is_empty() {
                self.freed = 0;
            }
            self.later.insert((from, group));
        }
        LookedUp::Full
    }

    /// Of what found no room, what may have some now.
    fn now_room_for(&mut self) -> Vec<(String, GroupId)> {
        let mut rooms = BTreeMap::new();
        let has_room = |(from, _): &&(String, GroupId)| {
            let room = rooms
                .entry(from.clone())
                .or_insert_with(|| MAX_OF_ONE.saturating_sub(self.of(from).count()));
            let has_some = *room > 0;
            *room = room.saturating_sub(1);
            has_some
        };
        let ready = self.later.iter().filter(has_room).take(self.freed);
        let ready: Vec<_> = ready.cloned().collect();
        for later in &ready {
            self.later.remove(later);
        }
        self.freed -= ready.len();
        ready
    }
}

/// Lets go of what was asked for and not answered for too long; how many.
fn tidy(asked: &mut Vec<(ItemId, AccountId, Timestamp)>, now: Timestamp) -> usize {
    let before = asked.len();
    asked.retain(|(_, _, until)| now < *until);
    before - asked.len()
}

impl Servers {
    /// Asks the servers of these accounts for them, and puts something aside until they have answered.
    pub(crate) async fn look_up(
        &self,
        (db, now): (&Db, Timestamp),
        mut accounts: Vec<AccountId>,
        aside: Option<Aside>,
    ) -> Result<LookedUp, AskError> {
        let until = now.plus_ms(PATIENCE_MS);
        let asked: Vec<AccountId> = {
            let mut asked = lock(&self.look_ups.asked);
            let mut waiting = lock(&self.look_ups.aside);
            let mut answered = lock(&self.look_ups.answered);
            waiting.freed += tidy(&mut asked, now);
            answered.retain(|(_, until)| now < *until);
            accounts.retain(|account| answered.iter().all(|(known, _)| known != account));
            if accounts.is_empty() {
                return Ok(LookedUp::Nothing);
            }
            waiting.tidy(now);
            if asked.len() + accounts.len() > MAX_ASKED {
                return Ok(waiting.full(aside));
            }
            let is_known = |aside: &Aside| waiting.aside.iter().any(|(_, _, known)| known == aside);
            if let Some(aside) = aside.filter(|aside| !is_known(aside)) {
                let its = waiting.of(aside.from()).map(|(accounts, ..)| accounts.len());
                let its: Vec<_> = its.collect();
                if waiting.aside.len() >= MAX_ASIDE
                    || its.len() >= MAX_OF_ONE
                    || its.iter().sum::<usize>() + accounts.len() > MAX_FOR_ONE
                {
                    return Ok(waiting.full(Some(aside)));
                }
                waiting.aside.push((accounts.clone(), until, aside));
            }
            asked.iter().map(|(_, account, _)| account.clone()).collect()
        };
        for account in accounts {
            if asked.contains(&account) {
                continue;
            }
            let id = ItemId::new(random()?);
            let body = json!({ "account": account });
            let ask = Item::Ask(id, Ask { call: Call::Account, caller: None, until, body });
            let line = self.line(db, account.server()).await?;
            lock(&self.look_ups.asked).push((id, account, until));
            line.lock().await.put_first(&ask, now, until);
        }
        self.news.notify_one();
        Ok(LookedUp::Aside)
    }

    /// The account for which `from` answers.
    pub(crate) fn looked_up(&self, from: &str, to: ItemId) -> Option<AccountId> {
        let mut asked = lock(&self.look_ups.asked);
        let is_it = |(id, account, _): &(ItemId, AccountId, Timestamp)| {
            *id == to && account.server() == from
        };
        let nth = asked.iter().position(is_it)?;
        lock(&self.look_ups.aside).freed += 1;
        Some(asked.swap_remove(nth).1)
    }

    /// What waited for this account alone.
    pub(crate) fn came(&self, now: Timestamp, account: &AccountId) -> Vec<Aside> {
        let mut answered = lock(&self.look_ups.answered);
        answered.retain(|(_, until)| now < *until);
        if answered.len() < MAX_ASKED {
            answered.push((account.clone(), now.plus_ms(ANSWERED_MS)));
        }
        drop(answered);
        let mut waiting = lock(&self.look_ups.aside);
        waiting.tidy(now);
        for (accounts, ..) in &mut waiting.aside {
            accounts.retain(|waited| waited != account);
        }
        let (ready, rest) = std::mem::take(&mut waiting.aside)
            .into_iter()
            .partition::<Vec<_>, _>(|(accounts, ..)| accounts.is_empty());
        waiting.aside = rest;
        waiting.freed += ready.len();
        ready.into_iter().map(|(_, _, aside)| aside).collect()
    }

    /// Who has ops of which group that are to be asked for again: no more than what found an end since.
    pub(super) fn now_room_for(&self, now: Timestamp) -> Vec<(String, GroupId)> {
        let mut asked = lock(&self.look_ups.asked);
        let mut waiting = lock(&self.look_ups.aside);
        waiting.freed += tidy(&mut asked, now);
        drop(asked);
        waiting.tidy(now);
        waiting.now_room_for()
    }
}
