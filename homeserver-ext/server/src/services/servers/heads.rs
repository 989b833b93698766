//! Where groups stand: told to the servers that share them, and what is asked for where one is ahead.

use causeway_protocol::{
    ids::{Epoch, GroupId, ItemId, Timestamp},
    link::{Answer, Ask, Call, Head, Item, Tell},
};
use causeway_store::{Conn, Db};
use serde_json::{Value, json};

use super::{ALWAYS, AskError, Servers, line::Line, lock, named::named, random};
use crate::storage::{self, groups, servers::shared};

/// Heads in one item.
const HEADS: u32 = 256;
/// Groups of which one server is told at most.
const MAX_HEADS: usize = 10_000;
/// How long a question for ops is waited for, milliseconds.
const PATIENCE_MS: u64 = 300_000;

impl Servers {
    /// Whether `from` may say of so many groups now where they stand.
    pub(crate) fn may_tell_heads(&self, now: Timestamp, from: &str, count: usize) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.heads.take(now, from.to_owned(), Some(super::HEADS_TOLD), count).is_ok()
    }

    /// Whether `from` may make so many more servers known now; else its frames wait.
    pub(crate) fn may_name(&self, now: Timestamp, from: &str, count: usize) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.named.take(now, from.to_owned(), Some(super::NAMED), count).is_ok()
    }

    /// Notes that `from` may have ops of a group that are not here: they are asked for.
    pub(crate) async fn lack(&self, db: &Db, from: &str, group: GroupId) -> Result<(), AskError> {
        self.line(db, from).await?.lock().await.lack(group);
        self.news.notify_one();
        Ok(())
    }

    /// Of which group `from` answers with ops; `None` where it was not asked.
    pub(crate) async fn ops_answered(
        &self,
        db: &Db,
        from: &str,
        to: ItemId,
    ) -> Result<Option<GroupId>, AskError> {
        Ok(self.line(db, from).await?.lock().await.ops_answered(to))
    }

    /// Notes that `from` has no more ops of a group than are here: nothing waits for them.
    pub(crate) async fn has_no_more(
        &self,
        db: &Db,
        from: &str,
        group: GroupId,
    ) -> Result<(), AskError> {
        self.line(db, from).await?.lock().await.has_no_more(group);
        Ok(())
    }

    /// Whether `from` had no more when it was asked for the frame whose turn it is.
    pub(crate) async fn is_in_vain(
        &self,
        db: &Db,
        from: &str,
        group: GroupId,
    ) -> Result<bool, AskError> {
        Ok(self.line(db, from).await?.lock().await.is_in_vain(group))
    }

    /// The servers of which a frame waits for something; it may have come of another.
    pub(crate) fn stuck(&self) -> Vec<String> {
        let lines = lock(&self.lines);
        let stuck = lines.iter().filter(|(_, line)| line.try_lock().is_ok_and(|it| it.is_stuck()));
        stuck.map(|(name, _)| name.clone()).collect()
    }

    /// Tells `to` where a group stands.
    pub(crate) async fn tell_head(
        &self,
        (db, now): (&Db, Timestamp),
        to: &str,
        head: Head,
    ) -> Result<(), AskError> {
        let line = self.line(db, to).await?;
        let mut line = line.lock().await;
        if line.giving.is_again() {
            // The ops of groups whose home this is come by themselves, each in its place.
            let mut read = db.read().await.map_err(storage::Error::from)?;
            let home = groups::home(read.conn(), head.group).await?;
            if home.is_none_or(|home| home == self.here) {
                return Ok(());
            }
        }
        let item = Item::Tell(ItemId::new(random()?), Tell::Heads(vec![head]));
        line.put_first(&item, now, ALWAYS);
        drop(line);
        self.news.notify_one();
        Ok(())
    }

    /// Answers `to` with ops; before that, what this server's accounts are that they name.
    pub(crate) async fn answer_ops(
        &self,
        (db, now): (&Db, Timestamp),
        to: &str,
        group: GroupId,
        (ops, answer): (&[Vec<u8>], Answer),
    ) -> Result<(), AskError> {
        let mut read = db.read().await.map_err(storage::Error::from)?;
        let shown = named(read.conn(), &self.here, group, ops).await?;
        drop(read);
        let line = self.line(db, to).await?;
        let mut line = line.lock().await;
        let mut items = Vec::new();
        for accounts in shown {
            items.push(Item::Tell(ItemId::new(random()?), Tell::Accounts(accounts)));
        }
        items.push(Item::Answer(ItemId::new(random()?), answer));
        // Where that has no room, who asked asks again.
        line.put_all_first(&items, now, now.plus_ms(PATIENCE_MS));
        drop(line);
        self.news.notify_one();
        Ok(())
    }

    /// Asks each server for the ops that it may have, a few groups at once.
    pub(super) async fn ask_for_ops(&self, db: &Db, now: Timestamp) -> Result<(), AskError> {
        for (from, group) in self.now_room_for(now) {
            self.line(db, &from).await?.lock().await.lack(group);
        }
        let lines: Vec<_> = lock(&self.lines).values().cloned().collect();
        for line in lines {
            let mut line = line.lock().await;
            while let Some(group) = line.next_lacking(now) {
                let mut read = db.read().await.map_err(storage::Error::from)?;
                let known = groups::by_id(read.conn(), group).await?;
                drop(read);
                // From the first on, where the group is not known.
                let from = known.map_or(Epoch(0), |it| Epoch(it.head.epoch.0.saturating_add(1)));
                let (id, until) = (ItemId::new(random()?), now.plus_ms(PATIENCE_MS));
                let body: Value = json!({ "group": group, "from": from });
                let ask = Item::Ask(id, Ask { call: Call::Ops, caller: None, until, body });
                if !line.put_first(&ask, now, until) {
                    line.lack(group);
                    break;
                }
                line.ops_asked(id, group, until);
            }
        }
        Ok(())
    }
}

/// Puts on its way where all groups stand that are shared with a server.
pub(super) async fn greet(
    conn: &mut Conn,
    now: Timestamp,
    server: i64,
    line: &mut Line,
) -> Result<(), AskError> {
    let (mut after, mut told) = (None, 0);
    loop {
        let heads = shared::heads(conn, server, after, HEADS).await?;
        let is_last = heads.len() < HEADS as usize;
        told += heads.len();
        after = heads.last().map(|head| head.group);
        if !heads.is_empty() {
            let item = Item::Tell(ItemId::new(random()?), Tell::Heads(heads));
            if !line.put_first(&item, now, ALWAYS) {
                return Ok(());
            }
        }
        if is_last || told >= MAX_HEADS {
            return Ok(());
        }
    }
}
