//! A Matrix user as the group sees him: announced and spoken for by the bridge (protocol §3.5).

use std::collections::BTreeMap;

use causeway_protocol::ids::{ClientId, GroupId};
use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::ghost::digest;

/// Most characters of a name; longer ones are cut.
const MAX_NAME_CHARS: usize = 80;

/// A Matrix user behind the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// `@u:hs`.
    pub id: OwnedUserId,
    /// How the group calls him; no two mirrors of a portal have the same.
    pub name: String,
}

/// The name under which the group knows `user`: the display name, made fit to be shown in one line,
/// with the id behind it where somebody else already goes by that name.
pub fn name_of(
    user: &UserId,
    display_name: Option<&str>,
    others: &BTreeMap<OwnedUserId, String>,
) -> String {
    let shown = display_name.map(clean).unwrap_or_default();
    if shown.is_empty() {
        return user.localpart().chars().take(MAX_NAME_CHARS).collect();
    }
    let taken = others.iter().any(|(other, name)| **other != *user && same(name, &shown));
    if taken || shown.starts_with('@') { format!("{shown} ({user})") } else { shown }
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

/// Without what would let a name pass for another or break a line: control and format characters
/// (bidirectional overrides among them), runs of white space.
fn clean(name: &str) -> String {
    let visible: String = name.chars().filter(|c| !is_invisible(*c)).collect();
    let joined = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.chars().take(MAX_NAME_CHARS).collect()
}

fn is_invisible(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> OwnedUserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn names_are_told_apart() {
        let others = BTreeMap::from([(user("@eve:x"), "Alice".to_owned())]);
        let table = [
            ("@al:x", Some("Al"), "Al"),
            ("@al:x", Some("alice"), "alice (@al:x)"),
            ("@eve:x", Some("Alice"), "Alice"),
            ("@al:x", None, "al"),
            ("@al:x", Some(" \u{202e}\u{200b} "), "al"),
            ("@al:x", Some("A\u{202e}l\n\n\u{7}b"), "Al b"),
            ("@al:x", Some("@eve:x"), "@eve:x (@al:x)"),
        ];
        for (id, display_name, expected) in table {
            assert_eq!(name_of(&user(id), display_name, &others), expected);
        }
        assert_eq!(name_of(&user("@al:x"), Some(&"x".repeat(500)), &others).len(), 80);
    }
}
