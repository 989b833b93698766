//! One caller in one room: shown, confirmed, taken out.

use causeway_protocol::ids::{AccountId, Timestamp};
use ruma::OwnedEventId;
use serde_json::{Map, Value, json};

use super::{AFTER_REFUSAL, Book, EVERY, Shown, Spine, StepError, Wanted, place};
use crate::{
    domain::{
        caller::{CALLER, Caller, content, renewals},
        in_call::HAND,
        portal::PortalId,
    },
    gateway::{matrix::MatrixError, provision::provision},
    steps::Step,
    storage::{
        callers,
        ghosts::{self, Standing},
    },
};

/// After how many ms the homeserver takes out whom nobody confirms: three confirmations may fail.
const HOLDS_MS: u64 = 120_000;
/// Type of the state that says who may do what.
const POWER: &str = "m.room.power_levels";

/// Shows one who takes part, or confirms that he still does; `false`: the homeserver is away.
///
/// # Errors
/// [`StepError`]: the rows'.
pub(super) async fn keep(
    spine: &Spine,
    book: &mut Book,
    (one, row): (&Wanted, Option<&Caller>),
    focus: &str,
) -> Result<bool, StepError> {
    let caller = row.unwrap_or(&one.caller);
    let (at, now) = (place(caller), spine.steady());
    let renewed = renewals(caller.began_at, spine.now());
    let known = book.shown.get(&at);
    if known.is_some_and(|shown| shown.due > now && shown.renewals == renewed) {
        return Ok(true);
    }
    let mut held = None;
    if let Some(delay) = known.map(|shown| shown.delay.clone()) {
        match is_held(spine, caller, delay.as_deref()).await {
            Ok(true) => held = Some(delay),
            Ok(false) => {}
            Err(error) => return Ok(book.failed(spine, caller, &error)),
        }
    }
    let done = if let Some(delay) = held {
        set(spine, (caller, one), focus, renewed).await.map(|event| (delay, event))
    } else {
        if row.is_none() {
            let mut tx = spine.db.begin().await?;
            callers::note(&mut tx, caller).await?;
            tx.commit().await?;
            spine.steps.reached(Step::NotedCaller).await;
        }
        bring_in(spine, one.portal, &one.account, &one.caller).await?;
        begin(spine, book, (caller, one), focus, renewed).await
    };
    match done {
        Ok((delay, event)) => {
            let due = now + EVERY;
            let (hand, sign) = match book.shown.remove(&at) {
                Some(before) => (before.hand, before.sign),
                // The process before may have raised it.
                None if row.is_some() => {
                    let (user, of) = (&caller.user, (&*caller.room, &*event));
                    let hand = spine.matrix.own_reaction(user, of, HAND).await.unwrap_or_default();
                    (hand.map(|hand| (hand, event.clone())), Timestamp(0))
                }
                None => (None, Timestamp(0)),
            };
            let shown = Shown { delay, due, renewals: renewed, event, hand, sign };
            book.shown.insert(at, shown);
            Ok(true)
        }
        Err(error) => Ok(book.failed(spine, caller, &error)),
    }
}

/// Takes out one who does not take part; `false`: the homeserver is away.
///
/// # Errors
/// [`StepError`]: the rows'.
pub(super) async fn clear(
    spine: &Spine,
    book: &mut Book,
    caller: &Caller,
) -> Result<bool, StepError> {
    let Caller { room, key, user, .. } = caller;
    let mut cleared = spine.matrix.send_state(user, room, CALLER, key, &json!({})).await;
    if let Err(MatrixError::Refused(..)) = cleared {
        // He has left the room; the bot may still be there.
        let bot = spine.names.bot();
        cleared = spine.matrix.send_state(bot, room, CALLER, key, &json!({})).await;
    }
    match cleared {
        // Nobody is in the room, or the room is gone: whoever is not there is in no call either.
        Ok(_) | Err(MatrixError::Refused(..)) => {}
        Err(error) => return Ok(book.failed(spine, caller, &error)),
    }
    spine.steps.reached(Step::ClearedCaller).await;
    if let Err(error) = disarm(spine, caller).await {
        return Ok(book.failed(spine, caller, &error));
    }
    let mut tx = spine.db.begin().await?;
    callers::forget(&mut tx, caller).await?;
    tx.commit().await?;
    book.shown.remove(&place(caller));
    Ok(true)
}

impl Book {
    /// Notes that it could not be; `false`: it can be for nobody now.
    fn failed(&mut self, spine: &Spine, caller: &Caller, error: &MatrixError) -> bool {
        if !matches!(error, MatrixError::Refused(..)) {
            tracing::debug!(%error, "who calls cannot be shown now; trying again");
            return false;
        }
        tracing::warn!(user = %caller.user, %error, "is in a call, and the room does not show it");
        self.waits.insert(place(caller), spine.steady() + AFTER_REFUSAL);
        true
    }
}

