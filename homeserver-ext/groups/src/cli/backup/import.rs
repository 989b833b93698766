//! `backup import`: a new device of an account, which begins with what another has exported.
//!
//! The file is read twice: to its end before anything is made, and then into the database, in the
//! transaction that makes the device.

use std::{
    fs::File,
    io::{BufReader, Seek as _},
    path::{Path, PathBuf},
};

use causeway_protocol::{
    api::OpBytes,
    ids::{GroupId, text_of},
};
use causeway_store::Tx;
use clap::Args;
use serde_json::json;

use super::{
    super::{
        exit::Failure,
        history as lines,
        home::{Home, Opened},
        print::Printer,
        recover,
    },
    records::{Counts, Imported, Origin, Record, Records, RosterOf},
};
use crate::{
    machine::{Machine, RecoveryKey, What},
    schemes::export_file::{NotOpened, Reader},
    sdk::KeepError,
    storage::{
        history,
        identities::{self, Standing},
        imported, own, settings,
    },
    vault::Vault,
};

/// Which export this home began with, by its salt.
const BEGAN_WITH: &str = "imported_export";
/// Bytes of ops that are judged at once.
const OPS_AT_ONCE: usize = 256 << 10;

/// Arguments of `backup import`.
#[derive(Debug, Args)]
pub(in super::super) struct Import {
    /// The file that `backup export` made
    from: PathBuf,
    #[command(flatten)]
    how: recover::How,
}

type Found = Records<BufReader<File>>;

pub(in super::super) async fn run(
    arguments: &Import,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let Import { from, how } = arguments;
    let file = open(from)?;
    let key = recover::key(how.key_file.as_ref(), printer)?;
    let not_read = |error| not_read(from, &error);
    let (origin, counts, salt) = survey(&file, &key).map_err(not_read)?;
    let Opened { db, vault } = home.open().await?;
    {
        let mut read = db.read().await.map_err(Failure::failed)?;
        let began = settings::get(read.conn(), BEGAN_WITH).await.map_err(Failure::failed)?;
        let is_device = own::is_there(read.conn()).await.map_err(Failure::failed)?;
        if is_device && began.as_ref() != Some(&salt) {
            return Err(Failure::failed(format!(
                "{} is the folder of a device already",
                home.dir().display()
            ))
            .next("Name another folder with --home: an import makes a new device."));
        }
    }
    let again = records(&file, &key).map_err(not_read)?;
    if text_of(again.salt()) != salt {
        return Err(not_read(NotOpened::Changed));
    }
    let kept = vault.clone();
    let begins = recover::Begins {
        fill: Box::new(move |machine, tx| {
            Box::pin(async move { fill(machine, tx, &kept, again).await })
        }),
        lines: counts.lines,
        counts: json!(counts),
    };
    let whom = recover::Whom {
        server: Some(home.server().unwrap_or(&origin.server_url)),
        name: origin.account.as_str(),
        key: &key,
    };
    recover::come_back(Opened { db, vault }, whom, how, Some(begins), printer).await
}

fn open(path: &Path) -> Result<File, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("cannot read {}: {error}", path.display()))
            .next("Name a file that `causeway-client backup export` made.")
    };
    // Before it is opened: a pipe would be waited for.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(std::io::Error::other("it is no regular file")));
    }
    File::open(path).map_err(unreadable)
}

fn records(mut file: &File, key: &RecoveryKey) -> Result<Found, NotOpened> {
    file.rewind().map_err(NotOpened::Io)?;
    let file = file.try_clone().map_err(NotOpened::Io)?;
    Ok(Records::new(Reader::open(BufReader::new(file), key.as_bytes())?))
}

/// Reads it to its end.
fn survey(file: &File, key: &RecoveryKey) -> Result<(Origin, Counts, String), NotOpened> {
    let mut records = records(file, key)?;
    let Some(Record::Origin(origin)) = records.next()? else {
        return Err(NotOpened::Junk("no beginning"));
    };
    if origin.member_id != key.member_id() {
        return Err(NotOpened::Junk("another account's beginning"));
    }
    while let Some(record) = records.next()? {
        if let Record::Identity(identity) = record {
            Standing::from_name(&identity.standing)
                .ok_or(NotOpened::Junk("an identity that is nothing to its account"))?;
        }
    }
    Ok((origin, records.counts(), text_of(records.salt())))
}

fn not_read(path: &Path, error: &NotOpened) -> Failure {
    let said = format!("{} cannot be imported: {error}", path.display());
    match error {
        NotOpened::NotOne => {
            Failure::usage(said).next("Name a file that `causeway-client backup export` made.")
        }
        NotOpened::Version(_) => {
            Failure::failed(said).next("Use the causeway-client that made it.")
        }
        NotOpened::WrongKey => Failure::failed(said)
            .next("Give the recovery key of the account that made it; nothing was changed."),
        NotOpened::Cut => Failure::failed(said).next("Copy it again; nothing was changed."),
        NotOpened::Changed | NotOpened::Junk(_) => {
            Failure::failed(said).next("Use another export, or `recover`; nothing was changed.")
        }
        NotOpened::Io(_) => Failure::failed(said).next("Mend that and say it again."),
    }
}

/// Puts all of it into the database of the device that was just made.
async fn fill(
    machine: &Machine,
    tx: &mut Tx,
    vault: &Vault,
    mut records: Found,
) -> Result<(), KeepError> {
    tx.spill().await?;
    settings::put(tx.conn(), BEGAN_WITH, &text_of(records.salt())).await?;
    let (mut ops, mut bytes) = (Vec::new(), 0);
    while let Some(record) = records.next()? {
        match record {
            Record::Origin(_) | Record::End(_) => {}
            Record::Identity(found) if found.account == machine.me().account => {}
            Record::Identity(found) => {
                let standing = Standing::from_name(&found.standing).ok_or(NotOpened::Changed)?;
                let (account, member) = (&found.account, &found.member_id);
                identities::put(tx.conn(), account, member, standing, found.since_ms).await?;
            }
            Record::Op(group, op) => {
                bytes += op.len();
                ops.push(OpBytes(op));
                if bytes >= OPS_AT_ONCE {
                    install(machine, tx, group, &mut ops).await?;
                    bytes = 0;
                }
            }
            Record::Group(RosterOf { group, taken, shown }) => {
                install(machine, tx, group, &mut ops).await?;
                bytes = 0;
                if taken && machine.roster(tx, group).await?.is_some() {
                    machine.take_offer(tx, super::super::now(), group).await?;
                }
                if let Some(row) = shown {
                    history::mark_shown(tx.conn(), &group, row).await?;
                }
            }
            Record::Imported(Imported { group, name, shown }) => {
                imported::put(tx.conn(), vault, &group, &name).await?;
                if let Some(row) = shown {
                    history::mark_shown(tx.conn(), &group, row).await?;
                }
            }
            Record::Line(line) => lines::insert(vault, tx, *line).await?,
        }
    }
    Ok(())
}

/// Judges ops as if the server had shown them.
async fn install(
    machine: &Machine,
    tx: &mut Tx,
    group: GroupId,
    ops: &mut Vec<OpBytes>,
) -> Result<(), KeepError> {
    if ops.is_empty() {
        return Ok(());
    }
    let found = machine.install_ops(tx, super::super::now(), group, ops).await?;
    ops.clear();
    if found.iter().any(|received| matches!(received.what, What::Failed { .. })) {
        return Err(NotOpened::Junk("an op that is not valid").into());
    }
    Ok(())
}
