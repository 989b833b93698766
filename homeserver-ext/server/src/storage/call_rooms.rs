//! Rooms of calls on the server for bigger calls, until it is known that they are closed.

use causeway_store::Conn;

use super::Error;

/// Writes down that a call's room may be there from now on.
pub(crate) async fn put(conn: &mut Conn, call: i64, room: &str) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO call_rooms (number, room) VALUES ($1, $2) ON CONFLICT (number) DO NOTHING",
    )
    .bind(call)
    .bind(room)
    .execute(conn)
    .await?;
    Ok(())
}

/// Rooms in the order of their calls, after that of `after`.
pub(crate) async fn page(
    conn: &mut Conn,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, String)>, Error> {
    Ok(sqlx::query_as(
        "SELECT number, room FROM call_rooms WHERE number > $1 ORDER BY number LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?)
}

/// Whose room is called so: the newest call's.
pub(crate) async fn by_name(conn: &mut Conn, room: &str) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT number FROM call_rooms WHERE room = $1 ORDER BY number DESC LIMIT 1",
    )
    .bind(room)
    .fetch_optional(conn)
    .await?)
}

/// Whether another call has this room, too: those of a group with a bridge have one.
pub(crate) async fn is_of_another(conn: &mut Conn, room: &str, call: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM call_rooms WHERE room = $1 AND number <> $2)",
    )
    .bind(room)
    .bind(call)
    .fetch_one(conn)
    .await?)
}

/// Forgets a room that is closed.
pub(crate) async fn forget(conn: &mut Conn, call: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM call_rooms WHERE number = $1").bind(call).execute(conn).await?;
    Ok(())
}
