//! Mailbox → rules → outbox: rows of the native stream, opened and routed in one transaction with
//! the ratchets that they moved, and acknowledged once that is committed.

use std::collections::{BTreeMap, btree_map::Entry};

use causeway_groups::{
    machine::{Incoming, Received, RosterChange as Change, What},
    sdk::{Client, Keep, KeepError, SdkError, Stream, Taken},
};
use causeway_protocol::{
    content::{self, Content},
    ids::{GroupId, Timestamp},
    roster::Role,
};
use causeway_store::Tx;
use futures_util::future::BoxFuture;
use ruma::UserId;

use super::{AFTER_FAULT, Clock, NATIVE_TOPIC, Spine};
use crate::{
    domain::{
        BridgeRequest, Input, MessageRef, RosterChange, Spoken, Text, ghost::Names, portal::Portal,
        route::route,
    },
    steps::{Step, Steps},
    storage::{
        self,
        effects::{self, Cause},
        outbox, portals,
        sealed::Sealer,
    },
};

/// How long what was said is of use where the group does not say so.
const TTL_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Receives until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut stream = spine.native.stream();
    loop {
        let ended = tokio::select! {
            ended = step(spine, &mut stream) => ended,
            () = &mut stop => {
                stream.close().await;
                return;
            }
        };
        match ended {
            Ok(()) => {}
            Err(SdkError::Call(error)) if error.is_transient() => {
                tracing::warn!(%error, "the native stream broke off; connecting again");
            }
            Err(error) if spine.is_locked_out_by(&error) => {
                tokio::select! {
                    () = spine.is_let_in() => stream = spine.native.stream(),
                    () = &mut stop => return,
                }
            }
            Err(error) => {
                tracing::error!(%error, "the mailbox could not be read; trying again");
                // Rows that were handed out and not kept come again on a new stream.
                stream = spine.native.stream();
                tokio::select! {
                    () = tokio::time::sleep(AFTER_FAULT) => {}
                    () = &mut stop => return,
                }
            }
        }
    }
}

/// Takes in the next rows, waiting for them if need be.
///
/// # Errors
/// [`SdkError`]: after a transient one the same stream goes on, after others take a new one.
pub async fn step(spine: &Spine, stream: &mut Stream) -> Result<(), SdkError> {
    let rows = stream.next_rows().await?;
    let Taken { through, no_room } = spine.native.receive(&rows).await?;
    if let Some(by) = no_room {
        tracing::warn!(by = %by.account, device = %by.device, "the mailbox stands still: no more \
            messages of this device can be held that wait for a key");
    }
    spine.steps.reached(Step::RoutedRows).await;
    stream.ack(through).await;
    spine.steps.reached(Step::AcknowledgedRows).await;
    Ok(())
}

/// Routes whatever the client machine brings to light, in the transaction that did.
pub struct Router {
    /// Seals what waits.
    pub sealer: Sealer,
    /// Who is who on our server.
    pub names: Names,
    /// What time it is.
    pub clock: Clock,
    /// Where tests let the process die.
    pub steps: Steps,
}

impl Keep for Router {
    fn keep<'a>(
        &'a self,
        client: &'a Client,
        tx: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(async move {
            if received.iter().any(|received| may_owe(&received.what)) {
                tx.wake(NATIVE_TOPIC);
            }
            self.route_all(client, tx, received).await?;
            self.steps.reached(Step::RoutingRows).await;
            Ok(())
        })
    }
}

/// A portal, and how long its group keeps messages.
type Known = Option<(Portal, u64)>;

