//! What is to be done for others, as often as the caller finds time.

use causeway_protocol::{
    content::{Content, RosterSync},
    envelope::Kind,
    ids::{AccountId, ClientId, DeviceId, Timestamp},
    olm_plaintext::{OlmPlaintext, Route},
};
use causeway_store::Tx;

use super::{
    Batch, Chores, Machine, MachineError, Outgoing, Received, SealError, reach::Reach, schemes,
    work::Work,
};
use crate::{
    entropy,
    storage::{
        KEPT_MS, Whole as _,
        accounts::{self, Ask},
        chores, groups as rows, holds, invites, joins, link_words, offers, ops, owed, parked,
        shares,
    },
};

const HOUR_MS: u64 = 3_600_000;

impl Machine {
    /// What is to be done now: admissions, acknowledgements, key requests and answers, catching up,
    /// roster sync, new one-time keys. Commit before anything of it is sent; what is not reported
    /// as done comes again.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn chores(&self, tx: &mut Tx, now: Timestamp) -> Result<Chores, MachineError> {
        let mut work = Work::new(self, tx, now);
        work.meet_all().await?;
        let mut chores = Chores {
            fetch_ops: rows::to_fetch(work.conn()).await?,
            fetch_requests: rows::requests_to_fetch(work.conn()).await?,
            keys: self.refill(work.tx, now).await?,
            ..Chores::default()
        };
        chores.ops = work.relist().await?;
        if chores.ops.is_empty() {
            chores.ops = work.admissions().await?;
        }
        schemes::acknowledge(&mut work).await?;
        work.request_keys(&mut chores).await?;
        schemes::pay(&mut work, &mut chores.needs).await?;
        work.give_invites(&mut chores.needs).await?;
        work.tell_words(&mut chores.needs).await?;
        work.give_shares(&mut chores.needs).await?;
        work.asked(&mut chores).await?;
        work.roster_syncs(&mut chores).await?;
        work.direct_batches(&mut chores).await?;
        work.finish().await?;
        Ok(chores)
    }

    /// Lets go of what is too old, in a transaction of its own; once an hour is often enough. Says
    /// which messages waited in vain.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn expire(&self, tx: &mut Tx, now: Timestamp) -> Result<Vec<Received>, MachineError> {
        let mut work = Work::new(self, tx, now);
        let (vault, kept) = (work.vault(), now.minus_ms(KEPT_MS));
        for row in holds::expire(work.conn(), vault, now).await? {
            if row.envelope.kind.is_read() && !schemes::was_shown(&mut work, &row).await? {
                work.fail(&row, "waited_in_vain");
            }
        }
        let received = work.finish().await?;
        self.forget_former_fallback(tx, now).await?;
        let conn = tx.conn();
        holds::forget_seen(conn, kept).await?;
        ops::forget_rosters(conn, kept).await?;
        offers::expire(conn, now).await?;
        parked::expire(conn, kept).await?;
        invites::expire(conn, kept).await?;
        link_words::expire(conn, now).await?;
        owed::expire(conn, kept).await?;
        shares::expire(conn, now).await?;
        joins::expire(conn, kept).await?;
        schemes::expire(conn, now).await?;
        chores::expire(conn, now.minus_ms(HOUR_MS), kept, now).await?;
        self.logs().clear();
        Ok(received)
    }
}

impl Work<'_> {
    async fn request_keys(&mut self, chores: &mut Chores) -> Result<(), MachineError> {
        let me = self.machine.me().record.device_id;
        let now = self.now;
        for (request, tries) in chores::requests_due(self.conn(), now).await? {
            let group = request.group;
            let Some(log) = self.log(&group).await? else { continue };
            let asked = schemes::asked_of(self, &log, &request, tries).await?;
            let Some(counts) = asked else {
                chores::requested(self.conn(), &request, tries, now).await?;
                continue;
            };
            match self.reach(&log, &counts).await? {
                Reach::Session(known) => {
                    let route = Route { group, from: me, to: counts.device_id };
                    let said = OlmPlaintext::KeyRequest(route, request.missing);
                    if let Ok(bytes) = said.to_bytes() {
                        let kind = Kind::KeyRequest;
                        let _sent = self.send_direct(group, &known, kind, &bytes).await?;
                    }
                    chores::requested(self.conn(), &request, tries, now).await?;
                }
                Reach::Unknown(account) => push_once(&mut chores.needs.accounts, account),
                Reach::NoSession(device) => push_once(&mut chores.needs.claims, device),
                Reach::Never => {}
            }
        }
        Ok(())
    }

    /// What was noted as to be asked of the server.
    async fn asked(&mut self, chores: &mut Chores) -> Result<(), MachineError> {
        for name in accounts::to_ask(self.conn(), Ask::Account).await? {
            let name = std::str::from_utf8(&name).ok().whole("asked")?;
            let account: AccountId = name.parse().whole("asked")?;
            push_once(&mut chores.needs.accounts, account);
        }
        for what in [Ask::Claim, Ask::Heal] {
            for name in accounts::to_ask(self.conn(), what).await? {
                let device = DeviceId::from_slice(&name).whole("asked")?;
                push_once(&mut chores.needs.claims, device);
            }
        }
        Ok(())
    }

    /// Says hourly, in groups where this device speaks, which roster it has.
    async fn roster_syncs(&mut self, chores: &mut Chores) -> Result<(), MachineError> {
        let now = self.now;
        for group in rows::sync_due(self.conn(), now.minus_ms(HOUR_MS)).await? {
            let Some(log) = self.log(&group).await? else { continue };
            let head = log.head();
            let sync = RosterSync { epoch: head.epoch(), roster_hash: head.hash() };
            let item = Outgoing {
                client_id: ClientId::new(entropy::bytes()?),
                ttl_s: 0,
                content: Content::RosterSync(sync),
            };
            match self.seal(group, &[item]).await {
                Ok(batch) => {
                    rows::set_synced(self.conn(), &group, now).await?;
                    chores.batches.push(batch);
                }
                Err(SealError::Unprepared(needs)) => {
                    for account in needs.accounts {
                        push_once(&mut chores.needs.accounts, account);
                    }
                    for device in needs.claims {
                        push_once(&mut chores.needs.claims, device);
                    }
                }
                Err(SealError::Machine(error)) => return Err(error),
                // Nothing can be said there now.
                Err(_) => {}
            }
        }
        Ok(())
    }

    async fn direct_batches(&mut self, chores: &mut Chores) -> Result<(), MachineError> {
        for group in chores::groups_with_finished(self.conn()).await? {
            if chores.batches.iter().any(|batch| batch.group == group) {
                continue;
            }
            let Some(log) = self.log(&group).await? else { continue };
            let head = log.head();
            if head.closed() || head.counts(&self.machine.me().device()).is_none() {
                // Nothing is taken there any more.
                chores::drop_finished(self.conn(), &group).await?;
                continue;
            }
            let submissions = self.finished(group, head).await?;
            if !submissions.is_empty() {
                chores.batches.push(Batch::new(head, submissions, []));
            }
        }
        Ok(())
    }
}

fn push_once<T: PartialEq>(to: &mut Vec<T>, item: T) {
    if !to.contains(&item) {
        to.push(item);
    }
}
