//! `causeway-client`: native groups from a terminal, one file for each command.
//!
//! Every command opens the home folder, does one thing through the [`sdk`](crate::sdk), says what
//! came of it as text or JSON, and ends with an honest exit code (`exit.rs`). Several may run
//! at once on one home; only `tail` reads the mailbox, and there is one of it.
//!
//! A program may carry it under another name, as `causeway client` does; help and advice say that one.

mod ask;
mod backup;
mod call;
mod called;
mod chat;
mod device;
mod events;
mod exit;
mod flush;
mod follow;
mod group;
mod harmless;
mod history;
mod home;
mod import;
mod input;
mod invite;
mod line;
mod local_time;
mod login;
mod markdown;
mod member;
mod message;
mod moment;
mod names;
mod outbox;
mod pins;
mod print;
mod read;
mod readers;
mod recover;
mod register;
mod roster;
mod scheme;
mod send;
mod servers;
mod settings;
mod share;
mod span;
mod tail;
mod verify;
mod whoami;

use std::{
    ffi::OsString,
    io::{IsTerminal as _, stderr},
    path::PathBuf,
    process::ExitCode,
};

use causeway_protocol::ids::Timestamp;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, filter, fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _,
};

pub use called::PROGRAM;
pub use events::{event_line, gone_line};
use exit::Failure;
pub use follow::stopped;
pub use harmless::{harmless, one_line};
use home::Home;
pub use local_time::local_time;
use print::Printer;
pub use scheme::Scheme;

use crate::machine::AddedBy;

/// Whether this build can take part in calls.
pub const HAS_CALLS: bool = cfg!(feature = "calls");

