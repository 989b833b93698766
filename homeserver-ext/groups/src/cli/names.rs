//! What people call things: a group by its name, roles by words.

use std::{sync::Arc, time::Duration};

use causeway_protocol::{
    ids::{AccountId, GroupId},
    roster::{Invalid, Role, Roster, Scheme},
};
use clap::{Args, ValueEnum};
use tokio::time::timeout;

use super::{exit::Failure, harmless::one_line, print::Printer};
use crate::{
    schemes::legacy::Suite,
    sdk::{CallError, Client, SdkError},
    storage::imported,
};

/// Fewer characters of an id name nothing.
const MIN_PREFIX: usize = 4;
/// As much of an id as is shown in its place, where that is enough.
const SHOWN_PREFIX: usize = 8;
/// How long a server is waited for where what is kept can be shown without it.
const LOOK_FOR: Duration = Duration::from_secs(5);

/// A group on the command line.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name, its id, or the first characters of its id
    // An id is base64url: one in 64 begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    pub(super) group: String,
}

/// The group that `text` means: its id, the first characters of its id, or its name.
///
/// # Errors
/// There is none, or more than one.
pub(super) async fn group(client: &Client, text: &str) -> Result<GroupId, Failure> {
    Ok(roster(client, text).await?.group())
}

/// As [`group`], with its roster.
pub(super) async fn roster(client: &Client, text: &str) -> Result<Arc<Roster>, Failure> {
    one_of(client, text, Meant::Open).await
}

/// As [`roster`], where a group is meant that is over, if there is one.
pub(super) async fn over(client: &Client, text: &str) -> Result<Arc<Roster>, Failure> {
    one_of(client, text, Meant::Over).await
}

/// The group that `text` means where what was said is looked for: that of another program too, if
/// nothing of ours is called so.
pub(super) async fn kept(client: &Client, text: &str) -> Result<GroupId, Failure> {
    if matching(client, text, Meant::Open).await?.is_empty()
        && let Some((group, _)) = imported(client, text).await?
    {
        return Ok(group);
    }
    group(client, text).await
}

/// The group of another program that `text` means, with its name.
///
/// # Errors
/// It means more than one.
pub(super) async fn imported(
    client: &Client,
    text: &str,
) -> Result<Option<(GroupId, String)>, Failure> {
    let mut connection = client.db().read().await?;
    let all = imported::all(connection.conn(), client.vault()).await?;
    let mut found = all.into_iter().filter(|(group, name)| {
        let begins = text.len() >= MIN_PREFIX && group.to_string().starts_with(text);
        name == text || begins
    });
    match (found.next(), found.count()) {
        (one, 0) => Ok(one),
        (_, more) => Err(Failure::usage(format!("`{text}` means {} imported groups", more + 1))
            .next("`causeway-client import list` shows them with their ids; say which by its id.")),
    }
}

/// Which of several groups of one name is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meant {
    Open,
    Over,
}

async fn one_of(client: &Client, text: &str, meant: Meant) -> Result<Arc<Roster>, Failure> {
    let mut found = matching(client, text, meant).await?;
    if found.is_empty() {
        // It may have been joined or made by another of this account's commands just now.
        client.sync().await?;
        found = matching(client, text, meant).await?;
    }
    match found.as_slice() {
        [one] => Ok(Arc::clone(one)),
        [] => Err(Failure::usage(format!("there is no group `{text}`"))
            .next("`causeway-client group list` shows your groups.")),
        several => {
            let each: Vec<_> = several
                .iter()
                .map(|r| {
                    let made = r.member(&r.creator()).map_or_else(
                        || "by somebody who has gone".to_owned(),
                        |creator| format!("by {}", creator.account),
                    );
                    let name = one_line(&r.policy().name);
                    format!("{} (`{name}`, made {made}, {} members)", r.group(), r.members().len())
                })
                .collect();
            // No command with one of the ids: whoever pastes it has chosen, perhaps a stranger's.
            Err(Failure::usage(format!("`{text}` means {} groups", several.len())).next(format!(
                "Say which by its id in place of the name, or by the beginning of its id: {}",
                each.join(", ")
            )))
        }
    }
}

/// The beginning of a group's id that means it and no other.
pub(super) fn beginning(all: &[Arc<Roster>], roster: &Roster) -> String {
    let id = roster.group().to_string();
    let is_enough = |len: &usize| {
        id.get(..*len).is_some_and(|b| all.iter().filter(|r| is_called(r, b)).count() == 1)
    };
    let len = (SHOWN_PREFIX..id.len()).find(is_enough).unwrap_or(id.len());
    id.get(..len).unwrap_or_default().to_owned()
}

/// As [`roster`], as new as the server has it.
pub(super) async fn current(client: &Client, text: &str) -> Result<Arc<Roster>, Failure> {
    let group = group(client, text).await?;
    client.sync_group(group).await?;
    roster(client, &group.to_string()).await
}

/// As [`current`], or as this device has heard it where the server cannot be asked; that is said then.
pub(super) async fn current_or_kept(
    client: &Client,
    text: &str,
    printer: Printer,
) -> Result<Arc<Roster>, Failure> {
    let group = group(client, text).await?;
    or_kept(client.sync_group(group), printer).await?;
    roster(client, &group.to_string()).await
}

