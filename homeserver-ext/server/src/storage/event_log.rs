//! What happened in groups, in order: kept for a while, so that whoever watches misses nothing.
//!
//! Counters of the same, which go on for ever, are in [`events`](super::events).

use causeway_protocol::{
    api::{EventAbout, EventKind, GroupEvent},
    device::DeviceOf,
    ids::{AccountId, GroupId, Seq, Timestamp},
};
use causeway_store::{Conn, Script};

use super::{Error, GroupRow, ms, name_of, number, time};

/// All groups, where one is asked for; and the whole server, where it is said what is gone.
pub(crate) const ALL: GroupRow = GroupRow(0);

/// Something that has just happened, at this number.
#[derive(Debug)]
pub(crate) struct Happened {
    pub(crate) event: i64,
    /// Where in the group's order; who counted there may know of it.
    pub(crate) place: i64,
    pub(crate) kind: EventKind,
    pub(crate) account: AccountId,
    pub(crate) about: EventAbout,
}

/// Puts down what every member may know of a group.
pub(crate) fn put(
    script: &mut Script,
    now: Timestamp,
    group: GroupRow,
    happened: &[Happened],
) -> Result<(), Error> {
    let rows = happened.iter().map(|it| Ok((it, json(&it.about)?, kind_text(it.kind)?)));
    let rows = rows.collect::<Result<Vec<_>, Error>>()?;
    script.insert(
        "INSERT INTO event_log (event, at_ms, grp, place, kind, account, own, about) ",
        &rows,
        "",
        |values, (it, about, kind)| {
            values
                .bind(it.event)
                .bind(ms(now))
                .bind(group)
                .bind(it.place)
                .bind(kind.clone())
                .bind(it.account.as_str().to_owned())
                .bind(false)
                .bind(about.clone());
        },
    );
    Ok(())
}

/// What goes on, and how often it did this time.
#[derive(Debug)]
pub(crate) struct GoesOn {
    pub(crate) kind: EventKind,
    pub(crate) account: AccountId,
    /// Of all members the account alone may know of it.
    pub(crate) own: bool,
    pub(crate) count: u64,
    pub(crate) about: EventAbout,
}

/// Puts down, at the number `event`, what an account goes on to do in a group: in the place of what was
/// said of it since `since`, so that nobody fills the log by going on.
pub(crate) async fn go_on(
    conn: &mut Conn,
    (now, since): (Timestamp, Timestamp),
    (group, event): (GroupRow, i64),
    it: GoesOn,
) -> Result<(), Error> {
    let kind = kind_text(it.kind)?;
    let former: Option<(i64, String)> = sqlx::query_as(
        "SELECT event, about FROM event_log
         WHERE grp = $1 AND kind = $2 AND account = $3 ORDER BY event DESC LIMIT 1",
    )
    .bind(group)
    .bind(&kind)
    .bind(it.account.as_str())
    .fetch_optional(&mut *conn)
    .await?;
    let (mut began, mut count) = (now, it.count);
    if let Some((event, about)) = former {
        let former = about_of(&about)?;
        if let (Some(at), Some(times)) = (former.since_ms.filter(|at| *at > since), former.count) {
            (began, count) = (at, count.saturating_add(times));
            sqlx::query("DELETE FROM event_log WHERE event = $1")
                .bind(event)
                .execute(&mut *conn)
                .await?;
        }
    }
    let about = EventAbout { count: Some(count), since_ms: Some(began), ..it.about };
    sqlx::query(
        "INSERT INTO event_log (event, at_ms, grp, place, kind, account, own, about)
         VALUES ($1, $2, $3, $1, $4, $5, $6, $7)",
    )
    .bind(event)
    .bind(ms(now))
    .bind(group)
    .bind(kind)
    .bind(it.account.as_str())
    .bind(it.own)
    .bind(json(&about)?)
    .execute(conn)
    .await?;
    Ok(())
}

fn json(about: &EventAbout) -> Result<String, Error> {
    serde_json::to_string(about).map_err(|_| Error::Row("about"))
}

fn about_of(json: &str) -> Result<EventAbout, Error> {
    serde_json::from_str(json).map_err(|_| Error::Row("about"))
}

fn kind_text(kind: EventKind) -> Result<String, Error> {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        Ok(_) | Err(_) => Err(Error::Row("kind")),
    }
}

#[derive(sqlx::FromRow)]
struct Columns {
    event: i64,
    at_ms: i64,
    group_id: Vec<u8>,
    kind: String,
    account: String,
    about: String,
}

impl TryFrom<Columns> for GroupEvent {
    type Error = Error;

    fn try_from(columns: Columns) -> Result<Self, Error> {
        Ok(Self {
            id: Seq(number(columns.event, "event")?),
            at_ms: time(columns.at_ms),
            group: name_of!(GroupId, &columns.group_id, "group_id")?,
            kind: serde_json::from_value(columns.kind.into()).map_err(|_| Error::Row("kind"))?,
            account: columns.account.parse().map_err(|_| Error::Row("account"))?,
            about: about_of(&columns.about)?,
        })
    }
}

