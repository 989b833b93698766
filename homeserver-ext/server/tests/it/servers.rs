//! Two servers that speak with each other, and one that speaks with a server that keeps to nothing.

mod calls;
mod given_again;
mod groups;
mod guests;
mod hostile;
mod letting_in;
mod logs;
mod operator;
mod peer;
mod progress;
mod put_back;
mod relay;
mod rotation;
mod several;
mod shown;
mod strangers;
mod thirds;
mod wire;

use std::time::Duration;

use causeway_protocol::{
    api::{AccountAnswer, AccountDevices, ClaimRequest, ClaimedKeys},
    ids::{ItemId, Timestamp},
    link::{Ask, Call, Item, Tell},
};
use causeway_server::{Config, TokenHash};
use serde_json::{Value, json};
use tokio::time::timeout;

use self::{
    peer::Peer,
    wire::{DOOR_TOKEN, Wire, door, hand_in, hand_in_all},
};
use crate::harness::{Group, Person, Server, list, op_body};

const OTHER: &str = "b.example";
/// How long is gathered how far messages came: no test waits for five seconds.
const GATHERED: Duration = Duration::from_millis(20);

async fn at(name: &'static str) -> Server {
    Server::start_with(move |config| as_in_tests(config, name)).await
}

fn as_in_tests(config: &mut Config, name: &str) {
    config.server_name = name.to_owned();
    config.relay_token = Some(TokenHash::of(DOOR_TOKEN));
    // Who waits here asks again at once.
    config.edge.requests = None;
    config.relay_patience = Duration::from_secs(if name == OTHER { 30 } else { 20 });
    config.relay_gathers = GATHERED;
}

/// Alice on a server, and Carol on another.
async fn two() -> (Server, Person, Server, Person) {
    let (here, there) = (at("a.example").await, at(OTHER).await);
    let alice = here.person("alice").await;
    let carol = Person::at("carol", OTHER).registered(&there).await;
    (here, alice, there, carol)
}

async fn look(server: &Server, who: &Person, whom: &Person) -> AccountAnswer {
    who.get(server, &format!("/accounts/{}", whom.account)).await.ok()
}

async fn claim(server: &Server, who: &Person, whom: &Person) -> ClaimedKeys {
    let body = ClaimRequest { devices: vec![whom.device()] };
    who.post(server, "/keys/claim", &body).await.ok()
}

#[tokio::test]
async fn an_account_of_another_server_is_looked_up_and_its_keys_are_claimed() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let found = look(&here, &alice, &carol).await;
    assert_eq!((&found.list, &found.devices), (&carol.list, &vec![carol.record.clone()]));
    let mut keys = Vec::new();
    for _ in 0..3 {
        let key = claim(&here, &alice, &carol).await.keys.remove(&carol.device()).unwrap();
        assert!(!key.fallback && key.verify(&carol.device()).is_ok());
        keys.push(key.key_id);
    }
    keys.dedup();
    assert_eq!(keys.len(), 3, "each once");
    // The other way over the same link, and who is not there.
    assert_eq!(look(&there, &carol, &alice).await.list, alice.list);
    let answer = alice.get(&here, "/accounts/nobody:b.example").await;
    answer.refused(404, "M_NOT_FOUND");
    alice.get(&here, "/accounts/nobody:a.example").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn what_was_looked_up_is_good_for_a_minute_and_then_asked_again() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    assert_eq!(look(&here, &alice, &carol).await.list.version, 1);
    let second = carol.second_device(&there).await;
    assert_eq!(look(&here, &alice, &carol).await.list.version, 1);
    for server in [&here, &there] {
        server.pass_ms(60_000);
    }
    let newer = look(&here, &alice, &carol).await;
    assert_eq!((newer.list.version, newer.devices.len()), (2, 2));
    // Cut off, it is still good for a minute, and then nobody pretends.
    drop(wire);
    assert_eq!(look(&here, &alice, &second).await, newer);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_with_the_time_of_its_last_word() {
    let server = Server::start_with(|config| {
        config.relay_token = Some(TokenHash::of(DOOR_TOKEN));
        config.relay_patience = Duration::from_millis(200);
    })
    .await;
    let alice = server.person("alice").await;
    let answer = alice.get(&server, "/accounts/carol:b.example").await;
    let refusal = answer.refused(504, "DEV_CAUSEWAY_UNREACHABLE");
    assert_eq!(refusal.server.as_deref(), Some(OTHER));
    assert_eq!(refusal.since_ms, Some(server.now()));
    assert!(refusal.error.contains("b.example does not answer"), "{}", refusal.error);
    // What nobody waits for any more does not leave.
    server.pass_ms(1_000);
    assert!(door(&server).await.is_empty());
}

