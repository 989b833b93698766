//! Relay rooms: in which the agent is to be, which are used, and what goes by them (protocol §7.4).

mod shown;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use causeway_protocol::{
    ids::{GroupId, ItemId, Timestamp},
    link::{FrameHead, Item, MAX_ROOM_CONTENT, RoomEvent, Tell, fitting, joined},
};
use causeway_store::Db;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::{
    AskError, BATCH, Outgoing, Servers,
    fill::FEW,
    line::{First, Line},
    lock, random,
};
use crate::storage::{
    self, GroupRow, groups,
    servers::rooms::{self, Roomed, Shared},
};

/// From so many other servers on a group has a room.
const WORTH: usize = 2;
/// How long it waits that a server is told of a room, milliseconds: the agent reports every minute what is
/// missing, and nothing piles up for one that is gone.
const TOLD_MS: u64 = 90_000;
/// Bytes that a server's part of an event takes beside its name, at most.
const HEAD: usize = 460;
/// Bytes of an event beside envelopes and heads.
const BESIDE: usize = 300;

/// The rooms, since this start.
pub(super) struct Rooms {
    /// Rooms that this server's agent is in.
    used: BTreeMap<GroupRow, Used>,
    /// Drawn at the start.
    began: u32,
    /// Changes whenever there may be something for the agent to do.
    moved: u64,
}

/// A room that is used.
struct Used {
    room: String,
    /// The servers whose agents are there, of those with members.
    joined: BTreeSet<String>,
}

/// A room in which the agent is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Wish {
    pub(crate) group: GroupId,
    /// Absent where it is to be made.
    pub(crate) room: Option<String>,
    /// The server whose agent makes it, and lets in.
    pub(crate) home: String,
    /// The other servers with members; none where the room is over, and left once nobody else is there.
    pub(crate) servers: Vec<String>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Wishes {
    pub(crate) rooms: Vec<Wish>,
    /// What was reported before another one is forgotten.
    pub(crate) began: u32,
    /// Asked for with this.
    pub(crate) moved: u64,
}

/// What the agent says of a room.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Report {
    pub(crate) group: GroupId,
    pub(crate) room: String,
    /// The servers whose agents are there; absent where this server's is not.
    pub(crate) joined: Option<BTreeSet<String>>,
    /// Those whose agents are there and should not be any more.
    #[serde(default)]
    pub(crate) leaving: BTreeSet<String>,
}

/// An event for a room.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Post {
    pub(crate) room: String,
    pub(crate) content: Value,
}

/// What goes now.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    pub(crate) frames: Vec<Outgoing>,
    pub(crate) posts: Vec<Post>,
    /// See [`Wishes`].
    pub(crate) moved: u64,
}

/// What came of a room.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Came {
    /// A frame of the link.
    Frame(Value),
    /// It is for others, or of a room that is not known.
    Nothing,
    /// It makes no sense.
    Malformed,
    /// The group has another room.
    OtherRoom,
}

/// A line that nobody else has now, and its server.
type Held = (String, OwnedMutexGuard<Line>);

impl Rooms {
    pub(super) fn new(began: u32) -> Self {
        Self { used: BTreeMap::new(), began, moved: u64::from(began) << 16 }
    }

    /// Whether the room of a group carries what is for a server.
    fn has(&self, group: GroupRow, server: &str) -> bool {
        self.used.get(&group).is_some_and(|used| used.joined.contains(server))
    }

    /// Whether what is for all of a group is soon put on another of its lines, too: then one event brings
    /// both.
    fn awaits(
        &self,
        held: &[Held],
        (name, line): &Held,
        first: First,
        (now, now_ms): (Timestamp, u64),
    ) -> bool {
        let carries = |name: &str, line: &Line| {
            self.has(first.group, name) && line.hears(first.group, now_ms)
        };
        carries(name, line)
            && held.iter().any(|(other, line)| {
                other != name && carries(other, line) && line.lags(first.seq, now, FEW)
            })
    }

