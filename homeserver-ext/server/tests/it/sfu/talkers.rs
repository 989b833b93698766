//! Devices that say something through LiveKit, by the client's own code.

use std::time::Duration;

use causeway_groups::calls::{
    Access, Happened, Input, Mesh, Over, Served, Settings, Sink, Source, Whose,
};
use causeway_protocol::api::{CallSfu, CallState};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{Five, let_in};
use crate::{
    calls::ask,
    harness::{Person, Server},
};

/// For whatever is waited for: the machine may be busy.
const LONG: Duration = Duration::from_mins(2);

/// One device that says something.
pub(super) struct Talker {
    inputs: mpsc::Sender<Input>,
    happened: mpsc::Receiver<Happened>,
    _running: JoinSet<()>,
}

impl Talker {
    /// Goes to LiveKit, and waits until what it says arrives there.
    pub(super) async fn start(who: &Person, sfu: CallSfu) -> Self {
        let settings = Settings { bind: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
        let source = Source::tone(440).unwrap();
        let (mesh, inputs, happened) =
            Mesh::new(who.device(), settings, source, Sink::Nowhere).unwrap();
        let mut running = JoinSet::new();
        running.spawn(async move { mesh.run().await.unwrap() });
        let mut talker = Self { inputs, happened, _running: running };
        talker.goes(sfu).await;
        talker
    }

    async fn goes(&mut self, sfu: CallSfu) {
        let access = Access {
            url: sfu.url,
            token: sfu.jwt.into(),
            whose: Whose::Home,
            is_sealed: false,
            speaks: true,
        };
        self.inputs.send(Input::Server(Some(Box::new(access)))).await.unwrap();
        self.until(&Served::Published).await;
    }

    /// Its room is gone, for which it asks where to go.
    pub(super) async fn goes_anew(&mut self, sfu: CallSfu) {
        self.until(&Served::Over(Over::RoomGone)).await;
        self.goes(sfu).await;
    }

    async fn until(&mut self, served: &Served) {
        let until = async {
            loop {
                match self.happened.recv().await.unwrap() {
                    Happened::Served(it) if it == *served => break,
                    _ => {}
                }
            }
        };
        timeout(LONG, until).await.unwrap_or_else(|_| panic!("never: {served:?}"));
    }

    pub(super) async fn is_put_out(&mut self) {
        self.until(&Served::Over(Over::Removed)).await;
    }
}

impl Five {
    /// All go to LiveKit and say so, in the call's epoch.
    pub(super) async fn all_talk(&self, server: &Server) -> Vec<Talker> {
        let epoch = self.state(server).await.epoch;
        let mut talkers = Vec::new();
        for who in &self.people {
            let sfu = let_in(server, who, &self.group, (self.call, epoch)).await;
            talkers.push(Talker::start(who, sfu).await);
        }
        for who in &self.people {
            let body = json!({ "epoch": epoch, "connected": [], "ready": { "published": true } });
            let said = ask(server, who, &self.group, (self.call, "report"), body).await;
            said.ok::<CallState>();
        }
        talkers
    }
}
