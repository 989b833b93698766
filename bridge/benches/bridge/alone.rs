//! What one message costs that comes alone: after quiet, and as the first one after a start.

use std::time::Duration;

use causeway_groups::sdk::Stream;
use tokio::time::{Instant, sleep};

use super::{
    LOOK,
    process::{fine_cpu_ms, written_kib},
    stage::{Stage, comes},
};

/// After so long nothing is done any more for a message that has arrived.
const AFTER: Duration = Duration::from_millis(500);
/// After so long the server has done what was due.
const UPKEEP: Duration = Duration::from_secs(12);
/// Between looks at whether a process is ready.
const OFTEN: Duration = Duration::from_millis(2);

/// What something took that happened once: until it was there, and of either process until it was
/// done with.
pub(super) struct Alone {
    ms: f64,
    cpu_ms: (f64, f64),
    kib: (f64, f64),
}

impl Alone {
    pub(super) const HEAD: &str = "\
| what | portals | ms | CPU of the bridge, ms | of the server | written by the bridge, KiB | by the server |
|---|---|---|---|---|---|---|";

    pub(super) fn row(&self, name: &str, portals: usize) -> String {
        let Self { ms, cpu_ms, kib } = self;
        format!(
            "| {name} | {portals} | {ms:.1} | {:.1} | {:.1} | {:.0} | {:.0} |",
            cpu_ms.0, cpu_ms.1, kib.0, kib.1
        )
    }

    /// The one in the middle by its time, each other figure likewise.
    pub(super) fn median(all: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = all.iter().map(of).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Self {
            ms: middle(|one| one.ms),
            cpu_ms: (middle(|one| one.cpu_ms.0), middle(|one| one.cpu_ms.1)),
            kib: (middle(|one| one.kib.0), middle(|one| one.kib.1)),
        }
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    ToNative,
    ToMatrix,
}

impl Stage {
    /// One message after so much quiet, the median of `times`.
    pub(super) async fn after_quiet(&mut self, way: Way, quiet: Duration, times: usize) -> Alone {
        let mut mailbox = self.mailbox().await;
        let mut all = Vec::new();
        for _ in 0..times {
            all.push(self.one_after(way, &mut mailbox, quiet).await);
        }
        mailbox.close().await;
        Alone::median(&all)
    }

    /// The bridge ends in order and begins again, and has a message at once.
    pub(super) async fn start_and_first(&mut self, way: Way) -> (Alone, Alone) {
        let mut mailbox = self.mailbox().await;
        // The server lets go of what was read.
        sleep(UPKEEP).await;
        let start = self.start_again().await;
        let first = self.one_after(way, &mut mailbox, Duration::ZERO).await;
        mailbox.close().await;
        (start, first)
    }

    /// Until it is ready.
    async fn start_again(&mut self) -> Alone {
        self.processes.pop().unwrap().stop();
        let server = (fine_cpu_ms(self.server()), written_kib(self.server()));
        let began = Instant::now();
        self.processes.push(self.ground.spawn(Some("bridge")));
        self.ground.ready_within(&self.http, OFTEN).await;
        let ms = began.elapsed().as_secs_f64() * 1e3;
        let bridge = (fine_cpu_ms(self.bridge()), written_kib(self.bridge()));
        Alone {
            ms,
            cpu_ms: (bridge.0, fine_cpu_ms(self.server()) - server.0),
            kib: (bridge.1, written_kib(self.server()) - server.1),
        }
    }

    /// One message after `quiet`, which the first person reads or says.
    async fn one_after(&mut self, way: Way, mailbox: &mut Stream, quiet: Duration) -> Alone {
        let (_, batch) = self.sealed(1).await.swap_remove(0);
        let there = self.sent(0).await;
        sleep(quiet).await;
        let spent = |stage: &Self| {
            [stage.bridge(), stage.server()].map(|id| (fine_cpu_ms(id), written_kib(id)))
        };
        let (before, began) = (spent(self), Instant::now());
        match way {
            Way::ToNative => {
                self.push(1).await;
                comes(mailbox).await;
            }
            Way::ToMatrix => {
                self.people[0].post(&batch).await.unwrap();
                self.sent(there + 1).await;
            }
        }
        let ms = began.elapsed().as_secs_f64() * 1e3;
        sleep(AFTER).await;
        let after = spent(self);
        Alone {
            ms,
            cpu_ms: (after[0].0 - before[0].0, after[1].0 - before[1].0),
            kib: (after[0].1 - before[0].1, after[1].1 - before[1].1),
        }
    }

    /// The bridge and the server in one process on what is there, idle for `quiet`.
    pub(super) async fn both_in_one(mut self, quiet: Duration) -> (Self, u32) {
        while let Some(process) = self.processes.pop() {
            process.stop();
        }
        self.processes.push(self.ground.spawn(None));
        self.ground.ready_within(&self.http, LOOK).await;
        sleep(quiet).await;
        let id = self.processes[0].id();
        (self, id)
    }
}
