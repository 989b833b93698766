//! Native servers in one process, each in a runtime of its own that can be dropped as a process is, with its
//! agent, and one stub that is the homeserver of each: what agents send each other, and rooms of theirs.

mod homeserver;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use causeway_bridge::{
    clock,
    domain::ghost::Names,
    gateway::{door::Door, matrix::Matrix},
    health::Troubles,
    secret::Secret,
    services::agent::{self, Agent},
    steps::Steps,
};
use causeway_livekit::ports::free_port;
use causeway_server::{App, Config, EdgeLimits, TokenHash, admin::behind_token};
use sqlx::{AssertSqlSafe, ConnectOptions as _, sqlite::SqliteConnectOptions};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    harness::database,
    people::{PATIENCE, Person},
};

const TOKEN: &str = "token of people";
const DOOR_TOKEN: &str = "token of the door";
/// How long the tasks of a dead process may take to be gone.
const GONE: Duration = Duration::from_secs(30);
/// How long is gathered how far messages came.
const GATHERED: Duration = Duration::from_millis(20);

/// Before it is looked again.
const AGAIN: Duration = Duration::from_millis(10);

/// Waits until it is so; whether it came to be.
pub(crate) async fn until(mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let so = async {
        while !is_so().await {
            tokio::time::sleep(AGAIN).await;
        }
    };
    timeout(PATIENCE, so).await.is_ok()
}

/// One server: its native half and its agent.
pub(crate) struct Half {
    name: &'static str,
    address: SocketAddr,
    homeserver: String,
    folder: tempfile::TempDir,
    /// By how much its clock is ahead, milliseconds.
    ahead: Arc<AtomicU64>,
    running: Option<(Runtime, App)>,
}

/// So many servers, which reach each other.
#[expect(clippy::disallowed_methods, reason = "a stub beside the test")]
pub(crate) async fn federation<const N: usize>(names: [&'static str; N]) -> [Half; N] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let homeserver = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(homeserver::serve(listener));
    let ahead = Arc::new(AtomicU64::new(0));
    let mut halves = names.map(|name| Half {
        name,
        address: SocketAddr::from(([127, 0, 0, 1], free_port().unwrap())),
        homeserver: homeserver.clone(),
        folder: tempfile::tempdir().unwrap(),
        ahead: Arc::clone(&ahead),
        running: None,
    });
    for half in &mut halves {
        half.start(Steps::default(), false).await;
    }
    halves
}

impl Half {
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    fn app(&self) -> &App {
        &self.running.as_ref().unwrap().1
    }

    pub(crate) async fn person(&self, name: &str) -> Person {
        let url = format!("http://{}", self.address);
        Person::register(&url, &format!("{name}:{}", self.name), TOKEN).await
    }

    /// Begins on the files that are there; `put_back`: as after a restore.
    pub(crate) async fn start(&mut self, steps: Steps, put_back: bool) {
        let mut config = Config::new(self.name, self.database());
        config.registration_token = Some(TokenHash::of(TOKEN));
        config.relay_token = Some(TokenHash::of(DOOR_TOKEN));
        config.relay_gathers = GATHERED;
        config.put_back = put_back;
        // Everybody here comes from one address.
        config.edge = EdgeLimits { per_address: 10_000, requests: None, ..EdgeLimits::default() };
        let by = Arc::clone(&self.ahead);
        let now = move || clock::now().plus_ms(by.load(Ordering::Relaxed));
        let (address, homeserver, name) = (self.address, self.homeserver.clone(), self.name);
        let folder = self.folder.path().to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (tell, started) = oneshot::channel();
        runtime.spawn(async move {
            let app = App::open(config, causeway_server::Clock::new(now)).await.unwrap();
            let listener = TcpListener::bind(address).await.unwrap();
            let agent = Agent {
                db: database(&folder).await,
                matrix: Matrix::new(&homeserver, Secret::new("as_token")).unwrap(),
                door: Door::new(&format!("http://{address}"), Secret::new(DOOR_TOKEN)).unwrap(),
                names: Names::new(name).unwrap(),
                troubles: Troubles::default(),
                steps,
            };
            assert!(tell.send(app.clone()).is_ok());
            tokio::join!(
                app.serve(listener, CancellationToken::new()),
                agent::run(&agent, std::future::pending()),
            );
        });
        let app = started.await.unwrap();
        self.running = Some((runtime, app));
    }

    /// Drops the process image: nothing is finished, nothing is said to anybody.
    pub(crate) async fn drop_dead(&mut self) {
        let (runtime, app) = self.running.take().unwrap();
        drop(app);
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(GONE)).await.unwrap();
    }

    /// The same, and it begins again at once.
    pub(crate) async fn dies_and_begins(&mut self, steps: Steps) {
        self.drop_dead().await;
        self.start(steps, false).await;
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("server.db")
    }

    /// Makes a copy of its database.
    pub(crate) async fn copy(&self) {
        let options = SqliteConnectOptions::new().filename(self.database());
        let to = self.folder.path().join("copy.db");
        let copy = AssertSqlSafe(format!("VACUUM INTO '{}'", to.display()));
        sqlx::query(copy).execute(&mut options.connect().await.unwrap()).await.unwrap();
    }

    /// Puts it back to its copy, and begins as after a restore.
    pub(crate) async fn put_back(&mut self, steps: Steps) {
        self.drop_dead().await;
        for gone in ["server.db-wal", "server.db-shm"] {
            let _ = fs::remove_file(self.folder.path().join(gone));
        }
        fs::rename(self.folder.path().join("copy.db"), self.database()).unwrap();
        self.start(steps, true).await;
    }

    /// Lets so much time pass at once for all of them, of which this one does what is due then.
    pub(crate) async fn pass(&self, ms: u64) {
        self.ahead.fetch_add(ms, Ordering::Relaxed);
        self.upkeep().await;
    }

    /// Does what is due by now.
    pub(crate) async fn upkeep(&self) {
        self.app().upkeep().await.unwrap();
    }

    /// What it shows its operator of another server.
    pub(crate) async fn shown(&self, other: &str) -> serde_json::Value {
        let admin = behind_token(self.app().admin(), TokenHash::of("right"));
        let request = Request::get(format!("/servers/{other}"));
        let request = request.header("authorization", "Bearer right").body(Body::empty()).unwrap();
        let answer = admin.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{other}");
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some((runtime, _)) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}
