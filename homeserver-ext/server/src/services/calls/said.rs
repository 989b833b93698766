//! What those in a call say of the moment, and what its room says for those of Matrix: a hand, a sign, that
//! somebody does not come.

use causeway_protocol::{
    api::{CallReaction, CallWhom},
    call::{Event, Who},
    ids::{GroupId, Timestamp},
};
use causeway_store::Db;
use serde::{Deserialize, Serialize};

use super::{GuestError, MAX_EMOJI, MAX_NAMED, MAX_SIGNS, matrix::is_name, time};
use crate::{
    calls as change,
    live::Live,
    quota::CallShares,
    storage::{
        calls::{self, Kept, Row},
        groups,
    },
};

/// What a group's room says for one of Matrix.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Says {
    pub(crate) group: GroupId,
    pub(crate) user: String,
    pub(crate) what: What,
}

/// What it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// He does not come.
    Declines,
    /// His hand is raised, by this event.
    Raises { device: String, event: String },
    /// The event by which somebody's hand was raised is taken back.
    Lowers { event: String },
    /// A sign of the moment.
    Shows { device: String, emoji: String },
}

/// Whether it is what a sign may be: nothing that a terminal or a page reads otherwise.
pub(super) fn is_emoji(text: &str) -> bool {
    // Nor what turns lines round or is not seen, but for what joins emoji and chooses how they look.
    let is_hidden = |c: char| {
        matches!(c, '\u{61c}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    let is_sign =
        |c: char| !c.is_control() && !c.is_whitespace() && !is_hidden(c) && !"\"\\<>&".contains(c);
    (1..=MAX_EMOJI).contains(&text.len()) && text.chars().all(is_sign)
}

/// Keeps a sign, in place of the one that its sender gave before.
pub(super) fn react(row: &mut Row, who: CallWhom, emoji: &str, now: Timestamp) {
    let reactions = &mut row.kept.reactions;
    reactions.retain(|it| it.who != who);
    let beyond = (reactions.len() + 1).saturating_sub(MAX_SIGNS);
    reactions.drain(..beyond);
    reactions.push(CallReaction { who, emoji: emoji.to_owned(), at_ms: now });
}

/// Room for one more who does not come: of natives and those of Matrix together so many are named.
pub(super) fn make_room(kept: &mut Kept) {
    if kept.declined.len() + kept.declined_mirrors.len() >= MAX_NAMED {
        if kept.declined_mirrors.len() > kept.declined.len() {
            kept.declined_mirrors.remove(0);
        } else {
            kept.declined.remove(0);
        }
    }
}

/// Takes in what a room says; whether it made the call another.
pub(crate) async fn says(
    (db, live): (&Db, &Live),
    shares: &CallShares,
    (now, here): (Timestamp, &str),
    says: &Says,
) -> Result<bool, GuestError> {
    if !is_name(&says.user) {
        return Err(GuestError::Name);
    }
    if matches!(&says.what, What::Shows { emoji, .. } if !is_emoji(emoji)) {
        return Err(GuestError::Name);
    }
    shares.guest_word(now, (&says.group, &says.user))?;
    let mut tx = db.begin().await?;
    let Some(group) = groups::by_id(tx.conn(), says.group).await? else { return Ok(false) };
    if !groups::has_bridge(tx.conn(), group.row, here).await? {
        return Err(GuestError::NotBridged);
    }
    let running = calls::running(tx.conn(), group.row).await?;
    let Some(mut row) = running.filter(|row| row.is_shown_by(here)) else { return Ok(false) };
    let before = row.kept.call.version;
    if !took_in(&mut row, says, now) {
        return Ok(false);
    }
    change::of_itself(&mut row, Event::Tick, now);
    if row.kept.call.version == before {
        row.kept.call.version += 1;
        row.kept.out.clear();
    }
    time::put(tx, live, now, (&row, before)).await?;
    Ok(true)
}

fn took_in(row: &mut Row, says: &Says, now: Timestamp) -> bool {
    let user = &says.user;
    let is_in = |row: &Row, device: &str| {
        row.kept.call.participants.contains_key(&Who::Matrix(user.clone(), device.to_owned()))
    };
    match &says.what {
        What::Declines => {
            let those = row.guests();
            let is_his = |who: &Who| matches!(who, Who::Matrix(it, _) if it == user);
            if those.iter().any(is_his) || row.kept.declined_mirrors.contains(user) {
                return false;
            }
            make_room(&mut row.kept);
            row.kept.declined_mirrors.push(user.clone());
            true
        }
        What::Raises { device, event } => {
            let who = Who::Matrix(user.clone(), device.clone());
            let guests = row.kept.guests.values_mut();
            let his = guests.filter(|it| it.who == who && it.hand.as_ref() != Some(event));
            his.map(|it| it.hand = Some(event.clone())).count() > 0
        }
        What::Lowers { event } => {
            let guests = row.kept.guests.values_mut();
            let raised = guests.filter(|it| it.hand.as_ref() == Some(event));
            raised.map(|it| it.hand = None).count() > 0
        }
        What::Shows { device, emoji } => {
            let is_in = is_in(row, device);
            if is_in {
                let (mirror, device) = (user.clone(), device.clone());
                react(row, CallWhom::Matrix { mirror, device }, emoji, now);
            }
            is_in
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_emoji;

    #[test]
    fn a_sign_is_short_and_nothing_but_that() {
        for good in ["👍", "🖐️", "👨‍👩‍👧‍👦", "+1"] {
            assert!(is_emoji(good), "{good}");
        }
        for bad in [
            "",
            "a b",
            "\u{1b}[2J",
            "\"",
            "<b>",
            "\n",
            "\u{202e}abc",
            "👍\u{200b}",
            &"👍".repeat(9),
        ] {
            assert!(!is_emoji(bad), "{bad}");
        }
    }
}
