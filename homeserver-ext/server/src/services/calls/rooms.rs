//! Calls and LiveKit, brought together: rooms that calls need are there and no others, in each is who
//! takes part and nobody else, and the rules know whom LiveKit shows.
//!
//! What is written down says what is to be; LiveKit's own lists say what is. So it does not matter what
//! was lost on the way, nor which of the two was started again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use causeway_protocol::{
    call::{Caps, Event, Topology, Who},
    ids::Timestamp,
};
use causeway_store::Db;
use futures_util::{StreamExt as _, stream};

use super::{
    matrix,
    strangers::{self, Seen},
    time,
};
use crate::{
    calls as change,
    figures::WEBHOOK_SECONDS,
    gateway::livekit::{InRoom, LiveKit, SfuError, Told},
    live::Live,
    storage::{
        self, call_rooms,
        calls::{self, Row},
        group_rooms,
    },
};

/// Rooms of which one look is taken.
const PAGE: u32 = 64;
/// Rooms that are looked into at once.
const AT_ONCE: usize = 8;
/// How soon a room is looked into again: where something is awaited there, and where nothing is.
const SOON_MS: u64 = 500;
const LATER_MS: u64 = 2_000;

/// What one of Matrix can do.
const GUEST: Caps = Caps { mesh: false, sfu: true, may_degrade: true };

/// What it works with.
#[derive(Clone, Copy)]
pub(crate) struct Among<'a> {
    pub(crate) db: &'a Db,
    pub(crate) live: &'a Live,
    /// None where the configuration names none any more: calls that had one lose it.
    pub(crate) livekit: Option<&'a LiveKit>,
    pub(crate) now: Timestamp,
}

/// When each room is looked into again.
#[derive(Debug, Default)]
pub(crate) struct Due {
    rooms: BTreeMap<i64, Timestamp>,
    /// Who was in them and not in their calls.
    strangers: BTreeMap<i64, Seen>,
    /// Whether there may be rooms of calls of which nothing is written down any more.
    has_unknown: bool,
}

impl Due {
    /// As of a start; of a database that `was_put_back` not all rooms are known.
    pub(crate) fn new(was_put_back: bool) -> Self {
        Self { has_unknown: was_put_back, ..Self::default() }
    }

    fn is(&self, call: i64, now: Timestamp) -> bool {
        self.rooms.get(&call).is_none_or(|at| *at <= now)
    }
}

