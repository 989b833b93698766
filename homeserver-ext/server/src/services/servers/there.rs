//! Who of other servers is there for the calls that this one keeps: those servers are asked, as often as
//! they are told how far messages came, and one that is silent for long has nobody there (protocol §9).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use causeway_protocol::{
    ids::{DeviceId, GroupId, ItemId, Timestamp},
    link::{Ask, Call, Item},
};
use causeway_store::Db;
use serde_json::json;

use super::{AskError, Servers, lock, random};
use crate::storage::calls::Elsewhere;

/// How long its last word is good, milliseconds: a link that is cut for less than that puts nobody out.
const GOOD_MS: u64 = 45_000;
/// Questions to one server that may still be answered.
const MOST_ASKED: usize = 256;
/// Devices of one question.
pub(crate) const MOST: usize = 500;

/// What each server said last. A restart forgets it: everybody is there until his server has had time to
/// answer.
#[derive(Default)]
pub(super) struct There {
    servers: Mutex<BTreeMap<String, OfServer>>,
}

#[derive(Default)]
struct OfServer {
    due_ms: u64,
    asked: Vec<(ItemId, Vec<DeviceId>)>,
    devices: BTreeMap<DeviceId, Said>,
}

struct Said {
    is_there: bool,
    /// When.
    at_ms: u64,
}

impl There {
    fn is_there(&self, server: &str, device: DeviceId, now_ms: u64) -> bool {
        let servers = lock(&self.servers);
        let said = servers.get(server).and_then(|of| of.devices.get(&device));
        said.is_none_or(|said| said.is_there && now_ms.saturating_sub(said.at_ms) <= GOOD_MS)
    }

    /// Whom each server is to be asked for now.
    fn due(
        &self,
        wanted: Elsewhere,
        now_ms: u64,
        often_ms: u64,
    ) -> Vec<(String, GroupId, Vec<DeviceId>)> {
        let mut servers = lock(&self.servers);
        servers.retain(|server, _| wanted.contains_key(server));
        let mut due = Vec::new();
        for (server, groups) in wanted {
            let of = servers.entry(server.clone()).or_default();
            of.devices.retain(|device, _| groups.values().any(|those| those.contains(device)));
            for device in groups.values().flatten() {
                // Whoever has just come has asked to.
                of.devices.entry(*device).or_insert(Said { is_there: true, at_ms: now_ms });
            }
            if of.due_ms > now_ms {
                continue;
            }
            of.due_ms = now_ms + often_ms;
            let surplus = of.asked.len().saturating_sub(MOST_ASKED);
            of.asked.drain(..surplus);
            for (group, devices) in groups {
                let devices: Vec<_> = devices.into_iter().collect();
                let some = devices.chunks(MOST);
                due.extend(some.map(|some| (server.clone(), group, some.to_vec())));
            }
        }
        due
    }

    fn asked(&self, server: &str, id: ItemId, devices: Vec<DeviceId>) {
        if let Some(of) = lock(&self.servers).get_mut(server) {
            of.asked.push((id, devices));
        }
    }

    /// Takes an answer in; whether it is one.
    fn answered(
        &self,
        from: &str,
        to: ItemId,
        there: Option<&BTreeSet<DeviceId>>,
        now_ms: u64,
    ) -> bool {
        let mut servers = lock(&self.servers);
        let Some(of) = servers.get_mut(from) else { return false };
        let Some(nth) = of.asked.iter().position(|(id, _)| *id == to) else { return false };
        let (_, asked) = of.asked.swap_remove(nth);
        let Some(there) = there else { return true };
        for device in asked {
            if let Some(said) = of.devices.get_mut(&device) {
                *said = Said { is_there: there.contains(&device), at_ms: now_ms };
            }
        }
        true
    }
}

impl Servers {
    /// Whether a device of `server` is there, as far as that is known.
    pub(crate) fn is_there(&self, server: &str, device: DeviceId) -> bool {
        self.there.is_there(server, device, self.now_ms())
    }

