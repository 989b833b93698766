//! Other servers: how far what comes from them was taken, and what they said of their accounts.

pub(crate) mod ends;
pub(crate) mod forward;
pub(crate) mod given;
pub(crate) mod left;
pub(crate) mod progress;
pub(crate) mod rooms;
pub(crate) mod shared;

use std::collections::{BTreeMap, VecDeque};

use causeway_protocol::{
    api::AccountAnswer,
    device::DeviceOf,
    ids::{AccountId, DeviceId, Epoch, GroupId, ServerLinkId, StreamId, Timestamp},
    link::{Ack, Had, Place},
};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;

use super::{
    DeviceRow, Error, GroupRow,
    devices::give_mailbox,
    groups::{self, Group},
    many, ms, name_of, number, time,
};

/// What became of what another server told as a group's home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Those here whom it concerns are told.
    Done,
    /// It makes no sense, or is not its to tell.
    Refused(&'static str),
    /// The group is not known here, or as of an older epoch.
    UnknownGroup,
}

/// A group of which `from` tells something as its home, as of `epoch`; else what becomes of that.
pub(crate) async fn of_home(
    conn: &mut Conn,
    from: &str,
    (id, epoch): (GroupId, Epoch),
) -> Result<Result<Group, Told>, Error> {
    let group = groups::by_id(conn, id).await?;
    let Some(group) = group.filter(|group| epoch <= group.head.epoch) else {
        return Ok(Err(Told::UnknownGroup));
    };
    let is_its = groups::home(conn, id).await?.as_deref() == Some(from);
    Ok(if is_its { Ok(group) } else { Err(Told::Refused("not_its_home")) })
}

/// What is known of a server.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// How far what it sends was taken.
    pub(crate) place: Place,
    /// When something came of it last; 0 where nothing has.
    pub(crate) heard: Timestamp,
    /// Since when the operator lets nothing pass; none: it does.
    pub(crate) paused: Option<Timestamp>,
    /// Up to which number it has acknowledged all; 0: nothing yet.
    pub(crate) given: i64,
}

/// What is known of the server of this name.
pub(crate) async fn load(conn: &mut Conn, name: &str) -> Result<Known, Error> {
    let row = sqlx::query(
        "SELECT link, taken, former, heard_ms, paused_ms, had_stream, had_seq, given
         FROM servers WHERE name = $1",
    )
    .bind(name)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(Known::default()) };
    let link: Option<&[u8]> = row.try_get(0)?;
    let seq = number(row.try_get(1)?, "taken")?;
    let present = match link {
        Some(link) => Some(Ack { link: name_of!(ServerLinkId, link, "link")?, seq }),
        None => None,
    };
    let former = row.try_get::<&[u8], _>(2)?.chunks(ServerLinkId::LEN);
    let former = former.map(|link| name_of!(ServerLinkId, link, "former"));
    let former = former.collect::<Result<VecDeque<_>, Error>>()?;
    let paused: Option<i64> = row.try_get(4)?;
    let stream: Option<&[u8]> = row.try_get(5)?;
    let stream = stream.map(|stream| name_of!(StreamId, stream, "had_stream")).transpose()?;
    let had = Had { stream, seq: number(row.try_get(6)?, "had_seq")? };
    Ok(Known {
        place: Place { present, former, had },
        heard: time(row.try_get(3)?),
        paused: paused.map(time),
        given: row.try_get(7)?,
    })
}

/// Since when the operator lets nothing pass to and from the server; none: it does.
pub(crate) async fn set_paused(
    conn: &mut Conn,
    name: &str,
    since: Option<Timestamp>,
) -> Result<(), Error> {
    let server = row(conn, name).await?;
    sqlx::query("UPDATE servers SET paused_ms = $2 WHERE server = $1")
        .bind(server)
        .bind(since.map(ms))
        .execute(conn)
        .await?;
    Ok(())
}

/// A server that something is known of.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// When something came of it last; 0 where nothing has.
    pub(crate) heard: Timestamp,
    pub(crate) paused: Option<Timestamp>,
}

