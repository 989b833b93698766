//! Accounts of third servers, named by what another asks or gives: asked of those servers first (protocol
//! §7.2, §7.3).

use causeway_protocol::{
    api::{AccountAnswer, OpBytes, OpPage},
    envelope::Sender,
    ids::{AccountId, GroupId, ItemId},
    json,
    link::{Answer, Ask},
    roster::{Body, Op, Roster},
};

use super::{Api, ApiError, AskError, accounts::keep_shown, carry_out, field, must_be_home};
use crate::services::{
    groups::{
        elsewhere::{self, Poster},
        replica,
    },
    remote_accounts,
    servers::{Aside, LookedUp},
};

/// When a server that named too many others may name one more, milliseconds.
const NAMED_AGAIN_MS: u64 = 60_000;

/// Puts an op aside that brings in accounts of a third server which are not known as it names them; whether
/// that was done.
pub(super) async fn put_aside(
    api: &Api,
    from: &str,
    to: ItemId,
    ask: &Ask,
) -> Result<bool, ApiError> {
    let (Ok(group), Ok(op)) = (field(&ask.body, "group"), field::<OpBytes>(&ask.body, "op")) else {
        return Ok(false);
    };
    must_be_home(api, group).await?;
    // Nobody has servers asked who is not in the group, or by an op that it would not take.
    let who = (&*api.config.server_name, from);
    let poster = elsewhere::poster(&api.db, who, group, &op.0).await?;
    if poster != (Poster::Member { fits: true }) {
        return Ok(false);
    }
    let aside = Aside::Ask(from.to_owned(), to, ask.clone());
    match look_up(api, from, &[&*op.0], aside).await? {
        Looked::Aside => Ok(true),
        Looked::Nothing => Ok(false),
        Looked::Denied(error) => Err(error.into()),
        Looked::NamesTooMany => {
            Err(ApiError::later("this server names too many others", NAMED_AGAIN_MS))
        }
        Looked::Full => {
            Err(ApiError::later("too many ops of this server wait for third servers", 1_000))
        }
    }
}

/// What became of ops that may name accounts of third servers.
enum Looked {
    /// They are put aside until those have answered.
    Aside,
    /// Nothing is to be asked.
    Nothing,
    /// One of them is not spoken with.
    Denied(AskError),
    /// Their server has made too many others known.
    NamesTooMany,
    /// Too much is put aside.
    Full,
}

/// Has the servers asked whose accounts these ops name that are not known so, and puts something aside until
/// then.
async fn look_up(api: &Api, from: &str, ops: &[&[u8]], aside: Aside) -> Result<Looked, ApiError> {
    let (now, here) = (api.clock.now(), &*api.config.server_name);
    let unknown = unknown(api, from, ops).await?;
    if unknown.is_empty() {
        return Ok(Looked::Nothing);
    }
    let denied = unknown.iter().find_map(|account| api.servers.allowed(account.server()).err());
    if let Some(error) = denied {
        return Ok(Looked::Denied(error));
    }
    let new = replica::unknown_servers(&api.db, here, ops).await?;
    if new > 0 && !api.servers.may_name(now, from, new) {
        api.servers.was_limited((&api.db, now), from, "new servers an hour").await?;
        return Ok(Looked::NamesTooMany);
    }
    Ok(match api.servers.look_up((&api.db, now), unknown, Some(aside)).await? {
        LookedUp::Aside => Looked::Aside,
        LookedUp::Nothing => Looked::Nothing,
        LookedUp::Full => {
            api.servers.was_limited((&api.db, now), from, "ops put aside").await?;
            Looked::Full
        }
    })
}

/// Puts ops aside likewise, which a group's home lost and `from` has; whether they are not to be judged now.
pub(super) async fn put_ops_aside(
    api: &Api,
    from: &str,
    group: GroupId,
    page: &OpPage,
) -> Result<bool, ApiError> {
    if replica::other_home(&api.db, &api.config.server_name, group).await?.is_some() {
        return Ok(false);
    }
    let mut ops: Vec<&[u8]> = page.ops.iter().map(|op| &*op.0).collect();
    let both = (&*api.config.server_name, from);
    ops.truncate(elsewhere::that_follow(&api.db, both, group, &ops).await?);
    match look_up(api, from, &ops, Aside::Ops(from.to_owned(), group)).await? {
        // Where there was no room they are asked for again, when others that are aside are done with.
        Looked::Aside | Looked::Full => Ok(true),
        // Where nobody may be asked they are judged as they are.
        Looked::Nothing | Looked::Denied(_) | Looked::NamesTooMany => Ok(false),
    }
}

/// Whether an account that a group here names, with this device, is not known, and its server is asked for it
/// now: it may have shown it long ago, and that is forgotten.
pub(super) async fn ask_for_sender(
    api: &Api,
    group: GroupId,
    who: &Sender,
) -> Result<bool, ApiError> {
    if remote_accounts::known(&api.db, &who.account).await?.is_some()
        || !elsewhere::names(&api.db, group, who).await?
    {
        return Ok(false);
    }
    let asked = vec![who.account.clone()];
    let looked_up = api.servers.look_up((&api.db, api.clock.now()), asked, None).await?;
    Ok(looked_up != LookedUp::Nothing)
}

/// Of which other servers than `from` accounts are not known as ops name them.
async fn unknown(api: &Api, from: &str, ops: &[&[u8]]) -> Result<Vec<AccountId>, ApiError> {
    let mut unknown = Vec::new();
    for op in ops {
        let Ok(Body::Add(entries)) = Op::parse(op).and_then(|op| op.body()) else { continue };
        for entry in entries {
            let Ok(account) = entry.account.parse::<AccountId>() else { continue };
            if [from, &api.config.server_name].contains(&account.server()) {
                continue;
            }
            let known = remote_accounts::known(&api.db, &account).await?;
            let is_known = known.is_some_and(|(known, _)| {
                known.list.member_id == entry.member_id
                    && known.list.version >= entry.devices.version
            });
            if !is_known {
                unknown.push(account);
            }
        }
    }
    unknown.sort();
    unknown.dedup();
    Ok(unknown)
}

/// Keeps what its server said of an account, and goes on with what waited for it.
pub(super) async fn came(api: &Api, account: AccountId, answer: &Answer) -> Result<(), ApiError> {
    let now = api.clock.now();
    let said = json::from_value::<AccountAnswer>(&answer.body).ok();
    let said = said.filter(|said| answer.status == 200 && said.list.account == account);
    keep_shown(api, account.server(), said).await?;
    // It may have devices in a group now.
    api.servers.rooms_moved();
    for aside in api.servers.came(now, &account) {
        match aside {
            Aside::Ask(from, to, ask) => {
                Box::pin(carry_out(api, &from, (to, &ask))).await?;
            }
            Aside::Ops(from, group) => api.servers.lack(&api.db, &from, group).await?,
        }
    }
    Ok(())
}

/// The home of a group that begins with these ops, where it is neither here nor the server that gives them.
pub(super) fn other_home(api: &Api, from: &str, page: &OpPage) -> Option<String> {
    let op = Op::parse(&page.ops.first()?.0).ok()?;
    let roster = Roster::create(&op).ok()?;
    let creator = roster.member(&op.signer().member_id)?.account.server().to_owned();
    let is_other = creator != from && creator != api.config.server_name;
    (is_other && api.servers.allowed(&creator).is_ok()).then_some(creator)
}
