//! What one account may add to what is kept, whichever of its devices asks.

use causeway_protocol::ids::{AccountId, InviteKey, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    BRIDGE, Buckets, Quota,
    hits::Hits,
    turns::Turns,
    waiting::{PART, Waiting},
};

/// Counted for each row that waits, beside what it carries, so that rows are bounded by bytes, too.
pub(crate) const ROW_BYTES: u64 = 512;
/// Most bytes of a page, and of a body but for its braces.
pub(crate) const PAGE_BYTES: usize = 4 << 20;
const MINUTE_MS: u64 = 60_000;
const WAITING: &str = "limits.waiting_kib";
const MAILBOX: &str = "limits.mailbox_kib";

/// What an account may add. What is there already is answered again, and costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountQuotas {
    /// Envelopes that are posted. The bridge speaks for whole rooms and has no limit.
    pub envelopes: Option<Quota>,
    /// Ops that are put to a group's newest roster, taken or not.
    pub ops: Option<Quota>,
    /// KiB of these ops and of the `create` of new groups, each begun one counted.
    pub op_kib: Option<Quota>,
    /// New groups.
    pub groups: Option<Quota>,
    /// Groups that it began, in all.
    pub groups_in_all: u32,
    /// Accounts that it adds to a group without being in another one with them.
    pub strangers: Option<Quota>,
    /// One-time and fallback keys that are uploaded.
    pub keys: Option<Quota>,
    /// Devices of whom a key is claimed.
    pub claims: Option<Quota>,
    /// New device lists.
    pub lists: Option<Quota>,
    /// Devices that it has.
    pub devices: u32,
    /// Invites of it that are open, in all groups.
    pub invites: u32,
    /// Requests to join.
    pub joins: Option<Quota>,
    /// People who ask by one link, which takes the first request of each.
    pub link_joins: Option<Quota>,
    /// KiB of envelopes that are posted, each begun one counted.
    pub envelope_kib: Option<Quota>,
    /// Rows of it that one device has parked.
    pub parked: u32,
    /// KiB of what they carry.
    pub parked_kib: u32,
    /// Reports of the chains that a device holds in a group.
    pub reports: Option<Quota>,
    /// KiB of the bodies of its requests, taken or not, and of the large pages that it reads. The bridge
    /// has no limit.
    pub traffic_kib: Option<Quota>,
    /// KiB of what it posted that waits to be read by somebody. The bridge has no limit.
    pub waiting_kib: u32,
    /// KiB of that in one mailbox, and of what it broadcast in one group: beyond, the oldest of it
    /// there ends early. Likewise.
    pub mailbox_kib: u32,
}

impl Default for AccountQuotas {
    fn default() -> Self {
        Self {
            envelopes: Some(Quota::per_minute(6_000, 8_192)),
            ops: Some(Quota::per_minute(120, 1_000)),
            op_kib: Some(Quota::per_minute(512, 8_192)),
            groups: Some(Quota::per_hour(20, 20)),
            groups_in_all: 1_000,
            strangers: Some(Quota::per_hour(200, 1_000)),
            keys: Some(Quota::per_minute(120, 4_000)),
            claims: Some(Quota::per_minute(2_000, 20_000)),
            lists: Some(Quota::per_minute(1, 60)),
            devices: 16,
            invites: 200,
            joins: Some(Quota::per_minute(6, 60)),
            link_joins: Some(Quota::per_minute(60, 1_000)),
            envelope_kib: Some(Quota::per_minute(16_384, 131_072)),
            parked: 4_096,
            parked_kib: 16_384,
            reports: Some(Quota::per_minute(120, 4_000)),
            traffic_kib: Some(Quota::per_minute(65_536, 262_144)),
            waiting_kib: 1 << 20,
            mailbox_kib: 65_536,
        }
    }
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Limit {
    Envelopes,
    Ops,
    OpKib,
    Groups,
    Strangers,
    Keys,
    Claims,
    Lists,
    Joins,
    LinkJoins,
    EnvelopeKib,
    Reports,
    TrafficKib,
}

impl Limit {
    /// Its name in the configuration of `causeway`.
    const fn name(self) -> &'static str {
        match self {
            Self::Envelopes => "limits.envelopes",
            Self::Ops => "limits.ops",
            Self::OpKib => "limits.op_kib",
            Self::Groups => "limits.new_groups",
            Self::Strangers => "limits.strangers",
            Self::Keys => "limits.key_uploads",
            Self::Claims => "limits.claims",
            Self::Lists => "limits.device_lists",
            Self::Joins => "limits.joins",
            Self::LinkJoins => "limits.link_joins",
            Self::EnvelopeKib => "limits.envelope_kib",
            Self::Reports => "limits.key_reports",
            Self::TrafficKib => "limits.traffic_kib",
        }
    }
}

