//! After `bridge.db` was put back: nothing is said twice, and the groups are told.
//!
//! What the copy has in its outbox may have gone since, so each of it is looked for in its room by
//! its marker before it is sent. What was said in rooms since is read again from the copy's place
//! and has the same client ids as then. What was read from the native side since is not there any
//! more; most of it went into the rooms, and what did not is lost.

use causeway_protocol::ids::Timestamp;
use causeway_store::Db;

use crate::{
    domain::{
        effect::{Effect, InGroup},
        ghost::Names,
        portal::PortalState,
    },
    storage::{
        self,
        effects::{Cause, Decided},
        portals, restored,
        sealed::Sealer,
    },
};

/// How long a group is to be told.
const TOLD_MS: u64 = 30 * 24 * 3_600_000;
const TEXT: &str = "The bridge was restored from a backup. Messages between that backup and now may \
                    be missing here or in the room; what was still on its way is looked for before \
                    it is sent.";

/// Makes a database that was put back fit to go on; the same again does nothing more. `known` is the
/// count beside it, or what others know of it.
///
/// # Errors
/// [`storage::Error`]; nothing was changed.
pub async fn go_on(
    db: &Db,
    sealer: &Sealer,
    names: &Names,
    now: Timestamp,
    known: u64,
) -> Result<(), storage::Error> {
    let mut tx = db.begin().await?;
    let count = restored::may_have_gone(tx.conn(), now).await?;
    let mut portals = portals::all(&mut tx, names).await?;
    let id = [b"restored\0".as_slice(), &known.to_be_bytes()].concat();
    let cause = Cause {
        id: &id,
        author: names.bot().as_str(),
        accepted_at: now,
        expires_at: now.plus_ms(TOLD_MS),
    };
    let mut decided = Decided::default();
    for portal in portals.iter_mut().filter(|portal| portal.state != PortalState::Closed) {
        let notice = Effect::InGroup(InGroup::Notice(TEXT.to_owned()));
        decided.take(portal, cause, vec![notice]);
    }
    restored::is_known(tx.conn(), known).await?;
    decided.keep(&mut tx, sealer, now, portals.iter_mut()).await?;
    tx.commit().await?;
    tracing::warn!(
        rows = count,
        "bridge.db was put back: what waits is looked for before it is sent"
    );
    Ok(())
}
