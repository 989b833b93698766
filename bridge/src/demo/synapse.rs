//! A real Synapse on loopback, for the demo and the end-to-end tests; or several that speak with each other.
//! Two at a time, or two sets of those.
//!
//! Its server name is its own and is checked, so that nobody talks to a stranger's homeserver by
//! mistake; it ends with the process that started it, however that one ends.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use causeway_livekit::ports::free_port;
use ruma::OwnedUserId;
use serde_json::{Map, Value, json};

use super::{
    files::{FileLock, FolderError, folder, random_name, tail},
    matrix_user::{MatrixUser, UserError},
    progress::Progress,
    venv::{Venv, VenvError},
};
use crate::{
    gateway::matrix::{BuildError, Matrix, MatrixError},
    registration::{Registration, RegistrationError, Tokens},
};

/// Starts Synapse and ends it with us.
const LAUNCHER: &str = include_str!("../../stack/synapse.py");
/// Makes an authority and a certificate of it for loopback, in the folder that it is given.
const CERTIFICATES: &str = include_str!("../../stack/certificates.py");
/// How many run at a time, each with what it is for: tests wait more than they compute.
const AT_ONCE: usize = 2;
/// How long a start may take on a slow and busy machine.
const START: Duration = Duration::from_secs(90);
/// How often a start is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often new ports are tried, if somebody takes them between our look and Synapse's.
const TRIES: u32 = 3;

/// The running homeserver; stopped when dropped.
#[derive(Debug)]
pub struct Synapse {
    venv: Venv,
    dir: PathBuf,
    server_name: String,
    port: u16,
    tls: Option<Tls>,
    registration: Registration,
    matrix: Matrix,
    settings: Map<String, Value>,
    running: Option<Running>,
    // Dropped last: the next Synapse starts when this one is gone.
    _lock: Arc<FileLock>,
}

/// Where others reach it, and what says that it is who it says.
#[derive(Debug)]
struct Tls {
    port: u16,
    certificates: PathBuf,
}

/// What runs of this process stand on.
struct Ground {
    venv: Venv,
    runs: PathBuf,
    lock: Arc<FileLock>,
}

impl Ground {
    async fn take(progress: &Progress) -> Result<Self, SynapseError> {
        let folder = folder()?;
        let venv = Venv::ensure(&folder, progress).await?;
        let places: [_; AT_ONCE] = std::array::from_fn(|n| folder.join(format!("run-{n}")));
        let locks = places.clone().map(|place| place.with_extension("lock"));
        let what = "as many Synapses run as may at a time";
        let (nth, lock) = FileLock::wait_for_one(&locks, progress, what).await?;
        let runs = places.into_iter().nth(nth).unwrap_or_default();
        // We hold the lock, so whatever is there was left by a process that was killed.
        if runs.exists() {
            fs::remove_dir_all(&runs)?;
        }
        Ok(Self { venv, runs, lock: Arc::new(lock) })
    }
}

#[derive(Debug)]
struct Running {
    child: Child,
    // Its other end is Synapse's: closed when we end, see `stack/synapse.py`.
    _alive: Option<ChildStdin>,
}

