//! The commands as typed: what each prints, for people or for programs, and how it ends.

mod backup;
mod calls;
mod client;
mod doctor;
mod failure;
mod healthcheck;
mod operator;
mod servers;
mod snippet;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use causeway_bridge::{
    app::{self, Part},
    config::{self, Config, ConfigError},
    demo, init,
    registration::Registration,
};
use causeway_groups::cli::harmless;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use self::failure::Failure;

/// End-to-end encrypted groups for Matrix homeservers, and the bridge between them and rooms.
///
/// Exit codes: 0 ended when asked to; 1 an error that the text explains; 2 wrong usage; 10, 11
/// configuration; 12 log; 13 the homeserver does not reach Causeway; 14, 15, 18, 19 database and
/// storage key; 16, 17, 18 homeserver; 20 to 22 registration; 23 bridge.db was put back; 129, 130,
/// 143 a demo that SIGHUP, SIGINT or SIGTERM ended before its story was over.
#[derive(Parser)]
#[command(name = "causeway", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// How results are written to stdout, and errors to stderr
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

impl Output {
    /// Writes the one result of a command.
    fn show(self, text: &str, json: &Value) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = match self {
            Self::Text => writeln!(out, "{}", text.trim_end_matches('\n')),
            Self::Json => writeln!(out, "{json}"),
        };
        Ok(written.and_then(|()| out.flush()).context("cannot write to standard output")?)
    }
}

/// The exit code of wrong usage, which is `clap`'s.
const USAGE: u8 = 2;

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
        /// Goes on with a bridge.db that was put back from a backup: looks in the rooms for
        /// everything that waits before it sends it, begins new keys, and tells the groups that
        /// messages between the backup and now may be missing. Else a run on one ends with 23.
        #[arg(long)]
        after_restore: bool,
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
        /// Prints what Synapse's own configuration needs for calls instead.
        #[arg(long, conflicts_with_all = ["example", "new_tokens"])]
        homeserver_snippet: bool,
    },
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Copies the databases while Causeway runs, looks at copies, and puts them back.
    #[command(subcommand)]
    Backup(backup::Command),
    /// Asks the running process whether it is ready: exit code 0 or 1.
    Healthcheck {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Shows what happened in all native groups: who came and went, keys, messages that did not arrive.
    ///
    /// Asks the process that runs with this configuration. The server keeps a week of it; nothing
    /// that was said is in it. With `--output json` a line for each event.
    #[command(
        after_help = "Examples:\n  causeway events --limit 20\n  causeway --output json events --follow --after 1200"
    )]
    Events(operator::Events),
    /// Shows how much happened in the native groups: since the server was begun, and in 24 hours.
    ///
    /// Asks the process that runs with this configuration. The figures outlive a restart.
    Stats {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// The other servers with which groups are shared: how they stand, and what is done about them.
    ///
    /// Asks the process that runs with this configuration.
    #[command(
        subcommand,
        after_help = "Examples:\n  causeway servers list\n  causeway servers show b.example\n  causeway servers ping b.example\n  causeway --output json servers pause b.example"
    )]
    Servers(servers::Servers),
    /// The calls that run in native groups: who is in them, what carries them, and what is done about them.
    ///
    /// Asks the process that runs with this configuration. What is said in a call is known to nobody there.
    #[command(
        subcommand,
        after_help = "Examples:\n  causeway calls list\n  causeway calls show pyVqS8ggTyJMoqMtFcXhRA\n  causeway calls move pyVqS8ggTyJMoqMtFcXhRA --to sfu\n  causeway --output json calls end pyVqS8ggTyJMoqMtFcXhRA"
    )]
    Calls(calls::Calls),
    /// Native groups from a terminal: all that `causeway-client` does, in this binary.
    #[command(disable_help_flag = true)]
    Client(client::Words),
    /// Looks at everything that has to be right for Causeway to run, and says what to do about what is not.
    ///
    /// Beside a running Causeway, or where none runs. Exit code 1 where something has failed.
    Doctor(doctor::Args),
    /// Plays a story on a real homeserver: native people and a Matrix user talk to each other.
    ///
    /// The first time it fetches Synapse into `.causeway/`, and says before how much that is. It
    /// goes on until Ctrl-C, so that you can join in; then nothing of it runs any more.
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

