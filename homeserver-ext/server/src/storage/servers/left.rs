//! Who was to read what another server's device said, and was taken out before it came: he is not given it, and
//! its sender is told.

use causeway_protocol::{
    envelope::{Kind, Submission, SubmittedTo},
    ids::{DeviceId, EnvelopeId, Epoch},
};
use causeway_store::Conn;

use super::progress;
use crate::storage::{DeviceRow, Error, GroupRow, groups::Group, mailbox::take_numbers, name_of};

/// How the sender's server is told.
pub(crate) const LEFT: &str = "left";

/// Has the server told for which devices here these came behind the op that took them out.
pub(crate) async fn owe(
    conn: &mut Conn,
    server: i64,
    sender: &DeviceId,
    group: &Group,
    new: &[(EnvelopeId, &Submission)],
) -> Result<(), Error> {
    let is_said = |of: &Submission| matches!(of.kind, Kind::Message | Kind::Fanout);
    for (id, said) in new.iter().filter(|(_, of)| is_said(of) && of.epoch < group.head.epoch) {
        let gone = gone(conn, group.row, said.epoch).await?;
        let gone = gone.into_iter().filter(|(_, device)| match &said.to {
            SubmittedTo::Broadcast => true,
            SubmittedTo::Device(one) => one == device,
            SubmittedTo::Devices(pieces) => pieces.contains_key(device),
        });
        let gone: Vec<DeviceRow> = gone.map(|(row, _)| row).collect();
        let first = take_numbers(conn, gone.len()).await?;
        for (n, device) in (first..).zip(gone) {
            let what = (sender, *id);
            progress::owe_failed(conn, server, (n, group.head.group), what, (device, LEFT)).await?;
        }
    }
    Ok(())
}

/// The devices here that counted at this epoch, and were taken out since.
async fn gone(
    conn: &mut Conn,
    group: GroupRow,
    epoch: Epoch,
) -> Result<Vec<(DeviceRow, DeviceId)>, Error> {
    let rows: Vec<(DeviceRow, Vec<u8>)> = sqlx::query_as(
        "SELECT d.device, d.device_id FROM group_devices g
         JOIN devices d ON d.device_id = g.device_id AND d.member_id = g.member_id
         WHERE g.grp = $1 AND g.from_epoch <= $2 AND g.until_epoch > $2 AND d.server IS NULL",
    )
    .bind(group)
    .bind(i64::from(epoch.0))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|(row, id)| Ok((row, name_of!(DeviceId, &id, "device_id")?))).collect()
}
