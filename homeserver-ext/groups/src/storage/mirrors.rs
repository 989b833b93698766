//! How a bridge calls Matrix users, as it announced them, and who of them reads.

use causeway_protocol::ids::GroupId;
use causeway_store::Conn;
use sqlx::Row as _;

use super::Error;

/// A Matrix user who reads through the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reader {
    /// `@u:hs`.
    pub(crate) id: String,
    /// What the bridge calls him.
    pub(crate) name: String,
}

pub(crate) async fn put(
    conn: &mut Conn,
    group: &GroupId,
    matrix_id: &str,
    name: &str,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO mirrors (group_id, matrix_id, name, present) VALUES ($1, $2, $3, TRUE)
         ON CONFLICT (group_id, matrix_id) DO UPDATE SET name = excluded.name, present = TRUE",
    )
    .bind(group.as_bytes().as_slice())
    .bind(matrix_id)
    .bind(name)
    .execute(conn)
    .await?;
    Ok(())
}

/// The name of one who has any.
pub(crate) async fn name(
    conn: &mut Conn,
    group: &GroupId,
    matrix_id: &str,
) -> Result<Option<String>, Error> {
    let name = sqlx::query_scalar(
        "SELECT name FROM mirrors WHERE group_id = $1 AND matrix_id = $2 AND name <> ''",
    )
    .bind(group.as_bytes().as_slice())
    .bind(matrix_id)
    .fetch_optional(conn)
    .await?;
    Ok(name)
}

/// One does not read any more; what he said keeps his name.
pub(crate) async fn gone(conn: &mut Conn, group: &GroupId, matrix_id: &str) -> Result<(), Error> {
    sqlx::query("UPDATE mirrors SET present = FALSE WHERE group_id = $1 AND matrix_id = $2")
        .bind(group.as_bytes().as_slice())
        .bind(matrix_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Nobody reads any more: the bridge begins anew.
pub(crate) async fn all_gone(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query("UPDATE mirrors SET present = FALSE WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Who reads, by their ids, from `from` on and at most `limit`.
pub(crate) async fn readers(
    conn: &mut Conn,
    group: &GroupId,
    from: &str,
    limit: u32,
) -> Result<Vec<Reader>, Error> {
    let rows = sqlx::query(
        "SELECT matrix_id, name FROM mirrors
         WHERE group_id = $1 AND matrix_id >= $2 AND present = TRUE
         ORDER BY matrix_id LIMIT $3",
    )
    .bind(group.as_bytes().as_slice())
    .bind(from)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| Ok(Reader { id: row.try_get(0)?, name: row.try_get(1)? })).collect()
}

/// How many read.
pub(crate) async fn count(conn: &mut Conn, group: &GroupId) -> Result<usize, Error> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM mirrors WHERE group_id = $1 AND present = TRUE")
            .bind(group.as_bytes().as_slice())
            .fetch_one(conn)
            .await?;
    Ok(usize::try_from(count).unwrap_or_default())
}
