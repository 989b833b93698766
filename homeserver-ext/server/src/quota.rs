//! How much one may ask for: a bucket per device, account or address, that fills with time.
//!
//! In memory on purpose: a restart forgives.

mod account;
mod calls;
mod edge;
mod hits;
mod present;
mod turns;
mod waiting;

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use causeway_protocol::ids::Timestamp;

pub use account::AccountQuotas;
pub(crate) use account::{PAGE_BYTES, ROW_BYTES, Shares, TooMany, UsedUp};
pub(crate) use calls::{CallShares, TooOften};
pub use edge::EdgeLimits;
pub(crate) use hits::{Hit, Hits, place};
pub(crate) use present::Present;

/// Localpart of the account that bridges groups into Matrix rooms: for whole rooms, so without limits.
pub(crate) const BRIDGE: &str = "bridge";

/// Devices that may be named of one account, in an op or by one who asks to join.
pub(crate) const MAX_NAMED: usize = 64;

/// Servers of one group: what is for all of it goes to each.
pub(crate) const MAX_SERVERS: usize = 32;

/// Buckets that are remembered; beyond, full ones are forgotten, and if none is full, all.
const MAX_BUCKETS: usize = 10_000;
const HOUR_MS: u64 = 3_600_000;

/// What one address may ask for without a token. Whether it is answered or refused, it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestQuotas {
    /// `POST register`.
    pub register: Option<Quota>,
    /// `POST login/nonce` and `POST login`; a login takes one of each.
    pub login: Option<Quota>,
    /// `PUT links/{id}`, of an offer that is not there.
    pub link: Option<Quota>,
}

impl Default for GuestQuotas {
    fn default() -> Self {
        Self {
            register: Some(Quota::per_minute(6, 60)),
            login: Some(Quota::per_minute(60, 300)),
            link: Some(Quota::per_minute(10, 20)),
        }
    }
}

/// A rate, and how far above it one may go for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How much an hour, in the long run.
    per_hour: u32,
    /// How much at once.
    burst: u32,
}

impl Quota {
    /// So much a minute in the long run, and so much at once; 0 counts as 1.
    pub const fn per_minute(count: u32, burst: u32) -> Self {
        Self::per_hour(count.saturating_mul(60), burst)
    }

    /// So much an hour in the long run, and so much at once; 0 counts as 1.
    pub const fn per_hour(count: u32, burst: u32) -> Self {
        let (per_hour, burst) =
            (if count == 0 { 1 } else { count }, if burst == 0 { 1 } else { burst });
        Self { per_hour, burst }
    }

    /// So much a minute, in the long run.
    const fn in_a_minute(self) -> u32 {
        self.per_hour / 60
    }

    const fn times(self, by: u32) -> Self {
        Self { per_hour: self.per_hour.saturating_mul(by), burst: self.burst.saturating_mul(by) }
    }
}

/// Who shares a bucket: an IPv4 address, or the 64 bits of an IPv6 address that name a network,
/// because one household has all the rest; or the 48 bits that one site has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Household {
    V4(std::net::Ipv4Addr),
    V6(u128),
    Site(u128),
}

/// How much more a site may ask for than one household.
pub(crate) const OF_A_SITE: u32 = 16;

impl Household {
    /// The site that an IPv6 address is in, which has 65,536 households of its own.
    pub(crate) fn site(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(Self::Site(v6.to_bits() >> 80 << 80)),
        }
    }
}

impl std::fmt::Display for Household {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::V4(v4) => v4.fmt(f),
            Self::V6(bits) => write!(f, "{}/64", std::net::Ipv6Addr::from_bits(*bits)),
            Self::Site(bits) => write!(f, "{}/48", std::net::Ipv6Addr::from_bits(*bits)),
        }
    }
}

impl From<IpAddr> for Household {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::V6(v6.to_bits() >> 64 << 64),
        }
    }
}

