//! The relay: envelopes in. It cannot open a single one.

pub(crate) mod fan_outs;
pub(crate) mod legacy;
mod put;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use causeway_protocol::{
    api::{Accepted, AcceptedEnvelope, PostEnvelopes},
    envelope::{BadEnvelope, Kind, MAX_BATCH, Sender, Submission, SubmittedTo},
    ids::{DeviceId, EnvelopeId, Epoch, GroupId, Timestamp},
    posting::BadPosting,
    roster::{Role, Scheme},
};
use causeway_store::{Conn, Db, Script, Tx};

use crate::{
    live::Live,
    quota::{BRIDGE, PAGE_BYTES, Shares, UsedUp},
    services::Behind,
    storage::{
        self, GroupRow,
        devices::{self, Device},
        groups::{self, Group},
        mailbox::{self, Before, Places},
        standing::{self, Standing},
    },
};

/// Ops that a refusal brings.
const MAX_OPS: u32 = 1_000;

/// Rows that one transaction puts down, so that nobody waits for the writer longer than 100 ms: 0.13 ms
/// each, as measured with 8,192. One envelope may be for more, as many as fit into 45,000 bytes.
const ROWS_IN_A_TURN: usize = 512;

/// More envelopes than these are looked for before the writer is asked for.
const FEW: usize = 8;

/// Why envelopes were refused: all that one turn takes, and those after it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// A mistake of the client: which envelope, and what.
    #[error("envelope {0}: {1}")]
    Bad(usize, BadEnvelope),
    /// A mistake of the client: which envelope.
    #[error("envelope {0} is of another group or sender than the request")]
    NotYours(usize),
    /// Send fewer at once.
    #[error("{0} envelopes, at most {MAX_BATCH} fit")]
    TooMany(usize),
    /// There is no such group, or none that the caller counts in.
    #[error("no such group")]
    Unknown,
    /// The sender did not count yet in the epoch that it states.
    #[error("the sending device does not count in epoch {0}")]
    NotCounting(Epoch),
    /// Nothing follows `close`.
    #[error("the group is closed")]
    Closed,
    /// Of another server: under a shared key that no reader here opens any more.
    #[error("sealed under a shared key from before somebody was taken out")]
    StaleKey,
    /// Install the ops and seal again; or, where it is the server that is behind, send it the ops.
    #[error("the group is in another epoch")]
    Behind(Behind),
    /// A mistake of the client, in a posting in bytes.
    #[error(transparent)]
    Form(BadPosting),
    /// Name the devices anew, by the newest roster; what was sealed stays as it is.
    #[error(
        "devices are named by the roster of epoch {0}, which is not the newest: the group is in epoch {1}; \
         get its ops and name them by that, with what is sealed as it is"
    )]
    OtherRoster(Epoch, Epoch),
    /// Again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for PostError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Why a turn was not taken.
enum Denied {
    /// The sender is behind: of this group it is told the ops from one epoch up to another.
    Behind(GroupRow, Epoch, Epoch),
    /// Whatever else.
    Post(PostError),
}

impl<E: Into<PostError>> From<E> for Denied {
    fn from(why: E) -> Self {
        Self::Post(why.into())
    }
}

impl Denied {
    /// With the ops that it brings, which are read after the writer was given back, and count.
    async fn told(self, db: &Db, now: Timestamp, shares: &Shares, caller: &Device) -> PostError {
        let (group, from, until) = match self {
            Self::Behind(group, from, until) => (group, from, until),
            Self::Post(why) => return why,
        };
        let read = async {
            shares.traffic(now, &caller.account, PAGE_BYTES)?;
            let mut read = db.read().await?;
            let ops = groups::ops(read.conn(), group, from, until, MAX_OPS).await?;
            shares.was_less(&caller.account, PAGE_BYTES, ops.iter().map(|op| op.0.len()).sum());
            Ok::<_, PostError>(PostError::Behind(Behind { epoch: until, ops }))
        };
        read.await.unwrap_or_else(|why| why)
    }
}

