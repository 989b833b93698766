//! Who is told of what was given up, as a table.

use super::*;
use crate::domain::portal::PortalId;

#[test]
fn the_other_side_is_told_what_it_will_not_see() {
    let told: Vec<_> = crate::domain::lane::table::deeds()
        .iter()
        .map(|deed| word_of(deed, "bob", "no"))
        .map(|word| word.map(|Word { notice, about }| (notice, about)))
        .collect();
    let in_group = |text: &str, about: &str| {
        Some((Deed::InGroup(InGroup::Notice(text.into())), about.to_owned()))
    };
    let in_room = |text: &str| Some((Deed::InRoom(InRoom::Notice(text.into())), "no".to_owned()));
    let asked = || {
        let text = "What you asked for is not done: no.".into();
        Some((InRoom::Answer(text, "$e".try_into().unwrap()).into(), "$e".into()))
    };
    let invite = "@al:x is not invited to the room: no.";
    assert_eq!(
        told,
        [
            in_group("What bob said is not in the room: no.", "no"),
            None,
            in_group("The group has no room: no.", "no"),
            in_group(invite, invite),
            None,
            None,
            None,
            in_room("What bob said is not in the group: no."),
            None,
            None,
            in_group("The bridge does not follow into !next:x: no.", "no"),
            in_group("The group has no room: no.", "no"),
            None,
            None,
            None,
            None,
            None,
            None,
            in_group("The group has no room: no.", "no"),
            asked(),
            None,
            in_group("The bridge does not get back into the Matrix room: no.", "no"),
            in_group(invite, invite),
            asked(),
        ]
    );
}

#[test]
fn what_cannot_be_read_is_told_where_its_author_is() {
    let id = PortalId(1);
    let text = |place| format!("Something by bob is not done in the {place}: no.");
    let word = |lane: Lane| word_of_unreadable(&lane, "bob", "no").map(|word| word.notice);
    assert_eq!(word(Lane::ToMatrix(id)), Some(InGroup::Notice(text("room")).into()));
    assert_eq!(word(Lane::ToNative(id)), Some(InRoom::Notice(text("group")).into()));
    assert_eq!(word(Lane::Bot(id)), None);
}
