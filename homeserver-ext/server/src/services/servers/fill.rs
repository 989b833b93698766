//! What waits in the database for other servers, put on its way.

use causeway_protocol::{
    envelope::SubmittedTo,
    ids::{AccountId, ItemId, Seq, StreamId, Timestamp},
    link::{Carried, Event, Item, Row, Tell},
    roster::Op,
};
use causeway_store::{Conn, Db, Script};
use serde_json::Value;

use super::{
    ALWAYS, AskError, Servers,
    heads::greet,
    line::{First, Line, Mark},
    named::named,
    random,
};
use crate::storage::{
    self, DeviceRow, GroupRow,
    servers::{
        forward::{self, Peer},
        given,
        progress::Cut,
    },
};

/// Items that wait for a server, below which more is fetched for it.
pub(super) const FEW: usize = 256;
/// Characters of ops in one event.
const MAX_OPS: usize = 50_000;
/// Numbers that a server's mark may lag behind where nothing is for it.
const LAG: i64 = 256;

impl Servers {
    /// Puts on their way what waits for each server of which devices are known.
    pub(super) async fn fill(
        &self,
        db: &Db,
        now: Timestamp,
        sent: &(impl Fn(DeviceRow) -> Seq + Sync),
    ) -> Result<(), AskError> {
        let readers = self.due_readers();
        let mut read = db.read().await.map_err(storage::Error::from)?;
        // As far for each: what is for all of a group is for several of them.
        let (peers, last) = forward::peers(read.conn()).await?;
        drop(read);
        let mut are_ops = false;
        for Peer { server, name, forwarded } in peers {
            if self.allowed(&name).is_err() {
                continue;
            }
            let line = self.line(db, &name).await?;
            let mut line = line.lock().await;
            if line.paused.is_some() {
                line.telling.wait(&readers);
                continue;
            }
            if line.owes_heads(self.now_ms()) {
                let mut read = db.read().await.map_err(storage::Error::from)?;
                greet(read.conn(), now, server, &mut line).await?;
                self.begin_telling(read.conn(), server, &mut line).await?;
            }
            if line.queued() >= FEW {
                line.telling.wait(&readers);
                continue;
            }
            self.tell_progress((db, now), server, &mut line, (&readers, sent)).await?;
            let Found { skipped, unnamed, are_ops: some } =
                fill_one(db, now, (server, &self.here), (&mut line, forwarded, last)).await?;
            are_ops |= some;
            if skipped.is_some() || !unnamed.is_empty() {
                let mut tx = db.begin().await.map_err(storage::Error::from)?;
                if let Some(until) = skipped {
                    let mut script = Script::default();
                    forward::done(&mut script, server, until);
                    script.run(tx.conn()).await.map_err(storage::Error::from)?;
                }
                for (group, epoch) in unnamed {
                    forward::has_ops(tx.conn(), server, group, epoch).await?;
                }
                tx.commit().await.map_err(storage::Error::from)?;
            }
        }
        if are_ops {
            self.rooms_moved();
        }
        Ok(())
    }
}

/// What is next for a server, by its number here.
enum Next {
    /// It had that before.
    Again(String),
    Row(Box<forward::Forward>),
    Op(GroupRow, i64, Vec<u8>),
}

/// What was found for a server beside what it is sent.
#[derive(Default)]
struct Found {
    /// Up to where nothing was for it, where that is far.
    skipped: Option<i64>,
    /// Groups of other homes whose ops name nobody here: up to which epoch.
    unnamed: Vec<(GroupRow, i64)>,
    /// There are ops of groups of this home: who is in them may be another than before.
    are_ops: bool,
}

