//! What `/proc` says of a process.

use std::{fmt, fs};

/// CPU time of a process, user and system, in milliseconds (100 ticks a second on Linux).
pub(super) fn cpu_ms(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<f64> = after.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) * 10.0
}

/// What the threads of a process that are alive have used, in milliseconds: to the nanosecond, where
/// one message is less than a tick.
pub(super) fn fine_cpu_ms(process: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |path: std::path::PathBuf| {
        let told = fs::read_to_string(path.join("schedstat")).ok()?;
        told.split(' ').next()?.parse::<f64>().ok()
    };
    threads.filter_map(|thread| of(thread.ok()?.path())).sum::<f64>() / 1e6
}

/// What a process has caused to be written to the disk.
pub(super) fn written_kib(process: u32) -> f64 {
    let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse::<f64>().unwrap() / 1024.0
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
