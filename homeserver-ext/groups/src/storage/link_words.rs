//! What became of links: taken back, used by whom, and who is still to be told.

use causeway_protocol::ids::{DeviceId, GroupId, InviteKey, MemberId, Timestamp};
use causeway_store::Conn;

use super::{Error, Whole as _, ms, owed::WAIT_MS};

/// Links that this device does not hold, and is told are taken back, in one group.
const MAX_UNHELD: i64 = 1_000;
/// As long as a client lets a link live.
const UNHELD_MS: u64 = 366 * 24 * 3_600_000;

/// What is to be told of a link to one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) group: GroupId,
    pub(crate) ik_pub: InviteKey,
    pub(crate) device: DeviceId,
    /// Who took a use; `None`: the link was taken back.
    pub(crate) used_by: Option<MemberId>,
}

/// Notes that a link was taken back, here (`is_mine`) or by whom this device believes.
pub(crate) async fn revoke(
    conn: &mut Conn,
    ik_pub: &InviteKey,
    group: &GroupId,
    now: Timestamp,
    is_mine: bool,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO revoked_links (ik_pub, group_id, at_ms, told_again) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(ik_pub.as_bytes().as_slice())
    .bind(group.as_bytes().as_slice())
    .bind(ms(now))
    .bind(!is_mine)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether one more link of `group` that is not held here may be noted as taken back.
pub(crate) async fn has_room(conn: &mut Conn, group: &GroupId) -> Result<bool, Error> {
    let noted: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM revoked_links WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .fetch_one(conn)
        .await?;
    Ok(noted < MAX_UNHELD)
}

/// Links of `group` that were taken back here and not told again with an op since; they are now.
pub(crate) async fn to_tell_again(
    conn: &mut Conn,
    group: &GroupId,
) -> Result<Vec<InviteKey>, Error> {
    let keys: Vec<Vec<u8>> = sqlx::query_scalar(
        "UPDATE revoked_links SET told_again = TRUE WHERE group_id = $1 AND told_again = FALSE
         RETURNING ik_pub",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    keys.iter().map(|key| InviteKey::from_slice(key).whole("revoked_links")).collect()
}

/// Notes that this identity takes a use of a link of `group` that is held here; `false` if that was
/// known.
pub(crate) async fn count_use(
    conn: &mut Conn,
    group: &GroupId,
    ik_pub: &InviteKey,
    member: &MemberId,
) -> Result<bool, Error> {
    let (key, member) = (ik_pub.as_bytes().as_slice(), member.as_bytes().as_slice());
    let noted = sqlx::query(
        "INSERT INTO link_uses (ik_pub, member_id)
         SELECT ik_pub, $2 FROM invites WHERE ik_pub = $1 AND group_id = $3
         ON CONFLICT DO NOTHING",
    )
    .bind(key)
    .bind(member)
    .bind(group.as_bytes().as_slice())
    .execute(&mut *conn)
    .await?;
    if noted.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("UPDATE invites SET used = used + 1 WHERE ik_pub = $1")
        .bind(key)
        .execute(conn)
        .await?;
    Ok(true)
}

/// Whether this identity's use is among those that are counted.
pub(crate) async fn is_used_by(
    conn: &mut Conn,
    ik_pub: &InviteKey,
    member: &MemberId,
) -> Result<bool, Error> {
    let noted: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM link_uses WHERE ik_pub = $1 AND member_id = $2")
            .bind(ik_pub.as_bytes().as_slice())
            .bind(member.as_bytes().as_slice())
            .fetch_one(conn)
            .await?;
    Ok(noted > 0)
}

/// Notes that `device` is to be told.
pub(crate) async fn owe(conn: &mut Conn, owed: &Owed, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO owed_words (group_id, ik_pub, device, member_id, since_ms)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(owed.group.as_bytes().as_slice())
    .bind(owed.ik_pub.as_bytes().as_slice())
    .bind(owed.device.as_bytes().as_slice())
    .bind(member_of(owed))
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that `device`, which is given the link, is to be told who has used it.
pub(crate) async fn owe_uses(
    conn: &mut Conn,
    ik_pub: &InviteKey,
    device: &DeviceId,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO owed_words (group_id, ik_pub, device, member_id, since_ms)
         SELECT i.group_id, u.ik_pub, $2, u.member_id, $3
         FROM link_uses u JOIN invites i ON i.ik_pub = u.ik_pub WHERE u.ik_pub = $1
         ON CONFLICT DO NOTHING",
    )
    .bind(ik_pub.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

type OwedColumns = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

/// A page of what is still to be told and may go now: what was not tried yet first, of that taken
/// back first.
pub(crate) async fn owed(conn: &mut Conn, now: Timestamp) -> Result<Vec<Owed>, Error> {
    let rows: Vec<OwedColumns> = sqlx::query_as(
        "SELECT group_id, ik_pub, device, member_id FROM owed_words
         WHERE next_ms <= $1 OR next_ms > $2
         ORDER BY next_ms, length(member_id), ik_pub, group_id, device, member_id LIMIT 256",
    )
    .bind(ms(now))
    .bind(ms(now.plus_ms(WAIT_MS)))
    .fetch_all(conn)
    .await?;
    let owed = |(group, key, device, member): OwedColumns| {
        let used_by = match member.as_slice() {
            [] => None,
            member => Some(MemberId::from_slice(member).whole("owed_words")?),
        };
        Ok(Owed {
            group: GroupId::from_slice(&group).whole("owed_words")?,
            ik_pub: InviteKey::from_slice(&key).whole("owed_words")?,
            device: DeviceId::from_slice(&device).whole("owed_words")?,
            used_by,
        })
    };
    rows.into_iter().map(owed).collect()
}

/// It cannot be told now: others go before it, and it is tried from `next` on.
pub(crate) async fn put_off(conn: &mut Conn, owed: &Owed, next: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "UPDATE owed_words SET next_ms = $5
         WHERE ik_pub = $1 AND device = $2 AND member_id = $3 AND group_id = $4",
    )
    .bind(owed.ik_pub.as_bytes().as_slice())
    .bind(owed.device.as_bytes().as_slice())
    .bind(member_of(owed))
    .bind(owed.group.as_bytes().as_slice())
    .bind(ms(next))
    .execute(conn)
    .await?;
    Ok(())
}

/// It was told, or is not owed any more.
pub(crate) async fn told(conn: &mut Conn, owed: &Owed) -> Result<(), Error> {
    let query = sqlx::query(
        "DELETE FROM owed_words
         WHERE ik_pub = $1 AND device = $2 AND member_id = $3 AND group_id = $4",
    );
    query
        .bind(owed.ik_pub.as_bytes().as_slice())
        .bind(owed.device.as_bytes().as_slice())
        .bind(member_of(owed))
        .bind(owed.group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets go of what is about links that are not held any more.
pub(crate) async fn expire(conn: &mut Conn, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM link_uses WHERE ik_pub NOT IN (SELECT ik_pub FROM invites)")
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "DELETE FROM revoked_links
         WHERE at_ms < $1 AND ik_pub NOT IN (SELECT ik_pub FROM invites)",
    )
    .bind(ms(now.minus_ms(UNHELD_MS)))
    .execute(conn)
    .await?;
    Ok(())
}

fn member_of(owed: &Owed) -> Vec<u8> {
    owed.used_by.map(|member| member.as_bytes().to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use causeway_store::{Db, Lock, Options};

    use super::*;
    use crate::storage::SCHEMA;

    #[tokio::test]
    async fn a_use_counts_in_the_links_own_group_alone_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let (path, lock) = (dir.path().join("client.db"), Lock::Exclusive);
        let db = Db::open(Options { path, lock, schemas: &[SCHEMA] }).await.unwrap();
        let (own, other) = (GroupId::new([1; 32]), GroupId::new([2; 32]));
        let (key, member) = (InviteKey::new([3; 32]), MemberId::new([4; 32]));
        let mut tx = db.begin().await.unwrap();
        sqlx::query(
            "INSERT INTO invites (ik_pub, group_id, sealed, made_here, expires_ms, uses)
             VALUES ($1, $2, $3, TRUE, 1, 2)",
        )
        .bind(key.as_bytes().as_slice())
        .bind(own.as_bytes().as_slice())
        .bind([0].as_slice())
        .execute(tx.conn())
        .await
        .unwrap();
        for (group, is_new) in [(other, false), (own, true), (own, false)] {
            assert_eq!(count_use(tx.conn(), &group, &key, &member).await.unwrap(), is_new);
        }
        let used: i64 = sqlx::query_scalar("SELECT used FROM invites WHERE ik_pub = $1")
            .bind(key.as_bytes().as_slice())
            .fetch_one(tx.conn())
            .await
            .unwrap();
        assert_eq!(used, 1);
        drop(tx);
        db.close().await;
    }
}