/// Whether the homeserver still shows it: what was to take it out waits, and begins to wait anew; or,
/// where nothing is to, the state is there.
async fn is_held(spine: &Spine, caller: &Caller, delay: Option<&str>) -> Result<bool, MatrixError> {
    let Caller { room, key, user, .. } = caller;
    let Some(id) = delay else {
        let state = spine.matrix.state(user, room, CALLER, key).await?;
        return Ok(state.as_ref().and_then(Value::as_object).is_some_and(|it| !it.is_empty()));
    };
    match spine.matrix.restart_delayed(user, id).await {
        Ok(()) => Ok(true),
        Err(MatrixError::Refused(..)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// First what will take it out, then the state.
async fn begin(
    spine: &Spine,
    book: &mut Book,
    (caller, one): (&Caller, &Wanted),
    focus: &str,
    renewed: u64,
) -> Result<(Option<String>, OwnedEventId), MatrixError> {
    // Of a process that did not live to use it: it would take out whoever is in the call.
    disarm(spine, caller).await?;
    open(spine, caller).await?;
    let Caller { room, key, user, .. } = caller;
    let delay = match spine.matrix.clear_state_later(user, (room, CALLER, key), HOLDS_MS).await {
        Ok(id) => Some(id),
        Err(error @ MatrixError::Refused(..)) => {
            if !std::mem::replace(&mut book.is_said, true) {
                tracing::warn!(
                    %error,
                    "if Causeway is killed, its people stay in the calls of rooms for up to four hours: \
                     the homeserver takes nobody out by itself. Set `max_event_delay_duration: 24h` there"
                );
            }
            None
        }
        Err(error) => return Err(error),
    };
    spine.steps.reached(Step::ArmedCaller).await;
    let event = set(spine, (caller, one), focus, renewed).await?;
    spine.steps.reached(Step::ShowedCaller).await;
    Ok((delay, event))
}

async fn set(
    spine: &Spine,
    (caller, one): (&Caller, &Wanted),
    focus: &str,
    renewed: u64,
) -> Result<OwnedEventId, MatrixError> {
    let Caller { room, key, user, began_at, .. } = caller;
    let content = content(room, (user, &one.device), one.intent, focus, (*began_at, renewed));
    spine.matrix.send_state(user, room, CALLER, key, &content).await
}

/// Has nothing take it out any more.
async fn disarm(spine: &Spine, caller: &Caller) -> Result<(), MatrixError> {
    let Caller { room, key, user, .. } = caller;
    let waiting = match spine.matrix.delayed(user).await {
        // A homeserver that has none of this.
        Err(MatrixError::Refused(..)) => return Ok(()),
        waiting => waiting?,
    };
    for one in waiting {
        if one.room_id == *room && one.kind == CALLER && one.state_key.as_deref() == Some(key) {
            match spine.matrix.cancel_delayed(user, &one.delay_id).await {
                // It has come, or went.
                Ok(()) | Err(MatrixError::Refused(..)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Lets everybody say there that they call, where the bot may: rooms that were made before calls do not
/// have that.
async fn open(spine: &Spine, caller: &Caller) -> Result<(), MatrixError> {
    let bot = spine.names.bot();
    let Some(mut power) = spine.matrix.state(bot, &caller.room, POWER, "").await? else {
        return Ok(());
    };
    let of = |place: Option<&Value>, key: &str| place?.get(key)?.as_i64();
    let needed = of(power.get("events"), CALLER).or_else(|| of(Some(&power), "state_default"));
    let has = of(power.get("users"), caller.user.as_str());
    let has = has.or_else(|| of(Some(&power), "users_default"));
    if has.unwrap_or(0) >= needed.unwrap_or(50) {
        return Ok(());
    }
    let Some(fields) = power.as_object_mut() else { return Ok(()) };
    let events = fields.entry("events").or_insert_with(|| Value::Object(Map::new()));
    let Some(events) = events.as_object_mut() else { return Ok(()) };
    events.insert(CALLER.to_owned(), json!(0));
    spine.matrix.send_state(bot, &caller.room, POWER, "", &power).await.map(|_| ())
}

/// Has the ghost be in the room. Where it cannot be, the homeserver says so at what follows.
pub(super) async fn bring_in(
    spine: &Spine,
    portal: PortalId,
    account: &AccountId,
    Caller { room, user, .. }: &Caller,
) -> Result<(), StepError> {
    let (names, matrix) = (&spine.names, &spine.matrix);
    let name = names.shown(account);
    let mut read = spine.db.read().await?;
    let (standing, is_made) = ghosts::standing(&mut read, portal, account, &name).await?;
    drop(read);
    if standing == Standing::Joined && is_made {
        return Ok(());
    }
    let brought = async {
        if !is_made {
            provision(matrix, user, &name).await?;
        }
        match matrix.invite(names.bot(), room, user, None).await {
            // Refused where it is in already, or invited.
            Ok(()) | Err(MatrixError::Refused(..)) => {}
            Err(error) => return Err(error),
        }
        matrix.join(user, (&**room).into()).await
    };
    if let Err(error) = brought.await {
        tracing::debug!(%user, %error, "calls, and does not get into the room");
        return Ok(());
    }
    let mut tx = spine.db.begin().await?;
    ghosts::made(&mut tx, spine.now(), account, user, &name).await?;
    ghosts::has_joined(&mut tx, portal, account).await?;
    tx.commit().await?;
    Ok(())
}