/// Puts what waits on its way in the order of its numbers, so that no op overtakes what was said before it,
/// and nothing the ops that it was sealed under.
async fn fill_one(
    db: &Db,
    now: Timestamp,
    (server, here): (i64, &str),
    (line, stored, last): (&mut Line, i64, i64),
) -> Result<Found, AskError> {
    let mut all = Found::default();
    let cursor = line.cursor.unwrap_or(stored);
    let mut read = db.read().await.map_err(storage::Error::from)?;
    let conn = read.conn();
    let mut script = Script::default();
    forward::select_next(&mut script, server, cursor);
    forward::select_behind(&mut script, server);
    let mut rows = script.run(conn).await.map_err(storage::Error::from)?;
    let next = rows.take();
    let (mut found, mut until) = forward::read_next(conn, (server, cursor), &next).await?;
    let behind = forward::read_behind(&rows.take())?;
    until = until.min(last.max(cursor));
    let mut next: Vec<(i64, Next)> = Vec::new();
    if line.giving.is_again() {
        let kept = given::next(conn, (server, now), cursor, FEW).await?;
        if let Some((last, _)) = kept.last().filter(|_| kept.len() >= FEW) {
            until = until.min(*last);
        }
        found.retain(|forward| kept.iter().all(|(seq, _)| *seq != forward.seq));
        next.extend(kept.into_iter().map(|(seq, item)| (seq, Next::Again(item))));
    }
    for behind in behind {
        let sent = line.ops.get(&behind.group).copied().unwrap_or(-1).max(behind.epoch);
        if !is_home(&behind, here)? {
            all.unnamed.extend(show(conn, now, here, (&behind, sent), line).await?);
            continue;
        }
        let ops = forward::ops(conn, behind.group, sent + 1, behind.until).await?;
        if let Some((last, _)) = ops.last().filter(|_| ops.len() >= forward::OPS) {
            until = until.min(*last);
        }
        let ops = (sent + 1..).zip(ops);
        next.extend(ops.map(|(epoch, (seq, op))| (seq, Next::Op(behind.group, epoch, op))));
    }
    next.extend(found.into_iter().map(|forward| (forward.seq, Next::Row(Box::new(forward)))));
    next.retain(|(seq, _)| *seq <= until);
    next.sort_by_key(|(seq, _)| *seq);
    all.are_ops = next.iter().any(|(_, next)| matches!(next, Next::Op(..)));
    let is_idle = next.is_empty() && line.queued() == 0;
    let mut ops = Ops::default();
    for (seq, next) in next {
        match next {
            Next::Op(group, epoch, op) => {
                if !ops.fits(group, &op) && !ops.put(conn, now, here, line).await? {
                    return Ok(all);
                }
                ops.push(group, epoch, op);
            }
            Next::Again(item) => {
                if !ops.put(conn, now, here, line).await? {
                    return Ok(all);
                }
                let item: Value =
                    serde_json::from_str(&item).map_err(|_| storage::Error::Row("item"))?;
                if !line.put_again(item, now, ALWAYS, Some(Mark::Rows(seq))) {
                    return Ok(all);
                }
                metrics::counter!("causeway_servers_given_again_total").increment(1);
                line.cursor = Some(seq);
            }
            Next::Row(forward) => {
                if !ops.put(conn, now, here, line).await? {
                    return Ok(all);
                }
                let (mark, group) = (mark(&forward), forward.group);
                let item = item(line, *forward)?;
                let is_put = match &item {
                    Item::Event(..) => {
                        line.put_of_all(&item, (now, ALWAYS), mark, First { group, seq })
                    }
                    _ => line.put_marked(&item, now, ALWAYS, Some(mark)),
                };
                if !is_put {
                    return Ok(all);
                }
                line.cursor = Some(seq);
            }
        }
    }
    if ops.put(conn, now, here, line).await? {
        line.cursor = Some(until.max(cursor));
        line.is_put();
    }
    all.skipped = (is_idle && until - stored >= LAG).then_some(until);
    Ok(all)
}

/// Whether this server gives the group's ops.
fn is_home(behind: &forward::Behind, here: &str) -> Result<bool, AskError> {
    let creator = behind.creator.as_deref().map(str::parse::<AccountId>).transpose();
    let creator = creator.map_err(|_| storage::Error::Row("creator"))?;
    Ok(creator.is_none_or(|creator| creator.server() == here))
}