/// Whether results are asked for as JSON in what could not be read.
fn is_json_asked(typed: &[OsString]) -> bool {
    // `--json` is how `doctor` and `demo` say it.
    let joined = typed.iter().any(|word| word == "--output=json" || word == "--json");
    let json = || typed.iter().zip(typed.iter().skip(1));
    joined || json().any(|(name, form)| name == "--output" && form == "json")
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

impl Cli {
    /// Reads what was typed, and runs it. Wrong usage is said as other errors are in the form that was asked for.
    pub(crate) fn run_typed(typed: &[OsString]) -> ExitCode {
        match Self::try_parse_from(typed) {
            Ok(cli) => cli.run(),
            Err(error) if error.use_stderr() && is_json_asked(typed) => {
                let what = error.to_string();
                let what = what.strip_prefix("error: ").unwrap_or(&what).trim_end();
                let failure = Failure { code: USAGE, error: anyhow!(what.to_owned()) };
                let _ = writeln!(io::stderr(), "{}", failure.to_json());
                ExitCode::from(USAGE)
            }
            // Help and version are among them.
            Err(error) => error.exit(),
        }
    }

    fn run(self) -> ExitCode {
        let output = self.form();
        match self.done() {
            Ok(code) => code,
            Err(failure) => {
                // Others' words may stand in it. Nobody is left to be told where this cannot be
                // written.
                let text = || harmless(&format!("{:#}", failure.error));
                let _ = match output {
                    Output::Text => writeln!(io::stderr(), "causeway: {}", text()),
                    Output::Json => writeln!(io::stderr(), "{}", failure.to_json()),
                };
                ExitCode::from(failure.code)
            }
        }
    }

    fn form(&self) -> Output {
        match &self.command {
            Command::Doctor(args) if args.json => Output::Json,
            Command::Demo(options) if options.prints_json() => Output::Json,
            _ => self.output,
        }
    }

    fn done(self) -> Result<ExitCode, Failure> {
        let output = self.form();
        match self.command {
            Command::Client(words) => return words.run(output),
            Command::Init(args) => args.run(output)?,
            Command::Run { config, only, while_stdin, after_restore } => {
                let how = app::Run { only, while_stdin, after_restore };
                app::run_until_signalled(&config.load()?, how, || config.load())?;
            }
            Command::Registration { example: true, .. } => {
                let json = serde_json::to_value(Registration::example());
                output.show(&Registration::example_file()?, &json.map_err(anyhow::Error::from)?)?;
            }
            Command::Registration { config, homeserver_snippet: true, .. } => {
                snippet::show(&config.load()?, output)?;
            }
            Command::Registration { config, new_tokens, .. } => {
                registration(&config.load()?, new_tokens, output)?;
            }
            Command::Config { what } => what.run(output)?,
            Command::Backup(command) => command.run(output)?,
            Command::Healthcheck { config } => {
                let said = healthcheck::ask(config.load()?.appservice.listen)?;
                let json = serde_json::from_str(&said).unwrap_or(Value::Null);
                output.show(&said, &json)?;
            }
            Command::Events(args) => args.run(output)?,
            Command::Servers(command) => command.run(output)?,
            Command::Calls(command) => command.run(output)?,
            Command::Stats { config } => operator::stats(&config.load()?, output)?,
            Command::Doctor(args) => args.run(output)?,
            Command::Demo(mut options) => {
                if output == Output::Json {
                    options.print_json();
                }
                demo::run_until_signalled(&options)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, ConfigError> {
        let file = config::find(self.config.as_deref())?;
        config::load(&file, &self.overrides())
    }

    fn overrides(&self) -> Vec<(&str, String)> {
        self.set.iter().map(|(key, value)| (key.as_str(), value.clone())).collect()
    }
}

impl ConfigCommand {
    fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Check { config } => {
                let config = config.load()?;
                config.registration()?;
                init::check_files(&config)?;
                app::check_secrets(&config)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(anyhow::Error::from)?.block_on(app::check_key(&config))?;
                let text = "the configuration is right, and so is the registration";
                output.show(text, &json!({"configuration": "right", "registration": "right"}))
            }
            Self::Dump { config } => {
                let config = config.load()?;
                let text = serde_saphyr::to_string(&config).map_err(anyhow::Error::from)?;
                let json = serde_json::to_value(&config).map_err(anyhow::Error::from)?;
                output.show(&text, &json)
            }
            Self::Schema => {
                let schema = Config::schema();
                output.show(&format!("{schema:#}"), &schema)
            }
        }
    }
}

impl Init {
    fn run(self, output: Output) -> Result<(), Failure> {
        let mut wanted = Config::default();
        wanted.homeserver.server_name = self.server_name;
        wanted.homeserver.address = self.homeserver;
        wanted.appservice.address = self.address;
        wanted.data_dir.0 = self.data_dir;
        wanted.check()?;
        self::agrees(&self.config, &mut wanted)?;
        let files = init::init(&self.config, &wanted)?;
        let registration =
            self.config.parent().unwrap_or(Path::new("")).join(&wanted.appservice.registration);
        let registration = std::path::absolute(&registration).unwrap_or(registration);
        let lines = files.iter().map(|file| {
            let state = if file.made { "made " } else { "kept " };
            format!("{state} {}\n", file.path.display())
        });
        let text = format!(
            "{2}\nNext: copy {0} to where the homeserver can read it, name the copy there, and restart it. \
             For Synapse, in homeserver.yaml:\n\x20 app_service_config_files:\n\x20   - \
             /etc/matrix-synapse/causeway-registration.yaml\n\
             Then: causeway run --config {1}",
            registration.display(),
            self.config.display(),
            lines.collect::<String>(),
        );
        let files: Vec<Value> =
            files.iter().map(|file| json!({"path": file.path, "made": file.made})).collect();
        output.show(&text, &json!({"files": files, "registration": registration}))
    }
}

/// What is there already is what is asked for: `init` changes nothing, and fills in what is missing
/// where that says.
fn agrees(file: &Path, wanted: &mut Config) -> Result<(), Failure> {
    if !file.exists() {
        return Ok(());
    }
    let (known, defaults) = (config::load(file, &[])?, Config::default());
    let folder = file.parent().unwrap_or(Path::new(""));
    let as_written = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_path_buf();
    let (data_dir, mut asked) = (as_written(&known.data_dir.0), as_written(&wanted.data_dir.0));
    let absolute = |path: &Path| std::path::absolute(folder.join(path)).ok();
    if absolute(&asked) == absolute(&data_dir) {
        asked.clone_from(&data_dir);
    }
    let shown = |path: &Path| path.display().to_string();
    let none = String::new();
    let pairs = [
        (
            "homeserver.server_name",
            known.homeserver.server_name.clone(),
            &wanted.homeserver.server_name,
            &none,
        ),
        (
            "homeserver.address",
            known.homeserver.address.clone(),
            &wanted.homeserver.address,
            &defaults.homeserver.address,
        ),
        (
            "appservice.address",
            known.appservice.address.clone(),
            &wanted.appservice.address,
            &defaults.appservice.address,
        ),
        ("data_dir", shown(&data_dir), &shown(&asked), &shown(&defaults.data_dir.0)),
    ];
    for (key, known_value, wanted, default) in pairs {
        if known_value != *wanted && wanted != default {
            let error = anyhow!(
                "{} is there, and says `{known_value}` in {}, not `{wanted}`; `init` leaves it as it \
                 is. Change it there (and then say `causeway registration`), or name another file \
                 with --config",
                file.display(),
                known.key(key),
            );
            return Err(Failure { code: 11, error });
        }
    }
    wanted.data_dir.0 = data_dir;
    wanted.appservice.registration = as_written(&known.appservice.registration);
    Ok(())
}

fn registration(config: &Config, new_tokens: bool, output: Output) -> Result<(), Failure> {
    let path = &config.appservice.registration;
    let former = if new_tokens { None } else { Some(Registration::read(path)?) };
    let made = Registration::anew(
        &config.homeserver.server_name,
        &config.appservice.address,
        former.as_ref(),
    )
    .context("no randomness")?;
    init::replace_private(path, made.to_yaml()?.as_bytes())?;
    let text = format!("wrote {}; copy it to the homeserver and restart that", path.display());
    output.show(&text, &json!({"registration": path, "new_tokens": new_tokens}))
}
