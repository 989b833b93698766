//! A room as a group gets one, tried: made, entered by a ghost, spoken in, and left with nothing behind.
//!
//! Its alias is always the same, so that the next run takes away what one that was killed left.

use std::time::Duration;

use causeway_protocol::ids::GroupId;
use ruma::{OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId};
use serde_json::{json, value::to_raw_value};

use super::Check;
use crate::{
    domain::{
        ENCRYPTION,
        ghost::{Names, digest},
        portal::room_request,
    },
    gateway::matrix::{DEVICE, Matrix, MatrixError},
    registration::GHOST_PREFIX,
};

/// Localpart of the ghost, after the prefix: longer than an account's may be, so nobody's.
const GHOST: &str = "doctor-of-the-bridge-who-tries-a-room-and-is-no-account-of-the-native-side";
/// Messages at once: more than Synapse lets through by default where it limits our rate.
const MESSAGES: u32 = 15;
/// How often it is asked again whose rate is limited.
const TRIES: u32 = 5;
/// Longest wait before that.
const LONGEST: Duration = Duration::from_secs(10);

/// The ghost that the room is tried with.
pub(super) fn ghost(names: &Names) -> Option<OwnedUserId> {
    UserId::parse(format!("@{GHOST_PREFIX}{GHOST}:{}", names.server())).ok()
}

pub(super) async fn look(
    matrix: &Matrix,
    names: &Names,
    has_ghosts: bool,
    show: &mut dyn FnMut(Check),
) {
    let group = GroupId::new(digest(&[b"causeway doctor"]));
    let ghost = ghost(names).filter(|_| has_ghosts);
    let alias = names.alias(&group);
    let Ok(alias) = <&RoomAliasId>::try_from(alias.as_str()) else { return };
    let trial = Trial { matrix, bot: names.bot(), ghost: ghost.as_deref(), alias };
    let made = trial.make(&room_request(names, &group, "causeway doctor", None)).await;
    let room = match made {
        Ok(room) => room,
        Err(error) => return show(not_made(names.bot(), alias, &error)),
    };
    let encrypted = matrix.state(names.bot(), &room, ENCRYPTION, "").await;
    show(match encrypted {
        Ok(None) => Check::ok("a room", "can be made, and is not encrypted"),
        Ok(Some(_)) => Check::failed(
            "a room",
            "the homeserver makes private rooms encrypted, and the bridge cannot encrypt yet",
            "in homeserver.yaml write `encryption_enabled_by_default_for_room_type: \"off\"`, and \
             restart it: in an encrypted room every portal pauses",
        ),
        Err(error) => Check::warning("a room", format!("{room}: {error}"), LOG),
    });
    show(match trial.ghost {
        Some(ghost) => trial.speak(&room, ghost).await,
        None => Check::skipped("a ghost in it", "we may not act as ghosts"),
    });
    show(match trial.clear(&room).await {
        Ok(()) => Check::ok("the room's end", "nothing is left of it"),
        Err(error) => {
            let fix = "`causeway doctor --try-room` takes it away when the homeserver lets it";
            Check::warning("the room's end", format!("{room} is still there: {error}"), fix)
        }
    });
}

const LOG: &str = "look into the homeserver's log";
const RATE: &str = "write `rate_limited: false` into the homeserver's copy of the registration, and \
                    restart it: what many people say at once comes late otherwise";

fn not_made(bot: &UserId, alias: &RoomAliasId, error: &MatrixError) -> Check {
    let found = format!("{bot} may make no room: {error}");
    match error {
        MatrixError::RateLimited(_) => Check::failed("a room", found, RATE),
        error if error.is_code("M_EXCLUSIVE") => Check::failed(
            "a room",
            format!("{bot} may not call a room {alias}: {error}"),
            "the homeserver's registration has other namespaces of aliases: make it anew with \
             `causeway registration`, copy it to the homeserver, and restart that",
        ),
        _ => Check::failed(
            "a room",
            found,
            "look for modules of the homeserver that forbid it, and into its log: every group that is \
             bridged has a room made by the bot",
        ),
    }
}

/// Who tries a room by which name.
struct Trial<'a> {
    matrix: &'a Matrix,
    bot: &'a UserId,
    ghost: Option<&'a UserId>,
    alias: &'a RoomAliasId,
}

impl Trial<'_> {
    /// Makes the room; one that is there was left by a run that was killed.
    async fn make(&self, request: &serde_json::Value) -> Result<OwnedRoomId, MatrixError> {
        let make = || self.matrix.create_room(self.bot, request);
        match make().await {
            Err(error) if error.is_code("M_ROOM_IN_USE") => {
                if let Some(left) = self.matrix.resolve_alias(self.alias).await? {
                    self.clear(&left).await?;
                }
                make().await
            }
            other => other,
        }
    }

    /// The ghost comes in and speaks, faster than people do.
    async fn speak(&self, room: &RoomId, ghost: &UserId) -> Check {
        let (name, matrix) = ("a ghost in it", self.matrix);
        let text = to_raw_value(&json!({"msgtype": "m.notice", "body": "causeway doctor"}));
        let spoken = async {
            matrix.register(ghost.localpart()).await?;
            matrix.put_device(ghost, DEVICE).await?;
            matrix.invite(self.bot, room, ghost, None).await?;
            matrix.join(ghost, room.into()).await?;
            let text = text.map_err(|error| MatrixError::Misunderstood(error.to_string()))?;
            for number in 0..MESSAGES {
                let txn = format!("doctor-{}-{number}-{room}", std::process::id());
                matrix.send(ghost, room, "m.room.message", &txn, &text, None).await?;
            }
            Ok(())
        };
        match spoken.await {
            Ok(()) => Check::ok(name, format!("comes in, and says {MESSAGES} things at once")),
            Err(error @ MatrixError::RateLimited(_)) => Check::warning(
                name,
                format!("{error} when ghosts say {MESSAGES} things at once"),
                RATE,
            ),
            Err(error) => Check::failed(name, format!("{ghost}: {error}"), LOG),
        }
    }

    /// Nobody of ours is in the room any more, and no name leads there.
    async fn clear(&self, room: &RoomId) -> Result<(), MatrixError> {
        let matrix = self.matrix;
        for user in self.ghost.into_iter().chain([self.bot]) {
            match patiently(|| matrix.leave(user, room)).await {
                Ok(()) => patiently(|| matrix.forget(user, room)).await?,
                // It never was there.
                Err(MatrixError::Refused(403 | 404, ..)) => {}
                Err(error) => return Err(error),
            }
        }
        patiently(|| matrix.drop_alias(self.bot, self.alias)).await
    }
}

/// Asks again where the homeserver limits our rate.
async fn patiently<F: Future<Output = Result<(), MatrixError>>>(
    ask: impl Fn() -> F,
) -> Result<(), MatrixError> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(MatrixError::RateLimited(after)) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(after.unwrap_or(LONGEST).min(LONGEST)).await;
            }
            other => return other,
        }
    }
}
