//! Messages that were sealed pairwise: their keys for a day, and who lacks them.

use causeway_protocol::{
    fanout::Context,
    ids::{ClientId, DeviceId, EnvelopeId, Epoch, GroupId, RosterHash, Timestamp},
};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;

use super::{Error, Whole as _, ms, owed::WAIT_MS, unsigned};
use crate::{
    schemes::pairwise::FanOut,
    vault::{Class, Vault},
};

const TABLE: &str = "fan_outs";
/// Pieces that are made at once.
const PAGE: i64 = 64;

fn place(group: &GroupId, name: &ClientId) -> Vec<u8> {
    [group.as_bytes().as_slice(), name.as_bytes()].concat()
}

/// Keeps a message that goes in these envelopes, and whom it could not be given to; one that was sealed
/// before under the same name never went, or goes once more.
pub(crate) fn keep(
    script: &mut Script,
    vault: &Vault,
    fan_out: &FanOut,
    (names, lacking): (&[EnvelopeId], &[DeviceId]),
    (now, expires): (Timestamp, Timestamp),
) -> Result<(), Error> {
    let Context { group, epoch, roster, msg_id, .. } = fan_out.context();
    let sealed =
        vault.seal(Class::Ratchet, TABLE, "sealed", &place(group, msg_id), &fan_out.encode())?;
    script
        .add("DELETE FROM owed_pieces WHERE group_id = $1 AND client_id = $2")
        .bind(group.as_bytes().as_slice())
        .bind(msg_id.as_bytes().as_slice());
    script
        .add(
            "INSERT INTO fan_outs
                 (group_id, client_id, epoch, roster, names, sealed, at_ms, expires_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (group_id, client_id) DO UPDATE SET epoch = excluded.epoch,
                 roster = excluded.roster, names = excluded.names, sealed = excluded.sealed,
                 at_ms = excluded.at_ms, expires_ms = excluded.expires_ms",
        )
        .bind(group.as_bytes().as_slice())
        .bind(msg_id.as_bytes().as_slice())
        .bind(i64::from(epoch.0))
        .bind(roster.as_bytes().as_slice())
        .bind(names.iter().flat_map(|name| *name.as_bytes()).collect::<Vec<u8>>())
        .bind(sealed)
        .bind(ms(now))
        .bind(ms(expires));
    for device in lacking {
        script
            .add(
                "INSERT INTO owed_pieces (group_id, client_id, device, wedged, tries, next_ms)
                 VALUES ($1, $2, $3, FALSE, 0, $4)",
            )
            .bind(group.as_bytes().as_slice())
            .bind(msg_id.as_bytes().as_slice())
            .bind(device.as_bytes().as_slice())
            .bind(ms(now));
    }
    Ok(())
}

/// The message whose name begins with these 8 bytes and whose key is kept since `since`, and its epoch.
pub(crate) async fn find(
    conn: &mut Conn,
    group: &GroupId,
    begins: &[u8],
    since: Timestamp,
) -> Result<Option<(ClientId, Epoch)>, Error> {
    let row = sqlx::query(
        "SELECT client_id, epoch FROM fan_outs WHERE group_id = $1 AND substr(client_id, 1, 8) = $2
         AND sealed IS NOT NULL AND at_ms >= $3 ORDER BY at_ms DESC LIMIT 1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(begins)
    .bind(ms(since))
    .fetch_optional(conn)
    .await?;
    let found = |row: Row| {
        Ok((ClientId::from_slice(row.try_get(0)?).whole(TABLE)?, Epoch(row.try_get(1)?)))
    };
    row.map(found).transpose()
}

/// `device` could not open this message: it is given the key again, so many times at most.
pub(crate) async fn could_not_open(
    conn: &mut Conn,
    group: &GroupId,
    name: &ClientId,
    device: &DeviceId,
    most: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO owed_pieces (group_id, client_id, device, wedged, tries, next_ms)
         VALUES ($1, $2, $3, TRUE, 1, 0)
         ON CONFLICT (group_id, client_id, device) DO UPDATE
             SET wedged = TRUE, tries = owed_pieces.tries + 1, name = NULL, next_ms = 0
             WHERE owed_pieces.tries < $4",
    )
    .bind(group.as_bytes().as_slice())
    .bind(name.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(most)
    .execute(conn)
    .await?;
    Ok(())
}

/// A piece that is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owed {
    pub(crate) group: GroupId,
    pub(crate) name: ClientId,
    pub(crate) device: DeviceId,
}

/// A page of the pieces that may be made now, of what was said first before what was said later.
pub(crate) async fn owed(conn: &mut Conn, now: Timestamp) -> Result<Vec<Owed>, Error> {
    let rows = sqlx::query(
        "SELECT owed_pieces.group_id, owed_pieces.client_id, owed_pieces.device FROM owed_pieces
         JOIN fan_outs ON fan_outs.group_id = owed_pieces.group_id
             AND fan_outs.client_id = owed_pieces.client_id
         WHERE owed_pieces.name IS NULL AND (owed_pieces.next_ms <= $1 OR owed_pieces.next_ms > $2)
             AND fan_outs.sealed IS NOT NULL AND fan_outs.expires_ms > $1
         ORDER BY fan_outs.at_ms, fan_outs.client_id, owed_pieces.device LIMIT $3",
    )
    .bind(ms(now))
    .bind(ms(now.plus_ms(WAIT_MS)))
    .bind(PAGE)
    .fetch_all(conn)
    .await?;
    let owed = |row: Row| {
        Ok(Owed {
            group: GroupId::from_slice(row.try_get(0)?).whole("owed_pieces")?,
            name: ClientId::from_slice(row.try_get(1)?).whole("owed_pieces")?,
            device: DeviceId::from_slice(row.try_get(2)?).whole("owed_pieces")?,
        })
    };
    rows.into_iter().map(owed).collect()
}

/// A message whose key is kept, and when nobody is to read it any more.
pub(crate) async fn load(
    conn: &mut Conn,
    vault: &Vault,
    sender: DeviceId,
    Owed { group, name, .. }: &Owed,
) -> Result<Option<(FanOut, Timestamp)>, Error> {
    let row = sqlx::query(
        "SELECT epoch, roster, sealed, expires_ms FROM fan_outs
         WHERE group_id = $1 AND client_id = $2 AND sealed IS NOT NULL",
    )
    .bind(group.as_bytes().as_slice())
    .bind(name.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let context = Context {
        group: *group,
        sender,
        epoch: Epoch(row.try_get(0)?),
        roster: RosterHash::from_slice(row.try_get(1)?).whole(TABLE)?,
        msg_id: *name,
    };
    let place = place(group, name);
    let bytes = vault.unseal(Class::Ratchet, TABLE, "sealed", &place, row.try_get(2)?)?;
    let fan_out = FanOut::decode(context, &bytes).whole(TABLE)?;
    Ok(Some((fan_out, Timestamp(unsigned(row.try_get(3)?)))))
}

/// A message as it went, as far as this device knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentIn {
    /// The envelopes that carry it.
    pub names: Vec<EnvelopeId>,
    /// Who did not get it with these, or could not open it.
    pub lacking: Vec<Lacking>,
}

/// A device that did not get a message, or could not open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lacking {
    /// Which.
    pub device: DeviceId,
    /// It could not open it; else it could not be given anything.
    pub wedged: bool,
    /// The envelope in which it is given again, once that is made.
    pub name: Option<EnvelopeId>,
    /// It is given nothing any more: it is out of the group, or the group is over.
    pub is_out: bool,
}

