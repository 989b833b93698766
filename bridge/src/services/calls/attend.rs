//! Of what rooms say of who of Matrix is in their calls the native server is told, in its order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::api::CallDevice;
use tokio::sync::Notify;

use super::{Book, Spine};
use crate::{
    domain::{
        attending::Attending,
        in_call::{InCall, Moment, What},
    },
    gateway::door::{self, Attends, Begins, NotLetIn, Says},
};

/// What waits; beyond it the oldest goes. What LiveKit shows says the same, only later.
const WAITING: usize = 1_000;
/// Devices of which it is remembered by which event they are in a call.
const MEMBERS: usize = 10_000;

/// What rooms said and the native server was not told. A clone is another handle of the same.
#[derive(Debug, Clone, Default)]
pub struct Said(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    said: Mutex<VecDeque<InCall>>,
    came: Notify,
}

impl Said {
    /// What is new, in its order.
    pub fn put(&self, said: Vec<InCall>) {
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

    fn next(&self) -> Option<InCall> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    fn told(&self) {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

/// Tells all that waits; `false`: the native server is away.
pub(super) async fn tell(spine: &Spine, book: &mut Book) -> bool {
    let Some(door) = spine.door.clone() else { return true };
    while let Some(said) = spine.calls_said.next() {
        let told = match said {
            InCall::Attends(said) => {
                book.attended(&said);
                let own = super::focus(spine, book, said.focus.is_some()).await;
                // Where the homeserver names none nobody knows which is ours.
                let is_other = |focus: &String| own.as_ref().is_some_and(|own| own != focus);
                let focus = said.focus.clone().filter(is_other);
                door.attend(&attends(spine, said, focus)).await
            }
            InCall::Moment(moment) => match book.says(spine, moment) {
                Some(says) => door.says(&says).await,
                None => Ok(()),
            },
        };
        match told {
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
        spine.calls_said.told();
    }
    true
}

fn attends(spine: &Spine, said: Attending, focus: Option<String>) -> Attends {
    let me = spine.native.me();
    let (account, device) = (me.account.clone(), me.record.device_id);
    let begins = said.begins(spine.now()).map(|(call, intent)| {
        let by = CallDevice { account, device, mirror: None };
        Begins { call, intent, by }
    });
    Attends {
        identities: said.identities(),
        group: said.group,
        user: said.user,
        device: said.device,
        is_in: said.is_in,
        focus,
        begins,
    }
}

impl Book {
    /// Remembers by which event a device is in a call.
    fn attended(&mut self, said: &Attending) {
        let Some(device) = said.device.clone() else { return };
        let of = (said.group, said.user.clone(), device);
        match &said.event {
            Some(event) if said.is_in => {
                if self.members.len() >= MEMBERS {
                    self.members.pop_first();
                }
                self.members.insert(of, event.clone());
            }
            _ => drop(self.members.remove(&of)),
        }
    }

    /// What the native server is to be told of a moment.
    fn says(&mut self, spine: &Spine, Moment { group, user, what }: Moment) -> Option<Says> {
        let device = |book: &Self, member| {
            let those = book.members.iter();
            let mut his = those.filter(|((of, who, _), _)| (*of, who) == (group, &user));
            Some(his.find(|(_, event)| **event == member)?.0.2.clone())
        };
        let what = match what {
            What::Rings(event) => {
                self.rings.entry(group).or_default().heard(event, spine.steady());
                return None;
            }
            What::Declines(event) => {
                let now = spine.steady();
                let is_known = self.rings.get(&group).is_some_and(|ring| ring.has(&event, now));
                is_known.then_some(door::Said::Declines)?
            }
            What::Raises { member, by } => {
                door::Said::Raises { device: device(self, member)?, event: by.to_string() }
            }
            What::Lowers(event) => {
                let mut guests = self.calls.get(&group)?.guests();
                guests
                    .any(|guest| guest.hand)
                    .then(|| door::Said::Lowers { event: event.to_string() })?
            }
            What::Shows { member, emoji } => {
                door::Said::Shows { device: device(self, member)?, emoji }
            }
        };
        Some(Says { group, user, what })
    }
}