/// Envelopes were refused, and with them all that stand behind them.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: PostError,
    /// Those of the request that are taken, in turns before.
    pub(crate) taken: Vec<AcceptedEnvelope>,
}

impl<E: Into<PostError>> From<E> for Refused {
    fn from(why: E) -> Self {
        Self { why: why.into(), taken: Vec::new() }
    }
}

/// Takes envelopes in, in order; all or none of those that are taken in one turn. One that was
/// accepted before is answered as it was then, whatever happened since; what is refused in a later
/// turn costs nothing.
pub(crate) async fn post(
    of: (&Db, &Live),
    when: (Timestamp, Duration),
    shares: &Shares,
    caller: &Device,
    group: GroupId,
    request: &PostEnvelopes,
) -> Result<Accepted, Refused> {
    post_of(of, when, shares, (caller, Posted::Here), group, request).await
}

/// Where envelopes were posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    /// By a device of this server: what a cut has made old is sealed again.
    Here,
    /// At another server, which has taken them: they are judged by their readers.
    Elsewhere,
}

/// As [`post`], of a device wherever it is.
pub(crate) async fn post_of(
    (db, live): (&Db, &Live),
    (now, max_ttl): (Timestamp, Duration),
    shares: &Shares,
    (caller, posted): (&Device, Posted),
    group: GroupId,
    PostEnvelopes { envelopes: submissions, count: counted }: &PostEnvelopes,
) -> Result<Accepted, Refused> {
    let ids = check(caller, group, submissions)?;
    if ids.is_empty() {
        return Ok(Accepted { accepted: Vec::new() });
    }
    let mut known = known(db, caller, &ids, submissions).await?;
    let mut new: Vec<(EnvelopeId, &Submission)> = Vec::new();
    for (id, submission) in ids.iter().copied().zip(submissions) {
        // Of the same twice in one batch, the first is put down and both are answered.
        if let Entry::Vacant(unknown) = known.entry(id) {
            unknown.insert(Places::Devices(Vec::new()));
            new.push((id, submission));
        }
    }
    let mut turns = turns(&new, ROWS_IN_A_TURN).into_iter();
    let mut asked = Asked { live, shares, max_ttl, posted, new: &new, submissions, admitted: None };
    let mut refused = None;
    for turn in turns.by_ref() {
        match take_turn(db, now, caller, group, turn, &mut asked, *counted).await {
            Ok(taken) => known.extend(taken),
            Err(why) => {
                refused = Some((turn, why));
                break;
            }
        }
    }
    let answer = |id: EnvelopeId| AcceptedEnvelope {
        id,
        recipients: known.get(&id).map_or(0, Places::recipients),
    };
    let Some((turn, why)) = refused else {
        return Ok(Accepted { accepted: ids.into_iter().map(answer).collect() });
    };
    let why = why.told(db, now, shares, caller).await;
    let left: Vec<_> = std::iter::once(turn).chain(turns).flatten().collect();
    if asked.admitted == Some(Charged(true)) {
        let (rows, bytes) = size(left.iter().map(|(_, submission)| *submission));
        shares.give_back(&caller.account, rows, bytes);
    }
    let left: BTreeSet<EnvelopeId> = left.into_iter().map(|(id, _)| *id).collect();
    let taken = ids.into_iter().filter(|id| !left.contains(id)).map(answer).collect();
    Err(Refused { why, taken })
}

