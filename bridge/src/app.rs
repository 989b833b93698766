//! The composition root: opens what is needed in the right order, starts it, and ends it.

mod bridge;
mod calls;
mod edges;
mod homeserver;
mod in_force;
mod logging;
mod native;
mod native_side;
mod supervisor;
mod tasks;

pub use bridge::check_key;
pub use calls::check_secrets;
pub use homeserver::{StartError, is_new_enough};

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use axum::Router;
use causeway_groups::vault::VaultError;
use causeway_store::{OpenCause, OpenError, small_file::ReadError};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub(crate) use self::calls::livekit;
use self::{in_force::InForce, tasks::Tasks};
use crate::{
    config::{Config, ConfigError, WrongValue},
    figures,
    http::Connection,
    init::{self, InitError},
    registration::RegistrationError,
    secret::Secret,
};

/// Longest that an orderly end takes; what is not done then is done after the next start.
const END: Duration = Duration::from_secs(10);

/// How to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    /// Just one of the two.
    pub only: Option<Part>,
    /// Until standard input ends, too.
    pub while_stdin: bool,
    /// Also with a `bridge.db` that was put back.
    pub after_restore: bool,
}

/// Which part of Causeway a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The native side.
    Server,
    /// The Matrix side.
    Bridge,
}

/// Why the process does not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration was not checked.
    #[error(transparent)]
    Config(#[from] WrongValue),
    /// `logging.level` is no filter, or logging was begun before.
    #[error("logging cannot be started: {0}")]
    Logging(String),
    /// The registration is missing or wrong.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A token cannot be read: why, and where the folder was set.
    #[error("{0}. The folder is {1}")]
    Token(InitError, String),
    /// The database is somebody else's, damaged, or newer than this program.
    #[error("{}; {}", .0, remedy(&.0.cause))]
    Database(OpenError),
    /// The database was open, and then it was not.
    #[error(transparent)]
    Store(#[from] causeway_store::Error),
    /// The storage key is missing, or another one, and nothing was written: the database, and why.
    #[error("{}: {}. {}", .0.display(), .1, key_remedy(.1))]
    Vault(PathBuf, VaultError),
    /// Say that it is meant: the database is older than what it has done.
    #[error(
        "{0} was put back from a copy, or copied: messages between the copy and now may be missing \
         in rooms and groups, and what waits in it may have been sent. If that is meant, run once \
         with --after-restore: it looks for everything that waits before it sends it, begins new \
         keys, and tells the groups"
    )]
    PutBack(PathBuf),
    /// Somebody else listens there, or we may not: where, why, the key that says so, and the key that
    /// says where others find it.
    #[error(
        "cannot listen at {0}: {1}. Set {2} to an address of this machine and a port that nobody else \
         has, and {3} to where others find it then"
    )]
    Listen(SocketAddr, io::Error, String, &'static str),
    /// The homeserver does not know us or does not reach us.
    #[error(transparent)]
    Start(Box<StartError>),
    /// The native side cannot be started.
    #[error("the native server: {0}")]
    Native(String),
    /// The bridge cannot be started.
    #[error("the bridge: {0}")]
    Bridge(String),
    /// Something else in this process gathers metrics.
    #[error("metrics cannot be gathered: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// No signals, no runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        Self::Start(Box::new(error))
    }
}

impl From<OpenError> for RunError {
    fn from(error: OpenError) -> Self {
        Self::Database(error)
    }
}

impl RunError {
    /// The exit code, as the mautrix bridges have it where they have one.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Token(..) => 11,
            Self::Logging(_) => 12,
            Self::Database(OpenError { cause, .. }) => match cause {
                OpenCause::Newer(..) | OpenCause::Altered(..) => 15,
                OpenCause::Damaged(_) => 18,
                OpenCause::Held(_)
                | OpenCause::Restoring(_)
                | OpenCause::Missing(_)
                | OpenCause::OldSqlite(_)
                | OpenCause::Io(_)
                | OpenCause::Sqlite(_) => 14,
            },
            Self::Store(_) => 14,
            Self::Vault(..) => 19,
            Self::PutBack(_) => 23,
            Self::Registration(RegistrationError::Unreadable(..)) => 20,
            Self::Registration(RegistrationError::Malformed(..)) => 21,
            Self::Registration(RegistrationError::NotCovered(..)) => 22,
            Self::Start(error) => error.exit_code(),
            Self::Listen(..)
            | Self::Native(_)
            | Self::Bridge(_)
            | Self::Metrics(_)
            | Self::Io(_) => 1,
        }
    }
}

/// What to do about a database that was not opened, where its own words do not say it.
fn remedy(cause: &OpenCause) -> &'static str {
    match cause {
        OpenCause::Held(_) => "stop that one first, or set another `data_dir`",
        OpenCause::Restoring(_) | OpenCause::Missing(_) => "nothing was changed",
        OpenCause::Newer(..) => {
            "run the newer program, or put back the backup that was made before it ran"
        }
        OpenCause::Altered(..) => "run the program that made it",
        OpenCause::OldSqlite(_) => "use a build with a newer one",
        OpenCause::Damaged(_) => {
            "keep that file, and put a backup back: `causeway backup restore FOLDER --move-aside`"
        }
        OpenCause::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some room on the disk that its folder is on"
            }
            io::ErrorKind::NotFound => "its folder is not there: `causeway init` makes it",
            _ => "the user that Causeway runs as must own its folder, and be able to write there",
        },
        OpenCause::Sqlite(_) => {
            "is its folder one that Causeway can write to, on a disk with room?"
        }
    }
}