/// An account has used up what it may do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than the server allows at once (`{limit}`)")]
pub(crate) struct UsedUp {
    pub(super) limit: &'static str,
    /// Milliseconds after which there is enough.
    pub(crate) again_ms: u64,
}

impl UsedUp {
    /// Whether others have to do something before there is enough again.
    pub(crate) fn is_for_long(&self) -> bool {
        self.limit == WAITING
    }
}

/// An account has as many of something as it may have; time changes nothing about that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an account has {most} {what} at most on this server (`{limit}`)")]
pub(crate) struct TooMany {
    limit: &'static str,
    what: &'static str,
    most: u32,
}

/// What each account has left.
#[derive(Debug)]
pub(crate) struct Shares {
    quotas: watch::Receiver<AccountQuotas>,
    buckets: Buckets<(Limit, AccountId)>,
    links: Buckets<InviteKey>,
    checks: Turns,
    bodies: Turns,
    requests: Turns,
    waiting: Waiting,
    hits: Hits,
}

impl Shares {
    pub(crate) fn new(quotas: watch::Receiver<AccountQuotas>, hits: Hits) -> Self {
        let (buckets, links) = (Buckets::default(), Buckets::default());
        let (checks, bodies) = (Turns::of_checks(), Turns::of_bodies());
        let requests = Turns::of_requests();
        let waiting = Waiting::default();
        Self { quotas, buckets, links, checks, bodies, requests, waiting, hits }
    }

    /// What is in force now.
    fn quotas(&self) -> AccountQuotas {
        *self.quotas.borrow()
    }

    /// Takes envelopes that make so many rows of so many bytes; of those that are refused nothing.
    pub(crate) fn envelopes(
        &self,
        now: Timestamp,
        who: &AccountId,
        rows: usize,
        bytes: usize,
    ) -> Result<(), UsedUp> {
        if self.waiting.is_over(who) {
            self.hits.note(now, WAITING, who);
            return Err(UsedUp { limit: WAITING, again_ms: MINUTE_MS });
        }
        self.take(now, who, Limit::Envelopes, rows)?;
        let taken = self.take(now, who, Limit::EnvelopeKib, bytes.div_ceil(1_024));
        if taken.is_err() {
            self.buckets.give_back(&(Limit::Envelopes, who.clone()), rows);
        } else {
            self.waiting.add(who, bytes as u64 + ROW_BYTES * rows as u64);
        }
        taken
    }

    /// Gives back what was taken for envelopes of so many rows and bytes that were refused after all.
    pub(crate) fn give_back(&self, who: &AccountId, rows: usize, bytes: usize) {
        self.buckets.give_back(&(Limit::Envelopes, who.clone()), rows);
        self.buckets.give_back(&(Limit::EnvelopeKib, who.clone()), bytes.div_ceil(1_024));
    }

    /// Of whom it is to be counted what waits, and how much each had posted since the last time.
    pub(crate) fn to_count(&self, now: Timestamp) -> Vec<(AccountId, u64)> {
        let AccountQuotas { waiting_kib, mailbox_kib, .. } = self.quotas();
        let kib = waiting_kib.min(mailbox_kib);
        self.waiting.due(now, (u64::from(kib) << 10) / PART)
    }