/// Asks the server, and says where it does not answer that what is shown may be old.
pub(super) async fn or_kept(
    asked: impl Future<Output = Result<(), SdkError>>,
    printer: Printer,
) -> Result<(), Failure> {
    let why = match timeout(LOOK_FOR, asked).await {
        Ok(Err(error)) if error.is_transient() => error.to_string(),
        Ok(asked) => return Ok(asked?),
        Err(_) => "the server has not answered in time".to_owned(),
    };
    printer.note(&format!("shown as this device has heard it, which may be old: {why}"));
    Ok(())
}

/// As [`current`], for what changes the group: one that is open, and that this account is in.
///
/// # Errors
/// As [`group`]; the group is closed, or this account is out of it by now.
pub(super) async fn to_change(client: &Client, text: &str) -> Result<Arc<Roster>, Failure> {
    let roster = current(client, text).await?;
    if roster.closed() {
        return Err(Invalid::Closed.into());
    }
    if roster.member(&client.me().record.member_id).is_none() {
        return Err(Invalid::SignerNotMember.into());
    }
    Ok(roster)
}

/// Whether nothing follows in a group for this account.
pub(super) fn is_over(client: &Client, roster: &Roster) -> bool {
    roster.closed() || roster.member(&client.me().record.member_id).is_none()
}

async fn matching(client: &Client, text: &str, meant: Meant) -> Result<Vec<Arc<Roster>>, Failure> {
    let rosters = client.rosters().await?;
    let by = |is: &dyn Fn(&Roster) -> bool| -> Vec<Arc<Roster>> {
        rosters.iter().filter(|r| is(r)).map(Arc::clone).collect()
    };
    let by_id = by(&|r| r.group().to_string() == text);
    if !by_id.is_empty() {
        return Ok(by_id);
    }
    // A group that is over keeps its name, and what is only offered bears one that a stranger chose:
    // neither takes it from a group that one is in.
    let (mut open, mut over, mut offered) = (Vec::new(), Vec::new(), Vec::new());
    for roster in by(&|r| is_called(r, text)) {
        if client.offer(roster.group()).await?.is_some() {
            offered.push(roster);
        } else if is_over(client, &roster) {
            over.push(roster);
        } else {
            open.push(roster);
        }
    }
    let order = match meant {
        Meant::Open => [open, over, offered],
        Meant::Over => [over, open, offered],
    };
    Ok(order.into_iter().find(|found| !found.is_empty()).unwrap_or_default())
}

fn is_called(r: &Roster, text: &str) -> bool {
    // Anybody can make a group and bring this account into it: one that is called like the
    // beginning of another's id must not be taken for it.
    let begins = text.len() >= MIN_PREFIX && r.group().to_string().starts_with(text);
    r.policy().name == text || begins
}

/// The account that `text` means: `name:server`, or a name alone of this account's server.
///
/// # Errors
/// It is not a name.
pub(super) fn account(client: &Client, text: &str) -> Result<AccountId, Failure> {
    let full = if text.contains(':') {
        text.to_owned()
    } else {
        format!("{text}:{}", client.me().account.server())
    };
    full.parse().map_err(|e| {
        Failure::usage(format!("`{text}` is {e}"))
            .next("It is `bob`, or `bob:b.example` of another server.")
    })
}

/// What came of asking for an account: there may be none.
pub(super) fn of_account(account: &AccountId, error: SdkError) -> Failure {
    match error {
        SdkError::Call(CallError::Refused { status: 404, .. }) => {
            Failure::failed(format!("this server knows no account {account}"))
                .next("Nothing was changed. Look at the spelling; `causeway-client pins` shows whom you have met.")
        }
        error => error.into(),
    }
}

/// Roles that can be given by a `role` op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GivenRole {
    /// Reads and writes
    Member,
    /// Lets people in and out as well
    Admin,
}

impl From<GivenRole> for Role {
    fn from(role: GivenRole) -> Self {
        match role {
            GivenRole::Member => Self::Member,
            GivenRole::Admin => Self::Admin,
        }
    }
}

/// How a group's messages are sealed, as `group create --scheme` calls it.
pub(super) const fn scheme(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::SenderKeys => "sender-keys",
        Scheme::Pairwise => "pairwise",
        Scheme::SharedKey => "shared-key",
    }
}

/// A role in a word.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Bridge => "bridge",
    }
}

/// The legacy suite that a group speaks, if it does.
pub(super) fn legacy(roster: &Roster) -> Option<&'static str> {
    Suite::from_number(roster.effective_suite()).map(Suite::name)
}

/// What clients of the legacy suite that a group speaks call it.
pub(super) fn legacy_id(roster: &Roster) -> Option<String> {
    Suite::from_number(roster.effective_suite()).map(|suite| suite.group_name(&roster.group()))
}

/// Who can read a group, in one line; and of a legacy suite, that it is one.
pub(super) fn confidentiality(roster: &Roster) -> String {
    let readers = match roster.bridge() {
        Some((_, bridge)) => format!("bridged: {} can read", bridge.account.server()),
        None => "end-to-end".to_owned(),
    };
    match (legacy(roster), roster.scheme()) {
        (Some(suite), _) => format!("{readers}, legacy {suite}"),
        (None, Scheme::SharedKey) => readers + "; shared key: readable for one key's window",
        (None, Scheme::SenderKeys | Scheme::Pairwise) => readers,
    }
}
