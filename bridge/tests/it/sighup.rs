//! What SIGHUP changes while the process runs, and what a supervisor is told of it; and who answers a
//! client that comes to the wrong listener.

use std::{fs, net::SocketAddr, os::unix::net::UnixDatagram, process::Child};

use axum::{Json, Router, http::StatusCode, routing::get};
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::ops::{PATIENCE, SetUp, said};

/// A native server with a supervisor that it tells how it is.
struct Supervised {
    set_up: SetUp,
    child: Child,
    told: UnixDatagram,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Supervised {
    fn start(set_up: SetUp) -> Self {
        let socket = set_up.path("notify");
        let told = UnixDatagram::bind(&socket).unwrap();
        told.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = fs::File::create(set_up.path("log")).unwrap();
        let mut command = set_up.command(&["run", "--only", "server"]);
        let child = command.env("NOTIFY_SOCKET", &socket).stderr(log).spawn().unwrap();
        let supervised = Self { set_up, child, told };
        assert!(!supervised.until_ready().contains("RELOADING"));
        supervised
    }

    /// All that is said until it is ready.
    fn until_ready(&self) -> String {
        let (mut all, mut bytes) = (String::new(), [0; 1_024]);
        while !all.contains("READY=1") {
            let length = self.told.recv(&mut bytes).unwrap();
            all.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
            all.push('\n');
        }
        all
    }

    /// SIGHUP, and what is logged for it.
    fn reload(&self) -> String {
        let before = fs::read_to_string(self.set_up.path("log")).unwrap().len();
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        let told = self.until_ready();
        assert!(told.contains("RELOADING=1") && told.contains("MONOTONIC_USEC="), "{told}");
        fs::read_to_string(self.set_up.path("log")).unwrap().split_off(before)
    }

    /// Tries to register, with a body that is none.
    async fn register(&self) -> u16 {
        let url = format!("http://{}/_causeway/native/v1/register", self.set_up.native);
        Client::new().post(url).json(&json!({})).send().await.unwrap().status().as_u16()
    }
}

async fn status(address: SocketAddr, path: &str) -> u16 {
    Client::new().get(format!("http://{address}{path}")).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn sighup_has_limits_count_at_once_and_says_what_needs_a_restart() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let set_up = SetUp::new();
    let (native, appservice) = (set_up.native, set_up.appservice);
    let registrations = |text: &str, burst: u32| {
        let (before, rest) = text.split_once("  registrations:\n").unwrap();
        let (_, after) = rest.split_once("  logins:").unwrap();
        format!("{before}  registrations:\n    per_minute: 1\n    burst: {burst}\n  logins:{after}")
    };
    let file = set_up.path("causeway.yaml");
    let few = registrations(&set_up.config(), 1);
    fs::write(&file, &few).unwrap();
    let running = Supervised::start(set_up);
    assert_ne!(running.register().await, 429);
    assert_eq!(running.register().await, 429);

    let moved = registrations(&few, 60).replace("cleanup_interval_s: 10", "cleanup_interval_s: 20");
    fs::write(&file, &moved).unwrap();
    let log = running.reload();
    assert!(log.contains("counts from now on: limits.registrations.burst\n"), "{log}");
    assert!(log.contains("needs a restart: native.cleanup_interval_s\n"), "{log}");
    assert_ne!(running.register().await, 429);

    // Of a file that is not right nothing is taken.
    let wrong = registrations(&moved, 1).replace("devices: 16", "devices: many");
    fs::write(&file, &wrong).unwrap();
    let log = running.reload();
    assert!(log.contains("nothing has changed: causeway.yaml:"), "{log}");
    assert!(log.contains("limits.devices: it is the text `many`"), "{log}");
    assert_ne!(running.register().await, 429);

    // Both listeners, what waits for a restart is said again, and what is back is not.
    let (before, rest) = few.split_once("  requests:\n").unwrap();
    let (_, after) = rest.split_once("  registrations:").unwrap();
    let narrow =
        format!("{before}  requests:\n    per_minute: 1\n    burst: 1\n  registrations:{after}");
    fs::write(&file, narrow.replace("level: info", "level: warn")).unwrap();
    let log = running.reload();
    assert!(!log.contains("needs a restart"), "{log}");
    for (address, path) in [(native, "/_causeway/native/v1/server"), (appservice, "/live")] {
        status(address, path).await;
        assert_eq!(status(address, path).await, 429, "{path}");
    }
    assert_eq!(running.reload(), "", "nothing has changed, and that is no warning");
}

#[tokio::test]
async fn a_client_at_another_address_is_told_who_is_there() {
    let running = Supervised::start(SetUp::new());
    let unknown = json!({"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"});
    let matrix = Router::new()
        .route("/_matrix/client/versions", get(async || Json(json!({"versions": ["v1.12"]}))));
    let synapse = matrix.clone().fallback(async || (StatusCode::NOT_FOUND, Json(unknown)));
    let behind_nginx = matrix.fallback(async || (StatusCode::NOT_FOUND, "<html>"));
    let (synapse, nginx) = (served(synapse).await, served(behind_nginx).await);
    for (url, words) in [
        (format!("http://{}", running.set_up.appservice), "native clients go to native.listen"),
        (
            synapse.clone(),
            "is the Matrix homeserver, and the native server has an address of its own",
        ),
        (
            nginx.clone(),
            "is the Matrix homeserver, and the native server has an address of its own",
        ),
    ] {
        for name in ["bob", "bob:example.org"] {
            let mut command =
                running.set_up.command(&["client", "--home", "home", "register", name]);
            command.args(["--server", &url]);
            let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
            let text = said(&ended.await.unwrap());
            assert!(text.contains(words), "{url} {name}: {text}");
            let _ = fs::remove_dir_all(running.set_up.path("home"));
        }
    }
}

/// Its address.
#[expect(clippy::disallowed_methods, reason = "a server beside the test")]
async fn served(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}
