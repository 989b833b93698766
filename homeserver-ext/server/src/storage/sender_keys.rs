//! What devices report of the sender-key chains that they hold; no secrets.

use causeway_protocol::{
    api::{PutSenderKeys, SenderKeyInventoryEntry},
    ids::{DeviceId, Timestamp},
};
use causeway_store::Conn;
use futures_util::TryStreamExt as _;

use super::{DeviceRow, Error, GroupRow, ms, name_of, time};

/// Bytes of one page, or one report.
pub(crate) const PAGE_BYTES: usize = 256 << 10;

/// Replaces what a device said.
pub(crate) async fn put(
    conn: &mut Conn,
    now: Timestamp,
    group: GroupRow,
    device: DeviceRow,
    report: &PutSenderKeys,
) -> Result<(), Error> {
    let json = serde_json::to_string(report).map_err(|_| Error::Row("report"))?;
    sqlx::query(
        "INSERT INTO sender_key_reports (grp, device, at_ms, report) VALUES ($1, $2, $3, $4)
         ON CONFLICT (grp, device) DO UPDATE SET at_ms = excluded.at_ms, report = excluded.report",
    )
    .bind(group)
    .bind(device)
    .bind(ms(now))
    .bind(json)
    .execute(conn)
    .await?;
    Ok(())
}

/// What a device said last.
pub(crate) async fn last(
    conn: &mut Conn,
    group: GroupRow,
    device: DeviceRow,
) -> Result<Option<PutSenderKeys>, Error> {
    let report =
        sqlx::query_scalar("SELECT report FROM sender_key_reports WHERE grp = $1 AND device = $2");
    let report: Option<String> = report.bind(group).bind(device).fetch_optional(conn).await?;
    report.map(|it| serde_json::from_str(&it).map_err(|_| Error::Row("report"))).transpose()
}

/// What the devices that count now said last, by device, from `from` on; at most `limit` and 256 KiB,
/// and the device with which the next page begins.
pub(crate) async fn page(
    conn: &mut Conn,
    group: GroupRow,
    from: Option<DeviceId>,
    limit: u32,
) -> Result<(Vec<SenderKeyInventoryEntry>, Option<DeviceId>), Error> {
    let mut rows = sqlx::query_as::<_, (Vec<u8>, i64, String)>(
        "SELECT d.device_id, r.at_ms, r.report
         FROM sender_key_reports r
         JOIN devices d ON d.device = r.device
         JOIN group_devices g
           ON g.grp = r.grp AND g.device_id = d.device_id AND g.member_id = d.member_id
         WHERE r.grp = $1 AND g.until_epoch IS NULL AND d.device_id >= $2
         ORDER BY d.device_id LIMIT $3",
    )
    .bind(group)
    .bind(from.as_ref().map_or(&[][..], |from| from.as_ref()))
    .bind(i64::from(limit) + 1)
    .fetch(conn);
    let (mut page, mut room) = (Vec::new(), PAGE_BYTES);
    while let Some((device, at, report)) = rows.try_next().await? {
        let device = name_of!(DeviceId, &device, "device_id")?;
        let is_full = page.len() >= limit as usize || report.len() > room;
        if is_full && !page.is_empty() {
            return Ok((page, Some(device)));
        }
        room = room.saturating_sub(report.len());
        page.push(SenderKeyInventoryEntry {
            reported_by: device,
            at_ms: time(at),
            report: serde_json::from_str(&report).map_err(|_| Error::Row("report"))?,
        });
    }
    Ok((page, None))
}

/// When it was last asked that everybody rotate.
pub(crate) async fn rotation(conn: &mut Conn, group: GroupRow) -> Result<Option<Timestamp>, Error> {
    let at: Option<i64> = sqlx::query_scalar("SELECT at_ms FROM rotations WHERE grp = $1")
        .bind(group)
        .fetch_optional(conn)
        .await?;
    Ok(at.map(time))
}

/// Asks that everybody rotate.
pub(crate) async fn ask_rotation(
    conn: &mut Conn,
    now: Timestamp,
    group: GroupRow,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO rotations (grp, at_ms) VALUES ($1, $2)
         ON CONFLICT (grp) DO UPDATE SET at_ms = excluded.at_ms",
    )
    .bind(group)
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}
