//! Links: made, given on to other admins, followed, and judged by whoever holds them.

use causeway_protocol::{
    api::{JoinRequest, NewInvite, StreamRow},
    device::DeviceOf,
    envelope::Kind,
    ids::{GroupId, InviteKey, RequestId, Signature, Timestamp},
    invite::{
        Admission, Held, Join, Link, LinkRefused, LinkSecret, NotAdmitted, NowListed, Terms,
        invite_name,
    },
    olm_plaintext::{OlmPlaintext, Route},
    roster::{Body, Devices, Role, Roster},
};
use causeway_store::Tx;
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::{Machine, MachineError, Needs, OpError, What, needs::Reach, work::Work};
use crate::{
    entropy,
    storage::{
        accounts::{self, Ask},
        invites::{self, HeldInvite},
        own,
    },
};

/// Requests not judged yet.
pub(super) const NEW: &str = "new";
/// Requests that a person must judge.
const ASK: &str = "ask";
const ADMITTED: &str = "admitted";

/// A link that this device can admit by.
#[derive(Debug, Clone)]
pub struct InviteView {
    /// Public half of its key.
    pub ik_pub: InviteKey,
    /// The link.
    pub link: Link,
    /// Whether this device made it, or was given it by another admin.
    pub made_here: bool,
    /// How many it has let in.
    pub used: u32,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// A request that waits for a person.
#[derive(Debug, Clone)]
pub struct JoinView {
    /// Names it.
    pub id: RequestId,
    /// For which group.
    pub group: GroupId,
    /// Who asks.
    pub account: causeway_protocol::ids::AccountId,
    /// When it came.
    pub at: Timestamp,
}

impl Machine {
    /// Makes a link for `group` and keeps it; [`Self::chores`] gives it to the devices of other admins,
    /// so that they can admit too. The server is to be told what [`NewInvite`] says before the link is of use.
    ///
    /// # Errors
    /// [`OpError::UnknownGroup`].
    pub async fn create_invite(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        server: &str,
        expires: Timestamp,
        uses: u32,
    ) -> Result<(Link, NewInvite), OpError> {
        let head = self.roster(tx, group).await?.ok_or(OpError::UnknownGroup(group))?;
        let me = self.me();
        let secret = LinkSecret::new(Zeroizing::new(entropy::bytes().map_err(MachineError::from)?));
        let terms = Terms {
            server: server.to_owned(),
            group,
            name: invite_name(&head.policy().name),
            account: me.account.clone(),
            inviter: me.device(),
            expires,
            secret,
            uses,
        };
        let signature = self.sign(&terms.signed_bytes());
        let link = Link { terms, signature };
        let ik_pub = link.terms.secret.key();
        let mine = held(&link, true);
        invites::insert(tx.conn(), self.vault(), &mine).await.map_err(MachineError::from)?;
        let mut work = Work::new(self, tx, now);
        work.owe_invite(group, ik_pub).await?;
        work.finish().await?;
        Ok((link, NewInvite { ik_pub, expires_ms: expires, uses }))
    }

    /// Nobody is let in by this link any more, whatever the server says.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn revoke_invite(&self, tx: &mut Tx, ik_pub: &InviteKey) -> Result<(), MachineError> {
        Ok(invites::revoke(tx.conn(), ik_pub).await?)
    }

    /// Links for `group` that this device holds.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn invites(
        &self,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<Vec<InviteView>, MachineError> {
        let mut views = Vec::new();
        for ik_pub in invites::of_group(tx.conn(), &group).await? {
            let held = invites::held(tx.conn(), self.vault(), &ik_pub).await?;
            let view = held.and_then(|held| {
                let HeldInvite { link, made_here, used, revoked, .. } = held;
                let link = Link::parse(&link).ok()?;
                Some(InviteView { ik_pub, link, made_here, used, revoked })
            });
            views.extend(view);
        }
        Ok(views)
    }

    /// The request by which this account asks to be let in, for `POST groups/{id}/join`.
    ///
    /// `records` are the inviting account's devices, as its server gives them.
    ///
    /// # Errors
    /// [`LinkRefused`] inside [`InviteRefused`].
    pub async fn join_request(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        link: &Link,
        records: &[causeway_protocol::device::DeviceRecord],
    ) -> Result<JoinRequest, InviteRefused> {
        link.judge(records, now)?;
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
        Ok(JoinRequest { request: join.to_bytes().map_err(too_long)? })
    }

