//! What goes to a server and what comes from there, beside what is agreed with it.
//!
//! Sound waits for nothing of that: while the line is being made anew, it goes on.

use std::sync::Arc;

use futures_util::{
    future::{AbortHandle, abortable},
    stream::{FuturesUnordered, StreamExt as _},
};
use rtc::rtp::{Header, Packet as RtpPacket};
use tokio::sync::{mpsc, watch};
use webrtc::{
    media_stream::{
        track_local::{TrackLocal as _, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::RTCPeerConnectionState,
};

use super::{
    super::{
        Settings,
        link::{OPUS, opus_track},
        studio::Frame,
    },
    Access, Over, Served,
    floor::{Packet, SharedFloor, on},
    session::{Heard, Session, Ways},
    tells::Tells,
};
use crate::entropy;

/// Tracks that are listened to at once.
const TRACKS: usize = 256;
const QUEUE: usize = 64;

/// What a connection to a server works with.
pub(super) struct Leg {
    pub(super) access: Access,
    pub(super) settings: Arc<Settings>,
    pub(super) floor: SharedFloor,
    pub(super) frames: mpsc::Receiver<Frame>,
    /// Let go of, it ends.
    pub(super) muted: watch::Receiver<bool>,
    pub(super) tells: Tells,
}

impl Leg {
    /// Connects and goes on until it is over, which it tells last.
    pub(super) async fn run(mut self) {
        let over = self.carry().await;
        on(&self.floor, |floor| floor.all_gone(self.tells.focus.as_deref()));
        self.tells.tell(Served::Over(over)).await;
    }

    async fn carry(&mut self) -> Over {
        let Ok(random) = entropy::bytes::<12>() else { return Over::NoSocket };
        let (ssrc, name) = random.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let ssrc = u32::from_be_bytes(*ssrc);
        // The server asks for it by this, and the track in the description has it.
        let cid = format!("mic_{}", hex::encode(name));
        let out = opus_track(&cid, ssrc);
        let (to_heard, heard) = mpsc::channel(QUEUE);
        let ways = Ways { tells: self.tells.clone(), heard: to_heard, muted: self.muted.clone() };
        let mut let_go = self.muted.clone();
        let track = (cid, Arc::clone(&out));
        let joined = tokio::select! {
            joined = Session::join(self.access.clone(), &self.settings, track, ways) => joined,
            () = ended(&mut let_go) => Err(Over::Left),
        };
        let (mut session, from_server) = match joined {
            Ok(joined) => joined,
            Err(over) => return over,
        };
        let floor = Arc::clone(&self.floor);
        let focus = self.tells.focus.clone();
        let (from_server, is_sealed) = (from_server.into(), self.access.is_sealed);
        let ear = Ear { floor, focus, from_server, is_sealed };
        let speaking = speak(&mut self.frames, session.publisher.state.clone(), out, ssrc);
        let over = tokio::select! {
            over = session.go_on() => over,
            never = speaking => match never {},
            never = listen(heard, ear) => match never {},
            () = ended(&mut let_go) => Over::Left,
        };
        session.close(over == Over::Left).await;
        over
    }
}

enum Never {}

/// Until nobody holds the other end any more.
async fn ended(muted: &mut watch::Receiver<bool>) {
    while muted.changed().await.is_ok() {}
}

/// Sends what is said here, once it can be.
async fn speak(
    frames: &mut mpsc::Receiver<Frame>,
    state: watch::Receiver<RTCPeerConnectionState>,
    out: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
) -> Never {
    while let Some(frame) = frames.recv().await {
        if *state.borrow() != RTCPeerConnectionState::Connected {
            continue;
        }
        let header = Header {
            version: 2,
            marker: frame.begins,
            payload_type: OPUS,
            sequence_number: frame.sequence,
            timestamp: frame.timestamp,
            ssrc,
            ..Default::default()
        };
        // A packet that cannot go out is lost, as on the way.
        out.write_rtp(RtpPacket { header, payload: frame.payload.to_vec().into() }).await.ok();
    }
    std::future::pending().await
}

/// A track that is listened to.
struct Listening {
    participant: String,
    identity: String,
    stop: AbortHandle,
}

/// Hands on what the others say.
async fn listen(mut heard: mpsc::Receiver<Heard>, ear: Ear) -> Never {
    let mut tracks: Vec<Listening> = Vec::new();
    let mut coming = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(next) = heard.recv() => match next {
                Heard::Track { participant, identity, is_sealed, track }
                    if tracks.len() < TRACKS =>
                {
                    // While a call turns to the clear some still seal what they send.
                    let is_sealed = ear.is_sealed || is_sealed;
                    let ear = Ear { is_sealed, ..ear.clone() };
                    let taking = ear.take(track, identity.clone());
                    let (taking, stop) = abortable(taking);
                    coming.push(taking);
                    tracks.push(Listening { participant, identity, stop });
                }
                Heard::Track { .. } => {}
                Heard::Gone(gone) => tracks.retain(|track| {
                    let stays = track.participant != gone;
                    if !stays {
                        track.stop.abort();
                        on(&ear.floor, |floor| floor.gone(ear.focus.as_deref(), &track.identity));
                    }
                    stays
                }),
            },
            // A track ends with its connection, or where it was stopped.
            Some(_) = coming.next(), if !coming.is_empty() => {}
            else => std::future::pending().await,
        }
    }
}

/// Where frames go, and how they are looked at.
#[derive(Clone)]
struct Ear {
    floor: SharedFloor,
    /// Of the server from which they come, where it is another homeserver's.
    focus: Option<Arc<str>>,
    from_server: Arc<[u8]>,
    is_sealed: bool,
}

impl Ear {
    async fn take(self, track: Arc<dyn TrackRemote>, identity: String) {
        while let Some(event) = track.poll().await {
            let TrackRemoteEvent::OnRtpPacket(rtp) = event else { continue };
            let packet = Packet {
                timestamp: rtp.header.timestamp,
                payload: &rtp.payload,
                from_server: &self.from_server,
                is_sealed: self.is_sealed,
                focus: self.focus.as_deref(),
            };
            on(&self.floor, |floor| floor.hear(&identity, &packet));
        }
    }
}
