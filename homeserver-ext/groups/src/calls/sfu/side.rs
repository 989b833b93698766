//! One of the two WebRTC connections to an SFU: one brings sound there, the other from there.
//!
//! As in a pair, what the library calls back with goes into short queues that are never waited for.

use std::{sync::Arc, time::Duration};

use livekit_protocol::{IceServer, SignalTarget};
use rtc::{
    ice::mdns::MulticastDnsMode,
    peer_connection::configuration::RTCOfferOptions,
    rtp_transceiver::rtp_sender::{RTCRtpCodecParameters, RtpCodecKind},
};
use tokio::sync::{mpsc, watch};
use webrtc::{
    error::Error,
    media_stream::track_remote::TrackRemote,
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceServer, RTCPeerConnectionIceEvent,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder,
        register_default_interceptors,
    },
};

use super::{
    super::{
        Settings, Transport,
        description::without_candidates,
        link::{OPUS, opus},
    },
    Whose,
};
use crate::public::is_public;

/// Bytes of a description, its lines and its sections: a call has 256 participants at most.
const SDP_MAX: usize = 512 * 1024;
const LINES_MAX: usize = 16_384;
const SECTIONS_MAX: usize = 600;
/// Candidates for one description, and bytes of one.
const CANDIDATES: usize = 64;
const CANDIDATE_MAX: usize = 2048;
/// STUN and TURN servers that a server may name, and URLs of one.
const SERVERS: usize = 8;
/// Tracks that wait to be looked at.
const TRACKS: usize = 256;

/// The library says no, or what came is nothing for it; nothing in it says where.
#[derive(Debug)]
pub(super) struct Unusable;

pub(super) struct Side {
    connection: Arc<dyn PeerConnection>,
    whose: Whose,
    transport: Transport,
    pub(super) candidates: mpsc::Receiver<String>,
    pub(super) tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
    pub(super) state: watch::Receiver<RTCPeerConnectionState>,
    /// Candidates that came before the description to which they belong, and how many came.
    early: Vec<RTCIceCandidateInit>,
    came: usize,
    is_described: bool,
}

struct Callbacks {
    transport: Transport,
    candidates: mpsc::Sender<String>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
    state: watch::Sender<RTCPeerConnectionState>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Callbacks {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        // Where it is tried whether the server's addresses are right it is not to come here by itself.
        let init = event.candidate.to_json().ok().filter(|_| self.transport == Transport::Usual);
        if let Some(json) = init.and_then(|init| serde_json::to_string(&init).ok()) {
            self.candidates.try_send(json).ok();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tracks.try_send(track).ok();
    }
}

impl Side {
    pub(super) async fn open(
        settings: &Settings,
        whose: Whose,
        servers: &[IceServer],
    ) -> Result<Self, Unusable> {
        let (to_candidates, candidates) = mpsc::channel(CANDIDATES);
        let (to_tracks, tracks) = mpsc::channel(TRACKS);
        let (to_state, state) = watch::channel(RTCPeerConnectionState::New);
        let transport = settings.transport;
        let callbacks =
            Callbacks { transport, candidates: to_candidates, tracks: to_tracks, state: to_state };
        let servers = ice_servers(servers, whose);
        let connection = connect(settings, servers, callbacks).await.map_err(unusable)?;
        let (early, came, is_described) = (Vec::new(), 0, false);
        Ok(Self {
            connection,
            whose,
            transport,
            candidates,
            tracks,
            state,
            early,
            came,
            is_described,
        })
    }

    pub(super) fn connection(&self) -> &dyn PeerConnection {
        self.connection.as_ref()
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.state.borrow() == RTCPeerConnectionState::Connected
    }

    /// Describes this side.
    pub(super) async fn offer(&mut self, restart: bool) -> Result<String, Unusable> {
        let options = RTCOfferOptions { ice_restart: restart };
        let offer = self.connection.create_offer(Some(options)).await.map_err(unusable)?;
        let sdp = self.said(&offer.sdp);
        self.connection.set_local_description(offer).await.map_err(unusable)?;
        if restart {
            self.is_described = false;
            self.came = 0;
        }
        Ok(sdp)
    }

