//! `call …`, and the ring in `tail`, through the real binary and a real server. Who calls does so by the
//! SDK, without sound.

use std::sync::Arc;

use causeway_groups::{
    SCHEMA, Vault,
    machine::{Received, Signalled},
    sdk::{CallError, Client, Keep, KeepError, News, SignalError, Stream},
};
use causeway_protocol::{
    api::{CallCap, CallIntent, CallState, JoinCall, SetCall, StartCall},
    ids::{CallId, GroupId},
    olm_plaintext::CallSignal,
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    cli_server::now,
    cli_world::{Person, Running, World, folder_holds},
};

/// Keeps nothing.
struct Nothing;

impl Keep for Nothing {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        _: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(async { Ok(()) })
    }
}

/// The person's session, without the program.
pub(crate) async fn client(person: &Person) -> Client {
    let (path, key) = (person.home.join("client.db"), person.home.join("storage.key"));
    let schemas = [SCHEMA];
    let db = Db::open(Options { path, lock: Lock::Shared, schemas: &schemas }).await.unwrap();
    let vault = Vault::open(&db, &key).await.unwrap();
    Client::open(db, vault, Some(&person.url), Arc::new(Nothing), now).await.unwrap()
}

/// Does something with the person's session, and waits for it.
pub(crate) fn does<T>(person: &Person, what: impl AsyncFnOnce(Client, GroupId) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = client(person).await;
        let group = client.rosters().await.unwrap()[0].group();
        what(client, group).await
    })
}

fn starts(person: &Person) -> CallState {
    does(person, async |client, group| {
        let (call, caps) = (CallId::new([7; 16]), vec![CallCap::Mesh]);
        let asked = StartCall { call, intent: CallIntent::Audio, caps, may_degrade: false };
        client.http().start_call(group, &asked).await.unwrap()
    })
}

fn joins(person: &Person, call: CallId) -> Result<CallState, CallError> {
    does(person, async |client, group| {
        let asked = JoinCall { caps: vec![CallCap::Mesh], may_degrade: false };
        client.http().join_call((group, call), &asked).await
    })
}

fn is(kind: &str) -> impl Fn(&Value) -> bool {
    move |line| line["type"] == kind
}

#[test]
fn a_call_rings_in_tail_and_who_comes_and_goes_is_shown() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let mut tail = bob.tail(&[]);
    let mut watch = Running::start(alice.command(&["call", "watch", "team"]));
    let call = starts(&alice);
    for lines in [&mut tail, &mut watch] {
        let began = lines.until(is("group_call_start"));
        assert_eq!(
            (&began["account"], &began["participants"]),
            (&Value::from(alice.account()), &1.into())
        );
    }
    assert!(joins(&bob, call.call).is_ok());
    let came = tail.until(is("group_call_join"));
    assert_eq!(came["account"], bob.account());
    does(&bob, async |client, group| {
        let said = SetCall { muted: Some(true), ..SetCall::default() };
        client.http().set_call((group, call.call), &said).await.unwrap();
        client.http().leave_call(group, call.call).await.unwrap();
    });
    let went = tail.until(is("group_call_leave"));
    assert_eq!((&went["account"], &went["participants"]), (&Value::from(bob.account()), &1.into()));
    let declined = bob.ok(&["call", "decline", "team"]);
    assert_eq!(declined[0]["declined"][0], bob.account());
    tail.until(is("group_call_decline"));

    let listed = &bob.ok(&["call", "list", "team"])[0]["calls"][0];
    assert_eq!((&listed["topology"], &listed["intent"]), (&"mesh".into(), &"audio".into()));
    // Bob did not begin it, and is no admin.
    bob.fails(&["call", "end", "team"], 1);
    let over = alice.ok(&["call", "end", "team"]);
    assert_eq!(
        (&over[0]["reason"], &over[0]["ended_by"]),
        (&"by_hand".into(), &alice.account().into())
    );
    for lines in [&mut tail, &mut watch] {
        let ended = lines.until(is("group_call_end"));
        assert_eq!(ended["account"], alice.account());
    }
    // Nothing of it is history, and nothing could not be read.
    assert!(watch.stop().iter().chain(&tail.stop()).all(|line| line["type"] != "failed"));
    let history = bob.ok(&["history", "team"]);
    assert!(history.iter().all(|line| line["type"] == "roster"), "{history:?}");
    let text = bob.as_text(&["call", "list", "team"]);
    assert!(text.contains(&format!("by {}", alice.account())), "{text}");
    let none = alice.fails(&["call", "end", "team"], 1);
    assert!(none.to_string().contains("no call is running"), "{none}");
    bob.fails(&["call", "decline", "team"], 1);
    bob.fails(&["call", "list", "nowhere"], 2);
}

