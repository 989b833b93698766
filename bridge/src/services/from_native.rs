//! Mailbox → rules → outbox: rows of the native stream, opened and routed in one transaction with
//! the ratchets that they moved, and acknowledged once that is committed.

mod shares;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use causeway_groups::{
    WaitsFor,
    machine::{Incoming, Machine, Received, RosterChange as Change, What},
    sdk::{Client, Keep, KeepError, SdkError, Stream},
};
use causeway_protocol::{
    content::{self, Content},
    envelope::MAX_TTL_MS,
    ids::{AccountId, GroupId, Timestamp},
    roster::{self, Role, Roster},
};
use causeway_store::{Script, Tx};
use futures_util::future::BoxFuture;
use ruma::UserId;
use tokio::sync::watch;

use self::shares::{NOTHING, given};
use super::{AFTER_FAULT, Clock, NATIVE_TOPIC, Spine};
use crate::{
    domain::{
        BridgeRequest, Input, MessageRef, RosterChange, TextKind,
        effect::{Effect, InGroup},
        ghost::Names,
        portal::Portal,
        readers::unsaid,
        route::route,
        said::{Said, Spoken, Text},
        share::{Given, Terms},
        unbridged,
    },
    health::Kind,
    steps::{Step, Steps},
    storage::{
        answered,
        effects::{Cause, Decided},
        expired, late, portals,
        restored::{self, Again},
        sealed::Sealer,
    },
};

/// How long what was said is of use where the group does not say so.
const TTL_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// What of the native side stands where its rows cannot be kept.
const MAILBOX: &str = "mailbox";

