//! What leaves the machine: messages, chores, and what it needs before.

use std::{collections::HashSet, fmt};

use causeway_protocol::{
    api::UploadKeys,
    content::{Content, Plaintext},
    envelope::{Kind, MAX_BATCH, MAX_BATCH_BYTES, MAX_PAYLOAD, Submission, SubmittedTo},
    ids::{AccountId, ClientId, DeviceId, EnvelopeId, Epoch, GroupId, Timestamp},
    roster::Roster,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::MachineError;

/// A message to be sealed. What it says is no part of its `Debug` form.
#[derive(Clone)]
pub struct Outgoing {
    /// Its name; the same when it is sealed again after a refusal.
    pub client_id: ClientId,
    /// How long it is to live, in seconds; 0 as long as the group says.
    pub ttl_s: u32,
    /// What it says.
    pub content: Content,
}

/// Messages that are sealed at once, at most.
pub(super) const MAX_AT_ONCE: usize = 1_000;

impl Outgoing {
    /// Its plaintext, and how long it lives in a group whose policy says `group_ttl_s`.
    pub(super) fn plaintext(
        &self,
        position: usize,
        now: Timestamp,
        group_ttl_s: u32,
    ) -> Result<(Zeroizing<Vec<u8>>, u64), SealError> {
        let plaintext = Plaintext {
            sent_at: now,
            ttl_s: self.ttl_s,
            client_id: self.client_id,
            content: self.content.clone(),
        };
        let text = Zeroizing::new(plaintext.to_bytes());
        SealError::check_size(position, text.len())?;
        Ok((text, plaintext.ttl_ms(group_ttl_s)))
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("client_id", &self.client_id)
            .field("type", &self.content.number())
            .finish_non_exhaustive()
    }
}

/// One POST to a group: finished bytes, to be stored in the transaction that made them.
///
/// After an unknown outcome the same bytes are sent again; after an answered refusal it is dropped
/// and its messages are sealed anew, with the same client ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The group.
    pub group: GroupId,
    /// The epoch that every envelope of it states.
    pub epoch: Epoch,
    /// What to post, in this order: keys first.
    pub submissions: Vec<Submission>,
    /// What carries the messages, one for each [`Outgoing`], in their order.
    pub messages: Vec<Envelopes>,
}

impl Batch {
    /// Puts `direct` envelopes first, and behind them what each message was sealed into.
    pub(super) fn new(
        head: &Roster,
        direct: Vec<Submission>,
        sealed: impl IntoIterator<Item = (ClientId, Vec<Submission>)>,
    ) -> Self {
        let (mut submissions, mut messages) = (direct, Vec::new());
        for (client_id, sealed) in sealed {
            messages.push(Envelopes::of(client_id, &sealed));
            submissions.extend(sealed);
        }
        Self { group: head.group(), epoch: head.epoch(), submissions, messages }
    }

    /// Its envelopes in as few requests as a server takes them in; fan-outs go by themselves.
    pub(crate) fn posts(&self) -> impl Iterator<Item = &[Submission]> {
        let mut rest = self.submissions.as_slice();
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let is_fan_out = |submission: &Submission| submission.kind == Kind::Fanout;
            let first = rest.first().map(is_fan_out);
            let fits = |submission: &&Submission| {
                bytes += bytes_of(submission);
                bytes <= MAX_BATCH_BYTES && Some(is_fan_out(submission)) == first
            };
            let count = rest.iter().take(MAX_BATCH).take_while(fits).count().max(1);
            let (post, later) = rest.split_at(count.min(rest.len()));
            rest = later;
            (!post.is_empty()).then_some(post)
        })
    }

    /// Whether envelopes to single devices are in it: then [`super::Machine::accepted`] is to be
    /// told when the server has it. Without them there is nothing to tell.
    pub fn has_keys(&self) -> bool {
        self.direct().next().is_some()
    }

    /// Names of the envelopes to single devices, those that carry no message of the batch.
    pub(super) fn direct(&self) -> impl Iterator<Item = EnvelopeId> + '_ {
        let carriers: HashSet<EnvelopeId> = self.messages.iter().flat_map(Envelopes::ids).collect();
        let name = move |submission: &Submission| match submission.to {
            SubmittedTo::Broadcast => None,
            SubmittedTo::Device(_) => submission.id,
            SubmittedTo::Devices(_) => {
                Some(submission.name()).filter(|name| !carriers.contains(name))
            }
        };
        self.submissions.iter().filter_map(name)
    }
}

/// How long an envelope is as JSON, at most: what it carries in base64, beside names and ids.
fn bytes_of(submission: &Submission) -> usize {
    const NAMES: usize = 1_024;
    const NAME_OF_PIECE: usize = 64;
    let in_base64 = |bytes: &[u8]| bytes.len().div_ceil(3) * 4;
    let pieces = match &submission.to {
        SubmittedTo::Broadcast | SubmittedTo::Device(_) => 0,
        SubmittedTo::Devices(pieces) => {
            pieces.values().map(|piece| NAME_OF_PIECE + in_base64(&piece.0)).sum()
        }
    };
    NAMES + in_base64(&submission.payload) + pieces
}

