//! What is said to another server, and answered to nobody.

use causeway_protocol::{
    ids::{ItemId, Timestamp},
    link::{Ask, Call, Item},
};
use causeway_store::Db;
use serde_json::Value;

use super::{AskError, Servers, fits, random};

impl Servers {
    /// Has `server` do something for this one, in the order in which it is said, and waits for no answer. What
    /// the link has not brought there in time is not done.
    pub(crate) async fn say(
        &self,
        (db, now): (&Db, Timestamp),
        server: &str,
        (call, body): (Call, Value),
    ) -> Result<(), AskError> {
        let patience = self.patience.ok_or_else(|| AskError::NoDoor(server.to_owned()))?;
        self.allowed(server)?;
        let until = now.plus_ms(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let ask = Item::Ask(ItemId::new(random()?), Ask { call, caller: None, until, body });
        fits(server, &ask)?;
        let line = self.line(db, server).await?;
        let mut line = line.lock().await;
        if let Some(since) = line.paused {
            return Err(AskError::Paused { server: server.to_owned(), since });
        }
        if !line.put(&ask, now, until) {
            return Err(AskError::TooMuch(1_000));
        }
        drop(line);
        self.news.notify_one();
        Ok(())
    }
}