/// What to do about a storage key that does not open the database.
fn key_remedy(error: &VaultError) -> &'static str {
    match error {
        VaultError::MissingKey(_) | VaultError::WrongKey(_) | VaultError::KeyLength(..) => {
            "Put back the one that belongs to it, from where you keep it; nothing was changed"
        }
        VaultError::KeyFile(
            _,
            ReadError::InFile | ReadError::Folder | ReadError::Special(_) | ReadError::TooLong,
        ) => "Put the right file there",
        VaultError::KeyFile(..) => "The user that Causeway runs as must own that file",
        VaultError::Altered(..) => "Put a backup back",
        VaultError::Entropy(_) | VaultError::Store(_) => "Nothing was changed",
    }
}

/// Runs both parts, or `only` one, until SIGTERM or SIGINT; with `while_stdin` also no longer than
/// standard input is open, which ends it with whoever started it. SIGHUP has the configuration read
/// `again`, of which the limits and the log's level count at once, and the rest at the next start.
///
/// # Errors
/// [`RunError`]; after a signal there is none.
pub fn run_until_signalled(
    config: &Config,
    how: Run,
    again: impl Fn() -> Result<Config, ConfigError>,
) -> Result<(), RunError> {
    let level = logging::start(&config.logging)?;
    let in_force = InForce::new(level, config)?;
    edges::raise_open_files();
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let closed = stdin_closed(how.while_stdin);
        run(config, how, &in_force, async {
            let reloaded = async {
                while hang_up.recv().await.is_some() {
                    supervisor::reloading();
                    in_force.reload(again());
                    supervisor::reloaded();
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = closed => {}
                () = reloaded => {}
                () = supervisor::keep_alive() => {}
            }
            supervisor::stopping();
        })
        .await
    });
    // Not for longer than the orderly end took already.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Done when standard input is at its end; never if it is not `watched`.
async fn stdin_closed(watched: bool) {
    let (tell, told) = tokio::sync::oneshot::channel();
    if watched {
        // A thread of its own: the runtime would wait for one of its blocking threads.
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _ = tell.send(());
        });
        let _ = told.await;
    } else {
        std::future::pending::<()>().await;
    }
}

/// Runs until `stop` is done.
async fn run(
    config: &Config,
    Run { only, after_restore, .. }: Run,
    in_force: &InForce,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let tasks = Tasks::default();
    let starting = async {
        let metrics = figures::gather()?;
        match only {
            None => {
                let opened = bridge::open(config, after_restore, &tasks).await?;
                let server = native::start(config, in_force, after_restore, &tasks).await?;
                bridge::start(config, in_force, opened, Some(server), metrics, &tasks).await?;
            }
            Some(Part::Bridge) => {
                let opened = bridge::open(config, after_restore, &tasks).await?;
                bridge::start(config, in_force, opened, None, metrics, &tasks).await?;
            }
            Some(Part::Server) => {
                let server = native::start(config, in_force, after_restore, &tasks).await?;
                native::show(config, in_force, server, metrics, &tasks).await?;
                supervisor::ready();
            }
        }
        tracing::info!("running");
        Ok::<_, RunError>(())
    };
    let until_stop = async {
        starting.await?;
        std::future::pending().await
    };
    let ended = tokio::select! {
        failed = until_stop => failed,
        () = stop => Ok(()),
    };
    tracing::info!("stopping");
    if !tasks.end(END).await {
        tracing::warn!("not everything ended in time; it goes on after the next start");
    }
    ended
}

/// The clock of what listens.
fn server_clock() -> causeway_server::Clock {
    causeway_server::Clock::new(crate::clock::now)
}

/// A token from its file in `data_dir`.
fn token(config: &Config, name: &str) -> Result<Secret, RunError> {
    init::read_token(&config.data_file(name))
        .map_err(|error| RunError::Token(error, config.key("data_dir")))
}

/// The token of the door between servers; an installation from before there was one has none until
/// `causeway init` makes it, and speaks with no other server.
fn relay_token(config: &Config) -> Option<Secret> {
    let read = init::read_token(&config.data_file(init::RELAY_TOKEN));
    read.map_err(|error| tracing::info!(%error, "no other server is spoken with")).ok()
}

/// Serves `router` where the homeserver, probes and the operator reach it, until the tasks end; `ended`
/// is called when a connection of the homeserver has.
async fn listen(
    config: &Config,
    in_force: &InForce,
    router: Router,
    ended: impl Fn() + Clone + Send + Sync + 'static,
    tasks: &Tasks,
) -> Result<(), RunError> {
    let address = config.appservice.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        RunError::Listen(address, error, config.key("appservice.listen"), "appservice.address")
    })?;
    let edge = edges::appservice(config, in_force.appservice());
    let stop = tasks.token();
    tasks.run(async move {
        edge.serve(listener, router, |_| Connection::new(ended.clone()), stop).await;
    });
    tracing::info!(%address, "listening");
    Ok(())
}