#[tokio::test]
async fn who_takes_nothing_is_not_waited_for_long() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let ask = async || alice.get(&server, "/accounts/carol:b.example").await;
    let left = async || while door(&server).await.is_empty() {};
    tokio::select! {
        _ = ask() => panic!("nobody answers"),
        () = left() => {}
    }
    server.pass_ms(8_000);
    let answer = timeout(Duration::from_secs(8), ask()).await.expect("it was waited for as ever");
    answer.refused(504, "DEV_CAUSEWAY_UNREACHABLE");
}

#[tokio::test]
async fn without_a_matrix_side_no_other_server_is_spoken_with() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let answer = alice.get(&server, "/accounts/carol:b.example").await;
    let refusal = answer.refused(404, "M_NOT_FOUND");
    assert!(refusal.error.contains("no Matrix side"), "{}", refusal.error);
}

#[tokio::test]
async fn only_the_token_opens_the_door_and_a_session_does_not() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let url = format!("{}/_causeway/relay/v1/frames", server.base);
    for token in [None, Some("wrong"), Some(&*alice.token)] {
        for request in [server.http.get(&url), server.http.post(&url).json(&json!({"frames": []}))]
        {
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            assert_eq!(request.send().await.unwrap().status().as_u16(), 401);
        }
    }
}

#[tokio::test]
async fn frames_that_are_lost_go_again_and_those_that_come_twice_do_nothing() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::lossy(&here, &there);
    let found = look(&here, &alice, &carol).await;
    assert_eq!(found.list, carol.list);
    // Each frame that passes does so twice: had the claim been carried out twice, two keys were gone.
    claim(&here, &alice, &carol).await;
    claim(&here, &alice, &carol).await;
    let claimed = there
        .rows()
        .await
        .into_iter()
        .filter(|row| row.starts_with("one_time_keys:") && !row.ends_with(",NULL"));
    assert_eq!(claimed.count(), 2);
    assert!(wire.lost() >= 2, "nothing was lost");
}

#[tokio::test]
async fn each_side_restarts_and_they_go_on() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    claim_after_look(&here, &alice, &carol).await;
    drop(wire);
    let here = restarted(here, "a.example").await;
    let wire = Wire::between(&here, &there);
    claim_after_look(&here, &alice, &carol).await;
    drop(wire);
    let there = restarted(there, OTHER).await;
    let _wire = Wire::between(&here, &there);
    claim_after_look(&here, &alice, &carol).await;
}

async fn claim_after_look(here: &Server, alice: &Person, carol: &Person) {
    here.pass_ms(60_000);
    assert_eq!(look(here, alice, carol).await.list, carol.list);
    assert_eq!(claim(here, alice, carol).await.keys.len(), 1);
}

async fn restarted(server: Server, name: &'static str) -> Server {
    started_again(server, name, true, |_| {}).await
}

/// Stops a server, has something done to its folder, and starts it, as after a restore if somebody says so.
async fn started_again(
    server: Server,
    name: &'static str,
    says_so: bool,
    meanwhile: impl FnOnce(&std::path::Path),
) -> Server {
    let (dir, clock) = (server.folder(), server.clock());
    server.stop().await;
    meanwhile(dir.path());
    Server::start_in(dir, clock, move |config| {
        config.server_name = name.to_owned();
        config.relay_token = Some(TokenHash::of(DOOR_TOKEN));
        config.edge.requests = None;
        config.relay_gathers = GATHERED;
        config.put_back = says_so;
    })
    .await
}

