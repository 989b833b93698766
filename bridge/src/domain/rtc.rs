//! What calls of Matrix users are called: rooms and people on the server for calls (MSC4195).

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// The one slot of a room for calls of all who are in it.
pub const SLOT: &str = "m.call#ROOM";
/// Longest id of a device, in bytes.
const MAX_DEVICE: usize = 128;

/// What the room of a slot is called there.
pub fn alias(room: &str, slot: &str) -> String {
    hashed(&[room, slot])
}

/// What a device is called there. By `member` where the client asks by `get_token`, whose name says
/// nothing of who it is.
pub fn identity(user: &str, device: &str, member: Option<&str>) -> String {
    match member {
        Some(member) => hashed(&[user, device, member]),
        None => format!("{user}:{device}"),
    }
}

/// Whether this may be a device's id here. With a `:` in it `@a:b.example` with `1:X` would be called
/// as `@a:b.example:1` with `X`; and clients read tokens as ASCII.
pub fn is_device(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    (1..=MAX_DEVICE).contains(&id.len()) && id.bytes().all(is_plain)
}

/// Of the canonical JSON, which has these texts as they are.
fn hashed(parts: &[&str]) -> String {
    let json = serde_json::Value::from(parts.to_vec()).to_string();
    STANDARD_NO_PAD.encode(Sha256::digest(json))
}

#[cfg(test)]
mod tests {
    use super::{alias, identity, is_device};

    #[test]
    fn names_are_those_of_msc4195() {
        assert_eq!(
            alias("!roomid:example.com", "slot1234"),
            "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc"
        );
        assert_eq!(
            identity("@alice:example.com", "DEVICE123", Some("memberABC")),
            "J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU"
        );
        assert_eq!(identity("@alice:example.com", "DEV", None), "@alice:example.com:DEV");
        // JSON of other languages writes these otherwise.
        assert_ne!(alias("<&>", "s"), alias("\\u003c\\u0026\\u003e", "s"));
    }

    #[test]
    fn no_device_is_called_as_that_of_another() {
        for good in ["ABCDEFGHIJ", "a", "dev_1-2.3=/+", &"x".repeat(128)] {
            assert!(is_device(good), "{good}");
        }
        for bad in ["", "1:X", ":", "a b", "ä", "a\n", "a\u{7f}", &"x".repeat(129)] {
            assert!(!is_device(bad), "{bad}");
        }
    }
}
