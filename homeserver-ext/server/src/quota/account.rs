//! What one account may add to what is kept for good, whichever of its devices asks.

use causeway_protocol::ids::{AccountId, Timestamp};

use super::{Buckets, Quota};

/// What an account may add. What is there already is answered again, and costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountQuotas {
    /// Ops that are put to a group's newest roster, taken or not.
    pub ops: Option<Quota>,
    /// KiB of these ops and of the `create` of new groups, each begun one counted.
    pub op_kib: Option<Quota>,
    /// New groups.
    pub groups: Option<Quota>,
    /// One-time and fallback keys that are uploaded.
    pub keys: Option<Quota>,
    /// Devices of whom a key is claimed.
    pub claims: Option<Quota>,
    /// New device lists.
    pub lists: Option<Quota>,
}

impl Default for AccountQuotas {
    fn default() -> Self {
        Self {
            ops: Some(Quota { per_minute: 120, burst: 1_000 }),
            op_kib: Some(Quota { per_minute: 512, burst: 8_192 }),
            groups: Some(Quota { per_minute: 1, burst: 300 }),
            keys: Some(Quota { per_minute: 120, burst: 4_000 }),
            claims: Some(Quota { per_minute: 2_000, burst: 20_000 }),
            lists: Some(Quota { per_minute: 1, burst: 60 }),
        }
    }
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    Ops,
    OpKib,
    Groups,
    Keys,
    Claims,
    Lists,
}

impl Limit {
    /// Its name in the configuration of `causeway`.
    const fn name(self) -> &'static str {
        match self {
            Self::Ops => "native.ops",
            Self::OpKib => "native.op_kib",
            Self::Groups => "native.new_groups",
            Self::Keys => "native.key_uploads",
            Self::Claims => "native.claims",
            Self::Lists => "native.device_lists",
        }
    }
}

/// An account has used up what it may do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this account has used up what the server allows it (`{}`)", .limit.name())]
pub(crate) struct UsedUp {
    limit: Limit,
    /// Milliseconds after which there is enough.
    pub(crate) again_ms: u64,
}

/// What each account has left.
#[derive(Debug)]
pub(crate) struct Shares {
    quotas: AccountQuotas,
    buckets: Buckets<(Limit, AccountId)>,
}

impl Shares {
    pub(crate) fn new(quotas: AccountQuotas) -> Self {
        Self { quotas, buckets: Buckets::default() }
    }

    /// Takes an op of so many bytes.
    pub(crate) fn op(&self, now: Timestamp, who: &AccountId, bytes: usize) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Ops, 1)?;
        self.take(now, who, Limit::OpKib, bytes.div_ceil(1_024))
    }

    /// Takes a new group, whose `create` has so many bytes.
    pub(crate) fn group(
        &self,
        now: Timestamp,
        who: &AccountId,
        bytes: usize,
    ) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Groups, 1)?;
        self.take(now, who, Limit::OpKib, bytes.div_ceil(1_024))
    }

    /// Takes so many keys.
    pub(crate) fn keys(&self, now: Timestamp, who: &AccountId, count: usize) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Keys, count)
    }

    /// Takes claims of so many devices.
    pub(crate) fn claims(
        &self,
        now: Timestamp,
        who: &AccountId,
        count: usize,
    ) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Claims, count)
    }

    /// Takes a new device list.
    pub(crate) fn list(&self, now: Timestamp, who: &AccountId) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Lists, 1)
    }

    fn take(
        &self,
        now: Timestamp,
        who: &AccountId,
        limit: Limit,
        count: usize,
    ) -> Result<(), UsedUp> {
        let quota = match limit {
            Limit::Ops => self.quotas.ops,
            Limit::OpKib => self.quotas.op_kib,
            Limit::Groups => self.quotas.groups,
            Limit::Keys => self.quotas.keys,
            Limit::Claims => self.quotas.claims,
            Limit::Lists => self.quotas.lists,
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.buckets.take(now, (limit, who.clone()), quota, count).map_err(|again_ms| {
            metrics::counter!("causeway_limit_hits_total", "limit" => limit.name()).increment(1);
            UsedUp { limit, again_ms }
        })
    }
}
