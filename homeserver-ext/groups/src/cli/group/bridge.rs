//! `group bridge`: lets the server's bridge in, by this admin's signature and in no other way.

use std::io::{self, IsTerminal as _};

use causeway_protocol::{
    content::{BridgeRequest, Content},
    ids::AccountId,
    keys,
};
use clap::Args;
use serde_json::json;

use super::super::{ask, exit::Failure, flush, home::Home, names, outbox, print::Printer, send};
use crate::{machine::OpError, sdk::SdkError};

/// Arguments of `group bridge`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// A Matrix user to be invited to the room; may be given several times
    #[arg(long, value_name = "@USER:SERVER")]
    invite: Vec<String>,
    /// Go on only if the bridge's fingerprint is this one
    #[arg(long, value_name = "DIGITS")]
    fingerprint: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    if let Some(bad) = arguments.invite.iter().find(|user| !is_matrix_user(user)) {
        let what = format!("`{bad}` is not a Matrix user of the form @user:server");
        return Err(Failure::usage(what).next("Nothing was changed."));
    }
    let client = home.client().await?;
    let roster = names::roster(&client, &arguments.group).await?;
    let group = roster.group();
    if let Some(suite) = names::legacy(&roster) {
        return Err(SdkError::from(OpError::NoBridge(suite)).into());
    }
    let bridge = client.http().server().await?.bridge.ok_or_else(|| {
        Failure::failed("this server has no bridge").next("Ask its operator to start one.")
    })?;
    // Of the key itself: what the server says beside it proves nothing.
    let fingerprint = keys::fingerprint(&bridge.member_id);
    let known = client.pin(&bridge.account).await?;
    let changed = known.filter(|pin| pin.member_id != bridge.member_id);
    if let Some(pin) = &changed
        && arguments.fingerprint.is_none()
    {
        let what = format!(
            "{} has another identity, {fingerprint}, than the one that is known here, {}",
            bridge.account,
            keys::fingerprint(&pin.member_id)
        );
        return Err(Failure::failed(what).next(
            "Nothing was changed. Compare it with what the server's operator says; then give it \
             with --fingerprint.",
        ));
    }
    agree(&arguments, &bridge.account, &fingerprint, printer)?;
    names::to_change(&client, &group.to_string()).await?;
    if changed.is_some() {
        client.meet(&bridge.account).await?;
        client.decide(&bridge.account, bridge.member_id, true).await?;
    }
    let epoch = client.add_bridge(group, &bridge).await?;
    let request = Content::BridgeRequest(BridgeRequest {
        // The bridge makes the room; it does not link rooms that exist yet.
        room: None,
        invite: (!arguments.invite.is_empty()).then_some(arguments.invite),
    });
    let (id, now) = (send::random_id()?, client.now());
    let mut tx = client.db().begin().await?;
    outbox::add(&mut tx, client.vault(), now, group, id, 0, request).await?;
    tx.commit().await?;
    flush::flush(&client, group, flush::PATIENCE).await?;
    let text = format!(
        "{} is in the group and can read everything from now on [epoch {epoch}].\nFingerprint: {}\n\
         It was asked to bridge the group into a Matrix room; `tail` shows what it says.",
        bridge.account, fingerprint
    );
    printer.show(
        &text,
        &json!({
            "group": group, "epoch": epoch, "bridge": bridge.account,
            "member_id": bridge.member_id, "fingerprint": fingerprint,
        }),
    )
}

/// Whether a person, or the arguments, let this bridge read.
fn agree(
    arguments: &Arguments,
    bridge: &AccountId,
    fingerprint: &str,
    printer: Printer,
) -> Result<(), Failure> {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    if let Some(expected) = &arguments.fingerprint {
        if digits(expected) == digits(fingerprint) {
            return Ok(());
        }
        let what = format!("the bridge's fingerprint is {fingerprint}, not what you gave");
        return Err(Failure::failed(what)
            .next("Nothing was changed. Ask the server's operator which one is right."));
    }
    if arguments.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let what = format!("{bridge} would read everything, and there is nobody to ask here");
        return Err(Failure::usage(what).next(format!(
            "Nothing was changed. Compare its fingerprint, {fingerprint}, with what the server's \
             operator says; then give it with --fingerprint, or --yes.",
        )));
    }
    printer.remark(&format!(
        "{bridge} and its server will read everything that is said in this group from now on.\n\
         Its fingerprint is {fingerprint}. Compare it with what the server's operator says.",
    ));
    if ask::says_yes("Let it in?") {
        return Ok(());
    }
    Err(Failure::failed("the bridge was not let in").next("Nothing was changed."))
}

fn is_matrix_user(text: &str) -> bool {
    let parts = text.strip_prefix('@').and_then(|rest| rest.split_once(':'));
    parts.is_some_and(|(user, server)| !user.is_empty() && !server.is_empty()) && text.len() <= 255
}
