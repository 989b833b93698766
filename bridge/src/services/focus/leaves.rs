//! Leaves of calls that clients leave to us, with a token or after it.

use super::{Focus, FocusError, Found, Wish};
use crate::{
    domain::delegated::{Delegated, LONGEST_MS, SHORTEST_MS, is_delay},
    gateway::matrix::MatrixError,
    storage::delegated,
};

/// Leaves of one user, of all his devices in all rooms.
const OF_USER: u32 = 16;

/// A leave that a client has scheduled at its homeserver.
#[derive(Debug, Clone)]
pub struct Leave {
    /// What the homeserver calls it.
    pub delay: String,
    /// After how many ms it comes.
    pub timeout_ms: u64,
}

impl Leave {
    /// Whether it may be one.
    pub(super) fn check(&self) -> Result<(), FocusError> {
        if !is_delay(&self.delay) {
            return Err(FocusError::Malformed("delay_id is no name of a delayed event"));
        }
        if !(SHORTEST_MS..=LONGEST_MS).contains(&self.timeout_ms) {
            return Err(FocusError::Malformed("delay_timeout is below 10 s, or above a day"));
        }
        Ok(())
    }
}

impl Focus {
    /// Takes it over, in place of the one that the device may have left to us before. Only of users of our
    /// own homeserver: no other one is asked for what a request names.
    pub(super) async fn take_over(&self, wish: &Wish, found: &Found) -> Result<(), FocusError> {
        let parts = &self.parts;
        let Some(leave) = &wish.leave else {
            return Err(FocusError::Malformed("delay_id is missing"));
        };
        if found.user.server_name() != parts.names.server() {
            let why = "leaves of calls are taken over of users of this homeserver alone";
            return Err(FocusError::Malformed(why));
        }
        let now = (parts.clock)();
        let one = Delegated {
            room: wish.room.clone(),
            identity: found.identity.clone(),
            user: found.user.clone(),
            group: found.group,
            delay: leave.delay.clone(),
            timeout_ms: leave.timeout_ms,
            began: now,
            put_off: now,
            is_seen: false,
            gone: None,
        };
        // That it is there is seen by this.
        match parts.matrix.restart_delayed(parts.names.bot(), &one.delay).await {
            Ok(()) => {}
            Err(MatrixError::Refused(..)) => {
                return Err(FocusError::Malformed("the homeserver has no such delayed event"));
            }
            Err(error) => {
                tracing::debug!(%error, "a leave of a call is not taken over");
                return Err(FocusError::Homeserver);
            }
        }
        let mut tx = parts.db.begin().await?;
        if delegated::of_user(&mut tx, &one).await? >= OF_USER {
            return Err(FocusError::TooManyLeaves);
        }
        delegated::put(&mut tx, &one).await?;
        tx.commit().await?;
        metrics::counter!("causeway_focus_leaves_total", "outcome" => "taken").increment(1);
        Ok(())
    }
}