    /// One event of each group of which the same waits first for several; of which groups there is one.
    fn post(
        &self,
        held: &mut [Held],
        now_ms: u64,
        posts: &mut Vec<Post>,
    ) -> Result<BTreeSet<GroupRow>, AskError> {
        let mut firsts: BTreeMap<First, Vec<usize>> = BTreeMap::new();
        for (nth, (name, line)) in held.iter().enumerate() {
            let first = line.first_of_all().filter(|_| line.is_free());
            let first = first.filter(|it| self.has(it.group, name) && line.hears(it.group, now_ms));
            if let Some(first) = first {
                firsts.entry(first).or_default().push(nth);
            }
        }
        let mut said = BTreeSet::new();
        for (First { group, .. }, lines) in firsts {
            let Some(used) = self.used.get(&group).filter(|_| !said.contains(&group)) else {
                continue;
            };
            let count = common(held, &lines, group);
            if lines.len() < WORTH || count == 0 {
                continue;
            }
            let contents = lines.first().and_then(|nth| held.get(*nth)).map(|(_, line)| {
                line.of_all(group).take(count).map(|waiting| waiting.content.clone()).collect()
            });
            let contents: Vec<Value> = contents.unwrap_or_default();
            let mut heads = BTreeMap::new();
            for nth in lines {
                let Some((name, line)) = held.get_mut(nth) else { continue };
                let random = u16::from_be_bytes(random()?);
                if let Some(frame) = line.put_by_room(count, now_ms, random) {
                    heads.insert(name.clone(), FrameHead::from(&frame));
                }
            }
            let content = joined(&contents.iter().collect::<Vec<_>>(), &heads);
            posts.push(Post { room: used.room.clone(), content });
            said.insert(group);
        }
        Ok(said)
    }
}

/// How many of the first that wait for these lines are the same, and fit into one event.
fn common(held: &[Held], lines: &[usize], group: GroupRow) -> usize {
    let lines: Vec<_> = lines.iter().filter_map(|nth| held.get(*nth)).collect();
    let heads: usize = lines.iter().map(|(name, _)| name.len() + HEAD).sum();
    let room = MAX_ROOM_CONTENT.saturating_sub(heads + BESIDE);
    let Some((_, first)) = lines.first() else { return 0 };
    let numbers: Vec<_> = first.of_all(group).map(|waiting| waiting.seq).collect();
    let fits = lines.iter().map(|(_, line)| {
        let same = line.of_all(group).zip(&numbers).take_while(|(it, seq)| it.seq == **seq);
        let sizes: Vec<_> = same.map(|(waiting, _)| waiting.bytes).collect();
        let mut sum = 0;
        let within = sizes.iter().take_while(|size| {
            sum += **size + 1;
            sum <= room
        });
        // As a frame of the link it must fit as well.
        within.count().min(fitting(sizes.iter().copied()))
    });
    fits.min().unwrap_or(0)
}

impl Servers {
    /// Notes that there may be something for the agent to do.
    pub(crate) fn rooms_moved(&self) {
        lock(&self.rooms).moved += 1;
        self.news.notify_one();
    }

