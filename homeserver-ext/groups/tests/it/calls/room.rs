//! Some devices in one process, each with a mesh of its own, over the loopback; what their server
//! would do is done by hand.

use std::{collections::BTreeMap, time::Duration};

use causeway_groups::calls::{
    Brought, Giving, Happened, Heard, Input, Mesh, Named, Served, Settings, Signal, Sink, Source,
};
use causeway_protocol::ids::DeviceId;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::ear::Ear;

/// For whatever is waited for: the machine may be busy.
const LONG: Duration = Duration::from_mins(2);
/// No one of them near a multiple of another.
pub(crate) const TONES: [u32; 6] = [440, 617, 1031, 1453, 2203, 3011];

pub(super) fn device(n: u8) -> DeviceId {
    DeviceId::new([n; 32])
}

pub(super) fn loopback() -> Settings {
    Settings { bind: ([127, 0, 0, 1], 0).into(), ..Settings::default() }
}

type Queue = (mpsc::Sender<(u8, News)>, mpsc::Receiver<(u8, News)>);

enum News {
    Happened(Happened),
    Heard(Box<Heard>),
}

/// By what signals are changed on their way, and whether they arrive.
pub(super) type Way = Box<dyn FnMut(u8, u8, &mut Signal) -> bool + Send>;

#[derive(Default)]
pub(super) struct Room {
    inputs: BTreeMap<u8, mpsc::Sender<Input>>,
    /// One each, so that a device can be stopped as a process is: with all that its sockets do.
    runtimes: BTreeMap<u8, Runtime>,
    running: JoinSet<()>,
    news: Option<Queue>,
    pub(super) epoch: u32,
    pub(super) way: Option<Way>,
    /// What (listener, speaker) heard.
    pub(super) ears: BTreeMap<(u8, u8), Ear>,
    pub(super) happened: Vec<(u8, Happened)>,
    /// How it came, since it was last emptied.
    pub(super) came: BTreeMap<(u8, u8), Came>,
}

/// Half seconds, packets that were played and lost in them, those that never came, and the longest
/// gap.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Came {
    pub(super) halves: u32,
    pub(super) played: u32,
    pub(super) lost: u32,
    pub(super) skipped: u32,
    pub(super) gap: Duration,
}

impl Room {
    /// Adds a device with the tone of its number, and tells all.
    pub(super) async fn join(&mut self, n: u8) {
        let source = Source::tone(TONES[usize::from(n)]).unwrap();
        self.join_as(n, loopback(), source, None);
        self.tell_all().await;
    }

    pub(super) fn join_as(
        &mut self,
        n: u8,
        settings: Settings,
        source: Source,
        sink: Option<Sink>,
    ) {
        let (news, _) = self.news.get_or_insert_with(|| mpsc::channel(1000));
        let news = news.clone();
        let (to_heard, mut heard) = mpsc::channel(1000);
        let sink = sink.unwrap_or(Sink::Each(to_heard));
        let (mesh, inputs, mut happened) = Mesh::new(device(n), settings, source, sink).unwrap();
        self.inputs.insert(n, inputs);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        self.running.spawn_on(async move { mesh.run().await.unwrap() }, runtime.handle());
        self.runtimes.insert(n, runtime);
        self.running.spawn(async move {
            loop {
                let next = tokio::select! {
                    Some(happened) = happened.recv() => News::Happened(happened),
                    Some(heard) = heard.recv() => News::Heard(Box::new(heard)),
                    else => break,
                };
                if news.send((n, next)).await.is_err() {
                    break;
                }
            }
        });
    }

    pub(super) async fn tell_all(&mut self) {
        // Who comes and goes does not raise it; what carries the call does (protocol §9).
        self.epoch = 1;
        let devices: Vec<_> = self.inputs.keys().map(|n| device(*n)).collect();
        for inputs in self.inputs.values() {
            let said = Input::Participants { epoch: self.epoch, devices: devices.clone() };
            inputs.send(said).await.unwrap();
        }
    }

    /// What a server calls a device.
    pub(super) fn identity(n: u8) -> String {
        format!("who-{n}")
    }

    /// Tells all who takes part by a server.
    pub(super) async fn name_all(&mut self, epoch: u32) {
        self.name_all_and(epoch, None).await;
    }

    /// And one more, who is nobody here, and came then.
    pub(super) async fn name_all_and(&mut self, epoch: u32, more: Option<(u8, u64)>) {
        self.epoch = epoch;
        let name = |(n, since)| Named {
            device: device(n),
            identity: Self::identity(n),
            focus: None,
            since,
            has_keys: true,
        };
        let who = self.inputs.keys().map(|n| (*n, 0)).chain(more).map(name);
        let who: Vec<_> = who.collect();
        for inputs in self.inputs.values() {
            inputs.send(Input::Named { epoch, who: who.clone() }).await.unwrap();
        }
    }

    /// Whom the server brings to one, as it was last told.
    pub(super) fn brought(&self, n: u8) -> Option<&Brought> {
        self.happened.iter().rev().find_map(|(at, what)| match what {
            Happened::Served(Served::Brings(brought)) if *at == n => Some(brought),
            _ => None,
        })
    }

    pub(super) async fn tell(&self, n: u8, input: Input) {
        self.inputs[&n].send(input).await.unwrap();
    }