/// Events from `from` on that a device of this account may know of, in one group or in [`ALL`]: those of
/// groups, while it counted there.
pub(crate) async fn of_device(
    conn: &mut Conn,
    (device, account): (&DeviceOf, &AccountId),
    group: GroupRow,
    from: Seq,
    limit: u32,
) -> Result<Vec<GroupEvent>, Error> {
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT e.event, e.at_ms, g.group_id, e.kind, e.account, e.about
         FROM group_devices d CROSS JOIN event_log e JOIN groups g ON g.grp = e.grp
         WHERE d.device_id = $1 AND d.member_id = $2 AND ($3 = 0 OR d.grp = $3)
           AND e.grp = d.grp AND e.event >= $4
           AND e.place > d.after_seq AND e.place <= d.until_seq
           AND (e.own = FALSE OR e.account = $5)
         ORDER BY e.event LIMIT $6",
    )
    .bind(device.device_id.as_ref())
    .bind(device.member_id.as_ref())
    .bind(group)
    .bind(at(from))
    .bind(account.as_str())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(GroupEvent::try_from).collect()
}

/// Up to which number, from `from` on, events are gone that a device might have known of.
pub(crate) async fn gone_of_device(
    conn: &mut Conn,
    device: &DeviceOf,
    group: GroupRow,
    from: Seq,
) -> Result<Option<Seq>, Error> {
    let gone: Option<i64> = sqlx::query_scalar(
        "SELECT max(CASE WHEN x.event < d.until_seq THEN x.event ELSE d.until_seq END)
         FROM group_devices d JOIN events_gone x ON x.grp = d.grp
         WHERE d.device_id = $1 AND d.member_id = $2 AND ($3 = 0 OR d.grp = $3)
           AND x.event > d.after_seq AND x.event >= $4 AND d.until_seq >= $4",
    )
    .bind(device.device_id.as_ref())
    .bind(device.member_id.as_ref())
    .bind(group)
    .bind(at(from))
    .fetch_one(conn)
    .await?;
    gone.map(|gone| Ok(Seq(number(gone, "event")?))).transpose()
}

/// Events from `from` on, of one group or of [`ALL`].
pub(crate) async fn of_all(
    conn: &mut Conn,
    group: GroupRow,
    from: Seq,
    limit: u32,
) -> Result<Vec<GroupEvent>, Error> {
    let rows: Vec<Columns> = if group == ALL {
        sqlx::query_as(
            "SELECT e.event, e.at_ms, g.group_id, e.kind, e.account, e.about
             FROM event_log e JOIN groups g ON g.grp = e.grp
             WHERE e.event >= $1 ORDER BY e.event LIMIT $2",
        )
        .bind(at(from))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    } else {
        sqlx::query_as(
            "SELECT e.event, e.at_ms, g.group_id, e.kind, e.account, e.about
             FROM event_log e JOIN groups g ON g.grp = e.grp
             WHERE e.grp = $1 AND e.event >= $2 ORDER BY e.event LIMIT $3",
        )
        .bind(group)
        .bind(at(from))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    };
    rows.into_iter().map(GroupEvent::try_from).collect()
}

/// Up to which number, from `from` on, events of one group or of [`ALL`] are gone.
pub(crate) async fn gone_of_all(
    conn: &mut Conn,
    group: GroupRow,
    from: Seq,
) -> Result<Option<Seq>, Error> {
    let gone: Option<i64> =
        sqlx::query_scalar("SELECT event FROM events_gone WHERE grp = $1 AND event >= $2")
            .bind(group)
            .bind(at(from))
            .fetch_optional(conn)
            .await?;
    gone.map(|gone| Ok(Seq(number(gone, "event")?))).transpose()
}

fn at(from: Seq) -> i64 {
    i64::try_from(from.0).unwrap_or(i64::MAX)
}

/// How many events each group has.
pub(crate) async fn counts(conn: &mut Conn) -> Result<Vec<(GroupRow, u64)>, Error> {
    let rows: Vec<(GroupRow, i64)> =
        sqlx::query_as("SELECT grp, count(*) FROM event_log GROUP BY grp").fetch_all(conn).await?;
    rows.into_iter().map(|(group, count)| Ok((group, number(count, "count")?))).collect()
}

/// The last event of each group that has one from before `before`.
pub(crate) async fn older(
    conn: &mut Conn,
    before: Timestamp,
) -> Result<Vec<(GroupRow, i64)>, Error> {
    let older =
        sqlx::query_as("SELECT grp, max(event) FROM event_log WHERE at_ms < $1 GROUP BY grp");
    Ok(older.bind(ms(before)).fetch_all(conn).await?)
}

/// The last event of a group that is not among its newest `keep`.
pub(crate) async fn beyond(
    conn: &mut Conn,
    group: GroupRow,
    keep: u64,
) -> Result<Option<i64>, Error> {
    let beyond = sqlx::query_scalar(
        "SELECT event FROM event_log WHERE grp = $1 ORDER BY event DESC LIMIT 1 OFFSET $2",
    );
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    Ok(beyond.bind(group).bind(keep).fetch_optional(conn).await?)
}

/// Drops a group's events up to this one, and says so.
pub(crate) fn drop_until(script: &mut Script, group: GroupRow, event: i64) {
    let query = script.add("DELETE FROM event_log WHERE grp = $1 AND event <= $2");
    query.bind(group).bind(event);
    for of in [group, ALL] {
        let query = script.add(
            "INSERT INTO events_gone (grp, event) VALUES ($1, $2)
             ON CONFLICT (grp) DO UPDATE SET event = excluded.event
                WHERE events_gone.event < excluded.event",
        );
        query.bind(of).bind(event);
    }
}
