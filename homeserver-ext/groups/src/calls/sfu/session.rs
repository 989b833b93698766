//! What is agreed with a server: to join, to be heard, to hear, and to go on where the line was cut.
//!
//! The server is a LiveKit, spoken to as its own clients do in the mode with two connections: one
//! that it offers, with what the others say, and one that this side offers, with what is said here.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, IceServer, JoinResponse, LeaveRequest, MuteTrackRequest,
    ReconnectResponse, SessionDescription, SyncState, TrackInfo, TrackPublishedResponse,
    TrackSource, TrackType, TrickleRequest, UpdateSubscription, encryption, leave_request::Action,
    signal_request::Message as Request, signal_response::Message as Response,
};
use reqwest::StatusCode;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use webrtc::{
    media_stream::{track_local::static_rtp::TrackLocalStaticRTP, track_remote::TrackRemote},
    peer_connection::RTCPeerConnectionState,
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};
use zeroize::Zeroizing;

use super::{
    super::Settings,
    Access, Over, Served,
    roster::Roster,
    side::{Side, Unusable, is_publisher},
    tells::Tells,
    wire::{Came, Lost, NotOpened, Wire},
};

/// Resumes in [`STORM`], and tries for each.
const RESUMES: usize = 5;
const STORM: Duration = Duration::from_secs(30);
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Tracks that came before the server said whose they are.
const UNNAMED: usize = 256;

/// What is heard from a server.
pub(super) enum Heard {
    /// From whom, by the server's two names for it, whether he seals it, and what.
    Track { participant: String, identity: String, is_sealed: bool, track: Arc<dyn TrackRemote> },
    /// By the server's name alone.
    Gone(String),
}

/// Why it does not go on as it is.
enum Trouble {
    /// The line is gone; sound may live on.
    Lost,
    Over(Over),
}

impl From<Lost> for Trouble {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

impl From<Unusable> for Trouble {
    fn from(_: Unusable) -> Self {
        Self::Over(Over::NotUnderstood)
    }
}

impl From<NotOpened> for Over {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Address => Self::Address,
            NotOpened::Unreachable => Self::Unreachable,
            NotOpened::Refused(StatusCode::NOT_FOUND) => Self::RoomGone,
            NotOpened::Refused(status) => Self::Refused(status.as_u16()),
            NotOpened::Left(reason) => Self::of(reason),
        }
    }
}

/// Where what happens goes.
pub(super) struct Ways {
    pub(super) tells: Tells,
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) muted: watch::Receiver<bool>,
}

pub(super) struct Session {
    access: Access,
    token: Zeroizing<String>,
    wire: Wire,
    /// What the server calls this device.
    sid: String,
    pub(super) publisher: Side,
    subscriber: Side,
    roster: Roster,
    /// Tracks that were asked for.
    subscribed: BTreeSet<String>,
    /// What came, with the server's names for whom and what.
    unnamed: Vec<(String, String, Arc<dyn TrackRemote>)>,
    /// What this device says, and the name by which it is asked for.
    track: (String, Arc<TrackLocalStaticRTP>),
    published: Option<TrackInfo>,
    is_told: bool,
    offers: u32,
    resumes: VecDeque<Instant>,
    ways: Ways,
}

enum Step {
    Wire(Result<Came, Lost>),
    /// Of the publisher's side or not, as JSON.
    Candidate(bool, String),
    Track(Arc<dyn TrackRemote>),
    State(RTCPeerConnectionState),
    Muted,
    Never,
}

