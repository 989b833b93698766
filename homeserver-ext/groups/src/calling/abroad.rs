//! Where those of Matrix speak who are of other homeservers: this device goes there too, to hear them.
//!
//! Which servers these are the call's state says; what lets in the home fetches. One that lets nobody in
//! costs its own people alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use causeway_protocol::{
    api::{CallSfus, CallState},
    ids::{CallId, DeviceId, GroupId},
};
use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::{asking::UNSEALED, carrying::is_served};
use crate::{
    calls::{Access, Input, Over, Served, Whose},
    sdk::{CallError, Client},
};

/// Servers of other homeservers; the home names no more.
const MOST: usize = 5;
/// After so long it is tried again to come into one.
const AGAIN: Duration = Duration::from_secs(5);
/// How long an answer is waited for: the home waits for another server meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

type Given = Result<CallSfus, CallError>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is to be asked for then.
    Wanted(Instant),
    Asked,
    /// There is one, or one is being made.
    Made,
    /// There will be none any more.
    Refused,
}

pub(super) struct Abroad {
    me: DeviceId,
    whose: Whose,
    ways: BTreeMap<String, Way>,
    going: FuturesUnordered<BoxFuture<'static, (String, Given)>>,
}

impl Abroad {
    /// `private_servers` as of [`Settings`](crate::calls::Settings).
    pub(super) fn new(me: DeviceId, private_servers: bool) -> Self {
        let whose = if private_servers { Whose::Home } else { Whose::Foreign };
        Self { me, whose, ways: BTreeMap::new(), going: FuturesUnordered::new() }
    }

    /// Takes a state in; what the sound has to be told.
    pub(super) fn hear(&mut self, state: &CallState, may_degrade: bool) -> Vec<Input> {
        let is_in = state.natives().any(|it| it.device == self.me);
        let goes = is_in && may_degrade && is_served(state.topology);
        let wanted: BTreeSet<_> = state.guests().filter_map(|it| it.focus.as_ref()).collect();
        let wanted: BTreeSet<_> = wanted.into_iter().filter(|_| goes).take(MOST).collect();
        let gone = |focus: &&String| !wanted.contains(focus);
        let gone: Vec<_> = self.ways.keys().filter(gone).cloned().collect();
        let mut inputs = Vec::new();
        for focus in gone {
            if self.ways.remove(&focus) == Some(Way::Made) {
                inputs.push(Input::Abroad(focus, None));
            }
        }
        for focus in wanted {
            self.ways.entry(focus.clone()).or_insert(Way::Wanted(Instant::now()));
        }
        inputs
    }

    /// When something is to be asked for.
    pub(super) fn due(&self) -> Option<Instant> {
        let times = self.ways.values().filter_map(|way| match way {
            Way::Wanted(at) => Some(*at),
            Way::Asked | Way::Made | Way::Refused => None,
        });
        times.min()
    }

    pub(super) fn ask(&mut self, client: &Client, call: (GroupId, CallId), epoch: u32) {
        let now = Instant::now();
        for (focus, way) in &mut self.ways {
            if !matches!(way, Way::Wanted(at) if *at <= now) {
                continue;
            }
            *way = Way::Asked;
            let (client, focus) = (client.clone(), focus.clone());
            self.going.push(Box::pin(async move {
                let asking = client.http().access_to_call(call, epoch, Some(focus.clone()));
                let given = timeout(PATIENCE, asking).await;
                let late = || Err(CallError::Unknown("no answer in time".to_owned()));
                (focus, given.unwrap_or_else(|_| late()))
            }));
        }
    }

    /// What was given next; none while nothing was asked for. Nothing is lost when this is given up.
    pub(super) async fn next(&mut self) -> Option<(String, Given)> {
        self.going.next().await
    }

    /// Takes what was given, and says what the sound has to be told.
    pub(super) fn given(&mut self, focus: String, given: Given) -> Option<Input> {
        let way = self.ways.get_mut(&focus).filter(|way| **way == Way::Asked)?;
        let sfu = given.ok().filter(|given| given.e2ee == UNSEALED);
        let Some(sfu) = sfu.and_then(|given| given.sfus.into_iter().find(|it| !it.publish)) else {
            *way = Way::Wanted(Instant::now() + AGAIN);
            return None;
        };
        *way = Way::Made;
        let (url, token) = (sfu.url, Zeroizing::new(sfu.jwt));
        let access = Access { url, token, whose: self.whose, is_sealed: false, speaks: false };
        Some(Input::Abroad(focus, Some(Box::new(access))))
    }

