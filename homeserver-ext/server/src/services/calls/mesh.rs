//! What helps those who take part to reach each other directly: STUN, and TURN with credentials that
//! end.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use causeway_protocol::{
    api::{CallIce, CallMesh},
    call::{Refused, sfu_identity},
    ids::{CallId, Timestamp},
};
use hmac::{Hmac, Mac as _};
use sha1::Sha1;

use super::{CallError, Of};
use crate::{
    config::{ApiSecret, Mesh, Turn, TurnCredentials},
    quota::CallShares,
    storage::calls,
};

/// How long credentials are taken: longer than a call.
const LIFE_MS: u64 = 86_400_000;

/// What the caller's device may use for as long as it takes part.
pub(crate) async fn mesh(
    of: Of<'_>,
    shares: &CallShares,
    config: &Mesh,
    call: CallId,
) -> Result<CallMesh, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut read = of.db.read().await?;
    let (group, _) = of.group(read.conn()).await?;
    let row = calls::by_id(read.conn(), group.row, call).await?.ok_or(CallError::Unknown)?;
    let refused = |why| Err(CallError::Refused(why, Box::new(row.state())));
    if row.kept.call.is_over() {
        return refused(Refused::Ended);
    }
    if !row.kept.people.contains_key(&of.caller.device_id) {
        return refused(Refused::NotInCall);
    }
    let mut ice = Vec::new();
    if !config.stun.is_empty() {
        ice.push(CallIce { urls: config.stun.clone(), username: None, credential: None });
    }
    let until = of.now.plus_ms(LIFE_MS);
    let mut until_ms = None;
    if let Some(turn) = &config.turn {
        // TURN learns no account either.
        let (server, ends) = with(turn, &sfu_identity(&call, &of.caller.device_id), until);
        ice.push(server);
        until_ms = ends.then_some(until);
    }
    Ok(CallMesh { relay_only: config.relay_only, ice, until_ms })
}

/// TURN for somebody called `name`, and whether that ends.
fn with(turn: &Turn, name: &str, until: Timestamp) -> (CallIce, bool) {
    let (username, credential, ends) = match &turn.credentials {
        TurnCredentials::Shared(secret) => {
            let username = format!("{}:{name}", until.0 / 1_000);
            let credential = shared(secret, &username);
            (username, credential, true)
        }
        TurnCredentials::Static(username, password) => {
            (username.clone(), password.expose().to_owned(), false)
        }
    };
    let (username, credential) = (Some(username), Some(credential));
    (CallIce { urls: turn.urls.clone(), username, credential }, ends)
}

/// draft-uberti-behave-turn-rest-00, §2.2; the algorithm is coturn's.
fn shared(secret: &ApiSecret, username: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()) else {
        // HMAC takes a key of any length.
        return String::new();
    };
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_what_coturn_computes() {
        // printf 1700000000:who | openssl dgst -sha1 -hmac north -binary | base64
        let secret = ApiSecret::new("north");
        assert_eq!(shared(&secret, "1700000000:who"), "hdmtfQt4c6T09NLJewlEoo/VVys=");
    }
}
