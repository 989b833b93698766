//! The agent, by whom this server and others speak: it carries frames between the native server's door
//! and the homeserver's to-device messages, and reads none of them (protocol §7.1).
//!
//! It reads its own `/sync`, since homeservers lose to-device messages on the way to an application
//! service. Whatever is lost between the two is sent again by the links themselves: of frames nothing is kept here.

mod rooms;

use std::{collections::BTreeMap, fmt::Display, future::Future, time::Duration};

use causeway_store::Db;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, UserId};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use self::rooms::Seen;
use crate::{
    domain::ghost::Names,
    gateway::{
        door::{Came, Door, DoorError, Fetched, Leaving, MAX_FRAMES},
        matrix::{AGENT_DEVICE, Matrix, MatrixError, ToAgent},
    },
    health::{Kind, Troubles},
    registration::AGENT,
    secret::Secret,
    steps::{Step, Steps},
};

/// How long is waited for something that is to leave, or comes.
const WAIT: Duration = Duration::from_secs(30);
/// The way of what leaves by the homeserver.
const SEND: &str = "send";
/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// Shortest time between two requests of which the first brought nothing: not everybody waits for as
/// long as he was asked to.
pub const EMPTY_EVERY: Duration = Duration::from_millis(250);

/// What the agent needs.
#[derive(Clone)]
pub struct Agent {
    /// The homeserver.
    pub matrix: Matrix,
    /// The native server's side.
    pub door: Door,
    /// Who is who on our server.
    pub names: Names,
    /// Where it is kept whom it has invited.
    pub db: Db,
    /// What does not go on, for people to see.
    pub troubles: Troubles,
    /// Where a test may have the process die.
    pub steps: Steps,
}

impl Agent {
    /// What keeps this way of the agent from going on.
    fn trouble(&self, of: &'static str) -> Trouble<'_> {
        Trouble { of, troubles: &self.troubles, said: None }
    }
}

/// Carries frames both ways until `stop` is done.
pub async fn run(agent: &Agent, stop: impl Future<Output = ()>) {
    tokio::select! {
        () = stop => {}
        () = carry(agent) => {}
    }
}

async fn carry(agent: &Agent) {
    let user = agent.names.agent();
    let mut trouble = agent.trouble("start");
    while let Err(error) = begin(agent, user).await {
        trouble.pause("no agent to speak with other servers yet", &error).await;
    }
    trouble.is_over();
    let seen = Seen::default();
    tokio::join!(
        outward(agent, user, &seen),
        inward(agent, user, &seen),
        rooms::keep(agent, user, &seen),
        rooms::decline(agent, user, &seen)
    );
}

async fn begin(agent: &Agent, user: &UserId) -> Result<(), MatrixError> {
    agent.matrix.register(AGENT).await?;
    agent.matrix.put_device(user, AGENT_DEVICE).await
}

/// What a person does about an error.
trait Remedy: Display {
    fn remedy(&self) -> &'static str;
}

impl Remedy for MatrixError {
    fn remedy(&self) -> &'static str {
        match self {
            Self::NotReached(_) | Self::NoAnswer(_) | Self::Server(..) => {
                "see whether the homeserver runs, and what its log says"
            }
            Self::RateLimited(_) => {
                "exempt @_causeway from rate limits (the registration says `rate_limited: false`)"
            }
            Self::UnknownToken | Self::Refused(..) => {
                "write the registration anew with `causeway registration`, copy it to the homeserver, and \
                 restart that; its log says more"
            }
            Self::Misunderstood(_) | Self::TooLong(..) => {
                "see whether homeserver.address is the homeserver, and no proxy changes its answers"
            }
        }
    }
}

impl Remedy for DoorError {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Address(_) => "mend native.address",
            Self::Request(_) => "see whether the native server runs at native.address",
            Self::Refused(_) => {
                "see whether both halves have the same relay.token and version, and what the native \
                 server's log says"
            }
        }
    }
}

/// What keeps one way from going on: in the log once, and for people to see for as long as it does.
struct Trouble<'a> {
    of: &'static str,
    troubles: &'a Troubles,
    said: Option<String>,
}

