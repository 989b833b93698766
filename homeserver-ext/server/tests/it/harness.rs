//! A server on a loopback port, and people who speak to it with their own keys.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use causeway_protocol::{
    api::{
        Accepted, AccountDevices, ErrorBody, GroupHead, LoginNonce, LoginRequest, OpPage, PREFIX,
        PostEnvelopes, RegisterRequest, Session, StreamAck, StreamRow,
    },
    device::{DeviceList, DeviceRecord, OneTimeKey, login_bytes},
    envelope::{Envelope, Kind, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{
        AccountId, CurveKey, DeviceId, Epoch, GroupId, InviteKey, KeyId, MemberId, Seq, Signature,
        Timestamp, text_of,
    },
    invite::Join,
    roster::{Body, Create, Devices, Entry, Op, OpCore, Policy, Roster},
};
use causeway_server::{App, Clock, Config, GuestQuotas, TokenHash};
use ed25519_dalek::{Signer as _, SigningKey};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use tokio_util::sync::CancellationToken;

pub(crate) const SERVER: &str = "a.example";
pub(crate) const TOKEN: &str = "people's token";
pub(crate) const BRIDGE_TOKEN: &str = "the bridge's token";
pub(crate) const MONTH_MS: u64 = 2_592_000_000;
/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) app: App,
    pub(crate) http: reqwest::Client,
    clock: Arc<AtomicU64>,
    stop: CancellationToken,
    task: tokio::task::JoinSet<std::io::Result<()>>,
    dir: Arc<tempfile::TempDir>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(dir, Arc::new(AtomicU64::new(1_800_000_000_000)), change).await
    }

    async fn start_in(
        dir: Arc<tempfile::TempDir>,
        clock: Arc<AtomicU64>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::new(SERVER, dir.path().join("server.db"));
        config.registration_token = Some(TokenHash::of(TOKEN));
        config.bridge_registration_token = Some(TokenHash::of(BRIDGE_TOKEN));
        // All of a test's people call from one address.
        config.guests = GuestQuotas { register: None, login: None };
        change(&mut config);
        let time = Arc::clone(&clock);
        let clock_fn = Clock::new(move || Timestamp(time.load(Ordering::SeqCst)));
        let app = App::open(config, clock_fn).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(app.clone().serve(listener, stop.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, app, http, clock, stop, task, dir }
    }

    /// Stops it in order, and starts it again on the same database.
    pub(crate) async fn restart(self) -> Self {
        let (dir, clock) = (Arc::clone(&self.dir), Arc::clone(&self.clock));
        self.stop().await;
        Self::start_in(dir, clock, |_| {}).await
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn database(&self) -> &Path {
        self.dir.path()
    }

    /// Every row of every table as text, to see that nothing changed.
    pub(crate) async fn rows(&self) -> Vec<String> {
        use sqlx::{ConnectOptions as _, Row as _};
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.dir.path().join("server.db"))
            .read_only(true);
        let mut conn = options.connect().await.unwrap();
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut conn).await.unwrap();
        let mut rows = Vec::new();
        for table in tables {
            let info =
                sqlx::AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
            let columns: Vec<String> = sqlx::query_scalar(info).fetch_all(&mut conn).await.unwrap();
            let columns: Vec<_> = columns.iter().map(|name| format!("quote({name})")).collect();
            let sql = format!("SELECT {} FROM {table} ORDER BY 1", columns.join(" || ',' || "));
            for row in sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap() {
                rows.push(format!("{table}: {}", row.get::<String, _>(0)));
            }
        }
        rows
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    pub(crate) fn pass_ms(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> Answer {
        let request = self.http.request(method, format!("{}{PREFIX}{path}", self.base)).body(body);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        Answer { status, body: answer.bytes().await.unwrap().to_vec() }
    }

    /// Registers a person with one device.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let person = Person::new(name);
        let session: Session = self
            .send(Method::POST, "/register", None, json(&person.registration(TOKEN)))
            .await
            .ok();
        person.with_token(session.access_token)
    }

    /// Registers people who are all in one group, the first as admin.
    pub(crate) async fn group<const N: usize>(&self, names: [&str; N]) -> (Group, [Person; N]) {
        let mut people = Vec::new();
        for name in names {
            people.push(self.person(name).await);
        }
        let (admin, others) = people.split_first().unwrap();
        let mut group = Group::create(self, admin).await;
        if !others.is_empty() {
            let entries = others.iter().map(|person| person.entry(0)).collect();
            group.post(self, admin, &Body::Add(entries)).await;
        }
        (group, people.try_into().ok().unwrap())
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn done(&self) {
        assert_eq!(self.status, StatusCode::NO_CONTENT, "{}", self.text());
    }

    #[track_caller]
    pub(crate) fn refused(&self, status: u16, errcode: &str) -> ErrorBody {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        let body: ErrorBody = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body.errcode, errcode, "{}", self.text());
        assert!(!body.error.is_empty());
        body
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn json(body: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&random())
}

pub(crate) fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

fn curve_key() -> CurveKey {
    let mut bytes: [u8; 32] = random();
    bytes[31] &= 0x3f;
    CurveKey::new(bytes)
}

/// An account with one device here, and its keys.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) identity: SigningKey,
    pub(crate) key: SigningKey,
    pub(crate) record: DeviceRecord,
    pub(crate) list: DeviceList,
    pub(crate) token: String,
}