/// Why there is no homeserver.
#[derive(Debug, thiserror::Error)]
pub enum SynapseError {
    /// Nowhere to keep anything.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// No Python, or no Synapse for it.
    #[error(transparent)]
    Venv(#[from] VenvError),
    /// A file or a process could not be had.
    #[error("Synapse cannot be started: {0}")]
    Io(#[from] io::Error),
    /// It ended at once; the end of its log.
    #[error("Synapse ended while it started:\n{0}")]
    Ended(String),
    /// It did not answer in time; the end of its log.
    #[error("Synapse does not answer:\n{0}")]
    Silent(String),
    /// Another server answers at its port.
    #[error("`{0}` answers where Synapse should")]
    Stranger(OwnedUserId),
    /// It answers, and refuses.
    #[error("Synapse refuses: {0}")]
    Refuses(#[from] MatrixError),
    /// The registration cannot be written.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// No HTTP client.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Synapse {
    /// Starts a new one with an empty database and, registered with it, a Causeway that will
    /// listen at `appservice_url`. Waits while another one runs.
    ///
    /// # Errors
    /// [`SynapseError`], whose text says what to do where something can be done.
    pub async fn start(appservice_url: &str, progress: &Progress) -> Result<Self, SynapseError> {
        let ground = Ground::take(progress).await?;
        progress.say("starting Synapse");
        let name = random_name(4)?;
        Self::start_on(&ground, &name, format!("causeway-{name}.localhost"), None, appservice_url)
            .await
    }

    /// Starts several that federate over TLS on loopback, each with a Causeway that will listen at one
    /// of these addresses.
    ///
    /// # Errors
    /// [`SynapseError`]
    pub async fn start_federation(
        appservice_urls: &[String],
        progress: &Progress,
    ) -> Result<Vec<Self>, SynapseError> {
        let ground = Ground::take(progress).await?;
        let certificates = ground.runs.join("tls");
        fs::create_dir_all(&certificates)?;
        let made = Command::new(ground.venv.python())
            .args(["-c", CERTIFICATES])
            .arg(&certificates)
            .stdin(Stdio::null())
            .output()?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(SynapseError::Io(io::Error::other(said)));
        }
        progress.say("starting two homeservers that speak with each other");
        let mut all = Vec::new();
        for url in appservice_urls {
            let port = free_port()?;
            let tls = Tls { port, certificates: certificates.clone() };
            let name = random_name(4)?;
            let server_name = format!("localhost:{port}");
            all.push(Self::start_on(&ground, &name, server_name, Some(tls), url).await?);
        }
        Ok(all)
    }

    async fn start_on(
        ground: &Ground,
        name: &str,
        server_name: String,
        tls: Option<Tls>,
        appservice_url: &str,
    ) -> Result<Self, SynapseError> {
        let dir = ground.runs.join(name);
        fs::create_dir_all(&dir)?;
        let tokens = Tokens::random().map_err(io::Error::other)?;
        let registration = Registration::new(&server_name, appservice_url, tokens);
        fs::write(dir.join("registration.yaml"), registration.to_yaml()?)?;
        let port = free_port()?;
        let matrix = at(port, &registration)?;
        let mut synapse = Self {
            venv: ground.venv.clone(),
            dir,
            server_name,
            port,
            tls,
            registration,
            matrix,
            settings: Map::new(),
            running: None,
            _lock: Arc::clone(&ground.lock),
        };
        for _ in 1..TRIES {
            match synapse.spawn().await {
                Err(SynapseError::Ended(_) | SynapseError::Stranger(_)) => {
                    synapse.kill()?;
                    synapse.port = free_port()?;
                    synapse.matrix = at(synapse.port, &synapse.registration)?;
                }
                other => return other.map(|()| synapse),
            }
        }
        synapse.spawn().await?;
        Ok(synapse)
    }

    /// Its name, the part of its users after the colon.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        address(self.port)
    }

    /// What it was told of Causeway.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// The file that says so.
    pub fn registration_file(&self) -> PathBuf {
        self.dir.join("registration.yaml")
    }

    /// Its folder; a Causeway that works with it may have its own in there.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        tail(&self.dir.join("synapse.log"))
    }

    /// The environment it runs in, with Node beside it.
    pub fn venv(&self) -> &Venv {
        &self.venv
    }

