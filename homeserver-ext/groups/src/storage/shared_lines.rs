//! Lines of the history that somebody shared: by whom, under the name that the text is said to have.

use causeway_protocol::{
    content::MessageRef,
    ids::{GroupId, MemberId},
};
use causeway_store::Conn;

use super::{Error, Whole as _};

/// Whoever gave this text, and the row of it.
pub(crate) async fn of(
    conn: &mut Conn,
    group: &GroupId,
    said: &MessageRef,
) -> Result<Vec<(MemberId, i64)>, Error> {
    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT by_member, row FROM shared_lines
         WHERE group_id = $1 AND device = $2 AND client_id = $3 ORDER BY row LIMIT 64",
    )
    .bind(group.as_bytes().as_slice())
    .bind(said.device.as_bytes().as_slice())
    .bind(said.client_id.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    let read = |(member, row): (Vec<u8>, i64)| {
        Ok((MemberId::from_slice(&member).whole("shared_lines")?, row))
    };
    rows.into_iter().map(read).collect()
}

/// Notes in which row a text is that `by` gave.
pub(crate) async fn note(
    conn: &mut Conn,
    group: &GroupId,
    said: &MessageRef,
    by: &MemberId,
    row: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO shared_lines (group_id, device, client_id, by_member, row)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(said.device.as_bytes().as_slice())
    .bind(said.client_id.as_bytes().as_slice())
    .bind(by.as_bytes().as_slice())
    .bind(row)
    .execute(conn)
    .await?;
    Ok(())
}
