//! A Matrix user as the group sees him: announced and spoken for by the bridge (protocol §3.5).

use causeway_protocol::ids::{ClientId, GroupId};
use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use unicode_security::skeleton;

use super::{
    ghost::digest,
    looks::{Taken, clean},
};

/// A Matrix user behind the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// `@u:hs`.
    pub id: OwnedUserId,
    /// How the group calls him; no two mirrors of a portal have the same.
    pub name: String,
}

/// The name under which the group knows `user`: the display name, made fit to be shown in one line,
/// with the id behind it where somebody else looks like that, or where it looks like an id.
pub fn name_of(user: &UserId, display_name: Option<&str>, taken: &Taken) -> String {
    let shown = display_name.map(clean).filter(|shown| !shown.is_empty());
    let shown = shown.unwrap_or_else(|| clean(user.localpart()));
    let is_id = skeleton(&shown).any(|c| c == '@');
    if is_id || taken.is_anothers(user, &shown) { format!("{shown} ({user})") } else { shown }
}

/// What the bridge calls one part of what it says because of `cause`: an event's id, for a message.
/// The same whenever it is said again, so that everybody shows it once.
pub fn client_id(group: &GroupId, cause: &[u8], part: u32) -> ClientId {
    let hash = digest(&[b"client_id", group.as_bytes(), cause, &part.to_be_bytes()]);
    let mut id = [0; ClientId::LEN];
    for (byte, hashed) in id.iter_mut().zip(hash) {
        *byte = hashed;
    }
    ClientId::new(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> OwnedUserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn names_are_told_apart() {
        let others = [("@eve:x", "Alice"), ("@bo:y", "bo")];
        let others = others.map(|(id, name)| (user(id), name.to_owned()));
        let taken = Taken::of(&others.into(), None);
        let table = [
            ("@al:x", Some("Al"), "Al"),
            ("@al:x", Some("alice"), "alice (@al:x)"),
            ("@al:x", Some("\u{410}lice"), "\u{410}lice (@al:x)"),
            ("@al:x", Some("Ali\u{3164}ce"), "Alice (@al:x)"),
            ("@eve:x", Some("Alice"), "Alice"),
            ("@al:x", None, "al"),
            ("@bo:x", None, "bo (@bo:x)"),
            ("@al:x", Some(" \u{202e}\u{200b} "), "al"),
            ("@al:x", Some("A\u{202e}l\n\n\u{7}b"), "Al b"),
            ("@al:x", Some("@eve:x"), "@eve:x (@al:x)"),
            ("@al:x", Some("Alice (@eve:x)"), "Alice (@eve:x) (@al:x)"),
        ];
        for (id, display_name, expected) in table {
            assert_eq!(name_of(&user(id), display_name, &taken), expected);
        }
    }
}