type Turn<'a> = &'a [(EnvelopeId, &'a Submission)];

/// What of many was accepted before, without holding the writer up: who posts much again would. Of a few
/// the writer is asked in the same errand.
async fn known(
    db: &Db,
    caller: &Device,
    ids: &[EnvelopeId],
    submissions: &[Submission],
) -> Result<BTreeMap<EnvelopeId, Places>, storage::Error> {
    if ids.len() <= FEW && size(submissions.iter()).0 <= ROWS_IN_A_TURN {
        return Ok(BTreeMap::new());
    }
    mailbox::accepted(db.read().await?.conn(), caller.row, ids).await
}

/// What a request asks for as a whole, which is looked at with the first turn that has something new.
struct Asked<'a> {
    live: &'a Live,
    shares: &'a Shares,
    /// Messages live no longer, whatever their group says.
    max_ttl: Duration,
    posted: Posted,
    new: &'a [(EnvelopeId, &'a Submission)],
    submissions: &'a [Submission],
    admitted: Option<Charged>,
}

/// Whether it was taken from the account's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Charged(bool);

/// Takes a turn: the same may have been posted again meanwhile, and the group have moved on.
async fn take_turn(
    db: &Db,
    now: Timestamp,
    caller: &Device,
    group: GroupId,
    turn: Turn<'_>,
    asked: &mut Asked<'_>,
    counted: Option<u64>,
) -> Result<Vec<(EnvelopeId, Places)>, Denied> {
    let names: Vec<EnvelopeId> = turn.iter().map(|(id, _)| *id).collect();
    let mut script = Script::default();
    mailbox::select_before(&mut script, caller, group, &names);
    let (mut tx, rows) = db.begin_growing_with(script).await?;
    let Before { known, group: found, first } =
        mailbox::read_before(tx.conn(), caller, &names, rows).await?;
    let is_left = |(id, _): &&(EnvelopeId, &Submission)| !known.contains_key(id);
    let left: Vec<_> = turn.iter().filter(is_left).copied().collect();
    if left.is_empty() {
        return Ok(known.into_iter().collect());
    }
    let mut group = if asked.admitted.is_some() {
        admit(tx.conn(), (caller, asked.posted), found, epochs(&left)).await?
    } else {
        let new: Vec<_> = asked.new.iter().filter(is_left).copied().collect();
        let group = admit(tx.conn(), (caller, asked.posted), found, epochs(&new)).await?;
        if let Some(beyond) = beyond_limits(asked.submissions) {
            return Err(beyond.into());
        }
        // By its name, too: whoever has a group can make anybody its bridge.
        let is_bridge = group.role == Role::Bridge && caller.account.localpart() == BRIDGE;
        if !is_bridge {
            let (rows, bytes) = size(new.iter().map(|(_, new)| *new));
            asked.shares.envelopes(now, &caller.account, rows, bytes)?;
        }
        asked.admitted = Some(Charged(!is_bridge));
        group
    };
    if asked.posted == Posted::Elsewhere && is_stale(tx.conn(), &group.group, &left).await? {
        return Err(PostError::StaleKey.into());
    }
    group.group.ttl_s = group.group.ttl_s.min(asked.max_ttl.as_secs());
    let who = (caller, asked.posted);
    let taken = take((tx, asked.live), now, who, &group.group, (first, &left), counted).await?;
    Ok(known.into_iter().chain(taken).collect())
}

/// Puts down what is taken in one turn, in a transaction of its own, and says where.
async fn take(
    (mut tx, live): (Tx, &Live),
    now: Timestamp,
    (caller, posted): (&Device, Posted),
    group: &Group,
    (first, turn): (i64, &[(EnvelopeId, &Submission)]),
    counted: Option<u64>,
) -> Result<Vec<(EnvelopeId, Places)>, PostError> {
    let mut script = Script::default();
    let (places, news) =
        put::put((tx.conn(), live), &mut script, now, caller, group, (first, turn)).await?;
    if posted == Posted::Elsewhere {
        put::note_taken(tx.conn(), &mut script, caller, (now, group), (turn, &places)).await?;
    }
    if let Some(counted) = counted {
        devices::counted(&mut script, caller.row, counted);
    }
    live.tell(&mut tx, news);
    tx.commit_with(script).await?;
    put::count(turn);
    Ok(turn.iter().map(|(id, _)| *id).zip(places).collect())
}