    /// Takes the server's answer to the offer.
    pub(super) async fn answered(&mut self, sdp: &str) -> Result<(), Unusable> {
        let answer = RTCSessionDescription::answer(self.checked(sdp)?).map_err(unusable)?;
        self.describe(answer).await
    }

    /// Takes the server's offer, and answers it.
    pub(super) async fn answer(&mut self, sdp: &str) -> Result<String, Unusable> {
        let offer = RTCSessionDescription::offer(self.checked(sdp)?).map_err(unusable)?;
        self.describe(offer).await?;
        let answer = self.connection.create_answer(None).await.map_err(unusable)?;
        let sdp = self.said(&answer.sdp);
        self.connection.set_local_description(answer).await.map_err(unusable)?;
        Ok(sdp)
    }

    /// Takes a way on which the server may be reached; one that is of no use is passed over.
    pub(super) async fn add(&mut self, json: &str) {
        let init = candidate(json, self.whose).filter(|_| self.came < CANDIDATES);
        let init = init.filter(|init| may_go(self.transport, &init.candidate));
        let Some(init) = init else { return };
        self.came += 1;
        if self.is_described {
            self.connection.add_ice_candidate(init).await.ok();
        } else {
            self.early.push(init);
        }
    }

    /// Takes other STUN and TURN servers: what lets one in there lives for minutes.
    pub(super) async fn configure(&self, servers: &[IceServer]) -> Result<(), Unusable> {
        // The library takes no configuration without the certificates that it has.
        let certificates = self.connection.get_configuration().await.certificates().to_vec();
        let configuration = RTCConfigurationBuilder::new()
            .with_ice_servers(ice_servers(servers, self.whose))
            .with_certificates(certificates)
            .build();
        self.connection.set_configuration(configuration).await.map_err(unusable)
    }

    pub(super) async fn close(self) {
        self.connection.close().await.ok();
    }

    async fn describe(&mut self, description: RTCSessionDescription) -> Result<(), Unusable> {
        self.connection.set_remote_description(description).await.map_err(unusable)?;
        self.is_described = true;
        self.came = self.early.len();
        for init in std::mem::take(&mut self.early) {
            self.connection.add_ice_candidate(init).await.ok();
        }
        Ok(())
    }

    /// Where not all ways are used candidates are looked at one by one, and none are told.
    fn said(&self, sdp: &str) -> String {
        match self.transport {
            Transport::Usual => sdp.to_owned(),
            Transport::Udp | Transport::Tcp => without_candidates(sdp),
        }
    }

