//! What waits in the database for other servers, put on its way.

use causeway_protocol::{
    envelope::SubmittedTo,
    ids::{AccountId, Epoch, GroupId, ItemId, StreamId, Timestamp},
    link::{Carried, Event, Item, Row, Tell},
    roster::{Body, Op},
};
use causeway_store::{Conn, Db};
use serde_json::{Value, json};

use super::{
    AskError, Servers,
    line::{Line, Mark},
    random,
};
use crate::storage::{self, GroupRow, accounts, devices, groups, servers::forward};

/// Items that wait for a server, below which more is fetched for it.
const FEW: usize = 256;
/// Characters of ops in one event.
const MAX_OPS: usize = 50_000;
/// Characters of accounts in one item.
const MAX_ACCOUNTS: usize = 50_000;
/// Numbers that a server's mark may lag behind where nothing is for it.
const LAG: i64 = 256;
/// Until it is taken.
const ALWAYS: Timestamp = Timestamp(u64::MAX);

impl Servers {
    /// Puts on their way what waits for each server of which devices are known.
    pub(super) async fn fill(&self, db: &Db, now: Timestamp) -> Result<(), AskError> {
        let mut read = db.read().await.map_err(storage::Error::from)?;
        let with_devices = forward::with_devices(read.conn()).await?;
        drop(read);
        for (server, name) in with_devices {
            let line = self.line(db, &name).await?;
            let mut line = line.lock().await;
            if line.queued() >= FEW {
                continue;
            }
            let skipped = fill_one(db, now, (server, &self.here), &mut line).await?;
            if let Some(until) = skipped {
                let mut tx = db.begin().await.map_err(storage::Error::from)?;
                forward::done(tx.conn(), server, until).await?;
                tx.commit().await.map_err(storage::Error::from)?;
            }
        }
        Ok(())
    }
}

/// Up to where nothing was for the server, where that is far.
async fn fill_one(
    db: &Db,
    now: Timestamp,
    (server, here): (i64, &str),
    line: &mut Line,
) -> Result<Option<i64>, AskError> {
    let mut read = db.read().await.map_err(storage::Error::from)?;
    let conn = read.conn();
    for behind in forward::behind(conn, server).await? {
        let sent = line.ops.get(&behind.group).copied().unwrap_or(-1).max(behind.epoch);
        if sent < behind.until {
            let last = put_ops(conn, now, here, line, (behind.group, sent + 1, behind.until));
            let last = last.await?;
            line.ops.insert(behind.group, last);
        }
    }
    let stored = forward::forwarded(conn, server).await?;
    let cursor = line.cursor.unwrap_or(stored);
    let (found, until) = forward::next(conn, server, cursor).await?;
    for forward in &found {
        let mark = Some(Mark::Rows(forward.seq));
        let item = match forward.submission.to {
            SubmittedTo::Broadcast => {
                let place = line.next_event(forward.group, StreamId::new(random()?));
                let carried = Carried::Envelopes(vec![forward.submission.clone()]);
                let group = forward.submission.group;
                Item::Event(ItemId::new(random()?), Event { group, place, after: None, carried })
            }
            SubmittedTo::Device(_) | SubmittedTo::Devices(_) => {
                Item::Row(Row::Member(forward.submission.clone()))
            }
        };
        if !line.put_marked(&item, now, ALWAYS, mark) {
            return Ok(None);
        }
        line.cursor = Some(forward.seq);
    }
    line.cursor = Some(until);
    let is_idle = found.is_empty() && line.queued() == 0;
    Ok((is_idle && until - stored >= LAG).then_some(until))
}

/// Puts a group's ops from one epoch to another, as many as go in one event, after the accounts that they
/// name; the last of them.
async fn put_ops(
    conn: &mut Conn,
    now: Timestamp,
    here: &str,
    line: &mut Line,
    (group, from, until): (GroupRow, i64, i64),
) -> Result<i64, AskError> {
    let epoch = |epoch: i64| Epoch(u32::try_from(epoch).unwrap_or(0));
    let ops = groups::ops(conn, group, epoch(from), epoch(until), 256).await?;
    let (mut size, mut some) = (0, Vec::new());
    for op in ops {
        size += op.0.len() * 4 / 3 + 4;
        if size > MAX_OPS && !some.is_empty() {
            break;
        }
        some.push(op.0);
    }
    let Some(id) = some.first().and_then(|op| Some(Op::parse(op).ok()?.group())) else {
        return Ok(from - 1);
    };
    for accounts in named(conn, here, id, &some).await? {
        let item = Item::Tell(ItemId::new(random()?), Tell::Accounts(accounts));
        line.put(&item, now, ALWAYS);
    }
    let last = from - 1 + i64::try_from(some.len()).unwrap_or(0);
    let place = line.next_event(group, StreamId::new(random()?));
    let event = Event { group: id, place, after: None, carried: Carried::Ops(some) };
    let item = Item::Event(ItemId::new(random()?), event);
    line.put_marked(&item, now, ALWAYS, Some(Mark::Ops(group, last)));
    Ok(last)
}

/// What this server's accounts are that these ops name, in items of their size.
async fn named(
    conn: &mut Conn,
    here: &str,
    group: GroupId,
    ops: &[Vec<u8>],
) -> Result<Vec<Vec<Value>>, storage::Error> {
    let mut accounts: Vec<AccountId> = Vec::new();
    let roster = match groups::by_id(conn, group).await? {
        Some(group) => Some(groups::roster(conn, group.row).await?),
        None => None,
    };
    for op in ops.iter().filter_map(|op| Op::parse(op).ok()) {
        let of_signer = roster.as_ref().and_then(|it| it.member(&op.signer().member_id));
        accounts.extend(of_signer.map(|member| member.account.clone()));
        match op.body() {
            Ok(Body::Create(create)) => accounts.extend(create.account.parse()),
            Ok(Body::Add(entries)) => {
                accounts.extend(entries.iter().filter_map(|entry| entry.account.parse().ok()));
            }
            _ => {}
        }
    }
    accounts.retain(|account| account.server() == here);
    accounts.sort();
    accounts.dedup();
    let (mut items, mut some, mut size) = (Vec::new(), Vec::new(), 0);
    for account in accounts {
        let Some(shown) = shown(conn, &account).await? else { continue };
        let bytes = shown.to_string().len();
        if size + bytes > MAX_ACCOUNTS && !some.is_empty() {
            items.push(std::mem::take(&mut some));
            size = 0;
        }
        size += bytes;
        some.push(shown);
    }
    items.extend((!some.is_empty()).then_some(some));
    Ok(items)
}

/// List and records of an account.
async fn shown(conn: &mut Conn, account: &AccountId) -> Result<Option<Value>, storage::Error> {
    let Some(list) = accounts::list(conn, account).await? else { return Ok(None) };
    let devices = devices::records(conn, account).await?;
    Ok(Some(json!({ "list": list, "devices": devices })))
}
