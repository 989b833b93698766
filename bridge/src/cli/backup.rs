//! `causeway backup …`: copies of `bridge.db` and `server.db`, looked at, and put back.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use causeway_bridge::{
    app::{Part, RunError},
    clock,
    init::STORAGE_KEY,
    storage,
};
use causeway_store::{
    OpenCause, OpenError, Schema,
    backup::{self, BackupError, Maker, Manifest, Source, Step},
};
use clap::Subcommand;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{ConfigArgs, Failure, Output};

const BRIDGE: &str = "bridge.db";
const SERVER: &str = "server.db";
/// What is put back is copied before anything is moved; all the same it may be half done.
const AGAIN: &str =
    "mend that and say it again; where something was moved aside, it is in `before-restore-…`";
/// Between two words on how far something is.
const QUIET: Duration = Duration::from_secs(5);

/// What is done with backups.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Copies bridge.db and server.db, both as of one moment, to a new folder.
    ///
    /// Causeway may run meanwhile. Rows stay sealed: storage.key is neither needed nor copied, and
    /// must be kept elsewhere. Whoever runs this must be the user that Causeway runs as.
    Create {
        #[command(flatten)]
        config: ConfigArgs,
        /// The folder to make.
        to: PathBuf,
    },
    /// Says whether a backup is whole, and can be put back by this program.
    Verify {
        /// The folder that `create` made.
        from: PathBuf,
    },
    /// Puts the databases of a backup into `data_dir`; Causeway must not run.
    Restore {
        #[command(flatten)]
        config: ConfigArgs,
        /// The folder that `create` made.
        from: PathBuf,
        /// Just the database of one of the two.
        #[arg(long)]
        only: Option<Part>,
        /// Moves what is there to a folder `before-restore-…` in `data_dir`.
        #[arg(long)]
        move_aside: bool,
    },
}

impl Command {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(anyhow::Error::from)?.block_on(self.done(output))
    }

    async fn done(self, output: Output) -> Result<(), Failure> {
        let bridge = [causeway_groups::SCHEMA, storage::SCHEMA];
        let server = [causeway_server::SCHEMA];
        // The bridge speaks to the server, and not the other way.
        let sources = [source(BRIDGE, &bridge), source(SERVER, &server)];
        let maker =
            Maker { program: "causeway", version: env!("CARGO_PKG_VERSION"), sources: &sources };
        let watch = &mut progress(output);
        match self {
            Self::Create { config, to } => {
                let data = config.load()?.data_dir.0;
                let made = backup::create(maker, &data, &to, clock::now().0, watch).await?;
                let text = format!(
                    "made {}: {}\n{STORAGE_KEY} is not in it: keep it elsewhere, without it \
                     {BRIDGE} cannot be read",
                    to.display(),
                    listed(&made)
                );
                output.show(&text, &json!({"backup": to, "storage_key": false, "manifest": made}))
            }
            Self::Verify { from } => {
                let found = backup::verify(maker, &from, watch).await?;
                let text = format!(
                    "{} is whole: {}, made by version {}",
                    from.display(),
                    listed(&found),
                    found.version
                );
                output.show(&text, &json!({"backup": from, "whole": true, "manifest": found}))
            }
            Self::Restore { config, from, only, move_aside } => {
                let data = config.load()?.data_dir.0;
                let only = only.map(|part| match part {
                    Part::Bridge => BRIDGE,
                    Part::Server => SERVER,
                });
                let aside = format!("before-restore-{}", clock::now().0);
                let aside = move_aside.then_some(&*aside);
                let restored = backup::restore(maker, &from, &data, only, aside, watch).await?;
                let (text, json) = told(&restored, &data);
                output.show(&text, &json)
            }
        }
    }
}

const fn source<'a>(name: &'a str, schemas: &'a [Schema<'a>]) -> Source<'a> {
    Source { name, schemas }
}

fn listed(manifest: &Manifest) -> String {
    let files = manifest.files.iter();
    files.map(|file| format!("{} ({} bytes)", file.name, file.bytes)).collect::<Vec<_>>().join(", ")
}

/// What was done, and what comes next.
fn told(restored: &backup::Restored, data: &Path) -> (String, Value) {
    let has_bridge = restored.manifest.files.iter().any(|file| file.name == BRIDGE);
    let has_key = data.join(STORAGE_KEY).exists();
    let next = if has_bridge { "causeway run --after-restore" } else { "causeway run" };
    let mut lines =
        vec![format!("put back into {}: {}", data.display(), listed(&restored.manifest))];
    if let Some(aside) = &restored.aside {
        lines.push(format!("what was there is in {}", aside.display()));
    }
    if has_bridge && !has_key {
        lines.push(format!(
            "{STORAGE_KEY} is missing in {}: put the one that belongs to this {BRIDGE} there first",
            data.display()
        ));
    }
    lines.push(format!("Next: {next}"));
    let json = json!({
        "data_dir": data,
        "moved_aside": restored.aside,
        "storage_key": has_key,
        "next": next,
        "manifest": restored.manifest,
    });
    (lines.join("\n"), json)
}

/// Says on a terminal how far something is that takes long.
fn progress(output: Output) -> impl FnMut(Step<'_>) {
    let mut last = Instant::now();
    let is_read = output == Output::Text && std::io::stderr().is_terminal();
    move |Step { doing, name, done, whole }| {
        if is_read && last.elapsed() >= QUIET {
            last = Instant::now();
            eprintln!("{doing} {name}: {done} of {whole} bytes");
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let said = error.to_string();
        let (code, next) = match error {
            BackupError::There(_) => (1, "name another folder"),
            BackupError::InTheWay(_) => {
                (1, "name another folder; to put a backup in its place, add --move-aside")
            }
            BackupError::Nothing(_) => (1, "is it the right configuration (--config)?"),
            BackupError::NotOne(..) => (1, "name a folder that `causeway backup create` made"),
            BackupError::Others(..) => (1, "use the program that made it"),
            BackupError::Damaged(..) => (18, "use another backup"),
            BackupError::Database(path, cause) => {
                let next = match cause {
                    OpenCause::Held(..) => "stop it first",
                    OpenCause::Newer(..) => "use the newer causeway",
                    _ => "nothing was changed",
                };
                (RunError::Database(OpenError { path, cause }).exit_code(), next)
            }
            BackupError::Full(..) => (1, "make room, or name a folder on another disk"),
            BackupError::Io(..) => (1, AGAIN),
        };
        Self { code, error: anyhow::anyhow!("{said}: {next}") }
    }
}
