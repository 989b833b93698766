//! All of it in one process: the native server, people, a stub homeserver, and a bridge that can be
//! dropped at any step and begun again on the same files.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use causeway_bridge::{
    clock,
    domain::{
        ghost::Names,
        share::{Pattern, Terms},
    },
    gateway::{matrix::Matrix, native},
    health::{Health, Troubles},
    http::{Connection, Http, Parts, Tokens, router},
    secret::Secret,
    services::{
        Clock, Spine, calls, chores, deliver, encryption::Encryption, errands, from_matrix,
        from_native, reconcile, restored, rooms, session,
    },
    steps::Steps,
    storage::{SCHEMA, sealed::Sealer, stats},
};
use causeway_groups::{Vault, machine};
use causeway_server::{App, Config, Edge, EdgeLimits, Proxies, TokenHash};
use causeway_store::{Db, Lock, Options};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{START, focus},
    people::{PATIENCE, Person},
    stub::Stub,
};

const SERVER: &str = "b.example";
const TOKEN: &str = "token of people";
const BRIDGE_TOKEN: &str = "token of the bridge";
/// Longest between two looks for events.
const MOMENT: Duration = Duration::from_millis(50);
/// Between two looks of the native server at what is due.
const UPKEEP: Duration = Duration::from_secs(10);
const HS_TOKEN: &str = "token of the homeserver";

pub(crate) struct World {
    pub(crate) stub: Stub,
    pub(crate) metrics: PrometheusHandle,
    native_url: String,
    stop: CancellationToken,
    server: JoinHandle<()>,
    /// The native server, for what it does when its clock says so.
    pub(crate) app: App,
    /// What bridges do for one account.
    pub(crate) terms: watch::Sender<Terms>,
    /// By how much its clock is ahead, milliseconds.
    ahead: Arc<AtomicU64>,
    pub(crate) folder: tempfile::TempDir,
    pushed: usize,
    transactions: usize,
    /// What events are pushed over, where the homeserver keeps its connection.
    pub(crate) kept: Option<reqwest::Client>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
    }
}

/// A bridge that runs.
pub(crate) struct Running {
    pub(crate) spine: Spine,
    pub(crate) url: String,
    passed: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

#[expect(clippy::disallowed_methods, reason = "processes of the test's world")]
impl World {
    pub(crate) async fn new() -> Self {
        Self::with_upkeep(UPKEEP).await
    }

    /// The same, whose native server does what is due so often.
    pub(crate) async fn with_upkeep(every: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(SERVER, folder.path().join("server.db"));
        config.cleanup_interval = every;
        config.registration_token = Some(TokenHash::of(TOKEN));
        config.bridge_registration_token = Some(TokenHash::of(BRIDGE_TOKEN));
        // Everybody here comes from one address.
        config.edge = EdgeLimits { per_address: 10_000, requests: None, ..EdgeLimits::default() };
        let ahead = Arc::new(AtomicU64::new(0));
        let by = Arc::clone(&ahead);
        let now = move || clock::now().plus_ms(by.load(Ordering::Relaxed));
        let app = App::open(config, causeway_server::Clock::new(now)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let native_url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let server = tokio::spawn(app.clone().serve(listener, stop.clone()));
        let stub = Stub::start().await;
        stub.look(|rooms| rooms.ahead = clock::now().0 - START);
        Self {
            stub,
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            native_url,
            stop,
            server,
            app,
            terms: watch::Sender::new(Terms {
                allow: vec![Pattern::parse("*", SERVER).unwrap()],
                rooms: Some(10),
                invites: Some(50),
            }),
            ahead,
            folder,
            pushed: 0,
            transactions: 1,
            kept: None,
        }
    }

    /// Ends the native server; it does not come back.
    pub(crate) async fn end_server(&mut self) {
        self.stop.cancel();
        (&mut self.server).await.unwrap();
    }

    /// Lets so much time pass on the native server at once, and does what is due then.
    pub(crate) async fn pass_on_server(&self, ms: u64) {
        self.ahead.fetch_add(ms, Ordering::Relaxed);
        self.app.upkeep().await.unwrap();
    }

    /// Copies a database of a bridge that does not run.
    pub(crate) fn copy_bridge(&self, from: &str, to: &str) {
        let at = |name: &str| self.folder.path().join(name);
        for beside in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(at(&format!("{to}{beside}")));
        }
        std::fs::copy(at(from), at(to)).unwrap();
    }

