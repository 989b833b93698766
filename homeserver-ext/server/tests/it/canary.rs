//! Nothing that must stay secret is in the log, however much is logged.

use std::{
    io,
    sync::{Arc, Mutex},
};

use causeway_protocol::{api::Session, ids::text_of};
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{Server, TOKEN};

const ALONE: &str = "CAUSEWAY_CANARY";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn neither_tokens_nor_payloads_are_logged_at_trace() {
    // In a process of its own: what is logged is decided for a whole process, and other tests run.
    if std::env::var_os(ALONE).is_none() {
        let name = "canary::neither_tokens_nor_payloads_are_logged_at_trace";
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
        return;
    }
    let log = Log::default();
    // What the server and the libraries under it say; the client's side is in the same process,
    // and its WebSocket library would print the request that it sends.
    let only = tracing_subscriber::filter::filter_fn(|about| {
        !about.target().starts_with("tungstenite::handshake::client")
    });
    let layer = {
        use tracing_subscriber::Layer as _;
        tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false).with_filter(only)
    };
    let subscriber = {
        use tracing_subscriber::layer::SubscriberExt as _;
        tracing_subscriber::registry().with(layer)
    };
    let logging = tracing::subscriber::set_default(subscriber);

    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let canary = "a canary that nobody may hear";
    alice.say(&server, &group, &[canary]).await;
    let mut stream = bob.stream(&server).await;
    assert_eq!(stream.texts(1).await, [canary]);
    stream.ack(2).await;
    let session: Session = alice.login(&server).await.ok();
    let odd = format!("/groups?access_token={canary}").replace(' ', "+");
    alice.get(&server, &odd).await.refused(401, "M_UNKNOWN_TOKEN");
    server.stop().await;

    drop(logging);
    let said = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(said.contains("registered"), "the log was on");
    let secrets = [
        canary.to_owned(),
        text_of(canary.as_bytes()),
        TOKEN.to_owned(),
        alice.token.clone(),
        bob.token.clone(),
        session.access_token,
    ];
    for secret in secrets {
        let at = said.find(&secret);
        assert!(at.is_none(), "{}", &said[at.unwrap().saturating_sub(300)..]);
    }
}
