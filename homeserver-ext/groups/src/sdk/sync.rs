//! Keeping rosters level with the server, in both directions: what it has more is fetched, what it
//! has lost is given back.

use std::cmp::Ordering;

use causeway_protocol::{
    api::GroupHead,
    ids::{Epoch, GroupId},
};

use super::{CallError, Client, SdkError};

impl Client {
    /// Levels all groups with the server.
    pub async fn sync(&self) -> Result<(), SdkError> {
        let mut heads = Vec::new();
        let mut from = None;
        loop {
            let page = self.http.groups(from).await?;
            heads.extend(page.groups);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        for head in &heads {
            self.level(head).await?;
        }
        let me = self.me().record.member_id;
        for mine in self.rosters().await? {
            let is_live = mine.member(&me).is_some() && !mine.closed();
            if is_live && !heads.iter().any(|head| head.group == mine.group()) {
                // Lost by the server, or a removal that was not seen here yet.
                self.sync_group(mine.group()).await?;
            }
        }
        Ok(())
    }

    /// Levels one group with the server.
    pub async fn sync_group(&self, group: GroupId) -> Result<(), SdkError> {
        match self.http.group(group).await {
            Ok(head) => self.level(&head).await,
            Err(CallError::Refused { status: 404, .. }) => match self.give_back(group).await {
                // It is there, and this device was never in it: the account was taken out before.
                Err(SdkError::Call(CallError::Refused { status: 403 | 404, .. })) => {
                    self.untold.is_outside(group, self.now());
                    Ok(())
                }
                ended => ended,
            },
            // No longer a member: the op that says so waits in the mailbox.
            Err(CallError::Refused { status: 403, .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn level(&self, theirs: &GroupHead) -> Result<(), SdkError> {
        let group = theirs.group;
        let mine = match self.roster(group).await {
            Ok(mine) => mine,
            Err(SdkError::UnknownGroup(_)) => {
                let mut tx = self.db.begin().await?;
                if self.machine.is_forgotten(&mut tx, group, theirs.epoch).await? {
                    return Ok(());
                }
                drop(tx);
                return self.fetch_ops(group, Epoch(0)).await;
            }
            Err(error) => return Err(error),
        };
        match mine.epoch().cmp(&theirs.epoch) {
            // The op after the head shows whether the server's history goes on from here.
            Ordering::Less => self.fetch_ops(group, mine.epoch().next().unwrap_or_default()).await,
            Ordering::Greater => self.give_back(group).await,
            // One epoch, two rosters: the machine is shown the ops, and says that it is a fork.
            Ordering::Equal if mine.hash() != theirs.roster_hash => {
                self.fetch_ops(group, Epoch(0)).await
            }
            Ordering::Equal => Ok(()),
        }
    }

    /// Fetches the ops of `group` from epoch `from` on, page by page, and installs them.
    pub async fn fetch_ops(&self, group: GroupId, from: Epoch) -> Result<(), SdkError> {
        let mut from = Some(from);
        while let Some(epoch) = from {
            let page = match self.http.ops(group, epoch).await {
                Ok(page) => page,
                // Not in it any more, or not yet: there is nothing to fetch, and it is not asked again.
                Err(CallError::Refused { status: 403 | 404, .. }) => {
                    return self.take_in(group, &[]).await;
                }
                Err(error) => return Err(error.into()),
            };
            self.take_in(group, &page.ops).await?;
            from = page.next;
        }
        Ok(())
    }

    /// Gives a server that was restored from a backup the ops that it has lost, in order; fetches
    /// those that took this account out, up to which it may read.
    ///
    /// If it has gone on without them, its own come back with the 409 and make the fork visible.
    pub(super) async fn give_back(&self, group: GroupId) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        let mine = self.machine.ops(&mut tx, group, Epoch(0)).await?;
        drop(tx);
        let Some(first) = mine.first() else { return Ok(()) };
        // Known to the server or not, the same `create` is answered with where the group stands.
        let theirs = self.http.create_group(first).await?;
        let lost = usize::try_from(theirs.epoch.0).map_or(usize::MAX, |epoch| epoch + 1);
        if lost > mine.len() {
            let next = u32::try_from(mine.len()).unwrap_or(u32::MAX);
            return self.fetch_ops(group, Epoch(next)).await;
        }
        for op in mine.iter().skip(lost) {
            match self.http.post_op(group, op).await {
                Ok(_) => {}
                Err(CallError::Stale { ops, .. }) => return self.take_in(group, &ops).await,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
