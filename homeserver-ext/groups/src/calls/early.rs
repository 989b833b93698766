//! Signals that came before the state of the call in which they make sense.
//!
//! The state comes by the server, signals by the devices: either may be first.

use std::{collections::VecDeque, time::Duration};

use causeway_protocol::ids::DeviceId;
use tokio::time::Instant;

use super::signal::{Refused, Signal};

const WAITS: Duration = Duration::from_secs(10);
/// Signals kept in all, and of one device.
const KEPT: usize = 64;
const KEPT_OF_ONE: usize = 16;

struct Waiting {
    until: Instant,
    from: DeviceId,
    epoch: u32,
    signal: Signal,
}

#[derive(Default)]
pub(super) struct Early(VecDeque<Waiting>);

impl Early {
    pub(super) fn keep(
        &mut self,
        from: DeviceId,
        epoch: u32,
        signal: Signal,
    ) -> Result<(), Refused> {
        let of_one = self.0.iter().filter(|waiting| waiting.from == from).count();
        if self.0.len() >= KEPT || of_one >= KEPT_OF_ONE {
            return Err(Refused::TooMany);
        }
        self.0.push_back(Waiting { until: Instant::now() + WAITS, from, epoch, signal });
        Ok(())
    }

    /// All that waits, to be looked at again in the order in which it came.
    pub(super) fn take(&mut self) -> Vec<(DeviceId, u32, Signal)> {
        let with_time = std::mem::take(&mut self.0);
        with_time.into_iter().map(|waiting| (waiting.from, waiting.epoch, waiting.signal)).collect()
    }

    /// When the first has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|waiting| waiting.until)
    }

    /// Lets go of what has, and says whose it was.
    pub(super) fn expire(&mut self) -> Vec<DeviceId> {
        let now = Instant::now();
        let gone = self.0.iter().take_while(|waiting| waiting.until <= now).count();
        self.0.drain(..gone).map(|waiting| waiting.from).collect()
    }
}