/// End-to-end encrypted groups of Causeway.
///
/// Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 not logged in; 4 server not
/// reachable; 5 kept, and not accepted by the server yet: it goes out with the next run.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = 100)]
struct Arguments {
    /// Folder with keys and messages [default: ~/.local/share/causeway]
    #[arg(long, global = true, env = "CAUSEWAY_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// URL of the server's native API; remembered by register and login
    #[arg(long, global = true, env = "CAUSEWAY_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Who may add you to groups without asking you: known, all, none; in place of what `group
    /// added-by` has set
    #[arg(long, global = true, env = "CAUSEWAY_ADDED_BY", value_name = "WHO",
          value_parser = group::added_by::parse)]
    added_by: Option<AddedBy>,
    /// How results are written to stdout
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
    /// One JSON object on each line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an account and this device, and show the recovery key once
    #[command(
        after_help = "Examples:\n  causeway-client register alice --server https://b.example --token-file token.txt\n  causeway-client register alice:b.example     # finds the server by itself"
    )]
    Register(register::Arguments),
    /// Come back to an account whose devices are lost, by its recovery key
    #[command(
        after_help = "The key is read from --key-file, or from stdin; never from the command line, which others may see.\nWithout --old-devices keep the account's other devices are logged out and taken out of all groups.\n\nExamples:\n  causeway-client recover alice:b.example        # asks for the key\n  causeway-client recover alice --server https://b.example --key-file key.txt\n  causeway-client recover alice:b.example --old-devices keep --accept-groups < key.txt"
    )]
    Recover(recover::Arguments),
    /// Link other devices to this account, see which it has, take one out
    #[command(subcommand)]
    Device(device::Command),
    /// Log in again with this home's device
    #[command(
        after_help = "Examples:\n  causeway-client login                        # after the server has ended the session\n  causeway-client login --server https://new.b.example"
    )]
    Login,
    /// Show which account and device this home is
    #[command(
        after_help = "Examples:\n  causeway-client whoami\n  causeway-client --output json whoami"
    )]
    Whoami,
    /// Make groups, look at them, leave or close them, bridge them
    #[command(subcommand)]
    Group(group::Command),
    /// Make links that let people in, use them, take them back
    #[command(subcommand)]
    Invite(invite::Command),
    /// See who is in a group, remove people, give them roles
    #[command(subcommand)]
    Member(member::Command),
    /// Show the safety number with someone, and keep that you have compared it
    #[command(
        after_help = "Examples:\n  causeway-client verify bob                    # shows it, and asks\n  causeway-client verify bob --yes              # you have compared it\n  causeway-client --output json verify bob:b.example"
    )]
    Verify(verify::Arguments),
    /// List whom you have met, and by which identity
    #[command(
        after_help = "Examples:\n  causeway-client pins\n  causeway-client pins --from m --limit 20"
    )]
    Pins(pins::Arguments),
    /// Send a message; prints its id once the server has accepted it
    #[command(
        after_help = "Examples:\n  causeway-client send team Hello everybody\n  causeway-client send team - < letter.txt\n  causeway-client send team --markdown '**Today** at *eight*'\n  causeway-client send team --lines --resume log-1 < lines.txt\n  causeway-client send --flush                 # what still waits"
    )]
    Send(send::Arguments),
    /// Show and set what may be set, of this client and of your groups
    #[command(subcommand)]
    Settings(settings::Command),
    /// Call a group, see its calls, decline them, end them
    #[command(subcommand)]
    Call(call::Command),
    /// See how far messages that you have sent came
    #[command(subcommand)]
    Message(message::Command),
    /// Show what happened in your groups, as the server has noted it: who came and went, began new keys,
    /// could not open messages; never what was said
    #[command(
        after_help = "Each line begins with its number, which --after takes. The server keeps events for seven days, 1,000 of a group.\n\nExamples:\n  causeway-client events --group team\n  causeway-client events --after 120 --limit 20\n  causeway-client --output json events --follow --after 120"
    )]
    Events(events::Arguments),
    /// Follow all groups, show what comes in, and do this device's part of the key work
    #[command(
        after_help = "Examples:\n  causeway-client tail\n  causeway-client tail --once                  # what waits, then end\n  causeway-client --output json tail --group team --since 42"
    )]
    Tail(tail::Arguments),
    /// Read and write in all groups on one screen; does what `tail` does beside it
    #[command(
        after_help = "F1 shows the keys.\n\nExamples:\n  causeway-client chat\n  causeway-client chat --announce osc9"
    )]
    Chat(chat::Arguments),
    /// Show what was said in a group before, which needs no server; or share it
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "A group that is called `share` is shown by its id.\n\nExamples:\n  causeway-client history team\n  causeway-client history team --before 120 --limit 20\n  causeway-client --output json history team --after 42"
    )]
    History(read::HistoryArguments),
    /// Find what was said; needs no server
    #[command(
        after_help = "Examples:\n  causeway-client search tomorrow at nine\n  causeway-client search --group team coffee"
    )]
    Search(read::SearchArguments),
    /// Read what other programs have kept, and put it where `history` and `search` find it
    #[command(subcommand)]
    Import(import::Command),
    /// Copy this home's database while it is used, look at copies, put them back
    #[command(subcommand)]
    Backup(backup::Command),
}

/// Runs the command that `words` are, and says how the process is to end.
///
/// `called` is how a person calls this program: [`PROGRAM`], or the program and the command that
/// carry it.
pub async fn run(called: &'static str, words: impl IntoIterator<Item = OsString>) -> ExitCode {
    log_if_asked();
    let words: Vec<_> = words.into_iter().collect();
    let arguments = match parse(called, &words) {
        Ok(arguments) => arguments,
        Err(error) => return misread(&error, called, &words),
    };
    let printer = Printer::new(arguments.output, called);
    let home = Home::new(arguments.home, arguments.server, arguments.added_by);
    let done = match home {
        Ok(home) => dispatch(arguments.command, &home, printer).await,
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit().into()
        }
    }
}

