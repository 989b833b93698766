//! Requests to be let in, and how far each was judged.

use causeway_protocol::ids::{AccountId, GroupId, InviteKey, MemberId, RequestId, Timestamp};
use causeway_store::{Conn, Row};
use sqlx::Row as _;

use super::{Error, Whole as _, ms, unsigned};

/// Requests judged in one go.
const PAGE: i64 = 64;

/// A join request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct JoinRow {
    pub(crate) id: RequestId,
    pub(crate) group: GroupId,
    pub(crate) ik_pub: InviteKey,
    pub(crate) account: AccountId,
    pub(crate) member: MemberId,
    pub(crate) request: Vec<u8>,
    pub(crate) at: Timestamp,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not judged yet.
    New,
    /// For a person to judge.
    Ask,
    /// Its asker is in.
    Admitted,
    /// Made with a link that this device does not hold; judged again when it does.
    NoLink,
    /// This account may not add; judged again when it may.
    MayNotAdd,
    /// Refused as the server should have refused it.
    Refused,
    /// The account's newest device list says something else.
    ListDiffers,
    /// Whoever made the link may not invite any more.
    Inviter,
    /// The `add` would not be valid.
    NotAllowed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ask => "ask",
            Self::Admitted => "admitted",
            Self::NoLink => "no_link",
            Self::MayNotAdd => "may_not_add",
            Self::Refused => "refused",
            Self::ListDiffers => "list_differs",
            Self::Inviter => "inviter",
            Self::NotAllowed => "not_allowed",
        }
    }
}

/// Notes a request; `false` if it was known.
pub(crate) async fn insert(conn: &mut Conn, join: &JoinRow) -> Result<bool, Error> {
    let done = sqlx::query(
        "INSERT INTO joins (request_id, group_id, ik_pub, account, member_id, request, state, at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(join.id.as_bytes().as_slice())
    .bind(join.group.as_bytes().as_slice())
    .bind(join.ik_pub.as_bytes().as_slice())
    .bind(join.account.as_str())
    .bind(join.member.as_bytes().as_slice())
    .bind(&join.request)
    .bind(State::New.name())
    .bind(ms(join.at))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn set_state(conn: &mut Conn, id: &RequestId, state: State) -> Result<(), Error> {
    sqlx::query("UPDATE joins SET state = $2 WHERE request_id = $1")
        .bind(id.as_bytes().as_slice())
        .bind(state.name())
        .execute(conn)
        .await?;
    Ok(())
}

/// Requests for `group` that this account might not answer are to be judged again.
pub(crate) async fn may_add_now(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query("UPDATE joins SET state = $2 WHERE group_id = $1 AND state = $3")
        .bind(group.as_bytes().as_slice())
        .bind(State::New.name())
        .bind(State::MayNotAdd.name())
        .execute(conn)
        .await?;
    Ok(())
}

/// Requests made with a link that was not held are to be judged again.
pub(crate) async fn link_came(conn: &mut Conn, ik_pub: &InviteKey) -> Result<(), Error> {
    sqlx::query("UPDATE joins SET state = $2 WHERE ik_pub = $1 AND state = $3")
        .bind(ik_pub.as_bytes().as_slice())
        .bind(State::New.name())
        .bind(State::NoLink.name())
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets go of old requests.
pub(crate) async fn expire(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM joins WHERE at_ms < $1").bind(ms(before)).execute(conn).await?;
    Ok(())
}

/// Requests in this state, oldest first.
pub(crate) async fn in_state(conn: &mut Conn, state: State) -> Result<Vec<JoinRow>, Error> {
    let rows = sqlx::query(
        "SELECT request_id, group_id, ik_pub, account, member_id, request, at_ms
         FROM joins WHERE state = $1 ORDER BY at_ms, request_id LIMIT $2",
    )
    .bind(state.name())
    .bind(PAGE)
    .fetch_all(conn)
    .await?;
    let join = |row: Row| {
        Ok(JoinRow {
            id: RequestId::from_slice(row.try_get(0)?).whole("joins")?,
            group: GroupId::from_slice(row.try_get(1)?).whole("joins")?,
            ik_pub: InviteKey::from_slice(row.try_get(2)?).whole("joins")?,
            account: row.try_get::<String, _>(3)?.parse().whole("joins")?,
            member: MemberId::from_slice(row.try_get(4)?).whole("joins")?,
            request: row.try_get(5)?,
            at: Timestamp(unsigned(row.try_get(6)?)),
        })
    };
    rows.into_iter().map(join).collect()
}