    /// Bytes of one account that may wait in one mailbox, and as broadcasts in one group.
    pub(crate) fn of_a_mailbox(&self) -> u64 {
        u64::from(self.quotas().mailbox_kib) << 10
    }

    /// Some of what an account has in a mailbox, or in a group, ends early.
    pub(crate) fn ends_early(&self, now: Timestamp, who: &AccountId) {
        self.hits.note(now, MAILBOX, who);
    }

    /// It was counted of an account, which had `posted` so much then, that so many bytes wait.
    pub(crate) fn counted(&self, now: Timestamp, who: &AccountId, posted: u64, bytes: u64) {
        let is_over = bytes > u64::from(self.quotas().waiting_kib) << 10;
        self.waiting.counted(now, who, posted, is_over);
    }

    /// Takes what is to be read of a request or for one, before it is; of more than [`PAGE_BYTES`]
    /// nothing is read.
    pub(crate) fn traffic(
        &self,
        now: Timestamp,
        who: &AccountId,
        bytes: usize,
    ) -> Result<(), UsedUp> {
        if who.localpart() == BRIDGE {
            return Ok(());
        }
        self.take(now, who, Limit::TrafficKib, bytes.min(PAGE_BYTES).div_ceil(1_024))
    }

    /// Gives back what was not needed of so many bytes, `taken` for what turned out to have so many.
    pub(crate) fn was_less(&self, who: &AccountId, taken: usize, bytes: usize) {
        let left = taken.saturating_sub(bytes) / 1_024;
        self.buckets.give_back(&(Limit::TrafficKib, who.clone()), left);
    }

