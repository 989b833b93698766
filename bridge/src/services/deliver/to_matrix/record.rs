//! What a round came to, written down, and what stands next in its lane.

use std::time::Duration;

use causeway_store::{Script, Tx};

use super::{
    Dead, End, Facts, Failed, Failure, Head, Leases, Outcome, Portal, Ready, Spine, StepError,
    Stop, Stored, bury, first,
};
use crate::{
    domain::{Input, News, Ornament, effect::InRoom, lane::Lane, route::route},
    storage::{
        answered,
        effects::{Cause, Decided},
        ghosts::{self, Standing},
        inbox, lanes, links, outbox, portals, reading,
    },
};

/// How long what became known of a room is worth saying.
const NEWS_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Writes down what a round came to, and looks what comes next; `None` if the lane has been given back.
pub(super) async fn record(
    spine: &Spine,
    tx: &mut Tx,
    leased: &Ready,
    rows: &[Stored<InRoom>],
    facts: Facts,
    end: End,
) -> Result<Option<(Portal, Head<InRoom>)>, StepError> {
    let (now, lane) = (spine.now(), &leased.lane);
    for (account, name) in &facts.made {
        if let Some(ghost) = spine.names.ghost(account) {
            ghosts::made(tx, now, account, &ghost, name).await?;
        }
    }
    for (account, standing) in &facts.standing {
        match standing {
            Standing::Joined => ghosts::has_joined(tx, lane.portal(), account).await?,
            Standing::Absent => ghosts::has_left(tx, lane.portal(), account).await?,
            Standing::Removed(_) => {}
        }
    }
    for (part, news) in facts.news.iter().enumerate() {
        let id = rows.first().map_or("", |row| &row.entry.txn);
        learn(spine, tx, lane, &format!("room {id} {part}"), news.clone()).await?;
    }
    if facts.moved {
        outbox::may_be_in_old_room(tx, lane.portal(), spine.leases.before()).await?;
    }
    for Dead { index, reason, tried_at } in &facts.dead {
        if let Some(row) = rows.get(*index) {
            let row = Stored { tried_at: row.tried_at.or(*tried_at), ..row.clone() };
            bury(spine.rites(), tx, &row, reason, row.refused + 1).await?;
        }
    }
    let mut over: Vec<usize> = end.done.clone();
    over.extend(facts.dead.iter().map(|dead| dead.index));
    let over: Vec<i64> = over.iter().filter_map(|index| Some(rows.get(*index)?.id)).collect();
    let mut script = Script::default();
    links::put(&mut script, &facts.links);
    outbox::done(&mut script, &over);
    metrics::counter!("causeway_delivered_total", "to" => "matrix")
        .increment(end.done.len() as u64);
    let ready = &end.after(leased, &facts);
    for failed in end.aside {
        let Some(row) = rows.get(failed.index) else { continue };
        let Some(who) = row.entry.deed.who() else { continue };
        let Some(aside) = lane.aside(who) else { continue };
        tracing::debug!(%lane, row = row.id, "put aside");
        outbox::set_aside(tx, lane, who, row.id, &aside).await?;
        wait(spine, tx, &leased.of(aside), row, failed).await?;
    }
    for row in end.apart.iter().filter_map(|index| rows.get(*index)) {
        if let Some(who) = row.entry.deed.who()
            && let Some(aside) = lane.aside(who)
        {
            outbox::set_aside(tx, lane, who, row.id, &aside).await?;
        }
    }
    if end.stopped.iter().any(|failed| matches!(failed.failure, Failure::Refused(_))) {
        // The room may not be what it was.
        tx.wake(portals::TOPIC);
    }
    let mut stopped = end.stopped.into_iter();
    let first_of = stopped.next().and_then(|failed| Some((rows.get(failed.index)?, failed)));
    if let Some((row, failed)) = first_of {
        script.run(tx.conn()).await?;
        for Failed { index, failure, .. } in stopped {
            if let Some(row) = rows.get(index).filter(|_| failure.is_unknown()) {
                outbox::tried(tx, now, row.id, false).await?;
            }
        }
        wait(spine, tx, ready, row, failed).await?;
        return Ok(None);
    }
    Leases::release(spine, &mut script, lane);
    first(spine, tx.conn(), lane, script).await
}

/// The lane has to wait for its first row, which failed.
async fn wait(
    spine: &Spine,
    tx: &mut Tx,
    ready: &Ready,
    row: &Stored<InRoom>,
    Failed { failure, outcome, .. }: Failed,
) -> Result<(), StepError> {
    let (wait, counts) = match outcome {
        Outcome::Again(wait, counts) => (wait, counts),
        Outcome::Halt => {
            spine.token_taken.send_replace(false);
            tracing::error!("{failure}; nothing is delivered until it does");
            (0, false)
        }
        Outcome::Done | Outcome::Dead(_) => (0, false),
    };
    if counts || failure.is_unknown() {
        outbox::tried(tx, spine.now(), row.id, counts).await?;
    }
    // It was not tried, and that is no failure.
    let ready = if failure.is_none() { &ready.went_on() } else { ready };
    let stop =
        Stop { wait: Duration::from_millis(wait), away: failure.is_away(), row: Some(row.id) };
    Ok(spine.leases.postpone(spine, tx, ready, stop, &failure.to_string()).await?)
}

/// Routes what became known of the portal's room.
async fn learn(
    spine: &Spine,
    tx: &mut Tx,
    lane: &Lane,
    id: &str,
    news: News,
) -> Result<(), StepError> {
    let now = spine.now();
    let mut portal = portals::get(tx, &spine.names, lane.portal()).await?;
    if matches!(news, News::Entered(..) | News::Followed(_)) {
        portal.natives = spine.native.machine().roster(tx, portal.group).await?;
    }
    // The topic is set whenever somebody comes or goes.
    let is_known = news == News::NotSet(Ornament::Topic)
        && !answered::is_first(tx, portal.id, spine.names.bot().as_str(), "topic").await?;
    if is_known {
        return Ok(());
    }
    if let News::Followed(found) = &news {
        // What was said there before the bot came goes first.
        reading::open_gap(tx, &found.room, None).await?;
    }
    let Ok(effects) = route(&portal, &Input::Room(news)) else { return Ok(()) };
    let author = spine.names.bot().as_str();
    let expires_at = now.plus_ms(NEWS_MS);
    let cause = Cause { id: id.as_bytes(), author, accepted_at: now, expires_at };
    let mut decided = Decided::default();
    decided.take(&mut portal, cause, effects);
    decided.keep(tx, &spine.sealer, now, std::iter::once(&mut portal)).await?;
    portals::has_heard(tx, portal.id).await?;
    if let Some(room) = portal.room.as_ref().filter(|_| portal.lost.is_none()) {
        if portal.encrypted {
            spine.encryption.found(room, true, 0);
        }
        inbox::room_is_made(tx, room).await?;
        // Who is to be invited waited for it.
        lanes::hurry(tx);
    }
    inbox::route_early(tx).await?;
    Ok(())
}