    /// Takes what happens there.
    pub(super) fn served(&mut self, focus: &str, served: &Served) {
        let Some(way) = self.ways.get_mut(focus).filter(|way| **way == Way::Made) else { return };
        match served {
            Served::Over(why) if why.may_come_back() => *way = Way::Wanted(Instant::now() + AGAIN),
            Served::Over(why) if *why != Over::Left => *way = Way::Refused,
            // Where it left it was told to, or goes by another way already.
            Served::Over(_)
            | Served::NotLetSpeak
            | Served::Published
            | Served::Joined
            | Served::Cut
            | Served::Resumed
            | Served::Brings(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_protocol::{
        api::{CallGuest, CallMember, CallSfu, CallTopology},
        ids::Timestamp,
    };

    use super::*;
    use crate::calling::carrying::tests::state;

    fn of_matrix(n: usize) -> CallMember {
        CallMember::Matrix(CallGuest {
            mirror: format!("@mia:{n}.example"),
            name: "Mia".to_owned(),
            device: "PHONE".to_owned(),
            since_ms: Timestamp(0),
            muted: false,
            hand: false,
            sfu: "hashed".to_owned(),
            focus: Some(format!("https://{n}.example")),
            via: "matrix".to_owned(),
        })
    }

    fn given(publish: bool) -> CallSfus {
        let (url, room, mine) = ("wss://sfu.example".to_owned(), String::new(), String::new());
        let sfu = CallSfu { url, jwt: "secret".to_owned(), publish, room, mine };
        CallSfus { sfus: vec![sfu], e2ee: UNSEALED.to_owned() }
    }

    fn asked(it: &Abroad) -> usize {
        it.ways.values().filter(|way| matches!(way, Way::Wanted(_))).count()
    }

    #[tokio::test]
    async fn it_goes_where_somebody_speaks_and_leaves_with_him() {
        let me = DeviceId::new([1; 32]);
        let mut it = Abroad::new(me, false);
        let mut state = state(3, &[1, 2]);
        state.participants.extend((0..9).map(of_matrix));
        assert!(it.hear(&state, true).is_empty());
        assert_eq!(asked(&it), 0, "the mesh carries it");
        state.topology = CallTopology::Sfu;
        it.hear(&state, false);
        assert_eq!(asked(&it), 0, "its person has not agreed to be heard");
        it.hear(&state, true);
        assert_eq!(asked(&it), MOST);
        let there = || "https://0.example".to_owned();
        // Nobody asked yet; a place to speak; sealed as by the devices of the call: none of these.
        assert!(it.given(there(), Ok(given(false))).is_none());
        let ask = |it: &mut Abroad| it.ways.insert(there(), Way::Asked);
        ask(&mut it);
        assert!(it.given(there(), Ok(given(true))).is_none());
        ask(&mut it);
        assert!(it.given(there(), Err(CallError::Unknown("none".to_owned()))).is_none());
        ask(&mut it);
        let Some(Input::Abroad(focus, Some(access))) = it.given(there(), Ok(given(false))) else {
            panic!("it goes nowhere");
        };
        assert_eq!((focus, access.whose, access.speaks), (there(), Whose::Foreign, false));
        it.served(&there(), &Served::Over(Over::RoomGone));
        assert!(matches!(it.ways[&there()], Way::Wanted(at) if at > Instant::now()));
        ask(&mut it);
        assert!(it.given(there(), Ok(given(false))).is_some());
        it.served(&there(), &Served::Over(Over::Removed));
        it.hear(&state, true);
        assert!(it.ways[&there()] == Way::Refused, "it was put out, and does not come again");
        it.ways.insert(there(), Way::Made);
        state.participants.truncate(2);
        let left = it.hear(&state, true);
        assert!(matches!(&left[..], [Input::Abroad(focus, None)] if *focus == there()));
        assert!(it.ways.is_empty());
    }
}
