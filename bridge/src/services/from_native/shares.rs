//! Who asks the bridge for something, what he may still have, and what he was given: read before the
//! rules judge, and counted with what they decided.

use causeway_groups::sdk::KeepError;
use causeway_store::Tx;

use super::Router;
use crate::{
    domain::{
        Input,
        effect::{Effect, Here},
        share::{Given, Share, Used, day},
    },
    storage::shares,
};

/// The share of one of whom it was not looked up yet.
pub(super) const NOTHING: Share = Share { may_ask: false, rooms: 0, invites: 0 };

impl Router {
    /// Looks up what whoever asks for something may still have.
    pub(super) async fn shares(&self, tx: &mut Tx, input: &mut Input) -> Result<(), KeepError> {
        let (by, share) = match input {
            Input::Roster(change) if change.let_in.is_some() => {
                (change.by.as_ref(), &mut change.share)
            }
            Input::Request(request) if request.from_admin => {
                (Some(&request.by), &mut request.share)
            }
            _ => return Ok(()),
        };
        let used = match by {
            Some(by) => shares::used(tx, day((self.clock)()), by).await?,
            None => Used::default(),
        };
        *share = self.terms.borrow().share(by, used);
        Ok(())
    }

    /// Counts what was given.
    pub(super) async fn count(&self, tx: &mut Tx, given: &[Given]) -> Result<(), KeepError> {
        for given in given {
            if let Some(refusal) = given.refused {
                let limit = refusal.key();
                metrics::counter!("causeway_limit_hits_total", "limit" => limit).increment(1);
                tracing::warn!(account = %given.to, limit, "asked the bridge for more than it gets");
            }
            shares::count(tx, day((self.clock)()), given).await?;
        }
        Ok(())
    }
}

/// What of these effects is something that was given.
pub(super) fn given(effects: &[Effect]) -> Vec<Given> {
    let given = effects.iter().filter_map(|effect| match effect {
        Effect::Here(Here::Given(given)) => Some(given.clone()),
        _ => None,
    });
    given.collect()
}