impl Person {
    pub(crate) fn new(name: &str) -> Self {
        let (identity, key) = (signing_key(), signing_key());
        let record = record(&identity, &key);
        let account: AccountId = format!("{name}:{SERVER}").parse().unwrap();
        let list = list(&identity, &account, 1, vec![record.device_id]);
        Self { account, identity, key, record, list, token: String::new() }
    }

    pub(crate) fn with_token(mut self, token: String) -> Self {
        self.token = token;
        self
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.record.device_id
    }

    pub(crate) fn member(&self) -> MemberId {
        self.record.member_id
    }

    pub(crate) fn registration(&self, token: &str) -> RegisterRequest {
        RegisterRequest {
            token: Some(token.to_owned()),
            list: self.list.clone(),
            device: self.record.clone(),
            one_time_keys: (1..=5).map(|n| self.one_time_key(n, false)).collect(),
            fallback_key: self.one_time_key(1_000, true),
        }
    }

    pub(crate) fn one_time_key(&self, number: u64, fallback: bool) -> OneTimeKey {
        let mut key = OneTimeKey {
            key_id: KeyId::new(number.to_be_bytes()),
            fallback,
            curve25519: curve_key(),
            signature: Signature::new([0; 64]),
        };
        key.signature = sign(&self.key, &key.signed_bytes(&self.device()));
        key
    }

    /// The account's second device, on the server's list from now on; not logged in.
    pub(crate) async fn second_device(&self, server: &Server) -> Self {
        let key = signing_key();
        let record = record(&self.identity, &key);
        let mut records = vec![self.record.clone(), record.clone()];
        records.sort_by_key(|record| record.device_id);
        let ids = records.iter().map(|record| record.device_id).collect();
        let list = list(&self.identity, &self.account, self.list.version + 1, ids);
        let body = AccountDevices { list: list.clone(), devices: records };
        self.put(server, "/account/devices", &body).await.done();
        Self { key, record, list, ..self.clone() }
    }

    pub(crate) async fn login(&self, server: &Server) -> Answer {
        let nonce: LoginNonce =
            server.send(Method::POST, "/login/nonce", None, b"{}".to_vec()).await.ok();
        let signature = sign(&self.key, &login_bytes(SERVER, &self.device(), &nonce.nonce));
        let request = LoginRequest { device_id: self.device(), nonce: nonce.nonce, signature };
        server.send(Method::POST, "/login", None, json(&request)).await
    }

    pub(crate) async fn get(&self, server: &Server, path: &str) -> Answer {
        server.send(Method::GET, path, Some(&self.token), Vec::new()).await
    }

    pub(crate) async fn delete(&self, server: &Server, path: &str) -> Answer {
        server.send(Method::DELETE, path, Some(&self.token), Vec::new()).await
    }

