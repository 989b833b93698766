//! What is stored of a link, what is given again to a server that was put back, and that this one was.

use std::sync::Arc;

use causeway_protocol::{
    envelope::MAX_TTL_MS,
    ids::{ServerLinkId, StreamId, Timestamp},
    link::Place,
};
use causeway_store::{Db, Script};
use serde_json::Value;

use super::{
    AskError, Servers,
    line::{Line, Mark},
    lock, random,
};
use crate::{
    quota::Quota,
    storage::{
        self, keys,
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
        let mut script = Script::default();
        servers::set_place(&mut script, now, from, place);
        if has.is_empty() {
            db.write(script, Vec::new()).await?;
            return Ok(());
        }
        servers::select_given(&mut script, from);
        let (mut tx, rows) = db.begin_with(script).await?;
        let (server, had) = servers::read_given(&rows)?;
        if let Some(until) = has.iter().filter_map(|mark| mark.row()).max() {
            let mut script = Script::default();
            forward::done(&mut script, server, until);
            let most = self.rules.keep_bytes;
            given::keep(tx.conn(), script, (server, had), &given, most).await?;
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
        Ok(tx.commit().await?)
    }

    /// Whether the server shows for the first time that this one was put back from a copy, with nobody saying
    /// so at its start: it has more of it than there is. Then all that follows is numbered anew, so that nobody
    /// takes it for what was lost, and keys that may have been claimed are given to nobody.
    ///
    /// It may lie. So nothing else is done that a start after a restore does, and this once.
    pub(super) async fn was_put_back(
        &self,
        (db, now): (&Db, Timestamp),
        name: &str,
        line: &mut Line,
    ) -> Result<bool, AskError> {
        let Some(has) = line.giving.beyond() else { return Ok(false) };
        let mut read = db.read().await.map_err(storage::Error::from)?;
        let last = forward::last(read.conn()).await?;
        drop(read);
        if has <= last {
            return Ok(false);
        }
        line.conduct.was_refused(
            (now, self.now_ms()),
            "it says that it has more of this server than there is",
        );
        if lock(&self.ahead).replace(name.to_owned()).is_some() {
            return Ok(false);
        }
        tracing::error!(
            server = name,
            "it has more of what this server sent than this server knows of: server.db was put back from \
             a copy. Stop causeway, and start it once with `causeway run --after-restore`"
        );
        let mut tx = db.begin().await.map_err(storage::Error::from)?;
        let (fresh, opened) = (StreamId::new(random()?), lock(&self.streams).opened);
        let streams = given::begin_anew(tx.conn(), fresh, opened).await?;
        keys::withdraw_all(tx.conn()).await.map_err(storage::Error::from)?;
        tx.commit().await.map_err(storage::Error::from)?;
        *lock(&self.streams) = Arc::new(streams);
        lock(&self.lines).clear();
        self.news.notify_one();
        Ok(true)
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
