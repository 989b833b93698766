//! Who is in the server's room, by what it calls them, and what they say there.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol::{
    ParticipantInfo, TrackInfo, TrackSource, encryption, participant_info::State,
};

/// Twice as many as a call has participants, and tracks of one; what a server says beyond is not
/// believed.
const PARTICIPANTS: usize = 512;
const TRACKS: usize = 8;
/// Bytes of a name.
const NAME_MAX: usize = 512;

#[derive(Default)]
pub(super) struct Roster(BTreeMap<String, Participant>);

struct Participant {
    identity: String,
    /// Those with speech.
    tracks: Vec<Track>,
}

struct Track {
    sid: String,
    is_sealed: bool,
}

impl Roster {
    /// Takes what the server says of some, and tells what it calls those who are gone.
    pub(super) fn update(&mut self, all: Vec<ParticipantInfo>) -> Vec<String> {
        let mut gone = Vec::new();
        for info in all {
            if info.state() == State::Disconnected {
                self.0.remove(&info.sid);
                gone.push(info.sid);
            } else if self.fits(&info) {
                let tracks = info.tracks.into_iter().filter(is_speech).take(TRACKS);
                let tracks = tracks.map(|track| Track {
                    is_sealed: track.encryption() != encryption::Type::None,
                    sid: track.sid,
                });
                let tracks = tracks.collect();
                self.0.insert(info.sid, Participant { identity: info.identity, tracks });
            }
        }
        gone
    }

    /// All but `me`, by the names that the home knows.
    pub(super) fn others(&self, me: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(sid, _)| *sid != me).map(|(_, who)| &*who.identity)
    }

    /// What all but `me` say, by what the server calls it.
    pub(super) fn speech_of_others(&self, me: &str) -> BTreeSet<String> {
        let others = self.0.iter().filter(|(sid, _)| *sid != me);
        others.flat_map(|(_, who)| &who.tracks).map(|track| track.sid.clone()).collect()
    }

    /// Whose a track is that the server calls so, and whether he seals what he sends there; `None` while
    /// it has not said so.
    pub(super) fn whose(&self, participant: &str, track: &str) -> Option<(&str, bool)> {
        let who = self.0.get(participant)?;
        let track = who.tracks.iter().find(|it| it.sid == track)?;
        Some((&who.identity, track.is_sealed))
    }

    fn fits(&self, info: &ParticipantInfo) -> bool {
        let names = [&info.sid, &info.identity];
        names.iter().all(|name| !name.is_empty() && name.len() <= NAME_MAX)
            && (self.0.len() < PARTICIPANTS || self.0.contains_key(&info.sid))
    }
}

/// A second stream of sound beside a microphone, as of a film, has its own time.
fn is_speech(track: &TrackInfo) -> bool {
    matches!(track.source(), TrackSource::Microphone | TrackSource::Unknown)
        && track.sid.len() <= NAME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(sid: &str, state: State, source: TrackSource) -> ParticipantInfo {
        let track = TrackInfo { sid: "TR_1".into(), source: source.into(), ..Default::default() };
        ParticipantInfo {
            sid: sid.into(),
            identity: format!("who {sid}"),
            state: state.into(),
            tracks: vec![track],
            ..Default::default()
        }
    }

    #[test]
    fn a_microphone_is_its_participants_until_that_one_is_gone() {
        let mut roster = Roster::default();
        let active = |source| info("PA_1", State::Active, source);
        assert!(roster.update(vec![active(TrackSource::Microphone)]).is_empty());
        assert_eq!(roster.whose("PA_1", "TR_1"), Some(("who PA_1", false)));
        assert_eq!(roster.whose("PA_1", "TR_2"), None);
        assert_eq!(roster.whose("PA_2", "TR_1"), None);
        roster.update(vec![active(TrackSource::ScreenShareAudio)]);
        assert_eq!(roster.whose("PA_1", "TR_1"), None);
        let gone = info("PA_1", State::Disconnected, TrackSource::Microphone);
        assert_eq!(roster.update(vec![gone]), ["PA_1"]);
    }

    #[test]
    fn what_others_say_is_wanted_and_not_what_they_show() {
        let mut roster = Roster::default();
        let mut other = info("PA_1", State::Active, TrackSource::Microphone);
        let camera = TrackInfo {
            sid: "TR_2".into(),
            source: TrackSource::Camera.into(),
            ..Default::default()
        };
        other.tracks.push(camera);
        let mut me = info("PA_2", State::Active, TrackSource::Microphone);
        me.tracks[0].sid = "TR_3".to_owned();
        roster.update(vec![other, me]);
        assert_eq!(roster.speech_of_others("PA_2"), ["TR_1".to_owned()].into());
    }

    #[test]
    fn a_server_that_names_millions_is_not_believed() {
        let mut roster = Roster::default();
        for n in 0..2_000 {
            let mut one = info(&n.to_string(), State::Active, TrackSource::Microphone);
            one.tracks = vec![one.tracks[0].clone(); 100];
            roster.update(vec![one]);
        }
        let long = "a".repeat(NAME_MAX + 1);
        roster.update(vec![info(&long, State::Active, TrackSource::Microphone)]);
        assert_eq!(roster.0.len(), PARTICIPANTS);
        assert!(roster.0.values().all(|who| who.tracks.len() <= TRACKS));
    }
}
