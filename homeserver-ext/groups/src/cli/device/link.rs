//! `device link`: this home becomes a device of an account.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

use causeway_protocol::keys;
use clap::Args;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde_json::json;

use super::{agrees, fingerprint, unasked};
use crate::{
    cli::{
        exit::Failure,
        history::History,
        home::{Home, Opened},
        print::Printer,
    },
    sdk::{CallError, Client, Linking, LinkingError, SdkError, discover},
};

/// Arguments of `device link`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Name of the account's server, `b.example`; where --server is not given
    #[arg(id = "where", value_name = "SERVER")]
    server: Option<String>,
    /// Take the account that answers without asking: nobody but you has seen the text
    #[arg(long)]
    yes: bool,
}

pub(in crate::cli) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    if !arguments.yes && !io::stdin().is_terminal() {
        return Err(unasked());
    }
    let base = match (home.server(), &arguments.server) {
        (Some(url), _) => url.to_owned(),
        (None, Some(server)) => discover(server).await?,
        (None, None) => {
            return Err(Failure::usage("it is not said on which server the account is")
                .next("Name it: `device link b.example`, or --server https://host."));
        }
    };
    let Opened { db, vault } = home.open().await?;
    let linking = Linking::begin(db, vault, &base, Arc::new(History), crate::cli::now).await?;
    let client = if let Some(account) = linking.account() {
        printer.remark(&format!("Going on to become a device of {account}."));
        linking.finish().await?
    } else {
        show(&linking, printer)?;
        let answer = linking.answer().await?;
        let identity = keys::fingerprint(&answer.member_id);
        printer.quote(
            &format!(
                "{} answers.\nFingerprint of its identity: {identity}\n`whoami` there shows the same. \
                 If it shows another, or the account is not yours, say no.",
                answer.account
            ),
            &json!({
                "type": "answer", "account": answer.account, "member_id": answer.member_id,
                "fingerprint": identity,
            }),
        )?;
        if let Err(refused) = agrees("Is this account yours?", arguments.yes) {
            linking.give_up().await?;
            return Err(refused);
        }
        linking.accept(answer).await?
    };
    tell(&client, printer).await
}

/// Shows the text, and how it gets to the other device.
fn show(linking: &Linking, printer: Printer) -> Result<(), Failure> {
    let link = linking.link();
    let text = link.to_text();
    let seen = fingerprint(&link.device);
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L)
        // Light on dark, as most terminals are.
        .map(|code| {
            let mut image = code.render::<Dense1x2>();
            image.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
        })
        .map_err(|error| Failure::failed(format!("the text makes no QR code: {error}")))?;
    printer.show(
        &format!(
            "{code}\n\nOn the device that the account was registered with:\n\n    causeway-client device \
             add {}\n\nFingerprint of this device: {seen}\n\nWhoever has this text can make this device \
             his own: show it to nobody else. It is good for ten minutes.",
            text.as_str()
        ),
        &json!({
            "type": "offer", "link": text.as_str(), "device_id": link.device, "fingerprint": seen,
            "ends_ms": linking.ends(),
        }),
    )
}

async fn tell(client: &Client, printer: Printer) -> Result<(), Failure> {
    // What fails is done by `tail`, or before the first message.
    if let Err(error) = settle_in(client).await {
        printer.note(&format!(
            "the groups are not here yet ({error}); `causeway-client tail` has them"
        ));
    }
    let me = client.me();
    printer.show(
        &format!(
            "This is a device of {} now.\nDevice: {}\n`causeway-client tail` shows what is said from now \
             on. What was said before is not here.",
            me.account, me.record.device_id,
        ),
        &json!({
            "type": "linked", "account": me.account, "member_id": me.record.member_id,
            "device_id": me.record.device_id, "server_url": client.http().base(),
        }),
    )
}

async fn settle_in(client: &Client) -> Result<(), SdkError> {
    client.sync().await?;
    client.chores().await.map(drop)
}

impl From<LinkingError> for Failure {
    fn from(error: LinkingError) -> Self {
        let said = error.to_string();
        match error {
            LinkingError::Open(error) => error.into(),
            LinkingError::Call(error) => CallError::into(error),
            LinkingError::BaseUrl(_) => Self::usage(said).next("Name it as --server https://host."),
            LinkingError::Already(_) => Self::failed(said)
                .next("Name another folder with --home: one folder is one device."),
            LinkingError::Unfinished(_) => {
                Self::failed(said).next("Run `register` with that name first: it finds out.")
            }
            LinkingError::Ended => {
                Self::failed(said).next("This home is nobody's. Run the same command for a new text.")
            }
            LinkingError::Taken | LinkingError::NotLinked(_) => Self::failed(said).next(
                "This home is nobody's. Run the same command for a new text, and show it to nobody else.",
            ),
            LinkingError::OldList => Self::failed(said)
                .next("Run the same command again; where it stays so, ask the server's operator."),
            LinkingError::Machine(_) | LinkingError::Vault(_) | LinkingError::Store(_) => {
                Self::failed(said)
                    .next("Run the same command again, or name another folder with --home.")
            }
        }
    }
}