    /// Asks the servers of those who take part in calls, where it is time to.
    pub(crate) async fn ask_who_is_there(
        &self,
        (db, now): (&Db, Timestamp),
        wanted: Elsewhere,
    ) -> Result<(), AskError> {
        if self.patience.is_none() {
            return Ok(());
        }
        let due = self.there.due(wanted, self.now_ms(), self.gathered_ms());
        for (server, group, devices) in due {
            // One that is not to be spoken with is silent.
            if self.allowed(&server).is_err() {
                continue;
            }
            let id = ItemId::new(random()?);
            let body = json!({ "group": group, "there": devices });
            let until = now.plus_ms(self.gathered_ms());
            let ask = Item::Ask(id, Ask { call: Call::Calls, caller: None, until, body });
            let line = self.line(db, &server).await?;
            self.there.asked(&server, id, devices);
            line.lock().await.put(&ask, now, until);
            self.news.notify_one();
        }
        Ok(())
    }

    /// Takes an answer in; whether it is one to a question of who is there. `there` is absent where the
    /// question was refused.
    pub(crate) fn said_who_is_there(
        &self,
        from: &str,
        to: ItemId,
        there: Option<&BTreeSet<DeviceId>>,
    ) -> bool {
        self.there.answered(from, to, there, self.now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: &str = "b.example";
    const OFTEN_MS: u64 = 5_000;

    fn wanted(devices: &[DeviceId]) -> Elsewhere {
        let group = GroupId::new([7; 32]);
        let of = BTreeMap::from([(group, devices.iter().copied().collect())]);
        BTreeMap::from([(B.to_owned(), of)])
    }

    /// The ids of what is asked now.
    fn ask(there: &There, devices: &[DeviceId], now_ms: u64) -> Vec<ItemId> {
        let due = there.due(wanted(devices), now_ms, OFTEN_MS);
        let asked = due.into_iter().enumerate().map(|(nth, (server, _, devices))| {
            let id = ItemId::new([u8::try_from(nth).unwrap() + 1; 16]);
            there.asked(&server, id, devices);
            id
        });
        asked.collect()
    }

    #[test]
    fn a_servers_last_word_is_good_for_a_while_and_then_nobody_is_there() {
        let (one, other) = (DeviceId::new([1; 32]), DeviceId::new([2; 32]));
        let there = There::default();
        let asked = ask(&there, &[one, other], 1_000);
        assert_eq!(asked.len(), 1);
        assert!(ask(&there, &[one, other], 5_999).is_empty(), "it was asked just now");
        // Until it has had time to answer everybody is.
        assert!(
            there.is_there(B, one, 1_000 + GOOD_MS) && !there.is_there(B, one, 1_001 + GOOD_MS)
        );
        let those = BTreeSet::from([one]);
        assert!(!there.answered("c.example", asked[0], Some(&those), 2_000), "it was not asked");
        assert!(there.answered(B, asked[0], Some(&those), 2_000));
        assert!(!there.answered(B, asked[0], Some(&BTreeSet::new()), 2_000), "once");
        assert!(there.is_there(B, one, 2_000) && !there.is_there(B, other, 2_000));
        assert!(
            there.is_there(B, one, 2_000 + GOOD_MS) && !there.is_there(B, one, 2_001 + GOOD_MS)
        );
        // One who is in no call any more, and comes again, has asked to.
        ask(&there, &[one], 50_000);
        assert!(there.is_there(B, other, 50_000));
        // A refusal is no word.
        let asked = ask(&there, &[one], 60_000);
        assert!(there.answered(B, asked[0], None, 60_000) && !there.is_there(B, one, 60_000));
    }

    #[test]
    fn a_silent_server_is_not_remembered_for_ever() {
        let one = DeviceId::new([1; 32]);
        let there = There::default();
        for nth in 0..1_000 {
            ask(&there, &[one], nth * OFTEN_MS);
        }
        assert!(lock(&there.servers)[B].asked.len() <= MOST_ASKED + 1);
        there.due(Elsewhere::new(), 10_000_000, OFTEN_MS);
        assert!(lock(&there.servers).is_empty());
    }
}
