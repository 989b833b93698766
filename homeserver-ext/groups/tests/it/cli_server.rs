//! A real server in this process, on a loopback port, that can be stopped and put back.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread::{self, JoinHandle},
};

use causeway_protocol::{api::Registration, ids::Timestamp};
use causeway_server::{App, Clock, Config, GuestQuotas};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Its name, the part of its accounts after the colon.
pub(crate) const NAME: &str = "native.example";

pub(crate) struct Server {
    name: String,
    address: SocketAddr,
    folder: TempDir,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::named(NAME)
    }

    pub(crate) fn named(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { name: name.to_owned(), address, folder, running: None };
        server.start_again();
        server
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
        let name = self.name.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let mut config = Config::new(name, database);
                config.registration = Registration::Open;
                config.claims_per_hour = 10_000;
                config.guests = GuestQuotas { register: None, login: None };
                let app = App::open(config, Clock::new(now)).await.unwrap();
                let listener = TcpListener::bind(address).await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                app.serve(listener, stopped).await.unwrap();
            });
        });
        self.address = told.recv().expect("the server did not start");
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

pub(crate) fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the clock of the test's server")]
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since_1970.as_millis()).unwrap())
}