    fn checked(&self, sdp: &str) -> Result<String, Unusable> {
        let lines = || sdp.lines();
        let fits = sdp.len() <= SDP_MAX
            && sdp.starts_with("v=0")
            && lines().count() <= LINES_MAX
            && lines().filter(|line| line.starts_with("m=")).count() <= SECTIONS_MAX
            // Keys for SRTP without DTLS.
            && !lines().any(|line| line.starts_with("a=crypto:"));
        match self.whose {
            _ if !fits => Err(Unusable),
            Whose::Home => Ok(self.said(sdp)),
            // Those that count come by themselves, where each is looked at.
            Whose::Foreign => Ok(without_candidates(sdp)),
        }
    }
}

// Texts of the library have addresses and parts of descriptions in them.
fn unusable(_: Error) -> Unusable {
    Unusable
}

pub(super) fn is_publisher(target: i32) -> bool {
    target == SignalTarget::Publisher as i32
}

fn may_go(by: Transport, candidate: &str) -> bool {
    let is_tcp = candidate.split(' ').nth(2).is_some_and(|it| it.eq_ignore_ascii_case("tcp"));
    match by {
        Transport::Usual => true,
        Transport::Udp => !is_tcp,
        Transport::Tcp => is_tcp,
    }
}

/// A candidate of the server: an address that may be asked whether it is there.
fn candidate(json: &str, whose: Whose) -> Option<RTCIceCandidateInit> {
    if json.len() > CANDIDATE_MAX {
        return None;
    }
    let init: RTCIceCandidateInit = serde_json::from_str(json).ok()?;
    let mut parts = init.candidate.strip_prefix("candidate:")?.split(' ').skip(4);
    let ip: std::net::IpAddr = parts.next()?.parse().ok()?;
    let port: u16 = parts.next()?.parse().ok()?;
    let may = port != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && (whose == Whose::Home || is_public(ip));
    may.then_some(init)
}

/// What a foreign server names is looked up by nobody: only addresses of everybody are taken.
fn ice_servers(servers: &[IceServer], whose: Whose) -> Vec<RTCIceServer> {
    let may = |url: &&String| {
        let host = url.split(':').nth(1).and_then(|host| host.parse().ok());
        url.len() <= 256 && (whose == Whose::Home || host.is_some_and(is_public))
    };
    let taken = servers.iter().take(SERVERS).map(|server| RTCIceServer {
        urls: server.urls.iter().take(SERVERS).filter(may).cloned().collect(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    taken.filter(|server| !server.urls.is_empty()).collect()
}

async fn connect(
    settings: &Settings,
    servers: Vec<RTCIceServer>,
    callbacks: Callbacks,
) -> Result<Arc<dyn PeerConnection>, Error> {
    let mut media = MediaEngine::default();
    // Nothing else is registered: the server unwraps what others send as RED, and no picture comes.
    let codec = RTCRtpCodecParameters { rtp_codec: opus(), payload_type: OPUS };
    media.register_codec(codec, RtpCodecKind::Audio)?;
    let interceptors = register_default_interceptors(Registry::new(), &mut media)?;
    let engine = SettingEngineBuilder::new()
        // The server's checks overtake its candidates: nothing would be nominated for a second.
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build();
    let connection = PeerConnectionBuilder::new()
        .with_setting_engine(engine)
        .with_configuration(RTCConfigurationBuilder::new().with_ice_servers(servers).build())
        .with_media_engine(media)
        .with_interceptor_registry(interceptors)
        .with_handler(Arc::new(callbacks))
        .with_udp_addrs(vec![settings.bind])
        // The library goes out by TCP only from where it also listens.
        .with_tcp_addrs(match settings.transport {
            Transport::Tcp => vec![settings.bind],
            Transport::Usual | Transport::Udp => Vec::new(),
        })
        .build()
        .await?;
    Ok(Arc::new(connection))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate_of(address: &str) -> String {
        format!(
            r#"{{"candidate":"candidate:1 1 udp 1 {address} 9 typ host","sdpMid":"0","sdpMLineIndex":0}}"#
        )
    }

    #[test]
    fn a_foreign_server_cannot_have_this_device_ask_at_private_addresses() {
        assert!(candidate(&candidate_of("1.1.1.1"), Whose::Foreign).is_some());
        for address in ["10.0.0.1", "127.0.0.1", "::1", "fe80::1", "a.example"] {
            assert!(candidate(&candidate_of(address), Whose::Foreign).is_none(), "{address}");
        }
        assert!(candidate(&candidate_of("10.0.0.1"), Whose::Home).is_some());
        for json in ["", "{}", "[]", &candidate_of("0.0.0.0"), &candidate_of(&"1".repeat(5000))] {
            assert!(candidate(json, Whose::Home).is_none(), "{json}");
        }
    }

    #[test]
    fn a_foreign_server_cannot_have_names_looked_up() {
        let server = IceServer {
            urls: ["stun:10.0.0.1:3478", "turn:a.example:3478", "stun:1.1.1.1:3478"]
                .map(String::from)
                .to_vec(),
            ..Default::default()
        };
        let urls = |whose| -> Vec<_> {
            let servers = ice_servers(std::slice::from_ref(&server), whose);
            servers.into_iter().flat_map(|server| server.urls).collect()
        };
        assert_eq!(urls(Whose::Foreign), ["stun:1.1.1.1:3478"]);
        assert_eq!(urls(Whose::Home).len(), 3);
        assert!(ice_servers(&vec![server.clone(); 100], Whose::Home).len() <= SERVERS);
    }
}
