//! Rooms on the server for bigger calls in which those of Matrix wait for the next call of their group.

use causeway_store::Conn;

use super::{Error, GroupRow};

/// Of so many of a group it is known that they may wait; of further ones it is taken to be so.
const MOST_WAITING: i64 = 1_000;

/// The room of a group's next call, if one was drawn.
pub(crate) async fn of(conn: &mut Conn, group: GroupRow) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar("SELECT room FROM group_rooms WHERE grp = $1")
        .bind(group)
        .fetch_optional(conn)
        .await?)
}

/// Writes it down; one that was drawn before stays.
pub(crate) async fn put(conn: &mut Conn, group: GroupRow, room: &str) -> Result<(), Error> {
    sqlx::query("INSERT INTO group_rooms (grp, room) VALUES ($1, $2) ON CONFLICT (grp) DO NOTHING")
        .bind(group)
        .bind(room)
        .execute(conn)
        .await?;
    Ok(())
}

/// A user is let in there; false where the next call has another room by now.
pub(crate) async fn lets_in(
    conn: &mut Conn,
    group: GroupRow,
    room: &str,
    guest: &str,
) -> Result<bool, Error> {
    if of(conn, group).await?.as_deref() != Some(room) {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO waiting_guests (grp, guest) SELECT $1, $2
         WHERE (SELECT count(*) FROM waiting_guests WHERE grp = $1) < $3 ON CONFLICT DO NOTHING",
    )
    .bind(group)
    .bind(guest)
    .bind(MOST_WAITING)
    .execute(conn)
    .await?;
    Ok(true)
}

/// Whether a user may wait there.
pub(crate) async fn may_wait(conn: &mut Conn, group: GroupRow, guest: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM waiting_guests WHERE grp = $1 AND guest = $2)
            OR (SELECT count(*) FROM waiting_guests WHERE grp = $1) >= $3",
    )
    .bind(group)
    .bind(guest)
    .bind(MOST_WAITING)
    .fetch_one(conn)
    .await?)
}

/// A call of the group has opened it: the next one has another.
pub(crate) async fn opened(conn: &mut Conn, group: GroupRow, room: &str) -> Result<(), Error> {
    if of(conn, group).await?.as_deref() == Some(room) {
        forget(conn, group).await?;
    }
    Ok(())
}

/// Nobody waits there any more, whatever it is called.
pub(crate) async fn forget(conn: &mut Conn, group: GroupRow) -> Result<(), Error> {
    sqlx::query("DELETE FROM waiting_guests WHERE grp = $1")
        .bind(group)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM group_rooms WHERE grp = $1").bind(group).execute(conn).await?;
    Ok(())
}

/// Likewise, of all groups.
pub(crate) async fn forget_all(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("DELETE FROM waiting_guests").execute(&mut *conn).await?;
    sqlx::query("DELETE FROM group_rooms").execute(conn).await?;
    Ok(())
}

/// Whether the next call of a group has it.
pub(crate) async fn is_known(conn: &mut Conn, room: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM group_rooms WHERE room = $1)")
        .bind(room)
        .fetch_one(conn)
        .await?)
}
