//! Three processes, two people and some portals; and what a run of messages costs.

use std::{net::SocketAddr, time::Duration};

use causeway_groups::sdk::Stream;
use causeway_protocol::{envelope::Kind, ids::GroupId};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    LOOK,
    figure::{Figure, Meter},
    ground::{Ground, Process, SERVER},
    people::Person,
};

/// Events of one transaction: Synapse's most.
const AT_ONCE: usize = 100;
/// Messages after which it is somebody else's turn to speak.
pub(super) const EACH_SAYS: usize = 8_000;
/// Groups that are made at once.
const AT_A_TIME: usize = 8;
/// Silence after which a mailbox is empty.
const QUIET: Duration = Duration::from_millis(500);

pub(super) struct Stage {
    pub(super) ground: Ground,
    /// The server, the bridge.
    pub(super) processes: Vec<Process>,
    /// Who speaks, the first one first.
    pub(super) people: Vec<Person>,
    pub(super) groups: Vec<GroupId>,
    pub(super) http: reqwest::Client,
    transactions: usize,
    events: usize,
    said: usize,
}

impl Stage {
    pub(super) async fn new(portals: usize, people: usize) -> Self {
        let ground = Ground::new();
        let processes = vec![ground.spawn(Some("server")), ground.spawn(Some("bridge"))];
        let http = reqwest::Client::new();
        ground.ready(&http).await;
        let (url, token) = (ground.listeners.native_url(), ground.registration_token());
        let name = |n: usize| format!("person{n}:{SERVER}");
        let mut everyone = Vec::new();
        for n in 0..people {
            everyone.push(Person::register(&url, &name(n), &token).await);
        }
        let others: Vec<String> = (1..people).map(name).collect();
        let make = async |n| {
            let group = everyone[0].create_group(&format!("group {n}")).await;
            for other in &others {
                everyone[0].add(group, other).await;
            }
            everyone[0].bridge(group, &[]).await;
            if n % 100 == 99 {
                eprintln!("{} of {portals} groups are there", n + 1);
            }
            group
        };
        let groups = stream::iter(0..portals).map(make).buffered(AT_A_TIME).collect().await;
        let stage = Self {
            ground,
            processes,
            people: everyone,
            groups,
            http,
            transactions: 0,
            events: 0,
            said: 0,
        };
        while stage.count("rooms", 0).await < portals {
            sleep(LOOK).await;
        }
        let hello = async |group| stage.people[0].say(group, &["hello".to_owned()]).await;
        stream::iter(stage.groups.clone()).map(hello).buffered(AT_A_TIME).count().await;
        stage.sent(portals).await;
        stage.nobody_reads().await;
        stage
    }

    /// Everybody knows all groups; mail waits from here on, so that no client's work is measured.
    async fn nobody_reads(&self) {
        for group in &self.groups {
            let epoch = self.people[0].client.roster(*group).await.unwrap().epoch();
            for person in &self.people {
                while !person.client.roster(*group).await.is_ok_and(|known| known.epoch() == epoch)
                {
                    sleep(LOOK).await;
                }
            }
        }
        for person in &self.people {
            person.reading.abort();
        }
    }

    /// `messages` events in transactions of a hundred.
    pub(super) async fn run_to_native(&mut self, messages: usize) -> Figure {
        let done = self.delivered_to_native().await;
        let meter = Meter::start(self).await;
        for _ in 0..messages / AT_ONCE {
            self.push(AT_ONCE).await;
        }
        let goal = done + messages;
        self.delivered(goal).await;
        meter.read(self, messages).await
    }

    /// One event at a time, each when the one before is in a mailbox.
    pub(super) async fn single_to_native(&mut self, messages: usize) -> Figure {
        // The announcements of who speaks.
        for _ in 0..self.groups.len() {
            self.push(1).await;
        }
        let mut mailbox = self.mailbox().await;
        let meter = Meter::start(self).await;
        for _ in 0..messages {
            self.push(1).await;
            comes(&mut mailbox).await;
        }
        let figure = meter.read(self, messages).await;
        mailbox.close().await;
        figure
    }

    /// The first person's stream, once nothing waits for it.
    pub(super) async fn mailbox(&self) -> Stream {
        let mut mailbox = self.people[0].client.stream();
        self.nothing_waits().await;
        while let Ok(rows) = timeout(QUIET, mailbox.next_rows()).await {
            mailbox.ack(rows.unwrap().last().map(|row| row.seq)).await;
        }
        mailbox
    }

