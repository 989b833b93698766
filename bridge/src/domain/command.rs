//! What people say to the bot, in a bridged room or alone with it, and what it answers.

use std::fmt::Write as _;

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ENCRYPTION, MESSAGE, RoomEvent, UNREAD, ghost::Names, looks::clean};

/// How everything begins that is said to the bot where others are.
const PREFIX: &str = "!causeway";

/// What is said in a bridged room, and what it is for.
const HELP: &str = "`!causeway members` names those who read here in the group.\n\
    `!causeway status` says how the bridge is doing.\n\
    `!causeway invite @user:server` invites somebody into this room, if you may.\n\
    `!causeway unbridge` takes the bridge out of this room, if you may close it.\n\
    `!causeway version` says which version this is.\n\
    The group's admins do the rest in their client: `group bridge`, `member add`, `member remove`.";

/// How a room comes to be bridged.
const HOW: &str = "A room is made for a native group when an admin of that group asks for it: \
    `causeway-client group bridge GROUP --invite @you:your.server`. A room that exists cannot be \
    bridged.";

/// What may be said to the bot alone.
const ALONE: &str = "`status` names the bridged rooms that you are in, `bridge` says how a room is \
    bridged, `version` which version this is. In a bridged room say `!causeway help`.";

/// Said once, and then nothing until he has asked nothing for a while.
const TOO_MUCH: &str = "Too many commands: this one is not answered. Wait a minute and ask again.";
const TOO_MUCH_HERE: &str = "Too many commands in this room: this one is not answered. Wait a minute and ask \
    again.";

/// A word to the bot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// What is answered in words that are always the same.
    Words(Words),
    /// Who reads in the group: this page of them, from 1.
    Members(usize),
    /// What has to be looked up, or done.
    Asked(Asked),
}

/// What is answered in words that are always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Words {
    /// What may be said.
    Help,
    /// Which version this is.
    Version,
    /// How a room is bridged.
    Bridge,
    /// That there is no such command.
    Unknown,
    /// That he asks too much.
    TooMuch,
    /// That all in the room together ask too much.
    TooMuchHere,
}

impl Words {
    /// In a bridged room.
    pub fn here(self) -> String {
        match self {
            Self::Help => HELP.to_owned(),
            Self::Version => version(),
            Self::Bridge => format!("This room is bridged. {HOW}"),
            Self::Unknown => format!("This is no command.\n{HELP}"),
            Self::TooMuch => TOO_MUCH.to_owned(),
            Self::TooMuchHere => TOO_MUCH_HERE.to_owned(),
        }
    }

    fn alone(self) -> String {
        match self {
            Self::Help => format!("This is the bot of a bridge to native groups. {ALONE}"),
            Self::Version => version(),
            Self::Bridge => HOW.to_owned(),
            Self::Unknown => format!("This is no command. {ALONE}"),
            Self::TooMuch | Self::TooMuchHere => TOO_MUCH.to_owned(),
        }
    }
}

/// What the bot looks up or does for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// How the bridge is doing.
    Status,
    /// Somebody is to be invited.
    Invite(OwnedUserId),
    /// The bridge is to leave the room.
    Unbridge,
    /// The same where the room has had its answers: who may not is not told so.
    UnbridgeInSilence,
    /// Nothing but these words.
    Words(Words),
}

impl Command {
    /// What an event says to the bot, after the word that names it.
    pub fn of(event: &RoomEvent) -> Option<Self> {
        let mut words = said(event)?.split_whitespace();
        words.next()?.eq_ignore_ascii_case(PREFIX).then(|| Self::parse(words))
    }