    pub(crate) async fn post(
        &self,
        server: &Server,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Answer {
        server.send(Method::POST, path, Some(&self.token), json(body)).await
    }

    pub(crate) async fn put(
        &self,
        server: &Server,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Answer {
        server.send(Method::PUT, path, Some(&self.token), json(body)).await
    }

    pub(crate) fn entry(&self, role: u8) -> Entry {
        Entry {
            member_id: self.member(),
            role,
            account: self.account.as_str().to_owned(),
            legacy_id: String::new(),
            devices: self.devices(),
        }
    }

    pub(crate) fn devices(&self) -> Devices {
        Devices { version: self.list.version, ids: self.list.devices.clone() }
    }

    pub(crate) fn seal_op(&self, core: OpCore) -> Op {
        let signature = sign(&self.key, &core.signed_bytes().unwrap());
        core.sealed(self.record.certificate, signature).unwrap()
    }

    /// A broadcast whose payload is `text`; nothing here can tell it from a sealed one.
    pub(crate) fn message(&self, group: GroupId, epoch: u32, text: &str) -> Submission {
        let to = SubmittedTo::Broadcast;
        self.submission(group, epoch, Kind::Message, to, text.as_bytes().to_vec())
    }

    pub(crate) fn submission(
        &self,
        group: GroupId,
        epoch: u32,
        kind: Kind,
        to: SubmittedTo,
        payload: Vec<u8>,
    ) -> Submission {
        let recipient = match &to {
            SubmittedTo::Broadcast => Some(Recipient::Broadcast),
            SubmittedTo::Device(device) => Some(Recipient::Device(*device)),
            SubmittedTo::Devices(_) => None,
        };
        let device = self.device();
        Submission {
            id: recipient.map(|to| compute_id(kind, Some(&device), &to, &payload, None)),
            kind,
            group,
            epoch: Epoch(epoch),
            sender: Sender { account: self.account.clone(), device },
            to,
            ttl_ms: if kind == Kind::Call { 60_000 } else { MONTH_MS },
            payload,
        }
    }

    pub(crate) async fn submit(&self, server: &Server, envelopes: Vec<Submission>) -> Answer {
        let group = envelopes[0].group;
        let path = format!("/groups/{group}/envelopes");
        self.post(server, &path, &PostEnvelopes { envelopes }).await
    }

    /// Posts texts of one epoch, in one batch.
    pub(crate) async fn say(&self, server: &Server, group: &Group, texts: &[&str]) -> Accepted {
        let epoch = group.roster.epoch().0;
        let envelopes = texts.iter().map(|text| self.message(group.id(), epoch, text)).collect();
        self.submit(server, envelopes).await.ok()
    }

    pub(crate) async fn stream(&self, server: &Server) -> Stream {
        Stream::open(server, &self.token).await.unwrap()
    }

    /// A request to join with the link whose key is `ik`.
    pub(crate) fn join(&self, server: &Server, group: GroupId, ik: &SigningKey) -> Join {
        let mut join = Join {
            group,
            ik_pub: InviteKey::new(ik.verifying_key().to_bytes()),
            device: self.record.device(),
            curve25519: self.record.curve25519,
            certificate: self.record.certificate,
            now: server.now(),
            account: self.account.as_str().to_owned(),
            devices: self.devices(),
            ik_signature: Signature::new([0; 64]),
            device_signature: Signature::new([0; 64]),
        };
        self.sign_join(&mut join, ik);
        join
    }

    pub(crate) fn sign_join(&self, join: &mut Join, ik: &SigningKey) {
        join.ik_signature = sign(ik, &join.signed_by_invite().unwrap());
        join.device_signature = sign(&self.key, &join.signed_by_device().unwrap());
    }

    pub(crate) async fn post_join(&self, server: &Server, group: GroupId, join: &Join) -> Answer {
        let request = text_of(&join.to_bytes().unwrap());
        self.post(server, &format!("/groups/{group}/join"), &json!({ "request": request })).await
    }
}

pub(crate) fn record(identity: &SigningKey, key: &SigningKey) -> DeviceRecord {
    let mut record = DeviceRecord {
        member_id: MemberId::new(identity.verifying_key().to_bytes()),
        device_id: DeviceId::new(key.verifying_key().to_bytes()),
        curve25519: curve_key(),
        signature: Signature::new([0; 64]),
        certificate: Signature::new([0; 64]),
    };
    let device = record.device();
    record.signature = sign(key, &DeviceRecord::record_bytes(&device, &record.curve25519));
    record.certificate =
        sign(identity, &DeviceRecord::certificate_bytes(&device, &record.curve25519));
    record
}

pub(crate) fn list(
    identity: &SigningKey,
    account: &AccountId,
    version: u32,
    devices: Vec<DeviceId>,
) -> DeviceList {
    let mut list = DeviceList {
        account: account.clone(),
        member_id: MemberId::new(identity.verifying_key().to_bytes()),
        version,
        created_ms: Timestamp(1),
        devices,
        signature: Signature::new([0; 64]),
    };
    list.signature = sign(identity, &list.signed_bytes());
    list
}

pub(crate) fn policy() -> Policy {
    Policy {
        min_version: 2,
        add_by: 0,
        post_by: 0,
        max_members: 100,
        ttl_s: 2_592_000,
        name: "tea".to_owned(),
        description: String::new(),
    }
}

/// A group as one who knows everything about it sees it.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) roster: Roster,
    pub(crate) ops: Vec<Op>,
}

impl Group {
    pub(crate) fn first_op(admin: &Person) -> Op {
        let create = Create {
            scheme: 1,
            suite: 1,
            rand: random(),
            account: admin.account.as_str().to_owned(),
            legacy_id: String::new(),
            devices: admin.devices(),
            policy: policy(),
        };
        admin.seal_op(OpCore::create(&admin.record, Timestamp(1), create).unwrap())
    }

