//! `backup …`: copies of this home's database, looked at, and put back; and what an account has, for a
//! new device of it.

mod export;
mod import;
mod records;

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use causeway_store::{
    OpenCause,
    backup::{self, BackupError, Maker, Manifest, Source, Step},
};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use super::{exit::Failure, home::Home, print::Printer};
use crate::SCHEMA;

const MAKER: Maker<'static> = Maker {
    program: "causeway-client",
    version: env!("CARGO_PKG_VERSION"),
    sources: &[Source { name: "client.db", schemas: &[SCHEMA] }],
};
/// Between two words on how far something is.
const QUIET: Duration = Duration::from_secs(5);

/// What is done with backups.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Copy the database to a new folder; other commands may run meanwhile
    ///
    /// storage.key is neither needed nor copied: keep it elsewhere, without it the copy is of no
    /// use.
    #[command(after_help = "Examples:\n  causeway-client backup create /media/stick/causeway-2026")]
    Create(To),
    /// Say whether a backup is whole, and can be put back by this program
    #[command(after_help = "Examples:\n  causeway-client backup verify /media/stick/causeway-2026")]
    Verify(From),
    /// Put the database of a backup into this home; no other command may run
    ///
    /// What is sent next is sealed with new keys; what came in since the backup is not there.
    #[command(
        after_help = "Examples:\n  causeway-client backup restore /media/stick/causeway-2026\n  causeway-client backup restore /media/stick/causeway-2026 --move-aside"
    )]
    Restore(Restore),
    /// Write what the account has to one file, which only its recovery key opens
    ///
    /// In it: who the account is and whom it has met, the rosters of its groups, and all lines of
    /// history. Not in it: keys that messages are sealed or opened with, sessions, one-time keys, what
    /// waits to be sent, invite links, settings, and the recovery key.
    #[command(after_help = "Examples:\n  causeway-client backup export /media/stick/alice.export")]
    Export(export::Export),
    /// Make this home, which is nobody's yet, a new device of an account, with what it had exported
    ///
    /// As `recover`, which see: the recovery key is read from --key-file or stdin, and the account's
    /// other devices are logged out unless they are to be kept. Again, it goes on from where it stopped.
    #[command(
        after_help = "Examples:\n  causeway-client backup import /media/stick/alice.export\n  causeway-client backup import alice.export --old-devices keep --key-file key.txt"
    )]
    Import(import::Import),
}

/// Arguments of `backup create`.
#[derive(Debug, Args)]
pub(super) struct To {
    /// The folder to make
    to: PathBuf,
}

/// Arguments of `backup verify`.
#[derive(Debug, Args)]
pub(super) struct From {
    /// The folder that `backup create` made
    from: PathBuf,
}

/// Arguments of `backup restore`.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The folder that `backup create` made
    from: PathBuf,
    /// Move a database that is there to a folder `before-restore-…` in this home
    #[arg(long)]
    move_aside: bool,
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    let watch = &mut progress(printer);
    match command {
        Command::Create(To { to }) => {
            if !home.has_database() {
                return Err(home.nobody());
            }
            let made = backup::create(MAKER, home.dir(), &to, super::now().0, watch).await?;
            let text = format!(
                "Made {} ({} bytes).\nstorage.key is not in it: keep it elsewhere, without it \
                 nothing in there can be read.",
                to.display(),
                made.bytes()
            );
            printer.show(&text, &json!({"backup": to, "storage_key": false, "manifest": made}))
        }
        Command::Verify(From { from }) => {
            let found = backup::verify(MAKER, &from, watch).await?;
            let Manifest { version, .. } = &found;
            let text = format!(
                "{} is whole ({} bytes), made by version {version}.",
                from.display(),
                found.bytes()
            );
            printer.show(&text, &json!({"backup": from, "whole": true, "manifest": found}))
        }
        Command::Restore(arguments) => restore(&arguments, home, printer).await,
        Command::Export(arguments) => export::run(&arguments, home, printer).await,
        Command::Import(arguments) => import::run(&arguments, home, printer).await,
    }
}

async fn restore(arguments: &Restore, home: &Home, printer: Printer) -> Result<(), Failure> {
    let Restore { from, move_aside } = arguments;
    let aside = format!("before-restore-{}", super::now().0);
    let aside = move_aside.then_some(&*aside);
    let watch = &mut progress(printer);
    let restored = backup::restore(MAKER, from, home.dir(), None, aside, watch).await?;
    let has_key = home.dir().join("storage.key").exists();
    let mut lines = vec![format!("Put back into {}.", home.dir().display())];
    if let Some(aside) = &restored.aside {
        lines.push(format!("What was there is in {}.", aside.display()));
    }
    if !has_key {
        lines.push("storage.key is missing: put the one that belongs to it there first.".into());
    }
    lines.push("Next: `causeway-client tail`; it begins new keys.".to_owned());
    printer.show(
        &lines.join("\n"),
        &json!({
            "home": home.dir(), "moved_aside": restored.aside, "storage_key": has_key,
            "next": "causeway-client tail", "manifest": restored.manifest,
        }),
    )
}

/// Says on a terminal how far something is that takes long.
fn progress(printer: Printer) -> impl FnMut(Step<'_>) {
    let mut last = Instant::now();
    let is_read = std::io::stderr().is_terminal();
    move |Step { doing, name, done, whole }| {
        if is_read && last.elapsed() >= QUIET {
            last = Instant::now();
            printer.remark(&format!("{doing} {name}: {done} of {whole} bytes"));
        }
    }
}

impl std::convert::From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let said = error.to_string();
        let next = match error {
            BackupError::NotOne(..) => {
                return Self::usage(said)
                    .next("Name a folder that `causeway-client backup create` made.");
            }
            BackupError::There(_) => "Name another folder.",
            BackupError::InTheWay(_) => {
                "Name another folder; to put a backup in its place, add --move-aside."
            }
            BackupError::Nothing(_) => "Name another folder with --home.",
            BackupError::Others(..) => "Use the program that made it.",
            BackupError::Damaged(..) => "Use another backup; nothing was changed.",
            BackupError::Database(_, OpenCause::Held(..)) => "End it first; nothing was changed.",
            BackupError::Database(_, OpenCause::Newer(..)) => "Use the newer causeway-client.",
            BackupError::Full(..) => "Make room, or name a folder on another disk.",
            BackupError::Database(..) => "Nothing was changed.",
            BackupError::Io(..) => {
                "Mend that and say it again; what was moved aside is in `before-restore-…`."
            }
        };
        Self::failed(said).next(next)
    }
}
