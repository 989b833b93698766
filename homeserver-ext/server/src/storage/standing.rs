//! How a device stands to a group: whether it counts, counted, or may bring itself in.

use causeway_protocol::{
    device::DeviceOf,
    ids::{Epoch, GroupId},
    roster::Role,
};
use causeway_store::{Conn, Row, Script};
use sqlx::{FromRow as _, Row as _};

use super::{
    Error, GroupRow,
    devices::Device,
    groups::{Group, GroupColumns},
    number,
};

/// How a device stands to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It counts since this epoch; its member's role.
    Counts(Epoch, Role),
    /// Its account is in the group, and the ops do not name it: it may bring itself in.
    Listed,
    /// It counted until the op that made this epoch.
    Until(Epoch),
    /// It never counted.
    None,
}

/// A device's place in a group, if it ever had one, and its member's role.
#[derive(sqlx::FromRow)]
struct InGroup {
    from_epoch: Option<i64>,
    until_epoch: Option<i64>,
    role: Option<i64>,
}

impl TryFrom<InGroup> for Standing {
    type Error = Error;

    fn try_from(columns: InGroup) -> Result<Self, Error> {
        Ok(match columns {
            InGroup { from_epoch: Some(from), until_epoch: None, role: Some(role) } => {
                let role = Role::from_number(number(role, "role")?).ok_or(Error::Row("role"))?;
                Self::Counts(Epoch(number(from, "from_epoch")?), role)
            }
            InGroup { .. } => Self::None,
        })
    }
}

/// How a device stands to a group; the caller has seen that its account's newest list names it.
pub(crate) async fn of_device(
    conn: &mut Conn,
    group: GroupRow,
    device: &DeviceOf,
    account: &str,
) -> Result<Standing, Error> {
    let row: Option<InGroup> = sqlx::query_as(
        "SELECT d.from_epoch, d.until_epoch, m.role
         FROM group_devices d
         LEFT JOIN group_members m
           ON m.grp = d.grp AND m.member_id = d.member_id AND m.account = $4
         WHERE d.grp = $1 AND d.device_id = $2 AND d.member_id = $3
         ORDER BY d.from_epoch DESC LIMIT 1",
    )
    .bind(group)
    .bind(device.device_id.as_ref())
    .bind(device.member_id.as_ref())
    .bind(account)
    .fetch_optional(&mut *conn)
    .await?;
    let until = row.as_ref().and_then(|row| row.until_epoch);
    if let Some(counts @ Standing::Counts(..)) = row.map(Standing::try_from).transpose()? {
        return Ok(counts);
    }
    if is_member(conn, group, device, account).await? {
        return Ok(Standing::Listed);
    }
    Ok(match until {
        Some(until) => Standing::Until(Epoch(number(until, "until_epoch")?)),
        None => Standing::None,
    })
}

async fn is_member(
    conn: &mut Conn,
    group: GroupRow,
    device: &DeviceOf,
    account: &str,
) -> Result<bool, Error> {
    let members: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM group_members WHERE grp = $1 AND member_id = $2 AND account = $3",
    )
    .bind(group)
    .bind(device.member_id.as_ref())
    .bind(account)
    .fetch_one(conn)
    .await?;
    Ok(members > 0)
}

/// Selects one row: the last number that was given, a group by its id if there is one, and whether a
/// device counts in it; read with [`read`].
pub(super) fn select(script: &mut Script, group: GroupId, device: &Device) {
    let query = script.add(
        "SELECT n.last, g.grp, g.group_id, g.epoch, g.roster_hash, g.name, g.members, g.closed,
            g.ttl_s, g.stale_below, g.devices, d.from_epoch, d.until_epoch, m.role
         FROM numbers n
         LEFT JOIN groups g ON g.group_id = $1
         LEFT JOIN group_devices d
           ON d.grp = g.grp AND d.device_id = $2 AND d.member_id = $3
         LEFT JOIN group_members m
           ON m.grp = d.grp AND m.member_id = d.member_id AND m.account = $4
         ORDER BY d.from_epoch DESC LIMIT 1",
    );
    query
        .bind(group.as_ref())
        .bind(device.device_id.as_ref())
        .bind(device.member_id.as_ref())
        .bind(device.account.as_str());
}

/// What [`select`] selected: that the device counts, or [`Standing::None`].
pub(super) fn read(row: &Row) -> Result<Option<(Group, Standing)>, Error> {
    let grp: Option<i64> = row.try_get("grp")?;
    if grp.is_none() {
        return Ok(None);
    }
    let group = GroupColumns::from_row(row)?.try_into()?;
    Ok(Some((group, InGroup::from_row(row)?.try_into()?)))
}

/// Whether a device was taken out of the group by an op after this epoch.
pub(crate) async fn was_cut_since(
    conn: &mut Conn,
    group: GroupRow,
    epoch: Epoch,
) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM group_devices WHERE grp = $1 AND until_epoch > $2)",
    )
    .bind(group)
    .bind(i64::from(epoch.0))
    .fetch_one(conn)
    .await?)
}
