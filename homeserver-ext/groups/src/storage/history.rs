//! Lines that came in, in their order and sealed, and how far they were shown.

use causeway_protocol::ids::{GroupId, Timestamp};
use causeway_store::Conn;
use zeroize::Zeroizing;

use super::{Error, ms};
use crate::vault::{Class, Vault};

/// Lines read at once; a long history does not fill the memory.
const PAGE: i64 = 256;

/// The last row, also where its group was forgotten, or 0 if nothing came in yet.
pub(crate) async fn last(conn: &mut Conn) -> Result<i64, Error> {
    let last = sqlx::query_scalar(
        "SELECT COALESCE(MAX(row), 0) FROM (
             SELECT MAX(row) AS row FROM history UNION ALL SELECT MAX(row) FROM forgotten) AS ends",
    );
    Ok(last.fetch_one(conn).await?)
}

pub(crate) async fn insert(
    conn: &mut Conn,
    vault: &Vault,
    row: i64,
    group: &GroupId,
    at: Timestamp,
    line: &[u8],
) -> Result<(), Error> {
    let place = row.to_be_bytes();
    sqlx::query("INSERT INTO history (row, group_id, at_ms, line) VALUES ($1, $2, $3, $4)")
        .bind(row)
        .bind(group.as_bytes().as_slice())
        .bind(ms(at))
        .bind(vault.seal(Class::Content, "history", "line", &place, line)?)
        .execute(conn)
        .await?;
    Ok(())
}

/// The next lines that were not shown yet, in order; none at the end.
pub(crate) async fn unshown(
    conn: &mut Conn,
    vault: &Vault,
    group: Option<&GroupId>,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    let rows = sqlx::query_as(
        "SELECT history.row, history.line FROM history
         LEFT JOIN shown ON shown.group_id = history.group_id
         WHERE history.row > COALESCE(shown.row, 0) AND history.group_id = COALESCE($1, history.group_id)
         ORDER BY history.row LIMIT $2",
    )
    .bind(group.map(|group| group.as_bytes().as_slice()))
    .bind(PAGE)
    .fetch_all(conn)
    .await?;
    opened(vault, rows)
}

/// The next lines after `row`, shown or not, in order; none at the end.
pub(crate) async fn after(
    conn: &mut Conn,
    vault: &Vault,
    group: Option<&GroupId>,
    row: i64,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    let rows = sqlx::query_as(
        "SELECT row, line FROM history
         WHERE row > $1 AND group_id = COALESCE($2, group_id) ORDER BY row LIMIT $3",
    )
    .bind(row)
    .bind(group.map(|group| group.as_bytes().as_slice()))
    .bind(PAGE)
    .fetch_all(conn)
    .await?;
    opened(vault, rows)
}

/// The lines of a group were shown up to `row`.
pub(crate) async fn mark_shown(conn: &mut Conn, group: &GroupId, row: i64) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO shown (group_id, row) VALUES ($1, $2)
         ON CONFLICT (group_id) DO UPDATE SET row = excluded.row WHERE shown.row < excluded.row",
    )
    .bind(group.as_bytes().as_slice())
    .bind(row)
    .execute(conn)
    .await?;
    Ok(())
}

fn opened(vault: &Vault, rows: Vec<(i64, Vec<u8>)>) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    let open = |(row, sealed): (i64, Vec<u8>)| {
        Ok(vault.unseal(Class::Content, "history", "line", &row.to_be_bytes(), &sealed)?)
    };
    rows.into_iter().map(open).collect()
}
