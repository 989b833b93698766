//! The real server in a process of its own, for benches that measure what stands before it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use causeway_protocol::{api::Registration, ids::Timestamp};
use causeway_server::{AccountQuotas, App, Clock, Config, EdgeLimits, GuestQuotas};
use tokio_util::sync::CancellationToken;

/// Where the process that serves finds its folder.
pub(crate) const FOLDER: &str = "CAUSEWAY_BENCH_SERVE";

/// The server in a process of its own, killed on drop.
pub(crate) struct Served {
    child: Child,
    pub(crate) base: String,
}

impl Served {
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let base = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("listening on ").map(|(_, address)| format!("http://{address}"))
        });
        Self { child, base: base.expect("it listens") }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until it is killed; says its address on standard output. All are of one address here, and
/// one account does in a minute what others do in a week.
pub(crate) async fn serve(server: &str, now: fn() -> Timestamp, folder: &Path) {
    let mut config = Config::new(server, folder.join("server.db"));
    config.registration = Registration::Open;
    config.claims_per_hour = 20_000;
    config.guests = GuestQuotas { register: None, login: None, link: None };
    config.edge = EdgeLimits { per_address: 20_000, requests: None, ..EdgeLimits::default() };
    config.accounts = AccountQuotas {
        envelopes: None,
        ops: None,
        op_kib: None,
        strangers: None,
        claims: None,
        keys: None,
        envelope_kib: None,
        traffic_kib: None,
        ..AccountQuotas::default()
    };
    let app = App::open(config, Clock::new(now)).await.expect("opens");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("listening on {}", listener.local_addr().expect("bound"));
    app.serve(listener, CancellationToken::new()).await;
}
