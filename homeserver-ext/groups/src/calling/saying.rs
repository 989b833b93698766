//! What is told to the devices of a call: to each in order, to several at once, and to none for ever. Only
//! a frame key is tried for as long as this device's own server is away: nothing newer comes in its place.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use causeway_protocol::{
    ids::{DeviceId, GroupId},
    olm_plaintext::CallSignal,
};
use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::time::{Instant, sleep};

use crate::{
    machine::Batch,
    sdk::{Client, INSISTS, SignalError},
};

/// Signals that wait for one device; there are fewer for a connection.
const MOST: usize = 64;
/// How long it is tried to tell a device of which this one may not have heard yet.
const TRIES_FOR: Duration = Duration::from_secs(10);
const TRIES_EVERY: Duration = Duration::from_secs(1);
/// How long a server that does not answer is asked to take a key, before that is known here.
const KEY_INSISTS: Duration = Duration::from_secs(2);

pub(super) struct Sayings {
    client: Client,
    group: GroupId,
    /// Empty while something goes there.
    waiting: BTreeMap<DeviceId, VecDeque<Saying>>,
    going: FuturesUnordered<BoxFuture<'static, Told>>,
    goes_on: bool,
}

/// To whom what was told, and what became of it.
type Told = (DeviceId, Saying, Result<(), SignalError>);

/// What is to be told.
pub(super) struct Saying {
    pub(super) signal: CallSignal,
    /// Where it is a frame key, which.
    pub(super) key: Option<u8>,
    /// As it was sealed, where it was, and the server did not answer.
    sealed: Option<Batch>,
}

impl Saying {
    pub(super) const fn new(signal: CallSignal, key: Option<u8>) -> Self {
        Self { signal, key, sealed: None }
    }
}

/// What became of it.
pub(super) struct Said {
    pub(super) to: DeviceId,
    pub(super) key: Option<u8>,
    pub(super) done: Result<(), SignalError>,
    /// It is told again.
    pub(super) is_held: bool,
}

impl Sayings {
    pub(super) fn new(client: Client, group: GroupId) -> Self {
        let (waiting, going) = (BTreeMap::new(), FuturesUnordered::new());
        Self { client, group, waiting, going, goes_on: true }
    }

    /// Tells it when what was to be told before is; what is too much is left out, and begun anew. Whether
    /// it is told.
    pub(super) fn say(&mut self, to: DeviceId, saying: Saying) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&to) {
            let has_room = waiting.len() < MOST;
            if has_room {
                waiting.push_back(saying);
            }
            return has_room;
        }
        self.waiting.insert(to, VecDeque::new());
        self.go(to, saying, Duration::ZERO);
        true
    }

    /// Who was told something next, or could not be; none while nothing is to be told. Nothing is lost
    /// when this is given up.
    pub(super) async fn next(&mut self) -> Option<Said> {
        let (to, saying, done) = self.going.next().await?;
        let key = saying.key;
        let is_away = || done.as_ref().is_err_and(SignalError::is_away);
        let is_held = self.goes_on && key.is_some() && is_away();
        if is_held {
            self.go(to, saying, TRIES_EVERY);
        } else {
            match self.waiting.get_mut(&to).and_then(VecDeque::pop_front) {
                Some(saying) => self.go(to, saying, Duration::ZERO),
                None => drop(self.waiting.remove(&to)),
            }
        }
        Some(Said { to, key, done, is_held })
    }

    /// Nothing is told for as long as it takes any more.
    pub(super) fn ends(&mut self) {
        self.goes_on = false;
    }

    pub(super) fn is_done(&self) -> bool {
        self.going.is_empty()
    }

    fn go(&self, to: DeviceId, mut saying: Saying, later: Duration) {
        let (client, group) = (self.client.clone(), self.group);
        self.going.push(Box::pin(async move {
            sleep(later).await;
            let done = tell(&client, group, to, &mut saying).await;
            (to, saying, done)
        }));
    }
}

/// The op that lets a device in may come after the call's state with it.
async fn tell(
    client: &Client,
    group: GroupId,
    to: DeviceId,
    saying: &mut Saying,
) -> Result<(), SignalError> {
    let insists = saying.key.map_or(INSISTS, |_| KEY_INSISTS);
    let until = Instant::now() + TRIES_FOR;
    loop {
        let told =
            client.signal_within(insists, (group, to), &saying.signal, &mut saying.sealed).await;
        let again = matches!(told, Err(SignalError::Nobody | SignalError::Contended));
        if !again || Instant::now() + TRIES_EVERY >= until {
            return told;
        }
        sleep(TRIES_EVERY).await;
        client.sync_group(group).await.ok();
    }
}