/// Servers that something is known of, by name behind `after`, so many at most.
pub(crate) async fn named(
    conn: &mut Conn,
    after: Option<&str>,
    most: u32,
) -> Result<Vec<Named>, Error> {
    let rows = sqlx::query(
        "SELECT name, heard_ms, paused_ms FROM servers WHERE name > $1 ORDER BY name LIMIT $2",
    )
    .bind(after.unwrap_or_default())
    .bind(most)
    .fetch_all(conn)
    .await?;
    let rows = rows.iter().map(|row| {
        let paused: Option<i64> = row.try_get(2)?;
        let heard = time(row.try_get(1)?);
        Ok(Named { name: row.try_get(0)?, heard, paused: paused.map(time) })
    });
    rows.collect()
}

/// The server of this name, if something is known of it.
pub(crate) async fn of_name(conn: &mut Conn, name: &str) -> Result<Option<Named>, Error> {
    let row = sqlx::query("SELECT heard_ms, paused_ms FROM servers WHERE name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let paused: Option<i64> = row.try_get(1)?;
    let heard = time(row.try_get(0)?);
    Ok(Some(Named { name: name.to_owned(), heard, paused: paused.map(time) }))
}

/// What this server has of another: groups with members there, their devices, and rows of single
/// devices that it has not taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shared {
    pub(crate) groups: u64,
    pub(crate) devices: u64,
    pub(crate) rows: u64,
    /// Bytes that are kept of what it acknowledged.
    pub(crate) kept_bytes: u64,
}

/// What this server has of the one of this name.
pub(crate) async fn shared(conn: &mut Conn, name: &str) -> Result<Shared, Error> {
    let (groups, devices, rows, kept): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(DISTINCT g.grp) FROM devices d JOIN group_devices g
                ON g.device_id = d.device_id AND g.member_id = d.member_id
                WHERE d.server = s.server AND g.until_epoch IS NULL),
            (SELECT count(*) FROM devices d WHERE d.server = s.server AND d.listed),
            (SELECT count(*) FROM devices d JOIN mailbox m ON m.device = d.device
                WHERE d.server = s.server),
            s.given_bytes
         FROM servers s WHERE s.name = $1",
    )
    .bind(name)
    .fetch_optional(conn)
    .await?
    .unwrap_or_default();
    Ok(Shared {
        groups: number(groups, "groups")?,
        devices: number(devices, "devices")?,
        rows: number(rows, "rows")?,
        kept_bytes: number(kept, "given_bytes")?,
    })
}

/// A server with members of a group.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) devices: u64,
    /// The last op that it has of this server, which is the group's home; none where it is not, or the other
    /// has none.
    pub(crate) epoch: Option<u64>,
    /// Messages for all of the group that it has not taken; 1,000 at most are counted.
    pub(crate) waiting: u64,
}

/// The other servers with members of a group, by name, 1,000 at most.
pub(crate) async fn replicas(conn: &mut Conn, group: GroupRow) -> Result<Vec<Replica>, Error> {
    let rows = sqlx::query(
        "SELECT s.name, count(DISTINCT d.device),
            (SELECT r.epoch FROM replicas r WHERE r.server = s.server AND r.grp = $1),
            (SELECT count(*) FROM (SELECT b.seq FROM broadcasts b
                WHERE b.grp = $1 AND b.seq > s.forwarded AND b.ended IS NULL AND b.sender IS NOT NULL
                LIMIT 1000) w)
         FROM group_devices g
         JOIN devices d ON d.device_id = g.device_id AND d.member_id = g.member_id
         JOIN servers s ON s.server = d.server
         WHERE g.grp = $1 AND g.until_epoch IS NULL
         GROUP BY s.server, s.name, s.forwarded ORDER BY s.name LIMIT 1000",
    )
    .bind(group)
    .fetch_all(conn)
    .await?;
    let rows = rows.iter().map(|row| {
        let epoch: Option<i64> = row.try_get(2)?;
        Ok(Replica {
            name: row.try_get(0)?,
            devices: number(row.try_get(1)?, "devices")?,
            epoch: epoch.and_then(|epoch| u64::try_from(epoch).ok()),
            waiting: number(row.try_get(3)?, "waiting")?,
        })
    });
    rows.collect()
}

