//! Those of Matrix in a call: what rooms say of them of the moment, and who takes them out.

use causeway_protocol::api::{CallReaction, CallSfus, CallState, CallTopology, CallWhom};
use causeway_server::TokenHash;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    guests::{DOOR, asks, bridged, join, let_in, looks, server, start},
    livekit::{Connected, Sfu},
};
use crate::{
    admin::served,
    calls::{ask, listening, new_id, state},
    harness::{Group, Person, Server},
};

/// What the room says of Mia; whether the call is another for it.
async fn says(server: &Server, group: &Group, what: Value) -> (u16, Value) {
    let url = format!("{}/_causeway/relay/v1/calls/said", server.base);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"group": group.id(), "user": "@mia:b.example", "what": what});
    let answer = http.post(url).bearer_auth(DOOR).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Alice and Bob talk, and Mia hears them; Alice is an admin.
async fn with_mia(server: &Server, livekit: &Sfu) -> (Group, [Person; 3], CallState, Connected) {
    let (group, people) = bridged(server, ["alice", "bob", "ferry"]).await;
    let call = new_id();
    start(server, &people[0], &group, call).await.ok::<CallState>();
    join(server, &people[1], &group, call).await.ok::<CallState>();
    let (_, given) = let_in(server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    let phone = Connected::by(&livekit.url(), given["jwt"].as_str().unwrap()).await;
    looks(server).await;
    let state = state(server, &people[0], &group, call).await;
    assert_eq!(state.guests().count(), 1);
    (group, people, state, phone)
}

fn mia() -> CallWhom {
    CallWhom::Matrix { mirror: "@mia:b.example".to_owned(), device: "PHONE".to_owned() }
}

#[tokio::test]
async fn hands_signs_and_who_does_not_come_are_shown_to_all() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _], call, _phone) = with_mia(&server, &livekit).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = call.call;
    let now = async || state(&server, &alice, &group, call).await;
    let taken = |is: bool| (200, json!({ "taken": is }));
    let raises = |event: &str| json!({"raises": {"device": "PHONE", "event": event}});
    assert_eq!(says(&server, &group, raises("$1")).await, taken(true));
    assert_eq!(says(&server, &group, raises("$1")).await, taken(false));
    assert!(now().await.guests().all(|mia| mia.hand));
    // Another event is taken back; then the one by which it was raised.
    let lowers = |event: &str| json!({"lowers": {"event": event}});
    assert_eq!(says(&server, &group, lowers("$2")).await, taken(false));
    assert_eq!(says(&server, &group, lowers("$1")).await, taken(true));
    assert!(now().await.guests().all(|mia| !mia.hand));
    // Of a device that is not in it nothing is taken.
    let of_pad = json!({"raises": {"device": "PAD", "event": "$3"}});
    assert_eq!(says(&server, &group, of_pad).await, taken(false));

    let shows = |emoji: &str| json!({"shows": {"device": "PHONE", "emoji": emoji}});
    assert_eq!(says(&server, &group, shows("👍")).await, taken(true));
    for bad in ["", "a b", "\u{1b}[2J", &"👍".repeat(9)] {
        assert_eq!(says(&server, &group, shows(bad)).await.0, 400, "{bad}");
        let set = ask(&server, &bob, &group, (call, "set"), json!({"reaction": bad})).await;
        assert_eq!(set.status, 400, "{bad}");
    }
    ask(&server, &bob, &group, (call, "set"), json!({"reaction": "🎉"})).await.ok::<CallState>();
    let signs: Vec<_> = now().await.reactions.into_iter().map(|it| (it.who, it.emoji)).collect();
    let bobs = CallWhom::Native { device: bob.device() };
    assert_eq!(signs, [(mia(), "👍".to_owned()), (bobs.clone(), "🎉".to_owned())]);
    // One of each, and those of who has gone go with him.
    ask(&server, &bob, &group, (call, "set"), json!({"reaction": "👏"})).await.ok::<CallState>();
    let of_bob = |it: &&CallReaction| it.who == bobs;
    assert_eq!(now().await.reactions.iter().filter(of_bob).count(), 1);
    ask(&server, &bob, &group, (call, "leave"), json!({})).await.ok::<CallState>();
    assert_eq!(now().await.reactions.iter().filter(of_bob).count(), 0);

    // Who is in it does not decline it; another does, once.
    assert_eq!(says(&server, &group, json!("declines")).await, taken(false));
    let url = format!("{}/_causeway/relay/v1/calls/said", server.base);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for is in [true, false] {
        let body = json!({"group": group.id(), "user": "@max:b.example", "what": "declines"});
        let answer = http.post(&url).bearer_auth(DOOR).json(&body).send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "taken": is }));
    }
    assert_eq!(now().await.declined_mirrors, ["@max:b.example"]);
}

