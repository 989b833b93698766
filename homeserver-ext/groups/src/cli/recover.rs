//! `recover`: a new device of an account, by its recovery key.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Read as _},
    path::PathBuf,
    sync::Arc,
};

use causeway_protocol::ids::{DeviceId, GroupId};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    exit::Failure,
    harmless::one_line,
    history::History,
    home::{Home, Opened},
    print::Printer,
};
use crate::{
    machine::{OldDevices, RecoveryKey},
    sdk::{CallError, Client, Fill, RecoverError, Recovered},
};

/// Longest text in which a recovery key is looked for, bytes.
const MAX_TEXT: u64 = 4_096;

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name of the account: `bob`, or `bob:b.example`
    account: String,
    #[command(flatten)]
    how: How,
}

/// How somebody comes back.
#[derive(Debug, Args)]
pub(super) struct How {
    /// A file that holds the recovery key; without it the key is read from stdin
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    /// What becomes of the devices that the account has: out of everything, or as before
    #[arg(long, value_enum, default_value_t = Old::Remove, value_name = "WHAT")]
    old_devices: Old,
    /// Take part in all groups that the account is in, also where others have put it
    #[arg(long)]
    accept_groups: bool,
}

/// What becomes of the old devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Old {
    /// They are logged out, and read nothing more in any group
    Remove,
    /// They go on beside this one
    Keep,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let key = key(arguments.how.key_file.as_ref(), printer)?;
    let opened = home.open().await?;
    let whom = Whom { server: home.server(), name: &arguments.account, key: &key };
    come_back(opened, whom, &arguments.how, None, printer).await
}

/// The recovery key, from a file or from stdin.
pub(super) fn key(file: Option<&PathBuf>, printer: Printer) -> Result<RecoveryKey, Failure> {
    let text = key_text(file, printer)?;
    RecoveryKey::parse(&text).map_err(|error| {
        Failure::usage(error).next("It is what `register` showed as the recovery key, once.")
    })
}

/// Who comes back, and where.
pub(super) struct Whom<'a> {
    /// The server, if it is said.
    pub(super) server: Option<&'a str>,
    /// The account.
    pub(super) name: &'a str,
    /// Its key.
    pub(super) key: &'a RecoveryKey,
}

/// What a new device begins with.
pub(super) struct Begins {
    /// Puts it there.
    pub(super) fill: Fill,
    /// How many lines of history are in it.
    pub(super) lines: u64,
    /// How many there are of what, for programs.
    pub(super) counts: Value,
}

/// Makes a new device of the account in this home.
pub(super) async fn come_back(
    Opened { db, vault }: Opened,
    Whom { server, name, key }: Whom<'_>,
    how: &How,
    begins: Option<Begins>,
    printer: Printer,
) -> Result<(), Failure> {
    let old = match how.old_devices {
        Old::Keep => OldDevices::Keep,
        Old::Remove => OldDevices::Remove,
    };
    let (fill, put_in) =
        begins.map(|Begins { fill, lines, counts }| (fill, (lines, counts))).unzip();
    let keep = Arc::new(History);
    let Recovered { client, others } =
        Client::recover(db, vault, server, name, key, old, fill, keep, super::now).await?;
    client.bring_in().await?;
    let mut groups = Vec::new();
    for roster in client.rosters().await? {
        if roster.closed() || roster.member(&client.me().record.member_id).is_none() {
            continue;
        }
        if how.accept_groups {
            client.take_offer(roster.group()).await?;
        }
        let is_offered = client.offer(roster.group()).await?.is_some();
        groups.push((roster.group(), roster.policy().name.clone(), is_offered));
    }
    // So that the others can be written to at once; what fails is tried again.
    if let Err(error) = client.chores().await {
        tracing::debug!(%error, "the new device has not done its part yet");
    }
    show(&client, &groups, (old, others), put_in, printer)
}

/// A group, what it is called, and whether it is an offer.
type Found = (GroupId, String, bool);

