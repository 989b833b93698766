//! How many envelopes could not be opened, by group and reason, since the server was last told.

use causeway_store::Conn;
use std::collections::BTreeMap;

use causeway_protocol::ids::GroupId;

use super::Error;

/// Counts `count` more, in a group that was heard of.
pub(crate) async fn add(
    conn: &mut Conn,
    group: &GroupId,
    reason: &str,
    count: u32,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO failures (group_id, reason, n) SELECT $1, $2, $3
         WHERE EXISTS (SELECT 1 FROM groups WHERE group_id = $1)
         ON CONFLICT (group_id, reason) DO UPDATE SET n = failures.n + excluded.n",
    )
    .bind(group.as_bytes().as_slice())
    .bind(reason)
    .bind(i64::from(count))
    .execute(conn)
    .await?;
    Ok(())
}

/// What was counted in a group.
pub(crate) async fn of_group(
    conn: &mut Conn,
    group: &GroupId,
) -> Result<BTreeMap<String, u32>, Error> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT reason, n FROM failures WHERE group_id = $1 ORDER BY reason")
            .bind(group.as_bytes().as_slice())
            .fetch_all(conn)
            .await?;
    let count = |(reason, n)| (reason, u32::try_from(n).unwrap_or(u32::MAX));
    Ok(rows.into_iter().map(count).collect())
}

/// So many of a group were told; what came since is told the next time.
pub(crate) async fn told(
    conn: &mut Conn,
    group: &GroupId,
    failures: &BTreeMap<String, u32>,
) -> Result<(), Error> {
    for (reason, count) in failures {
        sqlx::query("UPDATE failures SET n = n - $3 WHERE group_id = $1 AND reason = $2")
            .bind(group.as_bytes().as_slice())
            .bind(reason)
            .bind(i64::from(*count))
            .execute(&mut *conn)
            .await?;
    }
    sqlx::query("DELETE FROM failures WHERE group_id = $1 AND n <= 0")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}