/// Notes how far what the server sends was taken.
pub(crate) fn set_place(script: &mut Script, now: Timestamp, name: &str, place: &Place) {
    let present = place.present.as_ref();
    let former: Vec<u8> = place.former.iter().flat_map(|link| *link.as_bytes()).collect();
    let query = script.add(
        "INSERT INTO servers (name, link, taken, former, heard_ms, had_stream, had_seq, forwarded)
         SELECT $1, $2, $3, $4, $5, $6, $7, last FROM numbers WHERE TRUE
         ON CONFLICT (name) DO UPDATE SET link = excluded.link, taken = excluded.taken,
         former = excluded.former, heard_ms = excluded.heard_ms,
         had_stream = excluded.had_stream, had_seq = excluded.had_seq",
    );
    query
        .bind(name)
        .bind(present.map(|present| present.link.as_bytes().to_vec()))
        .bind(present.map_or(0, |present| i64::try_from(present.seq).unwrap_or(i64::MAX)))
        .bind(former)
        .bind(ms(now))
        .bind(place.had.stream.map(|stream| stream.as_bytes().to_vec()))
        .bind(i64::try_from(place.had.seq).unwrap_or(i64::MAX));
}

/// Asks for a server's number, and up to which of its own it has what is kept.
pub(crate) fn select_given(script: &mut Script, name: &str) {
    script.add("SELECT server, given FROM servers WHERE name = $1").bind(name);
}

/// Reads what [`select_given`] asked for.
pub(crate) fn read_given(rows: &[Row]) -> Result<(i64, i64), Error> {
    let row = rows.first().ok_or(Error::Row("servers"))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The number of a server in this database.
pub(crate) async fn row(conn: &mut Conn, name: &str) -> Result<i64, Error> {
    sqlx::query(
        "INSERT INTO servers (name, taken, former, heard_ms, forwarded)
         SELECT $1, 0, $2, 0, last FROM numbers WHERE TRUE ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(Vec::new())
    .execute(&mut *conn)
    .await?;
    Ok(sqlx::query_scalar("SELECT server FROM servers WHERE name = $1")
        .bind(name)
        .fetch_one(conn)
        .await?)
}

/// Has a device of another server's account known here, with a mailbox from which its server is served; its
/// number. `None` where its server has not shown that the account has it, or it is known as somebody
/// else's.
pub(crate) async fn know_device(
    conn: &mut Conn,
    account: &AccountId,
    device: &DeviceOf,
) -> Result<Option<DeviceRow>, Error> {
    let Some((shown, _)) = self::account(conn, account).await? else { return Ok(None) };
    let has = shown.list.devices.contains(&device.device_id);
    if shown.list.member_id != device.member_id || !has {
        return Ok(None);
    }
    let server = row(conn, account.server()).await?;
    // An identity that is somebody's here is nobody's elsewhere.
    let list = serde_json::to_string(&shown.list).map_err(|_| Error::Row("list"))?;
    let is_known: Option<i64> = sqlx::query_scalar(
        "INSERT INTO accounts (account, member_id, list, created_ms) VALUES ($1, $2, $3, 0)
         ON CONFLICT DO NOTHING RETURNING created_ms",
    )
    .bind(account.as_str())
    .bind(device.member_id.as_ref())
    .bind(list)
    .fetch_optional(&mut *conn)
    .await?;
    if is_known.is_none() && !has_identity(conn, account, device).await? {
        return Ok(None);
    }
    let row: Option<DeviceRow> = sqlx::query_scalar(
        "INSERT INTO devices (device_id, member_id, account, record, listed, server)
         VALUES ($1, $2, $3, '', TRUE, $4)
         ON CONFLICT (device_id) DO UPDATE SET listed = TRUE
         WHERE devices.account = excluded.account AND devices.member_id = excluded.member_id
            AND devices.server = excluded.server
         RETURNING device",
    )
    .bind(device.device_id.as_ref())
    .bind(device.member_id.as_ref())
    .bind(account.as_str())
    .bind(server)
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = row {
        give_mailbox(conn, row).await?;
        sqlx::query("UPDATE remote_accounts SET named = TRUE WHERE account = $1 AND named = FALSE")
            .bind(account.as_str())
            .execute(conn)
            .await?;
    }
    Ok(row)
}

/// Whether an account is known with the identity of this device.
async fn has_identity(
    conn: &mut Conn,
    account: &AccountId,
    device: &DeviceOf,
) -> Result<bool, Error> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM accounts WHERE account = $1 AND member_id = $2)",
    );
    Ok(query.bind(account.as_str()).bind(device.member_id.as_ref()).fetch_one(conn).await?)
}