/// The names of the envelopes that carry one message ([`Submission::name`]): one, or one for each
/// shard of a fan-out. Stored as that one alone, or as the first and the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Envelopes {
    /// What the server calls the message; its client id where nobody is there to send it to.
    pub first: EnvelopeId,
    /// The other shards.
    pub more: Vec<EnvelopeId>,
}

impl Envelopes {
    fn of(client_id: ClientId, sealed: &[Submission]) -> Self {
        let mut names = sealed.iter().map(Submission::name);
        let first = names.next().unwrap_or_else(|| EnvelopeId::new(*client_id.as_bytes()));
        Self { first, more: names.collect() }
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = EnvelopeId> + '_ {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    One(EnvelopeId),
    More(EnvelopeId, Vec<EnvelopeId>),
}

impl From<Stored> for Envelopes {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::One(first) => Self { first, more: Vec::new() },
            Stored::More(first, more) => Self { first, more },
        }
    }
}

impl From<Envelopes> for Stored {
    fn from(Envelopes { first, more }: Envelopes) -> Self {
        if more.is_empty() { Self::One(first) } else { Self::More(first, more) }
    }
}

/// What is to be asked of the server before a group's next message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Accounts whose list and records are not known: `GET accounts/{account}`, then
    /// [`super::Machine::learn`].
    pub accounts: Vec<AccountId>,
    /// Devices to claim a one-time key of: `POST keys/claim`, then [`super::Machine::claimed`].
    pub claims: Vec<DeviceId>,
    /// Whether it would be sealed under a shared key that is over: only where nothing waits in the mailbox,
    /// since the next key may (protocol §5.2).
    pub is_key_over: bool,
}

impl Needs {
    /// Whether nothing is needed.
    pub const fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.claims.is_empty()
    }
}

/// How good that still is which a batch was sealed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// All open it.
    Current,
    /// A shared key whose time is over: the next one may have come, and wait in the mailbox.
    Over,
    /// On its way out: sealed anew it is read by all, and by nobody twice.
    Outdated,
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not in this group, or never heard of it.
    #[error("this device is not in group {0}")]
    NotMember(GroupId),
    /// `close` ended it.
    #[error("the group is closed")]
    Closed,
    /// The server showed two histories: a person decides first.
    #[error("the group has two histories; decide with `group fork show`, `keep` or `adopt`")]
    Forked,
    /// Somebody has added this account, and it takes no part yet: a person decides first.
    #[error("this group is offered, and you take no part in it yet")]
    Offered,
    /// A member is not who it is called: a person decides first.
    #[error("{} in this group over an identity that is not known as theirs", are(.0))]
    Changed(Vec<AccountId>),
    /// Only admins may post here.
    #[error("only admins post in this group")]
    Channel,
    /// Ask what [`super::Machine::needs`] says, then seal again.
    #[error("keys of some devices are to be fetched first")]
    Unprepared(Needs),
    /// The message at this position is larger than an envelope takes: bytes, most.
    #[error("message {0} is {1} bytes sealed, at most {2} fit")]
    TooLarge(usize, usize, usize),
    /// How many were to be sealed at once, and the most.
    #[error("{0} messages at once, at most {1}")]
    TooMany(usize, usize),
    /// Of a group that shares a key: the one of now has not come. With the chores whoever may give or
    /// make it is asked.
    #[error("the key that this group shares now has not come to this device yet")]
    NoKey,
    /// A scheme or suite that is not built.
    #[error("the group's scheme is not built yet")]
    Scheme,
    /// Ours to log.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// `ann:a.example is`, `ann:a.example and 2 others are`.
fn are(accounts: &[AccountId]) -> String {
    match accounts {
        [] => "somebody is".to_owned(),
        [one] => format!("{one} is"),
        [one, other] => format!("{one} and {other} are"),
        [one, others @ ..] => format!("{one} and {} others are", others.len()),
    }
}

impl SealError {
    /// Whether so many bytes of the message at `position` fit an envelope.
    pub(super) const fn check_size(position: usize, bytes: usize) -> Result<(), Self> {
        if bytes <= MAX_PAYLOAD {
            return Ok(());
        }
        Err(Self::TooLarge(position, bytes, MAX_PAYLOAD))
    }
}

