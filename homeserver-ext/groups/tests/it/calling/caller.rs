//! Devices in a call, each with a runtime of its own, so that one can be stopped as a process is; their
//! server is a real one, and so is their sound.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use causeway_groups::{
    calling::{Command, Participant, Told, Wish},
    calls::{Happened, Heard, Settings, Sink, Source},
    sdk::{Client, Stream},
};
use causeway_protocol::{
    api::{CallIntent, CallState},
    ids::{CallId, DeviceId, GroupId},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::{
    calls::{ear::Ear, room::TONES},
    cli_calls::client,
    cli_world::Person,
};

/// For whatever is waited for: the machine may be busy.
const LONG: Duration = Duration::from_mins(2);

pub(super) enum Event {
    Told(Told),
    Heard(Box<Heard>),
    /// Why it did not come in, or how it ended.
    Over(String),
}

struct Caller {
    runtime: Runtime,
    commands: mpsc::Sender<Command>,
}

/// All that happens to all of them, in order.
pub(super) struct Line {
    callers: BTreeMap<usize, Caller>,
    to_events: Sender<(usize, Event)>,
    events: Receiver<(usize, Event)>,
    pub(super) devices: BTreeMap<DeviceId, usize>,
    pub(super) states: BTreeMap<usize, CallState>,
    /// Of what was told: what is said in `Debug`.
    pub(super) told: Vec<(usize, String)>,
    pub(super) over: BTreeMap<usize, String>,
    pub(super) ears: BTreeMap<(usize, usize), Ear>,
    /// Whether who comes from now on takes it that a server can hear what is said.
    pub(super) may_degrade: bool,
    /// How they connect.
    pub(super) settings: Settings,
}

pub(super) fn loopback() -> Settings {
    Settings { bind: ([127, 0, 0, 1], 0).into(), ..Settings::default() }
}

impl Line {
    pub(super) fn new() -> Self {
        let (to_events, events) = channel();
        Self {
            callers: BTreeMap::new(),
            to_events,
            events,
            devices: BTreeMap::new(),
            states: BTreeMap::new(),
            told: Vec::new(),
            over: BTreeMap::new(),
            ears: BTreeMap::new(),
            may_degrade: false,
            settings: loopback(),
        }
    }

    /// Begins or joins the call of the person's one group, with the tone of that number.
    pub(super) fn call(&mut self, n: usize, person: &Person, starts: bool) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (commands, wanted) = mpsc::channel(16);
        let events = self.to_events.clone();
        let device = runtime.block_on(async { client(person).await.me().record.device_id });
        self.devices.insert(device, n);
        self.over.remove(&n);
        let how = (starts, self.may_degrade, self.settings.clone());
        let person = person.clone();
        runtime.spawn(async move {
            let over = takes_part(n, &person, how, wanted, &events).await;
            events.send((n, Event::Over(over))).ok();
        });
        self.callers.insert(n, Caller { runtime, commands });
    }

    pub(super) fn command(&self, n: usize, command: Command) {
        self.callers[&n].commands.blocking_send(command).unwrap();
    }

    /// Stops a device where it stands: it says nothing any more.
    pub(super) fn kill(&mut self, n: usize) {
        self.callers.remove(&n).unwrap().runtime.shutdown_background();
        self.states.remove(&n);
    }

    pub(super) fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        #[expect(clippy::disallowed_methods, reason = "how long a test waits")]
        let now = std::time::Instant::now;
        let late = now() + LONG;
        while !so(self) {
            let left = late.saturating_duration_since(now());
            let Ok((n, event)) = self.events.recv_timeout(left) else {
                let ears = self.ears.iter().map(|(way, ear)| (way, &ear.heard, ear.unclear));
                let ears: Vec<_> = ears.collect();
                panic!(
                    "it never came to pass that {what}: {ears:?} {:?}\n{:?}",
                    self.over, self.told
                );
            };
            match event {
                Event::Heard(heard) => {
                    if let Some(from) = self.devices.get(&heard.from) {
                        let ear = self.ears.entry((n, *from)).or_default();
                        ear.hear(&heard.sound, &TONES);
                    }
                }
                Event::Told(Told::State(state)) => drop(self.states.insert(n, *state)),
                Event::Told(Told::Sound(Happened::Levels(_) | Happened::Quality(_))) => {}
                Event::Told(told) => self.told.push((n, format!("{told:?}"))),
                Event::Over(why) => drop(self.over.insert(n, why)),
            }
        }
    }

    pub(super) fn times(&self, way: (usize, usize)) -> usize {
        self.ears.get(&way).map_or(0, |ear| ear.times(TONES[way.1]))
    }

    /// Until each has heard each other's tone `times` more often than now, and no other one.
    pub(super) fn until_all_hear(&mut self, who: &[usize], times: usize) {
        let pairs = who.iter().flat_map(|a| who.iter().map(move |b| (*a, *b)));
        let ways: Vec<_> = pairs.filter(|(a, b)| a != b).collect();
        let before: Vec<_> = ways.iter().map(|way| self.times(*way)).collect();
        self.until(&format!("{who:?} hear each other"), |line| {
            ways.iter().zip(&before).all(|(way, before)| line.times(*way) >= before + times)
        });
        for way in &ways {
            let ear = &self.ears[way];
            assert_eq!(ear.heard.len(), 1, "{way:?} heard {:?}", ear.heard);
        }
    }

    /// Until each of these knows that exactly these take part.
    pub(super) fn until_in_it(&mut self, who: &[usize]) {
        let mut all = who.to_vec();
        all.sort_unstable();
        self.until(&format!("{who:?} are in it"), |line| {
            who.iter().all(|n| line.states.get(n).is_some_and(|state| line.are_in(state) == all))
        });
    }

    pub(super) fn are_in(&self, state: &CallState) -> Vec<usize> {
        let mut all: Vec<_> = state.natives().map(|it| self.devices[&it.device]).collect();
        all.sort_unstable();
        all
    }

    pub(super) fn is_told(&self, n: usize, what: &str) -> bool {
        self.told.iter().any(|(at, told)| *at == n && told.contains(what))
    }

    /// The call that they are in.
    pub(super) fn which(&self) -> (GroupId, CallId) {
        let state = self.states.values().next().unwrap();
        (state.group, state.call)
    }
}

