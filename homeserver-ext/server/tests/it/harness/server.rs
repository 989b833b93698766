//! The server on a loopback port, and its answers.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use causeway_protocol::{
    api::{ErrorBody, PREFIX},
    device::DeviceList,
    ids::{Signature, Timestamp},
    roster::{Body, Op},
};
use causeway_server::{App, Clock, Config, GuestQuotas, TokenHash};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{Group, Person};

pub(crate) const SERVER: &str = "a.example";
pub(crate) const TOKEN: &str = "people's token";
pub(crate) const BRIDGE_TOKEN: &str = "the bridge's token";

/// A running server.
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) app: App,
    pub(crate) http: reqwest::Client,
    clock: Arc<AtomicU64>,
    stop: CancellationToken,
    task: tokio::task::JoinSet<()>,
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

    /// On what is in this folder.
    pub(crate) async fn start_in(
        dir: Arc<tempfile::TempDir>,
        clock: Arc<AtomicU64>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::new(SERVER, dir.path().join("server.db"));
        config.registration_token = Some(TokenHash::of(TOKEN));
        config.bridge_registration_token = Some(TokenHash::of(BRIDGE_TOKEN));
        // All of a test's people call from one address.
        config.guests = GuestQuotas { register: None, login: None, link: None };
        config.edge.per_address = 10_000;
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
        self.task.join_next().await.unwrap().unwrap();
    }

    /// What it is on, to be started again on.
    pub(crate) fn folder(&self) -> Arc<tempfile::TempDir> {
        Arc::clone(&self.dir)
    }

    pub(crate) fn clock(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.clock)
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

    /// Changes the database behind the server's back.
    pub(crate) async fn change(&self, statement: &str) {
        use sqlx::ConnectOptions as _;
        let path = self.dir.path().join("server.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut conn = options.connect().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
    }

    /// Has everybody whom an op names registered as it names them: the people of the vectors never
    /// asked this server.
    pub(crate) async fn know(&self, op: &Op) {
        use sqlx::ConnectOptions as _;
        let signer = op.signer().member_id;
        let path = self.dir.path().join("server.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut conn = options.connect().await.unwrap();
        let named = match op.body().unwrap() {
            Body::Create(create) => vec![(signer, create.account, create.devices)],
            Body::Add(entries) => {
                entries.into_iter().map(|e| (e.member_id, e.account, e.devices)).collect()
            }
            Body::Devices(devices) => {
                let account =
                    sqlx::query_scalar("SELECT account FROM accounts WHERE member_id = $1")
                        .bind(signer.as_ref())
                        .fetch_one(&mut conn)
                        .await
                        .unwrap();
                vec![(signer, account, devices)]
            }
            _ => Vec::new(),
        };
        for (member_id, account, devices) in named {
            let list = DeviceList {
                account: account.parse().unwrap(),
                member_id,
                version: devices.version,
                created_ms: Timestamp(1),
                devices: devices.ids,
                signature: Signature::new([0; 64]),
            };
            sqlx::query(
                "INSERT INTO accounts (account, member_id, list, created_ms) VALUES ($1, $2, $3, 1)
                 ON CONFLICT (account) DO UPDATE SET list = excluded.list",
            )
            .bind(&account)
            .bind(member_id.as_ref())
            .bind(serde_json::to_string(&list).unwrap())
            .execute(&mut conn)
            .await
            .unwrap();
        }
    }

    /// So many events of the first group of this server, the first at this number.
    pub(crate) async fn log_events(&self, first: u64, count: u64) {
        use sqlx::ConnectOptions as _;
        let path = self.dir.path().join("server.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut conn = options.connect().await.unwrap();
        let [first, count, now] = [first, count, self.now().0].map(|n| i64::try_from(n).unwrap());
        sqlx::query(
            "WITH RECURSIVE n(n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM n WHERE n < $1 + $2 - 1)
             INSERT INTO event_log (event, at_ms, grp, place, kind, account, own, about)
             SELECT n, $3, 1, n, 'key.rotated', 'alice:a.example', FALSE, '{}' FROM n",
        )
        .bind(first)
        .bind(count)
        .bind(now)
        .execute(&mut conn)
        .await
        .unwrap();
        sqlx::query("UPDATE numbers SET last = $1")
            .bind(first + count - 1)
            .execute(&mut conn)
            .await
            .unwrap();
    }

    /// That every row is as it was; shows only those that are not.
    pub(crate) async fn assert_unchanged(&self, before: &[String]) {
        let after = self.rows().await;
        let only_in = |one: &[String], other: &[String]| {
            one.iter().filter(|row| !other.contains(row)).cloned().collect::<Vec<_>>()
        };
        let (gone, new) = (only_in(before, &after), only_in(&after, before));
        assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
        assert_eq!(after.len(), before.len());
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
        Person::new(name).registered(self).await
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
