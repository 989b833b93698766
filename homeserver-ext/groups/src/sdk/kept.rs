//! Reading again what was acknowledged, after the database was put back from a copy.
//!
//! The server keeps it for its bridge alone. Which row was the last is remembered with each commit
//! that takes rows in, so every copy knows its place.

use std::sync::PoisonError;

use causeway_protocol::{
    api::{Again, Kept, ReadAgain},
    ids::{Seq, Timestamp},
};
use causeway_store::Script;

use super::{CallError, Client, SdkError};
use crate::storage::place::{self, Place};

/// What comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadingAgain {
    /// Rows up to this one have been here before; in the newer database that is gone.
    pub until: Seq,
    /// And not before this moment.
    pub since: Timestamp,
    /// Whether all of them come.
    pub whole: bool,
}

impl Client {
    /// Asks the server to keep what this device acknowledges, and remembers from now on how far it
    /// has read. Whether the server does that.
    ///
    /// # Errors
    /// [`SdkError`]: it is not known.
    pub async fn keep_read(&self) -> Result<bool, SdkError> {
        match self.http.keep_read().await {
            Ok(Kept { generation, keep_ms }) => {
                let numbered = Some(generation).filter(|_| keep_ms > 0);
                *self.numbered.lock().unwrap_or_else(PoisonError::into_inner) = numbered;
                Ok(numbered.is_some())
            }
            Err(error) if is_unable(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the rows that this database does not have come again with the next stream, although they
    /// were acknowledged: it was put back. The same as often as it is asked, as long as no row was
    /// taken in. `None` where it does not know its place, or the server keeps nothing.
    ///
    /// # Errors
    /// [`SdkError`]: it is not known.
    pub async fn read_again(&self) -> Result<Option<ReadingAgain>, SdkError> {
        let place = place::get(self.db.read().await?.conn()).await?;
        let Some(Place { generation, seq, at }) = place else { return Ok(None) };
        let request = ReadAgain { generation, after: seq };
        match self.http.read_again(&request).await {
            Ok(Again { until, whole }) => Ok(Some(ReadingAgain { until, since: at, whole })),
            Err(error) if is_unable(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Remembers that everything up to and with `through` is here.
    pub(super) fn is_at(&self, script: &mut Script, through: Option<Seq>) {
        let numbered = *self.numbered.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(generation), Some(seq)) = (numbered, through) {
            place::put(script, &Place { generation, seq, at: self.now() });
        }
    }
}

/// Whether the server is one of before, or keeps nothing for this device.
fn is_unable(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status: 403..=405, .. })
}
