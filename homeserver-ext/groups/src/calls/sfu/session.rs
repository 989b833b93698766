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
    IceServer, JoinResponse, LeaveRequest, ReconnectResponse, SessionDescription, SyncState,
    TrackPublishedResponse, TrickleRequest, UpdateSubscription, leave_request::Action,
    signal_request::Message as Request, signal_response::Message as Response,
};
use reqwest::StatusCode;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use webrtc::{
    media_stream::track_remote::TrackRemote,
    peer_connection::RTCPeerConnectionState,
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};
use zeroize::Zeroizing;

use super::{
    super::Settings,
    Access, Over, Served,
    floor::{SharedFloor, on},
    roster::Roster,
    side::{Side, Unusable, is_publisher},
    spoken::{NoTrack, Spoken, Wish},
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
    Track {
        participant: String,
        sid: String,
        identity: String,
        is_sealed: bool,
        track: Arc<dyn TrackRemote>,
    },
    /// A participant, by the server's name alone.
    Gone(String),
    /// A track of somebody who stays.
    Ended(String),
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

impl From<NoTrack> for Trouble {
    fn from(_: NoTrack) -> Self {
        Self::Over(Over::Ended)
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
    pub(super) wish: watch::Receiver<Wish>,
    pub(super) floor: SharedFloor,
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
    /// What this device says.
    pub(super) spoken: Spoken,
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
    Wished,
    /// What was said before a turn may end.
    Turned,
    Never,
}

impl Session {
    /// Joins; and how those frames end that the server makes itself.
    pub(super) async fn join(
        access: Access,
        settings: &Settings,
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
            spoken: Spoken::new(),
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
        let mut trouble = self.wish().await.err();
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
        let turned = self.turned_at();
        tokio::select! {
            came = self.wire.next() => Step::Wire(came),
            Some(json) = self.publisher.candidates.recv() => Step::Candidate(true, json),
            Some(json) = self.subscriber.candidates.recv() => Step::Candidate(false, json),
            Some(track) = self.subscriber.tracks.recv() => Step::Track(track),
            Ok(()) = self.publisher.state.changed() => {
                Step::State(*self.publisher.state.borrow_and_update())
            }
            changed = self.ways.wish.changed() => match changed {
                Ok(()) => Step::Wished,
                // Whoever runs this sees the same, and ends it.
                Err(_) => Step::Never,
            },
            () = at(turned) => Step::Turned,
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
            Step::Wished => self.wish().await?,
            Step::Turned => self.end_other().await?,
            Step::Never => std::future::pending().await,
        }
        Ok(())
    }

    async fn hear(&mut self, message: Response) -> Result<(), Trouble> {
        match message {
            Response::Offer(offer) => {
                let sdp = self.subscriber.answer(&offer.sdp).await?;
                let answer = describe("answer", sdp, offer.id);
                self.wire.send(Request::Answer(answer)).await?;
            }
            // One to a former offer says nothing any more.
            Response::Answer(answer) if answer.id == self.offers => {
                self.publisher.answered(&answer.sdp).await?;
                self.spoken.answered();
            }
            Response::Trickle(trickle) => {
                let publisher = is_publisher(trickle.target);
                let side = if publisher { &mut self.publisher } else { &mut self.subscriber };
                side.add(&trickle.candidate_init).await;
            }
            Response::TrackPublished(named) => self.named(named).await?,
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

    /// Asks to be heard, as is wished now; the offer follows once the server has a name for it.
    async fn wish(&mut self) -> Result<(), Trouble> {
        let wish = *self.ways.wish.borrow_and_update();
        // Where one only listens there is nothing to be heard.
        if !self.access.speaks {
            return Ok(());
        }
        if let Some(request) = self.spoken.wish(wish)? {
            self.wire.send(Request::AddTrack(request)).await?;
        }
        self.mute().await
    }

    /// Asks for what others say, and for nothing else that they send: pictures are nothing for this device,
    /// and a description with them would be none that it can answer.
    async fn subscribe(&mut self) -> Result<(), Trouble> {
        let speech = self.roster.speech_of_others(&self.sid);
        let new: Vec<_> = speech.difference(&self.subscribed).cloned().collect();
        for ended in self.subscribed.difference(&speech) {
            self.unnamed.retain(|(_, sid, _)| sid != ended);
            self.ways.heard.send(Heard::Ended(ended.clone())).await.ok();
        }
        self.subscribed = speech;
        if new.is_empty() {
            return Ok(());
        }
        let wanted = UpdateSubscription { track_sids: new, subscribe: true, ..Default::default() };
        Ok(self.wire.send(Request::Subscription(wanted)).await?)
    }

    async fn named(&mut self, named: TrackPublishedResponse) -> Result<(), Trouble> {
        let Some(out) = self.spoken.named(named) else { return Ok(()) };
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        let (connection, track) = (self.publisher.connection(), Arc::clone(&out.track));
        let added = connection.add_transceiver_from_track(track, Some(init)).await;
        let sender = added.map_err(|_| Unusable)?.sender().await.map_err(|_| Unusable)?;
        self.spoken.is_sent_by(&out, sender.ok_or(Unusable)?);
        self.mute().await?;
        self.offer(false).await
    }

    /// When what was said before a turn may end.
    fn turned_at(&self) -> Option<Instant> {
        let has_keys = |identity: &str| on(&self.ways.floor, |floor| floor.has_keys(identity));
        let has_guests = || self.roster.others(&self.sid).any(|identity| !has_keys(identity));
        self.spoken.ends_at(*self.ways.wish.borrow(), has_guests)
    }

    async fn end_other(&mut self) -> Result<(), Trouble> {
        let wish = *self.ways.wish.borrow();
        let Some(sender) = self.spoken.end_other(wish) else { return Ok(()) };
        self.publisher.connection().remove_track(&sender).await.map_err(|_| Unusable)?;
        self.offer(false).await
    }

    async fn offer(&mut self, restart: bool) -> Result<(), Trouble> {
        let sdp = self.publisher.offer(restart).await?;
        self.offers = self.offers.wrapping_add(1);
        Ok(self.wire.send(Request::Offer(describe("offer", sdp, self.offers))).await?)
    }

    async fn mute(&mut self) -> Result<(), Trouble> {
        let muted = self.ways.wish.borrow().muted;
        for mute in self.spoken.mute(muted) {
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
                    let heard = Heard::Track { participant, sid, identity, is_sealed, track };
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
        let state = SyncState {
            answer: local.map(|local| describe("answer", local.sdp, 0)),
            offer: remote.map(|remote| describe("offer", remote.sdp, 0)),
            subscription: Some(UpdateSubscription {
                track_sids: self.subscribed.iter().cloned().collect(),
                subscribe: true,
                ..Default::default()
            }),
            publish_tracks: self.spoken.all_named(),
            ..Default::default()
        };
        self.wire.send(Request::SyncState(state)).await?;
        if !self.access.speaks {
            return Ok(());
        }
        let unnamed = self.spoken.unnamed(self.ways.wish.borrow().muted);
        let is_named = unnamed.is_empty();
        for request in unnamed {
            self.wire.send(Request::AddTrack(request)).await?;
        }
        // The server restarts the other side itself. This one is restarted only where it is ill: it
        // may be silent for a second.
        if is_named && !self.publisher.is_connected() {
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
        let is_published = !self.spoken.all_named().is_empty() && self.publisher.is_connected();
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

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
