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
        track_local::TrackLocal as _,
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::RTCPeerConnectionState,
};

use super::{
    super::{Settings, link::OPUS, studio::Frame},
    Access, Over, Served,
    floor::{Packet, SharedFloor, on},
    session::{Heard, Session, Ways},
    spoken::{Out, Wish},
    tells::Tells,
};

/// Tracks that are listened to at once.
const TRACKS: usize = 256;
const QUEUE: usize = 64;

/// 20 ms, sealed or not.
pub(super) struct Said {
    pub(super) is_sealed: bool,
    pub(super) frame: Frame,
}

/// What a connection to a server works with.
pub(super) struct Leg {
    pub(super) access: Access,
    pub(super) settings: Arc<Settings>,
    pub(super) floor: SharedFloor,
    pub(super) frames: mpsc::Receiver<Said>,
    /// Let go of, it ends.
    pub(super) wish: watch::Receiver<Wish>,
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
        let (to_heard, heard) = mpsc::channel(QUEUE);
        let (tells, wish) = (self.tells.clone(), self.wish.clone());
        let ways = Ways { tells, heard: to_heard, wish, floor: Arc::clone(&self.floor) };
        let mut let_go = self.wish.clone();
        let joined = tokio::select! {
            joined = Session::join(self.access.clone(), &self.settings, ways) => joined,
            () = ended(&mut let_go) => Err(Over::Left),
        };
        let (mut session, from_server) = match joined {
            Ok(joined) => joined,
            Err(over) => return over,
        };
        let floor = Arc::clone(&self.floor);
        let focus = self.tells.focus.clone();
        let (from_server, wish) = (from_server.into(), self.wish.clone());
        let ear = Ear { floor, focus, from_server, wish, is_sealed: true };
        let (state, outs) = (session.publisher.state.clone(), session.spoken.outs());
        let speaking = speak(&mut self.frames, state, outs);
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
async fn ended(wish: &mut watch::Receiver<Wish>) {
    while wish.changed().await.is_ok() {}
}

/// Sends what is said here, once it can be.
async fn speak(
    frames: &mut mpsc::Receiver<Said>,
    state: watch::Receiver<RTCPeerConnectionState>,
    outs: watch::Receiver<Vec<Out>>,
) -> Never {
    while let Some(Said { is_sealed, frame }) = frames.recv().await {
        let out = outs.borrow().iter().find(|out| out.is_sealed == is_sealed).cloned();
        let Some(Out { ssrc, track, .. }) = out else { continue };
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
        track.write_rtp(RtpPacket { header, payload: frame.payload.to_vec().into() }).await.ok();
    }
    std::future::pending().await
}

/// A track that is listened to.
struct Listening {
    participant: String,
    sid: String,
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
                Heard::Track { participant, sid, identity, is_sealed, track }
                    if tracks.len() < TRACKS =>
                {
                    let ear = Ear { is_sealed, ..ear.clone() };
                    let taking = ear.take(track, identity.clone());
                    let (taking, stop) = abortable(taking);
                    coming.push(taking);
                    tracks.push(Listening { participant, sid, identity, stop });
                }
                Heard::Track { .. } => {}
                Heard::Ended(sid) => tracks.retain(|track| {
                    let stays = track.sid != sid;
                    if !stays {
                        track.stop.abort();
                    }
                    stays
                }),
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
    wish: watch::Receiver<Wish>,
    /// Whether its sender seals what comes by it.
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
                focus: self.focus.as_deref(),
                is_sealed: self.is_sealed || !self.wish.borrow().hears_clear(),
            };
            on(&self.floor, |floor| floor.hear(&identity, &packet));
        }
    }
}
