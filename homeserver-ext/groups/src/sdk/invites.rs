//! Letting in and being let in.

use std::time::Duration;

use causeway_protocol::{
    api::InviteState,
    ids::{Epoch, GroupId, InviteKey, Timestamp},
    invite::Link,
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    CallError, Client, SdkError,
    backoff::insistently,
    deliver::{OTHERS, is_said_of_another},
};

/// How often is asked whether the door was opened.
const KNOCK_EVERY: Duration = Duration::from_millis(300);

impl Client {
    /// Makes a link by which `uses` people may come in until `expires`.
    ///
    /// It is kept first and told to the server then, so that whoever follows it can be let in.
    pub async fn create_invite(
        &self,
        group: GroupId,
        expires: Timestamp,
        uses: u32,
    ) -> Result<Link, SdkError> {
        // Where the group is kept, it is asked for.
        let home = self.home(group).await?;
        let mut tx = self.db.begin().await?;
        let (link, invite) =
            self.machine.create_invite(&mut tx, self.now(), group, &home, expires, uses).await?;
        tx.commit().await?;
        let told = insistently(async || self.http.create_invite(group, &invite).await).await;
        if let Err(error) = told {
            // A link that nobody was given is of no use to anybody.
            let mut tx = self.db.begin().await?;
            self.machine.revoke_invite(&mut tx, self.now(), group, &invite.ik_pub).await?;
            tx.commit().await?;
            return Err(error.into());
        }
        Ok(link)
    }

    /// A group's invites, as the server counts them.
    pub async fn invites(&self, group: GroupId) -> Result<Vec<InviteState>, SdkError> {
        let mut invites = Vec::new();
        let mut from = None;
        loop {
            let page = self.http.invites(group, from).await?;
            invites.extend(page.invites);
            from = page.next;
            if from.is_none() {
                return Ok(invites);
            }
        }
    }

    /// Of these groups those whose requests can be fetched now, and where each is kept.
    pub(super) async fn not_away(
        &self,
        groups: Vec<GroupId>,
    ) -> Result<Vec<(GroupId, String)>, SdkError> {
        let mut near = Vec::new();
        for group in groups {
            let home = self.home(group).await?;
            if !self.untold.waits(group, &home, self.now()) {
                near.push((group, home));
            }
        }
        Ok(near)
    }

    /// Fetches the requests of a group that `home` keeps. Another server that does not answer holds up
    /// nothing: it is asked again later.
    pub(super) async fn fetch_requests_of(
        &self,
        group: GroupId,
        home: &str,
    ) -> Result<(), SdkError> {
        if home == self.me().account.server() {
            return self.fetch_requests(group).await;
        }
        match timeout(OTHERS, self.fetch_requests(group)).await {
            Ok(Err(SdkError::Call(error))) if !is_said_of_another(&error) => Err(error.into()),
            Ok(Err(SdkError::Call(_))) | Err(_) => {
                tracing::debug!(home, "who asks to be let in is fetched later");
                self.untold.is_away(home, self.now());
                Ok(())
            }
            Ok(ended) => ended,
        }
    }

    /// Fetches the requests that wait for this group, and keeps that somebody asks.
    async fn fetch_requests(&self, group: GroupId) -> Result<(), SdkError> {
        let mut requests = Vec::new();
        let mut from = None;
        loop {
            match self.http.requests(group, from).await {
                Ok(page) => {
                    requests.extend(page.requests);
                    from = page.next;
                }
                // May not add any more: then there is nothing to answer either.
                Err(CallError::Refused { status: 403 | 404, .. }) => from = None,
                Err(error) => return Err(error.into()),
            }
            if from.is_none() {
                break;
            }
        }
        let mut tx = self.db.begin().await?;
        let asked = self.machine.take_requests(&mut tx, self.now(), group, &requests).await?;
        self.keep(&mut tx, asked).await?;
        Ok(tx.commit().await?)
    }

    /// Takes an invite back: here first, so that this device lets nobody in by it whatever the
    /// server says; [`Self::chores`] tells other holders. The same again changes nothing.
    pub async fn revoke_invite(&self, group: GroupId, key: InviteKey) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        self.machine.revoke_invite(&mut tx, self.now(), group, &key).await?;
        tx.commit().await?;
        Ok(insistently(async || self.http.revoke_invite(group, key).await).await?)
    }

    /// Asks to be let in by a link; nothing to do for one who is in already.
    ///
    /// # Errors
    /// [`SdkError::Invite`]: the link is not good, or not by whom it says it is by.
    pub async fn ask_to_join(&self, link: &Link) -> Result<(), SdkError> {
        if self.is_in(link.terms.group).await? {
            // It may have been offered.
            self.take_offer(link.terms.group).await?;
            return Ok(());
        }
        let inviter = match self.http.account(&link.terms.account).await {
            Ok(answer) => answer.devices,
            Err(CallError::Refused { status: 404, .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let mut tx = self.db.begin().await?;
        let request = self.machine.join_request(&mut tx, self.now(), link, &inviter).await?;
        tx.commit().await?;
        let group = link.terms.group;
        insistently(async || self.http.join(group, &request).await).await?;
        Ok(())
    }

    /// Waits until this account is in a group that it asked to be let into, and fetches its ops.
    /// Says whether it is, after `patience` at the latest.
    pub async fn wait_to_join(&self, group: GroupId, patience: Duration) -> Result<bool, SdkError> {
        let give_up = Instant::now() + patience;
        loop {
            match self.is_in(group).await {
                Ok(false) => {}
                Err(error) if error.is_transient() => {}
                known => return known,
            }
            let again = Instant::now() + KNOCK_EVERY;
            if again > give_up {
                return Ok(false);
            }
            sleep_until(again).await;
        }
    }

    /// Whether this account is in the group, by the ops as the server has them now.
    async fn is_in(&self, group: GroupId) -> Result<bool, SdkError> {
        let from = match self.roster(group).await {
            Ok(roster) => roster.epoch().next().unwrap_or_default(),
            Err(SdkError::UnknownGroup(_)) => Epoch(0),
            Err(error) => return Err(error),
        };
        self.fetch_ops(group, from).await?;
        let me = self.me().record.member_id;
        match self.roster(group).await {
            Ok(roster) => Ok(roster.member(&me).is_some()),
            Err(SdkError::UnknownGroup(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
