//! Natives who take part in a call of a bridged group are shown in its room: each by a ghost that holds
//! the state by which Element knows who is in a call.
//!
//! The truth is the native server's: what the mailbox tells of a call is taken at once, and the server is
//! asked at the start and every half minute. Our rows have who may be shown, noted before the homeserver
//! hears of it, so that whoever is not in the call any more is taken out whatever dies meanwhile; and the
//! homeserver itself takes out all whom we do not confirm for two minutes.

pub mod abroad;
mod attend;
mod moments;
mod read;
mod ring;
mod show;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use causeway_protocol::{
    api::{CallIntent, CallState, CallTopology},
    ghost,
    ids::{CallId, DeviceId, GroupId, Timestamp},
};
use futures_util::{StreamExt as _, stream};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use tokio::sync::Notify;

pub use self::attend::Said;
use super::{AFTER_FAULT, Spine, StepError, after};
use crate::{
    domain::{
        caller::{Caller, device_name, is_newer, natives, state_key},
        portal::{PortalId, PortalState},
    },
    storage::{callers, portals},
};

/// How often the server is asked about calls that run, and the homeserver hears that they do.
const EVERY: Duration = Duration::from_secs(30);
/// How long one waits who could not be shown.
const AFTER_REFUSAL: Duration = Duration::from_mins(1);
/// How long it is believed where calls are carried.
const FOCUS_FOR: Duration = Duration::from_mins(5);
/// Calls of one group that are asked for: the newest is the one that may run.
const NEWEST: u32 = 1;
/// Groups that are asked about at once, and how long one may take: what another server keeps it may be silent
/// about, and the others are asked about all the same.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);

/// What the mailbox told of calls, the newest of each group. A clone is another handle of the same.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    states: Mutex<BTreeMap<GroupId, CallState>>,
    came: Notify,
}

impl Told {
    /// What is new.
    pub fn put(&self, states: Vec<CallState>) {
        if states.is_empty() {
            return;
        }
        let mut waiting = self.0.states.lock().unwrap_or_else(PoisonError::into_inner);
        for state in states {
            if waiting.get(&state.group).is_none_or(|known| is_newer(known, &state)) {
                waiting.insert(state.group, state);
            }
        }
        drop(waiting);
        self.0.came.notify_one();
    }

    fn take(&self) -> BTreeMap<GroupId, CallState> {
        std::mem::take(&mut self.0.states.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How calls are in rooms.
#[derive(Debug, Clone, Default)]
pub struct InRooms {
    /// Whether those of Matrix come into calls of their groups.
    pub are_carried: bool,
    /// How a room is told that natives call, if it is.
    pub ring: Option<&'static str>,
}

/// A caller's place: room and state key.
type Place = (OwnedRoomId, String);

/// What is known in this process. A new one shows everybody anew, which costs a few requests.
#[derive(Debug, Default)]
pub struct Book {
    /// The newest call of each group of which something was heard, those that are over included as long
    /// as somebody of theirs is shown.
    calls: BTreeMap<GroupId, CallState>,
    /// Groups that are to be asked about.
    to_ask: BTreeSet<GroupId>,
    /// When those with calls are asked about again; `None`: none was yet.
    ask_due: Option<Duration>,
    /// Who is shown.
    shown: BTreeMap<Place, Shown>,
    /// Until when nothing is tried for these.
    waits: BTreeMap<Place, Duration>,
    /// Where calls are carried, if anywhere, and until when that is believed.
    focus: Option<(Option<String>, Duration)>,
    /// It was said that the homeserver takes nobody out by itself.
    is_said: bool,
    /// Groups of which the room is to be read, since a call is heard of for the first time.
    to_read: BTreeSet<GroupId>,
    /// By which event which device of Matrix is in a call.
    members: BTreeMap<(GroupId, OwnedUserId, String), OwnedEventId>,
    /// What rings, and who does not come.
    rings: BTreeMap<GroupId, ring::Ring>,
    /// Those of Matrix who were taken out, and whose rooms say so.
    cleared: BTreeSet<(CallId, String, String)>,
}

/// One who is shown.
#[derive(Debug)]
struct Shown {
    /// What the homeserver does if it is not confirmed; `None`: it will not.
    delay: Option<String>,
    /// When it is confirmed.
    due: Duration,
    /// How often the state was renewed.
    renewals: u64,
    /// The event by which he is shown.
    event: OwnedEventId,
    /// The one by which his hand is raised, and as which event he was shown then.
    hand: Option<(OwnedEventId, OwnedEventId)>,
    /// When he last gave a sign that the room has.
    sign: Timestamp,
}

/// One who should be shown, with what that needs.
struct Wanted {
    caller: Caller,
    portal: PortalId,
    id: DeviceId,
    device: String,
    account: causeway_protocol::ids::AccountId,
    intent: CallIntent,
}

/// Shows who calls until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut book = Book::default();
    loop {
        let wait = match step(spine, &mut book).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "who takes part in calls is not shown in rooms yet");
                Some(AFTER_FAULT)
            }
        };
        tokio::select! {
            () = spine.calls_told.0.came.notified() => {}
            () = spine.calls_said.came() => {}
            () = after(wait) => {}
            () = &mut stop => return,
        }
    }
}

