//! The relay rooms of groups (protocol §7.4).

use causeway_protocol::ids::{AccountId, GroupId};
use causeway_store::{Conn, Row};
use sqlx::Row as _;

use crate::storage::{Error, GroupRow, name_of};

/// A group that is shared with a server.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) row: GroupRow,
    pub(crate) group: GroupId,
    /// Who orders its ops; none of one from before that was kept, whose home is here.
    pub(crate) home: Option<String>,
    /// Its room, if there is one.
    pub(crate) room: Option<String>,
    /// A server with devices in it.
    pub(crate) server: String,
    /// Whether devices here are in it.
    pub(crate) has_own: bool,
}

/// The groups that are shared with others, once for each server, 32,768 rows at most.
pub(crate) async fn shared(conn: &mut Conn) -> Result<Vec<Shared>, Error> {
    let rows = sqlx::query(
        "SELECT g.grp, g.group_id, g.creator, r.room_id, s.name,
            EXISTS (SELECT 1 FROM group_devices o JOIN devices d
                ON d.device_id = o.device_id AND d.member_id = o.member_id AND d.server IS NULL
                WHERE o.grp = g.grp AND o.until_epoch IS NULL)
         FROM (SELECT DISTINCT o.grp, d.server FROM devices d JOIN group_devices o
                ON o.device_id = d.device_id AND o.member_id = d.member_id
                WHERE d.server IS NOT NULL AND o.until_epoch IS NULL) m
         JOIN groups g ON g.grp = m.grp AND g.closed = FALSE
         JOIN servers s ON s.server = m.server
         LEFT JOIN relay_rooms r ON r.grp = g.grp
         ORDER BY g.grp, s.name LIMIT 32768",
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.iter().map(|row| {
        Ok(Shared {
            row: row.try_get(0)?,
            group: name_of!(GroupId, row.try_get::<&[u8], _>(1)?, "group_id")?,
            home: home(row.try_get(2)?)?,
            room: row.try_get(3)?,
            server: row.try_get(4)?,
            has_own: row.try_get(5)?,
        })
    });
    rows.collect()
}

/// A group that is shared with a server, and its room.
#[derive(Debug)]
pub(crate) struct Roomed {
    pub(crate) row: GroupRow,
    pub(crate) group: GroupId,
    pub(crate) room: String,
}

/// The groups with a room that are shared with the server of this name, by id behind `after`, so many at most.
pub(crate) async fn with(
    conn: &mut Conn,
    name: &str,
    after: Option<GroupId>,
    most: u32,
) -> Result<Vec<Roomed>, Error> {
    let rows = sqlx::query(
        "SELECT g.grp, g.group_id, r.room_id FROM relay_rooms r
         JOIN groups g ON g.grp = r.grp AND g.closed = FALSE
         WHERE g.group_id > $2 AND EXISTS (SELECT 1 FROM group_devices o
            JOIN devices d ON d.device_id = o.device_id AND d.member_id = o.member_id
            JOIN servers s ON s.server = d.server
            WHERE o.grp = r.grp AND o.until_epoch IS NULL AND s.name = $1)
         ORDER BY g.group_id LIMIT $3",
    )
    .bind(name)
    .bind(after.as_ref().map_or(&[][..], |after| after.as_ref()))
    .bind(i64::from(most))
    .fetch_all(conn)
    .await?;
    rows.iter().map(roomed).collect()
}

/// The rooms of groups that are closed, or have no member on another server any more, each with who orders
/// the ops as [`Shared`] has it; 32,768 at most.
pub(crate) async fn over(conn: &mut Conn) -> Result<Vec<(Roomed, Option<String>)>, Error> {
    let rows = sqlx::query(
        "SELECT g.grp, g.group_id, r.room_id, g.creator FROM relay_rooms r
         JOIN groups g ON g.grp = r.grp
         WHERE g.closed = TRUE OR NOT EXISTS (SELECT 1 FROM group_devices o
            JOIN devices d ON d.device_id = o.device_id AND d.member_id = o.member_id
            WHERE o.grp = r.grp AND o.until_epoch IS NULL AND d.server IS NOT NULL)
         ORDER BY g.grp LIMIT 32768",
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((roomed(row)?, home(row.try_get(3)?)?))).collect()
}

fn roomed(row: &Row) -> Result<Roomed, Error> {
    Ok(Roomed {
        row: row.try_get(0)?,
        group: name_of!(GroupId, row.try_get::<&[u8], _>(1)?, "group_id")?,
        room: row.try_get(2)?,
    })
}

/// Who orders the ops of a group with this creator.
fn home(creator: Option<&str>) -> Result<Option<String>, Error> {
    let creator = creator.map(str::parse::<AccountId>).transpose();
    Ok(creator.map_err(|_| Error::Row("creator"))?.map(|creator| creator.server().to_owned()))
}

/// Whether a group is open, and members are here.
pub(crate) async fn is_wanted(conn: &mut Conn, group: GroupRow) -> Result<bool, Error> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM groups g
            JOIN group_devices o ON o.grp = g.grp AND o.until_epoch IS NULL
            JOIN devices d ON d.device_id = o.device_id AND d.member_id = o.member_id
            WHERE g.grp = $1 AND g.closed = FALSE AND d.server IS NULL)",
    );
    Ok(query.bind(group).fetch_one(conn).await?)
}

/// A group's room.
pub(crate) async fn of(conn: &mut Conn, group: GroupId) -> Result<Option<String>, Error> {
    let query = sqlx::query_scalar(
        "SELECT r.room_id FROM groups g JOIN relay_rooms r ON r.grp = g.grp WHERE g.group_id = $1",
    );
    Ok(query.bind(group.as_ref()).fetch_optional(conn).await?)
}

/// From now on this is the group's room.
pub(crate) async fn set(conn: &mut Conn, group: GroupRow, room: &str) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO relay_rooms (grp, room_id) VALUES ($1, $2)
         ON CONFLICT (grp) DO UPDATE SET room_id = excluded.room_id",
    )
    .bind(group)
    .bind(room)
    .execute(conn)
    .await?;
    Ok(())
}

/// From now on the group has no room.
pub(crate) async fn forget(conn: &mut Conn, group: GroupRow) -> Result<(), Error> {
    sqlx::query("DELETE FROM relay_rooms WHERE grp = $1").bind(group).execute(conn).await?;
    Ok(())
}