/// Receives until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut stream = spine.native.stream();
    let mut is_kept = false;
    loop {
        let ended = tokio::select! {
            ended = async {
                keep_read(spine, &mut is_kept).await;
                step(spine, &mut stream).await
            } => ended,
            () = &mut stop => {
                stream.close().await;
                return;
            }
        };
        match ended {
            Ok(()) => spine.troubles.goes(Kind::Native, MAILBOX),
            Err(SdkError::Call(error)) if error.is_transient() => {
                tracing::warn!(%error, "the native stream broke off; connecting again");
                // There are rows that do not come here, or not to their end.
                if error.is_stuck() {
                    spine.troubles.stands(Kind::Native, MAILBOX, &error.to_string(), None);
                }
                // What comes then may be an older database of the server's.
                is_kept = false;
            }
            Err(error) if spine.is_locked_out_by(&error) => {
                tokio::select! {
                    () = spine.is_let_in() => stream = spine.native.stream(),
                    () = &mut stop => return,
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the mailbox could not be read; trying again");
                let why = error.to_string();
                spine.troubles.stands(Kind::Native, MAILBOX, &why, Some(AFTER_FAULT));
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

/// Asks the server, once for each connection, to keep what is acknowledged for the case that the database is put back.
async fn keep_read(spine: &Spine, is_asked: &mut bool) {
    if *is_asked {
        return;
    }
    match spine.native.keep_read().await {
        Ok(true) => *is_asked = true,
        Ok(false) => {
            *is_asked = true;
            tracing::info!(
                "the native server keeps nothing that was acknowledged: what comes after a backup \
                 of bridge.db is lost when it is put back"
            );
        }
        Err(error) => tracing::debug!(%error, "not asked to keep what is acknowledged; next time"),
    }
}

/// Takes in the next rows, waiting for them if need be.
///
/// # Errors
/// [`SdkError`]: after a transient one the same stream goes on, after others take a new one.
pub async fn step(spine: &Spine, stream: &mut Stream) -> Result<(), SdkError> {
    let rows = stream.next_rows().await?;
    let taken = spine.native.receive(&rows).await?;
    spine.calls_told.put(spine.native.calls().take());
    if let Some(by) = &taken.no_room {
        tracing::warn!(by = %by.account, device = %by.device, "no more messages of this device can \
            be held that wait for a key: they stay at the server");
    }
    spine.steps.reached(Step::RoutedRows).await;
    stream.took(&taken).await;
    spine.steps.reached(Step::AcknowledgedRows).await;
    Ok(())
}

/// Routes whatever the client machine brings to light, in the transaction that did.
pub struct Router {
    /// Seals what waits.
    pub sealer: Sealer,
    /// Who is who on our server.
    pub names: Names,
    /// What it does for one account, as it is when something is asked for.
    pub terms: watch::Receiver<Terms>,
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

/// What one transaction has come to know of a group.
struct Known {
    portal: Option<Portal>,
    natives: Option<Arc<Roster>>,
    policy: Policy,
}

/// As much of a group's policy as the bridge goes by.
struct Policy {
    name: String,
    /// How long it keeps messages.
    ttl_ms: u64,
}

impl Router {
    async fn route_all(
        &self,
        client: &Client,
        tx: &mut Tx,
        received: Vec<Received>,
    ) -> Result<(), KeepError> {
        let groups = received.iter().map(|row| row.group).collect();
        let (again, mut known, mut decided) = self.known(client, tx, &groups).await?;
        if let Some(again) = again.filter(|_| received.iter().any(|row| row.seq.0 > 0)) {
            self.goes_on(tx, again, &received).await?;
        }
        for Received { seq, group, what } in received {
            let again = again.filter(|again| again.is_about(seq));
            let lets_in = matches!(&what, What::Roster(change) if is_let_in(change));
            let Some(Known { portal, natives, policy }) = known.get_mut(&group) else { continue };
            if portal.is_none() && lets_in {
                *portal = Some(portals::found(tx, &self.names, (self.clock)(), &group).await?);
            }
            let Some(portal) = portal else { continue };
            portal.natives.clone_from(natives);
            let expires_at = (self.clock)().plus_ms(policy.ttl_ms);
            if let What::Expired { id } = &what
                && !late::note(tx, *id).await?
            {
                expired::note(tx, *id).await?;
            }
            if let Some(again) = again.filter(|_| is_unread(&what)) {
                restored::tell(portal, again.known, (self.clock)(), &mut decided);
            }
            if let Some(mut input) = input(client, group, what, policy, expires_at) {
                self.shares(tx, &mut input).await?;
                let is_told = match &input {
                    Input::Unbridged(spoken, number) => {
                        let kind = unbridged::native_kind(*number);
                        let who = spoken.account.as_str();
                        answered::is_first(tx, portal.id, who, &kind).await?
                    }
                    _ => true,
                };
                let since = again.map(|again| again.since);
                let given =
                    self.route_one(portal, &input, is_told, (expires_at, since), &mut decided);
                self.count(tx, &given).await?;
            }
            if lets_in {
                self.tell_unsaid(tx, portal, expires_at, &mut decided).await?;
            }
        }
        let changed = known.values_mut().filter_map(|known| known.portal.as_mut());
        decided.keep_last(tx, &self.sealer, (self.clock)(), changed).await?;
        Ok(())
    }

    /// Tells those of whom something did not get into the room when the bridge was out of the group.
    async fn tell_unsaid(
        &self,
        tx: &mut Tx,
        portal: &mut Portal,
        expires_at: Timestamp,
        decided: &mut Decided,
    ) -> Result<(), KeepError> {
        let owed = answered::owed(tx, portal.id).await?;
        if owed.is_empty() {
            return Ok(());
        }
        let accepted_at = (self.clock)();
        let id = format!("unsaid {}", accepted_at.0);
        let author = self.names.bot().as_str();
        let cause = Cause { id: id.as_bytes(), author, accepted_at, expires_at };
        decided.take(portal, cause, vec![Effect::InGroup(InGroup::Notice(unsaid(&owed)))]);
        Ok(())
    }

    /// Notes what has come of what comes again; what waits for a key does so as long as anything.
    async fn goes_on(
        &self,
        tx: &mut Tx,
        again: Again,
        received: &[Received],
    ) -> Result<(), KeepError> {
        let is_past = received.iter().any(|row| row.seq > again.until);
        if is_past && again.since.plus_ms(MAX_TTL_MS) < (self.clock)() {
            restored::is_over(tx.conn()).await?;
        } else if is_past && !again.is_level {
            restored::is_level(tx.conn()).await?;
        }
        Ok(())
    }

    fn route_one(
        &self,
        portal: &mut Portal,
        input: &Input,
        is_told: bool,
        (expires_at, again_since): (Timestamp, Option<Timestamp>),
        decided: &mut Decided,
    ) -> Vec<Given> {
        let effects = match route(portal, input) {
            // Who sent what is not carried was told of that before.
            Ok(mut effects) if !is_told => {
                effects.retain(|effect| !matches!(effect, Effect::InGroup(_)));
                effects
            }
            Ok(effects) => effects,
            Err(skip) => {
                tracing::debug!(group = %portal.group, %skip, "nothing to do");
                return Vec::new();
            }
        };
        let given = given(&effects);
        let (id, author) = match input {
            Input::Spoken(spoken) | Input::Unbridged(spoken, _) => {
                (spoken.message_id.as_bytes().to_vec(), spoken.account.to_string())
            }
            Input::Request(request) => (request.id.as_bytes().to_vec(), request.by.to_string()),
            Input::Roster(change) => {
                let by = change.by.as_ref().map_or("a former member", AccountId::as_str);
                (change.epoch.0.to_be_bytes().to_vec(), by.to_owned())
            }
            Input::Changed(_, member) => (member.as_bytes().to_vec(), "the bridge".to_owned()),
            Input::Overheard | Input::Room(_) | Input::Expired(_) => return given,
            Input::Event(event, _) => {
                (event.event_id.as_bytes().to_vec(), event.sender.to_string())
            }
        };
        let accepted_at = (self.clock)();
        let cause = Cause { id: &id, author: &author, accepted_at, expires_at };
        match again_since {
            Some(since) => decided.take_again(portal, cause, effects, since),
            None => decided.take(portal, cause, effects),
        }
        given
    }

    /// What comes again, what is known of these groups, and what is decided so far: nothing.
    async fn known(
        &self,
        client: &Client,
        tx: &mut Tx,
        groups: &BTreeSet<GroupId>,
    ) -> Result<(Option<Again>, BTreeMap<GroupId, Known>, Decided), KeepError> {
        let mut script = Script::default();
        restored::select_again(&mut script);
        portals::select_of_groups(&mut script, groups);
        Machine::select_rosters(&mut script, groups);
        let mut rows = script.run(tx.conn()).await?;
        let again = restored::read_again(rows.take().first())?;
        let (mut portals, asides) = portals::read_of_groups(&self.names, &mut rows)?;
        let mut rosters = client.machine().read_rosters(tx, &rows.take()).await?;
        let known = groups.iter().map(|group| {
            let (portal, natives) = (portals.remove(group), rosters.remove(group));
            let policy = natives.as_ref().map(|roster| Policy {
                name: roster.policy().name.clone(),
                ttl_ms: u64::from(roster.policy().ttl_s) * 1_000,
            });
            let policy = policy.unwrap_or(Policy { name: String::new(), ttl_ms: TTL_MS });
            (*group, Known { portal, natives, policy })
        });
        Ok((again, known.collect(), Decided::beside(asides)))
    }
}

fn input(
    client: &Client,
    group: GroupId,
    what: What,
    policy: &Policy,
    expires_at: Timestamp,
) -> Option<Input> {
    match what {
        What::Message(incoming) if incoming.sender == client.me().account => None,
        // It may come after the bridge was let in, when its key was late: it was not said to it.
        What::Message(incoming) if incoming.my_role != Role::Bridge => Some(Input::Overheard),
        // In the room it would be the words of whoever had that name before.
        What::Message(incoming) if incoming.trust.is_wrong() => {
            let reason = incoming.trust.name();
            metrics::counter!("causeway_native_failed_total", "reason" => reason).increment(1);
            tracing::warn!(%group, by = %incoming.sender, reason, "not carried: not who it is called");
            None
        }
        What::Message(incoming) => said(incoming, expires_at),
        What::Roster(change) => Some(Input::Roster(changed(change, policy))),
        What::Failed { reason, .. } => {
            metrics::counter!("causeway_native_failed_total", "reason" => reason).increment(1);
            tracing::warn!(%group, reason, "a message of the group cannot be read");
            None
        }
        What::Identity(shown) => {
            tracing::warn!(%group, account = %shown.account, "an account has another identity");
            Some(Input::Changed(shown.account, shown.member_id))
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
            tracing::debug!(%group, %id, "an envelope was not taken in time");
            None
        }
        // Nothing is offered to whoever takes part wherever it is let in.
        What::Offered(_)
        | What::JoinAsked { .. }
        | What::Held { .. }
        | What::Duplicate
        // Nobody shares with a bridge, and what was shared is not said anew.
        | What::Past(_)
        | What::Keys
        | What::Signal(_) => None,
    }
}

/// Whether it cannot be read, or not yet: the key came over Olm after the copy was made.
fn is_unread(what: &What) -> bool {
    matches!(what, What::Held { waits_for: WaitsFor::Chain, .. })
}

/// Whether something may be to be done for others now: a message that opened asks for nothing.
fn may_owe(what: &What) -> bool {
    match what {
        What::Message(_) | What::Past(_) | What::Duplicate => false,
        What::Roster(_)
        | What::JoinAsked { .. }
        | What::Expired { .. }
        | What::Held { .. }
        | What::Failed { .. }
        | What::Keys
        | What::Signal(_)
        | What::Identity(_)
        | What::Offered(_)
        | What::Fork(_) => true,
    }
}

/// Whether an admin's op just let us in, as the bridge: in any other role we bridge nothing.
fn is_let_in(change: &Change) -> bool {
    change.my_role == Some(Role::Bridge) && change.my_role_before != Some(Role::Bridge)
}

/// Whether we were the bridge until now.
fn is_put_out(change: &Change) -> bool {
    change.my_role_before == Some(Role::Bridge) && change.my_role != Some(Role::Bridge)
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
                sent_at: Some(incoming.sent_at),
                late: incoming.late,
                said: Said::Text(Text { kind, body, html }, reply_to),
            }))
        }
        Content::BridgeRequest(request) => {
            let invite = request.invite.unwrap_or_default();
            Some(Input::Request(BridgeRequest {
                id: incoming.id,
                by: incoming.sender,
                share: NOTHING,
                from_admin: incoming.role == Role::Admin,
                room: request.room,
                invite: invite.iter().filter_map(|user| UserId::parse(user).ok()).collect(),
            }))
        }
        Content::Unknown(number, _) => {
            let body = unbridged::native_line(number)?;
            let text = Text { kind: TextKind::Notice, body, html: None };
            let spoken = Spoken {
                account: incoming.sender,
                reference,
                message_id: incoming.id,
                expires_at,
                sent_at: Some(incoming.sent_at),
                late: incoming.late,
                said: Said::Text(text, None),
            };
            Some(Input::Unbridged(spoken, number))
        }
        Content::Mirrors(_) | Content::RosterSync(_) => None,
    }
}

fn changed(change: Change, policy: &Policy) -> RosterChange {
    RosterChange {
        let_in: is_let_in(&change).then(|| policy.name.clone()),
        put_out: is_put_out(&change),
        epoch: change.epoch,
        by: change.by,
        share: NOTHING,
        policy: (change.kind == roster::Kind::Policy).then(|| policy.name.clone()),
        // Who has another role was there before.
        joined: match change.kind {
            roster::Kind::Role => Vec::new(),
            _ => change.joined.into_iter().map(|(account, _)| account).collect(),
        },
        left: change.left,
        closed: change.closed,
    }
}
