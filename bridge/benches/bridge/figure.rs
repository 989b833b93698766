//! What a run of messages took, of time, CPU and commits, and how that is read from `/proc`.

use std::{fmt, fs};

use tokio::time::Instant;

use super::{floor::Floor, stage::Stage};

/// What a run of messages took.
pub(super) struct Figure {
    messages: usize,
    seconds: f64,
    bridge_ms: f64,
    server_ms: f64,
    commits: f64,
}

impl Figure {
    pub(super) const HEAD: &str = "\
| direction | portals | messages/s | CPU of the bridge, ms each | of the server | commits | rows per commit | rate of the floor | CPU of the floor |
|---|---|---|---|---|---|---|---|---|";

    pub(super) fn row(&self, name: &str, portals: usize, floor: Floor) -> String {
        let n = self.messages as f64;
        let (rate, cpu) = (n / self.seconds, self.bridge_ms / n);
        format!(
            "| {name} | {portals} | {rate:.0} | {cpu:.3} | {:.3} | {:.0} | {:.1} | {:.2}× | {:.2}× |",
            self.server_ms / n,
            self.commits,
            n / self.commits,
            rate / floor.rate,
            cpu / floor.cpu_ms,
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
}

/// Reads before and after.
pub(super) struct Meter {
    began: Instant,
    bridge_ms: f64,
    server_ms: f64,
    commits: f64,
}

impl Meter {
    pub(super) async fn start(stage: &Stage) -> Self {
        let commits = stage.commits().await;
        Self {
            commits,
            bridge_ms: cpu_ms(stage.bridge()),
            server_ms: cpu_ms(stage.server()),
            began: Instant::now(),
        }
    }

    pub(super) async fn read(self, stage: &Stage, messages: usize) -> Figure {
        let seconds = self.began.elapsed().as_secs_f64();
        Figure {
            messages,
            seconds,
            bridge_ms: cpu_ms(stage.bridge()) - self.bridge_ms,
            server_ms: cpu_ms(stage.server()) - self.server_ms,
            commits: stage.commits().await - self.commits,
        }
    }
}

/// CPU time of a process, user and system, in milliseconds (100 ticks a second on Linux).
pub(super) fn cpu_ms(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<f64> = after.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) * 10.0
}

/// Resident memory of a process.
pub(super) fn rss(process: u32) -> Mebibytes {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    Mebibytes(kib / 1024.0)
}

/// An amount of memory.
pub(super) struct Mebibytes(f64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0)
    }
}
