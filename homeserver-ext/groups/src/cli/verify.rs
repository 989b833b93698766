//! `verify`: two people compare a safety number, and it is kept that they did.

use std::io::{self, IsTerminal as _};

use causeway_protocol::{ids::AccountId, keys};
use clap::Args;
use serde_json::json;

use super::{ask, exit::Failure, home::Home, names, print::Printer};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Who: `bob:b.example`, or `bob` of your own server
    #[arg(allow_hyphen_values = true)]
    account: String,
    /// Keep it as verified if the number is this one
    #[arg(long, value_name = "DIGITS")]
    number: Option<String>,
    /// Keep it as verified without asking: you have compared the number
    #[arg(long, conflicts_with = "number")]
    yes: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let account = names::account(&client, &arguments.account)?;
    let me = client.me().record.member_id;
    if account == client.me().account {
        return Err(Failure::usage("that is this account itself")
            .next("Name the person whose screen you compare with."));
    }
    let known = client.meet(&account).await.map_err(|e| names::of_account(&account, e))?;
    let member = client.identity(&account).await?;
    let Some(member) = member else {
        return Err(Failure::failed(format!("nothing that {account} has signed is known"))
            .next("Nothing was changed. Ask them whether they are registered at that server."));
    };
    let changed = known.as_ref().filter(|pin| pin.member_id != member);
    let number = keys::safety_number(&me, &member);
    if let Some(pin) = changed {
        printer.remark(&format!(
            "!! {account} has another identity than the one that is known here, {}{}. The number \
             below is of the new one: if it is not what they see, somebody else has their name.",
            keys::fingerprint(&pin.member_id),
            if pin.verified { ", which you have verified" } else { "" },
        ));
    }
    let was_verified = known.as_ref().is_some_and(|pin| pin.verified) && changed.is_none();
    let verified = agrees(&arguments, &account, &number, printer)?;
    if verified {
        client.decide(&account, member, true).await?;
    }
    let is = match (verified || was_verified, changed.is_some() && !verified) {
        (_, true) => "Nothing was changed: the identity that was known stays.",
        (true, false) => "Verified.",
        (false, false) => "Not verified. When you have compared it, run this with --yes.",
    };
    printer.show(
        &format!(
            "Safety number with {account}:\n\n    {number}\n\nFingerprint: {}\n{is}",
            keys::fingerprint(&member)
        ),
        &json!({
            "account": account, "member_id": member, "fingerprint": keys::fingerprint(&member),
            "safety_number": number, "verified": verified || was_verified,
            "changed": changed.is_some(),
            "known_member_id": known.as_ref().map(|pin| pin.member_id),
        }),
    )
}

/// Whether a person, or the arguments, say that the numbers are the same.
fn agrees(
    arguments: &Arguments,
    account: &AccountId,
    number: &str,
    printer: Printer,
) -> Result<bool, Failure> {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    if let Some(expected) = &arguments.number {
        if digits(expected) == digits(number) {
            return Ok(true);
        }
        return Err(Failure::failed(format!(
            "the safety number with {account} is {number}, not what you gave"
        ))
        .next("Nothing was changed. If they see another number too, somebody is between you."));
    }
    if arguments.yes || !io::stdin().is_terminal() {
        return Ok(arguments.yes);
    }
    printer.remark(&format!(
        "Safety number with {account}:\n\n    {number}\n\nThey see it with `causeway-client verify` \
         and your name. Compare by another way than this.",
    ));
    if ask::says_yes("Is it the same?") {
        return Ok(true);
    }
    Err(Failure::failed(format!("{account} was not verified")).next(
        "Nothing was changed. Where the numbers differ, write nothing to them that others may not \
         read.",
    ))
}
