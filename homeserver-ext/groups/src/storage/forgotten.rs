//! Groups that are over and were forgotten: their rows go, and what comes of them still is known.

use causeway_protocol::ids::{Epoch, GroupId};
use causeway_store::Conn;

use super::Error;

/// Lets go of the oldest `most` lines of a group; whether there may be more.
pub(crate) async fn drop_lines(conn: &mut Conn, group: &GroupId, most: u32) -> Result<bool, Error> {
    let done = sqlx::query(
        "DELETE FROM history WHERE row IN (
             SELECT row FROM history WHERE group_id = $1
             AND row < (SELECT MAX(row) FROM history) ORDER BY row LIMIT $2)",
    )
    .bind(group.as_bytes().as_slice())
    .bind(most)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() >= u64::from(most))
}

/// Lets go of all that is left of a group whose head is at `epoch`.
pub(crate) async fn forget(conn: &mut Conn, group: &GroupId, epoch: Epoch) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO forgotten (group_id, epoch, row)
         VALUES ($1, $2, (SELECT COALESCE(MAX(row), 0) FROM history))
         ON CONFLICT (group_id) DO UPDATE SET epoch = excluded.epoch, row = excluded.row",
    )
    .bind(group.as_bytes().as_slice())
    .bind(i64::from(epoch.0))
    .execute(&mut *conn)
    .await?;
    let id = group.as_bytes().as_slice();
    // What is found through other rows goes first.
    sqlx::query(
        "DELETE FROM owed_invites WHERE ik_pub IN (SELECT ik_pub FROM invites WHERE group_id = $1)",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "DELETE FROM link_uses WHERE ik_pub IN (SELECT ik_pub FROM invites WHERE group_id = $1)",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM invites WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM revoked_links WHERE group_id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM owed_words WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM joins WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM history WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM shown WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM mirrors WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM batches WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM outbox WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM outgoing WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    super::shared_keys::forget(conn, group).await?;
    super::shares::forget(conn, group).await?;
    sqlx::query("DELETE FROM own_chains WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM owed_pieces WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM fan_outs WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM given WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM held_chains WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM legacy_own WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM legacy_given WHERE group_id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM legacy_held WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM holds WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM acks_due WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM key_requests WHERE group_id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM parked WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM offered_rows WHERE group_id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM failures WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM places WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM ops WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM groups WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    Ok(())
}

/// Where a group stood that was forgotten.
pub(crate) async fn epoch(conn: &mut Conn, group: &GroupId) -> Result<Option<Epoch>, Error> {
    let epoch: Option<u32> = sqlx::query_scalar("SELECT epoch FROM forgotten WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .fetch_optional(conn)
        .await?;
    Ok(epoch.map(Epoch))
}
