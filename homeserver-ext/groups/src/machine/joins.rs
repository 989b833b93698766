//! Requests to be let in: made with a link, and judged by whoever holds it (protocol §3.4).
//!
//! The server passes requests on and counts uses; it is not believed in either.

use causeway_protocol::{
    api::{JoinRequest, OpBytes, PendingRequest, StreamRow},
    device::DeviceRecord,
    ids::{AccountId, GroupId, RequestId, Seq, Signature, Timestamp},
    invite::{Admission, Held, Join, Link, LinkRefused, NotAdmitted, NowListed},
    roster::{Body, Devices},
};
use causeway_store::Tx;
use ed25519_dalek::{Signer as _, SigningKey};

use super::{
    Machine, MachineError, OpError, Received, What,
    work::{ASK_AWAY_MS, Work},
};
use crate::storage::{
    accounts::{self, Ask},
    groups as rows, invites,
    joins::{self, JoinRow, State},
    link_words, own,
};

/// A request that waits for a person.
#[derive(Debug, Clone)]
pub struct JoinView {
    /// Names it.
    pub id: RequestId,
    /// For which group.
    pub group: GroupId,
    /// Who asks.
    pub account: AccountId,
    /// When it came.
    pub at: Timestamp,
}

impl Machine {
    /// The request by which this account asks to be let in, for `POST groups/{id}/join`.
    ///
    /// `records` are the inviting account's devices, as its server gives them.
    ///
    /// # Errors
    /// [`LinkRefused`] inside [`InviteRefused`]; [`InviteRefused::Changed`].
    pub async fn join_request(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        link: &Link,
        records: &[DeviceRecord],
    ) -> Result<JoinRequest, InviteRefused> {
        link.judge(records, now)?;
        let (inviter, known) = (&link.terms.account, self.known(tx.conn()).await?);
        if known.trust(self.me(), inviter, &link.terms.inviter.member_id).is_wrong() {
            return Err(InviteRefused::Changed(inviter.clone()));
        }
        self.asks_for(tx, &link.terms.group).await?;
        let own = own::load(tx.conn(), self.vault()).await.map_err(MachineError::from)?;
        let list = own.ok_or(MachineError::Own("rows"))?.list;
        let record = &self.me().record;
        let key = SigningKey::from_bytes(&link.terms.secret.key_seed());
        let mut join = Join {
            group: link.terms.group,
            ik_pub: link.terms.secret.key(),
            device: self.me().device(),
            curve25519: record.curve25519,
            certificate: record.certificate,
            now,
            account: self.me().account.as_str().to_owned(),
            devices: Devices { version: list.version, ids: list.devices },
            ik_signature: Signature::new([0; 64]),
            device_signature: Signature::new([0; 64]),
        };
        let too_long = |_| MachineError::Own("device lists");
        let by_invite = join.signed_by_invite().map_err(too_long)?;
        join.ik_signature = Signature::new(key.sign(&by_invite).to_bytes());
        join.device_signature = self.sign(&join.signed_by_device().map_err(too_long)?);
        let server = &link.terms.server;
        let server = (server != self.me().account.server()).then(|| server.clone());
        Ok(JoinRequest { request: join.to_bytes().map_err(too_long)?, server })
    }

    /// Requests that a person must judge: a `remove` once named who asks.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn join_requests(&self, tx: &mut Tx) -> Result<Vec<JoinView>, MachineError> {
        let waiting = joins::in_state(tx.conn(), State::Ask).await?.into_iter();
        let view = |j: JoinRow| JoinView { id: j.id, group: j.group, account: j.account, at: j.at };
        Ok(waiting.map(view).collect())
    }

    /// Takes all requests for `group` that `GET groups/{id}/requests` showed, as if their rows had
    /// come: they were made before this account might answer them.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn take_requests(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        requests: &[PendingRequest],
    ) -> Result<Vec<Received>, MachineError> {
        let mut work = Work::new(self, tx, now);
        for PendingRequest { request, .. } in requests {
            match work.note_join(group, request).await? {
                Ok(what) => work.say(Seq(0), group, what),
                Err(reason) => tracing::debug!(%group, reason, "a request that is none"),
            }
        }
        rows::set_fetch_requests(work.conn(), &group, false).await?;
        work.finish().await
    }
}

/// Why a link is not followed.
#[derive(Debug, thiserror::Error)]
pub enum InviteRefused {
    /// The link, or who made it.
    #[error("this link cannot be used: {0}")]
    Link(#[from] LinkRefused),
    /// Who made it is not who that account is known to be.
    #[error("this link is by another identity than the one that {0} is known by")]
    Changed(AccountId),
    /// Ours to log.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl Work<'_> {
    pub(super) async fn join_row(&mut self, row: &StreamRow) -> Result<(), MachineError> {
        let group = row.envelope.group;
        match self.note_join(group, &row.envelope.payload).await? {
            Ok(what) => self.say(row.seq, group, what),
            Err(reason) => self.fail(row, reason),
        }
        Ok(())
    }

    /// Notes a request, and asks for the newest list of who asks.
    async fn note_join(
        &mut self,
        group: GroupId,
        request: &[u8],
    ) -> Result<Result<What, &'static str>, MachineError> {
        let Ok(join) = Join::parse(request) else { return Ok(Err("malformed")) };
        if join.group != group {
            return Ok(Err("wrong_group"));
        }
        let (Ok(id), Ok(account)) = (join.id(), join.account.parse::<AccountId>()) else {
            return Ok(Err("malformed"));
        };
        let row = JoinRow {
            id,
            group,
            ik_pub: join.ik_pub,
            account: account.clone(),
            member: join.device.member_id,
            request: request.to_vec(),
            at: self.now,
        };
        if !joins::insert(self.conn(), &row).await? {
            return Ok(Ok(What::Duplicate));
        }
        let (name, at) = (account.as_str().as_bytes(), self.now);
        accounts::ask(self.conn(), Ask::Account, name, at).await?;
        if self.trust(&account, &row.member).await?.is_wrong() {
            self.say_changed(group, &account, row.member).await?;
        }
        let log = self.log(&group).await?;
        let was_removed = log.is_some_and(|log| log.was_removed(&row.member, &account));
        Ok(Ok(What::JoinAsked { id, account, was_removed }))
    }

