//! What this device says on a server: one track, which is sealed or is not, and beside it for a moment
//! the other, where a call turns to the clear or back.
//!
//! The server's list says of each track whether it is sealed, so none changes its kind: a second one
//! is made, and the former is let go of once all had time to hear that one.

use std::{sync::Arc, time::Duration};

use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, MuteTrackRequest, TrackInfo, TrackPublishedResponse,
    TrackSource, TrackType, encryption,
};
use tokio::{sync::watch, time::Instant};
use webrtc::{
    media_stream::track_local::static_rtp::TrackLocalStaticRTP, rtp_transceiver::RtpSender,
};

use super::super::link::opus_track;
use crate::entropy;

/// How long the former track goes on once the server has the new one; and where one without keys is
/// there, to whom what is sealed is noise.
const OVERLAP: Duration = Duration::from_secs(3);
const WITH_GUESTS: Duration = Duration::from_secs(1);
/// How long others may be heard in the clear after this device has turned from it.
const STILL_CLEAR: Duration = Duration::from_secs(10);
/// Turns of one connection: each leaves a section in its description.
const TURNS: usize = 32;

/// How a device wants to be on a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) muted: bool,
    /// Whether what it says is sealed, and only what is sealed is heard.
    pub(super) is_sealed: bool,
    clear_until: Option<Instant>,
}

impl Wish {
    pub(super) const fn new(muted: bool, is_sealed: bool) -> Self {
        Self { muted, is_sealed, clear_until: None }
    }

    pub(super) fn turn(&mut self, is_sealed: bool) {
        self.clear_until = (is_sealed && !self.is_sealed).then(|| Instant::now() + STILL_CLEAR);
        self.is_sealed = is_sealed;
    }

    /// Whether what comes in the clear is played: the others turn a moment sooner or later.
    pub(super) fn hears_clear(&self) -> bool {
        !self.is_sealed || self.clear_until.is_some_and(|until| Instant::now() < until)
    }
}

/// Where packets go.
#[derive(Clone)]
pub(super) struct Out {
    pub(super) is_sealed: bool,
    pub(super) ssrc: u32,
    pub(super) track: Arc<TrackLocalStaticRTP>,
}

struct Track {
    /// The server asks for it by this, and the track in the description has it.
    cid: String,
    out: Out,
    info: Option<TrackInfo>,
    sender: Option<Arc<dyn RtpSender>>,
    /// Since when the server has it.
    up: Option<Instant>,
}

/// There was nothing random, or the call turned too often for one connection.
pub(super) struct NoTrack;

pub(super) struct Spoken {
    tracks: Vec<Track>,
    made: usize,
    outs: watch::Sender<Vec<Out>>,
}

impl Spoken {
    pub(super) fn new() -> Self {
        Self { tracks: Vec::new(), made: 0, outs: watch::Sender::new(Vec::new()) }
    }

    /// Where packets go, as that changes.
    pub(super) fn outs(&self) -> watch::Receiver<Vec<Out>> {
        self.outs.subscribe()
    }

    /// Sees to it that there is a track for what is wished; what is to be asked of the server for that.
    pub(super) fn wish(&mut self, wish: Wish) -> Result<Option<AddTrackRequest>, NoTrack> {
        if self.tracks.iter().any(|track| track.out.is_sealed == wish.is_sealed) {
            return Ok(None);
        }
        if self.made > TURNS {
            return Err(NoTrack);
        }
        let random = entropy::bytes::<12>().map_err(|_| NoTrack)?;
        let (ssrc, name) = random.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let ssrc = u32::from_be_bytes(*ssrc);
        let cid = format!("mic_{}", hex::encode(name));
        let out = Out { is_sealed: wish.is_sealed, ssrc, track: opus_track(&cid, ssrc) };
        let track = Track { cid, out, info: None, sender: None, up: None };
        let request = track.request(wish.muted);
        self.tracks.push(track);
        self.made += 1;
        Ok(Some(request))
    }

    /// What the server has not named yet, which is asked for again where the line is new.
    pub(super) fn unnamed(&self, muted: bool) -> Vec<AddTrackRequest> {
        let unnamed = self.tracks.iter().filter(|track| track.info.is_none());
        unnamed.map(|track| track.request(muted)).collect()
    }

    /// The server names one: what is to be offered to it, if it was asked for.
    pub(super) fn named(&mut self, named: TrackPublishedResponse) -> Option<Out> {
        let mut unnamed = self.tracks.iter_mut().filter(|track| track.info.is_none());
        let track = unnamed.find(|track| track.cid == named.cid)?;
        track.info = Some(named.track?);
        Some(track.out.clone())
    }

