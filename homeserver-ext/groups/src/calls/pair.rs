//! This device and one other: who offers, what comes of it, and when it is given up.
//!
//! The side with the higher public key offers, and restarts; the other answers. 30 seconds are
//! given to a connection, and 15 to each of two restarts when its path is gone.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use causeway_protocol::{call::offers, ids::DeviceId};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Settings, description,
    link::{Event, Link},
    signal::{Reason, Refused, Signal},
    studio::{Frame, SharedVoice, with},
};

const CONNECTING: Duration = Duration::from_secs(30);
const RESTARTING: Duration = Duration::from_secs(15);
const RESTARTS: u8 = 2;
/// Whoever waits for an offer says so anew after so long, and an offer that has had no answer for
/// [`UNANSWERED`] is then made anew: either may have been lost with a device that was stopped.
const ASKING: Duration = Duration::from_secs(7);
const UNANSWERED: Duration = Duration::from_secs(6);
/// New connections and restarts in a minute, by either side.
const BEGINNINGS: usize = 10;

/// What a pair tells the mesh.
#[derive(Debug)]
pub(super) enum Told {
    Say(Signal),
    Connected,
    Broken,
    Failed,
    Refused(Refused),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no connection, and none is being made.
    Idle,
    Connecting,
    Connected,
    /// How often it has been tried.
    Restarting(u8),
}

pub(super) struct Pair {
    offers: bool,
    peer: DeviceId,
    settings: Arc<Settings>,
    voice: SharedVoice,
    signals: mpsc::Receiver<Signal>,
    frames: mpsc::Receiver<Frame>,
    told: mpsc::Sender<(DeviceId, Told)>,
    link: Option<Link>,
    phase: Phase,
    deadline: Option<Instant>,
    /// When it last asked for an offer, or gave one.
    spoke: Instant,
    beginnings: VecDeque<Instant>,
}

enum Step {
    Signal(Signal),
    Link(Event),
    Frame(Frame),
    /// No offer has come.
    Ask,
    Late,
    Over,
}

impl Pair {
    pub(super) fn new(
        (me, peer): (DeviceId, DeviceId),
        settings: Arc<Settings>,
        voice: SharedVoice,
        signals: mpsc::Receiver<Signal>,
        frames: mpsc::Receiver<Frame>,
        told: mpsc::Sender<(DeviceId, Told)>,
    ) -> Self {
        Self {
            offers: offers(&me, &peer),
            peer,
            settings,
            voice,
            signals,
            frames,
            told,
            link: None,
            phase: Phase::Idle,
            deadline: None,
            spoke: Instant::now(),
            beginnings: VecDeque::new(),
        }
    }

    /// Goes on until the mesh lets go of its signals, and closes the connection then.
    pub(super) async fn run(mut self) {
        self.enter(Phase::Connecting);
        if self.offers {
            self.begin().await;
        } else {
            // The other may have a connection with what this device was before.
            self.ask().await;
        }
        loop {
            match self.next().await {
                Step::Signal(signal) => {
                    if let Err(why) = self.hear(signal).await {
                        self.tell(Told::Refused(why)).await;
                    }
                }
                Step::Link(event) => self.came(event).await,
                Step::Frame(frame) => {
                    if let (Some(link), Phase::Connected) = (&self.link, self.phase) {
                        link.send(frame).await;
                    }
                }
                Step::Ask => self.ask().await,
                Step::Late => self.late().await,
                Step::Over => break,
            }
        }
        self.close().await;
    }

    async fn next(&mut self) -> Step {
        let asks_at = self.asks_at();
        tokio::select! {
            signal = self.signals.recv() => signal.map_or(Step::Over, Step::Signal),
            event = event(self.link.as_mut()) => Step::Link(event),
            Some(frame) = self.frames.recv() => Step::Frame(frame),
            () = at(self.deadline) => Step::Late,
            () = at(asks_at) => Step::Ask,
        }
    }

    /// When to ask for an offer once more.
    fn asks_at(&self) -> Option<Instant> {
        let waits = !self.offers && self.link.is_none() && self.phase == Phase::Connecting;
        waits.then(|| self.spoke + ASKING)
    }

    async fn ask(&mut self) {
        self.spoke = Instant::now();
        self.tell(Told::Say(Signal::Bye { reason: Reason::Unknown })).await;
    }

    async fn hear(&mut self, signal: Signal) -> Result<(), Refused> {
        match signal {
            Signal::Offer { .. } if self.offers => Err(Refused::OutOfTurn),
            Signal::Offer { sdp, restart: false } => self.answer(&sdp).await,
            Signal::Offer { sdp, restart: true } => self.answer_restart(&sdp).await,
            Signal::Answer { sdp, offer } => {
                let checked = description::check(&sdp)?;
                let link = self.link.as_mut().filter(|_| self.offers).ok_or(Refused::OutOfTurn)?;
                link.answered(offer.as_deref(), checked).await
            }
            Signal::Ice { candidates } => {
                self.link.as_mut().ok_or(Refused::NoConnection)?.add(candidates).await
            }
            Signal::Bye { reason } => {
                self.goodbye(reason).await;
                Ok(())
            }
            // Of a server, which the mesh sees to.
            Signal::Key { .. } => Err(Refused::OutOfTurn),
        }
    }