    /// Judges the requests that wait, and signs an `add` for the first that may come in, group by
    /// group: the next is judged on the roster that this one makes.
    pub(super) async fn admissions(&mut self) -> Result<Vec<(GroupId, Vec<u8>)>, MachineError> {
        // Whoever is in has used his link, before anybody else may.
        for state in [State::New, State::Ask] {
            for join in joins::in_state(self.conn(), state).await? {
                let log = self.log(&join.group).await?;
                if log.is_some_and(|log| log.head().member(&join.member).is_some()) {
                    link_words::count_use(self.conn(), &join.group, &join.ik_pub, &join.member)
                        .await?;
                    joins::set_state(self.conn(), &join.id, State::Admitted).await?;
                }
            }
        }
        let mut ops: Vec<(GroupId, Vec<u8>)> = Vec::new();
        for join in joins::in_state(self.conn(), State::New).await? {
            if ops.iter().any(|(group, _)| *group == join.group) {
                continue;
            }
            let state = match self.admission(&join).await? {
                Verdict::Wait => continue,
                Verdict::Settled(state) => state,
                Verdict::Add(body) => {
                    let (machine, now) = (self.machine, self.now);
                    match machine.sign_op(self.tx, now, join.group, &body).await {
                        Ok(OpBytes(op)) => {
                            // Told with it, and not after it: who is in has used his link.
                            self.take_use(&join.group, &join.ik_pub, &join.member).await?;
                            ops.push((join.group, op));
                            continue;
                        }
                        Err(OpError::Machine(error)) => return Err(error),
                        Err(error) => {
                            tracing::info!(group = %join.group, %error, "nobody is let in");
                            State::NotAllowed
                        }
                    }
                }
            };
            joins::set_state(self.conn(), &join.id, state).await?;
        }
        Ok(ops)
    }

    async fn admission(&mut self, row: &JoinRow) -> Result<Verdict, MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let Ok(join) = Join::parse(&row.request) else {
            return Ok(Verdict::Settled(State::Refused));
        };
        let Some(log) = self.log(&row.group).await? else { return Ok(Verdict::Wait) };
        if !log.head().may_add(&self.machine.me().record.member_id) {
            return Ok(Verdict::Settled(State::MayNotAdd));
        }
        let Some(held) = invites::held(self.conn(), vault, &row.ik_pub).await? else {
            return Ok(Verdict::Settled(State::NoLink));
        };
        let Ok(link) = Link::parse(&held.link) else {
            return Ok(Verdict::Settled(State::Refused));
        };
        // The list must have been asked for after the request came.
        let name = row.account.as_str().as_bytes();
        if !accounts::was_asked(self.conn(), Ask::Account, name, row.at).await? {
            accounts::ask(self.conn(), Ask::Account, name, row.at).await?;
            return Ok(Verdict::Wait);
        }
        if accounts::was_asked(self.conn(), Ask::Away, name, Timestamp(0)).await? {
            // His server may be back; until it has said who he is he waits.
            let since = now.minus_ms(ASK_AWAY_MS);
            accounts::ask(self.conn(), Ask::Account, name, since).await?;
            return Ok(Verdict::Wait);
        }
        let seen = accounts::list(self.conn(), &row.account, &row.member).await?;
        let newest = accounts::newest_list(self.conn(), &row.account).await?;
        let Some(list) = newest else { return Ok(Verdict::Settled(State::ListDiffers)) };
        if self.trust(&row.account, &list.member_id).await?.is_wrong() {
            return Ok(Verdict::Settled(State::Ask));
        }
        let listed = NowListed { list: &list, highest_seen: seen.map_or(0, |seen| seen.version) };
        // The use that this identity takes stays its own.
        let own = link_words::is_used_by(self.conn(), &row.ik_pub, &row.member).await?;
        let others = held.used.saturating_sub(u32::from(own));
        let record = Held { used: others, revoked: held.revoked };
        Ok(match join.admit(&link, record, listed, &log, now) {
            Ok(Admission::Add(entry)) => Verdict::Add(Body::Add(vec![entry])),
            Ok(Admission::Ask(_)) => Verdict::Settled(State::Ask),
            Err(NotAdmitted::AlreadyMember) => Verdict::Settled(State::Admitted),
            Err(NotAdmitted::Request(_)) => Verdict::Settled(State::Refused),
            Err(NotAdmitted::ListDiffers) => Verdict::Settled(State::ListDiffers),
            Err(
                NotAdmitted::InviterNotMember
                | NotAdmitted::InviterDeviceNotCounting
                | NotAdmitted::InviterMayNotAdd,
            ) => Verdict::Settled(State::Inviter),
        })
    }
}

enum Verdict {
    /// Something is to be fetched first.
    Wait,
    Add(Body),
    /// Nothing more is to be done; how it ended.
    Settled(State),
}
