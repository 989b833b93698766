//! One running server.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

use crate::{
    binary::{Binary, last_lines},
    ports::free_port,
};

/// Ends the server when our end of its input closes, which a killed process does too.
const LAUNCHER: &str = r#"
exec 3<&0
"$@" </dev/null &
server=$!
{ cat <&3 >/dev/null; kill -9 $server; } 2>/dev/null &
wait $server
"#;
/// How long a start may take on a slow and busy machine.
const START: Duration = Duration::from_mins(1);
/// How often a start is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where it tells what happens in its rooms, if anywhere: an `http` URL.
    pub webhook: Option<String>,
    /// Which address it says that it has; else that of the loopback.
    pub node_ip: Option<IpAddr>,
    /// Lines for its configuration file, as YAML; it does not start with keys that it does not
    /// know.
    pub more: String,
}

/// A LiveKit on loopback that makes no room by itself; it ends when this is dropped.
#[derive(Debug)]
pub struct LiveKit {
    binary: Binary,
    config: PathBuf,
    log: PathBuf,
    port: u16,
    key: String,
    secret: String,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    // Closed when we end; waiting for the child would close one that it still has.
    _stdin: Option<ChildStdin>,
    group: Option<Pid>,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Files or ports.
    #[error("LiveKit could not be started: {0}")]
    Io(#[from] io::Error),
    /// It ended, or did not answer in time; the end of its log.
    #[error("LiveKit did not come up. The end of its log:\n{0}")]
    Silent(String),
}

impl LiveKit {
    /// Starts one that keeps its configuration and its log in `folder`, and waits until it answers.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start(
        binary: &Binary,
        folder: &Path,
        settings: &Settings,
    ) -> Result<Self, StartError> {
        fs::create_dir_all(folder)?;
        let (port, tcp, udp) = (free_port()?, free_port()?, free_udp_port()?);
        let (key, secret) = ("causeway".to_owned(), random_secret()?);
        let node_ip = settings.node_ip.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let mut yaml = format!(
            "port: {port}\nbind_addresses: [\"127.0.0.1\"]\n\
             rtc: {{tcp_port: {tcp}, udp_port: {udp}, use_external_ip: false, node_ip: {node_ip}, \
             enable_loopback_candidate: true, interfaces: {{includes: [lo]}}, \
             stun_servers: [\"127.0.0.1:3478\"]}}\n\
             keys: {{{key}: \"{secret}\"}}\n\
             room: {{auto_create: false, empty_timeout: 300, departure_timeout: 20}}\n\
             logging: {{level: info}}\n"
        );
        let webhook = settings.webhook.as_ref();
        let webhook =
            webhook.map(|url| format!("webhook: {{api_key: {key}, urls: [\"{url}\"]}}\n"));
        yaml.push_str(&webhook.unwrap_or_default());
        yaml.push_str(&settings.more);
        let (config, log) = (folder.join("livekit.yaml"), folder.join("livekit.log"));
        fs::write(&config, yaml)?;
        let binary = binary.clone();
        let mut livekit = Self { binary, config, log, port, key, secret, running: None };
        livekit.restart().await?;
        Ok(livekit)
    }

    /// Starts it again, at the same ports and with the same key; its rooms are gone. One that runs
    /// is killed first.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.kill().await;
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCHER, "sh"]).arg(self.binary.path());
        command.arg("--config").arg(&self.config).process_group(0);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut running = Running { _stdin: child.stdin.take(), child, group };
        let answers = async {
            while !answers(self.port).await {
                sleep(LOOK).await;
            }
        };
        let up = tokio::select! {
            up = timeout(START, answers) => up.is_ok(),
            _ = running.child.wait() => false,
        };
        self.running = Some(running);
        if !up {
            self.kill().await;
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            return Err(StartError::Silent(last_lines(&said)));
        }
        Ok(())
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub async fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
            // Whether it had ended before does not matter.
            let _ = running.child.wait().await;
            // What we waited for is the launcher: the server itself goes a moment later.
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                sleep(LOOK).await;
            }
        }
    }

    /// Its API: an `http` URL without a path.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where clients connect: a `ws` URL without a path.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Name of its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its secret: 32 random bytes in hex.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Everything that it has said so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> io::Result<String> {
        fs::read_to_string(&self.log)
    }
}

async fn answers(port: u16) -> bool {
    timeout(ANSWER, ask(port)).await.is_ok_and(|answer| answer.unwrap_or(false))
}

async fn ask(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split(' ').nth(1) == Some("200"))
}

impl Running {
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // Nothing can be done about a failure here.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_udp_port() -> io::Result<u16> {
    Ok(std::net::UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn random_secret() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex::encode(bytes))
}