    /// Requests that a person must judge: a `remove` once named who asks.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn join_requests(&self, tx: &mut Tx) -> Result<Vec<JoinView>, MachineError> {
        let waiting = invites::joins(tx.conn(), ASK).await?.into_iter();
        let view =
            |j: invites::Join| JoinView { id: j.id, group: j.group, account: j.account, at: j.at };
        Ok(waiting.map(view).collect())
    }

    /// Takes a request that a page of `GET groups/{id}/requests` showed, as if its row had come.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn take_request(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        request: &[u8],
    ) -> Result<(), MachineError> {
        let mut work = Work::new(self, tx, now);
        work.note_join(request).await?;
        work.finish().await.map(drop)
    }
}

/// Why a link is not followed.
#[derive(Debug, thiserror::Error)]
pub enum InviteRefused {
    /// The link, or who made it.
    #[error("this link cannot be used: {0}")]
    Link(#[from] LinkRefused),
    /// Ours to log.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

fn is_admin(roster: &Roster, device: &DeviceOf) -> bool {
    roster.counts(device).is_some_and(|member| member.role == Role::Admin)
}

fn held(link: &Link, made_here: bool) -> HeldInvite {
    let terms = &link.terms;
    HeldInvite {
        ik_pub: terms.secret.key(),
        group: terms.group,
        link: link.to_text().as_str().to_owned(),
        made_here,
        uses: terms.uses,
        expires: terms.expires,
        used: 0,
        revoked: false,
    }
}

impl Work<'_> {
    /// Notes that the devices of other admins are to be given a link; the bridge's never are.
    async fn owe_invite(&mut self, group: GroupId, ik_pub: InviteKey) -> Result<(), MachineError> {
        let Some(log) = self.log(&group).await? else { return Ok(()) };
        let me = self.machine.me().device();
        for device in log.head().devices().filter(|device| *device != me) {
            if is_admin(log.head(), &device) {
                invites::owe(self.conn(), &ik_pub, &device.device_id).await?;
            }
        }
        Ok(())
    }

    /// Gives links to whom they are owed, as far as there are sessions.
    pub(super) async fn give_invites(&mut self, needs: &mut Needs) -> Result<(), MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let me = self.machine.me().record.device_id;
        for (ik_pub, device) in invites::owed(self.conn()).await? {
            let held = invites::held(self.conn(), vault, &ik_pub).await?;
            let held = held.filter(|held| !held.revoked && held.expires >= now);
            let log = match &held {
                Some(held) => self.log(&held.group).await?,
                None => None,
            };
            let admin = log.as_ref().and_then(|log| {
                let mut devices = log.head().devices();
                devices.find(|d| d.device_id == device && is_admin(log.head(), d))
            });
            let (Some(held), Some(log), Some(admin)) = (held, log, admin) else {
                invites::given(self.conn(), &ik_pub, &device).await?;
                continue;
            };
            let Reach::Session(known) = self.reach(&log, &admin).await? else {
                self.need(&log, &admin, needs).await?;
                continue;
            };
            let route = Route { group: held.group, from: me, to: device };
            if let Ok(bytes) = OlmPlaintext::Invite(route, held.link).to_bytes()
                && self.send_direct(held.group, &known, Kind::Direct, &bytes).await?
            {
                invites::given(self.conn(), &ik_pub, &device).await?;
            }
        }
        Ok(())
    }

    /// Keeps a link that another admin's device gave.
    pub(super) async fn keep_invite(
        &mut self,
        group: GroupId,
        from: &DeviceOf,
        text: &str,
    ) -> Result<(), MachineError> {
        let vault = self.vault();
        let Some(log) = self.log(&group).await? else { return Ok(()) };
        let link = Link::parse(text).ok();
        let link = link.filter(|l| is_admin(log.head(), from) && l.terms.group == group);
        if let Some(link) = link {
            invites::insert(self.conn(), vault, &held(&link, false)).await?;
        }
        Ok(())
    }

    pub(super) async fn join_row(&mut self, row: &StreamRow) -> Result<(), MachineError> {
        match self.note_join(&row.envelope.payload).await? {
            Some((id, account)) => {
                self.say(row.seq, row.envelope.group, What::JoinAsked { id, account });
            }
            None => self.fail(row, "malformed"),
        }
        Ok(())
    }

