//! Ops of groups whose home is another server.

use causeway_protocol::{
    api::{AccountAnswer, GroupHead, OpBytes},
    ids::{AccountId, GroupId},
    link::{Answer, Call},
    roster::{Body, Op},
};
use serde::{Deserialize, Serialize};

use super::{Api, ApiError, AskError, Caller, ask, catch_up, of, refused, taken, unreadable};
use crate::services::{
    accounts,
    groups::{PostOpError, elsewhere},
};

/// An op, as it is carried to the group's home.
#[derive(Serialize, Deserialize)]
pub(super) struct RemoteOp {
    pub(super) group: GroupId,
    pub(super) op: OpBytes,
    /// Of the asking server: the poster's, and those that the op names, who may be new to the home.
    pub(super) accounts: Vec<AccountAnswer>,
}

/// Posts an op to the group's home. When this returns it is here as well, in its place among what was said.
pub(in crate::http) async fn post_op(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    op: &[u8],
) -> Result<GroupHead, ApiError> {
    let posted = Op::parse(op).map_err(PostOpError::from)?;
    let answer = ask_op(api, caller, home, group, op).await?;
    let answer = match catch_up::lost_by_home(api, group, &answer).await? {
        // The home has lost ops: it is given them, and then the op again.
        Some(lost) => {
            for lost in &lost {
                taken::<GroupHead>(home, &ask_op(api, caller, home, group, &lost.0).await?)?;
            }
            ask_op(api, caller, home, group, op).await?
        }
        None => answer,
    };
    let head: GroupHead = taken(home, &answer)?;
    // A home that says yes and has not put it down would have its member believe that somebody is out.
    if head.epoch < posted.epoch() {
        return false_answer(api, home).await;
    }
    let mut moved = api.live.moved();
    // Its answer overtakes what stands before it, messages among it: the op itself comes behind them.
    let waiting = async {
        while elsewhere::epoch(&api.db, group).await? < Some(head.epoch) {
            let _ = moved.changed().await;
        }
        Ok::<_, ApiError>(())
    };
    match tokio::time::timeout(api.config.relay_patience, waiting).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) => {
            // What the home gave in its place is another op.
            if elsewhere::has(&api.db, group, &posted).await? {
                Ok(head)
            } else {
                false_answer(api, home).await
            }
        }
        Err(_) => {
            Err(AskError::Unreachable { server: home.to_owned(), since: api.clock.now() }.into())
        }
    }
}

/// The home said that it had put down what it has not.
async fn false_answer(api: &Api, home: &str) -> Result<GroupHead, ApiError> {
    refused(api, home, "op_not_put_down").await?;
    Err(unreadable(home))
}

/// The accounts that an op brings in.
pub(super) fn named(op: &[u8]) -> Vec<AccountId> {
    let Ok(Body::Add(entries)) = Op::parse(op).and_then(|op| op.body()) else { return Vec::new() };
    entries.iter().filter_map(|entry| entry.account.parse().ok()).collect()
}

async fn ask_op(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    op: &[u8],
) -> Result<Answer, ApiError> {
    let mut named = vec![caller.account.clone()];
    named.extend(self::named(op));
    named.retain(|account| account.server() == api.config.server_name);
    let mut accounts = Vec::new();
    for account in named {
        let shown = accounts::devices_of(&api.db, &account).await?;
        accounts.extend(shown.map(|shown| AccountAnswer { former: Vec::new(), ..shown }));
    }
    let body = of(&RemoteOp { group, op: OpBytes(op.to_vec()), accounts })?;
    Ok(ask(api, caller, home, Call::Op, body).await?)
}
