//! What other servers ask here, carried out as the same request of a client.

use axum::http::StatusCode;
use causeway_protocol::{
    api::ClaimRequest,
    ids::AccountId,
    link::{Ask, Call},
};
use serde_json::{Value, json};

use super::{
    Api, ApiError,
    accounts::{MAX_CLAIM, keep_shown},
    calls, field, guests, letting_in, must_be_home, no_such_group, of,
    ops::{self, RemoteOp},
    parsed, rotation,
};
use crate::services::{
    accounts,
    groups::{
        self,
        elsewhere::{self, Poster},
    },
    keys, remote_accounts,
};

/// Carries an ask out; of one that answers nothing null.
pub(super) async fn carry_out(api: &Api, from: &str, ask: &Ask) -> Result<Value, ApiError> {
    let now = api.clock.now();
    match ask.call {
        Call::Ping => Ok(json!({
            "v": 1,
            "software": concat!("Causeway ", env!("CARGO_PKG_VERSION")),
            "server": api.config.server_name,
        })),
        Call::Account => {
            let account: AccountId = field(&ask.body, "account")?;
            if account.server() != api.config.server_name {
                return Err(ApiError::not_found("that is an account of another server"));
            }
            let found = accounts::devices_of(&api.db, &account).await?;
            of(&found.ok_or_else(|| ApiError::not_found("no such account on this server"))?)
        }
        Call::Claim => {
            let ClaimRequest { devices } = parsed(&ask.body)?;
            if devices.len() > MAX_CLAIM {
                let error = format!("at most {MAX_CLAIM} devices in one claim of another server");
                return Err(ApiError::too_large(error));
            }
            let who = keys::Claimer::Server(from);
            let per_hour = api.config.claims_per_hour;
            of(&keys::claim(&api.db, now, &api.shares, who, per_hour, &devices).await?)
        }
        Call::Op => op_of(api, from, ask).await,
        Call::Join => letting_in::join_of(api, from, ask).await,
        Call::Invites => letting_in::invites_of(api, ask).await,
        Call::Requests => letting_in::requests_of(api, ask).await,
        Call::SenderKeys => rotation::ask_rotation_of(api, ask).await,
        // Of a bridge, or a home, and not of a member.
        Call::Calls => {
            let of_server = |name| ask.body.get(name).filter(|_| ask.caller.is_none());
            match (of_server("guests"), of_server("hear")) {
                (Some(asked), _) => guests::of_bridge(api, from, asked).await,
                (None, Some(wish)) => calls::hear(api, from, wish).await,
                (None, None) => calls::calls_of(api, from, ask).await,
            }
        }
        Call::Ops | Call::Events => {
            let error = "this server does not take this from others";
            Err(ApiError::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", error))
        }
    }
}

/// Posts an op, as far as the group lets its poster's server have to do with it.
async fn op_of(api: &Api, from: &str, ask: &Ask) -> Result<Value, ApiError> {
    let now = api.clock.now();
    let poster = ask.caller.as_ref();
    let poster = poster.ok_or_else(|| ApiError::forbidden("an op has somebody who posts it"))?;
    let RemoteOp { group, op, mut accounts } = parsed(&ask.body)?;
    must_be_home(api, group).await?;
    // Whoever has nobody in it, and whom the op lets nobody in of, leaves nothing.
    let who = (&*api.config.server_name, from);
    let fits = match elsewhere::poster(&api.db, who, group, &op.0).await? {
        Poster::Stranger => return Err(no_such_group()),
        Poster::Former => None,
        Poster::Member { fits } => Some(fits),
    };
    let named = if fits == Some(true) { ops::named(&op.0) } else { Vec::new() };
    accounts.retain(|shown| {
        let it = &shown.list.account;
        let is_poster = poster.account == *it;
        fits.is_some() && it.server() == from && (is_poster || named.contains(it))
    });
    if !api.servers.may_show(now, from, accounts.len()) {
        api.servers.was_limited((&api.db, now), from, "accounts a minute").await?;
        return Err(ApiError::later("this server shows too many accounts", 1_000));
    }
    keep_shown(api, from, accounts).await?;
    let caller = match fits {
        Some(_) => remote_accounts::note_device(&api.db, poster).await?,
        None => remote_accounts::device(&api.db, poster).await?,
    };
    let caller = caller.ok_or_else(no_such_group)?;
    let group = (&*api.config.server_name, group);
    let done = (&api.db, &api.live);
    of(&groups::post_op(done.0, done.1, now, &api.shares, &caller, group, &op.0).await?)
}