    /// `messages` wait in the bridge's mailbox when it starts.
    pub(super) async fn run_to_matrix(&mut self, messages: usize) -> Figure {
        self.processes.truncate(1);
        let before = self.sent(0).await;
        self.say(messages).await;
        self.processes.push(self.ground.spawn(Some("bridge")));
        let first = self.sent(before + 1).await - before;
        let meter = Meter::start(self).await;
        self.all_sent(before + messages).await;
        meter.read(self, messages - first).await
    }

    /// `messages` said while the bridge runs.
    pub(super) async fn talk_to_matrix(&mut self, messages: usize) {
        let goal = self.sent(0).await + messages;
        self.say(messages).await;
        self.all_sent(goal).await;
    }

    /// One message at a time, each when the one before has arrived.
    pub(super) async fn single_to_matrix(&mut self, messages: usize) -> Figure {
        let before = self.sent(0).await;
        let meter = Meter::start(self).await;
        for n in 1..=messages {
            let body = self.next_body();
            self.people[0].say(self.groups[n % self.groups.len()], &[body]).await;
            self.sent(before + n).await;
        }
        meter.read(self, messages).await
    }

    async fn say(&mut self, messages: usize) {
        let each = 50;
        for n in 0..messages / each {
            let bodies: Vec<String> = (0..each).map(|_| self.next_body()).collect();
            // By turns, because the server takes 8,192 at once of each.
            let speaker = self.said / EACH_SAYS % self.people.len();
            let group = self.groups[n % self.groups.len()];
            self.people[speaker].say(group, &bodies).await;
        }
    }

    /// Events that were sent to the homeserver, once there are `goal`.
    pub(super) async fn sent(&self, goal: usize) -> usize {
        self.count("sent", goal).await
    }

    pub(super) async fn all_sent(&self, goal: usize) {
        self.sent(goal).await;
        self.nothing_waits().await;
    }

    pub(super) async fn nothing_waits(&self) {
        while self.metric("causeway_outbox_effects").await > 0.0 {
            sleep(LOOK).await;
        }
    }

    pub(super) fn next_body(&mut self) -> String {
        self.said += 1;
        format!("message {:0100}", self.said)
    }

    pub(super) async fn push(&mut self, count: usize) {
        let events: Vec<Value> = (0..count)
            .map(|_| {
                self.events += 1;
                let room = self.events % self.groups.len();
                json!({
                    "event_id": format!("$event{}", self.events),
                    "room_id": format!("!room{room}:b.example"),
                    "sender": "@al:x", "type": "m.room.message", "origin_server_ts": 1,
                    "content": {"msgtype": "m.text", "body": format!("message {:0100}", self.events)},
                })
            })
            .collect();
        self.transactions += 1;
        let url = format!(
            "{}/_matrix/app/v1/transactions/{}",
            self.ground.registration.url, self.transactions
        );
        let sent = self
            .http
            .put(url)
            .bearer_auth(self.ground.registration.hs_token.expose())
            .body(json!({ "events": events }).to_string())
            .send()
            .await
            .unwrap();
        assert!(sent.status().is_success());
    }

    pub(super) async fn delivered(&self, goal: usize) {
        while self.delivered_to_native().await < goal {
            sleep(LOOK).await;
        }
    }

    pub(super) async fn delivered_to_native(&self) -> usize {
        self.metric("causeway_delivered_total{to=\"native\"}").await as usize
    }

    async fn count(&self, what: &str, sent: usize) -> usize {
        let url = format!("{}/count?{sent}", self.ground.homeserver);
        let counts = self.http.get(url).send().await.unwrap().bytes().await.unwrap();
        let counts: Value = serde_json::from_slice(&counts).unwrap();
        usize::try_from(counts[what].as_u64().unwrap()).unwrap()
    }

    pub(super) async fn metric(&self, name: &str) -> f64 {
        self.metric_at(self.ground.config.appservice.listen, name).await
    }

    async fn metric_at(&self, listener: SocketAddr, name: &str) -> f64 {
        let url = format!("http://{listener}/metrics");
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    /// Commits of the bridge and of the server, since each began.
    pub(super) async fn commits(&self) -> (f64, f64) {
        let of_server = "causeway_db_commits_total{db=\"server\"}";
        (
            self.metric("causeway_db_commits_total{db=\"bridge\"}").await,
            self.metric_at(self.ground.probes, of_server).await,
        )
    }

    pub(super) fn server(&self) -> u32 {
        self.processes[0].id()
    }

    pub(super) fn bridge(&self) -> u32 {
        self.processes[1].id()
    }
}

/// Waits for a message, behind the keys of a new chain.
pub(super) async fn comes(mailbox: &mut Stream) {
    loop {
        let rows = mailbox.next_rows().await.unwrap();
        mailbox.ack(rows.last().map(|row| row.seq)).await;
        if rows.iter().any(|row| row.envelope.kind == Kind::Message) {
            return;
        }
    }
}
