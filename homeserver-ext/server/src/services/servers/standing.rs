//! How the links with other servers stand, and what the operator does about them.

use std::{sync::Arc, time::Duration};

use causeway_protocol::{
    api::{GroupServer, GroupServers},
    ids::{GroupId, Timestamp},
};
use causeway_store::Db;
use serde::Serialize;
use utoipa::ToSchema;

use super::{AskError, Servers, conduct::Conduct, lock, patience::is_silent};
use crate::storage::{
    self, groups,
    servers::{self, Replica, Shared},
};

/// How long a server may leave something untaken before it is said to be silent.
const SILENT: Duration = Duration::from_mins(1);
/// What is said of a server that has more of this one than there is.
const PUT_BACK: &str = "it has more of what this server sent than this server knows of: this one was put \
    back from a copy, or that one lies; stop causeway, and start it once with --after-restore";

/// How the link with a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// What is for it is taken, or nothing is.
    Open,
    /// Something has waited for it for more than a minute.
    Silent,
    /// The operator lets nothing pass for now.
    Paused,
    /// The configuration does not let it be spoken with (`native.servers`).
    Denied,
    /// Too much of what it sent made no sense: nothing of it is taken for ten minutes.
    Shut,
}

/// What is known of a server.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) state: State,
    /// When something came of it last; 0 where nothing has.
    pub(crate) heard: Timestamp,
    pub(crate) paused: Option<Timestamp>,
    /// Since when something waits that it has not taken.
    pub(crate) waits_since: Option<Timestamp>,
    /// Until when nothing of it is taken.
    pub(crate) shut_until: Option<Timestamp>,
    pub(crate) queued: usize,
    pub(crate) held_bytes: usize,
    pub(crate) conduct: Conduct,
}

/// A server with which nothing goes on, though this one is to speak with it; or that shows that this one was
/// put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// Its name.
    pub server: String,
    /// Why nothing goes on.
    pub why: String,
}

impl Servers {
    /// Whether the configuration lets `name` be spoken with.
    pub(crate) fn allowed(&self, name: &str) -> Result<(), AskError> {
        if self.rules.allows(name) { Ok(()) } else { Err(AskError::Denied(name.to_owned())) }
    }

    /// The servers that something is known of, by name behind `after`, so many at most.
    pub(crate) async fn known(
        &self,
        (db, now): (&Db, Timestamp),
        after: Option<&str>,
        most: u32,
    ) -> Result<Vec<Known>, storage::Error> {
        let mut read = db.read().await?;
        let mut stored = servers::named(read.conn(), after, most).await?;
        drop(read);
        // Behind the last of a whole page come others.
        let last = stored.last().filter(|_| stored.len() >= most as usize);
        let until = last.map(|last| last.name.clone());
        let is_of_page = |name: &str| {
            after.is_none_or(|after| after < name)
                && until.as_deref().is_none_or(|until| name < until)
        };
        let heard = self.heard_of().await.into_iter().filter(|heard| is_of_page(&heard.name));
        stored.extend(heard);
        stored.sort_by(|a, b| a.name.cmp(&b.name));
        stored.dedup_by(|a, b| a.name == b.name);
        stored.truncate(most as usize);
        let mut known = Vec::new();
        for server in stored {
            known.push(self.standing(now, server).await);
        }
        Ok(known)
    }

    /// What is known of one; none where nothing is.
    pub(crate) async fn of_name(
        &self,
        (db, now): (&Db, Timestamp),
        name: &str,
    ) -> Result<Option<(Known, Shared)>, storage::Error> {
        let mut read = db.read().await?;
        let stored = servers::of_name(read.conn(), name).await?;
        let shared = servers::shared(read.conn(), name).await?;
        drop(read);
        let stored = match stored {
            Some(stored) => Some(stored),
            None => self.heard_of().await.into_iter().find(|heard| heard.name == name),
        };
        let Some(stored) = stored else { return Ok(None) };
        Ok(Some((self.standing(now, stored).await, shared)))
    }

    /// On which other servers members of a group are, and what waits for those.
    pub(crate) async fn of_group(
        &self,
        (db, now): (&Db, Timestamp),
        group: GroupId,
    ) -> Result<GroupServers, storage::Error> {
        let found = replicas((db, &self.here), group).await?;
        let (_, replicas) = found.unwrap_or_default();
        let home = groups::home(db.read().await?.conn(), group).await?;
        let mut all = Vec::new();
        for Replica { name, waiting, .. } in replicas {
            let Some((known, _)) = self.of_name((db, now), &name).await? else { continue };
            // Nothing is put into the line of one that is not to be spoken with, so nothing waits there.
            let is_stopped = matches!(known.state, State::Paused | State::Denied);
            let since = known.waits_since.or(known.paused);
            all.push(GroupServer {
                server: name,
                waiting,
                silent: waiting > 0 && (is_stopped || is_silent(known.waits_since, now)),
                waits_since_ms: since.filter(|_| waiting > 0),
                heard_ms: (known.heard.0 > 0).then_some(known.heard),
            });
        }
        Ok(GroupServers { home: home.unwrap_or_else(|| self.here.clone()), servers: all })
    }

    /// Servers of which something came since this start, those too of which nothing could be taken yet.
    async fn heard_of(&self) -> Vec<servers::Named> {
        let lines: Vec<_> =
            lock(&self.lines).iter().map(|(name, line)| (name.clone(), Arc::clone(line))).collect();
        let mut heard_of = Vec::new();
        for (name, line) in lines {
            let line = line.lock().await;
            if line.heard.0 > 0 || line.conduct.malformed > 0 {
                let (heard, paused) = (line.heard, line.paused);
                heard_of.push(servers::Named { name, heard, paused });
            }
        }
        heard_of
    }

