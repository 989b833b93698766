//! What is asked of the bot or a ghost where there is no portal: who invites them, and who is alone with
//! the bot, is answered.
//!
//! Everybody's errands go in their order; those of many people are done at once, whose have not failed
//! first, and the slowest of them keeps the next ones waiting for no more than ten seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use causeway_store::Read;
use futures_util::future::join_all;
use ruma::{OwnedUserId, RoomId, UserId};
use serde_json::value::to_raw_value;

use super::{AFTER_FAULT, Spine, StepError, after};
use crate::{
    domain::{
        command::{Command, ENCRYPTED, Errand, What, Words, declines, declines_before, nobody},
        ghost::digest,
        room::{Found, StateEvent},
        to_matrix,
    },
    gateway::matrix::MatrixError,
    storage::{
        self,
        errands::{self, Waiting},
        lanes, portals,
    },
};

/// Errands that are done at once.
const AT_ONCE: usize = 32;
/// How long one is waited for: an inviter's homeserver may never answer ours.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait after a failure.
const LONGEST: Duration = Duration::from_mins(5);
/// How long an invitation waits that is no direct chat's: the room may be one that comes after a portal's.
const GRACE: Duration = Duration::from_secs(5);
/// How long an answer to a word is of use.
const LIFE_MS: u64 = 60 * 60 * 1_000;
/// How long one to an invitation is: until then the homeserver, or another's, has come back.
const INVITED_MS: u64 = 24 * LIFE_MS;

/// How often each has failed, and when it may be tried again by the steady clock. A restart
/// forgets it, which costs a try.
pub type Waits = BTreeMap<i64, (u32, Duration)>;

/// Does errands until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut woken = spine.db.listen(errands::TOPIC);
    let mut back = spine.db.listen(lanes::BACK);
    let mut waits = Waits::new();
    loop {
        let again = match step(spine, &mut waits).await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(%error, "who asks the bot for something is not answered yet");
                Some(AFTER_FAULT)
            }
        };
        tokio::select! {
            () = woken.changed() => {}
            () = back.changed() => hurry(&mut waits, spine.steady()),
            () = after(again) => {}
            () = &mut stop => return,
        }
    }
}

/// The homeserver is back: what failed is tried now.
fn hurry(waits: &mut Waits, now: Duration) {
    for (_, due) in waits.values_mut().filter(|(failures, _)| *failures > 0) {
        *due = (*due).min(now);
    }
}

/// Does what is due, each user's oldest; how long until there is more, `None` if nothing waits.
///
/// # Errors
/// [`StepError`]: what was not done still waits.
pub async fn step(spine: &Spine, waits: &mut Waits) -> Result<Option<Duration>, StepError> {
    let waiting = errands::waiting(&mut spine.db.read().await?).await?;
    waits.retain(|id, _| waiting.iter().any(|known| known.id == *id));
    let now = spine.steady();
    for known in &waiting {
        let Errand { of, what, .. } = &known.errand;
        if *what == What::Come(false) && *of == *spine.names.bot() {
            waits.entry(known.id).or_insert((0, now + GRACE));
        }
    }
    let wait_of = |known: &Waiting| {
        waits.get(&known.id).map_or(Duration::ZERO, |(_, due)| due.saturating_sub(now))
    };
    let due = first(&waiting, waits, now);
    if due.is_empty() {
        return Ok(waiting.iter().map(wait_of).min());
    }
    let ends = due.iter().map(|known| async {
        let end = tokio::time::timeout(PATIENCE, carry_out(spine, known)).await;
        end.unwrap_or(Err(Failed::Late))
    });
    let ends = join_all(ends).await;
    for (known, end) in due.into_iter().zip(ends) {
        let life = if matches!(known.errand.what, What::Do(..)) { LIFE_MS } else { INVITED_MS };
        let is_over = known.asked_at.plus_ms(life) < spine.now();
        match end {
            Ok(()) => {}
            Err(Failed::Step(error)) => return Err(error),
            Err(Failed::Matrix(error @ MatrixError::Refused(..))) => {
                tracing::info!(by = %known.errand.by, %error, "could not answer who asks the bot");
            }
            Err(error) if is_over => {
                tracing::warn!(by = %known.errand.by, %error, "who asked the bot is not answered");
            }
            Err(Failed::Matrix(_) | Failed::Late) => {
                let (failures, due) = waits.entry(known.id).or_default();
                *failures = failures.saturating_add(1);
                let wait = Duration::from_secs(1 << (*failures).min(9));
                *due = spine.steady() + wait.min(LONGEST);
                continue;
            }
        }
        let mut tx = spine.db.begin().await?;
        errands::done(&mut tx, known).await?;
        tx.commit().await?;
    }
    Ok(Some(Duration::ZERO))
}