fn show(
    client: &Client,
    groups: &[Found],
    (old, others): (OldDevices, Vec<DeviceId>),
    put_in: Option<(u64, Value)>,
    printer: Printer,
) -> Result<(), Failure> {
    let offered = groups.iter().filter(|(.., is_offered)| *is_offered).count();
    let me = client.me();
    let mut said = format!(
        "This is {} again, with a new device.\nDevice: {}\nOld devices: {}\nGroups: {}",
        me.account,
        me.record.device_id,
        match (others.len(), old) {
            (0, _) => "none".to_owned(),
            (n, OldDevices::Keep) => format!("{n}, which go on as before"),
            (n, OldDevices::Remove) => format!("{n}, logged out and taken out of all groups"),
        },
        groups.len(),
    );
    for (_, name, is_offered) in groups {
        said.extend(["\n  ", one_line(name).as_str()]);
        if *is_offered {
            said.push_str(" (others have put you there: `group accept`)");
        }
    }
    match &put_in {
        None => said.push_str("\nWhat was said before is not here."),
        Some((lines, _)) => {
            let _ = write!(
                said,
                "\nHistory: {lines} lines, up to when the file was made. What was said from then until now \
                 is not here."
            );
        }
    }
    let shown = groups.iter().map(
        |(group, name, is_offered)| json!({"group": group, "name": name, "offered": is_offered}),
    );
    let shown: Vec<_> = shown.collect();
    let (kept, removed) = match old {
        OldDevices::Keep => (others, Vec::new()),
        OldDevices::Remove => (Vec::new(), others),
    };
    let mut json = json!({
        "account": me.account, "member_id": me.record.member_id, "device_id": me.record.device_id,
        "server_url": client.http().base(), "kept_devices": kept, "removed_devices": removed,
        "groups": shown, "offered": offered,
    });
    if let (Some((_, counts)), Some(fields)) = (put_in, json.as_object_mut()) {
        fields.insert("imported".to_owned(), counts);
    }
    printer.show(&said, &json)
}

fn key_text(file: Option<&PathBuf>, printer: Printer) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = match file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_TEXT).read_to_string(&mut text))
            .map_err(|e| {
                Failure::usage(format!("cannot read {}: {e}", path.display()))
                    .next("Name a file that holds the recovery key.")
            }),
        None if std::io::stdin().is_terminal() => {
            printer.remark("Recovery key:");
            std::io::stdin().read_line(&mut text).map_err(no_key)
        }
        None => std::io::stdin().take(MAX_TEXT).read_to_string(&mut text).map_err(no_key),
    };
    read.map(|_| text)
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
fn no_key(error: std::io::Error) -> Failure {
    Failure::usage(format!("no recovery key can be read from stdin: {error}"))
        .next("Give it on stdin, or name a file that holds it with --key-file.")
}

impl From<RecoverError> for Failure {
    fn from(error: RecoverError) -> Self {
        let said = error.to_string();
        match error {
            RecoverError::Open(error) => error.into(),
            RecoverError::Call(error) => CallError::into(error),
            RecoverError::NoServer => {
                Self::usage(said).next("Name it: --server https://host, or recover `name:server`.")
            }
            RecoverError::BaseUrl(_) => Self::usage(said).next("Name it as --server https://host."),
            RecoverError::Name(..) => {
                Self::usage(said).next("It is `bob`, or `bob:b.example` of another server.")
            }
            RecoverError::Already(_) => Self::failed(said)
                .next("Name another folder with --home: one folder is one device."),
            RecoverError::NobodysKey(_) => Self::failed(said)
                .next("Compare it with what you wrote down, character by character."),
            RecoverError::AnothersKey(whose, _) => {
                Self::failed(said).next(format!("`recover {whose}` is what this key is for."))
            }
            RecoverError::Fill(_) => Self::failed(said).next(
                "Nothing was changed. Is there room on the disk, and is the file what it was?",
            ),
            RecoverError::Contended => Self::failed(said).next("Try again."),
            RecoverError::Machine(_) | RecoverError::Vault(_) | RecoverError::Store(_) => {
                Self::failed(said)
                    .next("Run the same command again, or name another folder with --home.")
            }
        }
    }
}
