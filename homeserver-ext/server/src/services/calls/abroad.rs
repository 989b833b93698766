//! Where natives hear those of Matrix who speak on another homeserver's server for calls: a native asks,
//! and the Matrix half of this installation, which alone can say who his ghost is, fetches what lets him in.
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
    ids::{AccountId, CallId, DeviceId, GroupId},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{CallError, Of, sfu::CLEAR};
use crate::{
    quota::CallShares,
    storage::calls::{self, Row},
};

/// Longest that one waits: two requests to a stranger, of 5 s each, and one to the homeserver.
const PATIENCE: Duration = Duration::from_secs(15);
/// Natives who wait at once.
const MOST_WAITING: usize = 256;
/// Servers for calls of which the natives of one call hear somebody, beside the home's.
pub(super) const MOST: usize = 5;
/// Longest URL, and longest token, in bytes.
const MAX_URL: usize = 2_048;
const MAX_JWT: usize = 8_192;

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
    group: GroupId,
    account: AccountId,
    device: DeviceId,
    focus: String,
}

/// What became of it.
#[derive(Deserialize)]
pub(crate) struct Fetched {
    id: u64,
    #[serde(default)]
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
#[derive(Deserialize)]
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

    async fn fetch(&self, of: Of<'_>, focus: &str) -> Result<Given, CallError> {
        let (to, answer) = oneshot::channel();
        {
            let mut waiting = self.lock();
            waiting.asks.retain(|_, (_, _, to)| !to.is_closed());
            if waiting.asks.len() >= MOST_WAITING {
                return Err(CallError::Abroad("too many ask for that at once".to_owned()));
            }
            waiting.last += 1;
            let asked = Asked {
                id: waiting.last,
                group: of.group,
                account: of.caller.account.clone(),
                device: of.caller.device_id,
                focus: focus.to_owned(),
            };
            waiting.asks.insert(asked.id, (asked, false, to));
        }
        self.came.notify_one();
        let none = || CallError::Abroad("nobody fetched it in time".to_owned());
        let fetched = timeout(PATIENCE, answer).await.map_err(|_| none())?.map_err(|_| none())?;
        let fits = |it: &Given| it.url.len() <= MAX_URL && it.jwt.len() <= MAX_JWT;
        fetched.given.filter(fits).ok_or(CallError::Abroad(fetched.why))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lets the caller's device into the server for calls of `focus`, where somebody of Matrix who is in
/// the call speaks: to hear him, and nothing else.
pub(crate) async fn abroad(
    of: Of<'_>,
    shares: &CallShares,
    abroad: &Abroad,
    (call, epoch, focus): (CallId, u32, &str),
) -> Result<CallSfus, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut read = of.db.read().await?;
    let (group, _) = of.group(read.conn()).await?;
    let row = calls::by_id(read.conn(), group.row, call).await?.ok_or(CallError::Unknown)?;
    drop(read);
    may_hear(of, &row, (epoch, focus))
        .map_err(|why| CallError::Refused(why, Box::new(row.state())))?;
    // Nobody but the bridge can say who his ghost is, and here is none of the call's.
    if !row.is_shown_by(of.here) {
        return Err(CallError::Abroad("the group's bridge is another server's".to_owned()));
    }
    let outcome = abroad.fetch(of, focus).await;
    let name = if outcome.is_ok() { "given" } else { "none" };
    metrics::counter!("causeway_call_abroad_total", "outcome" => name).increment(1);
    let Given { url, jwt } = outcome?;
    let (room, mine) = (String::new(), String::new());
    let sfu = CallSfu { url, jwt, publish: false, room, mine };
    Ok(CallSfus { sfus: vec![sfu], e2ee: CLEAR.to_owned() })
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
