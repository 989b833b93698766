//! A short scene after the story: three native people in a group that shares no secret.

use causeway_protocol::roster::Scheme;

use super::{
    DemoError, native_person::NativePerson, outcome::Way, place::Place, progress::Progress,
};

/// What the group is called.
const GROUP: &str = "Quay";
/// What they say, in turn.
const WORDS: [&str; 6] = [
    "is the lamp lit?",
    "it is, and the ropes are dry",
    "I hear the bell",
    "then we cast off",
    "the wind is with us",
    "until tomorrow",
];

/// What came of it.
pub(super) struct Scene {
    /// Made the group.
    pub(super) dora: NativePerson,
    /// Of every message a piece for each of the others.
    pub(super) pieces: Way,
    /// How many times too often one was read.
    pub(super) doubled: u64,
}

/// Plays it.
pub(super) async fn play(place: &Place, progress: &Progress) -> Result<Scene, DemoError> {
    progress.say("Dora, Emil and Finn talk in a pairwise group, which shares no secret");
    let url = place.causeway.native_url();
    let token = place.causeway.registration_token()?;
    let dora = NativePerson::register("dora", &place.dir, url, &token).await?;
    let emil = NativePerson::register("emil", &place.dir, url, &token).await?;
    let finn = NativePerson::register("finn", &place.dir, url, &token).await?;
    let group = dora.create_group(GROUP, "Three native people", Scheme::Pairwise).await?;
    let invite = dora.invite(group, 2).await?;
    let people = [dora, emil, finn];
    let [_, guests @ ..] = &people;
    for guest in guests {
        guest.come_in(group, &invite).await?;
    }
    for (who, text) in people.iter().cycle().zip(WORDS) {
        who.say(group, text).await?;
        for other in people.iter().filter(|other| !std::ptr::eq(*other, who)) {
            other.seen().hear_all(&[text.to_owned()], "in the pairwise group").await?;
        }
    }
    let (mut pieces, mut doubled) = (Way::default(), 0);
    for (place, reader) in people.iter().enumerate() {
        let others = WORDS.iter().enumerate().filter(|(n, _)| n % people.len() != place);
        let texts: Vec<_> = others.map(|(_, text)| (*text).to_owned()).collect();
        let (heard, too_often) = reader.seen().tally(&texts);
        pieces.sent += texts.len() as u64;
        pieces.received += heard;
        doubled += too_often;
    }
    let [dora, ..] = people;
    Ok(Scene { dora, pieces, doubled })
}
