//! Groups of other programs, of which lines were imported: what they are called.

use causeway_protocol::ids::GroupId;
use causeway_store::Conn;

use super::{Error, Whole as _};
use crate::vault::{Class, Vault};

/// Adds a group, or calls it otherwise.
pub(crate) async fn put(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    name: &str,
) -> Result<(), Error> {
    let sealed =
        vault.seal(Class::Content, "imported", "name", group.as_bytes(), name.as_bytes())?;
    sqlx::query(
        "INSERT INTO imported (group_id, name) VALUES ($1, $2)
         ON CONFLICT (group_id) DO UPDATE SET name = excluded.name",
    )
    .bind(group.as_bytes().as_slice())
    .bind(sealed)
    .execute(conn)
    .await?;
    Ok(())
}

/// All of them with their names, of which there are few.
pub(crate) async fn all(conn: &mut Conn, vault: &Vault) -> Result<Vec<(GroupId, String)>, Error> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT group_id, name FROM imported ORDER BY group_id")
            .fetch_all(conn)
            .await?;
    let read = |(id, sealed): (Vec<u8>, Vec<u8>)| {
        let name = vault.unseal(Class::Content, "imported", "name", &id, &sealed)?;
        let group = GroupId::new(id.try_into().whole("imported")?);
        Ok((group, String::from_utf8(name.to_vec()).whole("imported")?))
    };
    rows.into_iter().map(read).collect()
}

/// Such a group is not there any more; its lines go by themselves.
pub(crate) async fn remove(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query("DELETE FROM imported WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}