/// What is due now, the oldest of each user; those first that have failed least, so that nobody's that
/// fail again and again stand in front of another's.
fn first<'a>(waiting: &'a [Waiting], waits: &Waits, now: Duration) -> Vec<&'a Waiting> {
    let failures = |known: &Waiting| waits.get(&known.id).map_or(0, |(failures, _)| *failures);
    let is_due = |known: &&Waiting| waits.get(&known.id).is_none_or(|(_, due)| *due <= now);
    let mut met = BTreeSet::new();
    let mut due: Vec<&Waiting> =
        waiting.iter().filter(is_due).filter(|known| met.insert(&known.errand.by)).collect();
    due.sort_by_key(|known| failures(known));
    due.truncate(AT_ONCE);
    due
}

/// Why an errand is not done yet.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Matrix(MatrixError),
    #[error("no answer in time")]
    Late,
    #[error(transparent)]
    Step(StepError),
}

impl From<MatrixError> for Failed {
    fn from(error: MatrixError) -> Self {
        Self::Matrix(error)
    }
}

impl<E: Into<StepError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Step(error.into())
    }
}

async fn carry_out(spine: &Spine, known: &Waiting) -> Result<(), Failed> {
    let Errand { room, by, of, what } = &known.errand;
    let mut tx = spine.db.begin().await?;
    let is_portal = portals::of_room(&mut tx, &spine.names, room).await?.is_some()
        || !portals::replaced_by(&mut tx, room).await?.is_empty();
    drop(tx);
    // It has become one.
    if is_portal {
        return Ok(());
    }
    match what {
        What::Come(_) if *of != *spine.names.bot() => decline(spine, of, by, room).await,
        What::Come(is_direct) => {
            let mut read = spine.db.read().await?;
            let has_place = *is_direct && errands::has_place(&mut read).await?;
            // Rooms of strangers' servers may be of any size.
            let is_known = is_known(spine, &mut read, by).await?;
            let next = portals::unfollowed(&mut read, by).await?;
            drop(read);
            if !has_place || !is_known {
                let next = next.filter(|_| !is_direct);
                let why = next.map_or_else(|| declines(None), |next| declines_before(&next));
                return leave(spine, of, room, &why).await;
            }
            match spine.matrix.join(of, (&**room).into()).await {
                // Taken back, or of a room that nobody is in any more.
                Err(MatrixError::Refused(..)) => leave(spine, of, room, &declines(None)).await,
                joined => {
                    joined?;
                    answer(spine, known, &Command::Words(Words::Help), false).await
                }
            }
        }
        What::Do(command, is_named) => answer(spine, known, command, *is_named).await,
        What::Left => left(spine, room).await,
    }
}

/// Whether somebody is of our server, or in a bridged room.
async fn is_known(spine: &Spine, read: &mut Read, who: &UserId) -> Result<bool, storage::Error> {
    Ok(who.server_name().as_str() == spine.names.server()
        || portals::rooms_of(read, who).await?.1 > 0)
}

/// A ghost says why it does not come. Who has not spoken yet has none: it is made for that, for those
/// whom a group has shown us; for others a few times a day, since anybody may think of names.
async fn decline(spine: &Spine, ghost: &UserId, by: &UserId, room: &RoomId) -> Result<(), Failed> {
    let Some(account) = spine.names.account(ghost) else {
        return leave(spine, ghost, room, &declines(None)).await;
    };
    let mut tx = spine.db.begin().await?;
    let is_met = spine.native.machine().pin(&mut tx, &account).await?.is_some();
    drop(tx);
    let shown = spine.names.shown(&account);
    let why = if is_met { declines(Some(&shown)) } else { nobody(&shown) };
    let refused = match spine.matrix.leave_saying(ghost, room, &why).await {
        Err(error @ MatrixError::Refused(403, ..)) => error,
        left => return Ok(left.or_else(is_out)?),
    };
    if is_met {
        spine.matrix.register(ghost.localpart()).await?;
        return leave(spine, ghost, room, &why).await;
    }
    if !is_known(spine, &mut spine.db.read().await?, by).await? {
        return Ok(is_out(refused)?);
    }
    let may = {
        let mut asks = spine.asks.lock().unwrap_or_else(PoisonError::into_inner);
        asks.take_name(spine.steady(), by)
    };
    if !may {
        tracing::debug!(%by, "invites too many names that nobody has, and is not answered");
        return Ok(is_out(refused)?);
    }
    spine.matrix.register(ghost.localpart()).await?;
    leave(spine, ghost, room, &why).await
}

