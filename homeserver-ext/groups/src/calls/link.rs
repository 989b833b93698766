//! One connection to one peer: the WebRTC library, behind what a pair needs of it.
//!
//! What the library calls back with goes into short queues that are never waited for; what does not
//! fit is left out, which costs this connection alone.

use std::{sync::Arc, time::Duration};

use rtc::{
    ice::{mdns::MulticastDnsMode, network_type::NetworkType},
    peer_connection::configuration::RTCOfferOptions,
    rtp::{Header, Packet},
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
        RtpCodecKind,
    },
};
use tokio::sync::{mpsc, watch};
use webrtc::{
    error::Error,
    media_stream::{
        MediaStreamTrack,
        track_local::{TrackLocal as _, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceServer, RTCIceTransportPolicy,
        RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription, Registry,
        SettingEngineBuilder, register_default_interceptors,
    },
};

use super::{
    Settings,
    description::{self, Checked, Fingerprint},
    signal::{Refused, Signal},
    studio::Frame,
};
use crate::entropy;

/// The payload type.
pub(super) const OPUS: u8 = 111;
/// Candidates of one connection, each way, until it is restarted.
const CANDIDATES: usize = 64;

/// Why no connection could be opened; nothing in it says where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no socket could be opened for a connection")]
pub(super) struct NotOpened;

/// What comes of a connection by itself.
pub(super) enum Event {
    /// Ways on which this device may be reached.
    Candidates(Vec<String>),
    Connected,
    /// The path is gone, for now.
    Broken,
    /// Nothing will come of it any more.
    Closed,
    /// 20 ms or what the other side takes for it: timestamp and payload.
    Sound(u32, Vec<u8>),
    /// Nothing that anybody needs to know.
    Nothing,
}

pub(super) struct Link {
    connection: Arc<dyn PeerConnection>,
    /// What this device says, into this connection.
    out: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    /// What the other says, once it began.
    sound: Option<Arc<dyn TrackRemote>>,
    candidates: mpsc::Receiver<String>,
    tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
    state: watch::Receiver<RTCPeerConnectionState>,
    relay_only: bool,
    /// The other side's, from its first description on.
    fingerprint: Option<Fingerprint>,
    /// The `ice-ufrag` of an offer of ours that is unanswered.
    offered: Option<String>,
    /// The other's candidates that came before its description, and how many came.
    early: Vec<String>,
    came: usize,
}

struct Callbacks {
    candidates: mpsc::Sender<String>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
    state: watch::Sender<RTCPeerConnectionState>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Callbacks {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(init) = event.candidate.to_json() {
            self.candidates.try_send(init.candidate).ok();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tracks.try_send(track).ok();
    }
}

impl Link {
    pub(super) async fn open(settings: &Settings) -> Result<Self, NotOpened> {
        let ssrc = entropy::bytes().map(u32::from_be_bytes).map_err(|_| NotOpened)?;
        let out = opus_track("sound", ssrc);
        let (to_candidates, candidates) = mpsc::channel(CANDIDATES);
        let (to_tracks, tracks) = mpsc::channel(1);
        let (to_state, state) = watch::channel(RTCPeerConnectionState::New);
        let callbacks = Callbacks { candidates: to_candidates, tracks: to_tracks, state: to_state };
        let connection = connect(settings, callbacks).await.map_err(|_| NotOpened)?;
        connection.add_track(out.clone()).await.map_err(|_| NotOpened)?;
        Ok(Self {
            connection,
            out,
            ssrc,
            sound: None,
            candidates,
            tracks,
            state,
            relay_only: settings.is_relayed(),
            fingerprint: None,
            offered: None,
            early: Vec::new(),
            came: 0,
        })
    }

    /// Describes this side; with `restart` the connection goes on by another path.
    pub(super) async fn offer(&mut self, restart: bool) -> Result<String, Refused> {
        let options = RTCOfferOptions { ice_restart: restart };
        let offer = self.connection.create_offer(Some(options)).await.map_err(library)?;
        let sdp = description::without_candidates(&offer.sdp);
        self.offered = description::ufrag(&sdp).map(str::to_owned);
        self.connection.set_local_description(offer).await.map_err(library)?;
        if restart {
            self.forget_candidates();
        }
        Ok(sdp)
    }

    /// Takes the other side's offer, and answers it.
    pub(super) async fn answer(&mut self, checked: Checked) -> Result<Signal, Refused> {
        self.is_same(&checked.fingerprint)?;
        let offer = RTCSessionDescription::offer(checked.sdp).map_err(library)?;
        if self.fingerprint.is_some() {
            self.forget_candidates();
        }
        self.connection.set_remote_description(offer).await.map_err(library)?;
        self.fingerprint = Some(checked.fingerprint);
        let answer = self.connection.create_answer(None).await.map_err(library)?;
        let sdp = description::without_candidates(&answer.sdp);
        self.connection.set_local_description(answer).await.map_err(library)?;
        self.add(checked.candidates).await?;
        self.add_early().await?;
        Ok(Signal::Answer { sdp, offer: Some(checked.ufrag) })
    }

    /// Takes the other side's answer to the offer.
    pub(super) async fn answered(
        &mut self,
        offer: Option<&str>,
        checked: Checked,
    ) -> Result<(), Refused> {
        let offered = self.offered.as_deref().ok_or(Refused::OutOfTurn)?;
        if offer.is_some_and(|offer| offer != offered) {
            return Err(Refused::OutOfTurn);
        }
        self.is_same(&checked.fingerprint)?;
        let answer = RTCSessionDescription::answer(checked.sdp).map_err(library)?;
        self.connection.set_remote_description(answer).await.map_err(library)?;
        self.fingerprint = Some(checked.fingerprint);
        self.offered = None;
        self.add(checked.candidates).await?;
        self.add_early().await
    }

    /// Takes ways on which the other may be reached.
    pub(super) async fn add(&mut self, candidates: Vec<String>) -> Result<(), Refused> {
        if self.came + candidates.len() > CANDIDATES {
            return Err(Refused::Candidates);
        }
        let checked: Vec<_> =
            candidates.iter().map(|text| description::candidate(text)).collect::<Result<_, _>>()?;
        self.came += checked.len();
        if self.fingerprint.is_none() || self.offered.is_some() {
            self.early.extend(checked);
            return Ok(());
        }
        for candidate in checked {
            let init =
                RTCIceCandidateInit { candidate, sdp_mline_index: Some(0), ..Default::default() };
            self.connection.add_ice_candidate(init).await.map_err(|_| Refused::Candidate)?;
        }
        Ok(())
    }

    /// Sends 20 ms.
    pub(super) async fn send(&self, frame: Frame) {
        let header = Header {
            version: 2,
            marker: frame.begins,
            payload_type: OPUS,
            sequence_number: frame.sequence,
            timestamp: frame.timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        let packet = Packet { header, payload: frame.payload.to_vec().into() };
        // A packet that cannot go out is lost, as on the way.
        self.out.write_rtp(packet).await.ok();
    }

    /// Whether it has begun from the other side's description.
    pub(super) fn is_described(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// What happens next; nothing is lost when this is given up.
    pub(super) async fn event(&mut self) -> Event {
        tokio::select! {
            Some(first) = self.candidates.recv() => self.told(first),
            Some(track) = self.tracks.recv(), if self.sound.is_none() => {
                self.sound = Some(track);
                Event::Nothing
            }
            changed = self.state.changed() => match changed {
                Ok(()) => of_state(*self.state.borrow_and_update()),
                Err(_) => Event::Closed,
            },
            event = sound(self.sound.as_ref()) => match event {
                Some(TrackRemoteEvent::OnRtpPacket(packet)) => {
                    Event::Sound(packet.header.timestamp, packet.payload.to_vec())
                }
                Some(_) => Event::Nothing,
                // The library has stopped, which it says in no other way where a socket failed it:
                // that of a peer that is gone may.
                None => {
                    self.sound = None;
                    Event::Closed
                }
            },
        }
    }

    pub(super) async fn close(self) {
        self.connection.close().await.ok();
    }

    fn told(&mut self, first: String) -> Event {
        let more = std::iter::from_fn(|| self.candidates.try_recv().ok()).take(15);
        let all = std::iter::once(first).chain(more);
        Event::Candidates(
            all.filter_map(|text| description::own_candidate(&text, self.relay_only)).collect(),
        )
    }

    fn is_same(&self, fingerprint: &Fingerprint) -> Result<(), Refused> {
        match &self.fingerprint {
            Some(known) if known != fingerprint => Err(Refused::Fingerprint),
            _ => Ok(()),
        }
    }

    fn forget_candidates(&mut self) {
        self.early.clear();
        self.came = 0;
    }

    async fn add_early(&mut self) -> Result<(), Refused> {
        let early = std::mem::take(&mut self.early);
        self.came = self.came.saturating_sub(early.len());
        self.add(early).await
    }
}

// Texts of the library have addresses and parts of descriptions in them.
fn library(_: Error) -> Refused {
    Refused::Library
}

fn of_state(state: RTCPeerConnectionState) -> Event {
    match state {
        RTCPeerConnectionState::Connected => Event::Connected,
        RTCPeerConnectionState::Disconnected | RTCPeerConnectionState::Failed => Event::Broken,
        RTCPeerConnectionState::Closed => Event::Closed,
        // The enum may grow.
        _ => Event::Nothing,
    }
}

async fn sound(track: Option<&Arc<dyn TrackRemote>>) -> Option<TrackRemoteEvent> {
    match track {
        Some(track) => track.poll().await,
        None => std::future::pending().await,
    }
}

pub(super) fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/opus".to_owned(),
        clock_rate: 48_000,
        // RFC 7587: always 2 in a description, whatever is sent.
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: Vec::new(),
    }
}

/// What this device says, by that name in descriptions.
pub(super) fn opus_track(id: &str, ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        active: true,
        codec: opus(),
        ..Default::default()
    };
    let name = || "sound".to_owned();
    let kind = RtpCodecKind::Audio;
    let track = MediaStreamTrack::new(name(), id.to_owned(), name(), kind, vec![coding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

async fn connect(
    settings: &Settings,
    callbacks: Callbacks,
) -> Result<Arc<dyn PeerConnection>, Error> {
    let mut media = MediaEngine::default();
    // Nothing else is registered, so that nothing else can be negotiated.
    let codec = RTCRtpCodecParameters { rtp_codec: opus(), payload_type: OPUS };
    media.register_codec(codec, RtpCodecKind::Audio)?;
    let interceptors = register_default_interceptors(Registry::new(), &mut media)?;
    let engine = SettingEngineBuilder::new()
        // A check that overtakes its candidate would hold a connection up for a second.
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_network_types(vec![NetworkType::Udp4, NetworkType::Udp6])
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        // A restart opens new sockets: the old ones may be of a network that is gone.
        .with_discard_local_candidates_during_ice_restart(true)
        .build();
    let policy = if settings.is_relayed() {
        RTCIceTransportPolicy::Relay
    } else {
        RTCIceTransportPolicy::All
    };
    let servers = settings.servers.iter().map(|server| RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    let configuration = RTCConfigurationBuilder::new()
        .with_ice_servers(servers.collect())
        .with_ice_transport_policy(policy)
        .build();
    let connection = PeerConnectionBuilder::new()
        .with_setting_engine(engine)
        .with_configuration(configuration)
        .with_media_engine(media)
        .with_interceptor_registry(interceptors)
        .with_handler(Arc::new(callbacks))
        .with_udp_addrs(vec![settings.bind])
        .build()
        .await?;
    Ok(Arc::new(connection))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open() -> Link {
        let bind = ([127, 0, 0, 1], 0).into();
        Link::open(&Settings { bind, ..Settings::default() }).await.unwrap()
    }

    /// The answer that somebody gives to an offer, and to which it says that it is.
    async fn answered(offer: &str) -> (Checked, String) {
        let mut other = open().await;
        let answer = other.answer(description::check(offer).unwrap()).await.unwrap();
        other.close().await;
        let Signal::Answer { sdp, offer: Some(offer) } = answer else { panic!("{answer:?}") };
        (description::check(&sdp).unwrap(), offer)
    }

    #[tokio::test]
    async fn an_answer_to_another_offer_is_refused_and_the_right_one_taken_after_it() {
        let (mut before, mut now) = (open().await, open().await);
        let (first, second) = (before.offer(false).await.unwrap(), now.offer(false).await.unwrap());
        let (answer, to) = answered(&first).await;
        assert!(matches!(now.answered(Some(&to), answer).await, Err(Refused::OutOfTurn)));
        let (answer, to) = answered(&second).await;
        now.answered(Some(&to), answer).await.unwrap();
        // Said again it answers nothing.
        let (answer, to) = answered(&second).await;
        assert!(matches!(now.answered(Some(&to), answer).await, Err(Refused::OutOfTurn)));
        before.close().await;
        now.close().await;
    }
}
