//! Invites as the server knows them, and the requests that they let in.

use causeway_protocol::{
    api::{InviteState, PendingRequest},
    ids::{AccountId, InviteKey, MemberId, RequestId, Timestamp},
};
use causeway_store::Conn;

use super::{Error, GroupRow, ms, name_of, number, time};

#[derive(sqlx::FromRow)]
struct InviteColumns {
    ik_pub: Vec<u8>,
    account: String,
    expires_ms: i64,
    uses: i64,
    used: i64,
    revoked: bool,
}

impl TryFrom<InviteColumns> for InviteState {
    type Error = Error;

    fn try_from(columns: InviteColumns) -> Result<Self, Error> {
        Ok(Self {
            ik_pub: name_of!(InviteKey, &columns.ik_pub, "ik_pub")?,
            by: columns.account.parse().map_err(|_| Error::Row("account"))?,
            expires_ms: time(columns.expires_ms),
            uses: number(columns.uses, "uses")?,
            used: number(columns.used, "used")?,
            revoked: columns.revoked,
        })
    }
}

/// Puts an invite in whose key is not known in this group.
pub(crate) async fn insert(
    conn: &mut Conn,
    group: GroupRow,
    by: &AccountId,
    ik_pub: &InviteKey,
    expires: Timestamp,
    uses: u32,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO invites (grp, ik_pub, account, expires_ms, uses, revoked)
         VALUES ($1, $2, $3, $4, $5, FALSE)",
    )
    .bind(group)
    .bind(ik_pub.as_ref())
    .bind(by.as_str())
    .bind(ms(expires))
    .bind(i64::from(uses))
    .execute(conn)
    .await?;
    Ok(())
}

/// Invites of a group by key, from `from` on.
pub(crate) async fn page(
    conn: &mut Conn,
    group: GroupRow,
    from: Option<InviteKey>,
    limit: u32,
) -> Result<Vec<InviteState>, Error> {
    let rows: Vec<InviteColumns> = sqlx::query_as(
        "SELECT i.ik_pub, i.account, i.expires_ms, i.uses, i.revoked,
            (SELECT count(*) FROM invite_uses u WHERE u.grp = i.grp AND u.ik_pub = i.ik_pub) AS used
         FROM invites i WHERE i.grp = $1 AND i.ik_pub >= $2 ORDER BY i.ik_pub LIMIT $3",
    )
    .bind(group)
    .bind(from.as_ref().map_or(&[][..], |from| from.as_ref()))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(InviteState::try_from).collect()
}

/// One invite.
pub(crate) async fn by_key(
    conn: &mut Conn,
    group: GroupRow,
    ik_pub: &InviteKey,
) -> Result<Option<InviteState>, Error> {
    let row: Option<InviteColumns> = sqlx::query_as(
        "SELECT i.ik_pub, i.account, i.expires_ms, i.uses, i.revoked,
            (SELECT count(*) FROM invite_uses u WHERE u.grp = i.grp AND u.ik_pub = i.ik_pub) AS used
         FROM invites i WHERE i.grp = $1 AND i.ik_pub = $2",
    )
    .bind(group)
    .bind(ik_pub.as_ref())
    .fetch_optional(conn)
    .await?;
    row.map(InviteState::try_from).transpose()
}

/// Takes an invite back.
pub(crate) async fn revoke(
    conn: &mut Conn,
    group: GroupRow,
    ik_pub: &InviteKey,
) -> Result<(), Error> {
    sqlx::query("UPDATE invites SET revoked = TRUE WHERE grp = $1 AND ik_pub = $2")
        .bind(group)
        .bind(ik_pub.as_ref())
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether an identity has used an invite.
pub(crate) async fn is_used_by(
    conn: &mut Conn,
    group: GroupRow,
    ik_pub: &InviteKey,
    member: &MemberId,
) -> Result<bool, Error> {
    let used: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM invite_uses WHERE grp = $1 AND ik_pub = $2 AND member_id = $3",
    )
    .bind(group)
    .bind(ik_pub.as_ref())
    .bind(member.as_ref())
    .fetch_optional(conn)
    .await?;
    Ok(used.is_some())
}

