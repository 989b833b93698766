//! What happened in groups, for who may know of it; and how much of that is kept.

use causeway_protocol::{
    api::{EventPage, GroupEvent},
    ids::{GroupId, Seq, Timestamp},
};
use causeway_store::{Conn, Db, Script};

use crate::storage::{
    self, GroupRow,
    devices::Device,
    event_log, groups, mailbox,
    standing::{self, Standing},
};

/// How long events are kept.
const KEPT_MS: u64 = 7 * 24 * 3_600_000;
/// Of one group at most.
const OF_A_GROUP: u64 = 1_000;
/// Of all groups; beyond, those lose theirs that have most.
const IN_ALL: u64 = 100_000;
/// Groups whose events one transaction drops.
const GROUPS: usize = 16;

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) enum Who<'a> {
    /// A device: of its account's groups, while it counted there.
    Device(&'a Device),
    /// The operator: all.
    Operator,
}

/// Events from `from` on, of one group or of all; `None` where there is no such group, or none that the
/// caller may know of.
pub(crate) async fn page(
    db: &Db,
    who: Who<'_>,
    group: Option<GroupId>,
    from: Seq,
    limit: u32,
) -> Result<Option<EventPage>, storage::Error> {
    let mut read = db.read().await?;
    let Some(row) = row_of(read.conn(), who, group).await? else { return Ok(None) };
    let last = mailbox::last_number(read.conn()).await?;
    let last = Seq(u64::try_from(last).unwrap_or(0));
    let (mut events, gone) =
        read_from(read.conn(), who, row, from, limit.saturating_add(1)).await?;
    let next = events.get(limit as usize).map(|event| event.id);
    events.truncate(limit as usize);
    Ok(Some(EventPage { events, next, gone, last }))
}

async fn row_of(
    conn: &mut Conn,
    who: Who<'_>,
    group: Option<GroupId>,
) -> Result<Option<GroupRow>, storage::Error> {
    let Some(group) = group else { return Ok(Some(event_log::ALL)) };
    let Some(group) = groups::by_id(conn, group).await? else { return Ok(None) };
    if let Who::Device(device) = who {
        let account = device.account.as_str();
        let standing = standing::of_device(conn, group.row, &device.of(), account).await?;
        if standing == Standing::None {
            return Ok(None);
        }
    }
    Ok(Some(group.row))
}

async fn read_from(
    conn: &mut Conn,
    who: Who<'_>,
    group: GroupRow,
    from: Seq,
    limit: u32,
) -> Result<(Vec<GroupEvent>, Option<Seq>), storage::Error> {
    Ok(match who {
        Who::Device(device) => {
            let of = device.of();
            let whose = (&of, &device.account);
            let events = event_log::of_device(conn, whose, group, from, limit).await?;
            (events, event_log::gone_of_device(conn, &of, group, from).await?)
        }
        Who::Operator => {
            let events = event_log::of_all(conn, group, from, limit).await?;
            (events, event_log::gone_of_all(conn, group, from).await?)
        }
    })
}

/// Drops what is too old, and what is too much: of each group, and of all. The one place that does.
pub(crate) async fn prune(db: &Db, now: Timestamp) -> Result<(), storage::Error> {
    let mut read = db.read().await?;
    let mut ends = event_log::older(read.conn(), now.minus_ms(KEPT_MS)).await?;
    let counts = event_log::counts(read.conn()).await?;
    let keep = keep(&counts, OF_A_GROUP, IN_ALL);
    for (group, count) in counts {
        if count > keep
            && let Some(event) = event_log::beyond(read.conn(), group, keep).await?
        {
            ends.push((group, event));
        }
    }
    drop(read);
    for some in ends.chunks(GROUPS) {
        let mut script = Script::default();
        for (group, event) in some {
            event_log::drop_until(&mut script, *group, *event);
        }
        db.begin().await?.commit_with(script).await?;
    }
    Ok(())
}

/// How many events a group keeps, so that all together are no more than `in_all`: those lose none that
/// have few. Every group keeps one.
fn keep(counts: &[(GroupRow, u64)], of_a_group: u64, in_all: u64) -> u64 {
    let mut keep = of_a_group;
    while keep > 1 && counts.iter().map(|(_, count)| *count.min(&keep)).sum::<u64>() > in_all {
        keep /= 2;
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::{GroupRow, keep};

    #[test]
    fn who_has_most_loses_first() {
        let rows: [(&[u64], u64, &str); 4] = [
            (&[], 1_000, "nothing"),
            (&[5, 1_000, 9_000], 1_000, "each within its bound"),
            (&[1_000; 100], 1_000, "just as many as may be"),
            (&[1_000; 101], 500, "too many: all of them lose"),
        ];
        for (counts, kept, why) in rows {
            let counts: Vec<_> = counts.iter().map(|count| (GroupRow(1), *count)).collect();
            assert_eq!(keep(&counts, 1_000, 100_000), kept, "{why}");
        }
        assert_eq!(keep(&[(GroupRow(1), 5); 20], 1_000, 10), 1, "no group loses its last");
        let loud = [1_000; 100].map(|count| (GroupRow(1), count));
        let quiet = [400; 50].map(|count| (GroupRow(2), count));
        assert_eq!(keep(&[&loud[..], &quiet].concat(), 1_000, 100_000), 500, "the quiet lose none");
    }
}
