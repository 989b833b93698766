//! `group fork …`: when the server has shown two histories of one group, a person decides.

use clap::Subcommand;
use serde_json::json;

use super::super::{
    exit::Failure,
    home::Home,
    names::{self, Named},
    print::Printer,
};
use crate::machine::{Fork, ForkView, ForkedOp};

/// What can be done about a fork.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show both ops and who signed them
    #[command(after_help = "Examples:\n  causeway-client group fork show team")]
    Show(Named),
    /// Stay with the history that this client has, and send again
    #[command(after_help = "Examples:\n  causeway-client group fork keep team")]
    Keep(Named),
    /// Take the other history instead
    #[command(after_help = "Examples:\n  causeway-client group fork adopt team")]
    Adopt(Named),
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let (Command::Show(named) | Command::Keep(named) | Command::Adopt(named)) = &command;
    let group = names::group(&client, &named.group).await?;
    let Some(fork) = client.fork(group).await? else {
        if !matches!(command, Command::Show(_)) {
            let what = "this group has one history: there is nothing to decide";
            return Err(Failure::failed(what).next("Nothing was changed."));
        }
        let json = json!({"group": group, "forked": false});
        return printer.show("This group has one history.", &json);
    };
    let (text, json) = match command {
        Command::Show(_) => (shown(&fork), json!({"group": group, "forked": true, "fork": fork})),
        Command::Keep(_) => {
            client.keep_fork(group).await?;
            let text = "You stay with the history that you have; the other one is not followed.";
            (text.to_owned(), json!({"group": group, "kept": true}))
        }
        Command::Adopt(_) => {
            client.adopt_fork(group).await?;
            let text = "You have taken the other history; your next message begins a new key.";
            (text.to_owned(), json!({"group": group, "adopted": true}))
        }
    };
    printer.show(&text, &json)
}

fn shown(view: &ForkView) -> String {
    let said = |op: &ForkedOp| {
        let by = op.account.as_ref().map_or_else(|| op.by.to_string(), ToString::to_string);
        let creator = if op.by_creator { ", who made the group" } else { "" };
        format!("{} by {by}{creator}\n           op {}", op.kind, op.op_hash)
    };
    let Fork { epoch, mine, other } = &view.fork;
    let other = other
        .as_ref()
        .map_or_else(|| "not shown yet; a member's client says that there is one".to_owned(), said);
    let state = if view.kept {
        "You have decided to keep yours."
    } else if view.fork.other.is_none() {
        "You send and read as before: one member's word proves nothing. Ask the people in it, by \
         another way, which epoch and roster `group show` tells them."
    } else {
        "Nothing is sent in this group until you `keep` yours or `adopt` the other. Ask the people \
         in it, by another way, which one they have."
    };
    format!(
        "There are two histories of this group. They part at epoch {epoch}:\n  \
         yours    {}\n  other    {other}\n{state}",
        said(mine)
    )
}
