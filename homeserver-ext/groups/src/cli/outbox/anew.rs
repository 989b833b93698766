//! Messages that another server had too late: sealed anew, once per epoch.
//!
//! In a group with a shared key nobody opens what was sealed before an op that took somebody out and
//! comes behind it, so that other server does not put it down (protocol §7.3). Under the same client id it
//! is sealed under the epoch of now; whoever has read it knows it by that.

use super::OutboxError;
use crate::{
    sdk::{Client, Reached, SdkError},
    storage::not_taken::{self as rows, NotTaken},
};

/// How the server says that it came behind a cut.
const LATE: &str = "stale_epoch";
/// How often one message is sealed anew at most: so many cuts in a row are no accident.
const MOST: i64 = 8;
/// Messages that are looked at in one go.
const AT_ONCE: u32 = 64;

/// What becomes of a message that not all have.
enum Becomes {
    /// It waits to be sealed anew.
    Anew,
    /// Nothing; it is as it is.
    Nothing,
    /// It is not known yet: the op is not here.
    Later,
}

/// Has those wait again that came to another server behind a cut. Whether there were any.
///
/// # Errors
/// The server's, which is asked why; they are looked at again.
pub(in crate::cli) async fn seal_anew(client: &Client) -> Result<bool, OutboxError> {
    let all = rows::all(client.db().read().await?.conn(), AT_ONCE).await?;
    let mut were_any = false;
    for of in all {
        let is_anew = match look(client, &of).await? {
            Becomes::Anew => true,
            Becomes::Nothing => false,
            Becomes::Later => continue,
        };
        let mut tx = client.db().begin().await?;
        rows::looked_at(tx.conn(), &of, is_anew).await?;
        tx.commit().await?;
        were_any |= is_anew;
    }
    Ok(were_any)
}

async fn look(client: &Client, of: &NotTaken) -> Result<Becomes, OutboxError> {
    let roster = match client.roster(of.group).await {
        Ok(roster) => roster,
        Err(SdkError::UnknownGroup(_)) => return Ok(Becomes::Nothing),
        Err(error) => return Err(error.into()),
    };
    let reached = client.reached(of.group, of.client_id, of.id).await?;
    let is_late = |reached: &Reached| matches!(reached, Reached::Failed(Some(why)) if why == LATE);
    if of.anew >= MOST || !reached.is_some_and(|reached| reached.values().any(is_late)) {
        return Ok(Becomes::Nothing);
    }
    if roster.epoch() <= of.epoch {
        return Ok(Becomes::Later);
    }
    // Another server's word is none for those who came since.
    let may = client.may_seal_anew(of.group, of.epoch).await?;
    Ok(if may { Becomes::Anew } else { Becomes::Nothing })
}
