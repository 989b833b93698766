//! A spine on a stub homeserver, stepped by hand.

use std::{
    collections::BTreeSet,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use causeway_bridge::{
    clock,
    domain::{
        MessageRef, TextKind,
        effect::{Deed, Effect, Here, InRoom},
        ghost::Names,
        lane::Lane,
        portal::{Portal, PortalId},
        said::{Said, Spoken, Text},
        share::Terms,
        suspicion::{Came, is_doubtful},
    },
    gateway::{door::Door, matrix::Matrix, openid::OpenId, public::Public},
    health::Troubles,
    secret::Secret,
    services::{
        Clock, Spine, Step, deliver,
        encryption::Encryption,
        focus::{self, Focus},
        from_matrix, from_native,
    },
    steps::Steps,
    storage::{
        SCHEMA, dead_letters,
        effects::{Cause, Decided},
        inbox,
        outbox::{self, Head},
        portals, quarantine,
        sealed::Sealer,
        stats::{self, Stats},
    },
};
use causeway_groups::{
    Machine, Vault,
    machine::{Received, RosterChange, What},
    sdk::{Client, Http, Keep as _},
};
use causeway_protocol::{
    ids::{ClientId, DeviceId, EnvelopeId, Epoch, GroupId, Seq, Timestamp},
    roster,
};
use causeway_store::{Conn, Db, Lock, Options, Script};
use ruma::ServerName;
use serde_json::{Value, value::to_raw_value};
use tokio::sync::watch;

use crate::stub::Stub;

/// When tests begin; the homeserver's events are from then.
pub(crate) const START: u64 = 1_000_000_000_000;
const TTL: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Who of Matrix is let into calls; `door`: where the native server is, and its token.
pub(crate) fn focus(spine: &Spine, door: Option<(&str, &str)>) -> Arc<Focus> {
    let server = ServerName::parse(spine.names.server()).unwrap();
    Arc::new(Focus::new(focus::Parts {
        db: spine.db.clone(),
        matrix: spine.matrix.clone(),
        names: spine.names.clone(),
        openid: OpenId::new(spine.matrix.clone(), server, Public::new(false).unwrap()),
        door: door.map(|(url, token)| Door::new(url, Secret::new(token)).unwrap()),
        takes_leaves: door.is_some(),
        other_rooms: false,
        clock: spine.clock.clone(),
    }))
}

/// The database of a bridge in a folder.
pub(crate) async fn database(folder: &std::path::Path) -> Db {
    let path = folder.join("bridge.db");
    let schemas = &[causeway_groups::SCHEMA, SCHEMA];
    Db::open(Options { path, lock: Lock::Exclusive, schemas }).await.unwrap()
}

/// A device whose server is not there: for what has to do with rooms alone.
async fn nobody(db: &Db, vault: Vault, router: Arc<from_native::Router>) -> Client {
    let account = "bridge:b.example".parse().unwrap();
    let mut tx = db.begin().await.unwrap();
    let (machine, _) =
        Machine::create(&mut tx, vault.clone(), account, clock::now()).await.unwrap();
    tx.commit().await.unwrap();
    let http = Http::new("http://127.0.0.1:9").unwrap();
    Client::new(http, machine, db.clone(), vault, router, clock::now)
}

pub(crate) struct Bridge {
    pub(crate) spine: Spine,
    pub(crate) stub: Stub,
    pub(crate) clock: Arc<AtomicU64>,
    /// Milliseconds that have passed, whatever the clock says.
    pub(crate) steady: Arc<AtomicU64>,
    router: Arc<from_native::Router>,
    _folder: tempfile::TempDir,
    opened: Mutex<BTreeSet<String>>,
    /// The transaction that was pushed last.
    last: Mutex<Option<String>>,
    spoken: u8,
}

impl Bridge {
    /// What stands first in a lane.
    pub(crate) async fn first<D: TryFrom<Deed>>(&self, conn: &mut Conn, lane: &Lane) -> Head<D> {
        let Spine { sealer, names, .. } = &self.spine;
        outbox::first(conn, sealer, names, lane, Script::default()).await.unwrap().1
    }

    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = database(folder.path()).await;
        let vault = Vault::open(&db, &folder.path().join("storage.key")).await.unwrap();
        let stub = Stub::start().await;
        let clock = Arc::new(AtomicU64::new(START));
        let steady = Arc::new(AtomicU64::new(0));
        let (told, passed) = (Arc::clone(&clock), Arc::clone(&steady));
        let clock_of_all: Clock = Arc::new(move || Timestamp(told.load(Ordering::Relaxed)));
        let (sealer, steps) = (Sealer(vault.clone()), Steps::default());
        let names = Names::new("b.example").unwrap();
        let router = Arc::new(from_native::Router {
            sealer: sealer.clone(),
            names: names.clone(),
            terms: watch::Sender::new(Terms { allow: vec![], rooms: None, invites: None })
                .subscribe(),
            clock: Arc::clone(&clock_of_all),
            steps: steps.clone(),
        });
        let native = nobody(&db, vault, Arc::clone(&router)).await;
        let spine = Spine {
            leases: deliver::Leases::new(&db),
            db,
            sealer,
            native,
            matrix: Matrix::new(&stub.url, Secret::new("token")).unwrap(),
            names,
            clock: clock_of_all,
            steady: Arc::new(move || Duration::from_millis(passed.load(Ordering::Relaxed))),
            delivery_limit: 3,
            encryption: Encryption::default(),
            markers: deliver::Markers::default(),
            token_taken: watch::Sender::new(true),
            locked_out: watch::Sender::new(None),
            rooms_known: Arc::new(true.into()),
            rooms_looked: Arc::new(true.into()),
            forgotten: Arc::default(),
            asks: Arc::default(),
            calls_told: causeway_bridge::services::calls::Told::default(),
            calls_said: causeway_bridge::services::calls::Said::default(),
            calls: causeway_bridge::services::calls::InRooms::default(),
            door: None,
            troubles: Troubles::default(),
            steps,
        };
        let (opened, last) = (Mutex::default(), Mutex::default());
        Self { spine, stub, clock, steady, router, _folder: folder, opened, last, spoken: 0 }
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
        self.steady.fetch_add(ms, Ordering::Relaxed);
        self.stub.look(|rooms| rooms.ahead += ms);
    }

    /// A portal whose room is being made.
    pub(crate) async fn portal(&self, number: u8) -> PortalId {
        let group = GroupId::new([number; 32]);
        let mut tx = self.spine.db.begin().await.unwrap();
        let id =
            portals::found(&mut tx, &self.spine.names, self.spine.now(), &group).await.unwrap();
        let id = id.id;
        tx.commit().await.unwrap();
        let opened = Effect::Here(Here::Opened("Walkers".to_owned()));
        self.keep(id, &[number], vec![opened, Effect::InRoom(InRoom::Make)]).await;
        id
    }

    /// Keeps effects as if an input had had them.
    pub(crate) async fn keep(&self, portal: PortalId, cause: &[u8], effects: Vec<Effect>) {
        let Spine { db, sealer, names, .. } = &self.spine;
        let mut tx = db.begin().await.unwrap();
        let mut portal = portals::get(&mut tx, names, portal).await.unwrap();
        let now = self.spine.now();
        let expires_at = now.plus_ms(TTL);
        let cause = Cause { id: cause, author: "test", accepted_at: now, expires_at };
        let mut decided = Decided::default();
        decided.take(&mut portal, cause, effects);
        decided.keep(&mut tx, sealer, now, std::iter::once(&mut portal)).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// An admin lets the bridge into the portal's group.
    pub(crate) async fn let_in(&self, portal: PortalId, epoch: u8) {
        let change = RosterChange {
            epoch: Epoch(epoch.into()),
            kind: roster::Kind::Add,
            by: Some("ann:b.example".parse().unwrap()),
            joined: vec![],
            left: vec![],
            my_role_before: None,
            my_role: Some(roster::Role::Bridge),
            me_joined: true,
            me_left: false,
            cut: false,
            closed: false,
            policy: None,
        };
        let group = self.portal_now(portal).await.group;
        let received = vec![Received { seq: Seq(0), group, what: What::Roster(change) }];
        let mut tx = self.spine.db.begin().await.unwrap();
        self.router.keep(&self.spine.native, &mut tx, received).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A native account says something.
    pub(crate) async fn say(&mut self, portal: PortalId, account: &str, body: &str) -> Spoken {
        let spoken = self.spoken(account, body);
        self.keep(portal, &[self.spoken], vec![Effect::InRoom(InRoom::Say(spoken.clone()))]).await;
        spoken
    }

    /// Something that a native account says, and that nothing is done about yet.
    pub(crate) fn spoken(&mut self, account: &str, body: &str) -> Spoken {
        self.spoken += 1;
        Spoken {
            account: account.parse().unwrap(),
            reference: MessageRef {
                device: DeviceId::new([1; 32]),
                client_id: ClientId::new([self.spoken; 16]),
            },
            message_id: EnvelopeId::new([self.spoken; 16]),
            expires_at: self.spine.now().plus_ms(TTL),
            sent_at: None,
            late: false,
            said: Said::Text(
                Text { kind: TextKind::Text, body: body.to_owned(), html: None },
                None,
            ),
        }
    }

    /// The homeserver's events of a kind, as it would push them.
    pub(crate) async fn push(&self, events: &[Value]) -> inbox::Accepted {
        self.push_as("1", events).await
    }

    /// The same, as the transaction of this number.
    pub(crate) async fn push_as(&self, txn: &str, events: &[Value]) -> inbox::Accepted {
        self.push_so(Came { txn, on_new_connection: false, whole: true }, events).await
    }

    /// The same, as a transaction that came so.
    pub(crate) async fn push_so(&self, came: Came<'_>, events: &[Value]) -> inbox::Accepted {
        let raw: Vec<_> = events.iter().map(|event| to_raw_value(event).unwrap()).collect();
        let is_doubted = is_doubtful(self.last.lock().unwrap().as_deref(), came);
        let Spine { db, sealer, .. } = &self.spine;
        let mut intake = inbox::accept(sealer, self.spine.now(), is_doubted, &raw).unwrap();
        let mut tx = db.begin().await.unwrap();
        for (reason, raw) in &intake.unread {
            let bytes = raw.get().as_bytes();
            quarantine::put(&mut tx, sealer, self.spine.now(), None, reason, bytes).await.unwrap();
        }
        for topic in intake.topics.drain(..) {
            tx.wake(topic);
        }
        let rows = tx.commit_with(mem::take(&mut intake.script)).await.unwrap();
        let accepted = intake.accepted(&rows);
        *self.last.lock().unwrap() = Some(came.txn.to_owned());
        accepted
    }

    /// Steps until there is nothing to do now.
    pub(crate) async fn drain(&self) {
        while from_matrix::step(&self.spine).await.unwrap() == Step::Did {}
        while deliver::step(&self.spine).await.unwrap() == Step::Did {}
        self.drop_openings().await;
    }

    /// Every portal's first word says that it is open; nobody is there to hear it, which buries it.
    async fn drop_openings(&self) {
        let mut tx = self.spine.db.begin().await.unwrap();
        for letter in
            dead_letters::list(&mut self.spine.db.read().await.unwrap(), 0, 100).await.unwrap()
        {
            let is_open = letter.lane.ends_with("/to_native") && {
                let lane: Lane = letter.lane.parse().unwrap();
                portals::get(&mut tx, &self.spine.names, lane.portal())
                    .await
                    .unwrap()
                    .room
                    .is_some()
            };
            if is_open && self.opened.lock().unwrap().insert(letter.lane) {
                dead_letters::drop(&mut tx, letter.id).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
    }

    pub(crate) async fn stats(&self) -> Stats {
        stats::read(&mut self.spine.db.read().await.unwrap()).await.unwrap()
    }

    pub(crate) async fn portal_now(&self, id: PortalId) -> Portal {
        let mut tx = self.spine.db.begin().await.unwrap();
        portals::get(&mut tx, &self.spine.names, id).await.unwrap()
    }
}
