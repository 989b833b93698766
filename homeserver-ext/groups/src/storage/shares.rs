//! History that is given on purpose: what is to go to whom, and what came of whose.

use causeway_protocol::ids::{DeviceId, GroupId, MemberId, ShareId, Timestamp};
use causeway_store::{Conn, Row};
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Error, KEPT_MS, Whole as _, ms, owed::WAIT_MS};
use crate::vault::{Class, Vault};

/// What is counted of a member is counted for so long.
const DAY_MS: u64 = 24 * 3_600_000;
/// Pages that one member may send in a day.
const MOST_PAGES: i64 = 256;
/// Shares of one member of which pages lack, begun in the last day.
const MOST_BEGUN: i64 = 8;

/// Which device waits for the rest of which share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owed {
    pub(crate) share: ShareId,
    pub(crate) device: DeviceId,
    pub(crate) group: GroupId,
    pub(crate) pages: u16,
    pub(crate) next_page: u16,
}

/// Keeps a page of a share.
pub(crate) async fn keep_page(
    conn: &mut Conn,
    vault: &Vault,
    share: &ShareId,
    page: u16,
    plaintext: &[u8],
) -> Result<(), Error> {
    sqlx::query("INSERT INTO share_pages (share_id, page, sealed) VALUES ($1, $2, $3)")
        .bind(share.as_bytes().as_slice())
        .bind(i64::from(page))
        .bind(vault.seal(
            Class::Content,
            "share_pages",
            "sealed",
            &place(share, page),
            plaintext,
        )?)
        .execute(conn)
        .await?;
    Ok(())
}

/// A page of a share that is owed to somebody.
pub(crate) async fn page(
    conn: &mut Conn,
    vault: &Vault,
    share: &ShareId,
    page: u16,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT sealed FROM share_pages WHERE share_id = $1 AND page = $2")
            .bind(share.as_bytes().as_slice())
            .bind(i64::from(page))
            .fetch_one(conn)
            .await?;
    Ok(vault.unseal(Class::Content, "share_pages", "sealed", &place(share, page), &sealed)?)
}

fn place(share: &ShareId, page: u16) -> Vec<u8> {
    [share.as_bytes().as_slice(), &page.to_be_bytes()].concat()
}

/// Notes that a device is to be given a share.
pub(crate) async fn owe(conn: &mut Conn, owed: &Owed, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO owed_shares (share_id, device, group_id, pages, next_page, since_ms, next_ms)
         VALUES ($1, $2, $3, $4, $5, $6, 0)",
    )
    .bind(owed.share.as_bytes().as_slice())
    .bind(owed.device.as_bytes().as_slice())
    .bind(owed.group.as_bytes().as_slice())
    .bind(i64::from(owed.pages))
    .bind(i64::from(owed.next_page))
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// How many shares wait to be given.
pub(crate) async fn waiting(conn: &mut Conn) -> Result<i64, Error> {
    let count = sqlx::query_scalar("SELECT COUNT(DISTINCT share_id) FROM owed_shares");
    Ok(count.fetch_one(conn).await?)
}

/// Devices that the rest of a share waits for, or that have finished envelopes waiting.
pub(crate) async fn is_waiting(
    conn: &mut Conn,
    group: &GroupId,
    share: &ShareId,
    devices: &[DeviceId],
) -> Result<bool, Error> {
    let owed: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM owed_shares WHERE share_id = $1")
        .bind(share.as_bytes().as_slice())
        .fetch_one(&mut *conn)
        .await?;
    let mut waits = owed > 0;
    for device in devices {
        let finished: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM outgoing WHERE group_id = $1 AND device = $2")
                .bind(group.as_bytes().as_slice())
                .bind(device.as_bytes().as_slice())
                .fetch_one(&mut *conn)
                .await?;
        waits |= finished > 0;
    }
    Ok(waits)
}