    /// What `out` is sent by.
    pub(super) fn is_sent_by(&mut self, out: &Out, sender: Arc<dyn RtpSender>) {
        let track = self.tracks.iter_mut().find(|track| track.out.ssrc == out.ssrc);
        if let Some(track) = track {
            track.sender = Some(sender);
        }
    }

    /// The server has taken all that was offered.
    pub(super) fn answered(&mut self) {
        for track in self.tracks.iter_mut().filter(|track| track.sender.is_some()) {
            track.up.get_or_insert_with(Instant::now);
        }
        self.tell();
    }

    /// When what is not wished any more may end.
    pub(super) fn ends_at(&self, wish: Wish, has_guests: impl FnOnce() -> bool) -> Option<Instant> {
        let of = |is_sealed| self.tracks.iter().find(|track| track.out.is_sealed == is_sealed);
        of(!wish.is_sealed)?;
        let overlap = if wish.is_sealed || !has_guests() { OVERLAP } else { WITH_GUESTS };
        Some(of(wish.is_sealed)?.up? + overlap)
    }

    /// Ends it: what was sent by this is to be removed.
    pub(super) fn end_other(&mut self, wish: Wish) -> Option<Arc<dyn RtpSender>> {
        let at = self.tracks.iter().position(|track| track.out.is_sealed != wish.is_sealed)?;
        let track = self.tracks.remove(at);
        self.tell();
        track.sender
    }

    /// What the server is to be told of each that is muted there and not here, or here and not there.
    pub(super) fn mute(&mut self, muted: bool) -> Vec<MuteTrackRequest> {
        let named = self.tracks.iter_mut().filter_map(|track| track.info.as_mut());
        let others = named.filter(|info| info.muted != muted);
        let requests = others.map(|info| {
            info.muted = muted;
            MuteTrackRequest { sid: info.sid.clone(), muted }
        });
        requests.collect()
    }

    /// All that the server has named, as it did.
    pub(super) fn all_named(&self) -> Vec<TrackPublishedResponse> {
        let named = self.tracks.iter().filter(|track| track.info.is_some());
        named
            .map(|track| TrackPublishedResponse {
                cid: track.cid.clone(),
                track: track.info.clone(),
            })
            .collect()
    }

    /// Packets before the server has agreed to their track would have it take that for none.
    fn tell(&self) {
        let up = self.tracks.iter().filter(|track| track.up.is_some());
        self.outs.send_replace(up.map(|track| track.out.clone()).collect());
    }
}

impl Track {
    fn request(&self, muted: bool) -> AddTrackRequest {
        let sealed =
            if self.out.is_sealed { encryption::Type::Gcm } else { encryption::Type::None };
        AddTrackRequest {
            cid: self.cid.clone(),
            name: "microphone".to_owned(),
            r#type: TrackType::Audio.into(),
            source: TrackSource::Microphone.into(),
            muted,
            disable_red: true,
            audio_features: vec![AudioTrackFeature::TfNoDtx.into()],
            encryption: sealed.into(),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for the wished track, and has the server name it.
    fn named(spoken: &mut Spoken, wish: Wish) -> bool {
        let Ok(Some(asked)) = spoken.wish(wish) else { return false };
        let track = TrackInfo { sid: asked.cid.clone(), ..Default::default() };
        let named = TrackPublishedResponse { cid: asked.cid, track: Some(track) };
        spoken.named(named.clone()).is_some() && spoken.named(named).is_none()
    }

    #[test]
    fn there_is_one_track_of_each_kind_and_the_other_ends() {
        let mut spoken = Spoken::new();
        let mut wish = Wish::new(false, true);
        assert!(named(&mut spoken, wish) && !named(&mut spoken, wish));
        assert!(!wish.hears_clear() && spoken.ends_at(wish, || true).is_none());
        wish.turn(false);
        assert!(named(&mut spoken, wish) && wish.hears_clear());
        assert!(spoken.outs().borrow().is_empty(), "the server has agreed to none");
        assert_eq!(spoken.mute(true).len(), 2);
        assert!(spoken.mute(true).is_empty());
        // Nothing ends before the server has what comes after it.
        assert!(spoken.ends_at(wish, || true).is_none());
        // Back before that: both are there.
        wish.turn(true);
        assert!(!named(&mut spoken, wish));
        assert!(spoken.end_other(wish).is_none() && spoken.end_other(wish).is_none());
        assert!(wish.hears_clear(), "others may not have turned yet");
    }

    #[test]
    fn a_connection_is_turned_so_often_and_not_more() {
        let mut spoken = Spoken::new();
        let mut wish = Wish::new(false, true);
        let mut turns = 0;
        while named(&mut spoken, wish) {
            wish.turn(!wish.is_sealed);
            spoken.end_other(wish);
            turns += 1;
        }
        assert_eq!(turns, TURNS + 1);
        assert!(matches!(spoken.wish(wish), Err(NoTrack)));
    }
}
