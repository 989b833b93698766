//! What is kept for the bridge's device after it was acknowledged, so that a database of it that is
//! put back from a copy loses nothing.
//!
//! For nobody else: to people it was said that what they acknowledge is gone.

use causeway_protocol::{
    api::{Again, ReadAgain},
    ids::{Generation, Seq, StreamId, Timestamp},
};
use causeway_store::Db;

use crate::{
    config::KeepRead,
    quota::BRIDGE,
    storage::{
        self, accounts,
        devices::Device,
        keys, mailbox,
        servers::given::{self, Streams},
    },
};

/// Rows that one transaction lets go of at most, so that others need not wait long.
const BATCH: u32 = 200;

/// Why nothing is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// It is not the bridge.
    #[error("what this device acknowledges is gone: it is kept for the server's bridge alone")]
    NotTheBridge,
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for KeptError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Nobody else has that name on this server.
fn is_bridge(caller: &Device) -> bool {
    caller.account.localpart() == BRIDGE
}

/// Keeps what the caller's device acknowledges from now on.
pub(crate) async fn keep(db: &Db, keep: KeepRead, caller: &Device) -> Result<(), KeptError> {
    if !is_bridge(caller) {
        return Err(KeptError::NotTheBridge);
    }
    if keep.is_nothing() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    mailbox::keep(tx.conn(), caller.row).await?;
    Ok(tx.commit().await?)
}

/// The caller's device was put back: what it has acknowledged behind its place comes again, as far as
/// it is there. A place of a database that this one does not know is none: then everything does.
pub(crate) async fn read_again(
    db: &Db,
    current: &Generation,
    caller: &Device,
    ReadAgain { generation, after }: ReadAgain,
) -> Result<Again, KeptError> {
    if !is_bridge(caller) {
        return Err(KeptError::NotTheBridge);
    }
    let mut tx = db.begin().await?;
    let place = mailbox::place(tx.conn(), caller.row).await?;
    // Numbers of after the next start may have been given twice.
    let known = mailbox::last_of(tx.conn(), &generation).await?;
    let asked = known.map(|last| last.min(i64::try_from(after.0).unwrap_or(i64::MAX)));
    let gone = place.kept.unwrap_or(place.acked);
    let from = asked.unwrap_or(gone).max(gone);
    mailbox::read_again(tx.conn(), caller.row, from).await?;
    tx.commit().await?;
    // One that was started since may have been put back, and lacks what was given after its copy.
    let whole = generation == *current && asked.is_some_and(|asked| asked >= gone);
    Ok(Again { until: Seq(u64::try_from(place.acked).unwrap_or(0)), whole })
}

/// Lets go of what was kept long enough, and of the oldest where there is too much.
pub(crate) async fn let_go(db: &Db, now: Timestamp, keep: KeepRead) -> Result<(), storage::Error> {
    let since = if keep.is_nothing() {
        now.plus_ms(u64::from(u32::MAX))
    } else {
        now.minus_ms(keep.time_ms())
    };
    let due = mailbox::due(db.read().await?.conn(), since, keep.max_bytes).await?;
    for (device, until) in due {
        loop {
            let mut tx = db.begin().await?;
            let is_all = mailbox::let_go(tx.conn(), device, until, BATCH).await?;
            tx.commit().await?;
            if is_all {
                break;
            }
        }
    }
    // What was parked before it was read.
    loop {
        let mut tx = db.begin().await?;
        let is_all = mailbox::let_go_taken(tx.conn(), since, BATCH).await?;
        tx.commit().await?;
        if is_all {
            return Ok(());
        }
    }
}

/// Somebody says that this database was put back from a copy.
pub(crate) async fn was_put_back(db: &Db, now: Timestamp) -> Result<(), causeway_store::Error> {
    let mut tx = db.begin().await?;
    accounts::put_back(tx.conn(), now).await?;
    // What was claimed since the copy is spent. Until its device brings others its fallback key is given.
    keys::withdraw_all(tx.conn()).await?;
    tx.commit().await
}

/// What other servers call the numbers of this database; another name once it `was_put_back`.
pub(crate) async fn name_numbers(
    db: &Db,
    fresh: StreamId,
    was_put_back: bool,
) -> Result<Streams, causeway_store::Error> {
    let mut tx = db.begin().await?;
    let streams = given::begin(tx.conn(), fresh, was_put_back).await?;
    tx.commit().await?;
    Ok(streams)
}

/// This database is opened once more.
pub(crate) async fn begin(db: &Db, generation: &Generation) -> Result<(), causeway_store::Error> {
    let mut tx = db.begin().await?;
    mailbox::begin(tx.conn(), generation).await?;
    tx.commit().await
}
