//! How much one may ask for.

use causeway_server::Quota;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::WrongValue;

/// How much one account, and one address, may ask for. What it has already is answered again, and
/// costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections in all; 0: as many as the limit of open files (`ulimit -n`) leaves room for.
    pub connections: u32,
    /// Connections of one address, with each listener. A trusted proxy (`native.trusted_proxies`)
    /// has no limit of its own.
    pub connections_per_address: u32,
    /// Requests of one address, with each listener, whatever they ask for.
    pub requests: Rate,
    /// Registrations that one address may try.
    pub registrations: Rate,
    /// Logins that one address may try; a login takes two.
    pub logins: Rate,
    /// Offers of new devices, to be linked to an account, that one address may make.
    pub links: Rate,
    /// Envelopes that one account may post: a message is one, and so is each device that something is
    /// for alone.
    pub envelopes: Rate,
    /// KiB that they may have together.
    pub envelope_kib: Rate,
    /// Ops that one account may post; what is there already does not count.
    pub ops: Rate,
    /// KiB that they may have together, with those that begin groups.
    pub op_kib: Rate,
    /// Groups that one account may begin.
    pub new_groups: HourlyRate,
    /// Groups that one account began, and neither closed nor left.
    pub groups: u32,
    /// Accounts that one account may add to groups without being in another group with them, or
    /// having been asked by them.
    pub strangers: HourlyRate,
    /// Devices of one account.
    pub devices: u32,
    /// Device lists that one account may sign.
    pub device_lists: Rate,
    /// One-time keys that one account may upload.
    pub key_uploads: Rate,
    /// Devices of which one account may claim a one-time key, which begins a conversation.
    pub claims: Rate,
    /// Invites of one account with uses left that have not ended, in all groups that it is in.
    pub invites: u32,
    /// Requests to join that one account may post.
    pub joins: Rate,
    /// People who may ask by one link.
    pub link_joins: Rate,
    /// Rows of one account that one device could not hold and has parked.
    pub parked: u32,
    /// KiB of what they carry.
    pub parked_kib: u32,
    /// Reports of the chains that one account's devices hold, one for each group and device.
    pub key_reports: Rate,
    /// KiB of the bodies of one account's requests, and of the large pages that it reads.
    pub traffic_kib: Rate,
    /// KiB of what one account posted that wait to be read by somebody.
    pub waiting_kib: u32,
    /// KiB of that in one device's mailbox, and of what it broadcast in one group; beyond, the oldest
    /// of it there ends early.
    pub mailbox_kib: u32,
}

/// Nothing larger is read or taken at once by the native server, in KiB.
const LARGEST_KIB: u32 = 4_096;

/// A limit that fills again with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// In the long run.
    pub per_minute: u32,
    /// At once.
    pub burst: u32,
}

/// A limit that fills again slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written")]
pub struct HourlyRate {
    /// In the long run.
    pub per_hour: u32,
    /// At once.
    pub burst: u32,
}

/// As it stands in a file; one of before said it by the minute.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// In the long run.
    per_hour: u32,
    /// At once.
    burst: u32,
    #[serde(default)]
    #[schemars(skip)]
    per_minute: Option<u32>,
}

impl From<Written> for HourlyRate {
    fn from(Written { per_hour, burst, per_minute }: Written) -> Self {
        Self { per_hour: per_minute.map_or(per_hour, |rate| rate.saturating_mul(60)), burst }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 0,
            connections_per_address: 256,
            requests: Rate { per_minute: 60_000, burst: 10_000 },
            registrations: Rate { per_minute: 6, burst: 60 },
            logins: Rate { per_minute: 60, burst: 300 },
            links: Rate { per_minute: 10, burst: 20 },
            envelopes: Rate { per_minute: 6_000, burst: 8_192 },
            envelope_kib: Rate { per_minute: 16_384, burst: 131_072 },
            ops: Rate { per_minute: 120, burst: 1_000 },
            op_kib: Rate { per_minute: 512, burst: 8_192 },
            new_groups: HourlyRate { per_hour: 20, burst: 20 },
            groups: 1_000,
            strangers: HourlyRate { per_hour: 200, burst: 1_000 },
            devices: 16,
            device_lists: Rate { per_minute: 1, burst: 60 },
            key_uploads: Rate { per_minute: 120, burst: 4_000 },
            claims: Rate { per_minute: 2_000, burst: 20_000 },
            invites: 200,
            joins: Rate { per_minute: 6, burst: 60 },
            link_joins: Rate { per_minute: 60, burst: 1_000 },
            parked: 4_096,
            parked_kib: 16_384,
            key_reports: Rate { per_minute: 120, burst: 4_000 },
            traffic_kib: Rate { per_minute: 65_536, burst: 262_144 },
            waiting_kib: 1_048_576,
            mailbox_kib: 65_536,
        }
    }
}

impl Limits {
    /// Nothing may be nothing: that would be a server that refuses everybody.
    pub(super) fn check(&self) -> Result<(), WrongValue> {
        let single = [
            ("limits.connections_per_address", self.connections_per_address),
            ("limits.groups", self.groups),
            ("limits.devices", self.devices),
            ("limits.invites", self.invites),
            ("limits.parked", self.parked),
            ("limits.parked_kib", self.parked_kib),
            ("limits.waiting_kib", self.waiting_kib),
            ("limits.mailbox_kib", self.mailbox_kib),
        ];
        let by_minute = [
            ("limits.requests", self.requests),
            ("limits.registrations", self.registrations),
            ("limits.logins", self.logins),
            ("limits.links", self.links),
            ("limits.envelopes", self.envelopes),
            ("limits.ops", self.ops),
            ("limits.op_kib", self.op_kib),
            ("limits.device_lists", self.device_lists),
            ("limits.key_uploads", self.key_uploads),
            ("limits.claims", self.claims),
            ("limits.joins", self.joins),
            ("limits.link_joins", self.link_joins),
            ("limits.key_reports", self.key_reports),
            ("limits.envelope_kib", self.envelope_kib),
            ("limits.traffic_kib", self.traffic_kib),
        ];
        let by_hour =
            [("limits.new_groups", self.new_groups), ("limits.strangers", self.strangers)];
        let by_minute = by_minute.into_iter().flat_map(|(key, Rate { per_minute, burst })| {
            [(format!("{key}.per_minute"), per_minute), (format!("{key}.burst"), burst)]
        });
        let by_hour = by_hour.into_iter().flat_map(|(key, HourlyRate { per_hour, burst })| {
            [(format!("{key}.per_hour"), per_hour), (format!("{key}.burst"), burst)]
        });
        let rates = by_minute.chain(by_hour);
        let all = single.into_iter().map(|(key, most)| (key.to_owned(), most)).chain(rates);
        for (key, most) in all {
            if most == 0 {
                return Err(WrongValue::new(&key, "it is 0; write at least 1"));
            }
        }
        let burst = self.traffic_kib.burst;
        if burst < LARGEST_KIB {
            let why =
                format!("it is {burst}; write at least {LARGEST_KIB}: the largest page and body");
            return Err(WrongValue::new("limits.traffic_kib.burst", why));
        }
        Ok(())
    }
}

impl From<Rate> for Quota {
    fn from(Rate { per_minute, burst }: Rate) -> Self {
        Self::per_minute(per_minute, burst)
    }
}

impl From<HourlyRate> for Quota {
    fn from(HourlyRate { per_hour, burst }: HourlyRate) -> Self {
        Self::per_hour(per_hour, burst)
    }
}
