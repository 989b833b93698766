//! `register`: an account, its first device, and the recovery key, shown once.

use std::{path::PathBuf, sync::Arc};

use causeway_store::small_file;
use clap::Args;
use serde_json::json;

use super::{
    exit::Failure,
    history::History,
    home::{Home, Opened},
    print::Printer,
};
use crate::sdk::{CallError, Client, RegisterError};

/// Arguments of `register`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name of the account: `bob`, or `bob:b.example`
    account: String,
    /// A registration token, where the server asks for one
    #[arg(long, env = "CAUSEWAY_REGISTRATION_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// A file that holds the registration token
    #[arg(long, conflicts_with = "token", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let token = match (arguments.token, arguments.token_file) {
        (Some(token), _) => Some(token),
        (None, Some(path)) => {
            let text = small_file::read_text(&path).map_err(|e| {
                Failure::usage(format!("cannot read {}: {e}", path.display())).next(
                    "Name a file that holds the token, or give it in CAUSEWAY_REGISTRATION_TOKEN.",
                )
            })?;
            Some(text.trim().to_owned())
        }
        (None, None) => None,
    };
    let Opened { db, vault } = home.open().await?;
    let registered = Client::register(
        db,
        vault,
        home.server(),
        &arguments.account,
        token,
        Arc::new(History),
        super::now,
    )
    .await?;
    let me = registered.client.me();
    let recovery_key = registered.recovery_key.to_text();
    let text = format!(
        "Registered {} on {}.\nDevice: {}\n\nRecovery key: {}\nWrite it down now: it is the only \
         way back to this account when this folder is lost, and it is not shown again.",
        me.account,
        registered.client.http().base(),
        me.record.device_id,
        recovery_key.as_str(),
    );
    printer.show(
        &text,
        &json!({
            "account": me.account, "member_id": me.record.member_id, "device_id": me.record.device_id,
            "server_url": registered.client.http().base(), "recovery_key": recovery_key.as_str(),
        }),
    )
}

impl From<RegisterError> for Failure {
    fn from(error: RegisterError) -> Self {
        let said = error.to_string();
        match error {
            RegisterError::Call(CallError::Refused { status: 403, .. }) => Self::failed(said).next(
                "Ask the server's operator for a registration token, and give it with \
                 --token-file FILE or --token.",
            ),
            RegisterError::Call(error) => error.into(),
            RegisterError::NoServer => {
                Self::usage(said).next("Name it: --server https://host, or register `name:server`.")
            }
            RegisterError::BaseUrl(_) => {
                Self::usage(said).next("Name it as --server https://host.")
            }
            RegisterError::Name(..) => Self::usage(said).next(
                "It is lower-case letters, digits and . _ = / + -, as in `bob` or `bob:b.example`.",
            ),
            RegisterError::Already(_) => Self::failed(said)
                .next("Use it, or name another folder with --home to make another account."),
            RegisterError::Unfinished(_) => {
                Self::failed(said).next("Run `register` with that name first: it finds out.")
            }
            RegisterError::Taken(_) => Self::failed(said).next("Choose another name."),
            RegisterError::Machine(_) | RegisterError::Vault(_) | RegisterError::Store(_) => {
                Self::failed(said).next(
                    "Nothing was registered. Name another folder with --home, or mend this one.",
                )
            }
        }
    }
}
