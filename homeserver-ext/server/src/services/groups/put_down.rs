//! An op that was judged, put down: the same at its group's home and at a replica.

use std::collections::BTreeSet;

use causeway_protocol::{
    device::DeviceOf,
    envelope::MAX_TTL_MS,
    ids::{AccountId, Timestamp},
    roster::{Body, Kind, Op, Roster},
};
use causeway_store::{Conn, Tx};

use super::noted::{happened, note};
use crate::{
    calls,
    live::{Live, News},
    storage::{
        self, GroupRow, devices,
        groups::{self, Group},
        invites,
        logs::{self, Size},
        mailbox,
        servers::{self, forward},
    },
};

/// Puts the `create` of a group down.
pub(super) async fn begin(
    (mut tx, live): (Tx, &Live),
    now: Timestamp,
    here: &str,
    (op, roster, creator): (&Op, &Roster, &AccountId),
) -> Result<(), storage::Error> {
    let happened = happened(op, None, roster);
    let seq = mailbox::take_numbers(tx.conn(), happened.len().max(1)).await?;
    let row = groups::insert(tx.conn(), op, roster, seq, creator).await?;
    count(tx.conn(), now, (here, creator.server()), row, (op, roster)).await?;
    let come: Vec<DeviceOf> = roster.devices().collect();
    know(tx.conn(), now, (here, creator.server()), row, (roster, &come)).await?;
    mailbox::put_op(tx.conn(), seq, row, op.epoch()).await?;
    let mut news = News::default();
    news.op(seq, row, come);
    live.tell(&mut tx, news);
    let script = note((&mut tx, live), now, (row, seq), happened, (None, roster))?;
    Ok(tx.commit_with(script).await.map(drop)?)
}

/// Puts the next op of a group down.
pub(super) async fn go_on(
    (mut tx, live): (Tx, &Live),
    now: Timestamp,
    (here, is_home): (&str, bool),
    group: &Group,
    (op, before, after): (&Op, &Roster, &Roster),
) -> Result<(), storage::Error> {
    let is_reason = must_be_sealed_again(op, before, after);
    let stale_below = if is_reason { after.epoch() } else { group.stale_below };
    let happened = happened(op, Some(before), after);
    let seq = mailbox::take_numbers(tx.conn(), happened.len().max(1)).await?;
    let rosters = (before, after);
    let changed = groups::advance(tx.conn(), group.row, op, rosters, stale_below, seq).await?;
    if let Ok(Body::Add(entries)) = op.body() {
        for entry in &entries {
            invites::drop_requests_of(tx.conn(), group.row, &entry.member_id).await?;
        }
    }
    let home = groups::home(tx.conn(), group.head.group).await?;
    let home = home.as_deref().unwrap_or(here);
    count(tx.conn(), now, (here, home), group.row, (op, after)).await?;
    know(tx.conn(), now, (here, home), group.row, (after, &changed)).await?;
    if !is_home {
        forget_gone(tx.conn(), group.row, (before, after)).await?;
    }
    mailbox::put_op(tx.conn(), seq, group.row, op.epoch()).await?;
    let mut news = News::default();
    news.op(seq, group.row, changed.clone());
    live.tell(&mut tx, news);
    if is_home {
        let by = before.member(&op.signer().member_id).map(|member| &member.account);
        calls::follow_op((&mut tx, live), now, group.row, (&changed, rosters, by)).await?;
    }
    if op.kind() == Kind::Leave
        && let Some(gone) = before.member(&op.signer().member_id)
    {
        let about = (seq, now.plus_ms(MAX_TTL_MS));
        mailbox::leave_parked(tx.conn(), group.row, &gone.account, about).await?;
    }
    let rosters = (Some(before), after);
    let script = note((&mut tx, live), now, (group.row, seq), happened, rosters)?;
    Ok(tx.commit_with(script).await.map(drop)?)
}

/// Counts what is kept of groups of another home.
async fn count(
    conn: &mut Conn,
    now: Timestamp,
    (here, home): (&str, &str),
    group: GroupRow,
    (op, roster): (&Op, &Roster),
) -> Result<(), storage::Error> {
    if home == here {
        return Ok(());
    }
    let is_named = roster.members().values().any(|member| member.account.server() == here);
    logs::add(conn, (group, home), Size::of(op), (!is_named).then_some(now)).await
}

/// Has devices known that are in a group now: of this server, those that it lost; of other servers,
/// as far as those have shown them, and their servers as those to be given its ops by its home, and to be shown
/// this server's accounts by others.
async fn know(
    conn: &mut Conn,
    now: Timestamp,
    (here, home): (&str, &str),
    group: GroupRow,
    (roster, changed): (&Roster, &[DeviceOf]),
) -> Result<(), storage::Error> {
    for device in changed {
        let Some(member) = roster.member(&device.member_id) else { continue };
        let its = member.account.server();
        if its == here {
            devices::know_lost(conn, now, &member.account, device).await?;
            continue;
        }
        let server = servers::row(conn, its).await?;
        servers::know_device(conn, &member.account, device).await?;
        if its != home {
            forward::begin_replica(conn, server, group).await?;
        }
    }
    Ok(())
}

/// A server that has nobody in a group any more is shown nothing more by those that are not its home.
async fn forget_gone(
    conn: &mut Conn,
    group: GroupRow,
    (before, after): (&Roster, &Roster),
) -> Result<(), storage::Error> {
    let of = |roster: &Roster| -> BTreeSet<String> {
        roster.members().values().map(|member| member.account.server().to_owned()).collect()
    };
    for gone in of(before).difference(&of(after)) {
        let server = servers::row(conn, gone).await?;
        forward::end_replica(conn, server, group).await?;
    }
    Ok(())
}

/// Protocol §2: envelopes from before a cut, role, policy or close op; adds are no reason.
fn must_be_sealed_again(op: &Op, before: &Roster, after: &Roster) -> bool {
    match op.kind() {
        Kind::Role | Kind::Policy | Kind::Close | Kind::Remove | Kind::Leave => true,
        Kind::Devices => before.is_cut(after),
        Kind::Create | Kind::Add => false,
    }
}