    /// Frames and events that are to go now, and when there will be some for certain.
    pub(super) async fn gather(&self, now: Timestamp) -> Result<(Leaving, Option<u64>), AskError> {
        self.let_go(now);
        let lines: Vec<_> =
            lock(&self.lines).iter().map(|(name, line)| (name.clone(), Arc::clone(line))).collect();
        let mut held: Vec<Held> = Vec::new();
        for (name, line) in lines {
            let line = line.lock_owned().await;
            if line.paused.is_none() {
                held.push((name, line));
            }
        }
        let rooms = lock(&self.rooms);
        let mut leaving = Leaving { moved: rooms.moved, ..Leaving::default() };
        let (frames, now_ms) = (&mut leaving.frames, self.now_ms());
        for (name, line) in &mut held {
            // What a room may carry is put together first.
            while frames.len() < BATCH {
                let random = u16::from_be_bytes(random()?);
                let waits = |group| rooms.has(group, name);
                let Some(frame) = line.frame((now, now_ms, random), waits) else { break };
                frames.push(Outgoing { to: name.clone(), content: frame.to_json() });
            }
        }
        let said = rooms.post(&mut held, now_ms, &mut leaving.posts)?;
        let mut is_more = frames.len() >= BATCH;
        for nth in 0..held.len() {
            while frames.len() < BATCH {
                let Some(line) = held.get(nth) else { break };
                let first = line.1.first_of_all();
                let stays = first.is_some_and(|first| {
                    said.contains(&first.group) && rooms.has(first.group, &line.0)
                        || rooms.awaits(&held, line, first, (now, now_ms))
                });
                let Some((name, line)) = held.get_mut(nth) else { break };
                let random = u16::from_be_bytes(random()?);
                let group = first.map(|first| first.group);
                let waits = |other| stays || Some(other) != group;
                let frame = line.frame((now, now_ms, random), waits);
                is_more |= frame.is_none() && stays && line.is_free();
                let Some(frame) = frame else { break };
                frames.push(Outgoing { to: name.clone(), content: frame.to_json() });
            }
        }
        if is_more {
            self.news.notify_one();
        }
        let due = held.iter().filter_map(|(_, line)| line.due_ms()).min();
        Ok((leaving, due))
    }

    /// The rooms in which the agent is to be.
    pub(crate) async fn wished_rooms(&self, db: &Db) -> Result<Wishes, AskError> {
        let (began, moved) = {
            let rooms = lock(&self.rooms);
            (rooms.began, rooms.moved)
        };
        let rooms = self.wishes(db).await?.into_values().map(|(_, wish)| wish).collect();
        Ok(Wishes { rooms, began, moved })
    }

    async fn wishes(&self, db: &Db) -> Result<BTreeMap<GroupId, (GroupRow, Wish)>, AskError> {
        if !self.rules.relay_rooms || self.patience.is_none() {
            return Ok(BTreeMap::new());
        }
        let mut read = db.read().await.map_err(storage::Error::from)?;
        let shared = rooms::shared(read.conn()).await?;
        let over = rooms::over(read.conn()).await?;
        drop(read);
        let mut wishes = BTreeMap::new();
        for Shared { row, group, home, room, server, has_own } in shared {
            let home = home.unwrap_or_else(|| self.here.clone());
            if self.allowed(&server).is_err() || home != self.here && !has_own {
                continue;
            }
            let wish = || (row, Wish { group, room, home, servers: Vec::new() });
            wishes.entry(group).or_insert_with(wish).1.servers.push(server);
        }
        wishes.retain(|_, (_, wish)| match wish.room {
            Some(_) => true,
            None => wish.home == self.here && wish.servers.len() >= WORTH,
        });
        for (Roomed { row, group, room }, home) in over {
            // Whoever is there still is told to leave first.
            if home.is_none_or(|home| home == self.here) {
                let (room, home, servers) = (Some(room), self.here.clone(), Vec::new());
                wishes.entry(group).or_insert((row, Wish { group, room, home, servers }));
            }
        }
        Ok(wishes)
    }

