//! A real server in this process, on a loopback port, that can be stopped and put back.

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use causeway_protocol::{api::Registration, ids::Timestamp};
use causeway_server::{App, Clock, Config, GuestQuotas, LiveKit, Mesh, TokenHash};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

/// Its name, the part of its accounts after the colon.
pub(crate) const NAME: &str = "native.example";
/// What its agent shows at its door.
pub(crate) const DOOR_TOKEN: &str = "the door's token";

pub(crate) struct Server {
    name: String,
    address: SocketAddr,
    folder: TempDir,
    /// Bound to the address and not listening: nobody else gets it while the server is stopped.
    _kept: TcpSocket,
    /// Whether its operator says that the database was put back.
    pub(crate) put_back: bool,
    /// How far its clock is before everybody else's.
    ahead_ms: Arc<AtomicU64>,
    /// What carries calls that are too big for a mesh.
    livekit: Option<LiveKit>,
    /// What helps devices to reach each other directly.
    mesh: Mesh,
    /// How many talk directly, where that is other than usual.
    pub(crate) mesh_max: Option<usize>,
    /// Whether it speaks with other servers.
    has_door: bool,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::named(NAME)
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::with(name, false)
    }

    /// One that speaks with others by its door.
    pub(crate) fn among_others(name: &str) -> Self {
        Self::with(name, true)
    }

    fn with(name: &str, has_door: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let (kept, address) = free_address();
        let mut server = Self {
            name: name.to_owned(),
            address,
            folder,
            _kept: kept,
            put_back: false,
            ahead_ms: Arc::default(),
            livekit: None,
            mesh: Mesh::default(),
            mesh_max: None,
            has_door,
            running: None,
        };
        server.start_again();
        server
    }

    /// From the next start on with a server for bigger calls.
    pub(crate) fn with_livekit(&mut self, livekit: LiveKit) {
        self.stop();
        self.livekit = Some(livekit);
        self.start_again();
    }

    /// From the next start on with what helps devices to reach each other.
    pub(crate) fn with_mesh(&mut self, mesh: Mesh) {
        self.stop();
        self.mesh = mesh;
        self.start_again();
    }

    /// Time passes at the server, and what has run out there is over.
    pub(crate) fn passes(&mut self, ms: u64) {
        self.stop();
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
        self.start_again();
    }

    /// Likewise, while it runs.
    pub(crate) fn is_ahead_by(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// On the same port, with the same database.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none());
        let stop = CancellationToken::new();
        let (stopped, database, address) = (stop.clone(), self.database(), self.address);
        let (name, put_back) = (self.name.clone(), self.put_back);
        let (livekit, mesh) = (self.livekit.clone(), self.mesh.clone());
        let (mesh_max, has_door) = (self.mesh_max, self.has_door);
        let ahead_ms = Arc::clone(&self.ahead_ms);
        let passed = ahead_ms.load(Ordering::SeqCst);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let mut config = Config::new(name, database);
                config.registration = Registration::Open;
                config.put_back = put_back;
                config.claims_per_hour = 10_000;
                config.livekit = livekit;
                config.mesh = mesh;
                config.mesh_max = mesh_max.unwrap_or(config.mesh_max);
                config.guests = GuestQuotas { register: None, login: None, link: None };
                config.edge.per_address = 10_000;
                config.relay_token = has_door.then(|| TokenHash::of(DOOR_TOKEN));
                let clock = Clock::new(move || now().plus_ms(ahead_ms.load(Ordering::SeqCst)));
                let app = App::open(config, clock).await.unwrap();
                if passed > 0 {
                    // The server itself believes a clock that jumps after a minute only.
                    app.upkeep().await.unwrap();
                }
                let listener = listen(address).await;
                tell.send(()).unwrap();
                app.serve(listener, stopped).await;
            });
        });
        told.recv().expect("the server did not start");
        self.running = Some((stop, thread));
    }

    pub(crate) fn stop(&mut self) {
        let (stop, thread) = self.running.take().unwrap();
        stop.cancel();
        thread.join().unwrap();
    }

    /// What the database is now; the server must be stopped.
    pub(crate) fn backup(&self) -> Vec<u8> {
        assert!(self.running.is_none());
        fs::read(self.database()).unwrap()
    }

    /// Puts an older database back; the server must be stopped.
    pub(crate) fn restore(&self, backup: &[u8]) {
        assert!(self.running.is_none());
        for beside in ["server.db-wal", "server.db-shm"] {
            let _ = fs::remove_file(self.folder.path().join(beside));
        }
        fs::write(self.database(), backup).unwrap();
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("server.db")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.cancel();
            let _ = thread.join();
        }
    }
}

/// An address of the loopback interface, kept by a socket that is bound to it and never listens:
/// it is given to nobody else, and whoever connects to it is refused.
pub(crate) fn free_address() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    // As the listener has it, so that both may have the address.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A child that another test has just forked still has the listener of before, until it runs its
/// program.
async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::task::yield_now().await;
            }
            listening => return listening.unwrap(),
        }
    }
}

pub(crate) fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the clock of the test's server")]
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since_1970.as_millis()).unwrap())
}
