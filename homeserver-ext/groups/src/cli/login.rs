//! `login`: a new session for the device that this home holds.

use std::sync::Arc;

use serde_json::json;

use super::{
    exit::Failure,
    history::History,
    home::{Home, Opened},
    print::Printer,
};
use crate::sdk::{Client, OpenClientError};

pub(super) async fn run(home: &Home, printer: Printer) -> Result<(), Failure> {
    if !home.has_database() {
        return Err(home.nobody());
    }
    let Opened { db, vault } = home.open().await?;
    let client = match Client::login(db, vault, home.server(), Arc::new(History), super::now).await
    {
        Ok(client) => client,
        Err(OpenClientError::NotLoggedIn) => return Err(home.nobody()),
        Err(error) => return Err(error.into()),
    };
    let me = client.me();
    printer.show(
        &format!("Logged in as {} on {}.", me.account, client.http().base()),
        &json!({
            "account": me.account, "device_id": me.record.device_id, "server_url": client.http().base(),
        }),
    )
}
