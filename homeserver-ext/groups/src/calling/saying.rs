//! What is told to the devices of a call: to each in order, to several at once, and to none for ever.

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

use crate::sdk::{Client, SignalError};

/// Signals that wait for one device; there are fewer for a connection.
const MOST: usize = 64;
/// How long it is tried to tell a device of which this one may not have heard yet.
const TRIES_FOR: Duration = Duration::from_secs(10);
const TRIES_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Saying {
    client: Client,
    group: GroupId,
    /// Empty while something goes there.
    waiting: BTreeMap<DeviceId, VecDeque<CallSignal>>,
    going: FuturesUnordered<BoxFuture<'static, (DeviceId, Result<(), SignalError>)>>,
}

impl Saying {
    pub(super) fn new(client: Client, group: GroupId) -> Self {
        let (waiting, going) = (BTreeMap::new(), FuturesUnordered::new());
        Self { client, group, waiting, going }
    }

    /// Tells it when what was to be told before is; what is too much is left out, and begun anew.
    pub(super) fn say(&mut self, to: DeviceId, signal: CallSignal) {
        if let Some(waiting) = self.waiting.get_mut(&to) {
            if waiting.len() < MOST {
                waiting.push_back(signal);
            }
            return;
        }
        self.waiting.insert(to, VecDeque::new());
        self.go(to, signal);
    }

    /// Who was told something next, or could not be; none while nothing is to be told. Nothing is lost
    /// when this is given up.
    pub(super) async fn next(&mut self) -> Option<(DeviceId, Result<(), SignalError>)> {
        let (to, done) = self.going.next().await?;
        match self.waiting.get_mut(&to).and_then(VecDeque::pop_front) {
            Some(signal) => self.go(to, signal),
            None => drop(self.waiting.remove(&to)),
        }
        Some((to, done))
    }

    pub(super) fn is_done(&self) -> bool {
        self.going.is_empty()
    }

    fn go(&self, to: DeviceId, signal: CallSignal) {
        let (client, group) = (self.client.clone(), self.group);
        self.going.push(Box::pin(async move { (to, tell(&client, group, to, &signal).await) }));
    }
}

/// The op that lets a device in may come after the call's state with it.
async fn tell(
    client: &Client,
    group: GroupId,
    to: DeviceId,
    signal: &CallSignal,
) -> Result<(), SignalError> {
    let until = Instant::now() + TRIES_FOR;
    loop {
        let told = client.signal(group, to, signal).await;
        let again = matches!(told, Err(SignalError::Nobody | SignalError::Contended));
        if !again || Instant::now() + TRIES_EVERY >= until {
            return told;
        }
        sleep(TRIES_EVERY).await;
        client.sync_group(group).await.ok();
    }
}
