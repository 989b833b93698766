//! Where natives hear those of Matrix who speak on another homeserver's server for calls: a native asks,
//! and the Matrix half that shows the group's calls, which alone can say who his ghost is, fetches what lets
//! him in: this installation's, or that of the server whose bridge the group has.
//!
//! Nothing is kept: what is asked lives as long as its request.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use causeway_protocol::{
    api::{CallSfu, CallSfus},
    call::{Refused, Topology},
    envelope::Sender,
    ids::{AccountId, CallId, DeviceId, GroupId},
    json,
    link::Call,
};
use causeway_store::Db;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{CallError, Of, matrix, sfu::CLEAR};
use crate::{
    quota::CallShares,
    services::{
        groups::{elsewhere, replica},
        servers::Servers,
    },
    storage::{
        self,
        calls::{self, Row},
    },
};

/// Longest that one waits: two requests to a stranger, of 5 s each, and one to the homeserver.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest that the server of a group's bridge is waited for, which needs that long and the way.
const PATIENCE_THERE: Duration = Duration::from_secs(20);
/// Natives who wait at once.
const MOST_WAITING: usize = 256;
/// Servers for calls of which the natives of one call hear somebody, beside the home's.
pub(super) const MOST: usize = 5;
/// Longest URL, and longest token, in bytes.
const MAX_URL: usize = 2_048;
const MAX_JWT: usize = 8_192;
/// Longest reason of another server's that is passed on, in bytes.
const MAX_WHY: usize = 200;

/// What waits to be fetched.
#[derive(Debug, Default)]
pub(crate) struct Abroad {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    asks: BTreeMap<u64, (Asked, bool, oneshot::Sender<Fetched>)>,
}

/// A native wants to hear who speaks there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Asked {
    id: u64,
    #[serde(flatten)]
    wish: Wish,
}

/// Who wants to hear it, of which group, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    group: GroupId,
    account: AccountId,
    device: DeviceId,
    focus: String,
}

/// What became of it.
#[derive(Deserialize)]
pub(crate) struct Fetched {
    id: u64,
    #[serde(flatten)]
    outcome: Outcome,
}

/// What lets him in, or nothing.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given: Option<Given>,
    /// Why nothing was given, in words.
    #[serde(default)]
    why: String,
}

// It has the token.
impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What lets him in there.
#[derive(Serialize, Deserialize)]
struct Given {
    url: String,
    jwt: String,
}

impl Abroad {
    /// What nobody fetches yet, waited for at most so long.
    pub(crate) async fn asked(&self, longest: Duration) -> Vec<Asked> {
        let some = async {
            loop {
                let came = self.came.notified();
                let new = self.take();
                if !new.is_empty() {
                    return new;
                }
                came.await;
            }
        };
        timeout(longest, some).await.unwrap_or_default()
    }

    /// Hands on what was fetched; whoever waits no more does not get it.
    pub(crate) fn fetched(&self, fetched: Fetched) {
        let waits = self.lock().asks.remove(&fetched.id);
        if let Some((_, _, to)) = waits {
            drop(to.send(fetched));
        }
    }

    fn take(&self) -> Vec<Asked> {
        let mut waiting = self.lock();
        // Whoever has given up asks for nothing.
        waiting.asks.retain(|_, (_, _, to)| !to.is_closed());
        let new = waiting.asks.values_mut().filter(|(_, is_taken, _)| !is_taken);
        let mark = |(asked, is_taken, _): &mut (Asked, bool, _)| {
            *is_taken = true;
            asked.clone()
        };
        new.map(mark).collect()
    }