/// How a message went; `None` where it was not sealed pairwise, or too long ago.
pub(crate) async fn sent_in(
    conn: &mut Conn,
    group: &GroupId,
    name: &ClientId,
) -> Result<Option<SentIn>, Error> {
    let names: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT names FROM fan_outs WHERE group_id = $1 AND client_id = $2")
            .bind(group.as_bytes().as_slice())
            .bind(name.as_bytes().as_slice())
            .fetch_optional(&mut *conn)
            .await?;
    let Some(names) = names else { return Ok(None) };
    let rows = sqlx::query(
        "SELECT device, wedged, name FROM owed_pieces WHERE group_id = $1 AND client_id = $2",
    )
    .bind(group.as_bytes().as_slice())
    .bind(name.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    let lacking = |row: Row| {
        let name: Option<Vec<u8>> = row.try_get(2)?;
        Ok(Lacking {
            device: DeviceId::from_slice(row.try_get(0)?).whole("owed_pieces")?,
            wedged: row.try_get(1)?,
            is_out: name.as_ref().is_some_and(Vec::is_empty),
            name: name
                .filter(|name| !name.is_empty())
                .map(|name| EnvelopeId::from_slice(&name))
                .transpose()
                .whole("owed_pieces")?,
        })
    };
    let names = names.chunks(EnvelopeId::LEN).map(|name| EnvelopeId::from_slice(name).whole(TABLE));
    Ok(Some(SentIn {
        names: names.collect::<Result<_, _>>()?,
        lacking: rows.into_iter().map(lacking).collect::<Result<_, Error>>()?,
    }))
}

/// It is given in this envelope.
pub(crate) async fn given(
    conn: &mut Conn,
    Owed { group, name, device }: &Owed,
    envelope: &EnvelopeId,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE owed_pieces SET name = $4 WHERE group_id = $1 AND client_id = $2 AND device = $3",
    )
    .bind(group.as_bytes().as_slice())
    .bind(name.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(envelope.as_bytes().as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// The envelope in which it was to go cannot go: it is made anew.
pub(crate) async fn not_given(conn: &mut Conn, envelope: &EnvelopeId) -> Result<(), Error> {
    sqlx::query("UPDATE owed_pieces SET name = NULL, next_ms = 0 WHERE name = $1")
        .bind(envelope.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// It cannot be given now, and is tried again from `next` on.
pub(crate) async fn put_off(
    conn: &mut Conn,
    Owed { group, name, device }: &Owed,
    next: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE owed_pieces SET next_ms = $4
         WHERE group_id = $1 AND client_id = $2 AND device = $3",
    )
    .bind(group.as_bytes().as_slice())
    .bind(name.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(ms(next))
    .execute(conn)
    .await?;
    Ok(())
}

/// It is not owed any more: whose it was is out of the group. Who sent it still asks how far it came, so
/// the row stays, with a name that no envelope has.
pub(crate) async fn forgive(
    conn: &mut Conn,
    Owed { group, name, device }: &Owed,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE owed_pieces SET name = $4 WHERE group_id = $1 AND client_id = $2 AND device = $3",
    )
    .bind(group.as_bytes().as_slice())
    .bind(name.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(Vec::new())
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets keys of before `keys`, and messages of before `all`.
pub(crate) async fn expire(conn: &mut Conn, keys: Timestamp, all: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE fan_outs SET sealed = NULL WHERE at_ms < $1 AND sealed IS NOT NULL")
        .bind(ms(keys))
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "DELETE FROM owed_pieces WHERE (group_id, client_id) IN
             (SELECT group_id, client_id FROM fan_outs WHERE at_ms < $1)",
    )
    .bind(ms(all))
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM fan_outs WHERE at_ms < $1").bind(ms(all)).execute(conn).await?;
    Ok(())
}