/// Looks into every room that is due, or of which something was heard; whether there are any at all,
/// or LiveKit is away and may come back.
pub(crate) async fn reconcile(
    among: Among<'_>,
    due: &mut Due,
    heard: &BTreeSet<i64>,
) -> Result<bool, storage::Error> {
    if due.has_unknown {
        due.has_unknown = !close_unknown(among).await?;
    }
    let (mut after, mut known) = (0, BTreeSet::new());
    loop {
        let page = call_rooms::page(among.db.read().await?.conn(), after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        known.extend(page.iter().map(|(call, _)| *call));
        let is_due = |call| due.is(call, among.now) || heard.contains(&call);
        let rooms: Vec<_> = page.into_iter().filter(|(call, _)| is_due(*call)).collect();
        if rooms.is_empty() {
            continue;
        }
        let names: Vec<_> = rooms.iter().map(|(_, room)| room.clone()).collect();
        let there = match among.livekit {
            Some(livekit) => livekit.rooms(among.now, &names).await,
            None => Err(SfuError::None),
        };
        let looks = rooms.into_iter().map(|(call, room)| look(among, call, room, &there));
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some(looked) = looks.next().await {
            let Looked { call, again, inside } = looked?;
            due.rooms.insert(call, among.now.plus_ms(again));
            if let Some(inside) = inside
                && note_strangers(among, due.strangers.entry(call).or_default(), &inside).await?
            {
                due.rooms.insert(call, among.now);
            }
        }
    }
    due.rooms.retain(|call, _| known.contains(call));
    due.strangers.retain(|call, _| known.contains(call));
    if let (true, Some(livekit)) = (known.is_empty(), among.livekit)
        && livekit.why_away().is_some()
    {
        // Nobody needs it, and whoever looks is to see whether it is back.
        let _ = livekit.rooms(among.now, &["none".to_owned()]).await;
        return Ok(livekit.why_away().is_some());
    }
    Ok(!known.is_empty() || due.has_unknown)
}

/// Closes rooms of groups' calls of which nothing is written down; whether that is done. Whoever is in one
/// may have been taken out of the group since, for all that is known.
async fn close_unknown(among: Among<'_>) -> Result<bool, storage::Error> {
    let Some(livekit) = among.livekit else { return Ok(true) };
    let Ok(all) = livekit.rooms(among.now, &[]).await else { return Ok(false) };
    // Others are called by what their Matrix rooms are.
    let is_of_group =
        |room: &&String| room.len() == 32 && room.bytes().all(|it| it.is_ascii_hexdigit());
    for room in all.iter().filter(is_of_group) {
        let mut read = among.db.read().await?;
        let is_known = call_rooms::by_name(read.conn(), room).await?.is_some()
            || group_rooms::is_known(read.conn(), room).await?;
        drop(read);
        if !is_known && livekit.close(among.now, room).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// LiveKit told something: its room is looked into at once.
pub(crate) async fn heard(db: &Db, live: &Live, told: &Told) -> Result<(), storage::Error> {
    if let Some(lag_ms) = told.lag_ms {
        metrics::histogram!(WEBHOOK_SECONDS).record(Duration::from_millis(lag_ms));
    }
    let Some(room) = &told.room else { return Ok(()) };
    if let Some(call) = call_rooms::by_name(db.read().await?.conn(), room).await? {
        live.room_moved(call);
    }
    Ok(())
}

/// What came of a look into a room.
struct Looked {
    call: i64,
    /// In how many ms it is looked into again.
    again: u64,
    /// Who was in it; none where it is closed, or LiveKit does not say.
    inside: Option<Inside>,
}

/// Who was in a room.
struct Inside {
    row: Row,
    strangers: Vec<InRoom>,
}

/// One room.
async fn look(
    among: Among<'_>,
    call: i64,
    room: String,
    there: &Result<BTreeSet<String>, SfuError>,
) -> Result<Looked, storage::Error> {
    let is_there = there.as_ref().is_ok_and(|rooms| rooms.contains(&room));
    // Whoever gets a token is written down before: a list is older than what it is held against.
    let mut shown = match (there, among.livekit) {
        (Ok(_), Some(livekit)) if is_there => livekit.participants(among.now, &room).await,
        (Ok(_), _) => Ok(Vec::new()),
        (Err(error), _) => Err(error.clone()),
    };
    let row = calls::by_number(among.db.read().await?.conn(), call).await?;
    let is_its = |row: &Row| row.kept.call.has_room() && row.room() == room;
    let Some(row) = row.filter(is_its) else {
        let is_shared =
            call_rooms::is_of_another(among.db.read().await?.conn(), &room, call).await?;
        let closed = match among.livekit {
            Some(_) if is_shared => true,
            Some(livekit) if is_there => {
                // Who comes in that moment makes it anew: it is gone when the next look does not find it.
                let _ = livekit.close(among.now, &room).await;
                false
            }
            Some(_) => there.is_ok(),
            None => true,
        };
        if closed {
            let mut tx = among.db.begin().await?;
            // A call that was to go there again meanwhile has it written down again.
            let again = calls::by_number(tx.conn(), call).await?;
            if !again.is_some_and(|row| is_its(&row)) {
                call_rooms::forget(tx.conn(), call).await?;
                tx.commit().await?;
            }
        }
        return Ok(Looked { call, again: SOON_MS, inside: None });
    };
    if let (Ok(_), false, Some(livekit)) = (&shown, is_there, among.livekit) {
        shown = livekit.open(among.now, &room).await.map(|()| Vec::new());
    }
    let mut strangers = Vec::new();
    if let (Ok(shown), Some(livekit)) = (&shown, among.livekit) {
        strangers = put_out_strangers(among.now, livekit, (&row, &room), shown).await;
    }
    let event = |row: &Row| event(row, &shown);
    let see = |row: &mut Row| shown.as_ref().is_ok_and(|shown| matrix::see(row, shown));
    if event(&row).is_some() || see(&mut row.clone()) {
        let mut tx = among.db.begin().await?;
        if let Some(mut row) = calls::by_number(tx.conn(), call).await? {
            let before = row.kept.call.version;
            for event in event(&row).into_iter().flatten().chain([Event::Tick]) {
                change::of_itself(&mut row, event, among.now);
            }
            if see(&mut row) && row.kept.call.version == before {
                row.kept.call.version += 1;
                row.kept.out.clear();
            }
            time::put(tx, among.live, among.now, (&row, before)).await?;
        }
    }
    let is_calm = matches!(row.kept.call.topology, Topology::Sfu)
        && row.kept.call.participants.values().all(|it| it.shown);
    let again = if is_calm { LATER_MS } else { SOON_MS };
    Ok(Looked { call, again, inside: shown.is_ok().then_some(Inside { row, strangers }) })
}

/// What the rules do not know yet.
fn event(row: &Row, shown: &Result<Vec<InRoom>, SfuError>) -> Option<Vec<Event>> {
    let call = &row.kept.call;
    match shown {
        Err(_) => (!call.misses_sfu()).then(|| vec![Event::SfuDown]),
        Ok(those) => {
            let by_name = names(row);
            let named = those.iter().filter_map(|it| Some((it, by_name.get(&it.identity)?)));
            // One of Matrix is there when he is there, whatever he sends.
            let counts = |(it, who): &(&InRoom, &Who)| it.publishes || is_guest(who);
            let shown: BTreeSet<_> = named.filter(counts).map(|(_, who)| who.clone()).collect();
            let come = shown.iter().filter(|who| is_guest(who));
            let come = come.filter(|who| !call.participants.contains_key(who));
            let come: Vec<_> = come.map(|who| Event::Join(who.clone(), GUEST)).collect();
            let known = call.participants.iter().filter(|(_, it)| it.shown);
            let is_other = known.map(|(who, _)| who).ne(shown.iter());
            let back = call.misses_sfu().then_some(Event::SfuUp);
            let shown = is_other.then_some(Event::Shown(shown));
            let events: Vec<_> = back.into_iter().chain(come).chain(shown).collect();
            (!events.is_empty()).then_some(events)
        }
    }
}

/// What those who take part are called there.
fn names(row: &Row) -> BTreeMap<String, Who> {
    let natives = row.kept.people.keys();
    let natives = natives.map(|device| (row.name_of(device), Who::Native(*device)));
    let call = &row.kept.call;
    let guests = call.participants.keys().chain(call.awaited()).filter_map(|who| match who {
        Who::Native(_) => None,
        Who::Matrix(user, device) => Some((format!("{user}:{device}"), who.clone())),
    });
    let asked = row.kept.guests.iter().map(|(name, guest)| (name.clone(), guest.who.clone()));
    natives.chain(guests).chain(asked).collect()
}

const fn is_guest(who: &Who) -> bool {
    matches!(who, Who::Matrix(..))
}

/// Whoever is in a room and not in its call goes: his token may last longer than his place.
async fn put_out_strangers(
    now: Timestamp,
    livekit: &LiveKit,
    (row, room): (&Row, &str),
    shown: &[InRoom],
) -> Vec<InRoom> {
    let names = names(row);
    let strangers = shown.iter().filter(|it| !names.contains_key(&it.identity));
    let strangers: Vec<_> = strangers.cloned().collect();
    for stranger in &strangers {
        metrics::counter!("causeway_sfu_strangers_total").increment(1);
        // If that fails the next look finds him again.
        let _ = livekit.remove(now, room, &stranger.identity).await;
    }
    strangers
}

/// Remembers who was put out; whether the call has another room for that.
async fn note_strangers(
    among: Among<'_>,
    seen: &mut Seen,
    Inside { row, strangers }: &Inside,
) -> Result<bool, storage::Error> {
    if !seen.is_empty() {
        let names = names(row);
        seen.forget(|name| names.contains_key(name));
    }
    let room = row.room();
    for _ in strangers {
        if let Some(unsaid) = seen.says(among.now) {
            tracing::info!(room, unsaid, "somebody was in a room of LiveKit's and not in its call");
        }
    }
    let Some(livekit) = among.livekit.filter(|_| seen.note(among.now, strangers)) else {
        return Ok(false);
    };
    // What is sealed he cannot open, and nobody has to go anew for that.
    let its = (row.number, &*room, seen.most().unwrap_or_default());
    let is_new =
        row.is_clear() && strangers::renew((among.db, among.live), livekit, among.now, its).await?;
    if is_new {
        seen.renewed(among.now);
    }
    Ok(is_new)
}