/// Shows those who came, takes out those who went, confirms the others; how long until there is more.
///
/// # Errors
/// [`StepError`]: the rows'.
pub async fn step(spine: &Spine, book: &mut Book) -> Result<Option<Duration>, StepError> {
    for (group, state) in spine.calls_told.take() {
        book.heard(group, state);
    }
    let rows = callers::all(&mut spine.db.read().await?).await?;
    plan_asking(spine, book, &rows).await?;
    let mut is_well = ask(spine, book).await;
    is_well &= read::rooms(spine, book).await?;
    is_well &= attend::tell(spine, book).await;
    let wanted = wanted(spine, book).await?;
    let places: BTreeSet<Place> = wanted.iter().map(|one| place(&one.caller)).collect();
    // Of a group that could not be asked about yet nobody knows who is in its call.
    let is_over =
        |row: &&Caller| !places.contains(&place(row)) && !book.to_ask.contains(&row.group);
    let over: Vec<Caller> = rows.iter().filter(is_over).cloned().collect();
    for row in over {
        if book.may_try(spine, &row) {
            is_well &= show::clear(spine, book, &row).await?;
        }
    }
    if let Some(focus) = focus(spine, book, !wanted.is_empty()).await {
        for one in &wanted {
            if book.may_try(spine, &one.caller) {
                let row = rows.iter().find(|row| place(row) == place(&one.caller));
                is_well &= show::keep(spine, book, (one, row), &focus).await?;
            }
        }
        is_well &= ring::ring(spine, book, &wanted).await?;
        is_well &= moments::show(spine, book, &wanted).await;
    }
    is_well &= read::take_out(spine, book).await?;
    book.tidy(&rows, &places, spine.steady());
    if !is_well {
        return Ok(Some(AFTER_FAULT * 5));
    }
    let is_idle = rows.is_empty() && book.calls.is_empty();
    Ok((!is_idle).then_some(AFTER_FAULT * 5))
}

fn place(caller: &Caller) -> Place {
    (caller.room.clone(), caller.key.clone())
}

impl Book {
    fn heard(&mut self, group: GroupId, state: CallState) {
        if self.calls.get(&group).is_none_or(|known| is_newer(known, &state)) {
            self.to_ask.remove(&group);
            let is_over = state.topology == CallTopology::Ended;
            let before = self.calls.get(&group).map(|known| known.call);
            if state.bridged && !is_over && before != Some(state.call) {
                self.to_read.insert(group);
            }
            self.calls.insert(group, state);
        }
    }

    fn may_try(&mut self, spine: &Spine, caller: &Caller) -> bool {
        let place = place(caller);
        let may = self.waits.get(&place).is_none_or(|until| *until <= spine.steady());
        if may {
            self.waits.remove(&place);
        }
        may
    }

    fn tidy(&mut self, rows: &[Caller], wanted: &BTreeSet<Place>, now: Duration) {
        self.shown.retain(|place, _| wanted.contains(place));
        let is_known = |at: &Place| wanted.contains(at) || rows.iter().any(|row| place(row) == *at);
        self.waits.retain(|place, _| is_known(place));
        let groups: BTreeSet<GroupId> = rows.iter().map(|row| row.group).collect();
        let is_on = |state: &CallState| state.bridged && state.topology != CallTopology::Ended;
        self.calls.retain(|group, state| is_on(state) || groups.contains(group));
        self.rings.retain(|group, ring| self.calls.contains_key(group) || ring.is_new(now));
        self.members.retain(|(group, ..), _| self.calls.contains_key(group));
        self.cleared.retain(|(call, ..)| self.calls.values().any(|state| state.call == *call));
    }
}