    async fn standing(&self, now: Timestamp, stored: servers::Named) -> Known {
        let servers::Named { name, heard, paused } = stored;
        let is_denied = self.allowed(&name).is_err();
        let line = lock(&self.lines).get(&name).map(Arc::clone);
        let mut known = Known {
            name,
            state: State::Open,
            heard,
            paused,
            waits_since: None,
            shut_until: None,
            queued: 0,
            held_bytes: 0,
            conduct: Conduct::default(),
        };
        if let Some(line) = line {
            let line = line.lock().await;
            known.heard = line.heard;
            known.paused = line.paused;
            known.waits_since = line.waits_since;
            known.shut_until = line.conduct.shut_ms(self.now_ms()).map(|ms| now.plus_ms(ms));
            known.queued = line.queued();
            known.held_bytes = line.waiting_bytes();
            known.conduct = line.conduct.clone();
        }
        let silent_ms = known.waits_since.map_or(0, |since| now.0.saturating_sub(since.0));
        known.state = if is_denied {
            State::Denied
        } else if known.paused.is_some() {
            State::Paused
        } else if known.shut_until.is_some() {
            State::Shut
        } else if Duration::from_millis(silent_ms) >= SILENT {
            State::Silent
        } else {
            State::Open
        };
        known
    }

    /// Those with which nothing goes on, though nobody has said so; of those that were spoken with lately.
    pub(crate) async fn silent(&self, now: Timestamp) -> Vec<Silent> {
        let lines: Vec<_> = lock(&self.lines).keys().cloned().collect();
        let mut silent = Vec::new();
        for name in lines {
            let named = servers::Named { name, heard: Timestamp(0), paused: None };
            let known = self.standing(now, named).await;
            let why = match known.state {
                State::Silent => "it has taken nothing of what waits for it",
                State::Shut => "too much of what it sent made no sense; nothing of it is taken",
                State::Open | State::Paused | State::Denied => continue,
            };
            silent.push(Silent { server: known.name, why: why.to_owned() });
        }
        if let Some(server) = lock(&self.ahead).clone() {
            silent.retain(|one| one.server != server);
            silent.push(Silent { server, why: PUT_BACK.to_owned() });
        }
        silent
    }

    /// Lets nothing pass to and from a server, or lets it again. Whatever is for it waits meanwhile.
    pub(crate) async fn set_paused(
        &self,
        db: &Db,
        name: &str,
        since: Option<Timestamp>,
    ) -> Result<(), AskError> {
        // Begun before it is stored: whoever begins it later reads what was.
        let line = self.line(db, name).await?;
        let mut line = line.lock().await;
        let since = if since.is_some() { line.paused.or(since) } else { None };
        let mut tx = db.begin().await.map_err(storage::Error::from)?;
        servers::set_paused(tx.conn(), name, since).await?;
        tx.commit().await.map_err(storage::Error::from)?;
        line.paused = since;
        drop(line);
        self.news.notify_one();
        Ok(())
    }

    /// Begins the link with a server anew, as a start does: whatever it has not taken goes again, and it is
    /// listened to again.
    pub(crate) fn reset(&self, name: &str) {
        lock(&self.lines).remove(name);
        self.news.notify_one();
    }

    /// Whether a server may be forgotten: the operator does not name it, and nothing waits that it said, or is to
    /// have.
    pub(crate) fn may_forget(&self, name: &str) -> bool {
        let line = lock(&self.lines).get(name).map(Arc::clone);
        // Whoever holds it is about to put something there.
        let is_idle = line.is_none_or(|line| {
            line.try_lock().is_ok_and(|line| line.queued() == 0 && line.waiting_bytes() == 0)
        });
        is_idle && !self.rules.names(name)
    }

    /// Nothing is known of it any more.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.lines).remove(name);
    }

    /// Notes that something of `from` was refused. Whether it is to be logged, and how often it was not since
    /// that was done last.
    pub(crate) async fn was_refused(
        &self,
        (db, now): (&Db, Timestamp),
        from: &str,
        reason: &str,
    ) -> Result<Option<u64>, AskError> {
        let now_ms = self.now_ms();
        let line = self.line(db, from).await?;
        let unsaid = line.lock().await.conduct.was_refused((now, now_ms), reason);
        Ok(unsaid)
    }

    /// Notes that something of `from` made no sense.
    pub(crate) async fn made_no_sense(
        &self,
        (db, now): (&Db, Timestamp),
        from: &str,
    ) -> Result<(), AskError> {
        metrics::counter!("causeway_servers_malformed_total").increment(1);
        self.line(db, from).await?.lock().await.conduct.made_no_sense(now, self.now_ms());
        Ok(())
    }

    /// Notes that `from` came to a limit.
    pub(crate) async fn was_limited(
        &self,
        (db, now): (&Db, Timestamp),
        from: &str,
        which: &str,
    ) -> Result<(), AskError> {
        self.line(db, from).await?.lock().await.conduct.was_limited(now, which);
        Ok(())
    }
}

/// The other servers with members of a group; none where there is no such group.
pub(crate) async fn replicas(
    (db, here): (&Db, &str),
    group: GroupId,
) -> Result<Option<(u64, Vec<Replica>)>, storage::Error> {
    let mut read = db.read().await?;
    let Some(found) = groups::by_id(read.conn(), group).await? else { return Ok(None) };
    let mut replicas = servers::replicas(read.conn(), found.row).await?;
    if groups::home(read.conn(), group).await?.is_some_and(|home| home != here) {
        // The ops are the home's to give.
        for replica in &mut replicas {
            replica.epoch = None;
        }
    }
    Ok(Some((found.head.epoch.0.into(), replicas)))
}
