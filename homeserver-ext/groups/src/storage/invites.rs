//! Links that this device can admit by.

use causeway_protocol::ids::{DeviceId, GroupId, InviteKey, MemberId, Timestamp};
use causeway_store::Conn;
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Error, Whole as _, ms, owed::WAIT_MS, unsigned};
use crate::vault::{Class, Vault};

/// A link and what this device knows of its use. The link is a secret: no `Debug`.
#[derive(Clone)]
pub(crate) struct HeldInvite {
    pub(crate) ik_pub: InviteKey,
    pub(crate) group: GroupId,
    pub(crate) link: Zeroizing<String>,
    pub(crate) made_here: bool,
    pub(crate) expires: Timestamp,
    pub(crate) uses: u32,
    pub(crate) used: u32,
    pub(crate) revoked: bool,
}

/// Keeps a link that `maker` made.
pub(crate) async fn insert(
    conn: &mut Conn,
    vault: &Vault,
    invite: &HeldInvite,
    maker: &MemberId,
) -> Result<(), Error> {
    let key = invite.ik_pub.as_bytes();
    let sealed = vault.seal(Class::Signing, "invites", "sealed", key, invite.link.as_bytes())?;
    sqlx::query(
        "INSERT INTO invites (ik_pub, group_id, sealed, made_here, expires_ms, uses, maker)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(key.as_slice())
    .bind(invite.group.as_bytes().as_slice())
    .bind(sealed)
    .bind(invite.made_here)
    .bind(ms(invite.expires))
    .bind(i64::from(invite.uses))
    .bind(maker.as_bytes().as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn held(
    conn: &mut Conn,
    vault: &Vault,
    ik_pub: &InviteKey,
) -> Result<Option<HeldInvite>, Error> {
    let row = sqlx::query(
        "SELECT group_id, sealed, made_here, expires_ms, uses, used,
                EXISTS (SELECT 1 FROM revoked_links r
                    WHERE r.ik_pub = invites.ik_pub AND r.group_id = invites.group_id)
         FROM invites WHERE ik_pub = $1",
    )
    .bind(ik_pub.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let sealed: Vec<u8> = row.try_get(1)?;
        let link = vault.unseal(Class::Signing, "invites", "sealed", ik_pub.as_bytes(), &sealed)?;
        Ok(HeldInvite {
            ik_pub: *ik_pub,
            group: GroupId::from_slice(row.try_get(0)?).whole("invites")?,
            link: Zeroizing::new(std::str::from_utf8(&link).whole("invites")?.to_owned()),
            made_here: row.try_get(2)?,
            expires: Timestamp(unsigned(row.try_get(3)?)),
            uses: row.try_get(4)?,
            used: row.try_get(5)?,
            revoked: row.try_get(6)?,
        })
    })
    .transpose()
}

/// Keys of the links for `group` that this device holds.
pub(crate) async fn of_group(conn: &mut Conn, group: &GroupId) -> Result<Vec<InviteKey>, Error> {
    let keys: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT ik_pub FROM invites WHERE group_id = $1 ORDER BY ik_pub")
            .bind(group.as_bytes().as_slice())
            .fetch_all(conn)
            .await?;
    keys.iter().map(|key| InviteKey::from_slice(key).whole("invites")).collect()
}

/// Keys of the links for `group` that are good at `now`: those made here, or all that are held.
pub(crate) async fn good(
    conn: &mut Conn,
    group: &GroupId,
    now: Timestamp,
    all: bool,
) -> Result<Vec<InviteKey>, Error> {
    let keys: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT ik_pub FROM invites WHERE group_id = $1 AND expires_ms >= $2
         AND used < uses AND (made_here = TRUE OR $3)
         AND ik_pub NOT IN (SELECT ik_pub FROM revoked_links WHERE group_id = $1)
         ORDER BY ik_pub",
    )
    .bind(group.as_bytes().as_slice())
    .bind(ms(now))
    .bind(all)
    .fetch_all(conn)
    .await?;
    keys.iter().map(|key| InviteKey::from_slice(key).whole("invites")).collect()
}

/// How many links for `group` were given by other admins, and how many of them `maker` made.
pub(crate) async fn given_in(
    conn: &mut Conn,
    group: &GroupId,
    maker: &MemberId,
) -> Result<(i64, i64), Error> {
    Ok(sqlx::query_as(
        "SELECT COUNT(*), COUNT(CASE WHEN maker = $2 THEN 1 END)
         FROM invites WHERE group_id = $1 AND made_here = FALSE",
    )
    .bind(group.as_bytes().as_slice())
    .bind(maker.as_bytes().as_slice())
    .fetch_one(conn)
    .await?)
}

/// Lets go of links that ended before `before`.
pub(crate) async fn expire(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM invites WHERE expires_ms < $1").bind(ms(before)).execute(conn).await?;
    Ok(())
}

/// Notes that `device` is to be given this link.
pub(crate) async fn owe(
    conn: &mut Conn,
    ik_pub: &InviteKey,
    device: &DeviceId,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO owed_invites (ik_pub, device, since_ms) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(ik_pub.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// It cannot be given now: others go before it, and it is tried from `next` on.
pub(crate) async fn put_off(
    conn: &mut Conn,
    ik_pub: &InviteKey,
    device: &DeviceId,
    next: Timestamp,
) -> Result<(), Error> {
    sqlx::query("UPDATE owed_invites SET next_ms = $3 WHERE ik_pub = $1 AND device = $2")
        .bind(ik_pub.as_bytes().as_slice())
        .bind(device.as_bytes().as_slice())
        .bind(ms(next))
        .execute(conn)
        .await?;
    Ok(())
}

/// Which devices are to be given which links and may be now: what was not tried yet first.
pub(crate) async fn owed(
    conn: &mut Conn,
    now: Timestamp,
) -> Result<Vec<(InviteKey, DeviceId)>, Error> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT ik_pub, device FROM owed_invites WHERE next_ms <= $1 OR next_ms > $2
         ORDER BY next_ms, ik_pub, device LIMIT 256",
    )
    .bind(ms(now))
    .bind(ms(now.plus_ms(WAIT_MS)))
    .fetch_all(conn)
    .await?;
    let owed = |(key, device): (Vec<u8>, Vec<u8>)| {
        let key = InviteKey::from_slice(&key).whole("owed_invites")?;
        Ok((key, DeviceId::from_slice(&device).whole("owed_invites")?))
    };
    rows.into_iter().map(owed).collect()
}

/// It was given, or is not owed any more.
pub(crate) async fn given(
    conn: &mut Conn,
    ik_pub: &InviteKey,
    device: &DeviceId,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM owed_invites WHERE ik_pub = $1 AND device = $2")
        .bind(ik_pub.as_bytes().as_slice())
        .bind(device.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}
