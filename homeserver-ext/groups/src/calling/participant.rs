//! One device's part in a call, from coming in to leaving.

use std::time::Duration;

use causeway_protocol::{
    api::{CallIntent, CallSfus, CallState, CallTopology, JoinCall, StartCall},
    ids::{CallId, GroupId},
    olm_plaintext::CallSignal,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use zeroize::Zeroizing;

use super::{
    abroad::Abroad,
    asking::{Answer, Getting, Given, Goes, goes, request, running, within},
    carrying::{E2EE, Turn},
    coming::Coming,
    giving,
    known::{Ask, Heard, Known, Standing},
    moving::{Moved, Moving},
    saying::{Said, Saying, Sayings},
    words::{Command, Ending, JoinError, Told, Wish},
};
use crate::{
    calls::{Giving, Happened, Input, Refused, Signal},
    entropy,
    machine::Signalled,
    sdk::{Backoff, CallError, Client, News},
};

/// The server is asked how the call stands when nothing was heard for so long.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// The same is asked for again after so long, where it came to nothing.
const SAME_AGAIN: Duration = Duration::from_secs(5);
/// Longest wait before a server that is away is asked again: the others may hear nothing of this device until then.
const AWAY_AGAIN: Duration = Duration::from_secs(4);
/// What waits to be told; sound goes on where it is full.
const TOLD: usize = 256;
/// How often a call is begun, or come into, while others end theirs.
const TRIES: usize = 3;
const BETWEEN: Duration = Duration::from_millis(400);
/// How long leaving may take: whoever cannot be told finds out by himself.
const LEAVING: Duration = Duration::from_secs(5);

/// One device's part in a call.
pub struct Participant {
    client: Client,
    group: GroupId,
    known: Known,
    caps: JoinCall,
    news: mpsc::Receiver<News>,
    inputs: mpsc::Sender<Input>,
    happened: mpsc::Receiver<Happened>,
    sound: JoinSet<std::io::Result<()>>,
    saying: Sayings,
    keys: giving::Given,
    told: mpsc::Sender<Told>,
    asking: Option<BoxFuture<'static, Answer>>,
    getting: Getting,
    abroad: Abroad,
    moving: Moving,
    /// What was asked last, and when the same may be asked again.
    asked: Option<(Ask, Instant)>,
    /// When anything may be asked again after a failure.
    waits: Option<Instant>,
    look_at: Instant,
    backoff: Backoff,
    is_away: bool,
    /// How it ends, and until when.
    ending: Option<(Ending, Instant)>,
}

enum Step {
    News(News),
    Happened(Happened),
    Command(Command),
    Answer(Box<Answer>),
    Given(Box<Given>),
    GivenAbroad(String, Result<CallSfus, CallError>),
    Moved(Box<Moved>),
    Said(Said),
    SoundOver(String),
    Due,
    Late,
}

/// The call that runs in a group, with this device in it.
async fn joined(client: &Client, group: GroupId, caps: &JoinCall) -> Result<CallState, JoinError> {
    let newest = client.http().calls(group, None, 1).await?.calls.into_iter().next();
    let running = newest.filter(|call| call.topology != CallTopology::Ended);
    let call = running.ok_or(JoinError::None)?.call;
    Ok(client.http().join_call((group, call), caps).await?)
}

impl Participant {
    /// Begins a call in a group, or comes into the one that somebody else has begun.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn start(
        client: &Client,
        group: GroupId,
        intent: CallIntent,
        wish: Wish,
    ) -> Result<(Self, mpsc::Receiver<Told>), JoinError> {
        let coming = Coming::new(client, group, wish);
        let asked = StartCall {
            call: CallId::new(entropy::bytes()?),
            intent,
            caps: coming.caps.caps.clone(),
            may_degrade: coming.caps.may_degrade,
        };
        for tried in 0..TRIES {
            // What is begun by others at the same moment may not be there yet.
            sleep(u32::try_from(tried).unwrap_or(0) * BETWEEN).await;
            match client.http().start_call(group, &asked).await {
                Ok(state) => return Self::new(client, state, coming).await,
                Err(error) if error.is_refusal("DEV_CAUSEWAY_CALL_EXISTS") => {}
                Err(error) => return Err(error.into()),
            }
            // It may end before this device is in it, as where who began it has no sound.
            match joined(client, group, &coming.caps).await {
                Ok(state) => return Self::new(client, state, coming).await,
                Err(JoinError::None) => {}
                Err(JoinError::Call(error)) if error.is_refusal("DEV_CAUSEWAY_CALL_ENDED") => {}
                Err(error) => return Err(error),
            }
        }
        Err(JoinError::None)
    }

    /// Comes into the call that runs in a group.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(
        client: &Client,
        group: GroupId,
        wish: Wish,
    ) -> Result<(Self, mpsc::Receiver<Told>), JoinError> {
        let coming = Coming::new(client, group, wish);
        let state = joined(client, group, &coming.caps).await?;
        Self::new(client, state, coming).await
    }

    async fn new(
        client: &Client,
        state: CallState,
        coming: Coming,
    ) -> Result<(Self, mpsc::Receiver<Told>), JoinError> {
        let me = client.me().record.device_id;
        let private_servers = coming.private_servers();
        let ((mesh, inputs, happened), rest) = coming.sound(client, &state).await?;
        let (news, caps, muted) = rest;
        // Its own task, so that no sound waits for a database.
        let mut sound = JoinSet::new();
        sound.spawn(mesh.run());
        let (told, to_tell) = mpsc::channel(TOLD);
        let participant = Self {
            client: client.clone(),
            group: state.group,
            saying: Sayings::new(client.clone(), state.group),
            keys: giving::Given::default(),
            known: Known::new(me, state, muted),
            caps,
            news,
            inputs,
            happened,
            sound,
            told,
            asking: None,
            getting: Getting::new(private_servers),
            abroad: Abroad::new(me, private_servers),
            moving: Moving::new(),
            asked: None,
            waits: None,
            look_at: Instant::now() + LOOK_EVERY,
            backoff: Backoff::default(),
            is_away: false,
            ending: None,
        };
        Ok((participant, to_tell))
    }

    /// How the call stood when this was asked for.
    pub fn state(&self) -> &CallState {
        self.known.state()
    }

    /// Takes part until it ends, or until nobody gives commands or listens any more: then it leaves.
    ///
    /// The mailbox has to be followed meanwhile.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Ending {
        let muted = self.known.muted;
        self.tell(Told::State(Box::new(self.state().clone()))).await;
        self.input(Input::Mute(muted)).await;
        self.takes_part().await;
        while !self.is_over() {
            self.ask();
            self.get_access();
            self.go_abroad();
            self.ask_to_move();
            match self.next(&mut commands).await {
                Step::News(News::State(state)) => {
                    if self.is_away {
                        // It is not any more.
                        self.waits = None;
                    }
                    self.hear(*state).await;
                }
                Step::News(News::Signal(signalled)) => self.signalled(signalled).await,
                Step::Happened(happened) => self.happened(happened).await,
                Step::Command(command) => self.command(command).await,
                Step::Answer(answer) => self.answered(*answer).await,
                Step::Given(given) => self.given(*given).await,
                Step::GivenAbroad(focus, given) => {
                    if let Some(input) = self.abroad.given(focus, given) {
                        self.input(input).await;
                    }
                }
                Step::Moved(moved) => self.moved(*moved).await,
                Step::Said(said) => self.said(said).await,
                Step::Due => {}
                Step::SoundOver(why) => {
                    let late = Instant::now() + LEAVING;
                    self.ending.get_or_insert((Ending::Sound(why), late));
                    self.known.standing = Standing::Leaves;
                    self.saying.ends();
                }
                Step::Late => break,
            }
        }
        self.ending.map_or(Ending::Left, |(ending, _)| ending)
    }

    async fn next(&mut self, commands: &mut mpsc::Receiver<Command>) -> Step {
        let goes_on = self.ending.is_none();
        let (due, late) = (self.due(Instant::now()), self.ending.as_ref().map(|(_, late)| *late));
        let get = self.getting.due(self.wants_access());
        let abroad = self.abroad.due().filter(|_| goes_on);
        let ask_to_move = self.moving.due().filter(|_| goes_on);
        tokio::select! {
            Some(news) = self.news.recv() => Step::News(news),
            Some(happened) = self.happened.recv() => Step::Happened(happened),
            command = commands.recv(), if goes_on => {
                Step::Command(command.unwrap_or(Command::Leave))
            }
            () = self.told.closed(), if goes_on => Step::Command(Command::Leave),
            answer = running(self.asking.as_mut()) => {
                self.asking = None;
                Step::Answer(Box::new(answer))
            }
            given = self.getting.next() => Step::Given(Box::new(given)),
            Some((focus, given)) = self.abroad.next() => Step::GivenAbroad(focus, given),
            moved = self.moving.next() => Step::Moved(Box::new(moved)),
            Some(said) = self.saying.next() => Step::Said(said),
            Some(ended) = self.sound.join_next() => match ended {
                Ok(Ok(())) if !goes_on => Step::Due,
                Ok(Ok(())) => Step::SoundOver("it ended".to_owned()),
                Ok(Err(error)) => Step::SoundOver(error.to_string()),
                Err(_) => Step::SoundOver("it broke".to_owned()),
            },
            () = at(due) => Step::Due,
            () = at(get) => Step::Due,
            () = at(ask_to_move) => Step::Due,
            () = at(abroad) => Step::Due,
            () = at(late) => Step::Late,
        }
    }

    /// Whether everybody was told that it goes, and its sound is closed.
    fn is_over(&self) -> bool {
        let is_told = self.saying.is_done() && self.asking.is_none() && self.known.ask().is_none();
        self.ending.is_some() && self.sound.is_empty() && self.happened.is_empty() && is_told
    }

    /// When there is something to ask.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.asking.is_some() {
            return None;
        }
        let wanted = self.known.ask().map(|ask| {
            let same = self.asked.as_ref().filter(|(last, _)| *last == ask);
            same.map_or(now, |(_, again)| *again)
        });
        let look = self.ending.is_none().then(|| self.look_at());
        let due = [wanted, look].into_iter().flatten().min()?;
        Some(self.waits.map_or(due, |until| due.max(until)))
    }

    fn look_at(&self) -> Instant {
        self.keys.due().map_or(self.look_at, |due| due.min(self.look_at))
    }

    /// Asks what there is to ask; one thing at a time.
    fn ask(&mut self) {
        let now = Instant::now();
        if self.due(now).is_none_or(|due| due > now) {
            return;
        }
        let looks = self.look_at() <= now && self.ending.is_none();
        let Some(ask) = looks.then_some(Ask::Look).or_else(|| self.known.ask()) else { return };
        self.waits = None;
        self.keys.asks(now);
        self.asked = Some((ask.clone(), now + SAME_AGAIN));
        let (client, call) = (self.client.clone(), (self.group, self.state().call));
        let caps = self.caps.clone();
        self.asking = Some(Box::pin(async move {
            let answer = within(request(&client, call, &caps, &ask)).await;
            (ask, answer)
        }));
    }

    fn wants_access(&self) -> bool {
        let is_in = self.ending.is_none() && self.known.standing == Standing::In;
        is_in && self.known.carrying.wants_access(self.known.state())
    }

    /// Asks for what lets it into the server for calls; what it is in goes on meanwhile.
    fn get_access(&mut self) {
        if self.getting.due(self.wants_access()).is_some_and(|at| at <= Instant::now()) {
            let state = self.known.state();
            let (call, epoch) = ((self.group, state.call), state.epoch);
            self.getting.ask(self.client.clone(), call, epoch);
        }
    }

    /// Asks for what lets it in where those of other homeservers speak.
    fn go_abroad(&mut self) {
        if self.ending.is_none() && self.abroad.due().is_some_and(|at| at <= Instant::now()) {
            let state = self.known.state();
            let (call, epoch) = ((self.group, state.call), state.epoch);
            self.abroad.ask(&self.client, call, epoch);
        }
    }

    /// Asks that the server for bigger calls carries the call, where there is no way to somebody.
    fn ask_to_move(&mut self) {
        if self.ending.is_none() && self.known.standing == Standing::In {
            let call = (self.group, self.state().call);
            self.moving.ask(&self.client, call);
        }
    }

    async fn moved(&mut self, (with, moved): Moved) {
        match moved {
            Ok(state) => {
                self.tell(Told::Moves { with, refused: None }).await;
                self.hear(state).await;
            }
            Err(error) => {
                if let Some(why) = self.moving.refused(&error) {
                    self.tell(Told::Moves { with, refused: Some(why) }).await;
                }
            }
        }
    }

    async fn given(&mut self, given: Given) {
        // The step may be over, or the server away: the state says so, and it is asked for again.
        let Some(given) = given.ok().filter(|_| self.wants_access()) else { return };
        let state = self.known.state().clone();
        match goes(given, self.caps.may_degrade) {
            Some(Goes::To(access)) => {
                let is_sealed = access.is_sealed;
                self.known.carrying.goes(is_sealed, &state);
                self.input(Input::Server(Some(access))).await;
                if !is_sealed {
                    self.tell(Told::Clear { taken: true }).await;
                }
                self.turn(&state).await;
            }
            Some(Goes::Nowhere) => {
                self.known.carrying.refuse(E2EE);
                self.tell(Told::Clear { taken: false }).await;
            }
            None => {}
        }
    }

    async fn answered(&mut self, (ask, answer): Answer) {
        let is_there = !answer.as_ref().is_err_and(CallError::is_own_away);
        for given in self.keys.answered(is_there) {
            self.input(given).await;
        }
        let error = match answer {
            Ok(state) => {
                self.known.reported(&ask);
                self.backoff.reset();
                if std::mem::take(&mut self.is_away) {
                    self.tell(Told::Back).await;
                }
                self.look_at = Instant::now() + LOOK_EVERY;
                return self.hear(state).await;
            }
            Err(error) => error,
        };
        if error.is_transient() {
            let wait = match error {
                CallError::RetryAfter { ms, .. } => Duration::from_millis(ms),
                _ => self.backoff.failed().min(AWAY_AGAIN),
            };
            // The same goes again: it was not heard.
            (self.asked, self.waits) = (None, Some(Instant::now() + wait));
            if !matches!(error, CallError::RetryAfter { .. })
                && !std::mem::replace(&mut self.is_away, true)
            {
                self.tell(Told::Away(error)).await;
            }
        } else if matches!(ask, Ask::Report(..) | Ask::Set(..)) && !error.is_refusal("M_NOT_FOUND")
        {
            // The call is other than was thought.
            self.look_at = Instant::now();
        } else {
            self.end(Ending::Refused(error)).await;
            self.known.standing = Standing::Gone;
        }
    }

    async fn hear(&mut self, state: CallState) {
        let was_muted = self.known.muted;
        let Some(heard) = self.known.hear(state) else { return };
        if self.known.muted != was_muted {
            self.input(Input::Mute(self.known.muted)).await;
        }
        self.moving.hear(self.known.state());
        self.look_at = Instant::now() + LOOK_EVERY;
        self.tell(Told::State(Box::new(self.state().clone()))).await;
        match heard {
            Heard::On => self.takes_part().await,
            Heard::Over => self.end(Ending::Over).await,
            Heard::Left => self.end(Ending::Left).await,
            Heard::Out(why) => self.end(Ending::Out(why)).await,
        }
    }

    async fn takes_part(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let state = self.known.state().clone();
        let inputs = self.known.carrying.hear(&state);
        let abroad = self.abroad.hear(&state, self.caps.may_degrade);
        for input in inputs.into_iter().chain(abroad) {
            self.input(input).await;
        }
        self.turn(&state).await;
    }

    /// Says what it says by the server anew where others can hear it than before.
    async fn turn(&mut self, state: &CallState) {
        match self.known.carrying.turn(state, self.caps.may_degrade) {
            Some(Turn::To(is_sealed)) => {
                self.input(Input::Seal(is_sealed)).await;
                if !is_sealed {
                    self.tell(Told::Clear { taken: true }).await;
                }
            }
            Some(Turn::Away) => {
                self.input(Input::Server(None)).await;
                self.tell(Told::Clear { taken: false }).await;
            }
            None => {}
        }
    }

    /// Who said it counts in the group; whether it takes part, and the epoch, is for the mesh to see.
    async fn signalled(&mut self, signalled: Signalled) {
        let Signalled { from, signal: CallSignal { call, epoch, json }, .. } = signalled;
        if call != self.state().call {
            return;
        }
        let signal = match Signal::from_json(&json) {
            Ok(signal) => signal,
            Err(why) => return self.tell(Told::Sound(Happened::Refused(from, why))).await,
        };
        let me = self.client.me().record.device_id;
        let is_shown = matches!(signal, Signal::Offer { .. } | Signal::Answer { .. });
        let shown = is_shown.then(|| Told::Signalled(from, me, epoch, signal.clone()));
        // Nothing of what one device says is waited for.
        match self.inputs.try_send(Input::Signal { from, epoch, signal }) {
            Ok(()) => {
                if let Some(shown) = shown {
                    self.tell(shown).await;
                }
            }
            Err(_) => self.tell(Told::Sound(Happened::Refused(from, Refused::TooMany))).await,
        }
    }

    async fn happened(&mut self, happened: Happened) {
        match happened {
            Happened::Say { to, epoch, signal } => {
                let json = Zeroizing::new(signal.to_json().into_bytes());
                let signal_of = CallSignal { call: self.state().call, epoch, json };
                let key = match signal {
                    Signal::Key { index, .. } => Some(index),
                    _ => None,
                };
                let is_told = self.saying.say(to, Saying::new(signal_of, key));
                if let Some(index) = key.filter(|_| !is_told) {
                    self.input(Input::Given { to, index, giving: Giving::Done }).await;
                }
                let me = self.client.me().record.device_id;
                if matches!(signal, Signal::Offer { .. } | Signal::Answer { .. }) {
                    self.tell(Told::Signalled(me, to, epoch, signal)).await;
                }
                return;
            }
            Happened::Connected(device) => {
                self.known.connected(device, true);
                self.moving.connected(device);
            }
            Happened::Broken(device) => self.known.connected(device, false),
            Happened::Failed(device) => {
                self.known.connected(device, false);
                self.moving.failed(device);
            }
            Happened::Served(ref served) => {
                self.known.carrying.served(served);
                self.getting.wait();
            }
            Happened::Abroad(ref focus, ref served) => self.abroad.served(focus, served),
            Happened::Progress(..)
            | Happened::Levels(_)
            | Happened::Quality(_)
            | Happened::Refused(..)
            | Happened::SinkFailed(_) => {}
        }
        self.tell(Told::Sound(happened)).await;
    }

    async fn said(&mut self, Said { to, key, done, is_held }: Said) {
        let giving = match (&done, is_held) {
            (Ok(()), _) => None,
            (Err(_), true) => Some(Giving::Held),
            (Err(_), false) => Some(Giving::Done),
        };
        match (key, giving) {
            (Some(index), Some(giving)) => self.input(Input::Given { to, index, giving }).await,
            (Some(index), None) => self.keys.taken(to, index, Instant::now()),
            (None, _) => {}
        }
        // That its own server is away is told once, by what it asks.
        if let Err(error) = done
            && !is_held
        {
            self.tell(Told::Untold(to, error.to_string())).await;
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Mute(muted) => {
                self.known.muted = muted;
                self.input(Input::Mute(muted)).await;
            }
            Command::Hand(hand) => self.known.hand = hand,
            Command::Leave => self.end(Ending::Left).await,
        }
    }

    /// Says goodbye to all; how it ends is what was said first.
    async fn end(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.known.standing = Standing::Leaves;
            self.saying.ends();
            // What is asked until then is forgotten, but for one that is on its way.
            (self.asked, self.waits) = (None, None);
            self.ending = Some((ending, Instant::now() + LEAVING));
            self.input(Input::Leave).await;
        }
    }

    // These are by `mut` so that what holds it across an await need not be shared between threads.
    async fn input(&mut self, input: Input) {
        // Where it has stopped, that is heard of by itself.
        self.inputs.send(input).await.ok();
    }

    async fn tell(&mut self, told: Told) {
        // Levels come again; where nobody listens, it leaves.
        if matches!(told, Told::Sound(Happened::Levels(_) | Happened::Quality(_))) {
            self.told.try_send(told).ok();
        } else {
            self.told.send(told).await.ok();
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
