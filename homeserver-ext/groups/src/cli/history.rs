//! What came in, in its order, and how far it was shown.
//!
//! A line is stored by the commit that opened its message, and shown afterwards. `row` rises with
//! each line, so a reader that was killed says how far it came (`tail --since`) and misses nothing.

use std::collections::{BTreeMap, btree_map::Entry};

use causeway_protocol::ids::GroupId;
use causeway_store::{Db, Row, Tx};
use futures_util::future::BoxFuture;
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{
    exit::Failure,
    line::{Line, Message, Said},
};
use crate::{
    machine::Received,
    sdk::{Client, Keep, KeepError},
    vault::{Class, Vault},
};

/// Lines read at once; a long history does not fill the memory.
const PAGE: i64 = 256;

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
            let mut row = last_row(tx).await?;
            let mut names = BTreeMap::new();
            for Received { group, what, .. } in received {
                let Some(mut what) = Said::from_what(what) else { continue };
                name_mirrors(tx, group, &mut what).await?;
                let group_name = match names.entry(group) {
                    Entry::Occupied(name) => name.into_mut(),
                    Entry::Vacant(name) => {
                        let roster = client.machine().roster(tx, group).await?;
                        name.insert(roster.map_or_else(String::new, |r| r.policy().name.clone()))
                    }
                };
                row += 1;
                let group_name = group_name.clone();
                let line = Line { row, group, group_name, at_ms: client.now(), what };
                add(tx, client.vault(), &line).await?;
            }
            Ok(())
        })
    }
}

/// Remembers how the bridge calls Matrix users, and calls them so where it speaks for them.
async fn name_mirrors(tx: &mut Tx, group: GroupId, what: &mut Said) -> Result<(), sqlx::Error> {
    let group = group.as_bytes().as_slice();
    match what {
        Said::Mirrors { present, .. } => {
            for mirror in present {
                sqlx::query(
                    "INSERT INTO mirrors (group_id, matrix_id, name) VALUES ($1, $2, $3)
                     ON CONFLICT (group_id, matrix_id) DO UPDATE SET name = excluded.name",
                )
                .bind(group)
                .bind(&mirror.id)
                .bind(&mirror.name)
                .execute(tx.conn())
                .await?;
            }
        }
        Said::Message(Message { mirror: Some(mirror), .. }) => {
            let name: Option<String> = sqlx::query_scalar(
                "SELECT name FROM mirrors WHERE group_id = $1 AND matrix_id = $2 AND name <> ''",
            )
            .bind(group)
            .bind(&mirror.id)
            .fetch_optional(tx.conn())
            .await?;
            mirror.name = name.unwrap_or_else(|| mirror.id.clone());
        }
        Said::Message(_)
        | Said::Roster(_)
        | Said::JoinAsked { .. }
        | Said::Expired { .. }
        | Said::Failed { .. }
        | Said::Fork { .. }
        | Said::Unknown { .. } => {}
    }
    Ok(())
}

async fn last_row(tx: &mut Tx) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT COALESCE(MAX(row), 0) FROM history").fetch_one(tx.conn()).await
}

async fn add(tx: &mut Tx, vault: &Vault, line: &Line) -> Result<(), KeepError> {
    let place = line.row.to_be_bytes();
    let json = Zeroizing::new(serde_json::to_vec(line)?);
    sqlx::query("INSERT INTO history (row, group_id, at_ms, line) VALUES ($1, $2, $3, $4)")
        .bind(line.row)
        .bind(line.group.as_bytes().as_slice())
        .bind(i64::try_from(line.at_ms.0).unwrap_or(i64::MAX))
        .bind(vault.seal(Class::Content, "history", "line", &place, &json)?)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// The next lines that were not shown yet, in order; none at the end.
pub(super) async fn unshown(
    db: &Db,
    vault: &Vault,
    group: Option<GroupId>,
) -> Result<Vec<Line>, Failure> {
    let rows = sqlx::query(
        "SELECT history.row, history.line FROM history
         LEFT JOIN shown ON shown.group_id = history.group_id
         WHERE history.row > COALESCE(shown.row, 0) AND ($1 IS NULL OR history.group_id = $1)
         ORDER BY history.row LIMIT $2",
    )
    .bind(group.map(|group| group.as_bytes().to_vec()))
    .bind(PAGE)
    .fetch_all(db.read().await?.conn())
    .await
    .map_err(causeway_store::Error::from)?;
    rows.iter().map(|row| opened(row, vault)).collect()
}

/// The next lines after `row`, shown or not, in order; none at the end.
pub(super) async fn after(
    db: &Db,
    vault: &Vault,
    group: Option<GroupId>,
    row: i64,
) -> Result<Vec<Line>, Failure> {
    let rows = sqlx::query(
        "SELECT row, line FROM history
         WHERE row > $1 AND ($2 IS NULL OR group_id = $2) ORDER BY row LIMIT $3",
    )
    .bind(row)
    .bind(group.map(|group| group.as_bytes().to_vec()))
    .bind(PAGE)
    .fetch_all(db.read().await?.conn())
    .await
    .map_err(causeway_store::Error::from)?;
    rows.iter().map(|row| opened(row, vault)).collect()
}

/// These lines were shown; one commit.
pub(super) async fn mark_shown(db: &Db, lines: &[Line]) -> Result<(), Failure> {
    let last: BTreeMap<GroupId, i64> = lines.iter().map(|line| (line.group, line.row)).collect();
    let mut tx = db.begin().await?;
    for (group, row) in last {
        sqlx::query(
            "INSERT INTO shown (group_id, row) VALUES ($1, $2)
             ON CONFLICT (group_id) DO UPDATE SET row = MAX(row, excluded.row)",
        )
        .bind(group.as_bytes().as_slice())
        .bind(row)
        .execute(tx.conn())
        .await
        .map_err(causeway_store::Error::from)?;
    }
    Ok(tx.commit().await?)
}

fn opened(found: &Row, vault: &Vault) -> Result<Line, Failure> {
    let read = || Ok((found.try_get(0)?, found.try_get(1)?));
    let (row, sealed): (i64, Vec<u8>) =
        read().map_err(|e: sqlx::Error| causeway_store::Error::from(e))?;
    let json = vault
        .unseal(Class::Content, "history", "line", &row.to_be_bytes(), &sealed)
        .map_err(Failure::failed)?;
    serde_json::from_slice(&json).map_err(Failure::failed)
}
