//! Lines of what a member has shared: those that are not here, marked as his words.

use std::collections::HashSet;

use causeway_protocol::{
    content::{MessageRef, Mirror},
    ids::GroupId,
    olm_plaintext::PastText,
};
use causeway_store::Tx;

use super::super::line::{Line, Said, Shared};
use crate::{
    machine::Past,
    sdk::{Client, KeepError},
    storage::{history, mirrors, shared_lines},
};

/// Adds the texts of a page. What came in itself stays as it came; of one member the first words stay, and other
/// words of another member stand beside them.
pub(super) async fn add(
    client: &Client,
    tx: &mut Tx,
    group: GroupId,
    past: Past,
) -> Result<(), KeepError> {
    let Past { by, by_member, share, texts } = past;
    let (mut names, mut lines) = (HashSet::new(), Vec::new());
    for (sender, text) in texts {
        let PastText { device, client_id, sent_at, kind, mirror, body } = text;
        let mirror = match mirror {
            Some(id) => {
                let name = mirrors::name(tx.conn(), &group, &id).await?;
                Some(Mirror { name: name.unwrap_or_else(|| id.clone()), id })
            }
            None => None,
        };
        let said = Shared {
            by: by.clone(),
            by_member_id: by_member,
            share,
            sender,
            device,
            client_id,
            kind,
            body,
            mirror,
            sent_at_ms: sent_at,
        };
        if names.insert((device, client_id)) && is_new(client, tx, &group, &said).await? {
            lines.push((group, Said::Shared(said)));
        }
    }
    super::add(client, tx, lines).await
}

async fn is_new(
    client: &Client,
    tx: &mut Tx,
    group: &GroupId,
    said: &Shared,
) -> Result<bool, KeepError> {
    let name = said.name();
    if history::row_of(tx.conn(), group, &name).await?.is_some() {
        return Ok(false);
    }
    for (by, row) in shared_lines::of(tx.conn(), group, &name).await? {
        if by == said.by_member_id {
            return Ok(false);
        }
        let here = history::line(tx.conn(), client.vault(), group, row).await?;
        let here: Option<Line> = here.map(|json| serde_json::from_slice(&json)).transpose()?;
        if matches!(here, Some(Line { what: Said::Shared(here), .. }) if here.says_the_same(said)) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Shared {
    /// What it is said to be called.
    pub(in crate::cli) fn name(&self) -> MessageRef {
        MessageRef { device: self.device, client_id: self.client_id }
    }
}
