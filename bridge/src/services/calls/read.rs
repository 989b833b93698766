//! What a room's own state says of its call, when a call is heard of: who of Matrix came while nobody
//! listened, and who went; and whom it still shows who was taken out.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{CallState, CallWhom},
    ids::GroupId,
};
use ruma::{OwnedRoomId, UserId};
use serde_json::json;

use super::{Book, Spine, StepError};
use crate::{
    domain::{
        attending::Attending, caller::CALLER, in_call::InCall, portal::PortalState,
        room::StateEvent,
    },
    gateway::matrix::MatrixError,
    storage::portals,
};

/// Reads the rooms of groups of which a call was heard of for the first time; `false`: the homeserver is
/// away.
///
/// # Errors
/// [`StepError`]: the rows'.
pub(super) async fn rooms(spine: &Spine, book: &mut Book) -> Result<bool, StepError> {
    while let Some(group) = book.to_read.first().copied() {
        let room = room_of(spine, group).await?;
        if let (Some(room), Some(state)) = (room, book.calls.get(&group)) {
            match spine.matrix.whole_state(spine.names.bot(), &room).await {
                Ok(found) => spine.calls_said.put(said(spine, (group, &room), state, &found)),
                // The bot is not in it.
                Err(MatrixError::Refused(..)) => {}
                Err(error) => {
                    tracing::debug!(%error, "who is in a room's call cannot be read yet");
                    return Ok(false);
                }
            }
        }
        book.to_read.remove(&group);
    }
    Ok(true)
}

/// What the native server does not know of it.
fn said(
    spine: &Spine,
    (group, room): (GroupId, &OwnedRoomId),
    call: &CallState,
    state: &[StateEvent],
) -> Vec<InCall> {
    let mut in_room = BTreeMap::new();
    let mut said = Vec::new();
    for event in state {
        if event.kind == "m.room.member" {
            in_room.insert(event.state_key.as_str(), event.content.get("membership"));
        }
        if event.kind == CALLER && !spine.names.is_ours(&event.sender) {
            said.extend(Attending::in_state((group, room), event, spine.now()));
        }
    }
    let is_there = |user: &UserId| {
        in_room
            .get(user.as_str())
            .is_some_and(|it| it.is_some_and(|membership| membership == "join"))
    };
    // Who went long ago is known to be gone.
    let is_guest = |it: &Attending| {
        call.guests()
            .any(|guest| guest.mirror == it.user && Some(&guest.device) == it.device.as_ref())
    };
    said.retain(|it| if it.is_in { is_there(&it.user) } else { is_guest(it) });
    for guest in call.guests() {
        let Ok(user) = UserId::parse(guest.mirror.as_str()) else { continue };
        if !is_there(&user) {
            let device = None;
            said.push(Attending {
                group,
                user,
                device,
                is_in: false,
                focus: None,
                event: None,
                begins: None,
            });
        }
    }
    said.into_iter().map(InCall::Attends).collect()
}

/// Has rooms not show those of Matrix any more who were taken out of their groups' calls; `false`: the
/// homeserver is away.
///
/// # Errors
/// [`StepError`]: the rows'.
pub(super) async fn take_out(spine: &Spine, book: &mut Book) -> Result<bool, StepError> {
    let mut those = Vec::new();
    for (group, state) in &book.calls {
        for whom in &state.kicked {
            let CallWhom::Matrix { mirror, device } = whom else { continue };
            let of = (state.call, mirror.clone(), device.clone());
            if !book.cleared.contains(&of) {
                those.push((*group, of));
            }
        }
    }
    for (group, of) in those {
        if let Some(room) = room_of(spine, group).await? {
            let (bot, (_, user, device)) = (spine.names.bot(), &of);
            for key in [format!("_{user}_{device}_m.call"), format!("{user}_{device}_m.call")] {
                let cleared = match spine.matrix.state(bot, &room, CALLER, &key).await {
                    Ok(Some(state)) if state.as_object().is_some_and(|it| !it.is_empty()) => spine
                        .matrix
                        .send_state(bot, &room, CALLER, &key, &json!({}))
                        .await
                        .map(drop),
                    found => found.map(drop),
                };
                match cleared {
                    // In some versions of rooms that is for him alone to say.
                    Ok(()) | Err(MatrixError::Refused(..)) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a room shows one who was taken out; trying again");
                        return Ok(false);
                    }
                }
            }
        }
        book.cleared.insert(of);
    }
    Ok(true)
}

/// The room of a group whose calls are shown there.
pub(super) async fn room_of(
    spine: &Spine,
    group: GroupId,
) -> Result<Option<OwnedRoomId>, StepError> {
    let mut tx = spine.db.begin().await?;
    let portal = portals::of_group(&mut tx, &spine.names, &group).await?;
    let open = portal.filter(|portal| {
        portal.state == PortalState::Open && portal.lost.is_none() && !portal.encrypted
    });
    Ok(open.and_then(|portal| portal.room))
}
