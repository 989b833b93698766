//! How far the mailbox was read, where that is remembered.

use causeway_protocol::ids::{Generation, Seq, Timestamp};
use causeway_store::{Conn, Script};

use super::{Error, Whole as _, ms, signed, unsigned};

/// The last row that is in this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// By which the server numbered it.
    pub(crate) generation: Generation,
    pub(crate) seq: Seq,
    /// When it came.
    pub(crate) at: Timestamp,
}

pub(crate) fn put(script: &mut Script, place: &Place) {
    let query = script.add(
        "INSERT INTO place (id, generation, seq, at_ms) VALUES (1, $1, $2, $3)
         ON CONFLICT (id) DO UPDATE
         SET generation = excluded.generation, seq = excluded.seq, at_ms = excluded.at_ms",
    );
    query.bind(place.generation.as_bytes().as_slice()).bind(signed(place.seq.0)).bind(ms(place.at));
}

pub(crate) async fn get(conn: &mut Conn) -> Result<Option<Place>, Error> {
    let row: Option<(Vec<u8>, i64, i64)> =
        sqlx::query_as("SELECT generation, seq, at_ms FROM place WHERE id = 1")
            .fetch_optional(conn)
            .await?;
    row.map(|(generation, seq, at)| {
        Ok(Place {
            generation: Generation::from_slice(&generation).whole("place")?,
            seq: Seq(unsigned(seq)),
            at: Timestamp(unsigned(at)),
        })
    })
    .transpose()
}
