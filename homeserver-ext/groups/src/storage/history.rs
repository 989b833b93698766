//! Lines that came in, in their order and sealed, and how far they were shown.

use causeway_protocol::{
    content::MessageRef,
    ids::{ClientId, DeviceId, GroupId, Timestamp},
};
use causeway_store::Conn;
use zeroize::Zeroizing;

use super::{Error, ms};
use crate::vault::{Class, Vault};

/// Lines read at once; a long history does not fill the memory.
pub(crate) const PAGE: u32 = 256;

/// The last row, also where its group was forgotten, or 0 if nothing came in yet.
pub(crate) async fn last(conn: &mut Conn) -> Result<i64, Error> {
    let last = sqlx::query_scalar(
        "SELECT COALESCE(MAX(row), 0) FROM (
             SELECT MAX(row) AS row FROM history UNION ALL SELECT MAX(row) FROM forgotten) AS ends",
    );
    Ok(last.fetch_one(conn).await?)
}

/// What a message is called, which is known of its line unopened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    /// Which device said it.
    pub(crate) device: DeviceId,
    /// What that device calls it.
    pub(crate) client_id: ClientId,
    /// Whether that device is this one.
    pub(crate) own: bool,
}

/// Adds a line; with a name where it is a message.
pub(crate) async fn insert(
    conn: &mut Conn,
    vault: &Vault,
    row: i64,
    group: &GroupId,
    at: Timestamp,
    name: Option<&Name>,
    line: &[u8],
) -> Result<(), Error> {
    let place = row.to_be_bytes();
    sqlx::query(
        "INSERT INTO history (row, group_id, at_ms, line, device, client_id, own)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(row)
    .bind(group.as_bytes().as_slice())
    .bind(ms(at))
    .bind(vault.seal(Class::Content, "history", "line", &place, line)?)
    .bind(name.map(|name| name.device.as_bytes().as_slice()))
    .bind(name.map(|name| name.client_id.as_bytes().as_slice()))
    .bind(name.is_some_and(|name| name.own))
    .execute(conn)
    .await?;
    Ok(())
}

/// The line of a row, if it is one of this group.
pub(crate) async fn line(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    row: i64,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let found = sqlx::query_as("SELECT row, line FROM history WHERE row = $1 AND group_id = $2")
        .bind(row)
        .bind(group.as_bytes().as_slice())
        .fetch_all(conn)
        .await?;
    Ok(opened(vault, found)?.pop())
}

/// The row of a message, if it is here.
pub(crate) async fn row_of(
    conn: &mut Conn,
    group: &GroupId,
    said: &MessageRef,
) -> Result<Option<i64>, Error> {
    let row = sqlx::query_scalar(
        "SELECT MIN(row) FROM history WHERE client_id = $1 AND device = $2 AND group_id = $3",
    )
    .bind(said.client_id.as_bytes().as_slice())
    .bind(said.device.as_bytes().as_slice())
    .bind(group.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    Ok(row)
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

/// The last lines of a group before `row`, in order, at most `limit`.
pub(crate) async fn of_group_before(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    row: i64,
    limit: u32,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    let mut rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT row, line FROM history WHERE group_id = $1 AND row < $2
         ORDER BY row DESC LIMIT $3",
    )
    .bind(group.as_bytes().as_slice())
    .bind(row)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.reverse();
    opened(vault, rows)
}

/// The first lines of a group after `row`, in order, at most `limit`.
pub(crate) async fn of_group_after(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    row: i64,
    limit: u32,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    let rows = sqlx::query_as(
        "SELECT row, line FROM history WHERE group_id = $1 AND row > $2 ORDER BY row LIMIT $3",
    )
    .bind(group.as_bytes().as_slice())
    .bind(row)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    opened(vault, rows)
}

/// As [`of_group_before`] over all groups, a page of it.
pub(crate) async fn before(
    conn: &mut Conn,
    vault: &Vault,
    row: i64,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    let mut rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT row, line FROM history WHERE row < $1 ORDER BY row DESC LIMIT $2")
            .bind(row)
            .bind(PAGE)
            .fetch_all(conn)
            .await?;
    rows.reverse();
    opened(vault, rows)
}

/// How many messages of others in a group were not shown yet.
pub(crate) async fn unread(conn: &mut Conn, group: &GroupId) -> Result<usize, Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM history
         WHERE group_id = $1 AND client_id IS NOT NULL AND own = FALSE
             AND row > COALESCE((SELECT row FROM shown WHERE group_id = $1), 0)",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_one(conn)
    .await?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Up to which row the lines of a group were shown.
pub(crate) async fn shown(conn: &mut Conn, group: &GroupId) -> Result<Option<i64>, Error> {
    let row = sqlx::query_scalar("SELECT row FROM shown WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .fetch_optional(conn)
        .await?;
    Ok(row)
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
