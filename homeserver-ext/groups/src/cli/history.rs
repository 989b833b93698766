//! What came in and what went out, in its order, and how far it was shown.
//!
//! A line is stored by the commit that opened its message, or that took an own one out of the outbox,
//! and shown afterwards. `row` rises with each line, so a reader that was killed says how far it came
//! (`tail --since`) and misses nothing.

mod shared;

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use causeway_protocol::{
    content::MessageRef,
    ids::{ClientId, GroupId},
};
use causeway_store::{Conn, Db, Tx};
use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use super::{
    exit::Failure,
    line::{Imported, Line, Message, Said},
};
use crate::{
    machine::{Received, What},
    sdk::{Client, Keep, KeepError},
    storage::{self, history, mirrors, not_taken, shared_lines},
    vault::Vault,
};

/// Keeps what came in, with the ratchet that opened it.
pub(super) struct History;

impl Keep for History {
    fn keep<'a>(
        &'a self,
        client: &'a Client,
        tx: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(async move {
            let mut shown = Vec::with_capacity(received.len());
            for Received { group, what, .. } in received {
                if let What::Past(past) = what {
                    // In its place, and known to what follows it.
                    add(client, tx, std::mem::take(&mut shown)).await?;
                    shared::add(client, tx, group, past).await?;
                    continue;
                }
                if let What::Expired { id } = &what {
                    not_taken::note(tx.conn(), &group, id).await?;
                }
                let Some(mut what) = Said::from_what(what) else { continue };
                name_mirrors(tx, group, &mut what).await?;
                shown.push((group, what));
            }
            add(client, tx, shown).await?;
            Ok(())
        })
    }
}

/// Keeps what became of messages of ours in `group`, in the transaction that settles them.
pub(super) async fn keep_own(
    client: &Client,
    tx: &mut Tx,
    group: GroupId,
    settled: Vec<Said>,
) -> Result<(), KeepError> {
    add(client, tx, settled.into_iter().map(|what| (group, what))).await
}

/// Adds lines behind all others.
async fn add(
    client: &Client,
    tx: &mut Tx,
    shown: impl IntoIterator<Item = (GroupId, Said)>,
) -> Result<(), KeepError> {
    let mut row = history::last(tx.conn()).await?;
    let mut names = BTreeMap::new();
    for (group, mut what) in shown {
        if let Said::Message(Message { reply_to: Some(said), reply_row, .. }) = &mut what {
            *reply_row = history::row_of(tx.conn(), &group, said).await?;
        }
        let group_name = match names.entry(group) {
            Entry::Occupied(name) => name.into_mut(),
            Entry::Vacant(name) => {
                let roster = client.machine().roster(tx, group).await?;
                name.insert(roster.map_or_else(String::new, |r| r.policy().name.clone()))
            }
        };
        row += 1;
        let group_name = group_name.clone();
        insert(client.vault(), tx, Line { row, group, group_name, at_ms: client.now(), what })
            .await?;
    }
    Ok(())
}

/// Adds what another program has kept of a group, as far as it is not here: so many were not, and these
/// are here otherwise, which stays. They are shown where they are looked for, and did not come in.
pub(super) async fn import(
    client: &Client,
    tx: &mut Tx,
    (group, group_name): (GroupId, &str),
    lines: Vec<Imported>,
) -> Result<(usize, Vec<ClientId>), KeepError> {
    let (mut row, mut added) = (history::last(tx.conn()).await?, 0);
    let mut otherwise = Vec::new();
    for line in lines {
        let name = MessageRef { device: line.device, client_id: line.client_id };
        if let Some(row) = history::row_of(tx.conn(), &group, &name).await? {
            let here = history::line(tx.conn(), client.vault(), &group, row).await?;
            let here: Option<Line> = here.map(|json| serde_json::from_slice(&json)).transpose()?;
            let is_same = here
                .is_none_or(|here| matches!(&here.what, Said::Imported(known) if *known == line));
            if !is_same {
                otherwise.push(line.client_id);
            }
            continue;
        }
        row += 1;
        added += 1;
        let (group_name, what) = (group_name.to_owned(), Said::Imported(line));
        insert(client.vault(), tx, Line { row, group, group_name, at_ms: client.now(), what })
            .await?;
    }
    if added > 0 {
        history::mark_shown(tx.conn(), &group, row).await?;
    }
    Ok((added, otherwise))
}

/// Adds a line at its place.
pub(super) async fn insert(vault: &Vault, tx: &mut Tx, line: Line) -> Result<(), KeepError> {
    let json = Zeroizing::new(serde_json::to_vec(&line)?);
    let name = line.name();
    if let Said::Shared(said) = &line.what {
        let by = &said.by_member_id;
        shared_lines::note(tx.conn(), &line.group, &said.name(), by, line.row).await?;
    }
    let Line { row, group, at_ms, .. } = line;
    history::insert(tx.conn(), vault, row, &group, at_ms, name.as_ref(), &json).await?;
    Ok(())
}

