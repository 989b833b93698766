//! Messages of one's own that not all have, by the server's word, until it is known why.

use causeway_protocol::ids::{ClientId, EnvelopeId, Epoch, GroupId, Timestamp};
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
    /// When it was said.
    pub(crate) said: Timestamp,
    /// Its place among what was said.
    pub(crate) row: i64,
}

type Columns = (Vec<u8>, Vec<u8>, Vec<u8>, i64, i64, i64, i64);

/// Those behind the row `after`, in the order in which they were said, so many at most.
pub(crate) async fn some(conn: &mut Conn, after: i64, most: u32) -> Result<Vec<NotTaken>, Error> {
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT o.group_id, o.envelope_id, o.client_id, o.sealed_epoch, o.anew, o.created_ms, o.row
         FROM not_taken n JOIN outbox o ON o.group_id = n.group_id AND o.envelope_id = n.envelope_id
         WHERE o.state = 'accepted' AND o.sealed_epoch IS NOT NULL AND o.row > $1
         ORDER BY o.row LIMIT $2",
    )
    .bind(after)
    .bind(most)
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter().map(|(group, id, client_id, epoch, anew, said, row)| {
        Ok(NotTaken {
            row,
            said: Timestamp(u64::try_from(said).whole("outbox")?),
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

#[cfg(test)]
mod tests {
    use causeway_store::{Db, Lock, Options};

    use super::*;

    #[tokio::test]
    async fn those_behind_a_row_are_had_in_the_order_in_which_they_were_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.db");
        let options = Options { path, lock: Lock::Exclusive, schemas: &[crate::SCHEMA] };
        let db = Db::open(options).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let group = GroupId::new([7; 32]);
        for n in 1..=5_u8 {
            sqlx::query(
                "INSERT INTO outbox (group_id, client_id, content, created_ms, state, envelope_id,
                    sealed_epoch) VALUES ($1, $2, $3, $4, 'accepted', $5, 4)",
            )
            .bind(group.as_bytes().as_slice())
            .bind([n; 16].as_slice())
            .bind(b"words".as_slice())
            .bind(i64::from(n) * 1_000)
            .bind([10 + n; 16].as_slice())
            .execute(tx.conn())
            .await
            .unwrap();
            note(tx.conn(), &group, &EnvelopeId::new([10 + n; 16])).await.unwrap();
        }
        let (mut seen, mut behind) = (Vec::new(), 0);
        loop {
            let some = some(tx.conn(), behind, 2).await.unwrap();
            let Some(last) = some.last() else { break };
            behind = last.row;
            seen.extend(some.iter().map(|of| of.said.0));
            // What is looked at does not have to go for the next to be had.
            if seen.len() == 2 {
                looked_at(tx.conn(), &some[0], true).await.unwrap();
            }
        }
        assert_eq!(seen, [1_000, 2_000, 3_000, 4_000, 5_000]);
        assert_eq!(some(tx.conn(), 0, 9).await.unwrap().len(), 4);
    }
}
