//! What is told to the devices of a call: to each in order, to several at once, and to none for ever. Only
//! a frame key is tried for as long as this device's own server is away, or asks to wait: nothing newer comes in its
//! place.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use causeway_protocol::{
    ids::{DeviceId, GroupId},
    olm_plaintext::CallSignal,
};
use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::time::{Instant, sleep};

use crate::{
    machine::Batch,
    sdk::{Client, INSISTS, SignalError},
};

/// Signals that wait for one device; there are fewer for a connection.
const MOST: usize = 64;
/// How long it is tried to tell a device of which this one may not have heard yet.
const TRIES_FOR: Duration = Duration::from_secs(10);
const TRIES_EVERY: Duration = Duration::from_secs(1);
/// How long a server that asks to be left alone is, at most.
const LONGEST: Duration = Duration::from_secs(10);
/// How long a server that does not answer is asked to take a key, before that is known here.
const KEY_INSISTS: Duration = Duration::from_secs(2);

pub(super) struct Sayings {
    client: Client,
    group: GroupId,
    /// Empty while something goes there.
    waiting: BTreeMap<DeviceId, VecDeque<Saying>>,
    going: FuturesUnordered<BoxFuture<'static, Told>>,
    goes_on: bool,
}

/// To whom what was told, and what became of it.
type Told = (DeviceId, Saying, Result<(), SignalError>);

/// What is to be told.
pub(super) struct Saying {
    pub(super) signal: CallSignal,
    /// Where it is a frame key, which.
    pub(super) key: Option<u8>,
    /// As it was sealed, where it was, and the server did not answer.
    sealed: Option<Batch>,
}

impl Saying {
    pub(super) const fn new(signal: CallSignal, key: Option<u8>) -> Self {
        Self { signal, key, sealed: None }
    }
}

/// What became of it.
pub(super) struct Said {
    pub(super) to: DeviceId,
    pub(super) key: Option<u8>,
    pub(super) done: Result<(), SignalError>,
    /// It is told again.
    pub(super) is_held: bool,
}

impl Sayings {
    pub(super) fn new(client: Client, group: GroupId) -> Self {
        let (waiting, going) = (BTreeMap::new(), FuturesUnordered::new());
        Self { client, group, waiting, going, goes_on: true }
    }

    /// Tells it when what was to be told before is; what is too much is left out, and begun anew. Whether
    /// it is told.
    pub(super) fn say(&mut self, to: DeviceId, saying: Saying) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&to) {
            let has_room = waiting.len() < MOST;
            if has_room {
                waiting.push_back(saying);
            }
            return has_room;
        }
        self.waiting.insert(to, VecDeque::new());
        self.go(to, saying, Duration::ZERO);
        true
    }

    /// Who was told something next, or could not be; none while nothing is to be told. Nothing is lost
    /// when this is given up.
    pub(super) async fn next(&mut self) -> Option<Said> {
        let (to, saying, done) = self.going.next().await?;
        let key = saying.key;
        let later = match &done {
            Err(error) if error.is_away() => Some(TRIES_EVERY),
            Err(error) => error.asked_to_wait().map(|wait| wait.clamp(TRIES_EVERY, LONGEST)),
            Ok(()) => None,
        };
        let later = later.filter(|_| self.goes_on && key.is_some());
        let is_held = later.is_some();
        if let Some(later) = later {
            self.go(to, saying, later);
        } else {
            match self.waiting.get_mut(&to).and_then(VecDeque::pop_front) {
                Some(saying) => self.go(to, saying, Duration::ZERO),
                None => drop(self.waiting.remove(&to)),
            }
        }
        Some(Said { to, key, done, is_held })
    }

    /// Nothing is told for as long as it takes any more.
    pub(super) fn ends(&mut self) {
        self.goes_on = false;
    }

    pub(super) fn is_done(&self) -> bool {
        self.going.is_empty()
    }

    fn go(&self, to: DeviceId, mut saying: Saying, later: Duration) {
        let (client, group) = (self.client.clone(), self.group);
        self.going.push(Box::pin(async move {
            sleep(later).await;
            let done = tell(&client, group, to, &mut saying).await;
            (to, saying, done)
        }));
    }
}

