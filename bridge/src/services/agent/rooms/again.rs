//! When agents are invited again that do not come. It is kept, so that whoever starts again and again does not
//! invite each time: a homeserver gives up one for which it sends too many invitations.

use std::collections::BTreeSet;

use causeway_store::Db;
use ruma::{OwnedRoomId, OwnedServerName, RoomId};

use crate::{
    clock,
    domain::relay_room::{Again, REFUSED_MS},
    storage::{
        Error,
        agents::{self, Invited},
    },
};

/// What is known of them, and of whom something is kept.
#[derive(Debug, Default)]
pub(super) struct Invitations {
    again: Again,
    kept: BTreeSet<(OwnedRoomId, OwnedServerName)>,
    is_read: bool,
}

impl Invitations {
    /// Reads once what an earlier start has kept.
    pub(super) async fn read(&mut self, db: &Db, now_ms: u64) -> Result<(), Error> {
        if self.is_read {
            return Ok(());
        }
        let now = clock::now();
        for Invited { room, server, next_at, wait_ms } in
            agents::invited(db.read().await?.conn()).await?
        {
            let left_ms = next_at.0.saturating_sub(now.0);
            self.again.put_back((&room, &server), now_ms, (left_ms, wait_ms));
            self.kept.insert((room, server));
        }
        self.is_read = true;
        Ok(())
    }

    /// Whether an agent may be invited now.
    pub(super) fn may(&self, room: &RoomId, server: &OwnedServerName, now_ms: u64) -> bool {
        self.again.may(room, server, now_ms)
    }

    /// It is about to be: this is kept before, so that who is killed in between does not invite once more.
    pub(super) async fn invites(
        &mut self,
        db: &Db,
        (room, server): (&RoomId, &OwnedServerName),
        now_ms: u64,
    ) -> Result<(), Error> {
        let wait_ms = self.again.invited(room, server, now_ms);
        self.kept_for(db, (room, server), (wait_ms, wait_ms)).await
    }

    /// The homeserver, or the other one, did not take the invitation.
    pub(super) async fn refused(
        &mut self,
        db: &Db,
        (room, server): (&RoomId, &OwnedServerName),
        now_ms: u64,
    ) -> Result<(), Error> {
        let wait_ms = self.again.refused(room, server, now_ms);
        self.kept_for(db, (room, server), (REFUSED_MS, wait_ms)).await
    }

    async fn kept_for(
        &mut self,
        db: &Db,
        (room, server): (&RoomId, &OwnedServerName),
        (left_ms, wait_ms): (u64, u64),
    ) -> Result<(), Error> {
        let next_at = clock::now().plus_ms(left_ms);
        let (room, server) = (room.to_owned(), server.clone());
        let invited = Invited { room, server, next_at, wait_ms };
        let mut tx = db.begin().await?;
        agents::invite(&mut tx, &invited).await?;
        tx.commit().await?;
        self.kept.insert((invited.room, invited.server));
        Ok(())
    }

    /// Of a room only those are remembered whose agents are missing there.
    pub(super) fn keep_missing(&mut self, room: &RoomId, missing: &BTreeSet<OwnedServerName>) {
        self.again.keep_missing(room, missing);
    }

    /// Of other rooms nothing is remembered.
    pub(super) fn keep(&mut self, rooms: &BTreeSet<OwnedRoomId>) {
        self.again.keep(rooms);
    }

    /// Nor is anything kept of whom nothing is remembered.
    pub(super) async fn tidy(&mut self, db: &Db) -> Result<(), Error> {
        let Self { again, kept, .. } = self;
        let gone: Vec<_> = kept.extract_if(.., |(room, server)| !again.has(room, server)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let mut tx = db.begin().await?;
        for (room, server) in gone {
            agents::forget(&mut tx, &room, &server).await?;
        }
        Ok(tx.commit().await?)
    }
}