impl Session {
    /// Joins; and how those frames end that the server makes itself.
    pub(super) async fn join(
        access: Access,
        settings: &Settings,
        track: (String, Arc<TrackLocalStaticRTP>),
        ways: Ways,
    ) -> Result<(Self, Vec<u8>), Over> {
        let token = access.token.clone();
        let (wire, first) = Wire::open(&access, &token, None).await?;
        let Response::Join(join) = first else { return Err(Over::NotUnderstood) };
        let JoinResponse { participant, other_participants, ice_servers, sif_trailer, .. } = join;
        let sid = participant.map(|me| me.sid).unwrap_or_default();
        let open = |servers: Vec<IceServer>| async move {
            Side::open(settings, access.whose, &servers).await
        };
        let publisher = open(ice_servers.clone()).await.map_err(|Unusable| Over::NoSocket)?;
        let Ok(subscriber) = open(ice_servers).await else {
            publisher.close().await;
            return Err(Over::NoSocket);
        };
        let mut roster = Roster::default();
        roster.update(other_participants);
        let session = Self {
            token,
            wire,
            sid,
            publisher,
            subscriber,
            roster,
            subscribed: BTreeSet::new(),
            unnamed: Vec::new(),
            track,
            published: None,
            is_told: false,
            offers: 0,
            resumes: VecDeque::new(),
            ways,
            access,
        };
        Ok((session, sif_trailer))
    }

    /// Goes on until it is over.
    pub(super) async fn go_on(&mut self) -> Over {
        self.tell(Served::Joined).await;
        let mut trouble = None;
        if self.access.speaks {
            trouble = self.publish().await.err();
        }
        if trouble.is_none() {
            trouble = self.subscribe().await.err();
        }
        loop {
            match trouble.take() {
                None => {
                    let step = self.next().await;
                    trouble = self.take(step).await.err();
                }
                Some(Trouble::Lost) => {
                    self.tell(Served::Cut).await;
                    match self.resume().await {
                        Ok(()) => self.tell(Served::Resumed).await,
                        Err(over) => return over,
                    }
                }
                Some(Trouble::Over(over)) => return over,
            }
        }
    }

    /// Says goodbye, in a moment or not at all, and closes.
    pub(super) async fn close(mut self, says_so: bool) {
        if says_so {
            let leave = LeaveRequest {
                reason: livekit_protocol::DisconnectReason::ClientInitiated.into(),
                action: Action::Disconnect.into(),
                ..Default::default()
            };
            self.wire.send(Request::Leave(leave)).await.ok();
        }
        self.wire.close().await;
        self.publisher.close().await;
        self.subscriber.close().await;
    }

