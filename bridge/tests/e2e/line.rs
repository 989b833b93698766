//! Natives in a call, each with a tone of its own, and what each hears of whom.

use std::collections::BTreeMap;

use causeway_groups::{
    calling::{Command, Participant, Told, Wish, stand_in},
    calls::{Heard, Settings, Sink, Source},
};
use causeway_protocol::{
    api::{CallIntent, CallState},
    ids::{DeviceId, GroupId},
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};

use crate::{
    ear::Ear,
    people::{PATIENCE, Person},
};

/// Alice's, Bob's, Carol's.
pub(crate) const TONES: [u32; 3] = [440, 617, 1_031];
/// How often a tone has to be heard, of 200 ms each.
pub(crate) const OFTEN: usize = 5;

enum News {
    State(Box<CallState>),
    Heard(Box<Heard>),
    Told(String),
    Over(String),
}

/// Natives who are in the call, and what they hear.
pub(crate) struct Line {
    pub(crate) devices: Vec<DeviceId>,
    pub(crate) commands: Vec<mpsc::Sender<Command>>,
    to_news: UnboundedSender<(usize, News)>,
    news: UnboundedReceiver<(usize, News)>,
    pub(crate) states: BTreeMap<usize, CallState>,
    pub(crate) told: Vec<(usize, String)>,
    ears: BTreeMap<(usize, DeviceId), Ear>,
    pub(crate) talking: JoinSet<()>,
}

impl Line {
    pub(crate) fn new() -> Self {
        let (to_news, news) = mpsc::unbounded_channel();
        Self {
            devices: Vec::new(),
            commands: Vec::new(),
            to_news,
            news,
            states: BTreeMap::new(),
            told: Vec::new(),
            ears: BTreeMap::new(),
            talking: JoinSet::new(),
        }
    }

    /// Has one begin the call, or come into it.
    pub(crate) async fn call(&mut self, person: &Person, group: GroupId) {
        let n = self.devices.len();
        self.devices.push(person.client.me().record.device_id);
        let (to_heard, mut heard) = mpsc::channel(1_000);
        let wish = Wish {
            // All that runs is on this machine.
            settings: Settings {
                bind: ([127, 0, 0, 1], 0).into(),
                private_servers: true,
                ..Settings::default()
            },
            source: Source::tone(TONES[n]).unwrap(),
            sink: Sink::Each(to_heard),
            muted: false,
            may_degrade: true,
        };
        let started = Participant::start(&person.client, group, CallIntent::Audio, wish).await;
        let (participant, mut told) = started.unwrap();
        let (commands, wanted) = mpsc::channel(16);
        self.commands.push(commands);
        let news = self.to_news.clone();
        self.talking.spawn(async move {
            let running = participant.run(wanted);
            tokio::pin!(running);
            let named = |told| match told {
                Told::State(state) => News::State(state),
                told => News::Told(format!("{told:?}")),
            };
            let ending = loop {
                let next = tokio::select! {
                    ending = &mut running => break ending,
                    Some(told) = told.recv() => named(told),
                    Some(heard) = heard.recv() => News::Heard(Box::new(heard)),
                };
                if news.send((n, next)).is_err() {
                    return;
                }
            };
            // What was told last comes before the end.
            while let Ok(told) = told.try_recv() {
                news.send((n, named(told))).ok();
            }
            news.send((n, News::Over(format!("{ending:?}")))).ok();
        });
    }

    /// Takes what happens until it is so.
    pub(crate) async fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let waiting = async {
            while !so(self) {
                let Some((n, news)) = self.news.recv().await else { return };
                match news {
                    News::State(state) => drop(self.states.insert(n, *state)),
                    News::Heard(heard) => {
                        self.ears.entry((n, heard.from)).or_default().hear(&heard.sound, &TONES);
                    }
                    News::Told(told) if told.starts_with("Sound(Levels") => {}
                    News::Told(told) | News::Over(told) => self.told.push((n, told)),
                }
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let ears = self.ears.iter().map(|(way, ear)| (way, &ear.heard, ear.unclear));
            let ears: Vec<_> = ears.collect();
            panic!("it never came to pass that {what}: {ears:?} {:?} {:?}", self.states, self.told);
        }
    }

    fn times(&self, n: usize, from: DeviceId, tone: u32) -> usize {
        self.ears.get(&(n, from)).map_or(0, |ear| ear.times(tone))
    }

    /// The one of Matrix, as all are told of her.
    pub(crate) fn guest(&self) -> Option<DeviceId> {
        self.states[&0].guests().next().map(stand_in)
    }

    /// Until the natives hear each other and her more often than now, and nobody hears anything else.
    pub(crate) async fn until_all_hear(&mut self, guest: Option<DeviceId>) {
        let natives = self.devices.iter().copied().zip(TONES);
        let all: Vec<_> = natives.chain(guest.map(|it| (it, TONES[2]))).collect();
        let mut ways = Vec::new();
        for n in 0..self.devices.len() {
            let others = all.iter().filter(|(from, _)| *from != self.devices[n]);
            ways.extend(others.map(|(from, tone)| (n, *from, *tone)));
        }
        let before: Vec<_> =
            ways.iter().map(|(n, from, tone)| self.times(*n, *from, *tone)).collect();
        let what = format!("{ways:?} are heard");
        self.until(&what, |line| {
            let mut all = ways.iter().zip(&before);
            all.all(|((n, from, tone), was)| line.times(*n, *from, *tone) >= was + OFTEN)
        })
        .await;
        for (n, from, tone) in ways {
            let heard: Vec<_> = self.ears[&(n, from)].heard.iter().map(|(tone, _)| *tone).collect();
            assert_eq!(heard, [tone], "{n} of {from}");
        }
    }
}