    /// A signal to `to`, as if `from` had sent it.
    pub(super) async fn signal(&self, from: u8, to: u8, signal: Signal) {
        self.tell(to, Input::Signal { from: device(from), epoch: self.epoch, signal }).await;
    }

    /// Lets a device leave; the others are told by its server.
    pub(super) async fn leave(&mut self, n: u8) {
        self.leave_quietly(n).await;
        self.tell_all().await;
    }

    /// Stops a device where it stands: it says nothing any more.
    pub(super) fn kill(&mut self, n: u8) {
        self.runtimes.remove(&n).unwrap().shutdown_background();
        self.inputs.remove(&n);
    }

    /// Listens for so many half seconds of sound, anew.
    pub(super) async fn listen(&mut self, who: &[u8], halves: u32) {
        self.came.clear();
        self.go_on(who, halves).await;
    }

    /// Goes on for so many half seconds of sound in each of the ways.
    pub(super) async fn go_on(&mut self, who: &[u8], halves: u32) {
        let ways = || who.iter().flat_map(|a| who.iter().map(move |b| (*a, *b)));
        let count = |room: &Self, way| room.came.get(&way).map_or(0, |came| came.halves);
        let before: Vec<_> = ways().map(|way| count(self, way)).collect();
        let so = |room: &Self| {
            let mut all = ways().zip(&before);
            all.all(|(way, before)| way.0 == way.1 || count(room, way) >= before + halves)
        };
        self.until("all was listened to", so).await;
    }

    /// Tells all who talks to whom without a server.
    pub(super) async fn mesh(&mut self, epoch: u32, who: &[u8]) {
        self.epoch = epoch;
        for (n, inputs) in &self.inputs {
            let all = who.iter().filter(|_| who.contains(n));
            let devices = all.map(|n| device(*n)).collect();
            inputs.send(Input::Participants { epoch, devices }).await.unwrap();
        }
    }

    /// Lets a device leave; nobody is told.
    pub(super) async fn leave_quietly(&mut self, n: u8) {
        self.tell(n, Input::Leave).await;
        self.inputs.remove(&n);
    }

    /// Goes on until that is so.
    pub(super) async fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let waited = async {
            while !so(self) {
                self.step().await;
            }
        };
        if timeout(LONG, waited).await.is_err() {
            let heard: Vec<_> =
                self.ears.iter().map(|(who, ear)| (who, &ear.heard, ear.unclear)).collect();
            let is_news = |it: &&(u8, Happened)| !matches!(it.1, Happened::Levels(_));
            let news: Vec<_> = self.happened.iter().filter(is_news).collect();
            let last = &news[news.len().saturating_sub(60)..];
            panic!("it never came to pass that {what}: {heard:?}\n{last:?}");
        }
    }

    /// Until each has heard each other's tone `times` more often than now, and no other one.
    pub(super) async fn until_all_hear(&mut self, who: &[u8], times: usize) {
        let ways =
            || who.iter().flat_map(|a| who.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b);
        let before: Vec<_> = ways().map(|way| self.times(way)).collect();
        let so = |room: &Self| {
            ways().zip(&before).all(|(way, before)| room.times(way) >= before + times)
        };
        self.until("all hear each other", so).await;
        for way in ways() {
            let ear = &self.ears[&way];
            assert_eq!(ear.heard.len(), 1, "{way:?} heard {:?}", ear.heard);
        }
    }

    pub(super) fn times(&self, way: (u8, u8)) -> usize {
        self.ears.get(&way).map_or(0, |ear| ear.times(TONES[usize::from(way.1)]))
    }

    pub(super) fn has(&self, n: u8, happened: &Happened) -> bool {
        self.happened.iter().any(|(at, what)| *at == n && what == happened)
    }

    async fn step(&mut self) {
        let (_, news) = self.news.as_mut().unwrap();
        match news.recv().await.unwrap() {
            (n, News::Heard(heard)) => {
                let from = heard.from.as_bytes()[0];
                self.ears.entry((n, from)).or_default().hear(&heard.sound, &TONES);
            }
            (n, News::Happened(Happened::Say { to, epoch, mut signal })) => {
                let to = to.as_bytes()[0];
                let arrives = self.way.as_mut().is_none_or(|way| way(n, to, &mut signal));
                let given = given(to, &signal);
                // Either may be about to leave.
                if let Some(inputs) = self.inputs.get(&to).filter(|_| arrives) {
                    inputs.send(Input::Signal { from: device(n), epoch, signal }).await.ok();
                }
                if let (Some(given), Some(inputs), true) = (given, self.inputs.get(&n), arrives) {
                    inputs.send(given).await.ok();
                }
            }
            (n, News::Happened(Happened::Quality(qualities))) => {
                for (from, quality) in qualities {
                    let came = self.came.entry((n, from.as_bytes()[0])).or_default();
                    came.halves += 1;
                    came.played += quality.played;
                    came.lost += quality.lost;
                    came.skipped += quality.skipped;
                    came.gap = came.gap.max(quality.gap);
                }
            }
            (n, News::Happened(happened)) => self.happened.push((n, happened)),
        }
    }
}

/// Whoever is told of a key has it.
fn given(to: u8, signal: &Signal) -> Option<Input> {
    let Signal::Key { index, .. } = *signal else { return None };
    Some(Input::Given { to: device(to), index, giving: Giving::Done })
}

impl Drop for Room {
    fn drop(&mut self) {
        std::mem::take(&mut self.runtimes).into_values().for_each(Runtime::shutdown_background);
    }
}
