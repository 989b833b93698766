//! What the other server's members said and did, and what a group's home tells, put down here (protocol
//! §7.3).

use causeway_protocol::{
    api::PostEnvelopes,
    envelope::{Envelope, Kind, Sender, Submission},
    ids::{DeviceId, EnvelopeId, Epoch, GroupId},
    link::{Carried, Event},
};

use super::{Api, ApiError, LOGS, catch_up, refused, thirds};
use crate::{
    services::{
        calls,
        groups::replica::{self, Took},
        invites,
        relay::{self, PostError, Posted},
        remote_accounts,
    },
    storage::servers::Told,
};

pub(super) async fn take_event(
    api: &Api,
    (here, from): (&str, &str),
    event: Event,
    done: &mut usize,
) -> Result<bool, ApiError> {
    match &event.carried {
        Carried::Ops(ops) => {
            let (now, of) = (api.clock.now(), (&api.db, &api.live));
            let is_new = !replica::is_known(&api.db, event.group).await?;
            if is_new && !api.servers.may_begin_group(now, from) {
                api.servers.was_limited((&api.db, now), from, "new groups an hour").await?;
                return Ok(false);
            }
            let unknown = replica::unknown_servers(&api.db, here, ops).await?;
            if unknown > 0 && !api.servers.may_name(now, from, unknown) {
                api.servers.was_limited((&api.db, now), from, "new servers an hour").await?;
                return Ok(false);
            }
            let by = (here, from, api.servers.logs());
            match replica::take(of, now, by, event.group, ops).await? {
                Took::All => api.servers.rooms_moved(),
                Took::Refused("second_history") => {
                    catch_up::second_history(api, from, event.group).await?;
                }
                Took::Refused(reason) => {
                    refused(api, from, reason).await?;
                }
                Took::Full => api.servers.was_limited((&api.db, now), from, LOGS).await?,
                // They are asked for, and these with them.
                Took::Missing => api.servers.lack(&api.db, from, event.group).await?,
            }
            *done += 1;
        }
        Carried::Envelopes(envelopes) => {
            for envelope in envelopes {
                let taken = match event.check(envelope, from) {
                    Ok(()) => put_down(api, envelope.clone()).await?,
                    Err(error) => refused(api, from, &error.to_string()).await?,
                };
                if !taken {
                    return Ok(false);
                }
                *done += 1;
            }
        }
    }
    Ok(true)
}

/// Puts down what one device of another server has sent to one group, and counts it as `done`; `false` where
/// that has to wait.
pub(super) async fn put_down_all(
    api: &Api,
    mut said: Vec<Submission>,
    done: &mut usize,
) -> Result<bool, ApiError> {
    if said.len() > 1 {
        let request = PostEnvelopes { envelopes: said, count: None };
        if are_put_down(api, &request).await? {
            *done += request.envelopes.len();
            // As of one.
            api.servers.tell_in_a_while();
            return Ok(true);
        }
        said = request.envelopes;
    }
    // Which of them it is, and why, is found out one by one; what was put down does nothing.
    for envelope in said {
        if !put_down(api, envelope).await? {
            return Ok(false);
        }
        *done += 1;
    }
    Ok(true)
}

/// Whether all of it could be put down at once.
async fn are_put_down(api: &Api, request: &PostEnvelopes) -> Result<bool, ApiError> {
    let Some(Submission { sender, group, .. }) = request.envelopes.first() else { return Ok(true) };
    let Some(sender) = remote_accounts::device(&api.db, sender).await? else { return Ok(false) };
    let when = (api.clock.now(), api.config.max_message_ttl);
    let (of, who) = ((&api.db, &api.live), (&sender, Posted::Elsewhere));
    Ok(relay::post_of(of, when, &api.shares, who, *group, request).await.is_ok())
}

/// Puts down what a device of another server has sent; `false` where that has to wait.
pub(super) async fn put_down(api: &Api, envelope: Submission) -> Result<bool, ApiError> {
    let from = envelope.sender.account.server().to_owned();
    let group = envelope.group;
    let Some(sender) = remote_accounts::device(&api.db, &envelope.sender).await? else {
        let about = (group, envelope.epoch);
        return wait_for_sender(api, (&from, about), &envelope.sender).await;
    };
    let when = (api.clock.now(), api.config.max_message_ttl);
    let named = Named::of(&envelope);
    let request = PostEnvelopes { envelopes: vec![envelope], count: None };
    let who = (&sender, Posted::Elsewhere);
    let posted =
        relay::post_of((&api.db, &api.live), when, &api.shares, who, group, &request).await;
    match posted.map_err(|refused| refused.why) {
        Ok(_) => {
            // That somebody who was to read it is out, perhaps.
            api.servers.tell_in_a_while();
            Ok(true)
        }
        // It is much that nobody has read: what comes of it is refused as it would be here, and nobody waits.
        Err(PostError::UsedUp(used_up)) if used_up.is_for_long() => {
            report(api, &from, &named, "too_much").await?;
            refused(api, &from, &used_up.to_string()).await
        }
        Err(PostError::UsedUp(_)) => Ok(false),
        // Its server took it before it had the op: nobody did wrong.
        Err(why @ PostError::StaleKey) => {
            report(api, &from, &named, in_one_word(&why)).await?;
            Ok(true)
        }
        Err(PostError::Storage(error)) => Err(error.into()),
        Err(why) => {
            let code = in_one_word(&why);
            wait_or_report(api, &from, &named, (&why.to_string(), code)).await
        }
    }
}

