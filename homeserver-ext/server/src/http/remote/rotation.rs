//! New keys of a group, asked of the devices of every server that has members of it (protocol §7.2).

use causeway_protocol::{
    ids::GroupId,
    link::{Ask, Call},
};
use serde_json::{Value, json};

use super::{Api, ApiError, Caller, ask, caller_of, done, field};
use crate::services::{sender_keys, servers};

/// Asks the other servers with members; whether one of them had not been asked within the hour.
///
/// # Errors
/// One that does not answer, or refuses: what the others were asked stays.
pub(in crate::http) async fn ask_rotation(
    api: &Api,
    caller: &Caller,
    group: GroupId,
) -> Result<bool, ApiError> {
    let others = servers::replicas((&api.db, &api.config.server_name), group)
        .await?
        .map(|(_, others)| others);
    let others = others.unwrap_or_default().into_iter().map(|other| other.name);
    // One that the operator does not let be spoken with is told nothing.
    let others: Vec<_> = others.filter(|server| api.servers.allowed(server).is_ok()).collect();
    let asked = others.iter().map(|server| async move {
        let body = json!({ "group": group });
        let answer = ask(api, caller, server, Call::SenderKeys, body).await?;
        match done(server, &answer) {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.is_for_long() => Ok(false),
            Err(refusal) => Err(refusal),
        }
    });
    let asked = futures_util::future::join_all(asked).await;
    asked.into_iter().try_fold(false, |any, one| Ok(any | one?))
}

/// Asks the devices here, as an admin elsewhere wants it.
pub(super) async fn ask_rotation_of(api: &Api, ask: &Ask) -> Result<Value, ApiError> {
    let group = field(&ask.body, "group")?;
    let caller = caller_of(api, ask, group).await?;
    sender_keys::ask_rotation(&api.db, &api.live, api.clock.now(), &caller, group).await?;
    Ok(Value::Null)
}
