//! Processes that listen on free ports, with their files in a folder of their own.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use causeway_bridge::{
    config::{Config, HourlyRate, Limits, Rate},
    demo::causeway::Listeners,
    init::{self, REGISTRATION_TOKEN},
    registration::Registration,
};
use tokio::time::sleep;

use super::LOOK;

pub(super) const SERVER: &str = "b.example";

/// A process that ends with its handle.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it in order, as a service manager does.
    pub(super) fn stop(mut self) {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(asked.success());
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A homeserver that answers at once, and the files of a Causeway that belongs to it.
pub(super) struct Ground {
    pub(super) homeserver: String,
    pub(super) config: Config,
    pub(super) registration: Registration,
    pub(super) listeners: Listeners,
    /// Where the server's own probes and metrics are, beside the bridge's.
    pub(super) probes: SocketAddr,
    dir: PathBuf,
    _stub: Process,
    _folder: tempfile::TempDir,
}

impl Ground {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        let listeners = Listeners::free().unwrap();
        let probes = Listeners::free().unwrap().appservice;
        let registration = Registration::anew(SERVER, &listeners.appservice_url(), None).unwrap();
        let (homeserver, stub) = start_homeserver(&listeners, &registration);
        let mut config = Config::default();
        SERVER.clone_into(&mut config.homeserver.server_name);
        config.homeserver.address.clone_from(&homeserver);
        config.appservice.listen = listeners.appservice;
        config.appservice.address.clone_from(&registration.url);
        config.native.listen = listeners.native;
        config.native.address = listeners.native_url();
        config.bridge.rooms_per_day = 0;
        config.limits = plenty();
        "error".clone_into(&mut config.logging.level);
        let yaml = registration.to_yaml().unwrap();
        init::replace_private(&dir.join(&config.appservice.registration), yaml.as_bytes()).unwrap();
        init::init(&dir.join("causeway.yaml"), &config).unwrap();
        Self {
            homeserver,
            config,
            registration,
            listeners,
            probes,
            dir,
            _stub: stub,
            _folder: folder,
        }
    }

    /// Both parts in one process, or one of them.
    pub(super) fn spawn(&self, only: Option<&str>) -> Process {
        // Another build of the binary can be measured by the same clients.
        let binary = env::var_os("CAUSEWAY_BENCH_BINARY");
        let mut command =
            Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_causeway").into()));
        command.arg("run").arg("--config").arg(self.dir.join("causeway.yaml"));
        if let Some(part) = only {
            command.args(["--only", part]);
        }
        if only == Some("server") {
            command.env("CAUSEWAY__APPSERVICE__LISTEN", self.probes.to_string());
        }
        Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Waits until the bridge is ready.
    pub(super) async fn ready(&self, http: &reqwest::Client) {
        self.ready_within(http, LOOK).await;
    }

    /// The same, and knows it so soon after.
    pub(super) async fn ready_within(&self, http: &reqwest::Client, look: Duration) {
        let url = format!("{}/ready", self.listeners.appservice_url());
        while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            sleep(look).await;
        }
    }

    pub(super) fn registration_token(&self) -> String {
        let file = self.dir.join(self.config.data_file(REGISTRATION_TOKEN));
        init::read_token(&file).unwrap().expose().to_owned()
    }
}

/// What a thousand portals take that are made at once by a few people.
fn plenty() -> Limits {
    let rate = Rate { per_minute: 1_000_000, burst: 1_000_000 };
    let hourly = HourlyRate { per_hour: 1_000_000, burst: 1_000_000 };
    Limits {
        groups: 1_000_000,
        new_groups: hourly,
        strangers: hourly,
        ops: rate,
        op_kib: rate,
        claims: rate,
        key_uploads: rate,
        key_reports: rate,
        requests: rate,
        traffic_kib: rate,
        ..Limits::default()
    }
}

fn start_homeserver(listeners: &Listeners, registration: &Registration) -> (String, Process) {
    let mut child = Command::new(env::current_exe().unwrap())
        .env("CAUSEWAY_BENCH_ROLE", "homeserver")
        .env("BRIDGE_URL", listeners.appservice_url())
        .env("HS_TOKEN", registration.hs_token.expose())
        .env("SENDER_LOCALPART", &registration.sender_localpart)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (format!("http://{}", line.trim()), Process(child))
}
