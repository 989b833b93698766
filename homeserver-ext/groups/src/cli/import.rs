//! `import …`: what other programs have kept, among what `history` and `search` find.
//!
//! Nothing of it is verified, and every line says so. A file can be imported again: what is here stays
//! as it is.

mod secirc;

use std::{fmt::Write as _, fs::File, io::Read as _, path::PathBuf};

use causeway_protocol::ids::{Epoch, GroupId};
use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    ask,
    exit::Failure,
    harmless::one_line,
    history,
    home::Home,
    names,
    print::{Printer, table},
};
use crate::{
    sdk::Client,
    storage::{forgotten, imported},
};

/// Largest file, bytes.
const MAX_FILE: u64 = 64 << 20;
/// Most groups that are kept.
const MAX_GROUPS: usize = 256;
/// Lines that are kept by one commit, or let go of.
const LINES_AT_ONCE: usize = 256;
/// So many of those that were not taken are told with the reason.
const TOLD: usize = 10;

/// What is done with other programs' messages.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Import an export of secIRC: group keys and the messages under them
    ///
    /// One JSON object: `group_keys` and `messages` as secIRC has them, bytes in hex, and `groups`
    /// (`group_id` and `name`) for their names. Delete the file afterwards: its keys open everything in it.
    #[command(
        after_help = "Examples:\n  causeway-client import secirc export.json\n  causeway-client history secirc-827850f7"
    )]
    Secirc(FromFile),
    /// Show the groups that were imported
    #[command(after_help = "Examples:\n  causeway-client import list")]
    List,
    /// Let go of a group that was imported, and of all its lines
    #[command(after_help = "Examples:\n  causeway-client import forget secirc-827850f7 --yes")]
    Forget(Forget),
}

/// Arguments of `import secirc`.
#[derive(Debug, Args)]
pub(super) struct FromFile {
    /// The file
    file: PathBuf,
}

/// Arguments of `import forget`.
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    match command {
        Command::Secirc(FromFile { file }) => from_secirc(&client, &file, printer).await,
        Command::List => list(&client, printer).await,
        Command::Forget(arguments) => forget(&client, &arguments, printer).await,
    }
}

fn text_of(path: &PathBuf) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("cannot read {}: {error}", path.display()))
            .next("Name a file that secIRC's messages were exported to.")
    };
    // Before it is opened: a pipe would be waited for.
    let found = std::fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() {
        return Err(unreadable(std::io::Error::other("it is no regular file")));
    }
    let file = File::open(path).map_err(unreadable)?;
    // So that it is not moved about while it is read.
    let size = usize::try_from(found.len().min(MAX_FILE)).unwrap_or_default();
    let mut text = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE {
        return Err(Failure::usage(format!("{} is larger than 64 MiB", path.display()))
            .next("Split its messages over several files, each with the keys."));
    }
    Ok(text)
}

async fn from_secirc(client: &Client, path: &PathBuf, printer: Printer) -> Result<(), Failure> {
    let text = text_of(path)?;
    let read = secirc::read(&text).map_err(|why| {
        Failure::usage(format!("{} is no export of secIRC: {why}", path.display()))
            .next("`causeway-client import secirc --help` says what it looks like.")
    })?;
    let there = imported::all(client.db().read().await?.conn(), client.vault()).await?;
    let is_new = |it: &&secirc::Group| there.iter().all(|(group, _)| *group != it.id);
    let new = read.groups.iter().filter(is_new).count();
    if there.len() + new > MAX_GROUPS {
        let what = format!(
            "nothing was taken: {} has {new} groups that are not here, {} were imported already, and \
             {MAX_GROUPS} fit",
            path.display(),
            there.len()
        );
        return Err(Failure::failed(what).next(
            "`causeway-client import forget` makes room; or take some of the groups out of the file.",
        ));
    }
    let mut groups = Vec::with_capacity(read.groups.len());
    let (mut taken, mut known, mut refused) = (0, 0, read.refused);
    for secirc::Group { id, name, lines } in read.groups {
        let (all, before, mut added) = (lines.len(), refused.len(), 0);
        let mut lines = lines.into_iter().peekable();
        while lines.peek().is_some() {
            let some: Vec<_> = lines.by_ref().take(LINES_AT_ONCE).collect();
            let mut tx = client.db().begin().await?;
            let there = imported::all(tx.conn(), client.vault()).await?;
            if there.len() >= MAX_GROUPS && there.iter().all(|(group, _)| *group != id) {
                return Err(Failure::failed(format!("{MAX_GROUPS} groups were imported already"))
                    .next("`causeway-client import forget` makes room."));
            }
            // What it is called here, people have used.
            if there.iter().all(|(group, _)| *group != id) {
                imported::put(tx.conn(), client.vault(), &id, &name).await?;
            }
            let new = history::import(client, &mut tx, (id, &name), some).await;
            let (new, otherwise) = new.map_err(Failure::failed)?;
            tx.commit().await?;
            added += new;
            refused.extend(otherwise.iter().map(|id| {
                let which = format!("message {}", hex::encode(id.as_bytes()));
                (which, "another of this id and sender is here, and stays".to_owned())
            }));
        }
        taken += added;
        known += all - added - (refused.len() - before);
        groups.push((id, name, added));
    }
    let mut said = format!("Imported {taken} messages, not verified; {known} were here already.");
    for (id, name, added) in &groups {
        let _ = write!(said, "\n  {} ({id}): {added} new", one_line(name));
    }
    let reasons: Vec<_> =
        refused.iter().take(TOLD).map(|(which, why)| format!("{which}: {why}")).collect();
    let shown =
        groups.iter().map(|(id, name, n)| json!({"group": id, "name": name, "imported": n}));
    printer.show(
        &said,
        &json!({
            "imported": taken, "known": known, "refused": refused.len(),
            "reasons": reasons, "groups": shown.collect::<Vec<_>>(),
        }),
    )?;
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("{} messages were not imported", refused.len()))
        .next(reasons.join("\n")))
}

async fn list(client: &Client, printer: Printer) -> Result<(), Failure> {
    let all = imported::all(client.db().read().await?.conn(), client.vault()).await?;
    let text = if all.is_empty() {
        "Nothing was imported.".to_owned()
    } else {
        table(["name", "id"], all.iter().map(|(id, name)| [one_line(name), id.to_string()]))
    };
    let groups = all.iter().map(|(id, name)| json!({"group": id, "name": name}));
    printer.show(&text, &json!({"groups": groups.collect::<Vec<_>>()}))
}

async fn forget(client: &Client, arguments: &Forget, printer: Printer) -> Result<(), Failure> {
    let found = names::imported(client, &arguments.group).await?;
    let (group, name): (GroupId, String) = found.ok_or_else(|| {
        Failure::usage(format!("no group `{}` was imported", arguments.group))
            .next("`causeway-client import list` shows those that were.")
    })?;
    let question = format!("Forget `{}`, with all its lines?", one_line(&name));
    ask::agree(&question, arguments.yes)?;
    loop {
        let mut tx = client.db().begin().await?;
        let most = u32::try_from(LINES_AT_ONCE).unwrap_or(u32::MAX);
        let more = forgotten::drop_lines(tx.conn(), &group, most).await?;
        if !more {
            forgotten::forget(tx.conn(), &group, Epoch(0)).await?;
            imported::remove(tx.conn(), &group).await?;
        }
        tx.commit().await?;
        if !more {
            break;
        }
    }
    printer.show(
        &format!("Forgot `{}`: nothing of it is kept here.", one_line(&name)),
        &json!({"group": group, "name": name, "forgotten": true}),
    )
}
