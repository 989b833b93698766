//! What stands first in a lane, and what it is sealed by, in one errand.

use causeway_groups::{machine::ToSeal, sdk::Sending};
use causeway_store::{Script, Tx};

use super::{Head, InGroup, Spine, StepError, outbox};
use crate::domain::{lane::Lane, portal::Portal};

/// What stands first in a lane, and what it is to be sealed by.
pub(super) struct First {
    pub(super) portal: Portal,
    pub(super) head: Head<InGroup>,
    pub(super) sending: Option<Sending>,
    pub(super) to_seal: ToSeal,
}

/// Looks at a lane after what `script` does, in one errand once its group is known.
pub(super) async fn first(
    spine: &Spine,
    tx: Option<Tx>,
    lane: &Lane,
    mut script: Script,
) -> Result<(Tx, First), StepError> {
    let Spine { db, native, sealer, names, leases, .. } = spine;
    let known = leases.group(lane.portal());
    outbox::select_first(&mut script, lane);
    if let Some(group) = known {
        native.look(&mut script, group);
    }
    let (mut tx, mut rows) = match tx {
        None => db.begin_with(script).await?,
        Some(mut tx) => {
            let rows = script.run(tx.conn()).await?;
            (tx, rows)
        }
    };
    let (portal, head) = outbox::read_first(sealer, names, lane, &mut rows)?;
    if known.is_none() {
        leases.has_group(&portal);
        let mut script = Script::default();
        native.look(&mut script, portal.group);
        rows = script.run(tx.conn()).await?;
    }
    let (sending, to_seal) = native.looked(&mut rows, portal.group)?;
    Ok((tx, First { portal, head, sending, to_seal }))
}
