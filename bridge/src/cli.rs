//! The commands as typed, and their exit codes (those of the mautrix bridges where they have one).

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use causeway_bridge::{
    app::{self, Part, RunError},
    config::{self, Config, ConfigError},
    demo,
    init::{self, InitError},
    registration::{Registration, RegistrationError},
};
use clap::{Args, Parser, Subcommand};

/// End-to-end encrypted groups for Matrix homeservers, and the bridge between them and rooms.
#[derive(Parser)]
#[command(name = "causeway", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes configuration, registration, keys and tokens; what is there stays.
    Init(Init),
    /// Runs the native server and the bridge.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// Runs just one of the two, the other being on another host.
        #[arg(long)]
        only: Option<Part>,
        /// Ends when standard input does: for whoever starts it as a part of something else.
        #[arg(long)]
        while_stdin: bool,
    },
    /// Writes the registration anew for the configuration as it is now, with the same tokens.
    Registration {
        #[command(flatten)]
        config: ConfigArgs,
        /// With new tokens: the homeserver needs the new file before it lets Causeway in again.
        #[arg(long, conflicts_with = "example")]
        new_tokens: bool,
        /// Prints an example with placeholder tokens instead.
        #[arg(long)]
        example: bool,
    },
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Asks the running process whether it is ready: exit code 0 or 1.
    Healthcheck {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Plays a story on a real homeserver: native people and a Matrix user talk to each other.
    Demo(demo::Options),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Says whether it is right.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Prints what is in force, all sources together; there are no secrets in it.
    Dump {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Prints the JSON schema of the file.
    Schema,
}

#[derive(Args)]
struct ConfigArgs {
    /// The configuration file; else ./causeway.yaml, else /etc/causeway/config.yaml.
    #[arg(short, long, env = "CAUSEWAY_CONFIG")]
    config: Option<PathBuf>,
    /// Overrides a key, as in `--set native.listen=127.0.0.1:1234`.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

#[derive(Args)]
struct Init {
    /// The homeserver's name: the part of its users' names after the colon.
    #[arg(long)]
    server_name: String,
    /// Where the homeserver's client-server API is.
    #[arg(long, default_value = "http://127.0.0.1:8008")]
    homeserver: String,
    /// Where the homeserver finds Causeway.
    #[arg(long, default_value = "http://127.0.0.1:29360")]
    address: String,
    /// Where keys, tokens and databases are kept, relative to the configuration file.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// The configuration file to write.
    #[arg(short, long, default_value = "causeway.yaml")]
    config: PathBuf,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

/// What went wrong, and the exit code that says so.
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::Value(..) => 11,
            ConfigError::NoFile
            | ConfigError::Unreadable(..)
            | ConfigError::Malformed(..)
            | ConfigError::UnknownKey(..) => 10,
        };
        Self { code, error: error.into() }
    }
}

impl From<RegistrationError> for Failure {
    fn from(error: RegistrationError) -> Self {
        let code = match error {
            RegistrationError::Unreadable(..) => 20,
            RegistrationError::Malformed(_) => 21,
            RegistrationError::NotCovered(_) => 22,
        };
        Self { code, error: error.into() }
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        Self { code: 11, error: error.into() }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self { code: error.exit_code(), error: error.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}

impl Cli {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Init(args) => args.run(),
            Command::Run { config, only, while_stdin } => {
                Ok(app::run_until_signalled(config.load()?, only, while_stdin)?)
            }
            Command::Registration { config, new_tokens, example } => {
                if example {
                    print!("{}", Registration::example_file()?);
                    return Ok(());
                }
                registration(&config.load()?, new_tokens)
            }
            Command::Config { what } => what.run(),
            Command::Healthcheck { config } => Ok(healthcheck(config.load()?.appservice.listen)?),
            Command::Demo(options) => {
                Ok(demo::run_until_signalled(&options).map_err(anyhow::Error::from)?)
            }
        }
    }
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, ConfigError> {
        let file = config::find(self.config.as_deref())?;
        let overrides: Vec<_> =
            self.set.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let config = config::load(&file, &overrides)?;
        config.check()?;
        Ok(config)
    }
}

impl ConfigCommand {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Check { config } => {
                let config = config.load()?;
                let registration = Registration::read(&config.appservice.registration)?;
                registration.check(&config.homeserver.server_name)?;
                println!("the configuration is right, and so is the registration");
            }
            Self::Dump { config } => {
                let text = serde_saphyr::to_string(&config.load()?).map_err(anyhow::Error::from)?;
                print!("{text}");
            }
            Self::Schema => {
                println!("{:#}", Config::schema());
            }
        }
        Ok(())
    }
}

impl Init {
    fn run(self) -> Result<(), Failure> {
        let mut wanted = Config::default();
        wanted.homeserver.server_name = self.server_name;
        wanted.homeserver.address = self.homeserver;
        wanted.appservice.address = self.address;
        wanted.data_dir.0 = self.data_dir;
        wanted.check()?;
        for file in init::init(&self.config, &wanted)? {
            let state = if file.made { "made " } else { "kept " };
            println!("{state} {}", file.path.display());
        }
        let registration =
            self.config.parent().unwrap_or(Path::new("")).join(&wanted.appservice.registration);
        println!(
            "\nNext: tell the homeserver of {0} and restart it. For Synapse, in homeserver.yaml:\n\
             \x20 app_service_config_files:\n\x20   - {0}\n\
             Then: causeway run --config {1}",
            std::path::absolute(&registration).unwrap_or(registration).display(),
            self.config.display(),
        );
        Ok(())
    }
}

fn registration(config: &Config, new_tokens: bool) -> Result<(), Failure> {
    let path = &config.appservice.registration;
    let former = if new_tokens { None } else { Some(Registration::read(path)?) };
    let made = Registration::anew(
        &config.homeserver.server_name,
        &config.appservice.address,
        former.as_ref(),
    )
    .context("no randomness")?;
    init::replace_private(path, made.to_yaml()?.as_bytes())?;
    println!("wrote {}; copy it to the homeserver and restart that", path.display());
    Ok(())
}

/// `GET /ready`, with nothing but the standard library: it must work in the slimmest image.
fn healthcheck(listen: SocketAddr) -> anyhow::Result<()> {
    let mut address = listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let timeout = Duration::from_secs(5);
    let mut stream =
        TcpStream::connect_timeout(&address, timeout).context("nobody listens there")?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).context("no answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        println!("{body}");
        Ok(())
    } else {
        Err(anyhow!("not ready: {body}"))
    }
}
