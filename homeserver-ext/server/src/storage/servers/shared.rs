//! The groups that this server shares with another, and how far that one may know of them.

use causeway_protocol::{
    device::{DeviceList, DeviceOf},
    ids::{Epoch, GroupId, RosterHash},
    link::Head,
};
use causeway_store::Conn;

use crate::storage::{Error, GroupRow, groups::Group, name_of, number};

/// Where the groups stand in which devices of the server count, by id behind `after`, so many at most.
pub(crate) async fn heads(
    conn: &mut Conn,
    server: i64,
    after: Option<GroupId>,
    most: u32,
) -> Result<Vec<Head>, Error> {
    let rows: Vec<(Vec<u8>, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT group_id, epoch, roster_hash FROM groups WHERE group_id > $2 AND grp IN (
            SELECT o.grp FROM devices d JOIN group_devices o
                ON o.device_id = d.device_id AND o.member_id = d.member_id
            WHERE d.server = $1 AND o.until_epoch IS NULL)
         ORDER BY group_id LIMIT $3",
    )
    .bind(server)
    .bind(after.as_ref().map_or(&[][..], |after| after.as_ref()))
    .bind(i64::from(most))
    .fetch_all(conn)
    .await?;
    let heads = rows.into_iter().map(|(group, epoch, hash)| {
        Ok(Head {
            group: name_of!(GroupId, &group, "group_id")?,
            stream: None,
            seq: None,
            epoch: Epoch(number(epoch, "epoch")?),
            roster_hash: name_of!(RosterHash, &hash, "roster_hash")?,
        })
    });
    heads.collect()
}

/// The op that took a server's last device out, as far as that is known.
pub(crate) async fn was_in_until(
    conn: &mut Conn,
    group: GroupRow,
    server: &str,
) -> Result<Option<Epoch>, Error> {
    let until: Option<i64> = sqlx::query_scalar(
        "SELECT max(o.until_epoch) FROM servers s JOIN devices d ON d.server = s.server
         JOIN group_devices o ON o.device_id = d.device_id AND o.grp = $1
            AND o.member_id = d.member_id
         WHERE s.name = $2",
    )
    .bind(group)
    .bind(server)
    .fetch_one(conn)
    .await?;
    until.map(|until| Ok(Epoch(number(until, "until_epoch")?))).transpose()
}

/// Up to which op a server may read a group's log: its home, and one with members, all of it; one that had
/// some up to the op that took out the last; others nothing.
pub(crate) async fn reads_until(
    conn: &mut Conn,
    group: &Group,
    server: &str,
) -> Result<Option<Epoch>, Error> {
    let home = crate::storage::groups::home(conn, group.head.group).await?;
    if home.as_deref() == Some(server) {
        return Ok(Some(group.head.epoch));
    }
    let roster = crate::storage::groups::roster(conn, group.row).await?;
    if roster.members().values().any(|member| member.account.server() == server) {
        return Ok(Some(group.head.epoch));
    }
    was_in_until(conn, group.row, server).await
}

/// Has those devices of an account known that groups here name already: a third server may have shown
/// them later than the home gave the ops.
pub(crate) async fn know_named(conn: &mut Conn, said: &DeviceList) -> Result<(), Error> {
    for device in &said.devices {
        let is_named: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM group_members m JOIN group_devices g
                ON g.grp = m.grp AND g.device_id = $3 AND g.member_id = m.member_id
                WHERE m.account = $1 AND m.member_id = $2)
             AND NOT EXISTS (SELECT 1 FROM devices WHERE device_id = $3)",
        )
        .bind(said.account.as_str())
        .bind(said.member_id.as_ref())
        .bind(device.as_ref())
        .fetch_one(&mut *conn)
        .await?;
        if is_named {
            let device = DeviceOf { member_id: said.member_id, device_id: *device };
            super::know_device(conn, &said.account, &device).await?;
        }
    }
    Ok(())
}
