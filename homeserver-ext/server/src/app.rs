//! The composition root: opens the database, serves the API, keeps the house.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use causeway_protocol::ids::{DeviceId, Generation, StreamId, Timestamp, is_server_name};
use causeway_store::{Agreed, Db, Lock, OpenError, Options};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    figures::Figures,
    gateway::livekit::LiveKit,
    http::{self, Api, Clock, Guests, Streams, edge::Edge},
    live::Live,
    quota::{AccountQuotas, CallShares, EdgeLimits, GuestQuotas, Hits, Present, Shares},
    services::{
        calls::{self, Among, Due},
        delivery::parked,
        events, kept,
        servers::{Servers, Silent},
        upkeep,
    },
    sessions::Sessions,
    storage::{self, GroupRow, calls::Person, mailbox},
};

/// How often calls are looked after.
const CALLS: Duration = Duration::from_millis(500);
/// How long requests and streams may take to end.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// The native server.
#[derive(Clone)]
pub struct App {
    api: Api,
    /// Behind which group upkeep goes on to look for what all have read.
    looked: Arc<Mutex<GroupRow>>,
    /// Likewise, for accounts of other servers and these.
    elsewhere: Arc<Mutex<upkeep::elsewhere::Looked>>,
    /// When rooms of calls are looked into again.
    due: Arc<tokio::sync::Mutex<Due>>,
}

