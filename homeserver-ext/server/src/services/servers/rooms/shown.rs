//! Relay rooms as the operator sees them: whose agents are there, and whom they bring anything.

use std::{collections::BTreeMap, sync::Arc};

use causeway_protocol::ids::GroupId;
use causeway_store::Db;

use super::super::{Servers, lock};
use crate::storage::{
    self, GroupRow, groups,
    servers::rooms::{self, Roomed},
};

/// The room of a group that is shared with a server.
#[derive(Debug)]
pub(crate) struct RoomWith {
    pub(crate) group: GroupId,
    pub(crate) room: String,
    pub(crate) carries: Carries,
}

/// What a room does for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carries {
    /// Its agent is there, as far as this server's agent sees.
    pub(crate) is_in: bool,
    /// It is there, and missed nothing of late.
    pub(crate) is_heard: bool,
}

impl Servers {
    /// A group's room, and what it does for each server whose agent is there.
    pub(crate) async fn room_of(
        &self,
        db: &Db,
        group: GroupId,
    ) -> Result<Option<(String, BTreeMap<String, Carries>)>, storage::Error> {
        let mut read = db.read().await?;
        let Some(known) = groups::by_id(read.conn(), group).await? else { return Ok(None) };
        let room = rooms::of(read.conn(), group).await?;
        drop(read);
        let Some(room) = room else { return Ok(None) };
        let used = lock(&self.rooms).used.get(&known.row).map(|used| used.joined.clone());
        let mut carries = BTreeMap::new();
        for server in used.unwrap_or_default() {
            carries.insert(server.clone(), self.carries(known.row, &server).await);
        }
        Ok(Some((room, carries)))
    }

    /// The rooms of the groups that are shared with a server, by group behind `after`, so many at most.
    pub(crate) async fn rooms_with(
        &self,
        db: &Db,
        server: &str,
        (after, most): (Option<GroupId>, u32),
    ) -> Result<Vec<RoomWith>, storage::Error> {
        let roomed = rooms::with(db.read().await?.conn(), server, after, most).await?;
        let mut all = Vec::new();
        for Roomed { row, group, room } in roomed {
            all.push(RoomWith { group, room, carries: self.carries(row, server).await });
        }
        Ok(all)
    }

    async fn carries(&self, group: GroupRow, server: &str) -> Carries {
        let is_in = lock(&self.rooms).has(group, server);
        let line = lock(&self.lines).get(server).map(Arc::clone);
        let hears = match line {
            Some(line) => line.lock().await.hears(group, self.now_ms()),
            None => true,
        };
        Carries { is_in, is_heard: is_in && hears }
    }
}