/// What is taken together, in order: so many rows at most, or one envelope of more.
fn turns<'a>(
    new: &'a [(EnvelopeId, &'a Submission)],
    most: usize,
) -> Vec<&'a [(EnvelopeId, &'a Submission)]> {
    let (mut turns, mut rest) = (Vec::new(), new);
    while !rest.is_empty() {
        let mut rows = 0;
        let fits = |(_, submission): &&(EnvelopeId, &Submission)| {
            rows += named(submission).count().max(1);
            rows <= most
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (turn, later) = rest.split_at(count.min(rest.len()));
        turns.push(turn);
        rest = later;
    }
    turns
}

/// What must be right before an id is looked up; the name of each.
fn check(
    caller: &Device,
    group: GroupId,
    submissions: &[Submission],
) -> Result<Vec<EnvelopeId>, PostError> {
    if submissions.len() > MAX_BATCH {
        return Err(PostError::TooMany(submissions.len()));
    }
    let check_one = |(n, submission): (usize, &Submission)| {
        let Sender { account, device } = &submission.sender;
        if submission.group != group || *account != caller.account || *device != caller.device_id {
            return Err(PostError::NotYours(n));
        }
        submission.check_form().map_err(|bad| PostError::Bad(n, bad))?;
        Ok(submission.name())
    };
    submissions.iter().enumerate().map(check_one).collect()
}

/// The first envelope that is too large, or to live too long.
fn beyond_limits(submissions: &[Submission]) -> Option<PostError> {
    let beyond = |(n, submission): (usize, &Submission)| {
        submission.check_limits().err().map(|bad| PostError::Bad(n, bad))
    };
    submissions.iter().enumerate().find_map(beyond)
}

/// Envelopes may come in, from one who has this role.
struct Admitted {
    group: Group,
    role: Role,
}

/// Whether a message is under a shared key, and somebody was taken out since: who has that key may not have
/// been meant to, so that no reader opens it behind that op (protocol §5.2).
async fn is_stale(
    conn: &mut Conn,
    group: &Group,
    new: &[(EnvelopeId, &Submission)],
) -> Result<bool, storage::Error> {
    let said = new.iter().filter(|(_, new)| new.kind == Kind::Message);
    let oldest = said.map(|(_, new)| new.epoch).min();
    let Some(oldest) = oldest.filter(|oldest| *oldest < group.head.epoch) else { return Ok(false) };
    Ok(standing::was_cut_since(conn, group.row, oldest).await?
        && groups::roster(conn, group.row).await?.scheme() == Scheme::SharedKey)
}

/// Whether new envelopes may come in: membership, then epoch.
async fn admit(
    conn: &mut Conn,
    (caller, posted): (&Device, Posted),
    found: Option<(Group, Standing)>,
    epochs: impl Iterator<Item = Epoch> + Clone,
) -> Result<Admitted, Denied> {
    let (group, mut standing) = found.ok_or(PostError::Unknown)?;
    if standing == Standing::None {
        let account = caller.account.as_str();
        standing = standing::of_device(conn, group.row, &caller.of(), account).await?;
    }
    let oldest = epochs.clone().min().unwrap_or(group.head.epoch);
    let newest = epochs.max().unwrap_or(group.head.epoch);
    let behind = |until| Denied::Behind(group.row, Epoch(oldest.0.saturating_add(1)), until);
    let (since, role) = match standing {
        Standing::Counts(since, role) => (since, role),
        // Told up to the op that took the device out, and no further.
        Standing::Until(until) if oldest < until => {
            return Err(behind(until));
        }
        Standing::Listed | Standing::Until(_) | Standing::None => {
            return Err(PostError::Unknown.into());
        }
    };
    let is_stale = oldest < group.stale_below && posted == Posted::Here;
    if is_stale || newest > group.head.epoch {
        return Err(behind(group.head.epoch));
    }
    if oldest < since {
        return Err(PostError::NotCounting(oldest).into());
    }
    if group.head.closed {
        return Err(PostError::Closed.into());
    }
    Ok(Admitted { group, role })
}

fn epochs<'a>(new: &'a [(EnvelopeId, &Submission)]) -> impl Iterator<Item = Epoch> + Clone + 'a {
    new.iter().map(|(_, submission)| submission.epoch)
}