/// An envelope of another server's device, as its server is told of it.
struct Named {
    group: GroupId,
    epoch: Epoch,
    sender: DeviceId,
    id: EnvelopeId,
}

impl Named {
    fn of(envelope: &Submission) -> Self {
        let Submission { group, epoch, .. } = *envelope;
        Self { group, epoch, sender: envelope.sender.device, id: envelope.name() }
    }
}

/// Why something is not put down, as the sender's server is told.
const fn in_one_word(why: &PostError) -> &'static str {
    match why {
        // Its ops are here, so that it can only be an op after its own.
        PostError::Unknown | PostError::Behind(_) => "removed",
        PostError::NotCounting(_) => "not_counting",
        PostError::Closed => "closed",
        PostError::StaleKey => "stale_epoch",
        PostError::Bad(..) | PostError::NotYours(_) | PostError::Form(_) => "malformed",
        PostError::TooMany(_) | PostError::UsedUp(_) => "too_much",
        PostError::OtherRoster(..) | PostError::Storage(_) => "refused",
    }
}

/// As [`wait_or_refuse`]; what is refused the server of its sender is told.
async fn wait_or_report(
    api: &Api,
    from: &str,
    named: &Named,
    (reason, code): (&str, &str),
) -> Result<bool, ApiError> {
    let (reason, code) = match catch_up::waits(api, from, named.group, named.epoch).await? {
        Some(true) => return Ok(false),
        Some(false) => ("ops_missing", "ops_missing"),
        None => (reason, code),
    };
    report(api, from, named, code).await?;
    refused(api, from, reason).await
}

/// Has the server of the sender told that this did not come to anybody here.
async fn report(api: &Api, from: &str, named: &Named, code: &str) -> Result<(), ApiError> {
    let what = (&named.sender, named.id);
    Ok(api.servers.tell_refusal(&api.db, (from, named.group), what, code).await?)
}

/// What ops that are not here yet may let in waits for them; `true` where it is refused.
async fn wait_or_refuse(
    api: &Api,
    from: &str,
    (group, epoch): (GroupId, Epoch),
    reason: &str,
) -> Result<bool, ApiError> {
    Ok(match catch_up::waits(api, from, group, epoch).await? {
        Some(true) => false,
        Some(false) => refused(api, from, "ops_missing").await?,
        None => refused(api, from, reason).await?,
    })
}

/// What comes of a device that is not known waits likewise for the ops that let it in, and for its account
/// where these are here and its server has to show it.
async fn wait_for_sender(
    api: &Api,
    (from, (group, epoch)): (&str, (GroupId, Epoch)),
    who: &Sender,
) -> Result<bool, ApiError> {
    match catch_up::waits(api, from, group, epoch).await? {
        Some(true) => Ok(false),
        Some(false) => refused(api, from, "ops_missing").await,
        None if !api.servers.has_waited(&api.db, from).await?
            && thirds::ask_for_sender(api, group, who).await? =>
        {
            Ok(false)
        }
        None => refused(api, from, "unknown_sender").await,
    }
}

/// Puts down what the home of a group tells this server's devices; `false` where that has to wait.
pub(super) async fn take_home_row(
    api: &Api,
    from: &str,
    envelope: &Envelope,
) -> Result<bool, ApiError> {
    let (now, here) = (api.clock.now(), &*api.config.server_name);
    let (may, limit) = if envelope.kind == Kind::CallChanged {
        (api.servers.may_tell_calls(now, from), "changes of calls a minute")
    } else {
        (api.servers.may_join(now, from), "requests to join a minute")
    };
    if !may {
        api.servers.was_limited((&api.db, now), from, limit).await?;
        return Ok(false);
    }
    let of = (&api.db, &api.live);
    let told = if envelope.kind == Kind::CallChanged {
        calls::told_by_home(of, now, from, envelope).await?
    } else {
        invites::told_by_home(of, now, (here, from), envelope).await?
    };
    match told {
        Told::Done => Ok(true),
        Told::Refused(reason) => refused(api, from, reason).await,
        Told::UnknownGroup => {
            wait_or_refuse(api, from, (envelope.group, envelope.epoch), "unknown_group").await
        }
    }
}
