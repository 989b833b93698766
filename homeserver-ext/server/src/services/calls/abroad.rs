//! Where natives hear those of Matrix who speak on another homeserver's server for calls: a native asks,
//! and the Matrix half that shows the group's calls, which alone can say who his ghost is, fetches what lets
//! him in: this installation's, or that of the server whose bridge the group has.
//!
//! Nothing is kept: what is asked lives as long as its request.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use causeway_protocol::{
    api::{CallSfu, CallSfus},
    call::{Refused, Topology},
    envelope::Sender,
    ids::{CallId, GroupId},
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
/// Places that are known at once at which those of Matrix speak in groups that other servers keep.
const MOST_SAID: usize = 1_024;
/// Longest URL, and longest token, in bytes.
const MAX_URL: usize = 2_048;
const MAX_JWT: usize = 8_192;
/// Longest reason that is passed on, in bytes.
const MAX_WHY: usize = 200;

/// What waits to be fetched.
#[derive(Debug, Default)]
pub(crate) struct Abroad {
    waiting: Mutex<Waiting>,
    came: Notify,
    /// Where those of Matrix speak in groups that other servers keep, as the Matrix half here said; the oldest
    /// first.
    said: Mutex<VecDeque<(GroupId, String)>>,
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
    pub(crate) group: GroupId,
    #[serde(flatten)]
    pub(crate) who: Sender,
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

    /// Notes where one of Matrix speaks, as the Matrix half here says of a group that another server keeps.
    pub(crate) fn note_said(&self, group: GroupId, focus: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|(of, at)| (*of, at.as_str()) != (group, focus));
        said.push_back((group, focus.to_owned()));
        let beyond = said.len().saturating_sub(MOST_SAID);
        said.drain(..beyond);
    }

    /// Whether it said so of where that wish goes: a ghost's token is shown nowhere else.
    pub(crate) fn was_said(&self, wish: &Wish) -> bool {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().any(|(group, focus)| (*group, focus) == (wish.group, &wish.focus))
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

    /// Waits until the Matrix half here has fetched what is wished for.
    pub(crate) async fn fetch(&self, wish: Wish) -> Outcome {
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
    pub(crate) fn none(why: impl fmt::Display) -> Self {
        Self { given: None, why: why.to_string() }
    }
}

/// What the caller's device wishes for, who is in the call, where somebody of Matrix speaks by `focus`; and the
/// server whose bridge shows the call, where that is another.
pub(crate) async fn wish_abroad(
    of: Of<'_>,
    shares: &CallShares,
    (call, epoch, focus): (CallId, u32, &str),
) -> Result<(Wish, Option<String>), CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut read = of.db.read().await?;
    let (group, _) = of.group(read.conn()).await?;
    let row = calls::by_id(read.conn(), group.row, call).await?.ok_or(CallError::Unknown)?;
    drop(read);
    may_hear(of, &row, (epoch, focus))
        .map_err(|why| CallError::Refused(why, Box::new(row.state())))?;
    let who = Sender { account: of.caller.account.clone(), device: of.caller.device_id };
    let wish = Wish { group: of.group, who, focus: focus.to_owned() };
    Ok((wish, row.kept.ghosts.filter(|server| server != of.here)))
}

/// What lets him in there, to hear and for nothing else, of what was fetched.
pub(crate) fn let_in_abroad(outcome: Outcome) -> Result<CallSfus, CallError> {
    let fits = |it: &Given| it.url.len() <= MAX_URL && it.jwt.len() <= MAX_JWT;
    let given = outcome.given.filter(fits);
    let name = if given.is_some() { "given" } else { "none" };
    metrics::counter!("causeway_call_abroad_total", "outcome" => name).increment(1);
    let Given { url, jwt } = given.ok_or_else(|| {
        let mut why = outcome.why;
        why.truncate(why.floor_char_boundary(MAX_WHY));
        CallError::Abroad(why)
    })?;
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
