//! What does not go on, since when, why, and when it is tried next.
//!
//! Kept in memory: a process that starts tries everything at once, and finds again what stands.
//! Whoever tries says so here each time; the log has a line when something has stood for a while,
//! and one when it goes again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use causeway_protocol::ids::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

/// Most that is kept; each is a lane, a room or a neighbour, and more than these stand together
/// only when all do.
const MAX: usize = 10_000;
/// The log's lines about one thing that stands: after a minute, after ten, then every hour.
const FIRST: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_mins(10);
const EVERY: Duration = Duration::from_hours(1);

/// What kind of thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The homeserver does not answer us, or does not reach us.
    Homeserver,
    /// The native server does not answer, or what it has for us (`mailbox`) cannot be kept.
    Native,
    /// The homeserver gives no account of what happened: nothing that is doubted goes on.
    Account,
    /// A room's history cannot be read: what came from it waits.
    Room,
    /// Rows of a lane are not taken.
    Lane,
    /// A portal's room is of no use any more: the bot is out of it, or it is not there.
    Portal,
    /// Another server takes nothing of what waits for it, or is shut out for what it sent.
    Server,
    /// The agent, by whom other servers are spoken with, does not go on: which of its ways is the name.
    Agent,
    /// LiveKit is away: calls that need it wait, or go back to talking directly.
    Livekit,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Homeserver,
        Self::Native,
        Self::Account,
        Self::Room,
        Self::Lane,
        Self::Portal,
        Self::Server,
        Self::Agent,
        Self::Livekit,
    ];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Homeserver => "homeserver",
            Self::Native => "native",
            Self::Account => "account",
            Self::Room => "room",
            Self::Lane => "lane",
            Self::Portal => "portal",
            Self::Server => "server",
            Self::Agent => "agent",
            Self::Livekit => "livekit",
        }
    }

    /// Whether nothing goes on while it stands, so that it is said at once.
    fn is_everybodys(self) -> bool {
        matches!(self, Self::Homeserver | Self::Native)
    }
}

/// One thing that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Trouble {
    /// Of which kind.
    pub kind: Kind,
    /// Which lane, room, server or way of the agent, by its name, or which portal, by its number; empty where there is one of its kind.
    pub name: String,
    /// Since when, Unix milliseconds.
    pub since: Timestamp,
    /// What the last try said.
    pub why: String,
    /// When it is tried next, Unix milliseconds; absent if not by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
}

/// Everything that stands. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<(Kind, String), Standing>>>);

#[derive(Debug)]
struct Standing {
    since: Instant,
    /// How long it had stood when it was said last.
    said: Option<Duration>,
    why: String,
    next_try: Option<Instant>,
}

impl Troubles {
    /// A try was in vain; it is tried again after `wait`, if it is known.
    pub fn stands(&self, kind: Kind, name: &str, why: &str, wait: Option<Duration>) {
        let now = Instant::now();
        let mut all = self.all();
        if all.len() >= MAX && !all.contains_key(&(kind, name.to_owned())) {
            return;
        }
        let standing = all.entry((kind, name.to_owned())).or_insert_with(|| Standing {
            since: now,
            said: None,
            why: String::new(),
            next_try: None,
        });
        why.clone_into(&mut standing.why);
        standing.next_try = wait.map(|wait| now + wait);
        let stood = now - standing.since;
        if is_to_be_said(kind, standing.said, stood) {
            standing.said = Some(stood);
            let seconds = stood.as_secs();
            tracing::warn!(kind = kind.name(), name, why, seconds, "stands still");
        }
    }

    /// It goes, or there is nothing of it any more.
    pub fn goes(&self, kind: Kind, name: &str) {
        let mut all = self.all();
        if all.is_empty() {
            return;
        }
        let Some(stood) = all.remove(&(kind, name.to_owned())) else { return };
        if stood.said.is_some() {
            let seconds = stood.since.elapsed().as_secs();
            tracing::info!(kind = kind.name(), name, seconds, "goes on again");
        }
    }

    /// For how long this has stood and why, if it does.
    pub fn of(&self, kind: Kind, name: &str) -> Option<(Duration, String)> {
        let all = self.all();
        let standing = all.get(&(kind, name.to_owned()))?;
        Some((standing.since.elapsed(), standing.why.clone()))
    }

    /// How many of each kind stand.
    pub fn count(&self, kind: Kind) -> usize {
        self.all().keys().filter(|(of, _)| *of == kind).count()
    }

    /// Those that have stood longest, at most `limit`; `now` is the time of now.
    pub fn longest(&self, limit: usize, now: Timestamp) -> Vec<Trouble> {
        let moment = Instant::now();
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let all = self.all();
        let mut standing: Vec<_> = all.iter().collect();
        standing.sort_by_key(|(_, standing)| standing.since);
        standing
            .into_iter()
            .take(limit)
            .map(|((kind, name), standing)| Trouble {
                kind: *kind,
                name: name.clone(),
                since: Timestamp(now.0.saturating_sub(ms(moment - standing.since))),
                why: standing.why.clone(),
                next_try: standing
                    .next_try
                    .map(|next| now.plus_ms(ms(next.saturating_duration_since(moment)))),
            })
            .collect()
    }