/// A page of what is to be given and may go now, what was not tried yet first.
pub(crate) async fn owed(conn: &mut Conn, now: Timestamp) -> Result<Vec<Owed>, Error> {
    let rows = sqlx::query(
        "SELECT share_id, device, group_id, pages, next_page FROM owed_shares
         WHERE next_ms <= $1 OR next_ms > $2
         ORDER BY next_ms, since_ms, share_id, device LIMIT 64",
    )
    .bind(ms(now))
    .bind(ms(now.plus_ms(WAIT_MS)))
    .fetch_all(conn)
    .await?;
    let owed = |row: Row| {
        Ok(Owed {
            share: ShareId::from_slice(row.try_get(0)?).whole("owed_shares")?,
            device: DeviceId::from_slice(row.try_get(1)?).whole("owed_shares")?,
            group: GroupId::from_slice(row.try_get(2)?).whole("owed_shares")?,
            pages: row.try_get(3)?,
            next_page: row.try_get(4)?,
        })
    };
    rows.into_iter().map(owed).collect()
}

/// It cannot be given now: others go before it, and it is tried from `next` on.
pub(crate) async fn put_off(conn: &mut Conn, owed: &Owed, next: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE owed_shares SET next_ms = $3 WHERE share_id = $1 AND device = $2")
        .bind(owed.share.as_bytes().as_slice())
        .bind(owed.device.as_bytes().as_slice())
        .bind(ms(next))
        .execute(conn)
        .await?;
    Ok(())
}

/// Pages before `next_page` are finished for that device.
pub(crate) async fn given(conn: &mut Conn, owed: &Owed, next_page: u16) -> Result<(), Error> {
    if next_page >= owed.pages {
        return let_go(conn, owed).await;
    }
    sqlx::query(
        "UPDATE owed_shares SET next_page = $3, next_ms = 0 WHERE share_id = $1 AND device = $2",
    )
    .bind(owed.share.as_bytes().as_slice())
    .bind(owed.device.as_bytes().as_slice())
    .bind(i64::from(next_page))
    .execute(conn)
    .await?;
    Ok(())
}

/// That device has all of it, or is not to have more; the last of them takes the pages with it.
pub(crate) async fn let_go(conn: &mut Conn, owed: &Owed) -> Result<(), Error> {
    let share = owed.share.as_bytes().as_slice();
    sqlx::query("DELETE FROM owed_shares WHERE share_id = $1 AND device = $2")
        .bind(share)
        .bind(owed.device.as_bytes().as_slice())
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "DELETE FROM share_pages WHERE share_id = $1
         AND NOT EXISTS (SELECT 1 FROM owed_shares WHERE owed_shares.share_id = $1)",
    )
    .bind(share)
    .execute(conn)
    .await?;
    Ok(())
}

/// A page that came, and of whose share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came {
    pub(crate) group: GroupId,
    pub(crate) member: MemberId,
    pub(crate) device: DeviceId,
    pub(crate) share: ShareId,
    pub(crate) page: u16,
    pub(crate) pages: u16,
}

/// What is to be done with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It came for the first time.
    New,
    /// It was here.
    Known,
    /// It is not of the share that began under this id.
    Differs,
    /// Too many shares were begun.
    TooManyBegun,
    /// Too many pages came; that is said for the first of them.
    TooMany { is_first: bool },
}

