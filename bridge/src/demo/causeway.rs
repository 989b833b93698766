//! A Causeway of its own process, as an operator would run it, for the demo and the tests.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use causeway_livekit::ports::free_port;

use crate::{
    config::Config,
    init::{self, ADMIN_TOKEN, InitError, REGISTRATION_TOKEN},
    registration::{Registration, RegistrationError},
    secret::Secret,
};

/// How long a start may take on a slow and busy machine.
const START: Duration = Duration::from_secs(90);
/// How often a start is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The process and its folder; killed when dropped.
#[derive(Debug)]
pub struct Causeway {
    binary: PathBuf,
    dir: PathBuf,
    config: Config,
    environment: Vec<(String, String)>,
    only: Option<&'static str>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    _alive: Option<ChildStdin>,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum CausewayError {
    /// Its files cannot be made.
    #[error(transparent)]
    Init(#[from] InitError),
    /// Its registration cannot be written.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A file or a process could not be had.
    #[error("Causeway cannot be started: {0}")]
    Io(#[from] io::Error),
    /// It ended while it started; the end of its log.
    #[error("Causeway ended while it started:\n{0}")]
    Ended(String),
    /// It is not ready in time; the end of its log.
    #[error("Causeway is not ready in time:\n{0}")]
    NotReady(String),
}

/// Where a Causeway listens.
#[derive(Debug, Clone, Copy)]
pub struct Listeners {
    /// For the homeserver and the operator.
    pub appservice: SocketAddr,
    /// For native clients.
    pub native: SocketAddr,
}

impl Listeners {
    /// Free ports of the loopback interface, ours while this process lives.
    ///
    /// # Errors
    /// There are none.
    pub fn free() -> io::Result<Self> {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self { appservice: at(free_port()?), native: at(free_port()?) })
    }

    /// Where the homeserver finds the appservice listener.
    pub fn appservice_url(&self) -> String {
        format!("http://{}", self.appservice)
    }

    /// Where clients find the native one.
    pub fn native_url(&self) -> String {
        format!("http://{}", self.native)
    }
}

impl Causeway {
    /// Write the files of a Causeway in `dir` that works with this homeserver; not started yet.
    ///
    /// `registration` must be what the homeserver has, made for `listeners`.
    ///
    /// # Errors
    /// [`CausewayError`]
    pub fn prepare(
        binary: &Path,
        dir: &Path,
        homeserver: &str,
        server_name: &str,
        listeners: Listeners,
        registration: &Registration,
    ) -> Result<Self, CausewayError> {
        fs::create_dir_all(dir)?;
        let mut config = Config::default();
        server_name.clone_into(&mut config.homeserver.server_name);
        homeserver.clone_into(&mut config.homeserver.address);
        config.appservice.listen = listeners.appservice;
        config.appservice.address.clone_from(&registration.url);
        config.native.listen = listeners.native;
        config.native.address = listeners.native_url();
        init::replace_private(
            &dir.join(&config.appservice.registration),
            registration.to_yaml()?.as_bytes(),
        )?;
        init::init(&dir.join("causeway.yaml"), &config)?;
        let dir = dir.to_path_buf();
        Ok(Self {
            binary: binary.to_path_buf(),
            dir,
            config,
            environment: Vec::new(),
            only: None,
            running: None,
        })
    }

