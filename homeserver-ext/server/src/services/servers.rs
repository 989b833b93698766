//! Other servers: what is asked of them, what they ask, and the links that carry it (protocol §7.1, §7.2).
//!
//! Frames go out and come in through the door at which the Matrix half of the installation stands
//! (`http::door`): here is no network.

mod again;
mod conduct;
mod fill;
mod giving;
mod heads;
mod line;
mod look_ups;
mod mark;
mod may;
mod named;
mod patience;
mod ping;
mod readers;
mod rooms;
mod saying;
mod standing;
pub(crate) mod telling;
pub(crate) mod there;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use causeway_protocol::{
    envelope::Sender,
    ids::{ItemId, Seq, ServerLinkId, Timestamp},
    link::{Ack, Answer, Ask, Call, Content, Item, MAX_ITEM, VERSION_REFUSED},
};
use causeway_store::Db;
use serde_json::Value;
use tokio::{
    sync::{Mutex as Slow, Notify, oneshot},
    time::{Instant, timeout},
};

pub(crate) use self::line::{Due, Stands};
pub(crate) use self::look_ups::{Aside, LookedUp};
pub(crate) use self::ping::{Pinged, Way};
pub(crate) use self::rooms::{Came, Leaving, Post, Report, Wishes};
pub use self::standing::Silent;
pub(crate) use self::standing::{Known, State, replicas};
use self::{line::Line, look_ups::LookUps, readers::Readers, rooms::Rooms, there::There};
pub(crate) use crate::storage::servers::Shared;
use crate::{
    config::OtherServers,
    live::Live,
    quota::{Buckets, Quota},
    storage::{
        self, DeviceRow,
        servers::{self, given::Streams},
    },
};

/// Servers that are spoken with at once: whoever was heard least lately gives way to a new one.
const MAX_LINES: usize = 4_096;
/// How long a frame waits for ops that have not come; then what needs them is refused.
const OPS_COME: Duration = Duration::from_mins(1);
/// Servers that one server may make known by naming them in ops: each is spoken with from then on.
const NAMED: Quota = Quota::per_hour(60, 60);
/// Groups of which one server may say where they stand.
const HEADS_TOLD: Quota = Quota::per_hour(20_000, 20_000);
/// Until it is taken.
const ALWAYS: Timestamp = Timestamp(u64::MAX);
/// Bytes of all servers that may wait for their turn.
const MAX_WAITING: usize = 64 << 20;
/// Frames that the door is given at once.
const BATCH: usize = 64;
/// Requests of one account that go to other servers, and of this server itself to one of them.
const OUTWARD: Quota = Quota::per_minute(60, 120);

/// What goes out to one server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outgoing {
    pub(crate) to: String,
    pub(crate) content: Value,
}

/// Why another server was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Only servers with both halves speak with others.
    #[error("this server has no Matrix side, and so cannot ask {0}")]
    NoDoor(String),
    /// The operator does not let it be spoken with.
    #[error("the operator of this server does not let it speak with {0}")]
    Denied(String),
    /// The operator lets nothing pass for now.
    #[error(
        "the operator of this server has paused all that goes to {server} and comes from it; ask again later"
    )]
    Paused {
        /// Which.
        server: String,
        /// Since when.
        since: Timestamp,
    },
    /// Whether it heard of it is not known.
    #[error(
        "{server} does not answer. What became of the request is not known; to ask the same again is \
         safe"
    )]
    Unreachable {
        /// Which.
        server: String,
        /// When something was heard of it last, or was first waited for.
        since: Timestamp,
    },
    /// Bytes, and how many fit.
    #[error(
        "what {server} would be asked takes {bytes} bytes of {max} that fit: ask for less at once"
    )]
    TooLarge {
        /// Which.
        server: String,
        /// How many.
        bytes: usize,
        /// At most.
        max: usize,
    },
    /// Again after so many milliseconds.
    #[error("too much is asked of other servers")]
    TooMuch(u64),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The operating system's.
    #[error("no randomness: {0}")]
    Entropy(#[from] getrandom::Error),
}

/// What an item cannot carry the other server would not take, nor anything behind it.
fn fits(server: &str, ask: &Item) -> Result<(), AskError> {
    let bytes = ask.to_json().to_string().len();
    if bytes <= MAX_ITEM {
        return Ok(());
    }
    Err(AskError::TooLarge { server: server.to_owned(), bytes, max: MAX_ITEM })
}

