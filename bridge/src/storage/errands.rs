//! What is asked of the bot or a ghost where there is no portal, and who is alone with the bot.

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Read, Tx};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use sqlx::Row as _;

use super::{Error, at};
use crate::domain::command::{Command, Errand, What, Words};

/// Woken when there is one more.
pub const TOPIC: &str = "errands";

/// Most that wait of one user; what is more is not answered. Who invites all of a group into a room of
/// theirs is answered by each.
const MOST_OF_ONE: i64 = 50;
/// Most that wait.
const MOST: i64 = 1_000;
/// Rooms in which one user is alone with the bot; it leaves the oldest where there are more.
const CHATS_OF_ONE: i64 = 3;
/// All of these rooms; where there are more, it comes into no other.
const CHATS: i64 = 10_000;

/// One that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its row.
    pub id: i64,
    /// The event that asks it.
    pub event_id: OwnedEventId,
    /// When.
    pub asked_at: Timestamp,
    /// What.
    pub errand: Errand,
}

/// Keeps what is asked, unless too much waits already; `false`: it is not answered. What waits already
/// is answered once, however often it is asked.
///
/// # Errors
/// [`Error`]
pub async fn put(
    tx: &mut Tx,
    now: Timestamp,
    event: &EventId,
    errand: &Errand,
) -> Result<bool, Error> {
    let what = serde_json::to_string(&errand.what).map_err(|_| Error::Row("errands.what"))?;
    // Who is being answered just now is answered once more then.
    let waits = sqlx::query(
        "UPDATE errands SET event_id = $1
         WHERE by_user = $2 AND room_id = $3 AND of_user = $4 AND what = $5",
    )
    .bind(event.as_str())
    .bind(errand.by.as_str())
    .bind(errand.room.as_str())
    .bind(errand.of.as_str())
    .bind(&what)
    .execute(tx.conn())
    .await?;
    tx.wake(TOPIC);
    if waits.rows_affected() > 0 {
        return Ok(true);
    }
    let kept = sqlx::query(
        "INSERT INTO errands (event_id, room_id, by_user, of_user, what, asked_at)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE (SELECT count(*) FROM errands WHERE by_user = $3) < $7
           AND (SELECT count(*) FROM errands) < $8
         ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(event.as_str())
    .bind(errand.room.as_str())
    .bind(errand.by.as_str())
    .bind(errand.of.as_str())
    .bind(what)
    .bind(at(now))
    .bind(MOST_OF_ONE)
    .bind(MOST)
    .execute(tx.conn())
    .await?;
    Ok(kept.rows_affected() > 0)
}

/// All that wait, the oldest first.
///
/// # Errors
/// [`Error`]
pub async fn waiting(read: &mut Read) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query(
        "SELECT id, event_id, room_id, by_user, of_user, what, asked_at FROM errands ORDER BY id
         LIMIT 1000",
    )
    .fetch_all(read.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let user = |column: &str| -> Result<_, Error> {
                let id: String = row.try_get(column)?;
                UserId::parse(id).map_err(|_| Error::Row("errands"))
            };
            let (event, room): (String, String) =
                (row.try_get("event_id")?, row.try_get("room_id")?);
            let what: String = row.try_get("what")?;
            // Of another version: what it asks is not known here, and it holds nobody up.
            let unknown = What::Do(Command::Words(Words::Unknown), false);
            let what: What = serde_json::from_str(&what).unwrap_or(unknown);
            let asked_at: i64 = row.try_get("asked_at")?;
            Ok(Waiting {
                id: row.try_get("id")?,
                event_id: EventId::parse(event).map_err(|_| Error::Row("errands.event_id"))?,
                asked_at: Timestamp(u64::try_from(asked_at).unwrap_or_default()),
                errand: Errand {
                    room: RoomId::parse(room).map_err(|_| Error::Row("errands.room_id"))?,
                    by: user("by_user")?,
                    of: user("of_user")?,
                    what,
                },
            })
        })
        .collect()
}

/// It is answered, or never will be; it stays where the same was asked again meanwhile.
///
/// # Errors
/// [`Error`]
pub async fn done(tx: &mut Tx, known: &Waiting) -> Result<(), Error> {
    sqlx::query("DELETE FROM errands WHERE id = $1 AND event_id = $2")
        .bind(known.id)
        .bind(known.event_id.as_str())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Whether somebody is alone with the bot there.
///
/// # Errors
/// [`Error`]
pub async fn is_chat(conn: &mut Conn, room: &RoomId) -> Result<bool, Error> {
    let one = sqlx::query("SELECT 1 FROM chats WHERE room_id = $1")
        .bind(room.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(one.is_some())
}

/// Whether the bot may come into another.
///
/// # Errors
/// [`Error`]
pub async fn has_place(read: &mut Read) -> Result<bool, Error> {
    let chats: i64 =
        sqlx::query_scalar("SELECT count(*) FROM chats").fetch_one(read.conn()).await?;
    Ok(chats < CHATS)
}

/// The bot is alone with `user` there; the room that it leaves for that, if any.
///
/// # Errors
/// [`Error`]
pub async fn chat(
    tx: &mut Tx,
    now: Timestamp,
    room: &RoomId,
    user: &UserId,
) -> Result<Option<OwnedRoomId>, Error> {
    sqlx::query(
        "INSERT INTO chats (room_id, user_id, since) VALUES ($1, $2, $3)
         ON CONFLICT (room_id) DO UPDATE SET user_id = excluded.user_id",
    )
    .bind(room.as_str())
    .bind(user.as_str())
    .bind(at(now))
    .execute(tx.conn())
    .await?;
    let oldest: Option<String> = sqlx::query_scalar(
        "SELECT room_id FROM chats WHERE user_id = $1 ORDER BY since DESC, room_id DESC
         LIMIT 1 OFFSET $2",
    )
    .bind(user.as_str())
    .bind(CHATS_OF_ONE)
    .fetch_optional(tx.conn())
    .await?;
    oldest.map(|room| RoomId::parse(room).map_err(|_| Error::Row("chats.room_id"))).transpose()
}

/// The bot is not there any more.
///
/// # Errors
/// [`Error`]
pub async fn chat_ended(tx: &mut Tx, room: &RoomId) -> Result<(), Error> {
    sqlx::query("DELETE FROM chats WHERE room_id = $1")
        .bind(room.as_str())
        .execute(tx.conn())
        .await?;
    Ok(())
}
