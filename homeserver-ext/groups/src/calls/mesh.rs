//! The whole of one device's part in a call: pairs, the way to a server, the beat of 20 ms, and two
//! queues.
//!
//! Nothing that a peer does is waited for: pairs run beside each other, and what one of them cannot
//! take in time it loses. All that happens is told in a queue; while nobody takes from it, pairs
//! wait and sound goes on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use causeway_protocol::ids::DeviceId;
use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use super::{
    Settings,
    early::Early,
    happened::{Happened, Input, StartError},
    pair::{Pair, Told},
    quality::Quality,
    sfu::{Access, Carried, Named, Of, Served, Tells},
    signal::{Reason, Refused, Signal},
    sound::{Sink, Source},
    studio::{FRAMES, Frame, SharedVoice, Studio, with},
    voice::Voice,
};

/// The most that one device connects to; what a server says beyond is not believed.
const PEERS: usize = 15;
const SIGNALS: usize = 32;
const QUEUE: usize = 64;
const BEAT: Duration = Duration::from_millis(20);
/// Behind by more than this, the beat begins anew.
const BEHIND: Duration = Duration::from_millis(400);
const LEVELS_EVERY: u32 = 25;
const BROUGHT_EVERY: u32 = 5;
/// How long goodbyes and closing may take.
const ENDING: Duration = Duration::from_secs(5);

/// One device's part in a call, which each has with each, or a server for all, or both.
pub struct Mesh {
    me: DeviceId,
    settings: Arc<Settings>,
    epoch: Option<u32>,
    peers: BTreeMap<DeviceId, Peer>,
    carried: Carried,
    /// Of everybody, whichever way it comes.
    voices: BTreeMap<DeviceId, SharedVoice>,
    early: Early,
    studio: Studio,
    inputs: mpsc::Receiver<Input>,
    happened: mpsc::Sender<Happened>,
    /// What is to be told next; what comes from pairs is taken only while there is room.
    out: VecDeque<Happened>,
    told: mpsc::Receiver<(DeviceId, Told)>,
    to_told: mpsc::Sender<(DeviceId, Told)>,
    served: mpsc::Receiver<Of>,
    to_served: mpsc::Sender<Of>,
    pairs: FuturesUnordered<BoxFuture<'static, ()>>,
    beats: u32,
    /// When everything is to be over, once it ends.
    ending: Option<Instant>,
}

struct Peer {
    signals: mpsc::Sender<Signal>,
    frames: mpsc::Sender<Frame>,
    connected: bool,
}

enum Step {
    Input(Input),
    Told(DeviceId, Told),
    Served(Of),
    /// Something can be told.
    Room,
    /// Nobody is told any more.
    Unheard,
    /// How late it is.
    Beat(Duration),
    /// A pair has closed.
    Closed,
    Expired,
    Over,
}