impl Trouble<'_> {
    /// Says what fails where that is something else than before, and waits before the next try.
    async fn pause(&mut self, what: &'static str, error: &impl Remedy) {
        if self.is_news(error) {
            tracing::warn!(%error, "{what}; trying again");
        }
        let why = format!("{what}: {error}. What to do: {}", error.remedy());
        self.troubles.stands(Kind::Agent, self.of, &why, Some(PAUSE));
        tokio::time::sleep(PAUSE).await;
    }

    /// Something stands that is no error of one request.
    fn stands(&mut self, what: &'static str, remedy: &'static str, again: Duration) {
        if self.is_news(&what) {
            tracing::warn!("{what}");
        }
        let why = format!("{what}. What to do: {remedy}");
        self.troubles.stands(Kind::Agent, self.of, &why, Some(again));
    }

    fn is_news(&mut self, error: &impl Display) -> bool {
        let error = Some(error.to_string());
        let is_news = self.said != error;
        self.said = error;
        is_news
    }

    /// It goes on.
    fn is_over(&mut self) {
        if self.said.take().is_some() {
            tracing::info!(of = self.of, "what the agent carries between servers goes on");
        }
        self.troubles.goes(Kind::Agent, self.of);
    }
}

async fn outward(agent: &Agent, user: &UserId, seen: &Seen) {
    let mut trouble = agent.trouble("outward");
    loop {
        let began = Instant::now();
        match agent.door.fetch(WAIT, seen.moved()).await {
            Ok(Fetched { frames, posts, moved }) => {
                trouble.is_over();
                seen.has_moved(moved);
                if frames.is_empty() && posts.is_empty() {
                    sleep_until(began + EMPTY_EVERY).await;
                } else {
                    agent.steps.reached(Step::FetchedFrames).await;
                }
                tokio::join!(send(agent, user, frames), rooms::post(agent, user, seen, posts));
            }
            Err(error) => trouble.pause("nothing leaves for other servers", &error).await,
        }
    }
}

async fn inward(agent: &Agent, user: &UserId, seen: &Seen) {
    let mut since = None;
    let mut trouble = agent.trouble("inward");
    loop {
        let began = Instant::now();
        let synced = agent.matrix.to_agent(user, since.as_deref(), WAIT).await;
        let mut synced = match synced {
            Ok(synced) => synced,
            Err(error) => {
                trouble.pause("nothing comes of other servers", &error).await;
                continue;
            }
        };
        seen.came(&mut synced);
        let ToAgent { next, frames, events, is_passed_over, .. } = synced;
        let frames = frames.into_iter().map(|(sender, content)| (None, sender, content));
        let events =
            events.into_iter().map(|(room, sender, content)| (Some(room), sender, content));
        let came: Vec<_> = frames.chain(events).filter_map(|said| came(user, said)).collect();
        for frames in came.chunks(MAX_FRAMES) {
            agent.steps.reached(Step::CameFrames).await;
            // Only what is handed in is let go of by the homeserver.
            let back = loop {
                match agent.door.hand_in(frames).await {
                    Ok(back) => break back,
                    Err(error) => trouble.pause("what came of other servers waits", &error).await,
                }
            };
            agent.steps.reached(Step::HandedInFrames).await;
            send(agent, user, back).await;
        }
        if is_passed_over {
            trouble.stands(
                "more came for the agent than is read at once, and was passed over; other servers send again \
                 what was theirs",
                "see in the homeserver's log who sends so much to @_causeway, and deny that server \
                 (native.servers.deny, and the homeserver's own lists)",
                WAIT,
            );
        } else {
            trouble.is_over();
        }
        // Without a token nobody was asked to wait.
        if came.is_empty() && since.is_some() {
            sleep_until(began + EMPTY_EVERY).await;
        }
        since = Some(next);
    }
}

/// A frame, if it is the agent's of its server who sends it; not one's own.
fn came(
    user: &UserId,
    (room, sender, content): (Option<OwnedRoomId>, OwnedUserId, Value),
) -> Option<Came> {
    if sender == *user {
        return None;
    }
    let is_agent = sender.localpart() == AGENT;
    if !is_agent {
        metrics::counter!("causeway_servers_strangers_total").increment(1);
    }
    is_agent.then(|| Came { from: sender.server_name().to_owned(), room, content })
}