/// Remembers how the bridge calls Matrix users and who of them reads, and calls them so where it
/// speaks for them.
async fn name_mirrors(tx: &mut Tx, group: GroupId, what: &mut Said) -> Result<(), storage::Error> {
    match what {
        Said::Mirrors { present, gone } => {
            for mirror in present {
                mirrors::put(tx.conn(), &group, &mirror.id, &mirror.name).await?;
            }
            for user in gone {
                mirrors::gone(tx.conn(), &group, user).await?;
            }
        }
        // One that was let in tells anew who reads.
        Said::Roster(roster) if roster.lets_bridge_in() => {
            mirrors::all_gone(tx.conn(), &group).await?;
        }
        Said::Message(Message { mirror: Some(mirror), .. }) => {
            let name = mirrors::name(tx.conn(), &group, &mirror.id).await?;
            mirror.name = name.unwrap_or_else(|| mirror.id.clone());
        }
        Said::Message(_)
        | Said::Imported(_)
        | Said::Shared(_)
        | Said::Roster(_)
        | Said::JoinAsked { .. }
        | Said::Expired { .. }
        | Said::Unsent { .. }
        | Said::Failed { .. }
        | Said::Fork { .. }
        | Said::Identity(_)
        | Said::Offered { .. }
        | Said::Unknown { .. } => {}
    }
    Ok(())
}

/// The next lines that were not shown yet, in order; none at the end.
pub(super) async fn unshown(
    db: &Db,
    vault: &Vault,
    group: Option<GroupId>,
) -> Result<Vec<Line>, Failure> {
    let lines = history::unshown(db.read().await?.conn(), vault, group.as_ref()).await?;
    read(&lines)
}

/// The next lines after `row`, shown or not, in order; none at the end.
pub(super) async fn after(
    db: &Db,
    vault: &Vault,
    group: Option<GroupId>,
    row: i64,
) -> Result<Vec<Line>, Failure> {
    let lines = history::after(db.read().await?.conn(), vault, group.as_ref(), row).await?;
    read(&lines)
}

/// The last lines of a group before `row`, in order.
pub(super) async fn before(
    client: &Client,
    group: GroupId,
    row: i64,
    limit: u32,
) -> Result<Vec<Line>, Failure> {
    let (db, vault) = (client.db(), client.vault());
    let lines =
        history::of_group_before(db.read().await?.conn(), vault, &group, row, limit).await?;
    read(&lines)
}

/// The first lines of a group after `row`, in order.
pub(super) async fn after_in(
    client: &Client,
    group: GroupId,
    row: i64,
    limit: u32,
) -> Result<Vec<Line>, Failure> {
    let (db, vault) = (client.db(), client.vault());
    let lines = history::of_group_after(db.read().await?.conn(), vault, &group, row, limit).await?;
    read(&lines)
}

/// How many messages of others in a group were not shown yet.
pub(super) async fn unread(conn: &mut Conn, group: GroupId) -> Result<usize, Failure> {
    Ok(history::unread(conn, &group).await?)
}

/// The last lines before `row` with these words in what was said, in order.
pub(super) async fn search(
    client: &Client,
    group: Option<GroupId>,
    words: &str,
    row: i64,
    limit: usize,
) -> Result<Vec<Line>, Failure> {
    let (db, vault, words) = (client.db(), client.vault(), words.to_lowercase());
    let mut found = VecDeque::new();
    let mut row = row;
    while found.len() < limit {
        let mut connection = db.read().await?;
        let conn = connection.conn();
        let lines = match &group {
            Some(group) => history::of_group_before(conn, vault, group, row, history::PAGE).await?,
            None => history::before(conn, vault, row).await?,
        };
        let lines = read(&lines)?;
        let Some(first) = lines.first() else { break };
        row = first.row;
        let says = |line: &Line| line.body().is_some_and(|b| b.to_lowercase().contains(&words));
        for line in lines.into_iter().rev().filter(says).take(limit - found.len()) {
            found.push_front(line);
        }
    }
    Ok(found.into())
}

fn read(lines: &[Zeroizing<Vec<u8>>]) -> Result<Vec<Line>, Failure> {
    lines.iter().map(|json| serde_json::from_slice(json).map_err(Failure::failed)).collect()
}

/// The message with this number in a group.
pub(super) async fn message(client: &Client, group: GroupId, row: i64) -> Result<Message, Failure> {
    let (db, vault) = (client.db(), client.vault());
    let line = history::line(db.read().await?.conn(), vault, &group, row).await?;
    let line: Option<Line> =
        line.map(|json| serde_json::from_slice(&json)).transpose().map_err(Failure::failed)?;
    match line.map(|line| line.what) {
        Some(Said::Message(message)) => Ok(message),
        _ => Err(Failure::usage(format!("there is no message #{row} in this group"))
            .next("`causeway-client history` shows messages with their numbers.")),
    }
}

/// These lines were shown; one commit.
pub(super) async fn mark_shown(db: &Db, lines: &[Line]) -> Result<(), Failure> {
    let last: BTreeMap<GroupId, i64> = lines.iter().map(|line| (line.group, line.row)).collect();
    let mut tx = db.begin().await?;
    for (group, row) in last {
        history::mark_shown(tx.conn(), &group, row).await?;
    }
    Ok(tx.commit().await?)
}