/// Takes one use.
pub(crate) async fn take_use(
    conn: &mut Conn,
    group: GroupRow,
    ik_pub: &InviteKey,
    member: &MemberId,
) -> Result<(), Error> {
    sqlx::query("INSERT INTO invite_uses (grp, ik_pub, member_id) VALUES ($1, $2, $3)")
        .bind(group)
        .bind(ik_pub.as_ref())
        .bind(member.as_ref())
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that those who may admit are told that an identity asks by this link, unless they were since
/// `since`; whether they are to be told.
pub(crate) async fn tell(
    conn: &mut Conn,
    now: Timestamp,
    group: GroupRow,
    ik_pub: &InviteKey,
    member: &MemberId,
    since: Timestamp,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE invite_uses SET told_ms = $4
         WHERE grp = $1 AND ik_pub = $2 AND member_id = $3 AND (told_ms IS NULL OR told_ms <= $5)",
    )
    .bind(group)
    .bind(ik_pub.as_ref())
    .bind(member.as_ref())
    .bind(ms(now))
    .bind(ms(since))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many invites an account has open, in all groups that it is in.
pub(crate) async fn open(conn: &mut Conn, by: &AccountId, now: Timestamp) -> Result<u32, Error> {
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM invites i
         WHERE i.account = $1 AND i.revoked = FALSE AND i.expires_ms > $2
            AND i.uses > (SELECT count(*) FROM invite_uses u
                WHERE u.grp = i.grp AND u.ik_pub = i.ik_pub)
            AND EXISTS (SELECT 1 FROM group_members m
                WHERE m.grp = i.grp AND m.account = i.account)",
    )
    .bind(by.as_str())
    .bind(ms(now))
    .fetch_one(conn)
    .await?;
    number(open, "invites")
}

/// Whether a request was taken in; it may have been admitted or refused since.
pub(crate) async fn has_request(
    conn: &mut Conn,
    group: GroupRow,
    id: &RequestId,
) -> Result<bool, Error> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM join_requests WHERE grp = $1 AND request_id = $2")
            .bind(group)
            .bind(id.as_ref())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// Keeps a request in place of the identity's former ones.
pub(crate) async fn put_request(
    conn: &mut Conn,
    now: Timestamp,
    group: GroupRow,
    id: &RequestId,
    member: &MemberId,
    request: &[u8],
) -> Result<(), Error> {
    drop_requests_of(conn, group, member).await?;
    sqlx::query(
        "INSERT INTO join_requests (grp, request_id, member_id, request, at_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(group)
    .bind(id.as_ref())
    .bind(member.as_ref())
    .bind(request)
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Requests that wait, by id, from `from` on.
pub(crate) async fn requests(
    conn: &mut Conn,
    group: GroupRow,
    from: Option<RequestId>,
    limit: u32,
) -> Result<Vec<PendingRequest>, Error> {
    let rows: Vec<(Vec<u8>, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT request_id, request, at_ms FROM join_requests
         WHERE grp = $1 AND request_id >= $2 ORDER BY request_id LIMIT $3",
    )
    .bind(group)
    .bind(from.as_ref().map_or(&[][..], |from| from.as_ref()))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(id, request, at)| {
            let id = name_of!(RequestId, &id, "request_id")?;
            Ok(PendingRequest { id, request, at_ms: time(at) })
        })
        .collect()
}

/// Drops one request.
pub(crate) async fn drop_request(
    conn: &mut Conn,
    group: GroupRow,
    id: &RequestId,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM join_requests WHERE grp = $1 AND request_id = $2")
        .bind(group)
        .bind(id.as_ref())
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops the requests of one identity: it is in.
pub(crate) async fn drop_requests_of(
    conn: &mut Conn,
    group: GroupRow,
    member: &MemberId,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM join_requests WHERE grp = $1 AND member_id = $2")
        .bind(group)
        .bind(member.as_ref())
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets at most `limit` invites that ended before `before`.
pub(crate) async fn forget_ended(
    conn: &mut Conn,
    before: Timestamp,
    limit: u32,
) -> Result<(), Error> {
    let ended: Vec<(GroupRow, Vec<u8>)> = sqlx::query_as(
        "SELECT grp, ik_pub FROM invites WHERE expires_ms < $1 ORDER BY expires_ms LIMIT $2",
    )
    .bind(ms(before))
    .bind(i64::from(limit))
    .fetch_all(&mut *conn)
    .await?;
    for (group, ik_pub) in ended {
        sqlx::query("DELETE FROM invite_uses WHERE grp = $1 AND ik_pub = $2")
            .bind(group)
            .bind(&ik_pub)
            .execute(&mut *conn)
            .await?;
        sqlx::query("DELETE FROM invites WHERE grp = $1 AND ik_pub = $2")
            .bind(group)
            .bind(&ik_pub)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Drops requests from before `before`.
pub(crate) async fn prune_requests(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM join_requests WHERE at_ms < $1")
        .bind(ms(before))
        .execute(conn)
        .await?;
    Ok(())
}