/// What is to be done for others, now. Every part can be done again without harm.
#[derive(Debug, Default)]
pub struct Chores {
    /// To be posted, then [`super::Machine::accepted`]. A batch without messages needs no row of
    /// the caller's: what is not accepted comes again.
    pub batches: Vec<Batch>,
    /// Signed ops to be posted to their groups; the answer (or the ops of a 409) to
    /// [`super::Machine::install_ops`].
    pub ops: Vec<(GroupId, Vec<u8>)>,
    /// `GET groups/{id}/roster?from=`, then [`super::Machine::install_ops`].
    pub fetch_ops: Vec<(GroupId, Epoch)>,
    /// All pages of `GET groups/{id}/requests`, then [`super::Machine::take_requests`].
    pub fetch_requests: Vec<GroupId>,
    /// What is needed of the server.
    pub needs: Needs,
    /// `POST keys`, then [`super::Machine::uploaded`].
    pub keys: Option<UploadKeys>,
}

impl Chores {
    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.batches.is_empty()
            && self.ops.is_empty()
            && self.fetch_ops.is_empty()
            && self.fetch_requests.is_empty()
            && self.needs.is_empty()
            && self.keys.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use causeway_protocol::{
        envelope::{Piece, Sender},
        ids::DeviceId,
    };

    use super::*;

    /// As it was kept when each message was one envelope with an id.
    const ROW_OF_BEFORE: &str = r#"{"group":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM","epoch":4,"submissions":[
        {"id":"CQkJCQkJCQkJCQkJCQkJCQ","kind":"key_distribution",
        "group":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM","epoch":4,
        "sender":{"account":"a:a.example","device":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"},
        "to":{"device":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"},"ttl_ms":1,"payload":"a2V5"}],
        "messages":["BQUFBQUFBQUFBQUFBQUFBQ","BgYGBgYGBgYGBgYGBgYGBg"]}"#;

    fn submission(kind: Kind, to: SubmittedTo, payload: &[u8]) -> Submission {
        let sender =
            Sender { account: "a:a.example".parse().unwrap(), device: DeviceId::new([1; 32]) };
        let id = matches!(to, SubmittedTo::Device(_)).then(|| EnvelopeId::new([9; 16]));
        let (group, payload) = (GroupId::new([3; 32]), payload.to_vec());
        Submission { id, kind, group, epoch: Epoch(4), sender, to, ttl_ms: 1, payload }
    }

    fn shard(n: u8, payload: &[u8]) -> Submission {
        let pieces = BTreeMap::from([(DeviceId::new([n; 32]), Piece(vec![n]))]);
        submission(Kind::Fanout, SubmittedTo::Devices(pieces), payload)
    }

    fn batch(direct: Vec<Submission>, sealed: Vec<Vec<Submission>>) -> Batch {
        let messages = sealed.iter().map(|of| Envelopes::of(ClientId::new([7; 16]), of)).collect();
        let submissions = direct.into_iter().chain(sealed.into_iter().flatten()).collect();
        Batch { group: GroupId::new([3; 32]), epoch: Epoch(4), submissions, messages }
    }

    #[test]
    fn a_fan_out_counts_as_the_message_that_it_carries() {
        let sealed = vec![vec![shard(1, b"one"), shard(2, b"one")], vec![shard(1, b"two")]];
        let names: Vec<_> = sealed.iter().flatten().map(Submission::name).collect();
        let fan_outs = batch(Vec::new(), sealed.clone());
        assert_eq!(fan_outs.messages.len(), 2, "one for each message, however many carry it");
        assert!(!fan_outs.has_keys(), "a piece is no key");
        let [one, two] = fan_outs.messages.as_slice() else { panic!("two messages") };
        assert_eq!((one.first, &one.more[..], two.first), (names[0], &names[1..2], names[2]));
        let to = SubmittedTo::Device(DeviceId::new([1; 32]));
        let with_keys = batch(vec![submission(Kind::KeyDistribution, to, b"key")], sealed);
        assert!(with_keys.has_keys());
        assert_eq!(with_keys.direct().collect::<Vec<_>>(), [EnvelopeId::new([9; 16])]);
        assert_eq!(with_keys.messages, fan_outs.messages);
        let read: Batch =
            serde_json::from_str(&serde_json::to_string(&with_keys).unwrap()).unwrap();
        assert_eq!(read, with_keys);
    }

    #[test]
    fn a_row_of_before_fan_outs_reads_and_is_written_as_it_was() {
        let row = ROW_OF_BEFORE.replace(char::is_whitespace, "");
        let read: Batch = serde_json::from_str(&row).unwrap();
        let names = [[5; 16], [6; 16]]
            .map(|name| Envelopes { first: EnvelopeId::new(name), more: Vec::new() });
        assert_eq!(read.messages, names);
        assert!(read.has_keys());
        assert_eq!(serde_json::to_string(&read).unwrap(), row);
    }

    #[test]
    fn what_goes_to_nobody_has_a_name_still() {
        let alone = batch(Vec::new(), vec![Vec::new()]);
        assert_eq!(alone.messages[0].first, EnvelopeId::new([7; 16]));
    }
}