#[test]
fn who_is_refused_in_a_call_is_told_why_in_the_servers_words() {
    let world = World::new();
    let people = world.group(["alice", "bob", "carol", "dave", "erin"]);
    let call = starts(&people[0]);
    for who in &people[1..4] {
        joins(who, call.call).unwrap();
    }
    match joins(&people[4], call.call) {
        Err(CallError::Refused { status: 503, error, .. }) => assert_eq!(
            error,
            "This call has 4 people. The server that carries bigger calls is not reachable."
        ),
        other => panic!("{other:?}"),
    }
}

/// What waits in the mailbox, received; the first signal among it.
async fn receive(
    client: &Client,
    stream: &mut Stream,
    news: &mut mpsc::Receiver<News>,
) -> Signalled {
    loop {
        let rows = stream.next_rows().await.unwrap();
        let taken = client.receive(&rows).await.unwrap();
        stream.took(&taken).await;
        // Records that are lacked are asked for, and what waited for them is heard.
        client.chores().await.unwrap();
        if let Ok(News::Signal(signal)) = news.try_recv() {
            return signal;
        }
    }
}

#[test]
fn devices_of_a_call_tell_each_other_over_olm_what_no_server_reads() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let stranger = world.registered("stranger");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let [alice, bob, stranger] =
            [client(&alice).await, client(&bob).await, client(&stranger).await];
        let group = alice.rosters().await.unwrap()[0].group();
        let device = |client: &Client| client.me().record.device_id;
        let said = |text: &str| CallSignal {
            call: CallId::new([7; 16]),
            epoch: 3,
            json: zeroize::Zeroizing::new(text.as_bytes().to_vec()),
        };
        let mut streams = [alice.stream(), bob.stream()];
        let mut news = [alice.calls().attend(group), bob.calls().attend(group)];
        let mut of_another = bob.calls().attend(GroupId::new([9; 32]));
        let secret = r#"{"t":"group_call_offer","sdp":"a=fingerprint:secret-in-the-offer"}"#;
        // To and fro, in order.
        for n in 0..3 {
            let offer = said(&format!("{secret}{n}"));
            alice.signal(group, device(&bob), &offer).await.unwrap();
            let heard = receive(&bob, &mut streams[1], &mut news[1]).await;
            assert_eq!(heard, Signalled { group, from: device(&alice), signal: offer });
            bob.signal(group, device(&alice), &said("an answer")).await.unwrap();
            let heard = receive(&alice, &mut streams[0], &mut news[0]).await;
            assert_eq!((heard.from, heard.signal), (device(&bob), said("an answer")));
        }
        assert!(of_another.try_recv().is_err());
        // To nobody else, by nobody else, and no more than fits.
        let refused = alice.signal(group, device(&stranger), &said("x")).await;
        assert!(matches!(refused, Err(SignalError::Nobody)), "{refused:?}");
        let refused = stranger.signal(group, device(&bob), &said("x")).await;
        assert!(matches!(refused, Err(SignalError::Nobody)), "{refused:?}");
        let refused = alice.signal(group, device(&bob), &said(&"x".repeat(24 * 1_024 + 1))).await;
        assert!(matches!(refused, Err(SignalError::Nobody)), "{refused:?}");
        assert!(!format!("{:?}", said(secret)).contains("secret"));
        for stream in streams {
            stream.close().await;
        }
    });
    for folder in [&alice.home, &bob.home] {
        assert!(!folder_holds(folder, b"secret-in-the-offer"));
    }
}
