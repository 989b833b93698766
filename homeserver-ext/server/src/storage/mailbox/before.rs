//! What has to be known before envelopes are taken in, in one errand.

use std::collections::BTreeMap;

use causeway_protocol::ids::{EnvelopeId, GroupId};
use causeway_store::{Conn, Rows, Script};
use sqlx::{FromRow as _, Row as _};

use super::{
    Places,
    accepted::{AcceptedColumns, accepted, place_of},
};
use crate::storage::{
    Error,
    devices::Device,
    groups::Group,
    standing::{self, Standing},
};

/// What is known before envelopes are taken in.
#[derive(Debug)]
pub(crate) struct Before {
    /// Which of them were accepted before, and where they were put.
    pub(crate) known: BTreeMap<EnvelopeId, Places>,
    /// The group, and how the sender stands to it; none: there is no such group.
    pub(crate) group: Option<(Group, Standing)>,
    /// The first of as many numbers as there are envelopes: they are the caller's.
    pub(crate) first: i64,
}

/// Names that are looked for in the same errand.
const FEW: usize = 64;

/// Looks, and takes a number for each of `ids`, which must not be none; in the errand that
/// [`read_before`] reads.
pub(crate) fn select_before(
    script: &mut Script,
    sender: &Device,
    group: GroupId,
    ids: &[EnvelopeId],
) {
    let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    script.add("UPDATE numbers SET last = last + $1").bind(count);
    standing::select(script, group, sender);
    // The engine looks each place of a long list up among all before it.
    let some = ids.get(..FEW).unwrap_or(ids);
    let names: Vec<Vec<u8>> = some.iter().map(|id| id.as_ref().to_vec()).collect();
    script.add_list_of(
        "SELECT id, places, broadcast, recipients FROM accepted WHERE sender = $1 AND id IN (",
        sender.row,
        names,
    );
}

/// Reads what [`select_before`] asked for, and looks for more of them than it did.
pub(crate) async fn read_before(
    conn: &mut Conn,
    sender: &Device,
    ids: &[EnvelopeId],
    rows: Rows,
) -> Result<Before, Error> {
    let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    let mut rows = rows.into_iter();
    // The first is of the second statement, which always has one.
    let one = rows.next().ok_or(Error::Row("numbers"))?;
    let last: i64 = one.try_get("last")?;
    let known = rows.map(|row| place_of(AcceptedColumns::from_row(&row)?));
    let mut known = known.collect::<Result<BTreeMap<_, _>, _>>()?;
    let rest = ids.get(FEW..).unwrap_or_default();
    known.extend(accepted(conn, sender.row, rest).await?);
    Ok(Before { known, group: standing::read(&one)?, first: last - count + 1 })
}