/// Counts a page, and notes that it came.
pub(crate) async fn note(conn: &mut Conn, came: &Came, now: Timestamp) -> Result<Noted, Error> {
    let pages = count(conn, came, now).await?;
    if pages > MOST_PAGES {
        return Ok(Noted::TooMany { is_first: pages == MOST_PAGES + 1 });
    }
    let bit = 1_i64 << came.page.min(62);
    let begun: Option<(i64, i64)> = sqlx::query_as(
        "SELECT pages, taken FROM heard_shares
         WHERE group_id = $1 AND device = $2 AND share_id = $3",
    )
    .bind(came.group.as_bytes().as_slice())
    .bind(came.device.as_bytes().as_slice())
    .bind(came.share.as_bytes().as_slice())
    .fetch_optional(&mut *conn)
    .await?;
    match begun {
        Some((pages, _)) if pages != i64::from(came.pages) => return Ok(Noted::Differs),
        Some((_, taken)) if taken & bit != 0 => return Ok(Noted::Known),
        // Of one page it is whole when it begins.
        None if came.pages > 1 && begun_of(conn, came, now).await? >= MOST_BEGUN => {
            return Ok(Noted::TooManyBegun);
        }
        Some(_) | None => {}
    }
    let query = sqlx::query(
        "INSERT INTO heard_shares
             (group_id, device, share_id, member_id, pages, taken, lacking, since_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $5 - 1, $7)
         ON CONFLICT (group_id, device, share_id) DO UPDATE
         SET taken = heard_shares.taken + excluded.taken, lacking = heard_shares.lacking - 1",
    );
    query
        .bind(came.group.as_bytes().as_slice())
        .bind(came.device.as_bytes().as_slice())
        .bind(came.share.as_bytes().as_slice())
        .bind(came.member.as_bytes().as_slice())
        .bind(i64::from(came.pages))
        .bind(bit)
        .bind(ms(now))
        .execute(conn)
        .await?;
    Ok(Noted::New)
}

/// How many pages that member has sent today, with this one; what is beyond the bound is counted as one.
async fn count(conn: &mut Conn, came: &Came, now: Timestamp) -> Result<i64, Error> {
    let pages = sqlx::query_scalar(
        "INSERT INTO sharers (group_id, member_id, since_ms, pages) VALUES ($1, $2, $3, 1)
         ON CONFLICT (group_id, member_id) DO UPDATE
         SET pages = CASE WHEN sharers.since_ms <= $4 THEN 1 ELSE sharers.pages + 1 END,
             since_ms = CASE WHEN sharers.since_ms <= $4 THEN $3 ELSE sharers.since_ms END
         RETURNING pages",
    )
    .bind(came.group.as_bytes().as_slice())
    .bind(came.member.as_bytes().as_slice())
    .bind(ms(now))
    .bind(ms(now.minus_ms(DAY_MS)))
    .fetch_one(conn)
    .await?;
    Ok(pages)
}

async fn begun_of(conn: &mut Conn, came: &Came, now: Timestamp) -> Result<i64, Error> {
    let begun = sqlx::query_scalar(
        "SELECT COUNT(*) FROM heard_shares
         WHERE group_id = $1 AND member_id = $2 AND lacking > 0 AND since_ms > $3",
    )
    .bind(came.group.as_bytes().as_slice())
    .bind(came.member.as_bytes().as_slice())
    .bind(ms(now.minus_ms(DAY_MS)))
    .fetch_one(conn)
    .await?;
    Ok(begun)
}

/// Lets go of what could not be given in a month, and of what is known of shares of before.
pub(crate) async fn expire(conn: &mut Conn, now: Timestamp) -> Result<(), Error> {
    let kept = ms(now.minus_ms(KEPT_MS));
    sqlx::query("DELETE FROM owed_shares WHERE since_ms < $1")
        .bind(kept)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM share_pages WHERE share_id NOT IN (SELECT share_id FROM owed_shares)")
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM heard_shares WHERE since_ms < $1")
        .bind(kept)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM sharers WHERE since_ms < $1")
        .bind(ms(now.minus_ms(DAY_MS)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets go of all of a group.
pub(crate) async fn forget(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    let id = group.as_bytes().as_slice();
    sqlx::query(
        "DELETE FROM share_pages
         WHERE share_id IN (SELECT share_id FROM owed_shares WHERE group_id = $1)",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM owed_shares WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM heard_shares WHERE group_id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM sharers WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM shared_lines WHERE group_id = $1").bind(id).execute(conn).await?;
    Ok(())
}