    /// The same where nobody else is to whom it could be said, so that everything is answered but what
    /// another program says.
    pub fn alone(event: &RoomEvent) -> Option<Self> {
        let is_shown = event.kind == "m.sticker"
            || (event.kind == MESSAGE
                && event.content.get("msgtype").is_some_and(|kind| kind != "m.notice"));
        match said(event) {
            Some(words) => Self::of(event).or_else(|| Some(Self::parse(words.split_whitespace()))),
            None if is_shown && !is_edit(event) => Some(Self::Words(Words::Unknown)),
            None => None,
        }
    }

    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        // No command has more words.
        let words: Vec<&str> = words.take(3).collect();
        // Telephones begin with a capital.
        let first = words.first().map(|word| word.to_ascii_lowercase());
        let words: Vec<&str> =
            first.as_deref().into_iter().chain(words.iter().skip(1).copied()).collect();
        let known = match words.as_slice() {
            [] | ["help"] => Some(Self::Words(Words::Help)),
            ["version"] => Some(Self::Words(Words::Version)),
            ["bridge", ..] => Some(Self::Words(Words::Bridge)),
            ["members"] => Some(Self::Members(1)),
            ["members", page] => page.parse().ok().map(Self::Members),
            ["status"] => Some(Self::Asked(Asked::Status)),
            ["unbridge"] => Some(Self::Asked(Asked::Unbridge)),
            ["invite", user] => {
                UserId::parse(*user).ok().map(|user| Self::Asked(Asked::Invite(user)))
            }
            _ => None,
        };
        known.unwrap_or(Self::Words(Words::Unknown))
    }

    /// What is answered to somebody who is alone with the bot, and is in these bridged rooms, of
    /// which there are so many.
    pub fn answer_alone(&self, rooms: &[(OwnedRoomId, String)], count: usize) -> String {
        match self {
            Self::Words(words) | Self::Asked(Asked::Words(words)) => words.alone(),
            Self::Members(_)
            | Self::Asked(Asked::Invite(_) | Asked::Unbridge | Asked::UnbridgeInSilence) => {
                "That is about one room: say it there, with `!causeway` before it.".to_owned()
            }
            Self::Asked(Asked::Status) => status_alone(rooms, count),
        }
    }
}

/// The words of a text; what bots say in notices is no command.
fn said(event: &RoomEvent) -> Option<&str> {
    let field = |name: &str| event.content.get(name).and_then(Value::as_str);
    let is_text = event.kind == MESSAGE && event.state_key.is_none();
    (is_text && !is_edit(event) && field("msgtype") == Some("m.text"))
        .then(|| field("body"))
        .flatten()
}

fn is_edit(event: &RoomEvent) -> bool {
    event
        .content
        .get("m.relates_to")
        .is_some_and(|relation| relation.get("rel_type").is_some_and(|kind| kind == "m.replace"))
}

fn version() -> String {
    concat!("Causeway ", env!("CARGO_PKG_VERSION"), ".").to_owned()
}

fn status_alone(rooms: &[(OwnedRoomId, String)], count: usize) -> String {
    if rooms.is_empty() {
        return format!("You are in no bridged room. {HOW}");
    }
    let mut text = format!("You are in {count} bridged {}:", plural(count, "room", "rooms"));
    for (room, name) in rooms {
        // A string takes all that is written.
        let _ = write!(text, "\n“{}”: https://matrix.to/#/{room}", clean(name));
    }
    if count > rooms.len() {
        let _ = write!(text, "\nand {} more.", count - rooms.len());
    }
    text
}

/// How a bridge is doing, for its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status<'a> {
    /// The group's name.
    pub group: &'a str,
    /// Native people in it.
    pub natives: usize,
    /// Matrix people whom it knows.
    pub mirrors: usize,
    /// Messages of this room that are not in the group yet.
    pub to_native: u64,
    /// Messages of the group that are not in this room yet.
    pub to_matrix: u64,
    /// Native people who were put out of this room.
    pub removed: usize,
}