/// Why a server was not opened.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Set it.
    #[error("`{0}` is not a server name of the form example.org or example.org:8448")]
    ServerName(String),
    /// The operating system's; nothing works without.
    #[error("no randomness: {0}")]
    Entropy(#[from] getrandom::Error),
    /// What the database says.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database is there, and takes nothing.
    #[error("server.db cannot be written: {0}")]
    Begin(#[from] causeway_store::Error),
}

impl App {
    /// Opens the database, which no other process may have open, and brings it up to date.
    ///
    /// # Errors
    /// [`AppError`]; nothing was written where the configuration is wrong, the database is in use
    /// or newer than this program.
    pub async fn open(config: Config, clock: Clock) -> Result<Self, AppError> {
        if !is_server_name(&config.server_name) {
            return Err(AppError::ServerName(config.server_name));
        }
        let mut generation = [0; Generation::LEN];
        getrandom::fill(&mut generation)?;
        let generation = Generation::new(generation);
        let schemas = [storage::SCHEMA];
        let path = config.database.clone();
        let db = Db::open(Options { path, lock: Lock::Exclusive, schemas: &schemas }).await?;
        kept::begin(&db, &generation).await?;
        let live = Live::default();
        if config.put_back {
            kept::was_put_back(&db, clock.now()).await?;
            calls::put_back(&db, &live, clock.now()).await.or_else(stored_or_read)?;
            tracing::warn!("server.db was put back: groups may name accounts that it lost");
        }
        let hits = Hits::default();
        let limits = Present::new(config.accounts, config.guests, config.edge);
        let mut stream = [0; StreamId::LEN];
        getrandom::fill(&mut stream)?;
        let streams = kept::name_numbers(&db, StreamId::new(stream), config.put_back).await?;
        let servers = Arc::new(Servers::new(
            (&config.server_name, streams),
            (config.relay_token.map(|_| config.relay_patience), config.relay_gathers),
            config.others.clone(),
        ));
        let due = Due::new(config.put_back);
        let api = Api {
            db,
            probe: Arc::default(),
            shares: Arc::new(Shares::new(limits.accounts.subscribe(), hits.clone())),
            calls: Arc::new(CallShares::new(hits.clone())),
            livekit: config.livekit.clone().map(LiveKit::new).map(Arc::new),
            abroad: Arc::default(),
            beside: Arc::default(),
            hits,
            limits: Arc::new(limits),
            config: Arc::new(config),
            clock,
            agreed: Arc::new(Agreed::default()),
            guests: Arc::new(Guests::default()),
            streams: Arc::new(Streams::new(generation)),
            live,
            sessions: Sessions::default(),
            acks: Arc::default(),
            links: Arc::default(),
            servers,
            sockets: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        let due = Arc::new(tokio::sync::Mutex::new(due));
        let looked = Arc::new(Mutex::new(mailbox::NO_GROUP));
        Ok(Self { api, looked, elsewhere: Arc::default(), due })
    }

    /// Serves the native API and `/ready` on `listener` until `stop` is cancelled; then ends requests
    /// and streams in order and closes the database.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let config = &self.api.config;
        let proxies = config.trusted_proxies.clone();
        let limits = self.api.limits.edge.subscribe();
        let edge = Edge::new("native", limits, proxies, self.api.clock.clone())
            .with_hits(self.api.hits.clone());
        let stopping = self.api.stopping.clone();
        let served =
            edge.serve(listener, http::router(self.api.clone()), |peer| peer, stop.clone());
        let served = async {
            tokio::select! {
                () = served => {}
                () = async {
                    stop.cancelled().await;
                    stopping.cancel();
                    sleep(LAST_WORDS).await;
                } => tracing::warn!("some requests did not end in time"),
            }
        };
        let all = async {
            tokio::select! {
                () = self.beside_upkeep(served) => {}
                never = self.tend_calls() => match never {},
                never = self.tend_rooms() => match never {},
            }
            self.close().await;
        };
        let now = || self.api.clock.now();
        // Streams acknowledge until they are closed.
        tokio::select! {
            () = all => {}
            never = self.api.acks.run(&self.api.db, now) => match never {},
        }
    }

    /// Has these limits count from now on, instead of those of its [`Config`]. What was taken before is
    /// taken, and whoever is connected stays.
    pub fn set_limits(&self, accounts: AccountQuotas, guests: GuestQuotas, edge: EdgeLimits) {
        self.api.limits.set(accounts, guests, edge);
    }

    /// Ends the streams and closes the database.
    async fn close(&self) {
        self.api.stopping.cancel();
        self.api.sockets.close();
        if timeout(LAST_WORDS, self.api.sockets.wait()).await.is_err() {
            tracing::debug!("some streams ended without a word");
        }
        self.api.db.close().await;
    }

    /// Does all upkeep that is due by the clock, as it is now.
    ///
    /// # Errors
    /// The database's own.
    pub async fn upkeep(&self) -> Result<(), causeway_store::Error> {
        self.upkeep_of(self.api.clock.now()).await
    }

    /// Does the upkeep that is due for certain: two looks at the clock, a minute apart, agree on it.
    /// `steady` is how long this server has run.
    ///
    /// # Errors
    /// The database's own.
    pub async fn upkeep_for_certain(&self, steady: Duration) -> Result<(), causeway_store::Error> {
        let agreed = self.api.agreed.now_ms(steady, self.api.clock.now().0);
        self.upkeep_of(Timestamp(agreed)).await
    }

    /// Does what is due in calls by the clock, as it is now, and takes in whose stream is lost.
    ///
    /// # Errors
    /// The database's own.
    pub async fn tick_calls(&self) -> Result<(), causeway_store::Error> {
        let (db, live) = (&self.api.db, &self.api.live);
        let all = async {
            // Who is there is known as of now, and nobody is put out by a later clock than that.
            let now = self.api.clock.now();
            let (here, servers) = (&*self.api.config.server_name, &self.api.servers);
            let is_there = |device: DeviceId, person: &Person| match person.account.server() {
                server if server == here => self.api.streams.has(person.device()),
                server => servers.is_there(server, device),
            };
            let elsewhere = calls::presence((db, live), now, here, is_there).await?;
            if let Err(error) = servers.ask_who_is_there((db, now), elsewhere).await {
                tracing::warn!(%error, "other servers were not asked who is there; they are again");
            }
            while calls::tick(db, live, now).await? {}
            Ok(())
        };
        all.await.or_else(stored_or_read)
    }

    /// Looks after the calls for as long as one runs, and waits for one while none does.
    async fn tend_calls(&self) -> std::convert::Infallible {
        let mut due = tokio::time::interval(CALLS);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ticked = self.tick_calls().await;
            let is_quiet = match ticked {
                Ok(()) => calls::is_quiet(&self.api.db).await.unwrap_or(false),
                Err(error) => {
                    tracing::warn!(%error, "calls were not looked after; it is tried again");
                    false
                }
            };
            if is_quiet {
                self.api.live.calls_moved().await;
            }
            due.tick().await;
        }
    }

    /// Looks into the rooms of calls on the server for bigger calls: those that are due, and those of which
    /// something was heard. Whether there are any.
    ///
    /// # Errors
    /// The database's own.
    pub async fn tick_rooms(&self) -> Result<bool, causeway_store::Error> {
        let (db, live, livekit) = (&self.api.db, &self.api.live, self.api.livekit.as_deref());
        let mut due = self.due.lock().await;
        let heard = live.rooms_heard();
        let among = Among { db, live, livekit, now: self.api.clock.now() };
        match calls::reconcile(among, &mut due, &heard).await {
            Ok(any) => Ok(any),
            Err(error) => stored_or_read(error).map(|()| true),
        }
    }

    /// Why LiveKit is away, if calls have one and it is.
    pub fn livekit_away(&self) -> Option<String> {
        self.api.livekit.as_ref()?.why_away()
    }

    /// Looks into rooms for as long as there are any, and waits for one while there are none.
    async fn tend_rooms(&self) -> std::convert::Infallible {
        let mut due = tokio::time::interval(CALLS);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let has_rooms = self.tick_rooms().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "rooms of calls were not looked into; it is tried again");
                true
            });
            tokio::select! {
                () = self.api.live.rooms_moved() => {}
                _ = due.tick(), if has_rooms => {}
            }
        }
    }

    async fn upkeep_of(&self, now: Timestamp) -> Result<(), causeway_store::Error> {
        let all = async {
            let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            let looked = upkeep::let_go(&self.api.db, looked).await?;
            *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = looked;
            upkeep::count(&self.api.db, self.api.clock.now(), now, &self.api.shares).await?;
            while parked::drop_left(&self.api.db, self.api.clock.now()).await? {}
            while upkeep::purge(&self.api.db, &self.api.live, self.api.clock.now(), now).await? {}
            self.api.links.let_go(self.api.clock.now());
            let looked = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let servers = &self.api.servers;
            let links = (|name: &str| servers.may_forget(name), |name: &str| servers.forget(name));
            let looked = upkeep::elsewhere::forget((&self.api.db, now), links, looked).await?;
            *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = looked;
            kept::let_go(&self.api.db, now, self.api.config.keep_read).await?;
            events::prune(&self.api.db, now).await?;
            while calls::forget(&self.api.db, now).await? {}
            Ok(())
        };
        all.await.or_else(stored_or_read)
    }

    /// How full the server is now.
    ///
    /// # Errors
    /// The database's own.
    pub async fn figures(&self) -> Result<Figures, causeway_store::Error> {
        let (sizes, counts) = (self.api.db.sizes(), self.api.db.counts());
        let figures = match upkeep::totals(&self.api.db, self.api.clock.now()).await {
            Ok(figures) => figures,
            Err(storage::Error::Store(error)) => return Err(error),
            Err(storage::Error::Row(_) | storage::Error::Entropy(_)) => Figures::default(),
        };
        Ok(Figures {
            db_bytes: sizes.db_bytes,
            wal_bytes: sizes.wal_bytes,
            transactions: counts.transactions,
            commits: counts.commits,
            long_transactions: counts.long,
            ..figures
        })
    }

    /// Sets the gauges of this process's metrics to how full the server is now; before they are
    /// shown.
    ///
    /// # Errors
    /// The database's own; the gauges stay as they were.
    pub async fn measure(&self) -> Result<(), causeway_store::Error> {
        self.figures().await.map(|figures| figures.gauge())
    }

    /// Other servers that are spoken with, and with which nothing goes on; nobody has paused them.
    pub async fn silent_servers(&self) -> Vec<Silent> {
        self.api.servers.silent(self.api.clock.now()).await
    }

    /// How long acknowledgements wait for whoever writes next, from now on, instead of 25 ms.
    pub fn soon_is(&self, longest: Duration) {
        self.api.db.soon_is(longest);
    }

    /// Whether the database takes what is written.
    pub async fn is_well(&self) -> bool {
        self.api.probe.is_well(&self.api.db, "server").await
    }

    /// What the operator may ask of this server, to be merged into the router of his API; only with
    /// his token ([`behind_token`](http::admin::behind_token)).
    pub fn admin<S>(&self) -> Router<S> {
        http::admin::router(self.api.clone())
    }

    async fn beside_upkeep<T>(&self, serving: impl Future<Output = T>) -> T {
        let upkeep = async {
            // An interval of nothing would be refused with a panic.
            let interval = self.api.config.cleanup_interval.max(Duration::from_millis(1));
            let began = Instant::now();
            let mut due = tokio::time::interval(interval);
            due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                due.tick().await;
                if let Err(error) = self.upkeep_for_certain(began.elapsed()).await {
                    tracing::warn!(%error, "upkeep failed; it is tried again");
                }
                if let Err(error) = self.measure().await {
                    tracing::warn!(%error, "the mailboxes cannot be counted");
                }
            }
        };
        tokio::select! {
            done = serving => done,
            never = upkeep => never,
        }
    }
}

/// The database's own; a row that cannot be read stops nothing, nor does what comes to nothing once.
fn stored_or_read(error: storage::Error) -> Result<(), causeway_store::Error> {
    match error {
        storage::Error::Store(error) => Err(error),
        error @ storage::Error::Row(_) => {
            tracing::error!(%error, "upkeep met a row that it cannot read");
            Ok(())
        }
        error @ storage::Error::Entropy(_) => {
            tracing::error!(%error, "upkeep goes on without it");
            Ok(())
        }
    }
}
