//! What Matrix calls a native: the user by whom a bridge shows him in rooms, his ghost, and that user's
//! device in calls.
//!
//! The bridge says so in rooms and a server for calls is told the same, without the two having asked
//! each other: clients of Matrix pair who is in a call with whom they hear by these names.

use crate::ids::{AccountId, DeviceId};

/// What the localparts of all ghosts begin with.
pub const PREFIX: &str = "causeway_";
/// Longest name that `LiveKit` takes for a participant, in bytes.
const MAX_IDENTITY: usize = 256;

/// The ghost of an account on `server`, which is the bridge's: `@causeway_<localpart>:server`; of an
/// account of another server `@causeway__<its server>/<localpart>:server`, with `=3a` for a colon, since
/// no localpart of an account begins with `_`. It may be longer than a Matrix user id can be.
pub fn user(server: &str, account: &AccountId) -> String {
    let (name, theirs) = (account.localpart(), account.server());
    if theirs == server {
        return format!("@{PREFIX}{name}:{server}");
    }
    format!("@{PREFIX}_{}/{name}:{server}", theirs.replace(':', "=3a"))
}

/// What Matrix calls a native device: `CW` and its first 8 bytes in upper-case hex. Ids there are short,
/// and anybody may read them.
pub fn device(device: &DeviceId) -> String {
    let digit =
        |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0').to_ascii_uppercase();
    let bytes = device.as_bytes().iter().take(8);
    "CW".chars().chain(bytes.flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])).collect()
}

/// What a server for calls knows such a device by: `<ghost>:<device>`, as Element Call looks for whoever
/// is in a call by the state of a room (MSC3401 as it is in use). `None` where that is longer than
/// LiveKit takes, or the ghost than Matrix does: he is shown in no call.
pub fn in_call(server: &str, account: &AccountId, of: &DeviceId) -> Option<String> {
    let ghost = user(server, account);
    let name = format!("{ghost}:{}", device(of));
    (ghost.len() <= 255 && name.len() <= MAX_IDENTITY).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(text: &str) -> AccountId {
        text.parse().unwrap()
    }

    #[test]
    fn natives_of_this_server_and_of_others_have_names_of_their_own() {
        let device = DeviceId::new([0xAB; 32]);
        for (native, name) in [
            ("bob:b.example", "@causeway_bob:b.example:CWABABABABABABABAB"),
            ("bob:c.example:8448", "@causeway__c.example=3a8448/bob:b.example:CWABABABABABABABAB"),
        ] {
            assert_eq!(in_call("b.example", &account(native), &device).as_deref(), Some(name));
        }
    }

    #[test]
    fn whoever_has_too_long_a_name_has_none() {
        let device = DeviceId::new([1; 32]);
        let of = |long: usize| {
            let account = account(&format!("bob:{}.example", "c".repeat(long)));
            in_call("b.example", &account, &device)
        };
        let longest = (1..=222).rev().find_map(of).unwrap();
        assert_eq!(longest.len(), MAX_IDENTITY);
        assert_eq!(of(222), None);
    }
}