impl Mesh {
    /// A mesh with nobody in it yet, the queue into it and the one out of it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(
        me: DeviceId,
        settings: Settings,
        source: Source,
        sink: Sink,
    ) -> Result<(Self, mpsc::Sender<Input>, mpsc::Receiver<Happened>), StartError> {
        if settings.is_relayed() && !settings.has_relay() {
            return Err(StartError::NoRelay);
        }
        let studio = Studio::new(&settings, source, sink)
            .map_err(|error| StartError::Opus(error.to_string()))?;
        let (to_inputs, inputs) = mpsc::channel(QUEUE);
        let (happened, from_happened) = mpsc::channel(QUEUE);
        let (to_told, told) = mpsc::channel(QUEUE);
        let (to_served, served) = mpsc::channel(QUEUE);
        let mesh = Self {
            me,
            settings: Arc::new(settings),
            epoch: None,
            peers: BTreeMap::new(),
            carried: Carried::new(),
            voices: BTreeMap::new(),
            early: Early::default(),
            studio,
            inputs,
            happened,
            out: VecDeque::new(),
            told,
            to_told,
            served,
            to_served,
            pairs: FuturesUnordered::new(),
            beats: 0,
            ending: None,
        };
        Ok((mesh, to_inputs, from_happened))
    }

    /// Runs until [`Input::Leave`], or until nobody holds a queue's other end any more.
    ///
    /// Dropped before it has ended it says goodbye to nobody, and its sockets stay until the runtime
    /// that it ran on is shut down.
    ///
    /// # Errors
    /// What was heard could not be written to its end.
    pub async fn run(mut self) -> io::Result<()> {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !self.is_over() {
            match self.next(&mut beat).await {
                Step::Input(input) => self.take(input),
                Step::Told(peer, told) => self.heard(peer, told),
                Step::Served((None, served)) => self.out.push_back(Happened::Served(served)),
                Step::Served((Some(focus), served)) => {
                    self.out.push_back(Happened::Abroad(focus.to_string(), served));
                }
                Step::Room => {
                    // Nobody else sends there, so that there still is room.
                    let next = self.out.pop_front();
                    next.map(|next| self.happened.try_send(next).ok());
                }
                Step::Unheard => {
                    self.end();
                    self.out.clear();
                }
                Step::Beat(behind) => {
                    if behind > BEHIND {
                        beat.reset();
                    }
                    self.beat();
                }
                Step::Closed => {}
                Step::Expired => self.expire(),
                Step::Over => break,
            }
        }
        self.studio.finish()
    }

    async fn next(&mut self, beat: &mut Interval) -> Step {
        let goes_on = self.ending.is_none();
        tokio::select! {
            input = self.inputs.recv(), if goes_on => Step::Input(input.unwrap_or(Input::Leave)),
            Some((peer, told)) = self.told.recv(), if self.out.len() < QUEUE => {
                Step::Told(peer, told)
            }
            Some(served) = self.served.recv(), if self.out.len() < QUEUE => Step::Served(served),
            room = self.happened.reserve(), if !self.out.is_empty() => {
                if room.is_ok() { Step::Room } else { Step::Unheard }
            }
            due = beat.tick(), if goes_on => Step::Beat(due.elapsed()),
            Some(()) = self.pairs.next(), if !self.pairs.is_empty() => Step::Closed,
            () = at(self.early.deadline()) => Step::Expired,
            () = at(self.ending) => Step::Over,
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Participants { epoch, devices } => self.participants(epoch, devices),
            Input::Signal { from, epoch, signal } => self.signal(from, epoch, signal),
            Input::Named { epoch, who } => self.named(epoch, who),
            Input::Server(access) => self.server(None, access),
            Input::Abroad(focus, access) => self.server(Some(focus.into()), access),
            Input::Given { to, index, giving } => self.carried.given(to, index, giving),
            Input::Seal(is_sealed) => self.carried.seal(is_sealed),
            Input::Mute(muted) => {
                self.studio.mute(muted);
                self.carried.mute(muted);
            }
            Input::Leave => self.end(),
        }
    }

    fn participants(&mut self, epoch: u32, devices: Vec<DeviceId>) {
        self.epoch = Some(epoch);
        let devices: BTreeSet<_> =
            devices.into_iter().filter(|device| *device != self.me).collect();
        // Letting go of its queue ends a pair.
        self.peers.retain(|device, _| devices.contains(device));
        for device in devices {
            if !self.peers.contains_key(&device) && self.peers.len() < PEERS {
                self.connect(device);
            }
        }
        self.forget_voices();
        self.progress();
        self.take_early();
    }

    fn named(&mut self, epoch: u32, mut who: Vec<Named>) {
        self.epoch = Some(epoch);
        who.retain(|named| named.device != self.me);
        for named in &who {
            self.voice(named.device);
        }
        let voices = &self.voices;
        let said = self.carried.name(epoch, who, |device| voices.get(&device).cloned());
        let say = |(to, signal)| Happened::Say { to, epoch, signal };
        self.out.extend(said.into_iter().map(say));
        self.forget_voices();
        self.take_early();
    }

    fn server(&mut self, focus: Option<Arc<str>>, access: Option<Box<Access>>) {
        match access {
            Some(access) => {
                let tells = Tells { focus, to: self.to_served.clone() };
                let going = self.carried.connect(*access, Arc::clone(&self.settings), tells);
                self.pairs.extend(going);
            }
            None => self.carried.disconnect(focus.as_deref()),
        }
    }

    fn take_early(&mut self) {
        for (from, epoch, signal) in self.early.take() {
            self.signal(from, epoch, signal);
        }
    }

    fn voice(&mut self, device: DeviceId) -> SharedVoice {
        let new = || SharedVoice::new(Voice::new().into());
        Arc::clone(self.voices.entry(device).or_insert_with(new))
    }

    fn forget_voices(&mut self) {
        let (peers, carried) = (&self.peers, self.carried.devices());
        self.voices.retain(|device, _| peers.contains_key(device) || carried.contains(device));
    }

    fn connect(&mut self, device: DeviceId) {
        let (to_signals, signals) = mpsc::channel(SIGNALS);
        let (to_frames, frames) = mpsc::channel(FRAMES);
        let voice = self.voice(device);
        let pair = Pair::new(
            (self.me, device),
            Arc::clone(&self.settings),
            voice,
            signals,
            frames,
            self.to_told.clone(),
        );
        self.pairs.push(Box::pin(pair.run()));
        let peer = Peer { signals: to_signals, frames: to_frames, connected: false };
        self.peers.insert(device, peer);
    }

    /// Takes what a device of this epoch or the one before says; keeps what is early.
    fn signal(&mut self, from: DeviceId, epoch: u32, signal: Signal) {
        let now = self.epoch.unwrap_or_default();
        let taken = match self.peers.get(&from) {
            _ if epoch.saturating_add(1) < now => Err(Refused::Stale(epoch, now)),
            _ if matches!(&signal, Signal::Key { index, key } if epoch <= now
                && self.carried.give(from, *index, key)) =>
            {
                Ok(())
            }
            Some(_) if matches!(signal, Signal::Key { .. }) => self.early.keep(from, epoch, signal),
            Some(peer) if epoch <= now => {
                peer.signals.try_send(signal).map_err(|_| Refused::TooMany)
            }
            _ => self.early.keep(from, epoch, signal),
        };
        if let Err(why) = taken {
            self.note(Happened::Refused(from, why));
        }
    }

    fn heard(&mut self, from: DeviceId, told: Told) {
        let epoch = self.epoch.unwrap_or_default();
        // What was told before it was let go of concerns nobody.
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let was = peer.connected;
        match told {
            Told::Connected => peer.connected = true,
            Told::Broken | Told::Failed => peer.connected = false,
            Told::Say(_) | Told::Refused(_) => {}
        }
        let is = peer.connected;
        self.out.push_back(match told {
            Told::Say(signal) => Happened::Say { to: from, epoch, signal },
            Told::Connected => Happened::Connected(from),
            Told::Broken => Happened::Broken(from),
            Told::Failed => Happened::Failed(from),
            Told::Refused(why) => Happened::Refused(from, why),
        });
        if was != is {
            self.progress();
        }
    }

    fn beat(&mut self) {
        if let Some(frame) = self.studio.record() {
            for peer in self.peers.values().filter(|peer| peer.connected) {
                peer.frames.try_send(frame.clone()).ok();
            }
            self.carried.send(&frame);
        }
        let voices = self.voices.iter().map(|(device, voice)| (*device, voice));
        if let Err(error) = self.studio.play(voices) {
            self.studio.drop_sink();
            self.note(Happened::SinkFailed(error.kind()));
        }
        self.beats = self.beats.wrapping_add(1);
        if self.beats.is_multiple_of(BROUGHT_EVERY)
            && self.out.len() < QUEUE
            && let Some(brought) = self.carried.brings()
        {
            self.out.push_back(Happened::Served(Served::Brings(brought)));
        }
        if self.beats.is_multiple_of(LEVELS_EVERY) {
            let levels = self.studio.take_levels();
            self.note(Happened::Levels(levels));
            let take =
                |(device, voice): (&DeviceId, _)| (*device, with(voice, Voice::take_quality));
            let qualities = self.voices.iter().map(take);
            let qualities = qualities.filter(|(_, quality)| *quality != Quality::default());
            self.note(Happened::Quality(qualities.collect()));
        }
    }

    fn progress(&mut self) {
        let connected = self.peers.values().filter(|peer| peer.connected).count();
        self.out.push_back(Happened::Progress(connected, self.peers.len()));
    }

    fn expire(&mut self) {
        for from in self.early.expire() {
            self.note(Happened::Refused(from, Refused::Stranger));
        }
    }

    /// Tells what may be left out where nobody listens.
    fn note(&mut self, happened: Happened) {
        if self.out.len() < QUEUE {
            self.out.push_back(happened);
        }
    }

    fn end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Instant::now() + ENDING);
        self.carried.disconnect_all();
        let epoch = self.epoch.unwrap_or_default();
        let bye = |to| Happened::Say { to, epoch, signal: Signal::Bye { reason: Reason::Left } };
        self.out.extend(std::mem::take(&mut self.peers).into_keys().map(bye));
    }

    fn is_over(&self) -> bool {
        self.ending.is_some() && self.pairs.is_empty() && self.out.is_empty()
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
