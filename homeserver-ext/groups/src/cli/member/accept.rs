//! `member accept`: a person takes another identity for an account.

use causeway_protocol::keys::fingerprint;
use clap::Args;
use serde_json::json;

use super::super::{exit::Failure, home::Home, names, print::Printer};
use crate::machine::{OpError, Trust};

/// Arguments of `member accept`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// Who: `bob:b.example`, or `bob` of your own server
    #[arg(allow_hyphen_values = true)]
    account: String,
    /// Go on only if the fingerprint of the identity in the group is this one
    #[arg(long, value_name = "DIGITS")]
    fingerprint: Option<String>,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::current(&client, &arguments.group).await?;
    let account = names::account(&client, &arguments.account)?;
    let group = roster.group();
    // As the server has it now.
    let pin = client.meet(&account).await?;
    let trusts = client.trusts(&roster).await?;
    let named = roster.members().iter().filter(|(_, member)| member.account == account);
    let named: Vec<_> = named.map(|(id, _)| (*id, trusts.get(id).copied())).collect();
    let is_wrong = |trust: Option<Trust>| trust.is_some_and(Trust::is_wrong);
    let Some((member, _)) = named.iter().find(|(_, trust)| is_wrong(*trust)) else {
        let Some((member, Some(trust))) = named.first() else {
            return Err(Failure::failed(format!("{account} is not in this group"))
                .next("`causeway-client member list` shows who is."));
        };
        return printer.show(
            &format!("There is nothing to decide: {account} is {} here.", trust.name()),
            &json!({"group": group, "account": account, "member_id": member,
                "identity": trust.name(), "fingerprint": fingerprint(member)}),
        );
    };
    let shown = fingerprint(member);
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    if let Some(expected) = &arguments.fingerprint
        && digits(expected) != digits(&shown)
    {
        let what = format!("the identity of {account} in this group is {shown}, not what you gave");
        return Err(Failure::failed(what).next("Nothing was changed."));
    }
    match client.decide(&account, *member, false).await {
        Ok(()) => {}
        Err(crate::sdk::SdkError::Op(OpError::OtherIdentity(_))) => {
            let known = pin.map_or_else(String::new, |pin| {
                format!(" (the one that is known here is {})", fingerprint(&pin.member_id))
            });
            return Err(Failure::failed(format!(
                "{account} has not signed the identity {shown} that this group has under that \
                 name{known}: it is somebody else's"
            ))
            .next(format!(
                "Nothing was changed. An admin can take it out; or leave: causeway-client group \
                 leave {group}"
            )));
        }
        Err(error) => return Err(error.into()),
    }
    printer.show(
        &format!(
            "{account} is {shown} from now on, in all groups.\nNobody has compared it yet: \
             `causeway-client verify {account}` shows the number to compare."
        ),
        &json!({"group": group, "account": account, "member_id": member,
            "identity": Trust::Pinned.name(), "fingerprint": shown}),
    )
}