impl Status<'_> {
    /// In words.
    pub fn text(&self) -> String {
        let Self { group, natives, mirrors, to_native, to_matrix, removed } = self;
        let mut text = format!(
            "Bridged to the native group “{}”: {natives} native {}, {mirrors} Matrix {}.",
            clean(group),
            plural(*natives, "member", "members"),
            plural(*mirrors, "user", "users"),
        );
        if (*to_native, *to_matrix) == (0, 0) {
            text.push_str(" Nothing waits.");
        } else {
            let _ = write!(
                text,
                " {to_native} of what was said here {} for the group, {to_matrix} of what was said \
                 there for this room.",
                if *to_native == 1 { "waits" } else { "wait" },
            );
        }
        if *removed > 0 {
            let _ = write!(
                text,
                " {removed} native {} removed from this room: what they say does not get here.",
                if *removed == 1 { "member was" } else { "members were" },
            );
        }
        text
    }
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// Something that is asked of the bot or of a ghost where there is no portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Where.
    pub room: OwnedRoomId,
    /// By whom.
    pub by: OwnedUserId,
    /// Of whom: the bot or a ghost.
    pub of: OwnedUserId,
    /// What.
    pub what: What,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// To come in; `true`: it is to be a direct chat.
    Come(bool),
    /// A command; `true`: it named the bot, so that it means the bot whoever else is there.
    Do(Command, bool),
    /// Nothing more: who was alone with the bot has left.
    Left,
}

/// What an event in a room that is no portal asks of us.
pub fn errand(names: &Names, event: &RoomEvent) -> Option<Errand> {
    if names.is_ours(&event.sender) {
        return None;
    }
    let (room, by) = (event.room_id.clone(), event.sender.clone());
    let of_bot = |what| Errand { room: room.clone(), by: by.clone(), of: names.bot().into(), what };
    if event.kind == "m.room.member" {
        let whom = UserId::parse(event.state_key.as_deref()?).ok()?;
        let membership = event.content.get("membership").and_then(Value::as_str)?;
        let is_direct = event.content.get("is_direct") == Some(&Value::Bool(true));
        return match membership {
            "invite" if names.is_ours(&whom) => {
                Some(Errand { of: whom, ..of_bot(What::Come(is_direct)) })
            }
            "leave" | "ban" if whom == event.sender || whom == *names.bot() => {
                Some(of_bot(What::Left))
            }
            _ => None,
        };
    }
    // The room is looked at, and why nobody is answered there is said.
    if event.kind == UNREAD || event.kind == ENCRYPTION {
        return Some(of_bot(What::Do(Command::Words(Words::Help), false)));
    }
    let is_named = Command::of(event).is_some();
    Command::alone(event).map(|command| of_bot(What::Do(command, is_named)))
}

/// Why somebody of ours does not come, or does not stay; a ghost's account is `Some`.
pub fn declines(account: Option<&str>) -> String {
    match account {
        Some(account) => format!(
            "This name stands for {account}, who writes from a native group and cannot be reached \
             in Matrix rooms. {HOW}"
        ),
        None => format!("This bot is in bridged rooms and in direct chats only. {HOW}"),
    }
}

/// Why one does not come of whom no group has told us.
pub fn nobody(name: &str) -> String {
    format!(
        "This name would stand for {name}, and nobody of that name is in a bridged group. {HOW}"
    )
}

/// Why the bot does not come to a room of somebody whose bridged room was replaced by `next`: this one may
/// be of later still.
pub fn declines_before(next: &RoomId) -> String {
    format!(
        "This bot is in bridged rooms and in direct chats only. A bridged room that you were in was \
         replaced by {next}: if this room comes after that one, invite the bot to that one first, and \
         then here again. {HOW}"
    )
}

/// Why the bot does not stay where it could not answer.
pub const ENCRYPTED: &str = "This bot cannot read encrypted rooms yet. Start a chat that is not \
    encrypted, or say `!causeway help` in a bridged room.";

#[cfg(test)]
#[path = "command_table.rs"]
mod table;
