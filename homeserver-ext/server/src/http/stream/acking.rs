//! What a device acknowledges, on its way to the disk: one at a time, and what comes meanwhile goes
//! together after it. Rows are sent all the same.

use std::{collections::BTreeSet, mem, time::Duration};

use causeway_protocol::ids::Seq;
use tokio::sync::oneshot;

use super::in_flight::InFlight;
use crate::{
    http::Api,
    services::delivery::{self, Ack, acks::What},
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

/// Acknowledgements of one stream.
pub(super) struct Acking<'a> {
    api: &'a Api,
    device: &'a Device,
    going: Option<(Ack, oneshot::Receiver<bool>)>,
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
            let is_alone = self.is_kept || !park.is_empty();
            let what = if is_alone { What::Alone } else { What::All(seq, count) };
            let answer = self.api.acks.ack(self.device.row, what);
            self.going = Some((Ack { seq, park, count, took }, answer));
        }
        if self.going.is_some() && in_flight.is_held() {
            self.api.acks.hurry();
        }
    }

    /// Returns when it is this stream's turn, and what came of it; never if nothing is on its way.
    pub(super) async fn turn(&mut self) -> bool {
        match &mut self.going {
            Some((_, answer)) => answer.await.unwrap_or(false),
            None => std::future::pending().await,
        }
    }

    /// After its [turn](Self::turn): returns when it is on disk, and up to where. Nothing is sent
    /// meanwhile, since that may hold the writer.
    pub(super) async fn settle(&mut self, is_done: bool) -> Result<Seq, storage::Error> {
        let Some((ack, _)) = self.going.take() else { return Ok(Seq(0)) };
        if is_done {
            ack.is_done();
        } else {
            let Api { db, live, clock, shares, .. } = self.api;
            let of = (db, live);
            self.is_kept = delivery::ack(of, clock.now(), shares, self.device, &ack).await?;
        }
        Ok(ack.seq)
    }

    /// The stream ends: what was acknowledged counts.
    pub(super) async fn finish(&mut self, in_flight: &mut InFlight) -> Result<(), storage::Error> {
        loop {
            self.begin(in_flight);
            if self.going.is_none() {
                return Ok(());
            }
            self.api.acks.hurry();
            let is_done = self.turn().await;
            in_flight.ack(self.settle(is_done).await?);
        }
    }
}
