//! The demo: a real homeserver, real clients, and the story that they play.
//!
//! The end-to-end tests use the same homeserver and the same Matrix user; nothing in here is
//! used by `causeway run`.

mod calls;
pub mod causeway;
mod child;
mod ending;
pub mod files;
mod livekit;
mod matrix_person;
pub mod matrix_user;
mod native_person;
mod outcome;
mod place;
pub mod progress;
mod quay;
mod screen;
mod story;
pub mod synapse;
mod transcript;
pub mod venv;

pub use native_person::PersonError;
pub use outcome::Outcome;

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use causeway_groups::{
    cli::{Scheme, harmless},
    sdk::{CallError, SdkError},
};
use clap::Args;

use self::{
    causeway::CausewayError,
    ending::{Ending, Endings},
    files::FolderError,
    matrix_person::MatrixPerson,
    matrix_user::UserError,
    place::Place,
    progress::Progress,
    story::Cast,
    synapse::SynapseError,
};
use crate::{
    gateway::matrix::{BuildError, MatrixError},
    init::InitError,
    registration::RegistrationError,
};

/// What the demo is asked for.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Ends after the story: exit code 0, or 1 with the reason.
    #[arg(long)]
    once: bool,
    /// Messages in each direction.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    messages: u32,
    /// How the messages of the group are sealed.
    #[arg(long, value_enum, default_value_t = Scheme::SenderKeys)]
    scheme: Scheme,
    /// Servers that the group reaches over: with 2, Ben and Carol are on another one, with its own
    /// homeserver and its own Causeway.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2),
          conflicts_with = "homeserver")]
    servers: u8,
    /// Has five people call each other as well, two of them on the other server if there is one: four
    /// directly, and with the fifth through a LiveKit, which is built once.
    #[arg(long)]
    calls: bool,
    /// Prints one JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// Where Causeway and the native clients keep their files, which then stay; else they go when
    /// the demo ends.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    theirs: Option<Theirs>,
}

impl Options {
    /// Prints one JSON object on standard output, and nothing else there.
    pub fn print_json(&mut self) {
        self.json = true;
    }

    /// Whether it does.
    pub fn prints_json(&self) -> bool {
        self.json
    }
}

/// A homeserver that runs already.
#[derive(Debug, Clone, Args)]
struct Theirs {
    /// Uses a homeserver that runs, instead of one made for the demo.
    #[arg(long, required = false, value_name = "URL", requires_all = ["registration", "matrix_user", "matrix_password_file"])]
    homeserver: String,
    /// The registration that is installed there.
    #[arg(long, required = false, value_name = "FILE", requires = "homeserver")]
    registration: PathBuf,
    /// A Matrix user there, who plays the Matrix side.
    #[arg(long, required = false, value_name = "USER", requires = "homeserver")]
    matrix_user: String,
    /// The file with that user's password.
    #[arg(long, required = false, value_name = "FILE", requires = "homeserver")]
    matrix_password_file: PathBuf,
}