/// Shows a server the accounts here that a group's next ops name, which another server gives it. Up to which
/// epoch there was nobody to be shown.
async fn show(
    conn: &mut Conn,
    now: Timestamp,
    here: &str,
    (behind, sent): (&forward::Behind, i64),
    line: &mut Line,
) -> Result<Option<(GroupRow, i64)>, AskError> {
    let ops = forward::ops(conn, behind.group, sent + 1, behind.until).await?;
    let ops: Vec<Vec<u8>> = ops.into_iter().map(|(_, op)| op).collect();
    let id = ops.first().and_then(|op| Some(Op::parse(op).ok()?.group()));
    let Some(id) = id else { return Ok(None) };
    let last = sent + i64::try_from(ops.len()).unwrap_or(0);
    let mut items = named(conn, here, id, &ops).await?.into_iter().peekable();
    if items.peek().is_none() {
        // Nobody has to acknowledge that; behind what is on its way it waits.
        return Ok((sent == behind.epoch).then_some((behind.group, last)));
    }
    while let Some(accounts) = items.next() {
        let mark = items.peek().is_none().then_some(Mark::Ops(behind.group, last));
        let item = Item::Tell(ItemId::new(random()?), Tell::Accounts(accounts));
        if !line.put_marked(&item, now, ALWAYS, mark) {
            return Ok(None);
        }
    }
    line.ops.insert(behind.group, last);
    Ok(None)
}

/// What the server has with it: of a fan-out also what it is called there.
fn mark(forward: &forward::Forward) -> Mark {
    match (&forward.row, forward.whole) {
        (Row::Member(submission), Some((whole, keep_until))) => {
            let cut = Cut { id: submission.name(), whole, keep_until };
            if cut.id == whole { Mark::Rows(forward.seq) } else { Mark::Part(forward.seq, cut) }
        }
        _ => Mark::Rows(forward.seq),
    }
}

fn item(line: &mut Line, forward: forward::Forward) -> Result<Item, AskError> {
    let submission = match forward.row {
        Row::Member(submission) if submission.to == SubmittedTo::Broadcast => submission,
        row @ (Row::Member(_) | Row::Home(_)) => return Ok(Item::Row(row)),
    };
    let place = line.next_event(forward.group, StreamId::new(random()?));
    let group = submission.group;
    let carried = Carried::Envelopes(vec![submission]);
    Ok(Item::Event(ItemId::new(random()?), Event { group, place, after: None, carried }))
}

/// Ops of one group that go together.
#[derive(Default)]
struct Ops {
    group: Option<GroupRow>,
    last: i64,
    some: Vec<Vec<u8>>,
    size: usize,
}

impl Ops {
    fn fits(&self, group: GroupRow, op: &[u8]) -> bool {
        let is_same = self.group.is_none_or(|known| known == group);
        self.some.is_empty() || is_same && self.size + length(op) <= MAX_OPS
    }

    fn push(&mut self, group: GroupRow, epoch: i64, op: Vec<u8>) {
        (self.group, self.last) = (Some(group), epoch);
        self.size += length(&op);
        self.some.push(op);
    }

    /// Puts them on their way, after the accounts that they name; `false` where there is no room.
    async fn put(
        &mut self,
        conn: &mut Conn,
        now: Timestamp,
        here: &str,
        line: &mut Line,
    ) -> Result<bool, AskError> {
        let Self { group, last, some: ops, .. } = std::mem::take(self);
        let id = ops.first().and_then(|op| Some(Op::parse(op).ok()?.group()));
        let Some((group, id)) = group.zip(id) else { return Ok(true) };
        for accounts in named(conn, here, id, &ops).await? {
            let item = Item::Tell(ItemId::new(random()?), Tell::Accounts(accounts));
            if !line.put(&item, now, ALWAYS) {
                return Ok(false);
            }
        }
        let place = line.next_event(group, StreamId::new(random()?));
        let event = Event { group: id, place, after: None, carried: Carried::Ops(ops) };
        let item = Item::Event(ItemId::new(random()?), event);
        let is_put = line.put_marked(&item, now, ALWAYS, Some(Mark::Ops(group, last)));
        if is_put {
            line.ops.insert(group, last);
        }
        Ok(is_put)
    }
}

/// Characters that an op takes in an event.
const fn length(op: &[u8]) -> usize {
    op.len() * 4 / 3 + 4
}