    pub(crate) async fn create(server: &Server, admin: &Person) -> Self {
        let op = Self::first_op(admin);
        let head: GroupHead = admin.post(server, "/groups", &op_body(&op)).await.ok();
        let group = Self { roster: Roster::create(&op).unwrap(), ops: vec![op] };
        assert_eq!(head.roster_hash, group.roster.hash());
        group
    }

    pub(crate) fn id(&self) -> GroupId {
        self.roster.group()
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/groups/{}{rest}", self.id())
    }

    pub(crate) fn op(&self, signer: &Person, body: &Body) -> Op {
        signer.seal_op(OpCore::next(&self.roster, &signer.record, Timestamp(2), body).unwrap())
    }

    /// Posts the next op, which must be taken.
    pub(crate) async fn post(&mut self, server: &Server, signer: &Person, body: &Body) {
        let op = self.op(signer, body);
        let head: GroupHead = signer.post(server, &self.path("/roster"), &op_body(&op)).await.ok();
        self.install(op);
        assert_eq!(head.roster_hash, self.roster.hash());
    }

    pub(crate) fn install(&mut self, op: Op) {
        self.roster = self.roster.apply(&op).unwrap();
        self.ops.push(op);
    }

    pub(crate) async fn read_ops(&self, server: &Server, person: &Person) -> OpPage {
        person.get(server, &self.path("/roster")).await.ok()
    }
}

pub(crate) fn op_body(op: &Op) -> Value {
    json!({ "op": text_of(op.as_bytes()) })
}

/// A device's stream.
pub(crate) struct Stream(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Stream {
    pub(crate) async fn open(
        server: &Server,
        token: &str,
    ) -> Result<Self, Box<tokio_tungstenite::tungstenite::Error>> {
        let url = format!("{}{PREFIX}/stream", server.base.replace("http", "ws"));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Ok(Self(tokio_tungstenite::connect_async(request).await?.0))
    }

    /// The next row; skips pings.
    pub(crate) async fn next(&mut self) -> StreamRow {
        match self.frame().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("not a row: {other:?}"),
        }
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<StreamRow> {
        let mut rows = Vec::new();
        while rows.len() < count {
            rows.push(self.next().await);
        }
        rows
    }

    /// The payloads of the next messages as text; rows of other kinds are passed over.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let StreamRow { envelope, .. } = self.next().await;
            assert_eq!(envelope.check(), Ok(()), "{envelope:?}");
            if envelope.kind == Kind::Message {
                texts.push(text(&envelope));
            }
        }
        texts
    }

    pub(crate) async fn frame(&mut self) -> Message {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match frame.expect("the stream is silent").expect("the stream ended").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                frame => return frame,
            }
        }
    }

    /// The next frame of any kind.
    pub(crate) async fn any(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap()
    }

    /// Waits until the connection is no more, in whatever way.
    pub(crate) async fn broken(&mut self) {
        let end = async { while let Some(Ok(_)) = self.0.next().await {} };
        tokio::time::timeout(PATIENCE, end).await.expect("the stream goes on");
    }

    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Message::Close(frame) => return frame.unwrap().code.into(),
                Message::Text(_) => {}
                other => panic!("neither row nor end: {other:?}"),
            }
        }
    }

    pub(crate) async fn ack(&mut self, seq: u64) {
        self.send(Message::text(String::from_utf8(json(&StreamAck { ack: Seq(seq) })).unwrap()))
            .await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }
}

pub(crate) fn text(envelope: &Envelope) -> String {
    String::from_utf8(envelope.payload.clone()).unwrap()
}