    /// Done when everybody has acknowledged everything.
    pub(crate) async fn all_is_read(&self) {
        loop {
            self.app.upkeep().await.unwrap();
            if self.app.figures().await.unwrap().mailbox_rows == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn person(&self, name: &str) -> Person {
        Person::register(&self.native_url, &format!("{name}:{SERVER}"), TOKEN).await
    }

    /// Begins a bridge on the files that the last one left.
    pub(crate) async fn begin(&self, steps: Steps) -> Running {
        let schemas = &[causeway_groups::SCHEMA, SCHEMA];
        let path = self.folder.path().join("bridge.db");
        let db = Db::open(Options { path, lock: Lock::Exclusive, schemas }).await.unwrap();
        let vault = Vault::open(&db, &self.folder.path().join("storage.key")).await.unwrap();
        let (names, sealer) = (Names::new(SERVER).unwrap(), Sealer(vault.clone()));
        if let Some(known) = machine::put_back(&db).await.unwrap() {
            restored::go_on(&db, clock::now(), known).await.unwrap();
        }
        let clock: Clock = Arc::new(clock::now);
        let rows = Arc::new(from_native::Router {
            sealer: sealer.clone(),
            names: names.clone(),
            terms: self.terms.subscribe(),
            clock: clock.clone(),
            steps: steps.clone(),
        });
        let (account, token) = (format!("bridge:{SERVER}"), Secret::new(BRIDGE_TOKEN));
        let url = &self.native_url;
        let native =
            native::open(&db, &vault, url, &account, &token, rows, clock::now).await.unwrap();
        native.compare().await.unwrap();
        restored::ask(&db, &sealer, &names, clock::now(), &native).await.unwrap();
        let (began, passed) = (tokio::time::Instant::now(), Arc::<AtomicU64>::default());
        let spine = Spine {
            leases: deliver::Leases::new(&db),
            db,
            sealer,
            matrix: Matrix::new(&self.stub.url, Secret::new("as_token")).unwrap(),
            native,
            names,
            clock,
            steady: {
                let passed = Arc::clone(&passed);
                Arc::new(move || {
                    began.elapsed() + Duration::from_millis(passed.load(Ordering::Relaxed))
                })
            },
            delivery_limit: 5,
            encryption: Encryption::default(),
            markers: deliver::Markers::default(),
            token_taken: watch::Sender::new(true),
            locked_out: watch::Sender::new(None),
            rooms_known: std::sync::Arc::default(),
            rooms_looked: std::sync::Arc::default(),
            forgotten: std::sync::Arc::default(),
            asks: std::sync::Arc::default(),
            calls_told: calls::Told::default(),
            calls_said: calls::Said::default(),
            calls: causeway_bridge::services::calls::InRooms::default(),
            door: None,
            troubles: Troubles::default(),
            steps,
        };
        spine.take_over().await.unwrap();
        let (url, intake) = listen(&spine, self.metrics.clone()).await;
        let mut tasks = vec![intake];
        let forever = std::future::pending::<()>;
        let own = spine.clone();
        tasks.push(tokio::spawn(async move { from_matrix::run(&own, forever()).await }));
        let own = spine.clone();
        tasks.push(tokio::spawn(async move { from_native::run(&own, forever()).await }));
        let own = spine.clone();
        tasks.push(tokio::spawn(async move { reconcile::run(&own, forever()).await }));
        let own = spine.clone();
        tasks.push(tokio::spawn(async move { chores::run(&own, forever()).await }));
        let own = spine.clone();
        tasks.push(tokio::spawn(async move { errands::run(&own, forever()).await }));
        let own = spine.clone();
        tasks.push(tokio::spawn(async move { rooms::run(&own, forever()).await }));
        let own = spine.clone();
        tasks.push(tokio::spawn(async move { session::run(&own, forever()).await }));
        let own = spine.clone();
        tasks.push(tokio::spawn(async move { calls::run(&own, forever()).await }));
        for _ in 0..2 {
            let own = spine.clone();
            tasks.push(tokio::spawn(async move { deliver::run(&own, forever()).await }));
        }
        Running { spine, url, passed, tasks }
    }

    /// Hands over what the stub's rooms have seen since the last time, as a homeserver does: in
    /// order, and again until it is answered with 200. `false`: it was not answered.
    pub(crate) async fn push(&mut self, bridge: &Running) -> bool {
        let events: Vec<Value> = self.stub.look(|rooms| rooms.events[self.pushed..].to_vec());
        if events.is_empty() {
            return true;
        }
        let count = events.len();
        let url = format!("{}/_matrix/app/v1/transactions/{}", bridge.url, self.transactions);
        let answer = (self.kept.clone().unwrap_or_default())
            .put(url)
            .bearer_auth(HS_TOKEN)
            .body(json!({ "events": events }).to_string())
            .send()
            .await;
        let is_taken = answer.is_ok_and(|answer| answer.status() == StatusCode::OK);
        if is_taken {
            self.pushed += count;
            self.transactions += 1;
        }
        is_taken
    }

    /// The homeserver stops before it has handed over what happened, and counts on as if nothing were
    /// missing.
    pub(crate) fn lose(&mut self) {
        self.pushed = self.stub.look(|rooms| rooms.events.len());
    }

    /// Hands events over while `story` goes on.
    pub(crate) async fn during<T>(
        &mut self,
        bridge: &Running,
        story: impl Future<Output = T>,
    ) -> T {
        let story = tokio::time::timeout(PATIENCE, story);
        tokio::pin!(story);
        loop {
            let changed = self.stub.changed();
            self.push(bridge).await;
            tokio::select! {
                told = &mut story => return told.unwrap(),
                () = changed => {}
                () = tokio::time::sleep(MOMENT) => {}
            }
        }
    }

    /// Whether the bridge has everything that happened in the stub's rooms.
    pub(crate) fn all_pushed(&self) -> bool {
        self.stub.look(|rooms| rooms.events.len()) == self.pushed
    }
}

#[expect(clippy::disallowed_methods, reason = "a listener of the test's world")]
async fn listen(spine: &Spine, metrics: PrometheusHandle) -> (String, JoinHandle<()>) {
    let straight = from_matrix::Straight::default();
    straight.open(spine);
    let http = Http::new(Parts {
        db: spine.db.clone(),
        sealer: spine.sealer.clone(),
        names: spine.names.clone(),
        clock: spine.clock.clone(),
        token_taken: spine.token_taken.subscribe(),
        locked_out: spine.locked_out.subscribe(),
        leases: spine.leases.clone(),
        encryption: spine.encryption.clone(),
        straight,
        steps: spine.steps.clone(),
        tokens: Tokens { hs_token: Secret::new(HS_TOKEN), admin: Secret::new("admin") },
        health: Health::default(),
        server: None,
        focus: focus(spine, None),
        metrics,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limits = EdgeLimits { per_address: 10_000, ..EdgeLimits::default() };
    let limits = watch::Sender::new(limits).subscribe();
    let clock = causeway_server::Clock::new(causeway_bridge::clock::now);
    let edge = Edge::new("appservice", limits, Proxies::default(), clock);
    let stop = CancellationToken::new();
    let matrix = spine.matrix.clone();
    let connection = move |_| {
        let matrix = matrix.clone();
        Connection::new(move || matrix.broke_off())
    };
    let serving = edge.serve(listener, router(http), connection, stop);
    (url, tokio::spawn(serving))
}

impl Running {
    /// Drops the process image: nothing is finished, nothing is said to anybody.
    pub(crate) async fn drop_dead(self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        // What remains of a dead process is its files; the lock on them is free again.
        self.spine.db.close().await;
    }

    /// Lets so much time pass at once for whatever waits.
    pub(crate) fn pass(&self, ms: u64) {
        self.passed.fetch_add(ms, Ordering::Relaxed);
    }

    /// Failures of this lane in a row.
    pub(crate) async fn failures(&self, lane: &str) -> u32 {
        let lanes = stats::lanes(&mut self.spine.db.read().await.unwrap()).await.unwrap();
        lanes.iter().find(|known| known.lane == lane).map_or(0, |known| known.failures)
    }

    /// Whether this lane stands still with rows in it.
    pub(crate) async fn is_waiting(&self, lane: &str) -> bool {
        let lanes = stats::lanes(&mut self.spine.db.read().await.unwrap()).await.unwrap();
        lanes.iter().any(|known| known.lane == lane && known.paused.is_some() && known.rows > 0)
    }

    pub(crate) async fn stats(&self) -> stats::Stats {
        stats::read(&mut self.spine.db.read().await.unwrap()).await.unwrap()
    }
}