/// Says it where only the two are, and to whom it was asked for where others are too.
async fn answer(
    spine: &Spine,
    known: &Waiting,
    command: &Command,
    is_named: bool,
) -> Result<(), Failed> {
    let (Errand { room, by, .. }, bot) = (&known.errand, spine.names.bot());
    let breaks = spine.matrix.breaks();
    let Some((state, found)) = look(spine, room).await? else { return forget(spine, room).await };
    spine.encryption.found(room, found.encrypted, breaks);
    // What the bot made is a group's room, which a database that was put back may not know yet.
    if found.is_made && (found.encrypted || !is_named) {
        return Ok(());
    }
    let is_alone = !found.is_made && others(&state, bot, by).is_empty();
    // Whoever asked and went before we came.
    if is_alone && !found.people.contains_key(by) {
        return go(spine, room, &declines(None)).await;
    }
    if !is_alone && !is_named {
        let mut tx = spine.db.begin().await?;
        let is_asked =
            matches!(known.errand.what, What::Come(_)) || errands::is_chat(tx.conn(), room).await?;
        drop(tx);
        return if is_asked { go(spine, room, &declines(None)).await } else { Ok(()) };
    }
    if found.encrypted {
        return go(spine, room, ENCRYPTED).await;
    }
    let mut oldest = None;
    if is_alone {
        // First: what is said next is said in a chat.
        let mut tx = spine.db.begin().await?;
        oldest = errands::chat(&mut tx, spine.now(), room, by).await?;
        tx.commit().await?;
    }
    let (rooms, count) = portals::rooms_of(&mut spine.db.read().await?, by).await?;
    let text = command.answer_alone(&rooms, count);
    let txn = hex::encode(digest(&[b"errand", known.event_id.as_bytes()]));
    let (kind, content) = to_matrix::notice(&text, None, &txn);
    let content = to_raw_value(&content).map_err(|_| StepError::row("errands"))?;
    if spine.encryption.of(room, breaks) != Some(true) {
        spine.matrix.send(bot, room, kind, &txn, &content, None).await?;
    }
    if let Some(oldest) = oldest {
        go(spine, &oldest, "You talk to this bot in other rooms.").await?;
    }
    Ok(())
}

/// Goes where nobody is any more.
async fn left(spine: &Spine, room: &RoomId) -> Result<(), Failed> {
    let bot = spine.names.bot();
    let Some((state, found)) = look(spine, room).await? else { return forget(spine, room).await };
    if found.is_made || !others(&state, bot, bot).is_empty() {
        return Ok(());
    }
    spine.matrix.leave(bot, room).await.or_else(is_out)?;
    forget(spine, room).await
}

/// How a room is; `None` if the bot is not in it.
async fn look(spine: &Spine, room: &RoomId) -> Result<Option<(Vec<StateEvent>, Found)>, Failed> {
    let state = match spine.matrix.whole_state(spine.names.bot(), room).await {
        Err(MatrixError::Refused(403 | 404, ..)) => return Ok(None),
        state => state?,
    };
    let found = Found::of(&spine.names, room, &state);
    Ok(found.is_in.then_some((state, found)))
}

/// The bot goes, and says why.
async fn go(spine: &Spine, room: &RoomId, why: &str) -> Result<(), Failed> {
    leave(spine, spine.names.bot(), room, why).await?;
    forget(spine, room).await
}

/// Who is in a room, or invited, beside these two.
fn others(state: &[StateEvent], bot: &UserId, by: &UserId) -> Vec<OwnedUserId> {
    let is_there = |event: &&StateEvent| {
        let membership = event.content.get("membership").and_then(serde_json::Value::as_str);
        event.kind == "m.room.member" && matches!(membership, Some("join" | "invite"))
    };
    let there = state.iter().filter(is_there);
    let there = there.filter_map(|event| UserId::parse(event.state_key.as_str()).ok());
    there.filter(|user| *user != *bot && *user != *by).collect()
}

async fn leave(spine: &Spine, who: &UserId, room: &RoomId, why: &str) -> Result<(), Failed> {
    Ok(spine.matrix.leave_saying(who, room, why).await.or_else(is_out)?)
}

/// Whoever is refused to leave is not there.
fn is_out(error: MatrixError) -> Result<(), MatrixError> {
    match error {
        MatrixError::Refused(403 | 404, ..) => Ok(()),
        error => Err(error),
    }
}

async fn forget(spine: &Spine, room: &RoomId) -> Result<(), Failed> {
    let mut tx = spine.db.begin().await?;
    errands::chat_ended(&mut tx, room).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::Timestamp;

    use super::*;

    fn waiting(id: i64, by: &str) -> Waiting {
        let (room, of) = ("!r:x".try_into().unwrap(), "@causewaybot:b.example".try_into().unwrap());
        let errand = Errand { room, by: by.try_into().unwrap(), of, what: What::Come(true) };
        let event_id = format!("$e{id}").try_into().unwrap();
        Waiting { id, event_id, asked_at: Timestamp(0), errand }
    }

    #[test]
    fn whose_errands_fail_stand_behind_the_others() {
        let all = [waiting(1, "@a:x"), waiting(2, "@a:x"), waiting(3, "@b:x"), waiting(4, "@c:x")];
        let second = Duration::from_secs(1);
        let waits = Waits::from([(1, (3, second)), (3, (1, second * 9))]);
        let ids = |now| first(&all, &waits, now).iter().map(|known| known.id).collect::<Vec<_>>();
        // His second goes where his first may not yet.
        assert_eq!(ids(Duration::ZERO), [2, 4]);
        assert_eq!(ids(second), [4, 1]);
        assert_eq!(ids(second * 9), [4, 3, 1]);
        let many: Vec<Waiting> = (0..99).map(|id| waiting(id, &format!("@u{id}:x"))).collect();
        assert_eq!(first(&many, &Waits::new(), second).len(), AT_ONCE);
    }
}