    /// Takes what the agent says of rooms. Of a room that is this server's to make the others are told.
    pub(crate) async fn report_rooms(
        &self,
        (db, now): (&Db, Timestamp),
        reports: Vec<Report>,
    ) -> Result<(), AskError> {
        let wishes = self.wishes(db).await?;
        let known: BTreeSet<_> = wishes.values().map(|(row, _)| *row).collect();
        lock(&self.rooms).used.retain(|row, _| known.contains(row));
        for Report { group, room, joined, leaving } in reports {
            let Some((row, wish)) = wishes.get(&group) else { continue };
            let is_home = wish.home == self.here;
            if is_home && wish.servers.is_empty() && leaving.is_empty() {
                let mut tx = db.begin().await.map_err(storage::Error::from)?;
                rooms::forget(tx.conn(), *row).await?;
                tx.commit().await.map_err(storage::Error::from)?;
                self.rooms_moved();
                continue;
            }
            let Some(joined) = joined else {
                lock(&self.rooms).used.remove(row);
                continue;
            };
            if wish.room.as_ref() != Some(&room) {
                if !is_home {
                    continue;
                }
                let mut tx = db.begin().await.map_err(storage::Error::from)?;
                rooms::set(tx.conn(), *row, &room).await?;
                tx.commit().await.map_err(storage::Error::from)?;
            }
            let joined: BTreeSet<_> =
                wish.servers.iter().filter(|name| joined.contains(*name)).cloned().collect();
            if is_home {
                let missing = wish.servers.iter().filter(|name| !joined.contains(*name));
                for name in missing {
                    self.tell_of_room((db, now), name, Tell::Room(group, room.clone())).await?;
                }
                for name in leaving.iter().filter(|name| !wish.servers.contains(*name)) {
                    self.tell_of_room((db, now), name, Tell::Leave(group)).await?;
                }
            }
            lock(&self.rooms).used.insert(*row, Used { room, joined });
        }
        #[expect(clippy::cast_precision_loss, reason = "what a gauge takes")]
        metrics::gauge!("causeway_relay_rooms").set(lock(&self.rooms).used.len() as f64);
        self.news.notify_one();
        Ok(())
    }

    /// Tells a server of a room, behind the ops, without which that says nothing; the next report tells it
    /// again.
    async fn tell_of_room(
        &self,
        (db, now): (&Db, Timestamp),
        server: &str,
        tell: Tell,
    ) -> Result<(), AskError> {
        if self.allowed(server).is_ok() {
            let tell = Item::Tell(ItemId::new(random()?), tell);
            let until = now.plus_ms(TOLD_MS);
            self.line(db, server).await?.lock().await.put(&tell, now, until);
        }
        Ok(())
    }

    /// Takes the word of `from` on a group's room: that is its home's to say. Where there is none any more
    /// though members are here, `from` has ops that say why: it is asked for them.
    pub(crate) async fn hear_room(
        &self,
        db: &Db,
        from: &str,
        (group, room): (GroupId, Option<String>),
    ) -> Result<bool, AskError> {
        if !self.rules.relay_rooms {
            return Ok(true);
        }
        let mut tx = db.begin().await.map_err(storage::Error::from)?;
        let Some(known) = groups::by_id(tx.conn(), group).await? else { return Ok(true) };
        if groups::home(tx.conn(), group).await?.as_deref() != Some(from) {
            return Ok(false);
        }
        let lacks = if let Some(room) = &room {
            rooms::set(tx.conn(), known.row, room).await?;
            false
        } else {
            rooms::forget(tx.conn(), known.row).await?;
            rooms::is_wanted(tx.conn(), known.row).await?
        };
        tx.commit().await.map_err(storage::Error::from)?;
        if lacks {
            self.lack(db, from, group).await?;
        }
        lock(&self.rooms)
            .used
            .retain(|row, used| *row != known.row || Some(&used.room) == room.as_ref());
        self.rooms_moved();
        Ok(true)
    }

    /// What an event of a room is for this server.
    pub(crate) async fn of_room(
        &self,
        db: &Db,
        from: &str,
        (room, content): (&str, &Value),
    ) -> Result<Came, AskError> {
        if self.allowed(from).is_err() {
            metrics::counter!("causeway_servers_denied_total").increment(1);
            return Ok(Came::Nothing);
        }
        let Ok(said) = RoomEvent::parse(content) else { return Ok(Came::Malformed) };
        let mut read = db.read().await.map_err(storage::Error::from)?;
        match rooms::of(read.conn(), said.event.group).await? {
            None => return Ok(Came::Nothing),
            Some(known) if known != room => return Ok(Came::OtherRoom),
            Some(_) => {}
        }
        let frame = said.frame(&self.here, ItemId::new(random()?));
        Ok(frame.map_or(Came::Nothing, |frame| Came::Frame(frame.to_json())))
    }
}