/// Why the demo did not end well.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// It was ended from outside, before the story was over.
    #[error("{0}; what it had started is stopped")]
    Ended(Ending),
    /// What it says cannot be written.
    #[error("standard output cannot be written to: {0}; what it had started is stopped")]
    Output(io::Error),
    /// Nowhere to keep anything.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The homeserver.
    #[error(transparent)]
    Synapse(#[from] SynapseError),
    /// The Causeway.
    #[error(transparent)]
    Causeway(#[from] CausewayError),
    /// The given registration.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A token file.
    #[error(transparent)]
    Token(#[from] InitError),
    /// The given homeserver's address.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The given homeserver.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// The Matrix user.
    #[error("the Matrix user: {0}")]
    User(#[from] UserError),
    /// A native person.
    #[error("a native person: {0}")]
    Person(#[from] PersonError),
    /// A native client.
    #[error("a native client: {0}")]
    Sdk(#[from] SdkError),
    /// The native server.
    #[error("the native server: {0}")]
    Call(#[from] CallError),
    /// The native server knows no bridge.
    #[error("the native server knows no bridge")]
    NoBridge,
    /// Something did not come in time.
    #[error("{0}")]
    InVain(String),
    /// This program was built without them.
    #[error(
        "this build has no calls: build all of it (cargo build --release --workspace), and run \
         target/release/causeway demo --calls"
    )]
    NoCalls,
    /// What carries bigger calls.
    #[error(transparent)]
    LiveKit(#[from] livekit::LiveKitError),
    /// Somebody's client could not do what the scene needs.
    #[error("the client of {who}: {said}")]
    Client {
        /// Whose.
        who: &'static str,
        /// What it said last.
        said: String,
    },
    /// There was nothing for the removed member to fail to read.
    #[error("the removed member was handed nothing, so that it could read nothing says nothing")]
    Meaningless,
    /// Lost, doubled, or read by the wrong one.
    #[error("{0}")]
    Fault(String),
    /// Files and processes.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<transcript::InVain> for DemoError {
    fn from(error: transcript::InVain) -> Self {
        Self::InVain(error.to_string())
    }
}

impl DemoError {
    /// With which code the process ends: what a shell gives for the signal, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Ended(ending) => ending.exit_code(),
            _ => 1,
        }
    }
}

/// Plays the story, and goes on until Ctrl-C unless it is played once.
///
/// # Errors
/// [`DemoError`]
pub fn run_until_signalled(options: &Options) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Runtime::new()?;
    let progress = Progress::new();
    let outcome = runtime.block_on(run(options, &progress));
    // A thread that waits for another process's lock would be waited for.
    runtime.shutdown_background();
    progress.done();
    let ended = outcome?;
    if ended.is_some() {
        // On a terminal, after its `^C`. Nobody is left to be told where this cannot be written.
        let _ =
            writeln!(io::stderr(), "\ncauseway: the demo has ended; nothing of it runs any more");
    }
    Ok(())
}

/// What ended it after its story, if anything did; what it had started has ended, too.
async fn run(options: &Options, progress: &Progress) -> Result<Option<Ending>, DemoError> {
    // Before anything is said: who reads it may signal at once.
    let mut endings = Endings::new()?;
    let (place, cast) = tokio::select! {
        // On a terminal Ctrl-C ends the servers, too: that is not what went wrong.
        biased;
        ending = endings.next() => return Err(DemoError::Ended(ending)),
        played = play(options, progress) => played?,
    };
    if options.once {
        return Ok(None);
    }
    if !options.json {
        let lines = screen::how_to_join(&place, &cast)?;
        screen::print(&lines).map_err(DemoError::Output)?;
    }
    tokio::select! {
        ending = endings.next() => match ending {
            // As people are told to end it.
            Ending::Signal(..) => Ok(Some(ending)),
            Ending::NobodyReads => Err(DemoError::Ended(ending)),
        },
        shown = screen::follow(&cast, options.json) => {
            shown.map(|()| None).map_err(DemoError::Output)
        }
    }
}

/// Plays the story to its end, and shows what came of it.
async fn play(options: &Options, progress: &Progress) -> Result<(Place, Cast), DemoError> {
    let (place, user) = Place::make(options, progress).await?;
    let carol = MatrixPerson::open(user).await?;
    let scheme = options.scheme.into();
    let played = async {
        let (cast, mut outcome) =
            story::play(&place, carol, scheme, options.messages, progress).await?;
        if options.calls {
            outcome.calls = Some(calls::play(&place, progress).await?);
        }
        Ok((cast, outcome))
    };
    let played: Result<_, DemoError> = played.await;
    progress.done();
    let (cast, outcome) = played.inspect_err(|_| {
        let others = place.other.iter().map(|other| &other.causeway);
        for causeway in std::iter::once(&place.causeway).chain(others) {
            let log = harmless(&causeway.log());
            // Nobody is left to be told where this cannot be written.
            let _ = writeln!(io::stderr(), "The end of Causeway's log:\n    {log}");
        }
    })?;
    let said = if options.json {
        serde_json::to_string(&outcome).map_err(io::Error::from)? + "\n"
    } else {
        screen::report(&cast, &outcome)
    };
    screen::print(&said).map_err(DemoError::Output)?;
    match outcome.fault() {
        Some(fault) => Err(DemoError::Fault(fault)),
        None => Ok((place, cast)),
    }
}