async fn takes_part(
    n: usize,
    person: &Person,
    (starts, may_degrade, settings): (bool, bool, Settings),
    wanted: mpsc::Receiver<Command>,
    events: &Sender<(usize, Event)>,
) -> String {
    let client = client(person).await;
    let group = client.rosters().await.unwrap()[0].group();
    let (to_heard, mut heard) = mpsc::channel(1_000);
    let wish = Wish {
        settings,
        source: Source::tone(TONES[n]).unwrap(),
        sink: Sink::Each(to_heard),
        muted: false,
        may_degrade,
    };
    let joined = if starts {
        Participant::start(&client, group, CallIntent::Audio, wish).await
    } else {
        Participant::join(&client, group, wish).await
    };
    let (participant, mut told) = match joined {
        Ok(joined) => joined,
        Err(error) => return error.to_string(),
    };
    let mut stream = client.stream();
    let hands_on = async {
        loop {
            let event = tokio::select! {
                Some(told) = told.recv() => Event::Told(told),
                Some(heard) = heard.recv() => Event::Heard(Box::new(heard)),
                else => std::future::pending().await,
            };
            events.send((n, event)).ok();
        }
    };
    let ending = tokio::select! {
        ending = participant.run(wanted) => ending,
        never = follow(&client, &mut stream) => never,
        never = hands_on => never,
    };
    while let Ok(told) = told.try_recv() {
        events.send((n, Event::Told(told))).ok();
    }
    stream.close().await;
    format!("{ending:?}")
}

/// The mailbox, whatever becomes of its server.
pub(super) async fn follow<T>(client: &Client, stream: &mut Stream) -> T {
    loop {
        if let Ok(rows) = stream.next_rows().await {
            let taken = client.receive(&rows).await.unwrap();
            stream.took(&taken).await;
            client.chores().await.ok();
        }
    }
}
