//! Who is who, and who of a roster may be given something: judged once for each change.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, MutexGuard, PoisonError},
};

use causeway_protocol::{
    ids::{AccountId, GroupId, MemberId},
    roster::{Log, Roster},
};
use causeway_store::Conn;

use crate::{
    machine::{IdentityShown, MAX_LOGS, Machine, MachineError, Me, Trust},
    storage::{
        groups as rows,
        identities::{self, Standing},
    },
};

/// Who is who, as of one revision.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Which identity stands for an account, and whether a person has verified that.
    pub(super) of: HashMap<AccountId, (MemberId, bool)>,
    owner: HashMap<MemberId, AccountId>,
    former: HashSet<(AccountId, MemberId)>,
    pub(super) seen: HashSet<(AccountId, MemberId)>,
}

impl Known {
    fn from_rows(rows: Vec<identities::Identity>) -> Self {
        let mut known = Self::default();
        for identities::Identity { account, member, standing, .. } in rows {
            match standing {
                Standing::Pinned | Standing::Verified => {
                    known.owner.insert(member, account.clone());
                    known.of.insert(account, (member, standing == Standing::Verified));
                }
                Standing::Former => _ = known.former.insert((account, member)),
                Standing::Seen => _ = known.seen.insert((account, member)),
            }
        }
        known
    }

    /// Who `account` over `member` is.
    pub(super) fn trust(&self, me: &Me, account: &AccountId, member: &MemberId) -> Trust {
        match (*account == me.account, *member == me.record.member_id) {
            (true, true) => return Trust::Me,
            (true, false) => return Trust::Changed,
            (false, true) => return Trust::Borrowed,
            (false, false) => {}
        }
        match self.of.get(account) {
            Some((pinned, true)) if pinned == member => Trust::Verified,
            Some((pinned, false)) if pinned == member => Trust::Pinned,
            _ if self.former.contains(&(account.clone(), *member)) => Trust::Former,
            _ if self.owner.contains_key(member) => Trust::Borrowed,
            Some(_) => Trust::Changed,
            None => Trust::Unmet,
        }
    }

    pub(super) fn shown(
        &self,
        me: &Me,
        account: &AccountId,
        member: MemberId,
        by_list: bool,
    ) -> IdentityShown {
        let mine = (*account == me.account).then_some((me.record.member_id, false));
        let known = mine.or_else(|| self.of.get(account).copied());
        let is_mine = member == me.record.member_id;
        let owner = if is_mine { Some(&me.account) } else { self.owner.get(&member) };
        IdentityShown {
            account: account.clone(),
            member_id: member,
            known: known.map(|(known, _)| known),
            was_verified: known.is_some_and(|(_, verified)| verified),
            owner: owner.filter(|owner| *owner != account).cloned(),
            by_list,
        }
    }
}

/// Who of one roster may be given something.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Those who may not.
    pub(super) untrusted: HashSet<MemberId>,
    /// Those of them that a person has to decide on.
    pub(super) undecided: Vec<AccountId>,
    /// Those of them who were not met yet.
    pub(super) unmet: Vec<AccountId>,
}

impl Members {
    fn of(roster: &Roster, known: &Known, me: &Me) -> Self {
        let mut members = Self::default();
        for (id, member) in roster.members() {
            let trust = known.trust(me, &member.account, id);
            if trust.is_undecided() {
                members.undecided.push(member.account.clone());
            } else if trust == Trust::Unmet {
                members.unmet.push(member.account.clone());
            }
            if !trust.is_trusted() {
                members.untrusted.insert(*id);
            }
        }
        members
    }
}

/// By what it was judged: the revisions of the identities and of the group's log.
type Judged = (Option<[u8; 8]>, [u8; 8]);

/// What was judged before, and is true for as long as the revisions are.
#[derive(Default)]
pub(super) struct Cache {
    known: Option<(Option<[u8; 8]>, Arc<Known>)>,
    members: HashMap<GroupId, (Judged, Arc<Members>)>,
}

impl Machine {
    pub(super) async fn known(&self, conn: &mut Conn) -> Result<Arc<Known>, MachineError> {
        let revision = identities::revision(conn).await?;
        let cached = self.cache().known.clone().filter(|(at, _)| *at == revision);
        if let Some((_, known)) = cached {
            return Ok(known);
        }
        let known = Arc::new(Known::from_rows(identities::all(conn).await?));
        // Before anybody was met, other processes may have begun.
        if revision.is_some() {
            self.cache().known = Some((revision, Arc::clone(&known)));
        }
        Ok(known)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Values that are whole whenever the lock is free.
        self.0.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who of the newest roster may be given something.
    pub(super) async fn members(
        &self,
        conn: &mut Conn,
        log: &Log,
    ) -> Result<Arc<Members>, MachineError> {
        let group = log.head().group();
        let revision = identities::revision(conn).await?;
        let row = rows::group(conn, &group).await?;
        let judged = row.filter(|_| revision.is_some()).map(|row| (revision, row.revision));
        let cached = self.cache().members.get(&group).cloned();
        if let Some((_, members)) = cached.filter(|(at, _)| Some(*at) == judged) {
            return Ok(members);
        }
        let known = self.known(conn).await?;
        let members = Arc::new(Members::of(log.head(), &known, self.me()));
        if let Some(judged) = judged {
            let mut cache = self.cache();
            if cache.members.len() >= MAX_LOGS {
                cache.members.clear();
            }
            cache.members.insert(group, (judged, Arc::clone(&members)));
        }
        Ok(members)
    }
}
