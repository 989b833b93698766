//! What was said in groups that share a key and have members on other servers, for as long as one of these may have
//! it behind a cut (`docs/protocol.md` §7.3): as it stood in the outbox, to stand there again.

use causeway_protocol::ids::{EnvelopeId, Epoch, Timestamp};
use causeway_store::{Conn, Script, Tx};
use sqlx::Row as _;

use super::{Error, at, lanes};
use crate::domain::{lane::Lane, portal::PortalId};

/// Woken when it is to be looked why not all have something.
pub const TOPIC: &str = "late";

/// How long it is kept: a server that was away for longer has it again when somebody says it again.
const KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Most that wait for an op: of more than these the rooms of the oldest are told.
pub const MOST_WAITING: usize = 4_096;
/// Messages that are looked at in one go.
pub const AT_ONCE: usize = 64;

/// What not all have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// Its place among these.
    pub n: i64,
    /// Whose it is.
    pub portal: PortalId,
    /// The message, as it went last.
    pub message: EnvelopeId,
    /// Under which epoch that was sealed.
    pub epoch: Epoch,
    /// How often it was sealed anew.
    pub anew: u32,
    /// When it is kept no longer.
    pub ends_at: Timestamp,
}

/// Keeps what rows of the outbox say, each with the name under which it went, sealed in `epoch`, before they are
/// done: of all portals the newest 4,096, and what not all have until it is known what becomes of it.
pub fn keep(script: &mut Script, rows: &[(i64, EnvelopeId)], epoch: Epoch, now: Timestamp) {
    for (row, message) in rows {
        // What becomes of it from now on is told under its new name.
        let query = script.add(
            "UPDATE links SET message_id = $2 WHERE message_id = (SELECT late.message_id FROM late
                JOIN portal_outbox o ON o.txn = late.txn WHERE o.id = $1)",
        );
        query.bind(*row).bind(message.as_bytes().as_slice());
        let query = script.add(
            "INSERT INTO late (txn, lane, portal, author, who, sealed, accepted_at, expires_at,
                ends_at, message_id, epoch)
             SELECT txn, lane, portal, author, who, sealed, accepted_at, expires_at,
                CASE WHEN expires_at < $4 THEN expires_at ELSE $4 END, $2, $3
             FROM portal_outbox WHERE id = $1 AND taken_back = 0
             ON CONFLICT (txn) DO UPDATE SET message_id = excluded.message_id,
                epoch = excluded.epoch, anew = late.anew + 1, failed = FALSE",
        );
        let query = query.bind(*row).bind(message.as_bytes().as_slice());
        query.bind(i64::from(epoch.0)).bind(at(now.plus_ms(KEPT_MS)));
    }
    script.add("DELETE FROM late WHERE n <= (SELECT max(n) FROM late) - 4096 AND failed = FALSE");
}

/// Notes that not all have a message; `false` where nothing is kept of it.
///
/// # Errors
/// [`Error`]
pub async fn note(tx: &mut Tx, message: EnvelopeId) -> Result<bool, Error> {
    let noted = sqlx::query("UPDATE late SET failed = TRUE WHERE message_id = $1")
        .bind(message.as_bytes().as_slice())
        .execute(tx.conn())
        .await?;
    let is_kept = noted.rows_affected() > 0;
    if is_kept {
        tx.wake(TOPIC);
    }
    Ok(is_kept)
}

/// What not all have behind the `after`th, in the order in which it was said, at most [`AT_ONCE`].
///
/// # Errors
/// [`Error`]
pub async fn failed(conn: &mut Conn, after: i64) -> Result<Vec<Late>, Error> {
    let rows = sqlx::query(
        "SELECT n, portal, message_id, epoch, anew, ends_at FROM late
         WHERE failed = TRUE AND n > $1 ORDER BY n LIMIT 64",
    )
    .bind(after)
    .fetch_all(conn)
    .await?;
    let number = |number: i64| u32::try_from(number).map_err(|_| Error::Row("late"));
    let rows = rows.into_iter().map(|row| {
        let message: Vec<u8> = row.try_get(2)?;
        Ok(Late {
            n: row.try_get(0)?,
            portal: PortalId(row.try_get(1)?),
            message: EnvelopeId::from_slice(&message).map_err(|_| Error::Row("late.message_id"))?,
            epoch: Epoch(number(row.try_get(3)?)?),
            anew: number(row.try_get(4)?)?,
            ends_at: Timestamp(
                u64::try_from(row.try_get::<i64, _>(5)?).map_err(|_| Error::Row("late"))?,
            ),
        })
    });
    rows.collect()
}

/// Has it stand in the outbox again, behind what is there.
///
/// # Errors
/// [`Error`]
pub async fn again(tx: &mut Tx, of: &Late) -> Result<(), Error> {
    let lane: Option<String> = sqlx::query_scalar(
        "INSERT INTO portal_outbox (lane, txn, portal, author, who, sealed, accepted_at, expires_at)
         SELECT lane, txn, portal, author, who, sealed, accepted_at, expires_at FROM late
         WHERE n = $1 ON CONFLICT (txn) DO NOTHING RETURNING lane",
    )
    .bind(of.n)
    .fetch_optional(tx.conn())
    .await?;
    sqlx::query("UPDATE late SET failed = FALSE WHERE n = $1")
        .bind(of.n)
        .execute(tx.conn())
        .await?;
    if let Some(lane) = lane {
        let lane: Lane = lane.parse().map_err(|_| Error::Row("late.lane"))?;
        let mut script = Script::default();
        lanes::ready(tx, &mut script, std::iter::once(lane));
        script.run(tx.conn()).await?;
    }
    Ok(())
}

/// It is not sealed anew, whatever becomes of it.
///
/// # Errors
/// [`Error`]
pub async fn forget(tx: &mut Tx, of: &Late) -> Result<(), Error> {
    sqlx::query("DELETE FROM late WHERE n = $1").bind(of.n).execute(tx.conn()).await?;
    Ok(())
}

/// Whoever said it took it back in the room: it is not sealed anew, nor does it go where it stands in the outbox
/// for that.
///
/// # Errors
/// [`Error`]
pub async fn take_back(tx: &mut Tx, txn: &str) -> Result<(), Error> {
    let late = sqlx::query("DELETE FROM late WHERE txn = $1").bind(txn).execute(tx.conn()).await?;
    if late.rows_affected() > 0 {
        sqlx::query("UPDATE portal_outbox SET taken_back = 2 WHERE txn = $1")
            .bind(txn)
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

/// Likewise of what goes for the first time: when it is out nothing is kept of it.
pub fn take_back_first(script: &mut Script, txn: &str) {
    script
        .add("UPDATE portal_outbox SET taken_back = 1 WHERE txn = $1 AND taken_back = 0")
        .bind(txn);
}

/// Forgets what is kept no longer at `now`; of what not all have its room is told first.
///
/// # Errors
/// [`Error`]
pub async fn end(tx: &mut Tx, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM late WHERE ends_at <= $1 AND failed = FALSE")
        .bind(at(now))
        .execute(tx.conn())
        .await?;
    Ok(())
}