/// Rows that envelopes make, and their bytes.
fn size<'a>(new: impl Iterator<Item = &'a Submission>) -> (usize, usize) {
    new.fold((0, 0), |(rows, sum), new| (rows + named(new).count().max(1), sum + bytes(new)))
}

/// The devices that an envelope names.
fn named(submission: &Submission) -> impl Iterator<Item = &DeviceId> {
    let (one, pieces) = match &submission.to {
        SubmittedTo::Broadcast => (None, None),
        SubmittedTo::Device(device) => (Some(device), None),
        SubmittedTo::Devices(pieces) => (None, Some(pieces)),
    };
    one.into_iter().chain(pieces.into_iter().flat_map(BTreeMap::keys))
}

/// Of what a submission says, its pieces included.
fn bytes(submission: &Submission) -> usize {
    let pieces = match &submission.to {
        SubmittedTo::Devices(pieces) => pieces.values().map(|piece| piece.0.len()).sum(),
        SubmittedTo::Broadcast | SubmittedTo::Device(_) => 0,
    };
    submission.payload.len().saturating_add(pieces)
}

#[cfg(test)]
mod tests {
    use causeway_protocol::envelope::Piece;

    use super::*;

    fn submission(devices: usize) -> Submission {
        let pieces = (0..devices).map(|n| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            (DeviceId::new(id), Piece(vec![0]))
        });
        Submission {
            id: None,
            group: GroupId::new([1; 32]),
            epoch: Epoch(1),
            sender: Sender {
                account: "alice:a.example".parse().unwrap(),
                device: DeviceId::new([2; 32]),
            },
            kind: Kind::Fanout,
            ttl_ms: 1_000,
            to: match devices {
                0 => SubmittedTo::Broadcast,
                1 => SubmittedTo::Device(DeviceId::new([3; 32])),
                _ => SubmittedTo::Devices(pieces.collect()),
            },
            payload: Vec::new(),
        }
    }

    #[test]
    fn no_turn_puts_down_more_rows_than_it_may_and_all_come_in_their_order() {
        let shapes: [&[usize]; 6] =
            [&[], &[1; 2_000], &[0; 1_100], &[700, 1, 1], &[1, 700, 1], &[511, 1, 1, 300, 213]];
        for shape in shapes {
            let submissions: Vec<_> = shape.iter().map(|devices| submission(*devices)).collect();
            let name = |n: usize| EnvelopeId::new(u128::try_from(n).unwrap().to_be_bytes());
            let new: Vec<_> = submissions.iter().enumerate().map(|(n, s)| (name(n), s)).collect();
            let turns = turns(&new, ROWS_IN_A_TURN);
            for turn in &turns {
                let rows: usize = turn.iter().map(|(_, s)| named(s).count().max(1)).sum();
                assert!(rows <= ROWS_IN_A_TURN || turn.len() == 1, "{rows} in {}", turn.len());
            }
            let names = turns.concat().iter().map(|(id, _)| *id).collect::<Vec<_>>();
            assert_eq!(names, (0..new.len()).map(name).collect::<Vec<_>>());
        }
        let many = vec![submission(1); 2_000];
        let new: Vec<_> = many.iter().map(|s| (EnvelopeId::new([0; 16]), s)).collect();
        assert_eq!(turns(&new, ROWS_IN_A_TURN).len(), 4, "and no fewer than fit");
    }
}
