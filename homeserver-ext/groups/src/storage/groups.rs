//! Groups: where their histories end, and what is due in them.

use std::collections::BTreeSet;

use causeway_store::{Conn, Row, Script};

use causeway_protocol::ids::{AccountId, Epoch, GroupId, Timestamp};
use sqlx::Row as _;

use super::{
    Error, Whole as _,
    identities::{self, Met},
    ms, unsigned,
};

/// Row of a group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Random, new with every change of the log: what is cached under it is still true.
    pub(crate) revision: [u8; 8],
    /// `None` while it was only heard of.
    pub(crate) head: Option<Epoch>,
    /// An undecided second history, as JSON.
    pub(crate) fork: Option<String>,
    pub(crate) rotate: bool,
    pub(crate) active: Timestamp,
    pub(crate) offer: Option<Offer>,
    /// Who offers it.
    pub(crate) offered_by: Option<AccountId>,
    /// The revision of who is who, which is asked with nearly every group.
    pub(crate) met: Met,
    /// Whether something is finished that the server may not have.
    pub(crate) has_finished: bool,
}

/// How this account came to be in a group, or is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It has asked to be let in.
    Asked,
    /// Somebody has added it, and it takes no part.
    Offered,
    /// It takes part.
    Taken,
}

impl Offer {
    const ALL: [Self; 3] = [Self::Asked, Self::Offered, Self::Taken];

    const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Offered => "offered",
            Self::Taken => "taken",
        }
    }
}

pub(crate) async fn group(conn: &mut Conn, group: &GroupId) -> Result<Option<Group>, Error> {
    let mut script = Script::default();
    select(&mut script, group);
    read(script.run(conn).await?.first())
}

/// Asks for a group's row, for [`read`].
pub(crate) fn select(script: &mut Script, group: &GroupId) {
    let query = script.add(
        "SELECT revision, head_epoch, fork, rotate, active_ms, offer, offered_by,
             (SELECT met FROM own), EXISTS (SELECT 1 FROM outgoing WHERE group_id = $1)
         FROM groups WHERE group_id = $1",
    );
    query.bind(group.as_bytes().as_slice());
}

/// Asks for the rows of these groups, for [`read_many`].
pub(crate) fn select_many(script: &mut Script, groups: &BTreeSet<GroupId>) {
    let ids: Vec<Vec<u8>> = groups.iter().map(|group| group.as_bytes().to_vec()).collect();
    if !ids.is_empty() {
        script.add_list(
            "SELECT revision, head_epoch, fork, rotate, active_ms, offer, offered_by,
                 (SELECT met FROM own),
                 EXISTS (SELECT 1 FROM outgoing WHERE outgoing.group_id = groups.group_id),
                 group_id
             FROM groups WHERE group_id IN (",
            ids,
        );
    }
}

/// Reads what [`select_many`] asked for.
pub(crate) fn read_many(rows: &[Row]) -> Result<Vec<(GroupId, Group)>, Error> {
    let one = |row: &Row| -> Result<_, Error> {
        let id = GroupId::from_slice(row.try_get(9)?).whole("groups")?;
        Ok((id, read(Some(row))?.whole("groups")?))
    };
    rows.iter().map(one).collect()
}

/// Reads what [`select`] asked for.
pub(crate) fn read(row: Option<&Row>) -> Result<Option<Group>, Error> {
    row.map(|row| {
        let offer: Option<&str> = row.try_get(5)?;
        let named = |name| Offer::ALL.into_iter().find(|offer| offer.name() == name);
        let by: Option<String> = row.try_get(6)?;
        Ok(Group {
            revision: row.try_get::<&[u8], _>(0)?.try_into().ok().whole("groups")?,
            head: row.try_get::<Option<u32>, _>(1)?.map(Epoch),
            fork: row.try_get(2)?,
            rotate: row.try_get(3)?,
            active: Timestamp(unsigned(row.try_get(4)?)),
            offer: offer.map(|name| named(name).whole("groups")).transpose()?,
            offered_by: by.map(|by| by.parse().whole("groups")).transpose()?,
            met: identities::revision_in(row.try_get(7)?)?,
            has_finished: row.try_get(8)?,
        })
    })
    .transpose()
}

/// Every group that was ever heard of.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT group_id FROM groups ORDER BY group_id").fetch_all(conn).await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("groups")).collect()
}