/// Who claims in the name of this server: no device of ours, which all have numbers above 0.
pub(crate) async fn claimer(conn: &mut Conn, name: &str) -> Result<DeviceRow, Error> {
    let row: Option<i64> = sqlx::query_scalar("SELECT server FROM servers WHERE name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await?;
    Ok(DeviceRow(-row.unwrap_or(0)))
}

/// What was said last of an account, and when that was asked.
pub(crate) async fn account(
    conn: &mut Conn,
    account: &AccountId,
) -> Result<Option<(AccountAnswer, Timestamp)>, Error> {
    let row = sqlx::query("SELECT answer, asked_ms FROM remote_accounts WHERE account = $1")
        .bind(account.as_str())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let answer = serde_json::from_str(row.try_get(0)?).map_err(|_| Error::Row("answer"))?;
    Ok(Some((answer, time(row.try_get(1)?))))
}

/// Keeps what was said now of an account, and whose its devices are.
pub(crate) async fn keep_account(
    conn: &mut Conn,
    now: Timestamp,
    said: &AccountAnswer,
) -> Result<(), Error> {
    let account = &said.list.account;
    let answer = serde_json::to_string(said).map_err(|_| Error::Row("answer"))?;
    sqlx::query(
        "INSERT INTO remote_accounts (account, version, answer, asked_ms, server)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account) DO UPDATE SET version = excluded.version,
         answer = excluded.answer, asked_ms = excluded.asked_ms",
    )
    .bind(account.as_str())
    .bind(i64::from(said.list.version))
    .bind(answer)
    .bind(ms(now))
    .bind(account.server())
    .execute(&mut *conn)
    .await?;
    // Where a group names it, it is among the accounts.
    sqlx::query("UPDATE accounts SET list = $3 WHERE account = $1 AND member_id = $2")
        .bind(account.as_str())
        .bind(said.list.member_id.as_ref())
        .bind(serde_json::to_string(&said.list).map_err(|_| Error::Row("list"))?)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM remote_devices WHERE account = $1")
        .bind(account.as_str())
        .execute(&mut *conn)
        .await?;
    for device in &said.list.devices {
        // Another account that names it has shown that it is its own, as this one has: the newest word
        // counts, and a key of it opens for the device alone.
        sqlx::query(
            "INSERT INTO remote_devices (device_id, account) VALUES ($1, $2)
             ON CONFLICT (device_id) DO UPDATE SET account = excluded.account",
        )
        .bind(device.as_bytes().as_slice())
        .bind(account.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// On which other server each of these devices is, as far as that is known.
pub(crate) async fn servers_of(
    conn: &mut Conn,
    devices: &[DeviceId],
) -> Result<BTreeMap<String, Vec<DeviceId>>, Error> {
    let ids: Vec<Vec<u8>> = devices.iter().map(|device| device.as_bytes().to_vec()).collect();
    let mut by_server: BTreeMap<String, Vec<DeviceId>> = BTreeMap::new();
    for some in ids.chunks(many::CHUNK) {
        let mut script = Script::default();
        script.add_list(
            "SELECT device_id, account FROM remote_devices WHERE device_id IN (",
            some.to_vec(),
        );
        for row in script.run(&mut *conn).await? {
            let device = name_of!(DeviceId, row.try_get::<&[u8], _>(0)?, "device_id")?;
            let account = row.try_get::<&str, _>(1)?.parse::<AccountId>();
            let account = account.map_err(|_| Error::Row("account"))?;
            by_server.entry(account.server().to_owned()).or_default().push(device);
        }
    }
    Ok(by_server)
}
