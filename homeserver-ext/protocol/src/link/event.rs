//! What is for all of a group: broadcasts of one server's members in its order, and the home's ops
//! (protocol §7.3). It has the same content in a relay room and as an item of a link.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    envelope::{Submission, SubmittedTo},
    ids::{GroupId, StreamId, bytes_of, text_of},
    json,
};

use super::{BadRow, row::is_of};

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPlace {
    /// A stream of its sender's.
    pub stream: StreamId,
    /// From 1, by one.
    pub seq: u64,
}

/// An event of one group, by one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which group.
    pub group: GroupId,
    /// Where it stands.
    pub place: EventPlace,
    /// In the first of a stream: the last before that is known to be sent.
    pub after: Option<EventPlace>,
    /// What is in it.
    pub carried: Carried,
}

/// What an event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// Broadcasts of members of the sender's server, in the order in which it accepted them.
    Envelopes(Vec<Submission>),
    /// Ops in their order, from the home alone.
    Ops(Vec<Vec<u8>>),
}

#[derive(Deserialize)]
struct EventJson {
    v: u64,
    group: GroupId,
    stream: StreamId,
    seq: u64,
    #[serde(default)]
    after: Option<EventPlace>,
    #[serde(default)]
    envelopes: Option<Vec<Submission>>,
    #[serde(default)]
    ops: Option<Vec<String>>,
}

impl Event {
    pub(super) fn read(content: &Value) -> Option<Self> {
        let EventJson { v, group, stream, seq, after, envelopes, ops } =
            json::from_value(content).ok()?;
        let carried = match (envelopes, ops) {
            (Some(envelopes), None) => Carried::Envelopes(envelopes),
            (None, Some(ops)) => {
                let ops = ops.iter().map(|op| bytes_of(op).ok()).collect::<Option<_>>()?;
                Carried::Ops(ops)
            }
            _ => return None,
        };
        (v == 1 && seq > 0).then_some(Self {
            group,
            place: EventPlace { stream, seq },
            after,
            carried,
        })
    }

    pub(super) fn to_value(&self) -> Value {
        let mut content = json!({
            "v": 1, "group": self.group, "stream": self.place.stream, "seq": self.place.seq,
        });
        if let Some(fields) = content.as_object_mut() {
            if let Some(after) = self.after {
                fields.insert("after".to_owned(), json!(after));
            }
            match &self.carried {
                Carried::Envelopes(envelopes) => {
                    fields.insert("envelopes".to_owned(), json!(envelopes));
                }
                Carried::Ops(ops) => {
                    let ops: Vec<_> = ops.iter().map(|op| text_of(op)).collect();
                    fields.insert("ops".to_owned(), json!(ops));
                }
            }
        }
        content
    }

    /// Checks an envelope of it as `peer`'s.
    ///
    /// # Errors
    /// [`BadRow`].
    pub fn check(&self, envelope: &Submission, peer: &str) -> Result<(), BadRow> {
        if !is_of(&envelope.sender.account, peer) {
            return Err(BadRow::Foreign);
        }
        if envelope.to != SubmittedTo::Broadcast || envelope.group != self.group {
            return Err(BadRow::Kind);
        }
        Ok(envelope.check()?)
    }
}