    /// A client that acts as the application service.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// Makes a user, who is logged in then.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn register(&self, name: &str, password: &str) -> Result<MatrixUser, UserError> {
        MatrixUser::register(&self.url(), name, password).await
    }

    /// Says something else in its `homeserver.yaml`, from the next start on.
    pub fn set(&mut self, key: &str, value: Value) {
        self.settings.insert(key.to_owned(), value);
    }

    /// Ends it as a power cut would: SIGKILL. Nothing happens if it does not run.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.child.kill()?;
        running.child.wait()?;
        Ok(())
    }

    /// Starts it again with the same name, port and database, after [`Synapse::kill`].
    ///
    /// # Errors
    /// [`SynapseError`]
    pub async fn start_again(&mut self) -> Result<(), SynapseError> {
        self.kill()?;
        self.spawn().await
    }

    /// Starts the process and waits until it answers by its name.
    async fn spawn(&mut self) -> Result<(), SynapseError> {
        let config = self.dir.join("homeserver.yaml");
        fs::write(&config, self.config()?)?;
        let log =
            fs::File::options().create(true).append(true).open(self.dir.join("synapse.log"))?;
        let mut child = Command::new(self.venv.python())
            .args(["-c", LAUNCHER, "-c"])
            .arg(&config)
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let alive = child.stdin.take();
        self.running = Some(Running { child, _alive: alive });
        tokio::time::timeout(START, self.answers())
            .await
            .unwrap_or_else(|_| Err(SynapseError::Silent(self.log())))
    }

    /// Waits for `/versions`, then asks who we are there.
    async fn answers(&mut self) -> Result<(), SynapseError> {
        loop {
            let ended = match &mut self.running {
                Some(running) => running.child.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                return Err(SynapseError::Ended(self.log()));
            }
            if self.matrix.versions().await.is_ok() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let me = self.matrix.whoami(None).await?.user_id;
        let ours = me.server_name().as_str() == self.server_name
            && me.localpart() == self.registration.sender_localpart;
        if ours { Ok(()) } else { Err(SynapseError::Stranger(me)) }
    }

    /// `homeserver.yaml`; JSON is YAML.
    fn config(&self) -> io::Result<String> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        if !self.dir.join("signing.key").exists() {
            let mut seed = [0_u8; 32];
            getrandom::fill(&mut seed).map_err(io::Error::other)?;
            let seed = {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD_NO_PAD.encode(seed)
            };
            fs::write(self.dir.join("signing.key"), format!("ed25519 a_demo {seed}\n"))?;
            fs::write(self.dir.join("log.yaml"), log_config(&file("synapse.log")).to_string())?;
        }
        let unlimited = json!({ "per_second": 1e6, "burst_count": 1_000_000 });
        let mut config = json!({
            "server_name": self.server_name,
            "pid_file": file("synapse.pid"),
            "public_baseurl": self.url(),
            "listeners": [{
                "port": self.port,
                "bind_addresses": ["127.0.0.1"],
                "type": "http",
                "tls": false,
                "x_forwarded": false,
                "resources": [{ "names": ["client", "openid"], "compress": false }],
            }],
            "database": { "name": "sqlite3", "args": { "database": file("homeserver.db") } },
            "log_config": file("log.yaml"),
            "media_store_path": file("media"),
            "signing_key_path": file("signing.key"),
            "macaroon_secret_key": random_name(16)?,
            "form_secret": random_name(16)?,
            "trusted_key_servers": [],
            "suppress_key_server_warning": true,
            "report_stats": false,
            "presence": { "enabled": false },
            "app_service_config_files": [file("registration.yaml")],
            // On loopback, for as long as the demo or a test runs.
            "enable_registration": true,
            "enable_registration_without_verification": true,
            "bcrypt_rounds": 4,
            "rc_message": unlimited,
            "rc_registration": unlimited,
            "rc_login": { "address": unlimited, "account": unlimited, "failed_attempts": unlimited },
            "rc_admin_redaction": unlimited,
            "rc_joins": { "local": unlimited, "remote": unlimited },
            "rc_joins_per_room": unlimited,
            "rc_room_creation": unlimited,
            "rc_invites": { "per_room": unlimited, "per_user": unlimited, "per_issuer": unlimited },
        });
        if let (Some(config), Some(tls)) = (config.as_object_mut(), &self.tls) {
            config.extend(federating(tls, self.port));
        }
        if let Some(config) = config.as_object_mut() {
            config.extend(self.settings.clone());
        }
        Ok(config.to_string())
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the launcher ends with us in any case.
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What a homeserver's configuration says beside the rest that is to speak with others on loopback.
fn federating(tls: &Tls, port: u16) -> Map<String, Value> {
    let file = |name: &str| tls.certificates.join(name).display().to_string();
    let listener = |port: u16, tls: bool, names: &[&str]| {
        json!({
            "port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": tls,
            "resources": [{ "names": names, "compress": false }],
        })
    };
    let settings = json!({
        "listeners": [
            listener(port, false, &["client", "openid"]),
            listener(tls.port, true, &["federation"]),
        ],
        "tls_certificate_path": file("tls.pem"),
        "tls_private_key_path": file("tls.key"),
        "federation_custom_ca_list": [file("ca.pem")],
        // Under this name: under the newer one it is ignored.
        "ip_range_blacklist": [],
        "federation": {
            "client_timeout": "10s", "max_short_retries": 2,
            "destination_min_retry_interval": "1s", "destination_max_retry_interval": "5s",
        },
    });
    match settings {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}

fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn at(port: u16, registration: &Registration) -> Result<Matrix, BuildError> {
    Matrix::new(&address(port), registration.as_token.clone())
}

fn log_config(file: &str) -> serde_json::Value {
    json!({
        "version": 1,
        "formatters": { "plain": { "format": "%(asctime)s %(levelname)s %(name)s %(message)s" } },
        "handlers": {
            "file": { "class": "logging.FileHandler", "filename": file, "formatter": "plain" },
        },
        "root": { "level": "WARNING", "handlers": ["file"] },
        "disable_existing_loggers": false,
    })
}
