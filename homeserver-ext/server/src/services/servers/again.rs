//! What is stored of a link, and what is given again to a server that was put back.

use causeway_protocol::{
    envelope::MAX_TTL_MS,
    ids::{ServerLinkId, Timestamp},
    link::Place,
};
use causeway_store::Db;
use serde_json::Value;

use super::{
    Servers,
    line::{Line, Mark},
};
use crate::{
    quota::Quota,
    storage::{
        self,
        servers::{self, forward, given, progress},
    },
};

/// How often one server is given again what it had: each time costs what is kept for it.
const AGAIN: Quota = Quota::per_hour(12, 6);

impl Servers {
    /// Stores how far `from` was taken, and what it has; that is kept for a while.
    pub(super) async fn store(
        &self,
        (db, now): (&Db, Timestamp),
        from: &str,
        place: &Place,
        (has, given): (&[Mark], Vec<(i64, Value)>),
    ) -> Result<(), storage::Error> {
        let given: Vec<given::Item> = given.into_iter().map(|item| kept(now, item)).collect();
        let mut tx = db.begin().await?;
        servers::set_place(tx.conn(), now, from, place).await?;
        if !has.is_empty() {
            let server = servers::row(tx.conn(), from).await?;
            if let Some(until) = has.iter().filter_map(|mark| mark.row()).max() {
                forward::done(tx.conn(), server, until).await?;
                given::keep(tx.conn(), server, &given, self.rules.keep_bytes).await?;
            }
            for mark in has {
                match mark {
                    Mark::Rows(_) => {}
                    Mark::Part(_, cut) => progress::note_cut(tx.conn(), server, cut).await?,
                    Mark::Ops(group, epoch) => {
                        forward::has_ops(tx.conn(), server, *group, *epoch).await?;
                    }
                    Mark::Progress(until) => progress::told(tx.conn(), server, *until).await?,
                }
            }
        }
        Ok(tx.commit().await?)
    }

    /// Has the server given again what it had acknowledged and has no more, where it says so.
    pub(super) async fn give_again(
        &self,
        (db, now): (&Db, Timestamp),
        name: &str,
        line: &mut Line,
        mine: ServerLinkId,
    ) -> Result<(), storage::Error> {
        let Some(after) = line.giving.wants() else { return Ok(()) };
        if self.again.take(now, name.to_owned(), Some(AGAIN), 1).is_err() {
            line.conduct.was_limited(now, "times an hour that it is given again what it had");
            return Ok(());
        }
        let mut tx = db.begin().await?;
        let server = servers::row(tx.conn(), name).await?;
        let kept_from = given::go_back(tx.conn(), server, after).await?;
        tx.commit().await?;
        line.give_again(mine, (now, self.now_ms()), (after, kept_from));
        if line.giving.is_again() {
            tracing::warn!(
                server = name,
                "it was put back from a copy: it is given again what it had"
            );
        }
        Ok(())
    }
}

/// As it is kept: for as long as its group keeps what was said.
fn kept(now: Timestamp, (seq, item): (i64, Value)) -> given::Item {
    let ttl = |pointer: &str| item.pointer(pointer).and_then(Value::as_u64);
    let ttl_ms = ttl("/envelope/ttl_ms").or_else(|| ttl("/content/envelopes/0/ttl_ms"));
    let until = now.plus_ms(ttl_ms.unwrap_or(MAX_TTL_MS));
    given::Item { seq, text: item.to_string(), until }
}
