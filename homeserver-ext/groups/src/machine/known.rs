//! Who is who, and who of a roster may be given something: judged once for each change.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, MutexGuard, PoisonError},
};

use causeway_protocol::{
    ids::{AccountId, GroupId, MemberId, RosterHash},
    roster::Roster,
};
use causeway_store::Conn;

use crate::{
    machine::{IdentityShown, MAX_LOGS, Machine, MachineError, Me, Trust},
    storage::identities::{self, Met, Standing},
};

/// Who is who, as of one revision.
#[derive(Debug, Clone, Default)]
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

    fn pin(&mut self, account: &AccountId, member: MemberId) {
        let pair = (account.clone(), member);
        self.seen.remove(&pair);
        self.former.remove(&pair);
        self.owner.insert(member, pair.0);
        self.of.insert(account.clone(), (member, false));
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

/// What was judged before, and is true for as long as the revision of who is who is.
#[derive(Default)]
pub(super) struct Cache {
    met: Met,
    known: Option<Arc<Known>>,
    /// By the newest roster of each group.
    members: HashMap<GroupId, (RosterHash, Arc<Members>)>,
}

impl Cache {
    /// What is true at this revision.
    fn at(&mut self, met: [u8; 8]) -> &mut Self {
        if self.met != Some(met) {
            *self = Self { met: Some(met), ..Self::default() };
        }
        self
    }
}

impl Machine {
    pub(super) async fn known(&self, conn: &mut Conn) -> Result<Arc<Known>, MachineError> {
        let met = identities::revision(conn).await?;
        self.known_at(conn, met).await
    }

    /// As [`Machine::known`], where the revision is known.
    pub(super) async fn known_at(
        &self,
        conn: &mut Conn,
        met: Met,
    ) -> Result<Arc<Known>, MachineError> {
        // Before anybody was met, other processes may have begun.
        if let Some(known) = met.and_then(|met| self.cache().at(met).known.clone()) {
            return Ok(known);
        }
        let known = Arc::new(Known::from_rows(identities::all(conn).await?));
        if let Some(met) = met {
            self.cache().at(met).known = Some(Arc::clone(&known));
        }
        Ok(known)
    }

    /// Goes on from who was who to revision `met`, at which `account` stands for `member` besides: a large
    /// group is met one by one, and for each of them all would be read again.
    pub(super) fn known_besides(
        &self,
        met: Met,
        mut known: Arc<Known>,
        (account, member): (&AccountId, MemberId),
    ) {
        let Some(met) = met else { return };
        let mut cache = self.cache();
        // Which lets go of `known` there, so that it is not copied.
        *cache = Cache { met: Some(met), ..Cache::default() };
        Arc::make_mut(&mut known).pin(account, member);
        cache.known = Some(known);
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Values that are whole whenever the lock is free.
        self.0.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who of a roster may be given something, by who is who at this revision.
    pub(super) fn members(&self, met: Met, known: &Known, roster: &Roster) -> Arc<Members> {
        let judge = || Arc::new(Members::of(roster, known, self.me()));
        let Some(met) = met else { return judge() };
        let (group, hash) = (roster.group(), roster.hash());
        let mut cache = self.cache();
        let judged = &mut cache.at(met).members;
        if let Some((_, members)) = judged.get(&group).filter(|(at, _)| *at == hash) {
            return Arc::clone(members);
        }
        let members = judge();
        if judged.len() >= MAX_LOGS {
            judged.clear();
        }
        judged.insert(group, (hash, Arc::clone(&members)));
        members
    }
}