/// What everyone has left, as a debt that shrinks with time.
#[derive(Debug)]
pub(crate) struct Buckets<K>(Mutex<HashMap<K, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// What was taken, times the milliseconds of an hour.
    debt: u64,
    /// How much of it is paid in a millisecond.
    rate: u64,
    at: Timestamp,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Buckets<K> {
    /// Takes `count`.
    ///
    /// # Errors
    /// There is not that much: milliseconds after which there would be.
    pub(crate) fn take(
        &self,
        now: Timestamp,
        who: K,
        quota: Option<Quota>,
        count: u32,
    ) -> Result<(), u64> {
        let Some(quota) = quota else { return Ok(()) };
        let rate = u64::from(quota.per_hour);
        let room = u64::from(quota.burst) * HOUR_MS;
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = |bucket: &Bucket| {
            let past_ms = now.0.saturating_sub(bucket.at.0);
            bucket.debt.saturating_sub(past_ms.saturating_mul(bucket.rate))
        };
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&who) {
            buckets.retain(|_, bucket| paid(bucket) > 0);
            // Whoever has so many addresses gains little by it, and memory stays bounded.
            if buckets.len() >= MAX_BUCKETS {
                buckets.clear();
            }
        }
        let debt = buckets.get(&who).map_or(0, paid);
        // More than a whole bucket passes when the bucket is full, and leaves a longer debt.
        let asked = u64::from(count) * HOUR_MS;
        let over = (debt + asked.min(room)).saturating_sub(room);
        if over > 0 {
            return Err(over.div_ceil(rate));
        }
        buckets.insert(who, Bucket { debt: debt + asked, rate, at: now });
        Ok(())
    }

    /// Gives back what was taken for something that was refused after all.
    pub(crate) fn give_back(&self, who: &K, count: usize) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(who) {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            bucket.debt = bucket.debt.saturating_sub(count.saturating_mul(HOUR_MS));
        }
    }
}

impl Buckets<Household> {
    /// Takes `count` for an address: from its household, and from the site that it is in.
    ///
    /// # Errors
    /// Whose bucket has not that much, and after how many milliseconds it would have.
    pub(crate) fn take_from(
        &self,
        now: Timestamp,
        address: IpAddr,
        quota: Option<Quota>,
        count: u32,
    ) -> Result<(), (Household, u64)> {
        let household = Household::from(address);
        self.take(now, household, quota, count).map_err(|ms| (household, ms))?;
        let Some(site) = Household::site(address) else { return Ok(()) };
        let quota = quota.map(|quota| quota.times(OF_A_SITE));
        self.take(now, site, quota, count).map_err(|ms| (site, ms))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use causeway_protocol::ids::Timestamp;

    use super::{Buckets, Household, MAX_BUCKETS, OF_A_SITE, Quota};

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let buckets = Buckets::default();
        let quota = Some(Quota::per_minute(60, 10));
        let at = |ms: u64| Timestamp(1_000_000 + ms);
        assert_eq!(buckets.take(at(0), 1, quota, 4), Ok(()));
        assert_eq!(buckets.take(at(0), 1, quota, 6), Ok(()));
        assert_eq!(buckets.take(at(0), 1, quota, 1), Err(1_000));
        assert_eq!(buckets.take(at(0), 2, quota, 1), Ok(()), "another device's is its own");
        assert_eq!(buckets.take(at(999), 1, quota, 1), Err(1));
        assert_eq!(buckets.take(at(1_000), 1, quota, 1), Ok(()));
        assert_eq!(buckets.take(at(0), 1, None, 1_000_000), Ok(()));
        assert_eq!(buckets.take(at(61_000), 1, quota, 20), Ok(()), "a large batch needs it full");
        assert_eq!(buckets.take(at(61_000), 1, quota, 1), Err(11_000));
    }

    #[test]
    fn a_household_shares_a_bucket_however_it_spells_its_address() {
        let of = |text: &str| Household::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_site_with_many_networks_has_so_much_more_and_no_end_of_it() {
        let (buckets, quota) = (Buckets::default(), Some(Quota::per_minute(1, 2)));
        let take = |text: String| buckets.take_from(Timestamp(1), text.parse().unwrap(), quota, 1);
        let passed = (0..100).filter(|n| take(format!("2001:db8:1:{n:x}::1")).is_ok()).count();
        assert_eq!(passed, 2 * usize::try_from(OF_A_SITE).unwrap());
        let (met, _) = take("2001:db8:1:ffff::1".to_owned()).unwrap_err();
        assert_eq!(met.to_string(), "2001:db8:1::/48");
        assert!(take("2001:db8:2::1".to_owned()).is_ok(), "another site");
        assert!((0..100).all(|n| take(format!("192.0.2.{n}")).is_ok()), "IPv4 has none");
    }

    #[test]
    fn memory_is_bounded_however_many_come() {
        let buckets = Buckets::default();
        let quota = Some(Quota::per_minute(1, 1));
        for who in 0..3 * MAX_BUCKETS {
            assert_eq!(buckets.take(Timestamp(1), who, quota, 1), Ok(()));
            assert!(buckets.0.lock().unwrap().len() <= MAX_BUCKETS);
        }
        assert_eq!(buckets.take(Timestamp(1), 3 * MAX_BUCKETS - 1, quota, 1), Err(60_000));
    }
}