/// Sends frames, one of each server in one request: a request has one message for a device.
async fn send(agent: &Agent, user: &UserId, frames: Vec<Leaving>) {
    for round in rounds(frames) {
        let messages = round.into_iter().filter_map(|(server, content)| {
            let to = OwnedUserId::try_from(format!("@{AGENT}:{server}")).ok()?;
            Some((to, content))
        });
        let sent = match Secret::random() {
            Ok(txn) => agent.matrix.to_agents(user, txn.expose(), messages.collect()).await,
            Err(error) => {
                tracing::error!(%error, "no randomness");
                return;
            }
        };
        match sent {
            Ok(()) => {
                agent.trouble(SEND).is_over();
                agent.steps.reached(Step::SentFrames).await;
            }
            // The links send it again.
            Err(error) => {
                tracing::debug!(%error, "a frame did not leave");
                let why = format!(
                    "the homeserver does not take what is for other servers: {error}. What to do: {}",
                    error.remedy()
                );
                agent.troubles.stands(Kind::Agent, SEND, &why, None);
            }
        }
    }
}

/// In which requests frames go: their order of each server is kept.
fn rounds(frames: Vec<Leaving>) -> Vec<BTreeMap<OwnedServerName, Value>> {
    let mut rounds: Vec<BTreeMap<OwnedServerName, Value>> = Vec::new();
    for Leaving { to, content } in frames {
        let after = rounds.iter().rposition(|round| round.contains_key(&to));
        let nth = after.map_or(0, |nth| nth + 1);
        match rounds.get_mut(nth) {
            Some(round) => drop(round.insert(to, content)),
            None => rounds.push(BTreeMap::from([(to, content)])),
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use ruma::OwnedUserId;
    use serde_json::json;

    use super::{Kind, Leaving, MatrixError, PAUSE, Trouble, Troubles, came, rounds};

    #[test]
    fn frames_of_a_server_go_one_after_the_other_and_those_of_several_together() {
        let frames = [("a.example", 1), ("b.example", 2), ("a.example", 3), ("a.example", 4)];
        let frames =
            frames.map(|(to, n)| Leaving { to: to.try_into().unwrap(), content: json!(n) });
        let rounds = rounds(frames.into());
        let of: Vec<Vec<_>> = rounds.iter().map(|round| round.values().collect()).collect();
        assert_eq!(of, [vec![&json!(1), &json!(2)], vec![&json!(3)], vec![&json!(4)]]);
    }

    #[test]
    fn what_fails_is_said_once_and_again_when_it_is_something_else() {
        let troubles = Troubles::default();
        let mut trouble = Trouble { of: "inward", troubles: &troubles, said: None };
        let said = ["away", "away", "refused", "away"].map(|error| trouble.is_news(&error));
        assert_eq!(said, [true, false, true, true]);
        trouble.is_over();
        assert!(trouble.is_news(&"away"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_a_trouble_with_what_to_do_for_as_long_as_it_does() {
        let troubles = Troubles::default();
        let mut trouble = Trouble { of: "inward", troubles: &troubles, said: None };
        trouble.pause("nothing comes of other servers", &MatrixError::UnknownToken).await;
        let (stood, why) = troubles.of(Kind::Agent, "inward").unwrap();
        assert_eq!(stood, PAUSE);
        assert!(why.starts_with("nothing comes of other servers: as_token not accepted"), "{why}");
        assert!(why.contains("What to do: write the registration anew"), "{why}");
        trouble.is_over();
        assert_eq!(troubles.count(Kind::Agent), 0);
    }

    #[test]
    fn only_its_agent_speaks_for_a_server() {
        let table = [
            ("@_causeway:b.example", Some("b.example")),
            ("@_causeway:b.example:8448", Some("b.example:8448")),
            ("@causeway:b.example", None),
            ("@_causeway_:b.example", None),
            ("@bob:b.example", None),
            ("@_causeway:a.example", None),
        ];
        for (sender, server) in table {
            let sender: OwnedUserId = sender.try_into().unwrap();
            let here = OwnedUserId::try_from("@_causeway:a.example").unwrap();
            let from = came(&here, (None, sender, json!({}))).map(|came| came.from.to_string());
            assert_eq!(from.as_deref(), server);
        }
    }
}
