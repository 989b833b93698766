//! `backup export`: what an account has, in one file that its recovery key opens.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use causeway_protocol::ids::Epoch;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    super::{exit::Failure, home::Home, line::Line, print::Printer, recover},
    records::{self, Counts, Identity, Imported, Origin, RosterOf},
};
use crate::{
    entropy,
    machine::RecoveryKey,
    schemes::export_file::Writer,
    sdk::{Client, KeepError},
    storage::{groups, history, identities, imported, ops},
};

/// What is in no export, for people and programs.
const LEFT_OUT: &str = "Not in it: keys that messages are sealed or opened with, sessions, what waits \
                        to be sent, links that were made, settings, and the recovery key.";

/// Arguments of `backup export`.
#[derive(Debug, Args)]
pub(in super::super) struct Export {
    /// The file to make
    to: PathBuf,
    /// A file that holds the recovery key; only where this home does not have it, as on a device
    /// that was linked
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(in super::super) async fn run(
    arguments: &Export,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let key = key_of(&client, arguments.key_file.as_ref(), printer).await?;
    let Export { to, .. } = arguments;
    if fs::symlink_metadata(to).is_ok() {
        return Err(Failure::failed(format!("{} is there already", to.display()))
            .next("Name another file."));
    }
    let mut draft = to.clone().into_os_string();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let counts = match make(&client, &key, &draft, to).await {
        Ok(counts) => counts,
        Err(error) => {
            let _ = fs::remove_file(&draft);
            return Err(Failure::failed(format!("cannot write {}: {error}", to.display()))
                .next("Make room, or name a file on another disk; nothing was written."));
        }
    };
    let Counts { groups, lines, .. } = counts;
    let text = format!(
        "Made {}: {lines} lines of history, {groups} groups, whom this account has met.\n{LEFT_OUT}\n\
         Only the recovery key opens it: keep that elsewhere.",
        to.display()
    );
    printer.show(&text, &json!({"export": to, "recovery_key": false, "counts": counts}))
}

/// The key that the file is sealed for: the account's, and no other's.
async fn key_of(
    client: &Client,
    file: Option<&PathBuf>,
    printer: Printer,
) -> Result<RecoveryKey, Failure> {
    let mine = {
        let mut tx = client.db().begin().await.map_err(Failure::failed)?;
        client.machine().recovery_key(&mut tx).await.map_err(Failure::failed)?
    };
    let key = match (mine, file) {
        (Some(key), None) => return Ok(key),
        (_, Some(_)) => recover::key(file, printer)?,
        (None, None) => {
            return Err(Failure::failed("this device does not have the account's recovery key")
                .next(
                    "Name a file that holds it with --key-file, or export on the first device.",
                ));
        }
    };
    if key.member_id() != client.me().record.member_id {
        return Err(Failure::failed(format!(
            "this is not the recovery key of {}",
            client.me().account
        ))
        .next("Nobody who comes back to this account could open the file; nothing was written."));
    }
    Ok(key)
}

/// Writes the whole under another name first, so that what has the name is whole.
async fn make(
    client: &Client,
    key: &RecoveryKey,
    draft: &Path,
    to: &Path,
) -> Result<Counts, KeepError> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    let salt = entropy::bytes()?;
    let mut pen = Pen {
        writer: Writer::begin(BufWriter::new(file), key.as_bytes(), &salt)?,
        counts: Counts::default(),
    };
    pen.write(client).await?;
    let mut file = pen.writer.finish()?;
    file.flush()?;
    file.get_ref().sync_all()?;
    fs::rename(draft, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(pen.counts)
}

struct Pen {
    writer: Writer<BufWriter<File>>,
    counts: Counts,
}

impl Pen {
    fn put(&mut self, kind: u8, record: &impl Serialize) -> Result<(), KeepError> {
        let body = Zeroizing::new(serde_json::to_vec(record)?);
        Ok(self.writer.put(kind, &body)?)
    }

    /// Others may write meanwhile: lines and ops are only added, and each group's are read at once.
    async fn write(&mut self, client: &Client) -> Result<(), KeepError> {
        let me = client.me();
        let last = history::last(client.db().read().await?.conn()).await?;
        let origin = Origin {
            account: me.account.clone(),
            member_id: me.record.member_id,
            device_id: me.record.device_id,
            server_url: client.http().base().to_owned(),
            made_at_ms: client.now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.put(records::ORIGIN, &origin)?;
        self.identities(client).await?;
        self.groups(client).await?;
        let others = imported::all(client.db().read().await?.conn(), client.vault()).await?;
        for (group, name) in others {
            let shown = history::shown(client.db().read().await?.conn(), &group).await?;
            self.put(records::IMPORTED, &Imported { group, name, shown })?;
            self.counts.imported_groups += 1;
        }
        self.lines(client, last).await?;
        let counts = self.counts;
        self.put(records::END, &counts)
    }

    async fn identities(&mut self, client: &Client) -> Result<(), KeepError> {
        for found in identities::all(client.db().read().await?.conn()).await? {
            let identity = Identity {
                account: found.account,
                member_id: found.member,
                standing: found.standing.name().to_owned(),
                since_ms: found.since,
            };
            self.put(records::IDENTITY, &identity)?;
            self.counts.identities += 1;
        }
        Ok(())
    }

    async fn groups(&mut self, client: &Client) -> Result<(), KeepError> {
        let all = groups::all(client.db().read().await?.conn()).await?;
        for group in all {
            let mut read = client.db().read().await?;
            let Some(row) = groups::group(read.conn(), &group).await? else { continue };
            for op in ops::from(read.conn(), &group, Epoch(0)).await? {
                self.writer.put(records::OP, &op)?;
                self.counts.ops += 1;
            }
            let shown = history::shown(read.conn(), &group).await?;
            let taken = row.offer == Some(groups::Offer::Taken);
            self.put(records::GROUP, &RosterOf { group, taken, shown })?;
            self.counts.groups += 1;
        }
        Ok(())
    }

    async fn lines(&mut self, client: &Client, last: i64) -> Result<(), KeepError> {
        let mut row = 0;
        loop {
            let page = {
                let mut read = client.db().read().await?;
                history::after(read.conn(), client.vault(), None, row).await?
            };
            let before = row;
            for line in page {
                row = serde_json::from_slice::<Line>(&line)?.row;
                if row > last {
                    return Ok(());
                }
                self.writer.put(records::LINE, &line)?;
                self.counts.lines += 1;
            }
            if row == before {
                return Ok(());
            }
        }
    }
}
