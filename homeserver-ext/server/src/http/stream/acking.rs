//! What a device acknowledges, on its way to the disk: one at a time, and what comes meanwhile goes
//! together after it. Rows are sent all the same.

use std::{collections::BTreeSet, mem, pin::Pin, time::Duration};

use causeway_protocol::ids::Seq;

use super::in_flight::InFlight;
use crate::{
    http::Api,
    services::delivery::{self, Ack},
    storage::{self, devices::Device},
};

/// What a device has acknowledged.
#[derive(Default)]
pub(super) struct Acked {
    /// Up to and with this row it has everything,
    pub(super) seq: Option<Seq>,
    /// but for these.
    pub(super) park: BTreeSet<Seq>,
    /// How long each of them took that people's devices sent.
    pub(super) took: Vec<Duration>,
}

type Going<'a> = Pin<Box<dyn Future<Output = Result<bool, storage::Error>> + Send + 'a>>;

/// Acknowledgements of one stream.
pub(super) struct Acking<'a> {
    api: &'a Api,
    device: &'a Device,
    going: Option<(Seq, Going<'a>)>,
    next: Acked,
    /// What the device acknowledges is kept for it, as far as was seen.
    is_kept: bool,
}

impl<'a> Acking<'a> {
    pub(super) fn of(api: &'a Api, device: &'a Device) -> Self {
        Self { api, device, going: None, next: Acked::default(), is_kept: false }
    }

    /// More is acknowledged, and goes when nothing else does.
    pub(super) fn add(&mut self, acked: Acked) {
        self.next.seq = self.next.seq.max(acked.seq);
        self.next.park.extend(acked.park);
        self.next.took.extend(acked.took);
    }

    /// Sends what is acknowledged on its way, unless something is. Where the stream waits for it, it
    /// does not wait for others.
    pub(super) fn begin(&mut self, in_flight: &InFlight) {
        if self.going.is_none()
            && let Acked { seq: Some(seq), park, took } = mem::take(&mut self.next)
        {
            let count = in_flight.count(seq, &park);
            let ack = Ack { seq, park, count, took, is_kept: self.is_kept };
            let (api, device) = (self.api, self.device);
            let now = api.clock.now();
            let ack = delivery::ack(&api.db, &api.acks, now, &api.shares, device, ack);
            self.going = Some((seq, Box::pin(ack)));
        }
        if self.going.is_some() && in_flight.is_held() {
            self.api.acks.hurry();
        }
    }

    /// Returns when what was on its way is on disk, and up to where that is; never if nothing is.
    pub(super) async fn done(&mut self) -> Result<Seq, storage::Error> {
        let Some((seq, going)) = &mut self.going else { return std::future::pending().await };
        let (seq, done) = (*seq, going.await);
        self.going = None;
        self.is_kept = done?;
        Ok(seq)
    }

    /// The stream ends: what was acknowledged counts.
    pub(super) async fn finish(&mut self, in_flight: &mut InFlight) -> Result<(), storage::Error> {
        loop {
            self.begin(in_flight);
            if self.going.is_none() {
                return Ok(());
            }
            self.api.acks.hurry();
            in_flight.ack(self.done().await?);
        }
    }
}