/// The links with all other servers, since this start.
pub(crate) struct Servers {
    /// This server.
    here: String,
    /// How long a request waits; none where there is no door.
    patience: Option<Duration>,
    rules: OtherServers,
    /// What others call the numbers here.
    streams: Mutex<Arc<Streams>>,
    /// The server that has more of this one than this one knows of.
    ahead: Mutex<Option<String>>,
    began: Instant,
    lines: Mutex<BTreeMap<String, Arc<Slow<Line>>>>,
    waits: Mutex<HashMap<ItemId, Waits>>,
    asks: Buckets<String>,
    again: Buckets<String>,
    new_groups: Buckets<String>,
    named: Buckets<String>,
    shown: Buckets<String>,
    heads: Buckets<String>,
    joins: Buckets<String>,
    calls_told: Buckets<String>,
    outward: Buckets<String>,
    look_ups: LookUps,
    there: There,
    /// How long is gathered what they are told of how far things came.
    gathered: Duration,
    readers: Mutex<Readers>,
    rooms: Mutex<Rooms>,
    /// There may be something for the door.
    news: Notify,
}

/// A request that waits for its answer.
struct Waits {
    of: String,
    tell: oneshot::Sender<Answer>,
}

impl Servers {
    /// None yet, each waited for so long; without a door none is ever spoken with.
    pub(crate) fn new(
        (here, streams): (&str, Streams),
        (patience, gathered): (Option<Duration>, Duration),
        rules: OtherServers,
    ) -> Self {
        Self {
            here: here.to_owned(),
            patience,
            rules,
            streams: Mutex::new(Arc::new(streams)),
            ahead: Mutex::default(),
            began: Instant::now(),
            lines: Mutex::default(),
            waits: Mutex::default(),
            asks: Buckets::default(),
            again: Buckets::default(),
            new_groups: Buckets::default(),
            named: Buckets::default(),
            shown: Buckets::default(),
            heads: Buckets::default(),
            joins: Buckets::default(),
            calls_told: Buckets::default(),
            outward: Buckets::default(),
            look_ups: LookUps::default(),
            there: There::default(),
            gathered,
            readers: Mutex::default(),
            rooms: Mutex::new(Rooms::new(u32::from_be_bytes(random().unwrap_or_default()))),
            news: Notify::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The link with a server, begun where there is none yet.
    async fn line(&self, db: &Db, name: &str) -> Result<Arc<Slow<Line>>, AskError> {
        let known = |lines: &BTreeMap<_, Arc<_>>| lines.get(name).map(Arc::clone);
        if let Some(line) = known(&lock(&self.lines)) {
            return Ok(line);
        }
        let mut read = db.read().await.map_err(storage::Error::from)?;
        let known_of = servers::load(read.conn(), name).await?;
        drop(read);
        let streams = Arc::clone(&lock(&self.streams));
        let line = Line::new(ServerLinkId::new(random()?), known_of, streams);
        let mut lines = lock(&self.lines);
        if let Some(line) = known(&lines) {
            return Ok(line);
        }
        if lines.len() >= MAX_LINES {
            let idle = lines.iter().filter_map(|(name, line)| {
                let line = line.try_lock().ok()?;
                (line.queued() == 0).then(|| (line.heard, name.clone()))
            });
            if let Some((_, name)) = idle.min() {
                lines.remove(&name);
            }
        }
        let line = Arc::new(Slow::new(line));
        lines.insert(name.to_owned(), Arc::clone(&line));
        Ok(line)
    }

    /// Asks `server`, on behalf of `caller` or of this server itself, and waits for its answer.
    pub(crate) async fn ask(
        &self,
        (db, now): (&Db, Timestamp),
        server: &str,
        caller: Option<&Sender>,
        (call, body): (Call, Value),
    ) -> Result<Answer, AskError> {
        let longest = self.patience.ok_or_else(|| AskError::NoDoor(server.to_owned()))?;
        self.allowed(server)?;
        // What this server asks itself is counted by whom it asks: no account is called so.
        let who = caller.map_or_else(|| format!("@{server}"), |it| it.account.as_str().to_owned());
        self.outward.take(now, who, Some(OUTWARD), 1).map_err(AskError::TooMuch)?;
        let id = ItemId::new(random()?);
        let until = now.plus_ms(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
        let ask = Item::Ask(id, Ask { call, caller: caller.cloned(), until, body });
        fits(server, &ask)?;
        let line = self.line(db, server).await?;
        let (tell, told) = oneshot::channel();
        lock(&self.waits).insert(id, Waits { of: server.to_owned(), tell });
        let waiting = Waiting { waits: &self.waits, id };
        let (since, patience) = {
            let mut line = line.lock().await;
            if let Some(since) = line.paused {
                return Err(AskError::Paused { server: server.to_owned(), since });
            }
            let is_silent = patience::is_silent(line.waits_since, now);
            if !line.put(&ask, now, until) {
                return Err(AskError::TooMuch(1_000));
            }
            let since = if line.heard.0 > 0 { Some(line.heard) } else { line.waits_since };
            (since.unwrap_or(now), patience::patience(call, is_silent, longest))
        };
        self.news.notify_one();
        let answer = timeout(patience, told).await;
        drop(waiting);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(AskError::Unreachable { server: server.to_owned(), since }),
        }
    }

    /// What is to go now; waits for it, `longest` at most, or until there may be something for the agent to do
    /// that knows of `seen`.
    pub(crate) async fn outgoing(
        &self,
        (db, live): (&Db, &Live),
        now: impl Fn() -> Timestamp,
        sent: impl Fn(DeviceRow) -> Seq + Sync,
        (longest, seen): (Duration, Option<u64>),
    ) -> Result<Leaving, AskError> {
        let until = Instant::now() + longest;
        let mut moved = live.moved();
        loop {
            let told = self.news.notified();
            moved.mark_unchanged();
            self.fill(db, now(), &sent).await?;
            self.ask_for_ops(db, now()).await?;
            let (leaving, due_ms) = self.gather(now()).await?;
            let is_news = seen.is_some_and(|seen| seen != leaving.moved);
            if is_news || !leaving.frames.is_empty() || !leaving.posts.is_empty() {
                return Ok(leaving);
            }
            let due_ms = [due_ms, self.telling_due_ms()].into_iter().flatten().min();
            let pause = due_ms.map(|due| Duration::from_millis(due.saturating_sub(self.now_ms())));
            let wake = pause.map_or(until, |pause| until.min(Instant::now() + pause));
            if Instant::now() >= until {
                return Ok(leaving);
            }
            tokio::select! {
                () = told => {}
                _ = moved.changed() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Lets go of links with servers that answered nothing while somebody waited for it: else whoever asks
    /// for names that nobody has keeps the agent busy for ever. What was taken of them is stored.
    fn let_go(&self, now: Timestamp) {
        lock(&self.lines).retain(|_, line| {
            // Whoever holds it is about to put something there.
            let is_held = Arc::strong_count(line) > 1;
            is_held || line.try_lock().ok().is_none_or(|line| !line.is_over(now))
        });
    }

    /// Takes in what an agent of `from` said; what is to be dealt with is then [`next`](Servers::next).
    /// What is said back beside the link.
    pub(crate) async fn receive(
        &self,
        (db, now): (&Db, Timestamp),
        from: &str,
        content: &Value,
    ) -> Result<Option<Value>, AskError> {
        if self.allowed(from).is_err() {
            metrics::counter!("causeway_servers_denied_total").increment(1);
            return Ok(None);
        }
        let bytes = content.to_string();
        let content = Content::parse(bytes.as_bytes());
        let line = self.line(db, from).await?;
        let Ok(content) = content else {
            metrics::counter!("causeway_servers_malformed_total").increment(1);
            line.lock().await.conduct.made_no_sense(now, self.now_ms());
            return Ok(None);
        };
        let room = MAX_WAITING.saturating_sub(self.waiting_bytes());
        let (mine, random) = (ServerLinkId::new(random()?), u16::from_be_bytes(self::random()?));
        let mut line = line.lock().await;
        if !line.is_open(self.now_ms()) {
            // It is not acknowledged, and comes again.
            return Ok(None);
        }
        let clocks = (now, self.now_ms(), random);
        let came = line.receive(content, bytes.len(), clocks, room, mine);
        if !came.has.is_empty() {
            let place = line.place();
            let stored = self.store((db, now), from, &place, (&came.has, came.given)).await;
            self.or_forget(from, stored)?;
        }
        if self.was_put_back((db, now), from, &mut line).await? {
            // All links have begun anew, this one too, in which this comes again.
            return Ok(None);
        }
        let given = self.give_again((db, now), from, &mut line, mine).await;
        self.or_forget(from, given)?;
        drop(line);
        self.news.notify_one();
        Ok(came.is_other_version.then(|| serde_json::from_str(VERSION_REFUSED).unwrap_or_default()))
    }

    /// What of `from` is to be dealt with now.
    pub(crate) async fn next(
        &self,
        (db, now): (&Db, Timestamp),
        from: &str,
    ) -> Result<Option<Due>, AskError> {
        if self.allowed(from).is_err() {
            return Ok(None);
        }
        let line = self.line(db, from).await?;
        let mut line = line.lock().await;
        if !line.is_open(self.now_ms()) {
            return Ok(None);
        }
        Ok(line.next(now, self.now_ms()))
    }

    /// So many things in the frame of `from` behind `behind` are dealt with, and the next waits.
    pub(crate) async fn dealt_with(
        &self,
        db: &Db,
        from: &str,
        (behind, done): (Option<Ack>, usize),
    ) -> Result<(), AskError> {
        self.line(db, from).await?.lock().await.dealt_with(behind, done);
        Ok(())
    }

    /// Whether `from` has shown this ahead of its turn, or before.
    pub(crate) async fn has_shown(
        &self,
        db: &Db,
        from: &str,
        tell: ItemId,
    ) -> Result<bool, AskError> {
        Ok(self.line(db, from).await?.lock().await.has_shown(tell))
    }

    /// `from` has shown this.
    pub(crate) async fn showed(&self, db: &Db, from: &str, tell: ItemId) -> Result<(), AskError> {
        self.line(db, from).await?.lock().await.showed(tell);
        Ok(())
    }

    /// Whether an ask of `from` comes for the first time: it is carried out once.
    pub(crate) async fn is_first(
        &self,
        db: &Db,
        from: &str,
        ask: ItemId,
    ) -> Result<bool, AskError> {
        Ok(self.line(db, from).await?.lock().await.is_first(ask))
    }

    /// They were dealt with.
    pub(crate) async fn committed(
        &self,
        (db, now): (&Db, Timestamp),
        from: &str,
    ) -> Result<(), AskError> {
        let line = self.line(db, from).await?;
        let mut line = line.lock().await;
        let place = line.committed(now);
        let stored = self.store((db, now), from, &place, (&[], Vec::new())).await;
        drop(line);
        self.news.notify_one();
        self.or_forget(from, stored)
    }

    /// In memory a line that could not be stored is ahead of what is: it begins as after a start.
    fn or_forget(&self, name: &str, stored: Result<(), storage::Error>) -> Result<(), AskError> {
        if stored.is_err() {
            lock(&self.lines).remove(name);
        }
        Ok(stored?)
    }

    fn waiting_bytes(&self) -> usize {
        let lines = lock(&self.lines);
        lines.values().filter_map(|line| Some(line.try_lock().ok()?.waiting_bytes())).sum()
    }

    /// Gives an answer of `from` to who waits for it.
    pub(crate) fn answered(&self, from: &str, answer: Answer) {
        let mut waits = lock(&self.waits);
        if waits.get(&answer.to).is_some_and(|waits| waits.of == from)
            && let Some(waits) = waits.remove(&answer.to)
        {
            // Whoever asked may have gone.
            let _ = waits.tell.send(answer);
        }
    }

    /// Whether the frame of `from` whose turn it is has waited long enough for ops.
    pub(crate) async fn has_waited(&self, db: &Db, from: &str) -> Result<bool, AskError> {
        let line = self.line(db, from).await?;
        let stuck_ms = line.lock().await.stuck_ms(self.now_ms());
        Ok(Duration::from_millis(stuck_ms) >= OPS_COME)
    }

    /// Answers what `to` asked. One for which there is no room is not given: who asked asks again.
    pub(crate) async fn answer(
        &self,
        (db, now): (&Db, Timestamp),
        to: &str,
        answer: Answer,
    ) -> Result<(), AskError> {
        let line = self.line(db, to).await?;
        let item = Item::Answer(ItemId::new(random()?), answer);
        line.lock().await.put_first(&item, now, now.plus_ms(300_000));
        self.news.notify_one();
        Ok(())
    }
}

/// Ends waiting, however that ends.
struct Waiting<'a> {
    waits: &'a Mutex<HashMap<ItemId, Waits>>,
    id: ItemId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.waits).remove(&self.id);
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