fn ask_of(call: Call, caller: Option<&Person>, body: Value, until: Timestamp) -> Item {
    let caller = caller.map(|who| causeway_protocol::envelope::Sender {
        account: who.account.clone(),
        device: who.device(),
    });
    Item::Ask(ItemId::new(crate::harness::random()), Ask { call, caller, until, body })
}

#[tokio::test]
async fn a_server_speaks_for_its_own_accounts_and_in_time() {
    let server = at("a.example").await;
    let (alice, mallory) = (server.person("alice").await, Person::at("mallory", OTHER));
    let mut peer = Peer::new(OTHER);
    let until = server.now().plus_ms(30_000);
    let account = || json!({ "account": alice.account });
    let asks = [
        (ask_of(Call::Ping, None, json!({}), until), 200),
        (ask_of(Call::Account, Some(&mallory), account(), until), 200),
        // For an account that is not its own; about one that is not ours; too late; of the wrong form.
        (ask_of(Call::Account, Some(&alice), account(), until), 403),
        (ask_of(Call::Account, None, json!({ "account": "carol:c.example" }), until), 404),
        (ask_of(Call::Account, None, account(), Timestamp(server.now().0 - 300_001)), 400),
        (ask_of(Call::Account, None, json!({ "account": 7 }), until), 400),
        (ask_of(Call::Account, None, Value::Null, until), 400),
        (ask_of(Call::Claim, None, json!({ "devices": vec![alice.device(); 201] }), until), 413),
        // An op has somebody who posts it; what is not spoken yet.
        (ask_of(Call::Op, None, json!({}), until), 403),
        (ask_of(Call::Op, Some(&mallory), json!({}), until), 400),
        (ask_of(Call::Calls, None, json!({}), until), 400),
        (ask_of(Call::Events, None, json!({}), until), 404),
    ];
    let items = asks.iter().map(|(ask, _)| ask.to_json()).collect();
    let answers = peer.ask(&server, items).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, asks.iter().map(|(_, status)| *status).collect::<Vec<_>>());
    // The same frame again is not carried out again.
    assert!(peer.again(&server).await.is_empty());
}

#[tokio::test]
async fn whoever_asks_about_no_group_leaves_no_account() {
    let server = at("a.example").await;
    let mallory = Person::at("mallory", OTHER);
    let shown = AccountAnswer::from(AccountDevices {
        list: mallory.list.clone(),
        devices: vec![mallory.record.clone()],
    });
    let op = Group::first_op(&mallory);
    let mut body = op_body(&op);
    body["group"] = json!(op.group());
    body["accounts"] = json!([shown]);
    let until = server.now().plus_ms(30_000);
    let ask = ask_of(Call::Op, Some(&mallory), body, until).to_json();
    let before = server.rows().await;
    let answers = Peer::new(OTHER).ask(&server, vec![ask]).await;
    assert_eq!(answers[0].status, 404, "{:?}", answers[0].body);
    // But for how far its link was taken, nothing was noted.
    let is_link = |row: &&String| row.starts_with("servers:");
    let after = server.rows().await;
    assert!(after.iter().filter(|row| !is_link(row)).all(|row| before.contains(row)), "{after:#?}");
}

#[tokio::test]
async fn junk_stops_nothing_and_a_flood_is_refused() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mut peer = Peer::new(OTHER);
    let before = server.rows().await;
    for junk in [json!(null), json!([]), json!({"v": 1}), json!({"v": 1, "link": "x"})] {
        hand_in(&server, OTHER, junk).await;
    }
    // Another version hears so.
    assert_eq!(
        hand_in(&server, OTHER, json!({"v": 2})).await,
        [json!({"v": 1, "error": "version"})]
    );
    server.assert_unchanged(&before).await;
    // A malformed item is skipped, and the rest of its frame is carried out.
    let until = server.now().plus_ms(30_000);
    let ping = ask_of(Call::Ping, None, json!({}), until).to_json();
    let items = vec![json!({"t": "ask"}), json!(7), json!({"t": "dance"}), ping];
    assert_eq!(peer.ask(&server, items).await.len(), 1);
    // Names that are no servers, or are this one, are nobody's.
    for name in ["a.example", "A.example", "", "b example", "b.example/../c"] {
        let frame = Peer::new(OTHER).frame(vec![]);
        assert!(hand_in(&server, name, frame).await.is_empty());
    }
    let asks = || (0..150).map(|_| ask_of(Call::Ping, None, json!({}), until).to_json()).collect();
    let answers = peer.ask(&server, asks()).await;
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!((1..=150).contains(&refused), "{refused} refused");
    // Others are served.
    let mut other = Peer::new("c.example");
    let ping = ask_of(Call::Account, None, json!({ "account": alice.account }), until);
    assert_eq!(other.ask(&server, vec![ping.to_json()]).await[0].status, 200);
}