/// What goes wrong is said by the command, once; the log is for those who ask for it.
fn log_if_asked() {
    let filter = EnvFilter::try_from_env("CAUSEWAY_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    log_to(filter, stderr().is_terminal(), stderr).init();
}

fn log_to<W>(filter: EnvFilter, ansi: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_ansi(ansi).with_writer(writer);
    registry().with(filter).with(may_be_logged()).with(lines)
}

/// Lets no line through that nobody should read, whatever is asked for.
#[cfg(feature = "calls")]
fn may_be_logged() -> filter::FilterFn {
    filter::filter_fn(|line| crate::calls::may_be_logged(line.target()))
}

#[cfg(not(feature = "calls"))]
fn may_be_logged() -> filter::FilterFn {
    filter::filter_fn(|_| true)
}

fn parse(called: &'static str, words: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut command = called::in_help(Arguments::command(), called);
    let words = std::iter::once(OsString::from(called)).chain(words.iter().cloned());
    let matches = command.try_get_matches_from_mut(words)?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Shows help where that was asked for; else says in the form that was asked for what is wrong.
fn misread(error: &clap::Error, called: &'static str, words: &[OsString]) -> ExitCode {
    let mut form = words.iter().skip_while(|word| *word != "--output").skip(1);
    let wants_json = form.next().is_some_and(|form| form == "json")
        || words.iter().any(|word| word == "--output=json");
    if !error.use_stderr() || !wants_json {
        error.exit();
    }
    // Its first paragraph is the error, the others are advice.
    let said = error.to_string();
    let (what, next) = said.split_once("\n\n").unwrap_or((&said, ""));
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let failure = Failure::usage(what.trim()).next(next.trim());
    Printer::new(Output::Json, called).failure(&failure);
    failure.exit().into()
}

async fn dispatch(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::Register(arguments) => register::run(arguments, home, printer).await,
        Command::Recover(arguments) => recover::run(arguments, home, printer).await,
        Command::Device(command) => device::run(command, home, printer).await,
        Command::Login => login::run(home, printer).await,
        Command::Whoami => whoami::run(home, printer).await,
        Command::Group(command) => group::run(command, home, printer).await,
        Command::Invite(command) => invite::run(command, home, printer).await,
        Command::Member(command) => member::run(command, home, printer).await,
        Command::Verify(arguments) => verify::run(arguments, home, printer).await,
        Command::Pins(arguments) => pins::run(arguments, home, printer).await,
        Command::Send(arguments) => send::run(arguments, home, printer).await,
        Command::Settings(command) => settings::run(command, home, printer).await,
        Command::Call(command) => call::run(command, home, printer).await,
        Command::Message(command) => message::run(command, home, printer).await,
        Command::Events(arguments) => events::run(arguments, home, printer).await,
        Command::Tail(arguments) => tail::run(arguments, home, printer).await,
        Command::Chat(arguments) => chat::run(arguments, home, printer).await,
        Command::History(arguments) => read::history(arguments, home, printer).await,
        Command::Search(arguments) => read::search(arguments, home, printer).await,
        Command::Import(command) => import::run(command, home, printer).await,
        Command::Backup(command) => backup::run(command, home, printer).await,
    }
}

/// The one clock of this program.
#[expect(clippy::disallowed_methods, reason = "elsewhere time is an argument; here it comes from")]
fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since_1970.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    Timestamp(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "calls")]
    #[test]
    fn lines_of_the_webrtc_libraries_are_in_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = std::fs::File::create(&path).unwrap();
        let asked = EnvFilter::new("trace,webrtc::peer_connection=trace,rtc_ice=trace");
        tracing::subscriber::with_default(log_to(asked, false, file), || {
            tracing::error!(target: "webrtc::peer_connection::driver", "192.0.2.7");
            tracing::trace!(target: "rtc_ice::agent", "192.0.2.7");
            tracing::trace!(target: "causeway_groups::sdk", "this stays");
        });
        let log = std::fs::read_to_string(path).unwrap();
        assert!(log.contains("this stays") && !log.contains("192.0.2.7"), "{log}");
    }

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }
}