    /// Takes a report of chains.
    pub(crate) fn report(&self, now: Timestamp, who: &AccountId) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Reports, 1)
    }

    /// Waits until fewer than so many requests of an account are being answered; it is one of them until
    /// that is dropped; and whether it had to wait. The bridge asks for everybody.
    pub(crate) async fn turn(&self, who: &AccountId) -> (Option<OwnedSemaphorePermit>, bool) {
        if who.localpart() == BRIDGE { (None, false) } else { self.requests.next(who).await }
    }

    /// Looks at many signatures of an account's request off the threads that serve everybody, two
    /// requests of one account at a time.
    pub(crate) async fn check<T: Send + 'static>(
        &self,
        who: &AccountId,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.checks.run(who, look).await
    }

    /// Reads a long body likewise, one of an account at a time.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        who: &AccountId,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.bodies.run(who, read).await
    }

    /// Takes an op of so many bytes.
    pub(crate) fn op(&self, now: Timestamp, who: &AccountId, bytes: usize) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Ops, 1)?;
        self.take(now, who, Limit::OpKib, bytes.div_ceil(1_024))
    }

    /// Takes so many devices that an op moves, each like a KiB of it.
    pub(crate) fn moves(
        &self,
        now: Timestamp,
        who: &AccountId,
        devices: usize,
    ) -> Result<(), UsedUp> {
        self.take(now, who, Limit::OpKib, devices)
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

    /// Takes so many strangers that are added.
    pub(crate) fn strangers(
        &self,
        now: Timestamp,
        who: &AccountId,
        count: usize,
    ) -> Result<(), UsedUp> {
        if count == 0 { Ok(()) } else { self.take(now, who, Limit::Strangers, count) }
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

    /// Likewise of another server, which its agent's account stands for: nobody else can have it.
    pub(crate) fn claims_of_server(
        &self,
        now: Timestamp,
        server: &str,
        count: usize,
    ) -> Result<(), UsedUp> {
        // A server's name with this before it is always one.
        let Ok(agent) = format!("_causeway:{server}").parse() else { return Ok(()) };
        self.claims(now, &agent, count)
    }

    /// Takes a new device list.
    pub(crate) fn list(&self, now: Timestamp, who: &AccountId) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Lists, 1)
    }

    /// Takes a request to join, whatever becomes of it.
    pub(crate) fn join(&self, now: Timestamp, who: &AccountId) -> Result<(), UsedUp> {
        self.take(now, who, Limit::Joins, 1)
    }

    /// Takes the first request of somebody by a link from that link; from who asks every one is taken, so
    /// that nobody closes a link for others.
    pub(crate) fn first_by(
        &self,
        now: Timestamp,
        who: &AccountId,
        link: InviteKey,
    ) -> Result<(), UsedUp> {
        let taken = self.links.take(now, link, self.quotas().link_joins, 1);
        taken.map_err(|again_ms| self.used_up(now, who, Limit::LinkJoins, again_ms))
    }

    /// Whether an account that began `has` groups may begin another.
    pub(crate) fn another_group(
        &self,
        now: Timestamp,
        who: &AccountId,
        has: u32,
    ) -> Result<(), TooMany> {
        self.another(now, who, "limits.groups", "groups", has, self.quotas().groups_in_all)
    }

    /// Whether an account that has so many open invites may make another.
    pub(crate) fn another_invite(
        &self,
        now: Timestamp,
        who: &AccountId,
        has: u32,
    ) -> Result<(), TooMany> {
        self.another(now, who, "limits.invites", "open invites", has, self.quotas().invites)
    }

    /// Whether an account may have another device beside so many.
    pub(crate) fn another_device(
        &self,
        now: Timestamp,
        who: &AccountId,
        has: usize,
    ) -> Result<(), TooMany> {
        let has = u32::try_from(has).unwrap_or(u32::MAX);
        self.another(now, who, "limits.devices", "devices", has, self.quotas().devices)
    }

    /// Whether so many rows of an account, of so many bytes, may be parked for one device.
    pub(crate) fn may_be_parked(
        &self,
        now: Timestamp,
        who: &AccountId,
        rows: u64,
        bytes: u64,
    ) -> bool {
        let limit = if rows > u64::from(self.quotas().parked) {
            "limits.parked"
        } else if bytes > u64::from(self.quotas().parked_kib) << 10 {
            "limits.parked_kib"
        } else {
            return true;
        };
        self.hits.note(now, limit, who);
        false
    }

    fn another(
        &self,
        now: Timestamp,
        who: &AccountId,
        limit: &'static str,
        what: &'static str,
        has: u32,
        most: u32,
    ) -> Result<(), TooMany> {
        if has < most {
            return Ok(());
        }
        self.hits.note(now, limit, who);
        Err(TooMany { limit, what, most })
    }

    fn take(
        &self,
        now: Timestamp,
        who: &AccountId,
        limit: Limit,
        count: usize,
    ) -> Result<(), UsedUp> {
        let quotas = self.quotas();
        let quota = match limit {
            Limit::Envelopes => quotas.envelopes,
            Limit::Ops => quotas.ops,
            Limit::OpKib => quotas.op_kib,
            Limit::Groups => quotas.groups,
            Limit::Strangers => quotas.strangers,
            Limit::Keys => quotas.keys,
            Limit::Claims => quotas.claims,
            Limit::Lists => quotas.lists,
            Limit::Joins => quotas.joins,
            Limit::LinkJoins => quotas.link_joins,
            Limit::EnvelopeKib => quotas.envelope_kib,
            Limit::Reports => quotas.reports,
            Limit::TrafficKib => quotas.traffic_kib,
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let taken = self.buckets.take(now, (limit, who.clone()), quota, count);
        taken.map_err(|again_ms| self.used_up(now, who, limit, again_ms))
    }

    fn used_up(&self, now: Timestamp, who: &AccountId, limit: Limit, again_ms: u64) -> UsedUp {
        self.hits.note(now, limit.name(), who);
        UsedUp { limit: limit.name(), again_ms }
    }
}