    /// Sets an environment variable of the process, from the next start on.
    pub fn set_env(&mut self, key: &str, value: &str) {
        self.environment.retain(|(other, _)| other != key);
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Runs just `server` or just `bridge`, from the next start on.
    pub fn set_only(&mut self, part: &'static str) {
        self.only = Some(part);
    }

    /// Starts the process, and waits until it says that it is ready.
    ///
    /// # Errors
    /// [`CausewayError`]
    pub async fn start(&mut self) -> Result<(), CausewayError> {
        self.spawn()?;
        self.ready().await
    }

    /// As [`start`](Self::start), on what was put back from a copy.
    ///
    /// # Errors
    /// [`CausewayError`]
    pub async fn start_after_restore(&mut self) -> Result<(), CausewayError> {
        self.spawn_with(&["--after-restore"])?;
        self.ready().await
    }

    /// Starts the process and does not wait.
    ///
    /// # Errors
    /// [`CausewayError::Io`]
    pub fn spawn(&mut self) -> Result<(), CausewayError> {
        self.spawn_with(&[])
    }

    fn spawn_with(&mut self, words: &[&str]) -> Result<(), CausewayError> {
        self.kill()?;
        let log = fs::File::options().create(true).append(true).open(self.log_file())?;
        let mut child = Command::new(&self.binary)
            .args(["run", "--while-stdin"])
            .arg("--config")
            .arg(self.dir.join("causeway.yaml"))
            .args(self.only.iter().flat_map(|part| ["--only", part]))
            .args(words)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        // Open for as long as we live, however we end.
        let alive = child.stdin.take();
        self.running = Some(Running { child, _alive: alive });
        Ok(())
    }

    /// Waits until `/ready` answers 200.
    ///
    /// # Errors
    /// [`CausewayError::Ended`], [`CausewayError::NotReady`].
    pub async fn ready(&mut self) -> Result<(), CausewayError> {
        let waited = tokio::time::timeout(START, async {
            loop {
                if let Some(running) = &mut self.running
                    && running.child.try_wait()?.is_some()
                {
                    return Err(CausewayError::Ended(self.log()));
                }
                if self.status("/ready").await == Some(200) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        waited.await.unwrap_or_else(|_| Err(CausewayError::NotReady(self.log())))
    }

    /// Waits until it answers at all, ready or not; a process that ended is not waited for.
    ///
    /// # Errors
    /// [`CausewayError::Ended`]
    pub async fn live(&mut self) -> Result<(), CausewayError> {
        while self.status("/live").await.is_none() {
            if let Some(running) = &mut self.running
                && running.child.try_wait()?.is_some()
            {
                return Err(CausewayError::Ended(self.log()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The status with which it answers a GET of `path`, if it answers.
    pub async fn status(&self, path: &str) -> Option<u16> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let answer = reqwest::get(format!("{}{path}", self.appservice_url())).await;
        answer.ok().map(|answer| answer.status().as_u16())
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

    /// Ends it in order, by SIGTERM, and says whether its exit code was 0.
    ///
    /// # Errors
    /// The process cannot be signalled or waited for.
    pub async fn stop(&mut self) -> io::Result<bool> {
        let Some(mut running) = self.running.take() else { return Ok(true) };
        let id = i32::try_from(running.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        }
        let ended = tokio::task::spawn_blocking(move || running.child.wait());
        Ok(ended.await.map_err(io::Error::other)??.success())
    }

    /// How the process ended, once it has.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn exit_code(&mut self) -> io::Result<Option<i32>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        Ok(running.child.try_wait()?.and_then(|status| status.code()))
    }

    /// The process, while it runs.
    pub fn id(&self) -> Option<u32> {
        Some(self.running.as_ref()?.child.id())
    }

    /// Where native clients find it.
    pub fn native_url(&self) -> &str {
        &self.config.native.address
    }

    /// Where the homeserver and the operator find it.
    pub fn appservice_url(&self) -> String {
        format!("http://{}", self.config.appservice.listen)
    }

    /// Its folder: configuration, registration, `data/`, log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The token with which people register.
    ///
    /// # Errors
    /// [`InitError`]
    pub fn registration_token(&self) -> Result<Secret, InitError> {
        init::read_token(&self.dir.join(self.config.data_file(REGISTRATION_TOKEN)))
    }

    /// The operator's token.
    ///
    /// # Errors
    /// [`InitError`]
    pub fn admin_token(&self) -> Result<Secret, InitError> {
        init::read_token(&self.dir.join(self.config.data_file(ADMIN_TOKEN)))
    }

    /// Where it writes its log lines.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("causeway.log")
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        super::files::tail(&self.log_file())
    }
}

impl Drop for Causeway {
    fn drop(&mut self) {
        // Nothing can be done about a failure here.
        let _ = self.kill();
    }
}
