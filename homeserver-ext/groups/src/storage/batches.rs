//! Finished envelopes on their way, sealed, with the rows of their sender's queue that they carry:
//! one batch for each group.

use causeway_protocol::ids::GroupId;
use causeway_store::{Conn, Row, Script};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Error, Whole as _, json};
use crate::vault::{Class, Vault, VaultError};

/// A batch as it is stored.
pub(crate) struct Stored<T> {
    /// Never used twice.
    pub(crate) id: i64,
    pub(crate) batch: T,
    /// Rows of the queue, in the order of the batch's messages.
    pub(crate) rows: Vec<i64>,
}

/// The batch of a group.
pub(crate) async fn get<T: DeserializeOwned>(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
) -> Result<Option<Stored<T>>, Error> {
    let mut script = Script::default();
    select(&mut script, group);
    read(vault, group, script.run(conn).await?.first())
}

/// Asks for the batch of a group, for [`read`].
pub(crate) fn select(script: &mut Script, group: &GroupId) {
    let query = script.add("SELECT id, sealed, rows, kept_for FROM batches WHERE group_id = $1");
    query.bind(group.as_bytes().as_slice());
}

/// Reads what [`select`] asked for.
pub(crate) fn read<T: DeserializeOwned>(
    vault: &Vault,
    group: &GroupId,
    row: Option<&Row>,
) -> Result<Option<Stored<T>>, Error> {
    let Some(row) = row else { return Ok(None) };
    let (rows, kept_for): (&str, Option<&str>) = (row.try_get(2)?, row.try_get(3)?);
    let bytes = opened(vault, group, row.try_get(1)?, kept_for)?;
    let batch = serde_json::from_slice(&bytes).whole("batches")?;
    let rows = serde_json::from_str(rows).whole("batches")?;
    Ok(Some(Stored { id: row.try_get(0)?, batch, rows }))
}

/// Keeps the batch of a group that has none, once the script is run, whose last row is for [`inserted`].
pub(crate) fn insert(
    script: &mut Script,
    vault: &Vault,
    group: &GroupId,
    batch: &impl Serialize,
    rows: &[i64],
) -> Result<(), Error> {
    let bytes = Zeroizing::new(serde_json::to_vec(batch).whole("batches")?);
    let place = group.as_bytes().as_slice();
    let query =
        script.add("INSERT INTO batches (group_id, sealed, rows) VALUES ($1, $2, $3) RETURNING id");
    query
        .bind(place)
        .bind(vault.seal(Class::Content, "batches", "sealed", place, &bytes)?)
        .bind(json(&rows));
    Ok(())
}

/// Which batch that is.
pub(crate) fn inserted(rows: &[Row]) -> Result<i64, Error> {
    Ok(rows.last().ok_or(Error::Broken("batches"))?.try_get(0)?)
}

pub(crate) fn end(script: &mut Script, id: i64) {
    script.add("DELETE FROM batches WHERE id = $1").bind(id);
}

pub(crate) async fn delete(conn: &mut Conn, id: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM batches WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// Drops the batch of a group, whatever it is, also if it does not open.
pub(crate) async fn delete_of(
    conn: &mut Conn,
    group: &GroupId,
) -> Result<(), causeway_store::Error> {
    sqlx::query("DELETE FROM batches WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Opens what this version sealed, or what an older one kept: as it was, or for a lane of the bridge.
fn opened(
    vault: &Vault,
    group: &GroupId,
    sealed: Vec<u8>,
    kept_for: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let open = |table, place| vault.unseal(Class::Content, table, "sealed", place, &sealed);
    match kept_for {
        None => open("batches", group.as_bytes().as_slice()),
        Some("") => Ok(Zeroizing::new(sealed)),
        Some(lane) => open("portal_batches", lane.as_bytes()),
    }
}