/// The op that lets a device in may come after the call's state with it.
async fn tell(
    client: &Client,
    group: GroupId,
    to: DeviceId,
    saying: &mut Saying,
) -> Result<(), SignalError> {
    let insists = saying.key.map_or(INSISTS, |_| KEY_INSISTS);
    let until = Instant::now() + TRIES_FOR;
    loop {
        let told =
            client.signal_within(insists, (group, to), &saying.signal, &mut saying.sealed).await;
        let again = matches!(told, Err(SignalError::Nobody | SignalError::Contended));
        if !again || Instant::now() + TRIES_EVERY >= until {
            return told;
        }
        sleep(TRIES_EVERY).await;
        client.sync_group(group).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, Ordering::SeqCst},
        },
    };

    use causeway_protocol::{
        api::Registration,
        ids::{CallId, Timestamp},
        roster::{Role, Scheme},
    };
    use causeway_server::{App, Clock, Config};
    use causeway_store::{Db, Lock, Options, Tx};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        SCHEMA, Vault,
        machine::{NewGroup, Received},
        sdk::{Keep, KeepError},
    };

    struct Nothing;

    impl Keep for Nothing {
        fn keep<'a>(
            &'a self,
            _: &'a Client,
            _: &'a mut Tx,
            _: Vec<Received>,
        ) -> BoxFuture<'a, Result<(), KeepError>> {
            Box::pin(std::future::ready(Ok(())))
        }
    }

    fn now() -> Timestamp {
        Timestamp(1_900_000_000_000)
    }

    /// What stands before a server: what was posted into groups, and whether the server is away.
    #[derive(Default)]
    struct Front {
        posted: Mutex<Vec<Vec<u8>>>,
        is_away: AtomicBool,
        /// It lets nobody more in for now.
        is_full: AtomicBool,
    }

    impl Front {
        async fn carry(&self, mut client: TcpStream, upstream: SocketAddr) -> Option<()> {
            let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
            let (head, body) = loop {
                let count = client.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
                bytes.extend_from_slice(&chunk[..count]);
                let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|it| it.lines().next());
                let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
                if bytes.len() >= end + 4 + length {
                    break (head, bytes[end + 4..].to_vec());
                }
            };
            if head.starts_with("post ") && head.contains("/groups/") {
                self.posted.lock().unwrap().push(body);
            }
            if self.is_away.load(SeqCst) {
                return None;
            }
            if self.is_full.load(SeqCst) {
                let later = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nretry-after: 1\r\n\
                             connection: close\r\n\r\n";
                return client.write_all(later.as_bytes()).await.ok();
            }
            // One request on each connection, so that each is seen.
            let line = bytes.iter().position(|byte| *byte == b'\n')? + 1;
            bytes.splice(line..line, *b"connection: close\r\n");
            let mut server = TcpStream::connect(upstream).await.ok()?;
            server.write_all(&bytes).await.ok()?;
            copy(&mut server, &mut client).await.ok().map(drop)
        }
    }

    async fn device(folder: &std::path::Path, url: &str, name: &str) -> Client {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("client.db");
        let db = Db::open(Options { path, lock: Lock::Exclusive, schemas: &[SCHEMA] });
        let db = db.await.unwrap();
        let vault = Vault::open(&db, &folder.join("storage.key")).await.unwrap();
        let keeper = Arc::new(Nothing);
        Client::register(db, vault, Some(url), name, None, keeper, now).await.unwrap().client
    }

    /// A try that is sealed anew takes a key of the Olm session, and the other side would have to make up for
    /// all of them.
    #[tokio::test]
    async fn a_key_that_is_held_up_is_posted_as_the_same_bytes_until_the_server_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new("native.example", folder.path().join("server.db"));
        config.registration = Registration::Open;
        let app = App::open(config, Clock::new(now)).await.unwrap();
        let (inner, outer) =
            (TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await);
        let (inner, outer) = (inner.unwrap(), outer.unwrap());
        let upstream = inner.local_addr().unwrap();
        let url = format!("http://{}", outer.local_addr().unwrap());
        let (front, mut tasks) = (Arc::new(Front::default()), tokio::task::JoinSet::new());
        tasks.spawn(app.serve(inner, tokio_util::sync::CancellationToken::new()));
        let of_all = Arc::clone(&front);
        tasks.spawn(async move {
            let mut carried = tokio::task::JoinSet::new();
            while let Ok((client, _)) = outer.accept().await {
                let front = Arc::clone(&of_all);
                carried.spawn(async move { front.carry(client, upstream).await });
            }
        });
        let ann = device(folder.path(), &url, "ann").await;
        let ben = device(folder.path(), &url, "ben").await;
        let new = NewGroup {
            scheme: Scheme::SenderKeys,
            suite: None,
            name: "Callers".to_owned(),
            description: String::new(),
            members_may_add: false,
            is_channel: false,
            max_members: 10,
            ttl_s: 86_400,
        };
        let group = ann.create_group(new).await.unwrap();
        ann.add(group, &ben.me().account, Role::Member).await.unwrap();
        let to = ben.me().record.device_id;
        let signal = |json: &str| CallSignal {
            call: CallId::new([7; 16]),
            epoch: 1,
            json: json.as_bytes().to_vec().into(),
        };
        let mut sayings = Sayings::new(ann, group);
        sayings.say(to, Saying::new(signal("{}"), None));
        sayings.next().await.unwrap().done.unwrap();
        front.is_away.store(true, SeqCst);
        front.posted.lock().unwrap().clear();
        sayings.say(to, Saying::new(signal(r#"{"key":1}"#), Some(1)));
        for _ in 0..2 {
            let said = sayings.next().await.unwrap();
            assert!(said.is_held && said.key == Some(1), "{:?}", said.done);
        }
        let tried = front.posted.lock().unwrap().len();
        front.is_full.store(true, SeqCst);
        front.is_away.store(false, SeqCst);
        loop {
            let said = sayings.next().await.unwrap();
            assert!(said.is_held && said.key == Some(1), "{:?}", said.done);
            if said.done.as_ref().is_err_and(|error| error.asked_to_wait().is_some()) {
                break;
            }
        }
        front.is_full.store(false, SeqCst);
        while let Some(said) = sayings.next().await {
            assert!(said.is_held || said.done.is_ok(), "{:?}", said.done);
        }
        let posted = front.posted.lock().unwrap();
        assert!(tried >= 2 && posted.len() > tried, "{tried} of {}", posted.len());
        assert!(posted.iter().all(|body| *body == posted[0]), "it is sealed once");
    }
}