    /// A new connection, in place of the one that may be there: it stays until this one is good.
    async fn answer(&mut self, sdp: &str) -> Result<(), Refused> {
        let checked = description::check(sdp)?;
        self.count_beginning()?;
        let mut link = Link::open(&self.settings).await.map_err(|_| Refused::Library)?;
        match link.answer(checked).await {
            Ok(answer) => {
                self.close().await;
                self.link = Some(link);
                self.enter(Phase::Connecting);
                self.tell(Told::Say(answer)).await;
                Ok(())
            }
            Err(why) => {
                link.close().await;
                Err(why)
            }
        }
    }

    async fn answer_restart(&mut self, sdp: &str) -> Result<(), Refused> {
        let checked = description::check(sdp)?;
        let Some(link) = self.link.as_mut().filter(|link| link.is_described()) else {
            // A device that was started anew does not know what was before.
            self.tell(Told::Say(Signal::Bye { reason: Reason::Unknown })).await;
            return Err(Refused::NoConnection);
        };
        count(&mut self.beginnings)?;
        let answer = link.answer(checked).await?;
        self.tell(Told::Say(answer)).await;
        Ok(())
    }

    async fn goodbye(&mut self, reason: Reason) {
        let is_offered = self.link.as_ref().is_some_and(|link| !link.is_described());
        let is_fresh = is_offered && self.spoke.elapsed() < UNANSWERED;
        if reason == Reason::Unknown && self.offers && is_fresh {
            // The offer that it does not know of yet is under way.
            return;
        }
        if self.phase == Phase::Connected {
            self.tell(Told::Broken).await;
        }
        self.close().await;
        let was = self.phase;
        match reason {
            Reason::Unknown if self.offers => self.begin().await,
            // Both are told that they do not hear each other.
            Reason::Failed if was != Phase::Idle => {
                self.enter(Phase::Idle);
                self.tell(Told::Failed).await;
            }
            // Whoever left is taken out of the call by its server; whoever stays offers again.
            Reason::Left | Reason::Unknown | Reason::Failed | Reason::Other => {
                self.enter(Phase::Idle);
            }
        }
    }

    async fn begin(&mut self) {
        if self.count_beginning().is_err() {
            return self.fail().await;
        }
        let Ok(mut link) = Link::open(&self.settings).await else { return self.fail().await };
        if let Ok(sdp) = link.offer(false).await {
            self.link = Some(link);
            self.spoke = Instant::now();
            self.enter(Phase::Connecting);
            self.tell(Told::Say(Signal::Offer { sdp, restart: false })).await;
        } else {
            link.close().await;
            self.fail().await;
        }
    }

    async fn came(&mut self, event: Event) {
        match (event, self.phase) {
            (Event::Candidates(candidates), _) if !candidates.is_empty() => {
                self.tell(Told::Say(Signal::Ice { candidates })).await;
            }
            (Event::Sound(timestamp, packet), _) => {
                with(&self.voice, |voice| voice.push(timestamp, &packet));
            }
            (Event::Connected, Phase::Connecting | Phase::Restarting(_)) => {
                self.enter(Phase::Connected);
                self.tell(Told::Connected).await;
            }
            (Event::Broken, Phase::Connected) => {
                self.tell(Told::Broken).await;
                self.restart(1).await;
            }
            (Event::Closed, Phase::Connected | Phase::Restarting(_)) => {
                self.tell(Told::Broken).await;
                self.close().await;
                if self.offers { self.begin().await } else { self.enter(Phase::Connecting) }
            }
            _ => {}
        }
    }

    async fn restart(&mut self, time: u8) {
        self.enter(Phase::Restarting(time));
        if !self.offers {
            return;
        }
        let Some(link) = self.link.as_mut() else { return self.fail().await };
        match link.offer(true).await {
            Ok(sdp) => self.tell(Told::Say(Signal::Offer { sdp, restart: true })).await,
            Err(_) => self.fail().await,
        }
    }

    async fn late(&mut self) {
        match self.phase {
            Phase::Restarting(time) if time < RESTARTS => self.restart(time + 1).await,
            Phase::Connecting | Phase::Restarting(_) => self.fail().await,
            Phase::Idle | Phase::Connected => self.deadline = None,
        }
    }

    async fn fail(&mut self) {
        self.close().await;
        self.enter(Phase::Idle);
        self.tell(Told::Say(Signal::Bye { reason: Reason::Failed })).await;
        self.tell(Told::Failed).await;
    }

    async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.deadline = match phase {
            Phase::Idle | Phase::Connected => None,
            Phase::Connecting => Some(Instant::now() + CONNECTING),
            Phase::Restarting(_) => Some(Instant::now() + RESTARTING),
        };
    }

    fn count_beginning(&mut self) -> Result<(), Refused> {
        count(&mut self.beginnings)
    }

    async fn tell(&self, told: Told) {
        // The mesh is gone only when this pair is.
        self.told.send((self.peer, told)).await.ok();
    }
}

fn count(beginnings: &mut VecDeque<Instant>) -> Result<(), Refused> {
    let now = Instant::now();
    while beginnings.front().is_some_and(|at| now - *at > Duration::from_mins(1)) {
        beginnings.pop_front();
    }
    if beginnings.len() >= BEGINNINGS {
        return Err(Refused::TooOften);
    }
    beginnings.push_back(now);
    Ok(())
}

async fn event(link: Option<&mut Link>) -> Event {
    match link {
        Some(link) => link.event().await,
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