    async fn next(&mut self) -> Step {
        tokio::select! {
            came = self.wire.next() => Step::Wire(came),
            Some(json) = self.publisher.candidates.recv() => Step::Candidate(true, json),
            Some(json) = self.subscriber.candidates.recv() => Step::Candidate(false, json),
            Some(track) = self.subscriber.tracks.recv() => Step::Track(track),
            Ok(()) = self.publisher.state.changed() => {
                Step::State(*self.publisher.state.borrow_and_update())
            }
            changed = self.ways.muted.changed() => match changed {
                Ok(()) => Step::Muted,
                // Whoever runs this sees the same, and ends it.
                Err(_) => Step::Never,
            },
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), Trouble> {
        match step {
            Step::Wire(came) => match came? {
                Came::Message(message) => self.hear(*message).await?,
                Came::PingDue => self.wire.ping().await?,
            },
            Step::Candidate(of_publisher, candidate_init) => {
                let target = i32::from(!of_publisher);
                let trickle = TrickleRequest { candidate_init, target, r#final: false };
                self.wire.send(Request::Trickle(trickle)).await?;
            }
            Step::Track(track) => self.name(track).await,
            Step::State(RTCPeerConnectionState::Failed) => {
                self.count_storm().map_err(Trouble::Over)?;
                self.offer(true).await?;
            }
            Step::State(_) => self.tell_published().await,
            Step::Muted => self.mute().await?,
            Step::Never => std::future::pending().await,
        }
        Ok(())
    }

    async fn hear(&mut self, message: Response) -> Result<(), Trouble> {
        match message {
            Response::Offer(offer) => {
                let sdp = self.subscriber.answer(offer.sdp).await?;
                let answer = describe("answer", sdp, offer.id);
                self.wire.send(Request::Answer(answer)).await?;
            }
            // One to a former offer says nothing any more.
            Response::Answer(answer) if answer.id == self.offers => {
                self.publisher.answered(answer.sdp).await?;
            }
            Response::Trickle(trickle) => {
                let publisher = is_publisher(trickle.target);
                let side = if publisher { &mut self.publisher } else { &mut self.subscriber };
                side.add(&trickle.candidate_init).await;
            }
            Response::TrackPublished(published) => self.published(published).await?,
            Response::Update(update) => {
                for gone in self.roster.update(update.participants) {
                    self.unnamed.retain(|(participant, ..)| *participant != gone);
                    self.ways.heard.send(Heard::Gone(gone)).await.ok();
                }
                self.subscribe().await?;
                self.name_all().await;
            }
            Response::RefreshToken(token) => self.token = Zeroizing::new(token),
            Response::RequestResponse(refused) if refused.reason != 0 => {
                self.tell(Served::NotLetSpeak).await;
            }
            Response::Leave(leave) => {
                return Err(match leave.action() {
                    Action::Resume => Trouble::Lost,
                    Action::Disconnect | Action::Reconnect => {
                        Trouble::Over(Over::of(leave.reason()))
                    }
                });
            }
            // What it says of speakers, quality and rooms, this client knows by itself.
            _ => {}
        }
        Ok(())
    }

    /// Asks to be heard; the offer follows once the server has a name for it.
    async fn publish(&mut self) -> Result<(), Trouble> {
        let sealed =
            if self.access.is_sealed { encryption::Type::Gcm } else { encryption::Type::None };
        let request = AddTrackRequest {
            cid: self.track.0.clone(),
            name: "microphone".to_owned(),
            r#type: TrackType::Audio.into(),
            source: TrackSource::Microphone.into(),
            muted: *self.ways.muted.borrow_and_update(),
            disable_red: true,
            audio_features: vec![AudioTrackFeature::TfNoDtx.into()],
            encryption: sealed.into(),
            ..Default::default()
        };
        Ok(self.wire.send(Request::AddTrack(request)).await?)
    }

    /// Asks for what others say, and for nothing else that they send: pictures are nothing for this device,
    /// and a description with them would be none that it can answer.
    async fn subscribe(&mut self) -> Result<(), Trouble> {
        let speech = self.roster.speech_of_others(&self.sid);
        let new: Vec<_> = speech.difference(&self.subscribed).cloned().collect();
        self.subscribed = speech;
        if new.is_empty() {
            return Ok(());
        }
        let wanted = UpdateSubscription { track_sids: new, subscribe: true, ..Default::default() };
        Ok(self.wire.send(Request::Subscription(wanted)).await?)
    }

    async fn published(&mut self, published: TrackPublishedResponse) -> Result<(), Trouble> {
        let (Some(info), None) = (published.track, &self.published) else { return Ok(()) };
        if published.cid != self.track.0 {
            return Ok(());
        }
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        let track = Arc::clone(&self.track.1);
        let added = self.publisher.connection().add_transceiver_from_track(track, Some(init)).await;
        added.map_err(|_| Unusable)?;
        self.published = Some(info);
        self.mute().await?;
        self.offer(false).await
    }

    async fn offer(&mut self, restart: bool) -> Result<(), Trouble> {
        let sdp = self.publisher.offer(restart).await?;
        self.offers = self.offers.wrapping_add(1);
        Ok(self.wire.send(Request::Offer(describe("offer", sdp, self.offers))).await?)
    }

    async fn mute(&mut self) -> Result<(), Trouble> {
        let muted = *self.ways.muted.borrow_and_update();
        if let Some(info) = self.published.as_mut().filter(|info| info.muted != muted) {
            info.muted = muted;
            let mute = MuteTrackRequest { sid: info.sid.clone(), muted };
            self.wire.send(Request::Mute(mute)).await?;
        }
        Ok(())
    }

    /// A track is `PA_…|TR_…` to the server: a participant and what it says.
    async fn name(&mut self, track: Arc<dyn TrackRemote>) {
        let stream = track.stream_id().await;
        let (participant, sid) = stream.split_once('|').unwrap_or((&stream, ""));
        let sid = if sid.is_empty() { track.track_id().await } else { sid.to_owned() };
        if self.unnamed.len() < UNNAMED {
            self.unnamed.push((participant.to_owned(), sid, track));
        }
        self.name_all().await;
    }

    async fn name_all(&mut self) {
        for (participant, sid, track) in std::mem::take(&mut self.unnamed) {
            match self.roster.whose(&participant, &sid) {
                Some((identity, is_sealed)) => {
                    let identity = identity.to_owned();
                    let heard = Heard::Track { participant, identity, is_sealed, track };
                    self.ways.heard.send(heard).await.ok();
                }
                None => self.unnamed.push((participant, sid, track)),
            }
        }
    }

    /// The line is gone, the sound may be there still: a new line for the same participant.
    async fn resume(&mut self) -> Result<(), Over> {
        self.count_storm()?;
        let mut pause = FIRST_PAUSE;
        for _ in 0..TRIES {
            match Wire::open(&self.access, &self.token, Some(&self.sid)).await {
                Ok((mut wire, Response::Reconnect(answer))) => {
                    wire.as_before(&self.wire);
                    self.wire = wire;
                    match self.synchronise(answer).await {
                        Ok(()) => return Ok(()),
                        Err(Trouble::Over(over)) => return Err(over),
                        Err(Trouble::Lost) => {}
                    }
                }
                Ok(_) => return Err(Over::NotUnderstood),
                // Cut again before it was up.
                Err(NotOpened::Unreachable) => {}
                Err(why) => return Err(why.into()),
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(Over::Unreachable)
    }

    async fn synchronise(&mut self, answer: ReconnectResponse) -> Result<(), Trouble> {
        self.publisher.configure(&answer.ice_servers).await?;
        self.subscriber.configure(&answer.ice_servers).await?;
        let subscriber = self.subscriber.connection();
        let local = subscriber.current_local_description().await;
        let remote = subscriber.current_remote_description().await;
        let cid = &self.track.0;
        let published = self.published.iter().cloned();
        let state = SyncState {
            answer: local.map(|local| describe("answer", local.sdp, 0)),
            offer: remote.map(|remote| describe("offer", remote.sdp, 0)),
            subscription: Some(UpdateSubscription {
                track_sids: self.subscribed.iter().cloned().collect(),
                subscribe: true,
                ..Default::default()
            }),
            publish_tracks: published
                .map(|track| TrackPublishedResponse { cid: cid.clone(), track: Some(track) })
                .collect(),
            ..Default::default()
        };
        self.wire.send(Request::SyncState(state)).await?;
        if !self.access.speaks {
            return Ok(());
        }
        if self.published.is_none() {
            return self.publish().await;
        }
        // The server restarts the other side itself. This one is restarted only where it is ill: it
        // may be silent for a second.
        if !self.publisher.is_connected() {
            self.offer(true).await?;
        }
        self.mute().await
    }

    /// A line that comes up and falls at once is given up.
    fn count_storm(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        self.resumes.retain(|at| now.duration_since(*at) < STORM);
        if self.resumes.len() >= RESUMES {
            return Err(Over::Unreachable);
        }
        self.resumes.push_back(now);
        Ok(())
    }

    async fn tell_published(&mut self) {
        let is_published = self.published.is_some() && self.publisher.is_connected();
        if is_published && !self.is_told {
            self.is_told = true;
            self.tell(Served::Published).await;
        }
    }

    async fn tell(&mut self, served: Served) {
        self.ways.tells.tell(served).await;
    }
}

fn describe(kind: &str, sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: kind.to_owned(), sdp, id, ..Default::default() }
}