/// Groups that this account takes part in.
pub(crate) async fn taken(conn: &mut Conn) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT group_id FROM groups WHERE joined = TRUE AND offer = 'taken' ORDER BY group_id",
    )
    .fetch_all(conn)
    .await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("groups")).collect()
}

/// How this account is in a group, or is to be.
pub(crate) async fn set_offer(
    conn: &mut Conn,
    group: &GroupId,
    offer: Option<Offer>,
    by: Option<&AccountId>,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET offer = $2, offered_by = $3 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(offer.map(Offer::name))
        .bind(by.map(AccountId::as_str))
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes a group that is heard of for the first time.
pub(crate) async fn hear_of(
    conn: &mut Conn,
    group: &GroupId,
    revision: [u8; 8],
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO groups (group_id, revision, joined) VALUES ($1, $2, FALSE) ON CONFLICT DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(revision.as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// The log has changed.
pub(crate) async fn save_head(
    conn: &mut Conn,
    group: &GroupId,
    revision: [u8; 8],
    head: Epoch,
    joined: bool,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE groups SET revision = $2, head_epoch = $3, joined = $4,
             fetch_from = CASE WHEN fetch_from <= $3 THEN NULL ELSE fetch_from END
         WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(revision.as_slice())
    .bind(i64::from(head.0))
    .bind(joined)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ops from `epoch` on are to be fetched, or from before it where that was asked for; `None`: none.
pub(crate) async fn fetch_from(
    conn: &mut Conn,
    group: &GroupId,
    epoch: Option<Epoch>,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE groups SET fetch_from = CASE WHEN fetch_from < $2 THEN fetch_from ELSE $2 END
         WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(epoch.map(|epoch| i64::from(epoch.0)))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn to_fetch(conn: &mut Conn) -> Result<Vec<(GroupId, Epoch)>, Error> {
    let rows = sqlx::query("SELECT group_id, fetch_from FROM groups WHERE fetch_from IS NOT NULL")
        .fetch_all(conn)
        .await?;
    let entry = |row: Row| {
        Ok((GroupId::from_slice(row.try_get(0)?).whole("groups")?, Epoch(row.try_get(1)?)))
    };
    rows.into_iter().map(entry).collect()
}

pub(crate) async fn set_fork(
    conn: &mut Conn,
    group: &GroupId,
    fork: Option<&str>,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET fork = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(fork)
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether the requests that wait at the server are to be fetched.
pub(crate) async fn set_fetch_requests(
    conn: &mut Conn,
    group: &GroupId,
    fetch: bool,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET fetch_requests = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(fetch)
        .execute(conn)
        .await?;
    Ok(())
}

/// Groups whose waiting requests are to be fetched.
pub(crate) async fn requests_to_fetch(conn: &mut Conn) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT group_id FROM groups WHERE fetch_requests = TRUE AND joined = TRUE",
    )
    .fetch_all(conn)
    .await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("groups")).collect()
}

/// Whether the next message begins a new chain, whatever else is so.
pub(crate) async fn set_rotate(
    conn: &mut Conn,
    group: &GroupId,
    rotate: bool,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET rotate = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(rotate)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn set_active(
    conn: &mut Conn,
    group: &GroupId,
    at: Timestamp,
) -> Result<(), Error> {
    // The first hour begins with the first message.
    sqlx::query(
        "UPDATE groups SET active_ms = $2,
             synced_ms = CASE WHEN synced_ms = 0 THEN $2 ELSE synced_ms END
         WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(ms(at))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn set_synced(
    conn: &mut Conn,
    group: &GroupId,
    at: Timestamp,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET synced_ms = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(ms(at))
        .execute(conn)
        .await?;
    Ok(())
}

/// Groups that this device spoke in since `hour_ago`, and did not say its roster in.
pub(crate) async fn sync_due(conn: &mut Conn, hour_ago: Timestamp) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT group_id FROM groups
         WHERE joined = TRUE AND active_ms > synced_ms AND synced_ms <= $1 AND active_ms > $1",
    )
    .bind(ms(hour_ago))
    .fetch_all(conn)
    .await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("groups")).collect()
}

/// Nothing of the log is known any more: it is to be fetched anew.
pub(crate) async fn unlearn(
    conn: &mut Conn,
    group: &GroupId,
    revision: [u8; 8],
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE groups SET revision = $2, head_epoch = NULL, joined = FALSE WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(revision.as_slice())
    .execute(conn)
    .await?;
    Ok(())
}
