//! Times as the clock on the wall shows them.

use causeway_protocol::ids::Timestamp;
use jiff::{
    Timestamp as Moment,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// A zone, and what day it is there.
pub(super) struct LocalTime {
    zone: TimeZone,
    today: Date,
}

/// A time as people here read it, beside the present.
pub fn local_time(at: Timestamp, now: Timestamp) -> String {
    LocalTime::new(now).of(at)
}

/// A time with its date, whatever day it is.
pub(super) fn whole(at: Timestamp) -> String {
    local(at, &TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

impl LocalTime {
    /// Of this machine.
    pub(super) fn new(now: Timestamp) -> Self {
        Self::in_zone(TimeZone::system(), now)
    }

    #[cfg(test)]
    pub(super) fn utc(now: Timestamp) -> Self {
        Self::in_zone(TimeZone::UTC, now)
    }

    fn in_zone(zone: TimeZone, now: Timestamp) -> Self {
        let today = local(now, &zone).date();
        Self { zone, today }
    }

    /// `14:03`, or `2026-11-27 14:03` on another day than today.
    pub(super) fn of(&self, at: Timestamp) -> String {
        let at = local(at, &self.zone);
        let form = if at.date() == self.today { "%H:%M" } else { "%Y-%m-%d %H:%M" };
        at.strftime(form).to_string()
    }
}

/// What a sender claims may be no time that a calendar has.
fn local(at: Timestamp, zone: &TimeZone) -> DateTime {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    zone.to_datetime(Moment::from_millisecond(ms).unwrap_or(Moment::MAX))
}

#[cfg(test)]
mod tests {
    use jiff::tz::offset;

    use super::*;

    #[test]
    fn a_time_of_another_day_has_its_date() {
        const HOUR: u64 = 3_600_000;
        let now = Timestamp(20_000 * 24 * HOUR + HOUR);
        let utc = LocalTime::utc(now);
        assert_eq!(utc.of(now), "01:00");
        assert_eq!(utc.of(Timestamp(now.0 - 2 * HOUR)), "2024-10-03 23:00");
        let west = LocalTime::in_zone(offset(-2).to_time_zone(), now);
        assert_eq!(west.of(now), "23:00");
        assert_eq!(west.of(Timestamp(now.0 - 2 * HOUR)), "21:00");
        assert!(utc.of(Timestamp(u64::MAX)).starts_with("9999-12-30"));
    }
}
