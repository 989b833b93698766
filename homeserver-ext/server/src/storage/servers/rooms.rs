//! The relay rooms of groups (protocol §7.4).

use causeway_protocol::ids::{AccountId, GroupId};
use causeway_store::Conn;
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
        let creator: Option<&str> = row.try_get(2)?;
        let creator = creator.map(str::parse::<AccountId>).transpose();
        let creator = creator.map_err(|_| Error::Row("creator"))?;
        Ok(Shared {
            row: row.try_get(0)?,
            group: name_of!(GroupId, row.try_get::<&[u8], _>(1)?, "group_id")?,
            home: creator.map(|creator| creator.server().to_owned()),
            room: row.try_get(3)?,
            server: row.try_get(4)?,
            has_own: row.try_get(5)?,
        })
    });
    rows.collect()
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