#[tokio::test]
async fn a_list_that_is_anothers_forged_or_older_is_not_taken() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let (carol, dan) = (Person::at("carol", OTHER), Person::at("dan", OTHER));
    let mut peer = Peer::new(OTHER);
    let shown = |list: &causeway_protocol::device::DeviceList, who: &Person| {
        let account = AccountDevices { list: list.clone(), devices: vec![who.record.clone()] };
        serde_json::to_value(AccountAnswer::from(account)).unwrap()
    };
    let mut forged = carol.list.clone();
    forged.version = 9;
    let newer = list(&carol.identity, &carol.account, 3, vec![carol.device()]);
    let impostor = list(&dan.identity, &carol.account, 4, vec![dan.device()]);
    let before = server.rows().await;
    for (answer, status) in [
        (shown(&dan.list, &dan), 502),
        (shown(&forged, &carol), 502),
        (shown(&carol.list, &dan), 502),
        (json!({"list": 7}), 502),
        (shown(&newer, &carol), 200),
        // Once it is known, neither an older one nor another identity's.
        (shown(&carol.list, &carol), 502),
        (shown(&impostor, &dan), 502),
    ] {
        if status == 200 {
            // But for how far its link was taken, nothing was noted.
            let after = server.rows().await;
            let is_link = |row: &&String| row.starts_with("servers:");
            assert!(after.iter().filter(|row| !is_link(row)).all(|row| before.contains(row)));
        }
        server.pass_ms(60_000);
        let path = format!("/accounts/{}", carol.account);
        let (told, ()) = tokio::join!(alice.get(&server, &path), async {
            peer.answer_next(&server, 200, answer).await;
        });
        assert_eq!(told.status.as_u16(), status, "{}", told.text());
    }
    // Nor where it is shown unasked, and the operator sees each.
    let refused = async || {
        let shown = operator::other(&server).await;
        assert_eq!(shown["last_error"]["why"], "refused: device_list");
        shown["refused"].as_u64().unwrap()
    };
    assert_eq!(refused().await, 5);
    let of_here = shown(&alice.list, &alice);
    for (nth, wrong) in
        [shown(&carol.list, &carol), shown(&impostor, &dan), of_here].iter().enumerate()
    {
        let tell = Tell::Accounts(vec![shown(&newer, &carol), wrong.clone()]);
        let tell = Item::Tell(ItemId::new(crate::harness::random()), tell).to_json();
        let frame = peer.frame(vec![tell]);
        hand_in(&server, OTHER, frame).await;
        assert_eq!(refused().await, 6 + nth as u64);
    }
    let path = format!("/accounts/{}", carol.account);
    for (answer, status) in [(shown(&carol.list, &carol), 502), (shown(&newer, &carol), 200)] {
        let (told, ()) = tokio::join!(alice.get(&server, &path), async {
            peer.answer_next(&server, 200, answer).await;
        });
        assert_eq!(told.status.as_u16(), status, "{}", told.text());
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_server_stops_no_other() {
    let server = at("a.example").await;
    // A row of it cannot be read.
    server
        .change(
            "INSERT INTO servers (name, taken, former, heard_ms) VALUES ('b.example', 0, x'01', 0)",
        )
        .await;
    let until = server.now().plus_ms(30_000);
    let mut other = Peer::new("c.example");
    let ping = ask_of(Call::Ping, None, json!({}), until).to_json();
    let frames = [("b.example", Peer::new(OTHER).frame(vec![ping.clone()]))];
    let frames = frames.into_iter().chain([("c.example", other.frame(vec![ping]))]);
    hand_in_all(&server, frames.collect()).await;
    assert_eq!(other.answers(&server).await.len(), 1);
}
