//! The Matrix side: checks, listener, and the tasks of the spine.

use std::{
    fmt::Display,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use causeway_groups::{Vault, machine, sdk, vault::VaultError};
use causeway_protocol::ids::Timestamp;
use causeway_server::App;
use causeway_store::{Db, Lock, Options};
use metrics_exporter_prometheus::PrometheusHandle;
use ruma::ServerName;
use tokio::{sync::watch, time::Instant};

use super::{
    RunError, homeserver,
    in_force::InForce,
    listen, native,
    native_side::{self, Side},
    relay_token, supervisor,
    tasks::Tasks,
    token,
};
use crate::{
    clock,
    config::Config,
    domain::ghost::Names,
    gateway::{door::Door, matrix::Matrix, openid::OpenId, public::Public},
    health::{Health, Kind},
    http::{Http, Parts, Tokens, router},
    init::{self, ADMIN_TOKEN, RELAY_TOKEN, STORAGE_KEY},
    registration::Registration,
    secret::Secret,
    services::{
        Clock, Spine,
        agent::{self, Agent},
        calls, chores, delegated, deliver,
        encryption::Encryption,
        errands, expired,
        focus::{self, Focus},
        from_matrix, from_native, late, reconcile, restored, rooms, session, standing, tidy,
    },
    steps::Steps,
    storage::{self, sealed::Sealer},
};

/// Answered refusals after which an effect becomes a dead letter.
const DELIVERY_LIMIT: u32 = 5;
/// How long the homeserver may take to hear how far `bridge.db` has counted.
const LAST_WORD: Duration = Duration::from_secs(1);
/// The bridge's database.
const DATABASE: &str = "bridge.db";
/// Workers, each with as many lanes as there is need.
const WORKERS: u32 = 8;

/// What is on this machine, looked at and found good.
pub(super) struct Opened {
    registration: Registration,
    admin: Secret,
    /// To other servers.
    door: Option<Door>,
    db: Db,
    vault: Vault,
    /// The count beside a database that was put back.
    put_back: Option<u64>,
    after_restore: bool,
}

/// Looks whether the storage key opens the bridge's database, if there is one yet; writes nothing.
/// The native server's holds nothing that is sealed with it.
///
/// # Errors
/// [`RunError::Vault`]
pub async fn check_key(config: &Config) -> Result<(), RunError> {
    let path = config.data_file(DATABASE);
    let checked = Vault::check(&path, &config.data_file(STORAGE_KEY)).await;
    checked.map_err(|error: VaultError| RunError::Vault(path, error))
}

/// Looks at everything that is on this machine, before anything is begun.
pub(super) async fn open(
    config: &Config,
    after_restore: bool,
    tasks: &Tasks,
) -> Result<Opened, RunError> {
    let registration = config.registration()?;
    let admin = token(config, ADMIN_TOKEN)?;
    // Before the database is opened, which may bring its tables up to date.
    check_key(config).await?;
    let (path, key_file) = (config.data_file(DATABASE), config.data_file(STORAGE_KEY));
    let db = Db::open(Options {
        path: path.clone(),
        lock: Lock::Exclusive,
        schemas: &[causeway_groups::SCHEMA, storage::SCHEMA],
    })
    .await?;
    let vault = Vault::open(&db, &key_file);
    let vault = vault.await.map_err(|error| RunError::Vault(path.clone(), error))?;
    // Not before: to close is to write, and with a wrong key nothing is written.
    tasks.close_at_end(&db);
    let put_back = machine::put_back(&db).await.map_err(failed)?;
    if put_back.is_some() && !after_restore {
        return Err(RunError::PutBack(path));
    }
    let door = door(config, &registration)?;
    Ok(Opened { registration, admin, door, db, vault, put_back, after_restore })
}

/// Why there is no agent, and what to do.
const UNCLAIMED: &str = "no other server is spoken with: the registration does not claim the name _causeway. \
    Write it anew with `causeway registration`, copy it to the homeserver, restart that, and then Causeway";

/// How things are at the start.
fn begun(config: &Config, registration: &Registration) -> Health {
    let health = Health::default();
    if !registration.has_agent() && config.data_file(RELAY_TOKEN).exists() {
        health.troubles.stands(Kind::Agent, "start", UNCLAIMED, None);
    }
    health
}

/// The native server's door between servers, where the registration claims the agent and there is a token.
fn door(config: &Config, registration: &Registration) -> Result<Option<Door>, RunError> {
    let Some(token) = relay_token(config) else { return Ok(None) };
    if !registration.has_agent() {
        tracing::warn!("{UNCLAIMED}");
        return Ok(None);
    }
    Door::new(&config.native.address, token).map(Some).map_err(failed)
}

/// The door, for what concerns calls; without its token there is none.
fn calls_door(config: &Config) -> Result<Option<Door>, RunError> {
    let token = init::read_token(&config.data_file(RELAY_TOKEN)).ok();
    token.map(|token| Door::new(&config.native.address, token)).transpose().map_err(failed)
}

/// Who of Matrix is let into calls; without the door nobody.
fn focus(
    config: &Config,
    (db, matrix, names): (&Db, &Matrix, &Names),
) -> Result<Arc<Focus>, RunError> {
    let server = ServerName::parse(names.server()).map_err(failed)?;
    let openid = OpenId::new(matrix.clone(), server, strangers(config)?);
    Ok(Arc::new(Focus::new(focus::Parts {
        db: db.clone(),
        matrix: matrix.clone(),
        names: names.clone(),
        openid,
        door: calls_door(config)?,
        takes_leaves: config.calls.livekit.is_set(),
        other_rooms: config.calls.other_rooms,
        clock: Arc::new(clock::now),
    })))
}

/// Servers that strangers name.
fn strangers(config: &Config) -> Result<Public, RunError> {
    Public::new(config.calls.private_servers).map_err(failed)
}

/// Notes whether the native side is there, and whether other servers take what is for them.
fn watch_neighbours(tasks: &Tasks, native: &sdk::Http, others: Option<App>, health: &Health) {
    tasks.keep("native health", {
        let (http, health) = (native.clone(), health.clone());
        move || native_side::watch(http.clone(), health.clone())
    });
    if let Some(server) = others {
        let troubles = health.troubles.clone();
        tasks.keep("other servers", move || native::watch_others(server.clone(), troubles.clone()));
    }
}

fn failed(error: impl Display) -> RunError {
    RunError::Bridge(error.to_string())
}

/// Notes that nothing was compared yet, and goes on from a copy where the database was put back from one.
async fn note_restore(db: &Db, now: Timestamp, put_back: Option<u64>) -> Result<(), RunError> {
    let mut tx = db.begin().await?;
    storage::restored::is_uncompared(tx.conn()).await.map_err(failed)?;
    tx.commit().await?;
    if let Some(known) = put_back {
        restored::go_on(db, now, known).await.map_err(failed)?;
    }
    Ok(())
}

/// Listens, asks the homeserver, and starts the spine.
///
/// Listening comes before asking: the homeserver's ping must be answered, and events are taken in
/// from the first moment, whatever else is not ready yet.
pub(super) async fn start(
    config: &Config,
    in_force: &InForce,
    opened: Opened,
    server: Option<App>,
    metrics: PrometheusHandle,
    tasks: &Tasks,
) -> Result<(), RunError> {
    let server_name = &config.homeserver.server_name;
    let Opened { registration, admin, door, db, vault, put_back, after_restore } = opened;
    let health = begun(config, &registration);
    let matrix =
        Matrix::new(&config.homeserver.address, registration.as_token.clone()).map_err(failed)?;
    let names = Names::new(server_name)
        .ok_or_else(|| RunError::Bridge(format!("`{server_name}` is no server name")))?;
    let sealer = Sealer(vault.clone());
    let clock: Clock = Arc::new(clock::now);
    note_restore(&db, clock(), put_back).await?;
    let (token_taken, locked_out) = (watch::Sender::new(true), watch::Sender::new(None));
    let steps = Steps::default();
    let others = server.clone();
    let leases = deliver::Leases::new(&db);
    let encryption = Encryption::default();
    let straight = from_matrix::Straight::default();
    let http = Http::new(Parts {
        db: db.clone(),
        sealer: sealer.clone(),
        names: names.clone(),
        clock: Arc::clone(&clock),
        token_taken: token_taken.subscribe(),
        locked_out: locked_out.subscribe(),
        leases: leases.clone(),
        encryption: encryption.clone(),
        straight: straight.clone(),
        steps: steps.clone(),
        tokens: Tokens { hs_token: registration.hs_token.clone(), admin },
        health: health.clone(),
        server,
        focus: focus(config, (&db, &matrix, &names))?,
        metrics,
    });
    let ended = {
        let matrix = matrix.clone();
        move || matrix.broke_off()
    };
    listen(config, in_force, router(http), ended, tasks).await?;
    supervisor::ready();

    homeserver::check(config, &matrix, &names, &registration, &health).await?;
    tasks.keep("ping", {
        let (db, matrix, health) = (db.clone(), matrix.clone(), health.clone());
        move || {
            let (registration, health) = (registration.clone(), health.clone());
            homeserver::keep_pinging(db.clone(), matrix.clone(), registration, health)
        }
    });
    let rows = Arc::new(from_native::Router {
        sealer: sealer.clone(),
        names: names.clone(),
        terms: in_force.terms(),
        clock: Arc::clone(&clock),
        steps: steps.clone(),
    });
    let side = Side {
        config,
        db: &db,
        vault: &vault,
        rows,
        matrix: &matrix,
        names: &names,
        sealer: &sealer,
        health: &health,
        after_restore,
        said: Mutex::default(),
    };
    let native = side.enter(put_back.is_some()).await?;
    health.set_native(Ok(()), native_side::LOOK);
    watch_neighbours(tasks, native.http(), others, &health);
    let began = Instant::now();
    let spine = Spine {
        db: db.clone(),
        sealer,
        matrix,
        native,
        names,
        clock,
        steady: Arc::new(move || began.elapsed()),
        delivery_limit: DELIVERY_LIMIT,
        leases,
        encryption,
        markers: deliver::Markers::default(),
        token_taken,
        locked_out,
        rooms_known: Arc::default(),
        rooms_looked: Arc::default(),
        forgotten: Arc::default(),
        asks: Arc::default(),
        calls_told: calls::Told::default(),
        calls_said: calls::Said::default(),
        calls: in_rooms(config),
        door: calls_door(config)?,
        troubles: health.troubles,
        steps,
    };
    look_abroad(config, tasks, &spine)?;
    begin(tasks, &spine, door, &straight).await
}

/// What calls are in rooms of Matrix.
fn in_rooms(config: &Config) -> calls::InRooms {
    let are_carried = config.calls.livekit.is_set() || !config.calls.focus_url.is_empty();
    calls::InRooms { are_carried, ring: config.calls.room_ring.word() }
}

/// Follows Matrix users who speak on the `LiveKit` of another homeserver.
fn look_abroad(config: &Config, tasks: &Tasks, spine: &Spine) -> Result<(), RunError> {
    let public = strangers(config)?;
    keep(tasks, "calls abroad", spine, move |spine| {
        let public = public.clone();
        async move { calls::abroad::run(&spine, &public).await }
    });
    Ok(())
}

/// Takes over what the process before left, and lets all of it go on.
async fn begin(
    tasks: &Tasks,
    spine: &Spine,
    door: Option<Door>,
    straight: &from_matrix::Straight,
) -> Result<(), RunError> {
    spine.take_over().await.map_err(failed)?;
    straight.open(spine);
    start_services(tasks, spine, door);
    say_last_word(tasks, spine);
    Ok(())
}

/// At the end, for whoever puts back a copy that is made then.
fn say_last_word(tasks: &Tasks, spine: &Spine) {
    let (spine, stop) = (spine.clone(), tasks.token());
    tasks.run(async move {
        stop.cancelled().await;
        let told = tokio::time::timeout(LAST_WORD, standing::tell(&spine, None)).await;
        tracing::debug!(?told, "told the homeserver how far bridge.db has counted");
    });
}

fn start_services(tasks: &Tasks, spine: &Spine, door: Option<Door>) {
    if let Some(door) = door {
        let (matrix, names, db) = (spine.matrix.clone(), spine.names.clone(), spine.db.clone());
        let (troubles, steps) = (spine.troubles.clone(), spine.steps.clone());
        let agent = Agent { matrix, door, names, db, troubles, steps };
        tasks.keep("agent", move || {
            let agent = agent.clone();
            async move { agent::run(&agent, pending()).await }
        });
    }
    keep(tasks, "from_matrix", spine, |spine| async move {
        from_matrix::run(&spine, pending()).await;
    });
    keep(tasks, "from_native", spine, |spine| async move {
        from_native::run(&spine, pending()).await;
    });
    keep(tasks, "reconcile", spine, |spine| async move {
        reconcile::run(&spine, pending()).await;
    });
    keep(tasks, "rooms", spine, |spine| async move { rooms::run(&spine, pending()).await });
    keep(tasks, "session", spine, |spine| async move { session::run(&spine, pending()).await });
    keep(tasks, "chores", spine, |spine| async move { chores::run(&spine, pending()).await });
    keep(tasks, "calls", spine, |spine| async move { calls::run(&spine, pending()).await });
    keep(tasks, "delegated", spine, |spine| async move {
        delegated::run(&spine, pending()).await;
    });
    keep(tasks, "expired", spine, |spine| async move { expired::run(&spine, pending()).await });
    keep(tasks, "late", spine, |spine| async move { late::run(&spine, pending()).await });
    keep(tasks, "errands", spine, |spine| async move { errands::run(&spine, pending()).await });
    keep(tasks, "standing", spine, |spine| async move { standing::run(&spine, pending()).await });
    keep(tasks, "tidy", spine, |spine| async move { tidy::run(&spine, pending()).await });
    keep(tasks, "paused", spine, |spine| async move {
        deliver::run_paused(&spine, pending()).await;
    });
    for _ in 0..WORKERS {
        keep(tasks, "deliver", spine, |spine| async move { deliver::run(&spine, pending()).await });
    }
}

/// Keeps a service running. It is cut off when the process ends: every step of the spine may be,
/// and goes on after the next start where it was.
fn keep<F>(
    tasks: &Tasks,
    name: &'static str,
    spine: &Spine,
    run: impl Fn(Spine) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let spine = spine.clone();
    tasks.keep(name, move || run(spine.clone()));
}
