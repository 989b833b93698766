//! What a run of messages took, of time, CPU, bytes and commits.

use tokio::time::Instant;

use super::{
    floor::Floor,
    process::{cpu_ms, written_kib},
    stage::Stage,
};

/// What a run of messages took.
pub(super) struct Figure {
    messages: usize,
    seconds: f64,
    bridge: Spent,
    server: Spent,
}

/// What a process has used since it began, or in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) cpu_ms: f64,
    pub(super) kib: f64,
    pub(super) commits: f64,
}

impl Spent {
    fn of(process: u32, commits: f64) -> Self {
        Self { cpu_ms: cpu_ms(process), kib: written_kib(process), commits }
    }

    fn since(self, before: Self) -> Self {
        Self {
            cpu_ms: self.cpu_ms - before.cpu_ms,
            kib: self.kib - before.kib,
            commits: self.commits - before.commits,
        }
    }
}

impl Figure {
    pub(super) const HEAD: &str = "\
| direction | portals | messages/s | CPU of the bridge, ms each | of the server | commits | rows per commit | rate of the floor | CPU of the floor |
|---|---|---|---|---|---|---|---|---|";

    pub(super) fn row(&self, name: &str, portals: usize, floor: Floor) -> String {
        let n = self.messages as f64;
        let (rate, cpu) = (n / self.seconds, self.bridge.cpu_ms / n);
        format!(
            "| {name} | {portals} | {rate:.0} | {cpu:.3} | {:.3} | {:.0} | {:.1} | {:.2}× | {:.2}× |",
            self.server.cpu_ms / n,
            self.bridge.commits,
            n / self.bridge.commits,
            rate / floor.rate,
            cpu / floor.cpu_ms,
        )
    }

    pub(super) const COST_HEAD: &str = "\
| what | portals | messages/s | CPU of the bridge, ms each | of the server | written by the bridge, KiB each | by the server | commits of the bridge each | of the server |
|---|---|---|---|---|---|---|---|---|";

    /// What each message costs, both processes side by side.
    pub(super) fn cost(&self, name: &str, portals: usize) -> String {
        let n = self.messages as f64;
        let Self { bridge, server, .. } = self;
        format!(
            "| {name} | {portals} | {:.0} | {:.3} | {:.3} | {:.1} | {:.1} | {:.2} | {:.2} |",
            n / self.seconds,
            bridge.cpu_ms / n,
            server.cpu_ms / n,
            bridge.kib / n,
            server.kib / n,
            bridge.commits / n,
            server.commits / n,
        )
    }
}

impl Floor {
    pub(super) fn row(&self, rows: usize, portals: usize) -> String {
        format!(
            "| floor, {rows} in a commit | {portals} | {:.0} | {:.3} | | | {rows} | 1 | 1 |",
            self.rate, self.cpu_ms
        )
    }

    pub(super) fn cost(&self, rows: usize, portals: usize) -> String {
        format!(
            "| floor, {rows} in a commit | {portals} | {:.0} | {:.3} | | {:.1} | | {:.2} | |",
            self.rate,
            self.cpu_ms,
            self.kib,
            1.0 / rows as f64
        )
    }
}

/// Reads before and after.
pub(super) struct Meter {
    began: Instant,
    bridge: Spent,
    server: Spent,
}

impl Meter {
    pub(super) async fn start(stage: &Stage) -> Self {
        let (bridge, server) = stage.commits().await;
        Self {
            bridge: Spent::of(stage.bridge(), bridge),
            server: Spent::of(stage.server(), server),
            began: Instant::now(),
        }
    }

    pub(super) async fn read(self, stage: &Stage, messages: usize) -> Figure {
        let seconds = self.began.elapsed().as_secs_f64();
        // What it takes to ask for the commits is none of the messages'.
        let mut bridge = Spent::of(stage.bridge(), 0.0);
        let mut server = Spent::of(stage.server(), 0.0);
        (bridge.commits, server.commits) = stage.commits().await;
        let (bridge, server) = (bridge.since(self.bridge), server.since(self.server));
        Figure { messages, seconds, bridge, server }
    }
}
