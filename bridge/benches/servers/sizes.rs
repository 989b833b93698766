//! What messages weigh between homeservers, and what they would between ten.

use std::collections::BTreeMap;

use causeway_protocol::{
    ids::{ServerLinkId, StreamId},
    link::{Ack, FrameHead, Gives, Had, joined},
};
use serde_json::json;

use crate::stage::Stage;

/// Bytes of one message between all homeservers, until it is acknowledged and told as read.
pub(crate) struct Weighed {
    /// When many follow each other.
    pub(crate) in_a_row: f64,
    /// When nothing else is said for a while.
    pub(crate) alone: f64,
}

impl Weighed {
    pub(crate) const HEAD: &str = "\
| members | servers | by | bytes each, of many in a row | of one alone |
|---|---|---|---|---|";

    pub(crate) fn row(&self, members: usize, servers: usize, by: &str) -> String {
        format!("| {members} | {servers} | {by} | {:.0} | {:.0} |", self.in_a_row, self.alone)
    }

    /// By a room between ten, where this was measured between three: as often as there are other servers, with
    /// the heads of those that are more.
    pub(crate) fn between_ten(&self) -> Self {
        let heads = (9.0 - 2.0) * head();
        let each = |bytes: f64| 9.0 * (bytes / 2.0 + heads);
        Self { in_a_row: each(self.in_a_row), alone: each(self.alone) }
    }
}

/// Weighs so many in a row, and so many alone; `say` says some and waits until all have them.
pub(crate) async fn weigh(
    stage: &Stage,
    mut say: impl AsyncFnMut(usize),
    (in_a_row, alone): (usize, usize),
) -> Weighed {
    let before = stage.quiet().await;
    say(in_a_row).await;
    let between = stage.quiet().await;
    for _ in 0..alone {
        say(1).await;
        stage.quiet().await;
    }
    let after = stage.bytes();
    Weighed {
        in_a_row: (between - before) as f64 / in_a_row as f64,
        alone: (after - between) as f64 / alone as f64,
    }
}

/// Bytes that one more server has in an event of a room.
fn head() -> f64 {
    let (link, stream) = (ServerLinkId::new([7; 16]), StreamId::new([7; 16]));
    let head = FrameHead {
        link,
        seq: 1_000,
        ack: Some(Ack { link, seq: 1_000 }),
        reset: None,
        had: Some(Had { stream: Some(stream), seq: 10_000 }),
        gives: Some(Gives { stream, after: 9_999, seq: 10_000, since: None, gap: false }),
    };
    let with = |names: &[&str]| {
        let heads: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), head)).collect();
        joined(&[&json!({})], &heads).to_string().len()
    };
    (with(&["matrix-1.example", "matrix-2.example"]) - with(&["matrix-1.example"])) as f64
}
