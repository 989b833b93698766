//! What an op did, for those who count and those who watch.

use causeway_protocol::{
    api::{EventAbout, EventKind},
    ids::{AccountId, MemberId, Timestamp},
    roster::{Body, Op, Roster},
};
use causeway_store::{Script, Tx};

use crate::{
    live::Live,
    storage::{
        self, GroupRow,
        event_log::{self, Happened},
        events::{self, Event},
    },
};

/// What an op did, to be told to those who watch.
pub(super) fn happened(
    op: &Op,
    before: Option<&Roster>,
    after: &Roster,
) -> Vec<(EventKind, AccountId, EventAbout)> {
    let of = |id: &MemberId| before.and_then(|it| it.member(id)).or_else(|| after.member(id));
    let Some(signer) = of(&op.signer().member_id).map(|member| &member.account) else {
        return Vec::new();
    };
    let about = |account: &AccountId| EventAbout {
        epoch: Some(op.epoch()),
        by: Some(signer.clone()).filter(|by| by != account),
        ..EventAbout::default()
    };
    let one = |kind, account: &AccountId| vec![(kind, account.clone(), about(account))];
    let members = |kind, ids: Vec<MemberId>| {
        let accounts = ids.iter().filter_map(of).map(|member| member.account.clone());
        accounts
            .map(|it| {
                let about = about(&it);
                (kind, it, about)
            })
            .collect()
    };
    let changed = |account: &AccountId| {
        let op = Some(op.kind().name().to_owned());
        vec![(EventKind::RosterChanged, account.clone(), EventAbout { op, ..about(account) })]
    };
    match op.body() {
        Ok(Body::Create(_)) => one(EventKind::GroupCreated, signer),
        Ok(Body::Add(entries)) => {
            members(EventKind::GroupJoined, entries.iter().map(|it| it.member_id).collect())
        }
        Ok(Body::Remove(ids)) => members(EventKind::GroupLeft, ids),
        Ok(Body::Leave) => one(EventKind::GroupLeft, signer),
        Ok(Body::Close) => one(EventKind::GroupClosed, signer),
        Ok(Body::Role(member, _)) => of(&member).map_or_else(Vec::new, |it| changed(&it.account)),
        Ok(Body::Policy(_) | Body::Devices(_)) => changed(signer),
        Err(_) => Vec::new(),
    }
}

/// Counts an op, and puts down what it did: from its own number on.
pub(super) fn note(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    (group, seq): (GroupRow, i64),
    happened: Vec<(EventKind, AccountId, EventAbout)>,
    (before, after): (Option<&Roster>, &Roster),
) -> Result<Script, storage::Error> {
    let count = |roster: Option<&Roster>| roster.map_or(0, |roster| roster.members().len() as u64);
    let (was, is) = (count(before), count(Some(after)));
    let mut script = Script::default();
    events::add(&mut script, now, Event::GroupCreated, u64::from(before.is_none()));
    events::add(&mut script, now, Event::RosterChanged, 1);
    events::add(&mut script, now, Event::GroupJoined, is.saturating_sub(was));
    events::add(&mut script, now, Event::GroupLeft, was.saturating_sub(is));
    let happened: Vec<Happened> = (seq..)
        .zip(happened)
        .map(|(event, (kind, account, about))| Happened { event, place: seq, kind, account, about })
        .collect();
    event_log::put(&mut script, now, group, &happened)?;
    if let Some(last) = happened.last() {
        live.feed.tell(tx, last.event);
    }
    Ok(script)
}
