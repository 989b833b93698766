//! `message status`: how far a message came, device by device.

use std::{collections::BTreeMap, str::FromStr};

use causeway_protocol::{
    ids::{AccountId, DeviceId, EnvelopeId},
    roster::Roster,
};
use clap::Args;
use serde_json::json;

use super::super::{
    exit::Failure,
    harmless::one_line,
    history,
    home::Home,
    line::Message,
    names::{self, Named},
    outbox::{self, Named as Sent, State},
    print::{Printer, table},
};
use crate::sdk::{Client, Reached};

/// Arguments of `message status`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Which: its number (12 for #12), or its id or `client_id` as `send` gives them [default: your last
    /// one in this group]
    #[arg(allow_hyphen_values = true)]
    message: Option<Which>,
}

/// A message of one's own.
#[derive(Debug, Clone, Copy)]
enum Which {
    /// By its row in this home.
    Row(i64),
    /// By its envelope, or as its device calls it: both are 16 bytes.
    Id(EnvelopeId),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('#').unwrap_or(text);
        let id = || text.parse().map(Self::Id).map_err(|_| no_message(text));
        number.parse().map(Self::Row).or_else(|_| id())
    }
}

fn no_message(text: &str) -> String {
    format!(
        "`{}` is no message: name one by its number (12 for #12), or by its id, which is 22 letters, \
         digits, - and _ as `send` gives it; without a name it is your last one in the group",
        one_line(text)
    )
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::roster(&client, &arguments.named.group).await?;
    let Sent { client_id, state } = sent(&client, &roster, arguments.message).await?;
    let (id, reached) = match state {
        State::Accepted(id) => {
            let reached = client.reached(roster.group(), client_id, id).await?;
            let reached = reached.ok_or_else(|| {
                Failure::failed("the server knows nothing of this message any more")
                    .next("It keeps that for as long as the message lives, and a day.")
            })?;
            (Some(id), reached)
        }
        State::Queued => (None, waiting(&client, &roster, client_id).await?),
        State::Failed(why) => {
            return Err(Failure::failed(format!("the message was not sent: {why}"))
                .next("It is given up, and goes out at no later time."));
        }
    };
    let whose = accounts(&client, &roster, &reached).await?;
    let text = if reached.is_empty() {
        "There was nobody to send it to.".to_owned()
    } else {
        let rows = reached.iter().map(|(device, reached)| {
            let mut account = whose.get(device).map_or("(unknown)", |it| it.as_str()).to_owned();
            if !roster.devices().any(|counts| counts.device_id == *device) {
                account.push_str(" (not in the group any more)");
            }
            [account, device.to_string(), in_words(reached)]
        });
        table(["account", "device", "state"], rows)
    };
    printer.show(&text, &as_json(&roster, id, client_id, (&reached, &whose)))
}

/// The message that is meant, as the outbox has it.
async fn sent(client: &Client, roster: &Roster, which: Option<Which>) -> Result<Sent, Failure> {
    let group = roster.group();
    let name = match which {
        None => None,
        Some(Which::Id(id)) => Some(*id.as_bytes()),
        Some(Which::Row(row)) => {
            let Message { own, client_id, device, .. } =
                history::message(client, group, row).await?;
            if !own {
                return Err(Failure::usage(format!("#{row} is not yours"))
                    .next("How far a message came is told to who sent it."));
            }
            if device != client.me().record.device_id {
                return Err(Failure::usage(format!(
                    "#{row} was said with another device of yours"
                ))
                .next("How far a message came is told to the device that sent it."));
            }
            Some(*client_id.as_bytes())
        }
    };
    let sent = outbox::named(client.db(), group, name).await?;
    sent.ok_or_else(|| {
        Failure::usage("there is no such message of yours in this group")
            .next("`causeway-client history` shows messages with their numbers.")
    })
}

/// Nobody has what waits here; some could not be given it.
async fn waiting(
    client: &Client,
    roster: &Roster,
    client_id: causeway_protocol::ids::ClientId,
) -> Result<BTreeMap<DeviceId, Reached>, Failure> {
    let lacking = client.lacking(roster.group(), client_id).await?;
    let me = client.me().record.device_id;
    let others = roster.devices().map(|device| device.device_id).filter(|device| *device != me);
    let reached = |device: DeviceId| {
        let reached = if lacking.contains(&device) { Reached::NoKey } else { Reached::Queued };
        (device, reached)
    };
    Ok(others.map(reached).collect())
}

/// Whose each device is, or was before it went.
async fn accounts(
    client: &Client,
    roster: &Roster,
    reached: &BTreeMap<DeviceId, Reached>,
) -> Result<BTreeMap<DeviceId, AccountId>, Failure> {
    let members = roster.members().values();
    let mut whose: BTreeMap<_, _> = members
        .flat_map(|of| of.devices.iter().map(|device| (*device, of.account.clone())))
        .collect();
    for device in reached.keys() {
        if !whose.contains_key(device)
            && let Some(account) = client.account_of(*device).await?
        {
            whose.insert(*device, account);
        }
    }
    Ok(whose)
}

fn in_words(reached: &Reached) -> String {
    match reached {
        Reached::Failed(Some(why)) => format!("failed: {}", one_line(why)),
        Reached::Expired => "expired: not fetched in time".to_owned(),
        reached => reached.name().to_owned(),
    }
}

fn as_json(
    roster: &Roster,
    id: Option<EnvelopeId>,
    client_id: causeway_protocol::ids::ClientId,
    (reached, whose): (&BTreeMap<DeviceId, Reached>, &BTreeMap<DeviceId, AccountId>),
) -> serde_json::Value {
    let recipients: Vec<_> = reached
        .iter()
        .map(|(device, reached)| {
            let mut of = json!({
                "device": device, "account": whose.get(device), "state": reached.name(),
            });
            if let (Reached::Failed(Some(why)), Some(fields)) = (reached, of.as_object_mut()) {
                fields.insert("reason".to_owned(), why.as_str().into());
            }
            of
        })
        .collect();
    json!({
        "group": roster.group(), "id": id, "client_id": client_id, "recipients": recipients,
    })
}
