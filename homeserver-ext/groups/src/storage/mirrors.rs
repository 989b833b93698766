//! How a bridge calls Matrix users, as it announced them.

use causeway_protocol::ids::GroupId;
use causeway_store::Conn;

use super::Error;

pub(crate) async fn put(
    conn: &mut Conn,
    group: &GroupId,
    matrix_id: &str,
    name: &str,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO mirrors (group_id, matrix_id, name) VALUES ($1, $2, $3)
         ON CONFLICT (group_id, matrix_id) DO UPDATE SET name = excluded.name",
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
