//! What Causeway says at its start when something does not fit, and how it ends.

use std::{fs, path::Path, time::Duration};

use causeway_bridge::{
    demo::{
        causeway::{Causeway, CausewayError, Listeners},
        progress::Progress,
        synapse::Synapse,
    },
    registration::Registration,
    secret::Secret,
};

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_causeway"))
}

/// A Causeway for `synapse`, with a registration that may differ from what is installed.
fn causeway(
    synapse: &Synapse,
    name: &str,
    listeners: Listeners,
    registration: &Registration,
) -> Causeway {
    let dir = synapse.dir().join(name);
    let server_name = synapse.server_name();
    Causeway::prepare(binary(), &dir, &synapse.url(), server_name, listeners, registration).unwrap()
}

/// Starts it and waits for its end: exit code and last words.
async fn refused(mut causeway: Causeway) -> (i32, String) {
    let error = causeway.start().await.unwrap_err();
    assert!(matches!(error, CausewayError::Ended(_)), "{error}");
    (causeway.exit_code().unwrap().unwrap(), causeway.log())
}

#[tokio::test]
async fn each_misfit_has_its_words_and_its_exit_code() {
    let listeners = Listeners::free().unwrap();
    let synapse = Synapse::start(&listeners.appservice_url(), &Progress::new()).await.unwrap();
    let installed = synapse.registration();

    let mut other = installed.clone();
    other.as_token = Secret::new("another");
    let (code, log) = refused(causeway(&synapse, "token", listeners, &other)).await;
    assert_eq!(code, 16, "{log}");
    assert!(log.contains("Is the registration installed"), "{log}");

    let mut other = installed.clone();
    other.sender_localpart = "somebody".to_owned();
    let (code, log) = refused(causeway(&synapse, "sender", listeners, &other)).await;
    assert_eq!(code, 17, "{log}");

    let mut other = installed.clone();
    other.namespaces.users.clear();
    let (code, log) = refused(causeway(&synapse, "names", listeners, &other)).await;
    assert_eq!(code, 22, "{log}");
    assert!(log.contains("does not claim @causeway_"), "{log}");

    let mut other = installed.clone();
    other.hs_token = Secret::new("another");
    let (code, log) = refused(causeway(&synapse, "hs_token", listeners, &other)).await;
    assert_eq!(code, 13, "{log}");
    assert!(log.contains("refuses its hs_token"), "{log}");

    let elsewhere = Listeners::free().unwrap();
    let (code, log) = refused(causeway(&synapse, "elsewhere", elsewhere, installed)).await;
    assert_eq!(code, 13, "{log}");
    assert!(log.contains("does not reach us"), "{log}");
}

#[tokio::test]
async fn it_waits_for_a_homeserver_that_is_away_and_ends_in_order() {
    let listeners = Listeners::free().unwrap();
    let mut synapse = Synapse::start(&listeners.appservice_url(), &Progress::new()).await.unwrap();
    let registration = synapse.registration().clone();
    synapse.kill().unwrap();
    let mut causeway = causeway(&synapse, "causeway", listeners, &registration);
    causeway.spawn().unwrap();
    causeway.live().await.unwrap();
    assert_eq!(causeway.status("/ready").await, Some(503));
    synapse.start_again().await.unwrap();
    causeway.ready().await.unwrap();

    assert!(causeway.stop().await.unwrap(), "{}", causeway.log());
}

#[tokio::test]
async fn server_and_bridge_run_in_two_processes() {
    let listeners = Listeners::free().unwrap();
    let synapse = Synapse::start(&listeners.appservice_url(), &Progress::new()).await.unwrap();
    let elsewhere = Listeners { appservice: Listeners::free().unwrap().appservice, ..listeners };
    let mut server = causeway(&synapse, "server", elsewhere, synapse.registration());
    let mut bridge = causeway(&synapse, "bridge", listeners, synapse.registration());
    server.set_only("server");
    bridge.set_only("bridge");
    let token = "data/bridge-registration.token";
    fs::copy(server.dir().join(token), bridge.dir().join(token)).unwrap();
    // The bridge waits for the native side, as it does for the homeserver.
    bridge.spawn().unwrap();
    bridge.live().await.unwrap();
    assert_eq!(bridge.status("/ready").await, Some(503));
    server.start().await.unwrap();
    bridge.ready().await.unwrap();

    server.kill().unwrap();
    while bridge.status("/ready").await != Some(503) {
        tokio::time::sleep(LOOK).await;
    }
    server.start().await.unwrap();
    bridge.ready().await.unwrap();
    assert!(bridge.stop().await.unwrap(), "{}", bridge.log());
    assert!(server.stop().await.unwrap(), "{}", server.log());
}