    /// For how long what stands has stood, by kind and name, at most `limit`, longest first. No name
    /// of a person or a room is among them: somebody's own lane shows as `…/*`, as all of its portal
    /// do, and a room by nothing.
    pub fn stood(&self, limit: usize) -> Vec<(Kind, String, Duration)> {
        let mut stood: BTreeMap<(Kind, String), Duration> = BTreeMap::new();
        for ((kind, name), standing) in &*self.all() {
            let longest = stood.entry((*kind, public(*kind, name))).or_default();
            *longest = standing.since.elapsed().max(*longest);
        }
        let mut stood: Vec<_> =
            stood.into_iter().map(|((kind, name), stood)| (kind, name, stood)).collect();
        stood.sort_by_key(|(.., stood)| std::cmp::Reverse(*stood));
        stood.truncate(limit);
        stood
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Kind, String), Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name without that of a person or a room.
fn public(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Room => String::new(),
        // Somebody's own: `portal/1/to_matrix/` and who.
        Kind::Lane => match name.match_indices('/').nth(2) {
            Some((end, _)) => format!("{}/*", name.get(..end).unwrap_or_default()),
            None => name.to_owned(),
        },
        Kind::Homeserver
        | Kind::Native
        | Kind::Account
        | Kind::Portal
        | Kind::Server
        | Kind::Agent
        | Kind::Livekit => name.to_owned(),
    }
}

/// Whether the log is to have a line about what has stood for so long and was `said` last then.
fn is_to_be_said(kind: Kind, said: Option<Duration>, stood: Duration) -> bool {
    let next = match said {
        None if kind.is_everybodys() => Duration::ZERO,
        None => FIRST,
        Some(said) if said < FIRST => FIRST,
        Some(said) if said < SECOND => SECOND,
        Some(said) => said + EVERY,
    };
    stood >= next
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_log_says_it_after_a_minute_after_ten_and_every_hour() {
        let rows = [
            (Kind::Lane, None, s(59), false),
            (Kind::Lane, None, s(60), true),
            (Kind::Lane, Some(s(60)), s(599), false),
            (Kind::Lane, Some(s(75)), s(600), true),
            (Kind::Lane, Some(s(600)), s(4_199), false),
            (Kind::Lane, Some(s(600)), s(4_200), true),
            (Kind::Lane, Some(s(4_200)), s(7_799), false),
            (Kind::Homeserver, None, s(0), true),
            (Kind::Homeserver, Some(s(0)), s(59), false),
            (Kind::Homeserver, Some(s(0)), s(60), true),
        ];
        for (kind, said, stood, expected) in rows {
            assert_eq!(is_to_be_said(kind, said, stood), expected, "{kind:?} {said:?} {stood:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn figures_name_what_has_stood_longest_but_nobody() {
        let troubles = Troubles::default();
        let lanes = ["portal/1/to_matrix/bob:b.example", "portal/1/to_matrix/@al:x/y", "bot/1"];
        for name in lanes {
            troubles.stands(Kind::Lane, name, "no", None);
            tokio::time::advance(s(10)).await;
        }
        troubles.stands(Kind::Room, "!a:x", "500", None);
        troubles.stands(Kind::Room, "!b:x", "500", None);
        troubles.stands(Kind::Portal, "7", "gone", None);
        let expected = [
            (Kind::Lane, "portal/1/to_matrix/*".to_owned(), s(30)),
            (Kind::Lane, "bot/1".to_owned(), s(10)),
            (Kind::Room, String::new(), s(0)),
            (Kind::Portal, "7".to_owned(), s(0)),
        ];
        assert_eq!(troubles.stood(9), expected);
        assert_eq!(troubles.stood(2), expected[..2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_is_listed_longest_first_until_it_goes() {
        let troubles = Troubles::default();
        troubles.stands(Kind::Lane, "a", "no", Some(s(5)));
        tokio::time::advance(s(10)).await;
        troubles.stands(Kind::Room, "!b:x", "500", None);
        troubles.stands(Kind::Lane, "a", "still no", Some(s(20)));
        let now = Timestamp(100_000);
        let of = |kind, name: &str, since, why: &str, next_try: Option<u64>| Trouble {
            kind,
            name: name.to_owned(),
            since: Timestamp(since),
            why: why.to_owned(),
            next_try: next_try.map(Timestamp),
        };
        let lane = of(Kind::Lane, "a", 90_000, "still no", Some(120_000));
        let room = of(Kind::Room, "!b:x", 100_000, "500", None);
        assert_eq!(troubles.longest(9, now), [lane.clone(), room.clone()]);
        assert_eq!(troubles.longest(1, now), [lane]);
        assert_eq!(troubles.of(Kind::Lane, "a"), Some((s(10), "still no".to_owned())));
        troubles.goes(Kind::Lane, "a");
        troubles.goes(Kind::Lane, "never stood");
        assert_eq!(troubles.longest(9, now), [room]);
        assert_eq!((troubles.count(Kind::Lane), troubles.count(Kind::Room)), (0, 1));
    }
}