impl Router {
    async fn route_all(
        &self,
        client: &Client,
        tx: &mut Tx,
        received: Vec<Received>,
    ) -> Result<(), KeepError> {
        let mut known = BTreeMap::<GroupId, Known>::new();
        let mut entries = Vec::new();
        for Received { group, what, .. } in received {
            if let What::Roster(change) = &what
                && is_let_in(client, change)
            {
                self.open_portal(client, tx, group).await?;
                known.remove(&group);
            }
            let entry = match known.entry(group) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.portal(client, tx, group).await?),
            };
            let Some((portal, ttl_ms)) = entry else { continue };
            let expires_at = (self.clock)().plus_ms(*ttl_ms);
            if let Some(input) = input(client, group, what, expires_at) {
                self.route_one(tx, portal, &input, expires_at, &mut entries).await?;
            }
        }
        outbox::put(tx, &self.sealer, &entries).await?;
        Ok(())
    }

    async fn route_one(
        &self,
        tx: &mut Tx,
        portal: &mut Portal,
        input: &Input,
        expires_at: Timestamp,
        entries: &mut Vec<outbox::Entry>,
    ) -> Result<(), storage::Error> {
        let effects = match route(portal, input) {
            Ok(effects) => effects,
            Err(skip) => {
                tracing::debug!(group = %portal.group, %skip, "nothing to do");
                return Ok(());
            }
        };
        let (id, author) = match input {
            Input::Spoken(spoken) => {
                (spoken.message_id.as_bytes().to_vec(), spoken.account.to_string())
            }
            Input::Request(request) => (request.id.as_bytes().to_vec(), "an admin".to_owned()),
            Input::Roster(change) => {
                portals::announced(tx, portal.id, change.epoch).await?;
                (change.epoch.0.to_be_bytes().to_vec(), change.by.clone())
            }
            Input::Event(event, _) => {
                (event.event_id.as_bytes().to_vec(), event.sender.to_string())
            }
        };
        let now = (self.clock)();
        let cause = Cause { id: &id, author: &author, accepted_at: now, expires_at };
        effects::keep(tx, &self.sealer, now, portal, cause, effects, entries).await
    }

    async fn portal(
        &self,
        client: &Client,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<Known, KeepError> {
        let Some(portal) = portals::of_group(tx, &self.names, &group).await? else {
            return Ok(None);
        };
        let roster = client.machine().roster(tx, group).await?;
        let ttl_ms = roster.map_or(TTL_MS, |roster| u64::from(roster.policy().ttl_s) * 1_000);
        Ok(Some((portal, ttl_ms)))
    }

    async fn open_portal(
        &self,
        client: &Client,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<(), KeepError> {
        let roster = client.machine().roster(tx, group).await?;
        let name = roster.map(|roster| roster.policy().name.clone()).unwrap_or_default();
        portals::open(tx, (self.clock)(), &group, &name).await?;
        Ok(())
    }
}

fn input(client: &Client, group: GroupId, what: What, expires_at: Timestamp) -> Option<Input> {
    match what {
        What::Message(incoming) if incoming.sender == client.me().account => None,
        What::Message(incoming) => said(incoming, expires_at),
        What::Roster(change) => Some(Input::Roster(changed(change))),
        What::Failed { reason, .. } => {
            metrics::counter!("causeway_native_failed_total", "reason" => reason).increment(1);
            tracing::warn!(%group, reason, "a message of the group cannot be read");
            None
        }
        What::Fork(fork) if fork.other.is_none() => {
            tracing::warn!(%group, "a member says that the group has another history");
            None
        }
        What::Fork(_) => {
            tracing::error!(%group, "the server shows two histories of a group; it is left alone");
            None
        }
        What::Expired { id } => {
            tracing::warn!(%group, %id, "an envelope was not taken in time");
            None
        }
        What::JoinAsked { .. } | What::Held { .. } | What::Duplicate | What::Keys => None,
    }
}

/// Whether something may be to be done for others now: a message that opened asks for nothing.
fn may_owe(what: &What) -> bool {
    match what {
        What::Message(_) | What::Duplicate => false,
        What::Roster(_)
        | What::JoinAsked { .. }
        | What::Expired { .. }
        | What::Held { .. }
        | What::Failed { .. }
        | What::Keys
        | What::Fork(_) => true,
    }
}

/// Whether an admin's op just let us in, as the bridge: in any other role we bridge nothing.
fn is_let_in(client: &Client, change: &Change) -> bool {
    let me = &client.me().account;
    change.joined.iter().any(|(account, role)| account == me && *role == Role::Bridge)
}

fn said(incoming: Incoming, expires_at: Timestamp) -> Option<Input> {
    let reference = MessageRef { device: incoming.device, client_id: incoming.client_id };
    match incoming.content {
        Content::Text(content::Text { kind, body, html, reply_to, .. }) => {
            Some(Input::Spoken(Spoken {
                account: incoming.sender,
                reference,
                message_id: incoming.id,
                expires_at,
                late: incoming.late,
                text: Text { kind, body, html },
                reply_to,
            }))
        }
        Content::BridgeRequest(request) => {
            let invite = request.invite.unwrap_or_default();
            Some(Input::Request(BridgeRequest {
                id: incoming.id,
                from_admin: incoming.role == Role::Admin,
                room: request.room,
                invite: invite.iter().filter_map(|user| UserId::parse(user).ok()).collect(),
            }))
        }
        Content::Mirrors(_) | Content::RosterSync(_) | Content::Unknown(..) => None,
    }
}

fn changed(change: Change) -> RosterChange {
    RosterChange {
        epoch: change.epoch,
        by: change.by.map_or_else(|| "A former member".to_owned(), |by| by.to_string()),
        joined: change.joined.into_iter().map(|(account, _)| account).collect(),
        left: change.left,
        me_joined: change.me_joined,
        me_left: change.me_left,
        closed: change.closed,
    }
}
