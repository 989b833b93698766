//! Asks another server something small over the way that everything takes, and says how far it came.

use std::time::Duration;

use causeway_protocol::{
    ids::{ItemId, Timestamp},
    link::{Answer, Ask, Call, Item},
};
use causeway_store::Db;
use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{AskError, OUTWARD, Servers, Waiting, Waits, line::Stands, lock, random};

/// How long the answer is waited for at most: a frame that is lost goes again after 5 s.
const LONGEST: Duration = Duration::from_secs(20);
/// How much longer it stays on its way, so that it can be seen where it is.
const STAYS_MS: u64 = 10_000;

/// How far it came.
#[derive(Debug)]
pub(crate) enum Way {
    /// It was answered, after so long.
    Answered(Answer, Duration),
    /// It was not, within so long, and stands there.
    Unanswered(Stands, Duration),
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Pinged {
    /// When something came of the server before; none where nothing ever has.
    pub(crate) heard_before: Option<Timestamp>,
    /// Something came of it meanwhile, whatever it was.
    pub(crate) is_heard: bool,
    pub(crate) way: Way,
}

impl Servers {
    /// Asks `server` with the call that every version answers, before all else that waits for it.
    pub(crate) async fn ping(
        &self,
        (db, now): (&Db, Timestamp),
        server: &str,
    ) -> Result<Pinged, AskError> {
        let patience = self.patience.ok_or_else(|| AskError::NoDoor(server.to_owned()))?;
        let patience = patience.min(LONGEST);
        self.allowed(server)?;
        self.outward
            .take(now, format!("@{server}"), Some(OUTWARD), 1)
            .map_err(AskError::TooMuch)?;
        let id = ItemId::new(random()?);
        let until =
            now.plus_ms(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)).plus_ms(STAYS_MS);
        let ask = Ask { call: Call::Ping, caller: None, until, body: json!({}) };
        let line = self.line(db, server).await?;
        let (tell, told) = oneshot::channel();
        lock(&self.waits).insert(id, Waits { of: server.to_owned(), tell });
        let waiting = Waiting { waits: &self.waits, id };
        let heard = {
            let mut line = line.lock().await;
            if let Some(since) = line.paused {
                return Err(AskError::Paused { server: server.to_owned(), since });
            }
            if !line.put_first(&Item::Ask(id, ask), now, until) {
                return Err(AskError::TooMuch(1_000));
            }
            line.heard
        };
        let began = Instant::now();
        self.news.notify_one();
        let answer = timeout(patience, told).await;
        let took = began.elapsed();
        drop(waiting);
        let line = line.lock().await;
        let way = match answer {
            Ok(Ok(answer)) => Way::Answered(answer, took),
            _ => Way::Unanswered(line.stands(id), took),
        };
        Ok(Pinged {
            heard_before: (heard.0 > 0).then_some(heard),
            is_heard: line.heard > heard,
            way,
        })
    }
}
