//! Who said something in a room is told when members of the group did not read it in time: by one
//! notice for all that runs out at once, and by one an hour in each room.

use std::{collections::BTreeMap, time::Duration};

use causeway_groups::sdk::{CallError, SdkError};
use causeway_protocol::ids::GroupId;

use super::{AFTER_FAULT, Spine, StepError, after};
use crate::{
    domain::{
        Input,
        expired::{Expired, Unread},
        portal::PortalId,
        route::route,
    },
    storage::{
        effects::{Cause, Decided},
        expired::{self, Noted},
        portals,
    },
};

/// What runs out at once is not noted at once.
const GATHERS: Duration = Duration::from_mins(1);
/// Shortest between two notices in one room.
const REST: Duration = Duration::from_hours(1);
/// How long a notice is worth saying.
const TOLD_MS: u64 = 24 * 60 * 60 * 1_000;

/// When rooms were last told, by the steady clock. A restart forgets it, which costs a notice.
pub type Told = BTreeMap<PortalId, Duration>;

/// Tells until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut woken = spine.db.listen(expired::TOPIC);
    let mut told = Told::new();
    loop {
        let again = match step(spine, &mut told).await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(%error, "who did not read what cannot be said yet");
                Some(AFTER_FAULT)
            }
        };
        tokio::select! {
            () = async {
                tokio::select! {
                    () = woken.changed() => {}
                    () = after(again) => {}
                }
                tokio::time::sleep(GATHERS).await;
            } => {}
            () = &mut stop => return,
        }
    }
}

/// Tells every room of which something is noted and that has not been told lately; how long until
/// the next one may be told.
///
/// # Errors
/// [`StepError`]: what was not told is still noted.
pub async fn step(spine: &Spine, told: &mut Told) -> Result<Option<Duration>, StepError> {
    let now = spine.steady();
    told.retain(|_, at| now.saturating_sub(*at) < REST);
    let mut read = spine.db.read().await?;
    let portals = expired::portals(&mut read).await?;
    drop(read);
    let mut failed = None;
    for portal in portals {
        if told.contains_key(&portal) {
            continue;
        }
        match tell(spine, portal).await {
            Ok(true) => {
                told.insert(portal, now);
            }
            Ok(false) => {}
            // The others are told all the same.
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(told.values().map(|at| REST.saturating_sub(now.saturating_sub(*at))).min())
}

/// Tells one room; `false` if there was nothing to say.
async fn tell(spine: &Spine, id: PortalId) -> Result<bool, StepError> {
    let mut read = spine.db.read().await?;
    let noted = expired::of(&mut read, id).await?;
    let Some(last) = noted.last() else { return Ok(false) };
    let group = portals::place(read.conn(), &spine.names, id).await?.group;
    drop(read);
    let found = look(spine, group, &noted).await?;
    let mut tx = spine.db.begin().await?;
    let mut portal = portals::get(&mut tx, &spine.names, id).await?;
    let mut is_told = false;
    if let Some(found) = found
        && let Ok(effects) = route(&portal, &Input::Expired(found))
    {
        let (now, cause) = (spine.now(), [b"expired".as_slice(), last.message.as_bytes()].concat());
        let (author, expires_at) = (spine.names.bot().as_str(), now.plus_ms(TOLD_MS));
        let cause = Cause { id: &cause, author, accepted_at: now, expires_at };
        let mut decided = Decided::default();
        decided.take(&mut portal, cause, effects);
        decided.keep(&mut tx, &spine.sealer, now, std::iter::once(&mut portal)).await?;
        is_told = true;
    }
    expired::forget(&mut tx, id, last.id).await?;
    tx.commit().await?;
    Ok(is_told)
}

/// Which of these some member took on no device; `None` if there are none.
async fn look(
    spine: &Spine,
    group: GroupId,
    noted: &[Noted],
) -> Result<Option<Expired>, StepError> {
    let roster = match spine.native.roster(group).await {
        Ok(roster) => roster,
        Err(SdkError::UnknownGroup(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bridge = roster.bridge().map(|(id, _)| *id);
    let others = || {
        let members = roster.members().iter().filter(|(id, _)| Some(**id) != bridge);
        members.map(|(_, member)| &*member.devices)
    };
    let mut found: Option<Expired> = None;
    for Noted { event, message, .. } in noted {
        let unread = match spine.native.http().status(*message).await {
            Ok(status) => Some(Unread::count(others(), &status.recipients)),
            // It is told for a day.
            Err(CallError::Refused { status: 404, .. }) => None,
            Err(error) => {
                let error = SdkError::from(error);
                spine.is_locked_out_by(&error);
                return Err(error.into());
            }
        };
        if unread.is_some_and(|unread| unread.by == 0) {
            continue;
        }
        if let Some(found) = &mut found {
            found.more += 1;
            found.unread = found.unread.max(unread);
        } else {
            let (first, and_above) = (event.clone(), noted.len() == expired::MOST);
            found = Some(Expired { first, more: 0, and_above, unread });
        }
    }
    Ok(found)
}