    /// Notes a request, and asks for the newest list of who asks.
    async fn note_join(
        &mut self,
        request: &[u8],
    ) -> Result<Option<(RequestId, causeway_protocol::ids::AccountId)>, MachineError> {
        let Ok(join) = Join::parse(request) else { return Ok(None) };
        let (Ok(id), Ok(account)) = (join.id(), join.account.parse()) else { return Ok(None) };
        let account: causeway_protocol::ids::AccountId = account;
        let row = invites::Join {
            id,
            group: join.group,
            ik_pub: join.ik_pub,
            account: account.clone(),
            member: join.device.member_id,
            request: request.to_vec(),
            state: NEW.to_owned(),
            at: self.now,
        };
        if invites::insert_join(self.conn(), &row).await? {
            let (name, at) = (account.as_str().as_bytes(), self.now);
            accounts::ask(self.conn(), Ask::Account, name, at).await?;
        }
        Ok(Some((id, account)))
    }

    /// Judges the requests that wait, and signs an `add` for the first that may come in, group by
    /// group: the next is judged on the roster that this one makes.
    pub(super) async fn admissions(&mut self) -> Result<Vec<(GroupId, Vec<u8>)>, MachineError> {
        // Whoever is in has used his link, before anybody else may.
        for state in [NEW, ASK] {
            for join in invites::joins(self.conn(), state).await? {
                let log = self.log(&join.group).await?;
                if log.is_some_and(|log| log.head().member(&join.member).is_some()) {
                    invites::count_use(self.conn(), &join.ik_pub).await?;
                    invites::set_join_state(self.conn(), &join.id, ADMITTED).await?;
                }
            }
        }
        let mut ops: Vec<(GroupId, Vec<u8>)> = Vec::new();
        for join in invites::joins(self.conn(), NEW).await? {
            if ops.iter().any(|(group, _)| *group == join.group) {
                continue;
            }
            let state = match self.admission(&join).await? {
                Verdict::Wait => continue,
                Verdict::Settled(state) => state,
                Verdict::Add(body) => {
                    let (machine, now) = (self.machine, self.now);
                    match machine.sign_op(self.tx, now, join.group, &body).await {
                        Ok(op) => {
                            ops.push((join.group, op.0));
                            continue;
                        }
                        Err(OpError::Machine(error)) => return Err(error),
                        Err(error) => {
                            tracing::info!(group = %join.group, %error, "nobody is let in");
                            "not_allowed"
                        }
                    }
                }
            };
            invites::set_join_state(self.conn(), &join.id, state).await?;
        }
        Ok(ops)
    }

    async fn admission(&mut self, row: &invites::Join) -> Result<Verdict, MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let Ok(join) = Join::parse(&row.request) else {
            return Ok(Verdict::Settled("malformed"));
        };
        let held = invites::held(self.conn(), vault, &row.ik_pub).await?;
        let Some(held) = held else { return Ok(Verdict::Settled("no_link")) };
        let Ok(link) = Link::parse(&held.link) else { return Ok(Verdict::Settled("malformed")) };
        let Some(log) = self.log(&row.group).await? else { return Ok(Verdict::Wait) };
        let me = self.machine.me().record.member_id;
        if !log.head().may_add(&me) {
            return Ok(Verdict::Settled("may_not_add"));
        }
        // The list must have been asked for after the request came.
        let name = row.account.as_str().as_bytes();
        if !accounts::was_asked(self.conn(), Ask::Account, name, row.at).await? {
            accounts::ask(self.conn(), Ask::Account, name, row.at).await?;
            return Ok(Verdict::Wait);
        }
        let seen = accounts::list(self.conn(), &row.account, &row.member).await?;
        let newest = accounts::newest_list(self.conn(), &row.account).await?;
        let Some(list) = newest else { return Ok(Verdict::Settled("list_differs")) };
        let listed = NowListed { list: &list, highest_seen: seen.map_or(0, |seen| seen.version) };
        let uses = Held { used: held.used, revoked: held.revoked };
        Ok(match join.admit(&link, uses, listed, &log, now) {
            Ok(Admission::Add(entry)) => Verdict::Add(Body::Add(vec![entry])),
            Ok(Admission::Ask(_)) => Verdict::Settled(ASK),
            Err(NotAdmitted::AlreadyMember) => Verdict::Settled(ADMITTED),
            Err(NotAdmitted::Request(_)) => Verdict::Settled("refused"),
            Err(NotAdmitted::ListDiffers) => Verdict::Settled("list_differs"),
            Err(
                NotAdmitted::InviterNotMember
                | NotAdmitted::InviterDeviceNotCounting
                | NotAdmitted::InviterMayNotAdd,
            ) => Verdict::Settled("inviter"),
        })
    }
}

enum Verdict {
    /// Something is to be fetched first.
    Wait,
    Add(Body),
    /// Nothing more is to be done; how it ended.
    Settled(&'static str),
}