#[tokio::test]
async fn an_admin_takes_one_of_matrix_out_and_she_does_not_come_straight_back() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _], call, mut phone) = with_mia(&server, &livekit).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let body = serde_json::to_value(mia()).unwrap();
    let kick =
        async |who: &Person| ask(&server, who, &group, (call.call, "kick"), body.clone()).await;
    // Not an admin; not by a name that nobody in it has.
    assert_eq!(kick(&bob).await.status, 403);
    let other = json!({"mirror": "@mia:b.example", "device": "PAD"});
    for what in ["kick", "mute"] {
        let other = ask(&server, &alice, &group, (call.call, what), other.clone()).await;
        assert_eq!(other.status, 403, "{what}");
    }
    // She sends nothing that could be muted.
    let mute = ask(&server, &alice, &group, (call.call, "mute"), body.clone()).await;
    assert_eq!(mute.status, 409);
    // LiveKit has a room for it because another is awaited.
    let mut of_max = asks(Some(group.id()), "PHONE");
    (of_max["user"], of_max["identity"]) = (json!("@max:b.example"), json!("@max:b.example:PHONE"));
    assert_eq!(let_in(&server, DOOR, &of_max).await.0, 200);
    let out: CallState = kick(&alice).await.ok();
    assert_eq!((out.guests().count(), &out.kicked), (0, &vec![mia()]));
    looks(&server).await;
    phone.is_put_out().await;
    // Neither by what she has, nor by asking anew.
    let given = ask(&server, &alice, &group, (call.call, "sfu"), json!({"epoch": out.epoch})).await;
    let room = given.ok::<CallSfus>().sfus.remove(0).room;
    let token = livekit.token(&room, "@mia:b.example:PHONE");
    let mut again = Connected::by(&livekit.url(), &token).await;
    looks(&server).await;
    again.is_put_out().await;
    let (status, said) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!(status, 403, "{said}");
    assert!(said["error"].as_str().unwrap().contains("you can come back in"), "{said}");
    let (status, _) = let_in(&server, DOOR, &asks(Some(group.id()), "PAD")).await;
    assert_eq!(status, 403, "by another device of hers");
    let after = state(&server, &alice, &group, call.call).await;
    assert_eq!(after.guests().count(), 0);
    server.pass_ms(10 * 60 * 1_000);
    let (status, said) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!(status, 200, "{said}");
    assert!(state(&server, &alice, &group, call.call).await.kicked.is_empty());
}

#[tokio::test]
async fn the_operator_takes_one_of_matrix_out() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _], call, mut phone) = with_mia(&server, &livekit).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let admin = causeway_server::admin::behind_token(server.app.admin(), TokenHash::of("right"));
    let (_serving, base) = served(admin).await;
    let send = async |query: &str| {
        let url = format!("{base}/calls/{}/kick?{query}", call.call);
        let sent = server.http.request(Method::POST, url).bearer_auth("right").send();
        sent.await.unwrap().status().as_u16()
    };
    let device = alice.device();
    for bad in ["", "guest=mia", &format!("guest=@mia:b.example:PHONE&device={device}")] {
        assert_eq!(send(bad).await, 400, "{bad}");
    }
    assert_eq!(send("guest=@mia:b.example:PAD").await, 404);
    assert_eq!(send("guest=@mia:b.example:PHONE").await, 204);
    looks(&server).await;
    phone.is_put_out().await;
    let after = state(&server, &alice, &group, call.call).await;
    assert_eq!((after.guests().count(), after.kicked), (0, vec![mia()]));
    assert_ne!(after.topology, CallTopology::Ended);
}
