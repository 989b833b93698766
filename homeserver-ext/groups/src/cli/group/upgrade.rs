//! `group upgrade`: the end of a group's legacy suite.

use std::io::{self, IsTerminal as _};

use causeway_protocol::{ids::DeviceId, roster::Roster};
use clap::Args;
use serde_json::json;

use super::super::{
    ask,
    exit::Failure,
    harmless::one_line,
    home::Home,
    names::{self, Named},
    print::Printer,
};
use crate::{sdk::Client, storage::legacy};

/// The `min_version` of a group that speaks no legacy suite.
const VERSION: u8 = 2;

/// Arguments of `group upgrade`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Do not ask, also where there are clients that cannot follow
    #[arg(long)]
    yes: bool,
    /// Only say who could not follow, and change nothing
    #[arg(long, conflicts_with = "yes")]
    check: bool,
}

pub(super) async fn run(
    arguments: &Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::to_change(&client, &arguments.named.group).await?;
    let (group, name) = (roster.group(), one_line(&roster.policy().name));
    let Some(suite) = names::legacy(&roster) else {
        return Err(
            Failure::usage(format!("`{name}` speaks no legacy suite")).next("Nothing was changed.")
        );
    };
    let behind = behind(&client, &roster).await?;
    let shown: Vec<_> =
        behind.iter().map(|(account, id)| json!({"account": account, "device": id})).collect();
    if arguments.check {
        let text = if behind.is_empty() {
            format!("Every device in `{name}` is known to be able to follow.")
        } else {
            let each = behind.iter().map(|(account, id)| format!("\n  {account} (device {id})"));
            format!("Not known to speak anything but {suite}:{}", each.collect::<String>())
        };
        let json = json!({
            "group": group, "epoch": roster.epoch(), "suite": suite, "behind": shown, "upgraded": false,
        });
        return printer.show(&text, &json);
    }
    if !behind.is_empty() {
        let each = behind.iter().map(|(account, id)| format!("{account} (device {id})"));
        let each = each.collect::<Vec<_>>().join(", ");
        let found = format!("not known to speak anything but {suite}: {each}");
        if !arguments.yes && !io::stdin().is_terminal() {
            return Err(Failure::failed(found).next(
                "They read nothing more of this group once it is upgraded, and it does not go back. \
                 Say so with --yes.",
            ));
        }
        printer.note(&found);
    }
    let question = format!("End {suite} in `{name}` for everyone, for good?");
    ask::agree(&question, arguments.yes)?;
    let epoch = client.change_policy(group, &|policy| policy.min_version = VERSION).await?;
    printer.show(
        &format!("`{name}` speaks Sender Keys from now on [epoch {epoch}]."),
        &json!({
            "group": group, "epoch": epoch, "suite": suite, "behind": shown, "upgraded": true,
        }),
    )
}

/// Devices that are not known to be able to follow: who has said nothing yet may be.
async fn behind(client: &Client, roster: &Roster) -> Result<Vec<(String, DeviceId)>, Failure> {
    let versions = legacy::versions(client.db().read().await?.conn(), &roster.group()).await?;
    let me = client.me().record.device_id;
    let follows =
        |id: &DeviceId| *id == me || versions.get(id).is_some_and(|version| *version >= VERSION);
    let mut behind = Vec::new();
    for member in roster.members().values() {
        for id in member.devices.iter().filter(|id| !follows(id)) {
            behind.push((member.account.to_string(), *id));
        }
    }
    Ok(behind)
}
