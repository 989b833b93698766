//! How much a device may post: a bucket per device that fills with time.
//!
//! In memory on purpose: a restart forgives.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use causeway_protocol::{ids::Timestamp, roster::Role};

/// Devices that are remembered; beyond, those with a full bucket are forgotten.
const MAX_BUCKETS: usize = 10_000;

/// Envelopes that a device may post, by its member's role in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Role 0.
    pub member: Option<Quota>,
    /// Role 1.
    pub admin: Option<Quota>,
    /// Role 2; no limit by default, because the bridge speaks for a whole room.
    pub bridge: Option<Quota>,
}

impl Default for Quotas {
    fn default() -> Self {
        let people = Quota { per_minute: 6_000, burst: 8_192 };
        Self { member: Some(people), admin: Some(people), bridge: None }
    }
}

/// A rate, and how far above it one may go for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Envelopes a minute, in the long run.
    pub per_minute: u32,
    /// Envelopes at once.
    pub burst: u32,
}

impl Quotas {
    pub(crate) const fn of(&self, role: Role) -> Option<Quota> {
        match role {
            Role::Member => self.member,
            Role::Admin => self.admin,
            Role::Bridge => self.bridge,
        }
    }
}

/// What each device has left, as a debt that shrinks with time.
#[derive(Debug, Default)]
pub(crate) struct Buckets(Mutex<HashMap<i64, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// In envelopes times 60,000.
    debt: u64,
    at: Timestamp,
}

impl Buckets {
    /// Takes `count` envelopes.
    ///
    /// # Errors
    /// There is not that much: milliseconds after which there would be.
    pub(crate) fn take(
        &self,
        now: Timestamp,
        device: i64,
        quota: Option<Quota>,
        count: u32,
    ) -> Result<(), u64> {
        let Some(quota) = quota else { return Ok(()) };
        let rate = u64::from(quota.per_minute.max(1));
        let room = u64::from(quota.burst.max(1)) * 60_000;
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = |bucket: &Bucket| {
            let past_ms = now.0.saturating_sub(bucket.at.0);
            bucket.debt.saturating_sub(past_ms.saturating_mul(rate))
        };
        if buckets.len() > MAX_BUCKETS {
            buckets.retain(|_, bucket| paid(bucket) > 0);
        }
        let debt = buckets.get(&device).map_or(0, paid);
        // More than a whole bucket passes when the bucket is full, and leaves a longer debt.
        let asked = u64::from(count) * 60_000;
        let over = (debt + asked.min(room)).saturating_sub(room);
        if over > 0 {
            return Err(over.div_ceil(rate));
        }
        buckets.insert(device, Bucket { debt: debt + asked, at: now });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Buckets, Quota};
    use causeway_protocol::ids::Timestamp;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let buckets = Buckets::default();
        let quota = Some(Quota { per_minute: 60, burst: 10 });
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
}