    async fn fetch(&self, wish: Wish) -> Outcome {
        let (to, answer) = oneshot::channel();
        {
            let mut waiting = self.lock();
            waiting.asks.retain(|_, (_, _, to)| !to.is_closed());
            if waiting.asks.len() >= MOST_WAITING {
                return Outcome::none("too many ask for that at once");
            }
            waiting.last += 1;
            let asked = Asked { id: waiting.last, wish };
            waiting.asks.insert(asked.id, (asked, false, to));
        }
        self.came.notify_one();
        match timeout(PATIENCE, answer).await {
            Ok(Ok(fetched)) => fetched.outcome,
            _ => Outcome::none("nobody fetched it in time"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcome {
    fn none(why: impl fmt::Display) -> Self {
        Self { given: None, why: why.to_string() }
    }
}

/// What lets the caller's device into the server for calls of `focus`, where somebody of Matrix who is in
/// the call speaks: to hear him, and nothing else.
pub(crate) async fn abroad(
    of: Of<'_>,
    shares: &CallShares,
    (abroad, servers): (&Abroad, &Servers),
    (call, epoch, focus): (CallId, u32, &str),
) -> Result<CallSfus, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut read = of.db.read().await?;
    let (group, _) = of.group(read.conn()).await?;
    let row = calls::by_id(read.conn(), group.row, call).await?.ok_or(CallError::Unknown)?;
    drop(read);
    may_hear(of, &row, (epoch, focus))
        .map_err(|why| CallError::Refused(why, Box::new(row.state())))?;
    let wish = Wish {
        group: of.group,
        account: of.caller.account.clone(),
        device: of.caller.device_id,
        focus: focus.to_owned(),
    };
    let outcome = match row.kept.ghosts.as_deref() {
        Some(server) if server != of.here => fetched_there(of, servers, server, &wish).await,
        _ => abroad.fetch(wish).await,
    };
    let fits = |it: &Given| it.url.len() <= MAX_URL && it.jwt.len() <= MAX_JWT;
    let given = outcome.given.filter(fits);
    let name = if given.is_some() { "given" } else { "none" };
    metrics::counter!("causeway_call_abroad_total", "outcome" => name).increment(1);
    let Given { url, jwt } = given.ok_or(CallError::Abroad(outcome.why))?;
    let (room, mine) = (String::new(), String::new());
    let sfu = CallSfu { url, jwt, publish: false, room, mine };
    Ok(CallSfus { sfus: vec![sfu], e2ee: CLEAR.to_owned() })
}

/// Has the server fetch it whose bridge shows the call.
async fn fetched_there(of: Of<'_>, servers: &Servers, server: &str, wish: &Wish) -> Outcome {
    let asked = (Call::Calls, json!({ "hear": wish }));
    let answer = servers.ask((of.db, of.now), server, None, asked);
    let answer = match timeout(PATIENCE_THERE, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Outcome::none(error),
        Err(_) => {
            return Outcome::none(format!("{server}, whose bridge the group has, does not answer"));
        }
    };
    if answer.status != 200 {
        return Outcome::none(format!(
            "{server}, whose bridge the group has, answers {}",
            answer.status
        ));
    }
    let mut outcome: Outcome = json::from_value(&answer.body).unwrap_or_default();
    outcome.why.truncate(outcome.why.floor_char_boundary(MAX_WHY));
    outcome
}

/// Why the Matrix half here fetches nothing for another server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotForThem {
    /// Ask in a group of its own.
    #[error("a group's home alone asks for those in its calls")]
    NotHome,
    /// The bridge is another's.
    #[error("the group's bridge is not of this server")]
    NotBridged,
    /// He has no ghost in the group's room.
    #[error("he is not in the group")]
    NotIn,
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// What the Matrix half here fetches for a member of a group that `from` keeps.
pub(crate) async fn for_home(
    (db, abroad): (&Db, &Abroad),
    (here, from): (&str, &str),
    wish: Wish,
) -> Result<Outcome, NotForThem> {
    let home = replica::other_home(db, here, wish.group).await?;
    if home.as_deref() != Some(from) {
        return Err(NotForThem::NotHome);
    }
    if !matrix::serves(db, wish.group, here).await? {
        return Err(NotForThem::NotBridged);
    }
    let who = Sender { account: wish.account.clone(), device: wish.device };
    if !elsewhere::names(db, wish.group, &who).await? {
        return Err(NotForThem::NotIn);
    }
    Ok(abroad.fetch(wish).await)
}

fn may_hear(of: Of<'_>, row: &Row, (epoch, focus): (u32, &str)) -> Result<(), Refused> {
    let call = &row.kept.call;
    if call.is_over() {
        return Err(Refused::Ended);
    }
    if !row.kept.people.contains_key(&of.caller.device_id) {
        return Err(Refused::NotInCall);
    }
    if epoch != call.epoch {
        return Err(Refused::StaleEpoch(epoch, call.epoch));
    }
    let is_carried = !matches!(call.topology, Topology::Mesh) && call.may_use_sfu(&of.who());
    if !is_carried || !row.focuses().contains(focus) {
        return Err(Refused::NoNeed);
    }
    Ok(())
}
