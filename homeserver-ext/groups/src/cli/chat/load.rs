//! From the database to what is on the screen.

use std::collections::BTreeMap;

use causeway_protocol::{
    ids::{AccountId, GroupId},
    visible::look,
};

use super::{
    super::{exit::Failure, history, line::Line, names, outbox, readers::Readers},
    group::{Group, Standing},
};
use crate::sdk::Client;

/// Lines that are read at once.
const PAGE: u32 = 200;
/// How many of those who read on Matrix are named.
const NAMED: u32 = 500;

/// All groups, those that are over behind the others.
pub(crate) async fn groups(client: &Client) -> Result<Vec<Group>, Failure> {
    let (machine, me) = (client.machine(), client.me().record.member_id);
    // As of one moment, and nothing is written.
    let mut tx = client.db().begin().await?;
    let mut asks: BTreeMap<GroupId, Vec<AccountId>> = BTreeMap::new();
    for request in machine.join_requests(&mut tx).await? {
        asks.entry(request.group).or_default().push(request.account);
    }
    let mut groups = Vec::new();
    let rosters = machine.rosters(&mut tx).await?;
    let mut looks: BTreeMap<String, usize> = BTreeMap::new();
    for roster in &rosters {
        *looks.entry(look(&roster.policy().name)).or_default() += 1;
    }
    for roster in &rosters {
        let id = roster.group();
        let is_in = roster.member(&me).is_some() && !roster.closed();
        let standing = match machine.offer(&mut tx, id).await? {
            Some(offer) => Standing::Offered(offer.by),
            None if is_in => Standing::In,
            None if roster.closed() => Standing::Closed,
            None => Standing::Out,
        };
        let trusts = machine.trusts(&mut tx, roster).await?;
        let mut members = roster.members().iter();
        let changed = members.find(|(id, _)| trusts.get(id).is_some_and(|t| t.is_undecided()));
        let mut asks = if is_in { asks.remove(&id).unwrap_or_default() } else { Vec::new() };
        asks.retain(|who| roster.members().iter().all(|(_, member)| member.account != *who));
        groups.push(Group {
            id,
            name: roster.policy().name.clone(),
            handle: looks
                .get(&look(&roster.policy().name))
                .is_some_and(|count| *count > 1)
                .then(|| names::beginning(&rosters, roster)),
            standing,
            unread: history::unread(tx.conn(), id).await?,
            members: roster.members().len(),
            readers: names::confidentiality(roster),
            asks,
            changed: changed.map(|(_, member)| member.account.clone()),
        });
    }
    let is_over = |group: &Group| matches!(group.standing, Standing::Out | Standing::Closed);
    groups.sort_by_key(|group| (is_over(group), group.name.to_lowercase()));
    Ok(groups)
}

/// The last lines of a group, and whether there are more before them.
pub(crate) async fn before(
    client: &Client,
    group: GroupId,
    row: i64,
) -> Result<(Vec<Line>, bool), Failure> {
    let lines = history::before(client, group, row, PAGE).await?;
    let has_older = lines.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
    Ok((lines, has_older))
}

/// What came after the lines that are there.
pub(crate) async fn newer(
    client: &Client,
    group: GroupId,
    lines: &mut Vec<Line>,
) -> Result<(), Failure> {
    loop {
        let last = lines.last().map_or(0, |line| line.row);
        let new = history::after_in(client, group, last, PAGE).await?;
        if new.is_empty() {
            return Ok(());
        }
        lines.extend(new);
    }
}

/// What was entered in a group and was not accepted yet.
pub(crate) async fn waiting(client: &Client, group: GroupId) -> Result<Vec<String>, Failure> {
    Ok(outbox::texts(client, group).await?)
}

/// Who is in a group, and who reads it on Matrix.
pub(crate) async fn readers(client: &Client, group: GroupId) -> Result<Vec<String>, Failure> {
    let roster = client.roster(group).await?;
    let trusts = client.trusts(&roster).await?;
    let mut rows = vec![names::confidentiality(&roster)];
    for (id, member) in roster.members() {
        let trust = trusts.get(id).map_or("unmet", |trust| trust.name());
        let loud = if trusts.get(id).is_some_and(|t| t.is_undecided()) { "!! " } else { "" };
        rows.push(format!("{loud}{}, {}, {trust}", member.account, names::role(member.role)));
    }
    rows.extend(Readers::of(client, &roster, "", NAMED).await?.to_rows());
    Ok(rows)
}
