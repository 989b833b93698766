//! Messages of one's own that not all have, by the server's word, until it is known why.

use causeway_protocol::ids::{ClientId, EnvelopeId, Epoch, GroupId};
use causeway_store::Conn;

use super::{Error, Whole as _};

/// Notes that not all have it.
pub(crate) async fn note(conn: &mut Conn, group: &GroupId, id: &EnvelopeId) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO not_taken (group_id, envelope_id) SELECT group_id, envelope_id FROM outbox
         WHERE group_id = $1 AND envelope_id = $2 AND sealed_epoch IS NOT NULL
         ON CONFLICT DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(id.as_bytes().as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// One of them, as it was accepted.
#[derive(Debug)]
pub(crate) struct NotTaken {
    pub(crate) group: GroupId,
    pub(crate) id: EnvelopeId,
    pub(crate) client_id: ClientId,
    /// Under which it was sealed.
    pub(crate) epoch: Epoch,
    /// How often it was sealed anew.
    pub(crate) anew: i64,
}

type Columns = (Vec<u8>, Vec<u8>, Vec<u8>, i64, i64);

/// All of them, in the order in which they were said, so many at most.
pub(crate) async fn all(conn: &mut Conn, most: u32) -> Result<Vec<NotTaken>, Error> {
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT o.group_id, o.envelope_id, o.client_id, o.sealed_epoch, o.anew FROM not_taken n
         JOIN outbox o ON o.group_id = n.group_id AND o.envelope_id = n.envelope_id
         WHERE o.state = 'accepted' AND o.sealed_epoch IS NOT NULL ORDER BY o.row LIMIT $1",
    )
    .bind(most)
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter().map(|(group, id, client_id, epoch, anew)| {
        Ok(NotTaken {
            group: GroupId::from_slice(&group).whole("outbox")?,
            id: EnvelopeId::from_slice(&id).whole("outbox")?,
            client_id: ClientId::from_slice(&client_id).whole("outbox")?,
            epoch: Epoch(u32::try_from(epoch).whole("outbox")?),
            anew,
        })
    });
    rows.collect()
}

/// It is known why; where it `waits` again it is sealed anew.
pub(crate) async fn looked_at(conn: &mut Conn, of: &NotTaken, waits: bool) -> Result<(), Error> {
    sqlx::query("DELETE FROM not_taken WHERE group_id = $1 AND envelope_id = $2")
        .bind(of.group.as_bytes().as_slice())
        .bind(of.id.as_bytes().as_slice())
        .execute(&mut *conn)
        .await?;
    if waits {
        sqlx::query(
            "UPDATE outbox SET state = 'queued', anew = anew + 1
             WHERE client_id = $1 AND state = 'accepted' AND length(content) > 0",
        )
        .bind(of.client_id.as_bytes().as_slice())
        .execute(conn)
        .await?;
    }
    Ok(())
}