/// At the start all groups with rooms are asked about, then those of which there is something.
async fn plan_asking(spine: &Spine, book: &mut Book, rows: &[Caller]) -> Result<(), StepError> {
    let now = spine.steady();
    if book.ask_due.is_some_and(|due| due > now) {
        return Ok(());
    }
    if book.ask_due.is_none() {
        let open = portals::open(&mut spine.db.read().await?).await?;
        book.to_ask.extend(open.into_iter().map(|placed| placed.group));
    }
    book.to_ask.extend(rows.iter().map(|row| row.group));
    book.to_ask.extend(book.calls.keys());
    book.ask_due = Some(now + EVERY);
    Ok(())
}

/// Asks about groups; `false`: some could not be asked about.
async fn ask(spine: &Spine, book: &mut Book) -> bool {
    let groups: Vec<GroupId> = book.to_ask.iter().copied().collect();
    let asks = groups.into_iter().map(|group| async move {
        let asked = spine.native.http().calls(group, None, NEWEST);
        (group, tokio::time::timeout(PATIENCE, asked).await)
    });
    let mut asks = stream::iter(asks).buffer_unordered(AT_ONCE);
    let mut is_well = true;
    while let Some((group, asked)) = asks.next().await {
        match asked {
            Ok(Ok(page)) => {
                if let Some(state) = page.calls.into_iter().next() {
                    book.heard(group, state);
                }
            }
            // The bridge is out of the group, or the group has no calls here.
            Ok(Err(error)) if !error.is_transient() => {
                book.calls.remove(&group);
            }
            Ok(Err(_)) | Err(_) => {
                tracing::debug!(%group, "it is not known who is in its call; asking again");
                is_well = false;
                continue;
            }
        }
        book.to_ask.remove(&group);
    }
    is_well
}

/// Who should be shown, and where.
async fn wanted(spine: &Spine, book: &Book) -> Result<Vec<Wanted>, StepError> {
    let mut wanted = Vec::new();
    for (group, state) in &book.calls {
        let natives = natives(state);
        if natives.is_empty() {
            continue;
        }
        let mut tx = spine.db.begin().await?;
        let portal = portals::of_group(&mut tx, &spine.names, group).await?;
        drop(tx);
        let is_open = |portal: &crate::domain::portal::Portal| {
            portal.state == PortalState::Open && portal.lost.is_none() && !portal.encrypted
        };
        let Some(portal) = portal.filter(is_open) else { continue };
        let Some(room) = &portal.room else { continue };
        for (device, account) in natives {
            let Some(user) = spine.names.ghost(&account) else { continue };
            // By another name he is heard by nobody of Matrix.
            if ghost::in_call(spine.names.server(), &account, &device).is_none() {
                continue;
            }
            if portal.removed.contains_key(&account) {
                continue;
            }
            let key = state_key(&user, &device);
            wanted.push(Wanted {
                caller: Caller {
                    room: room.clone(),
                    key,
                    user,
                    group: *group,
                    began_at: spine.now(),
                },
                portal: portal.id,
                id: device,
                device: device_name(&device),
                account,
                intent: state.intent,
            });
        }
    }
    Ok(wanted)
}

/// Where the homeserver has clients' calls carried; `None` if it says nothing of that.
async fn focus(spine: &Spine, book: &mut Book, is_needed: bool) -> Option<String> {
    let now = spine.steady();
    if let Some((focus, until)) = &book.focus
        && *until > now
    {
        return focus.clone();
    }
    if !is_needed {
        return None;
    }
    match spine.matrix.livekit_service(spine.names.bot()).await {
        Ok(focus) => {
            let was_known = matches!(&book.focus, Some((None, _)));
            if focus.is_none() && !was_known {
                tracing::warn!(
                    "a group calls, and its room is not shown that: the homeserver does not tell \
                     clients where calls are carried (`matrix_rtc.transports`, with \
                     `experimental_features.msc4143_enabled`)"
                );
            }
            let wait = if focus.is_some() { FOCUS_FOR } else { EVERY };
            book.focus = Some((focus.clone(), now + wait));
            focus
        }
        Err(error) => {
            tracing::debug!(%error, "the homeserver does not say where calls are carried");
            book.focus.as_ref().and_then(|(focus, _)| focus.clone())
        }
    }
}
