//! Of what rooms say of who of Matrix is in their calls the native server is told, in its order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::api::CallDevice;
use tokio::sync::Notify;

use super::{Book, Spine};
use crate::{
    domain::attending::Attending,
    gateway::door::{Attends, Begins, NotLetIn},
};

/// What waits; beyond it the oldest goes. What LiveKit shows says the same, only later.
const WAITING: usize = 1_000;

/// What rooms said and the native server was not told. A clone is another handle of the same.
#[derive(Debug, Clone, Default)]
pub struct Said(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    said: Mutex<VecDeque<Attending>>,
    came: Notify,
}

impl Said {
    /// What is new, in its order.
    pub fn put(&self, said: Vec<Attending>) {
        if said.is_empty() {
            return;
        }
        let mut waiting = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(said);
        let beyond = waiting.len().saturating_sub(WAITING);
        waiting.drain(..beyond);
        drop(waiting);
        self.0.came.notify_one();
    }

    pub(super) async fn came(&self) {
        self.0.came.notified().await;
    }

    fn next(&self) -> Option<Attending> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    fn told(&self) {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

/// Tells all that waits; `false`: the native server is away.
pub(super) async fn tell(spine: &Spine, book: &mut Book) -> bool {
    let Some(door) = &spine.door else { return true };
    while let Some(said) = spine.calls_said.next() {
        // Who leaves a room whose group does not call leaves no call.
        let is_about = said.device.is_some() || book.calls.contains_key(&said.group);
        if is_about {
            let own = super::focus(spine, book, said.focus.is_some()).await;
            // Where the homeserver names none nobody knows which is ours.
            let focus = said.focus.clone().filter(|focus| own.is_some_and(|own| own != *focus));
            let me = spine.native.me();
            let (account, device) = (me.account.clone(), me.record.device_id);
            let begins = said.begins(spine.now()).map(|(call, intent)| {
                let by = CallDevice { account, device, mirror: None };
                Begins { call, intent, by }
            });
            let attends = Attends {
                identities: said.identities(),
                group: said.group,
                user: said.user.clone(),
                device: said.device.clone(),
                is_in: said.is_in,
                focus,
                begins,
            };
            match door.attend(&attends).await {
                Ok(()) => {}
                Err(NotLetIn::Away(why)) => {
                    tracing::debug!(why, "who of Matrix is in calls is not told yet");
                    return false;
                }
                // It is as it was; who is in the room of Matrix's own may be there.
                Err(NotLetIn::Refused(why)) => {
                    tracing::debug!(why, "one of Matrix is not in a group's call");
                }
            }
        }
        spine.calls_said.told();
    }
    true
}
