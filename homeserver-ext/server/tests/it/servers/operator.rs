//! What the operator sees of other servers, and does about them.

use causeway_protocol::{api::GroupServers, link::Call};
use causeway_server::{TokenHash, admin::behind_token};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    OTHER, ask_of, at,
    groups::{texts, with_carol},
    look,
    peer::Peer,
    restarted, two,
    wire::{DOOR_TOKEN, Wire, door, hand_in},
};
use crate::{
    admin::served,
    harness::{Person, Server},
};

/// Status and body of what the operator of `server` is answered.
pub(super) async fn operate(server: &Server, method: Method, path: &str) -> (u16, Value) {
    let admin = behind_token(server.app.admin(), TokenHash::of("right"));
    let (_serving, base) = served(admin).await;
    let request = server.http.request(method, format!("{base}{path}")).bearer_auth("right");
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

pub(super) async fn other(server: &Server) -> Value {
    let (status, shown) = operate(server, Method::GET, "/servers/b.example").await;
    assert_eq!(status, 200, "{shown}");
    shown
}

#[tokio::test]
async fn nothing_passes_while_it_is_paused_and_all_of_it_afterwards() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    alice.say(&here, &group, &["before"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["before"]);
    let (status, shown) = operate(&here, Method::POST, "/servers/b.example/pause").await;
    assert_eq!((status, &shown["state"], &shown["groups"]), (200, &json!("paused"), &json!(1)));
    // What is said on either side is taken, and stays where it is; also after a restart.
    alice.say(&here, &group, &["one", "two"]).await;
    carol.say(&there, &group, &["three"]).await;
    let servers = alice.get(&here, &format!("/groups/{}/servers", group.id())).await;
    let GroupServers { servers, .. } = servers.ok();
    assert!(servers[0].silent && servers[0].waits_since_ms.is_some(), "who says it is told");
    drop(wire);
    let here = restarted(here, "a.example").await;
    assert_eq!(other(&here).await["state"], "paused");
    here.pass_ms(60_000);
    let asked = alice.get(&here, &format!("/accounts/{}", carol.account)).await;
    let refusal = asked.refused(504, "DEV_CAUSEWAY_UNREACHABLE");
    assert!(refusal.error.contains("has paused"), "{}", refusal.error);
    let until = here.now().plus_ms(30_000);
    let ping = ask_of(Call::Ping, None, json!({}), until).to_json();
    assert!(hand_in(&here, OTHER, Peer::new(OTHER).frame(vec![ping])).await.is_empty());
    assert!(door(&here).await.is_empty(), "nothing leaves");
    let (status, shown) = operate(&here, Method::POST, "/servers/b.example/resume").await;
    assert_eq!((status, &shown["state"]), (200, &json!("open")));
    let _wire = Wire::between(&here, &there);
    assert_eq!(texts(&there, &carol, 2).await, ["one", "two"]);
    assert_eq!(texts(&here, &alice, 1).await, ["three"]);
    assert_eq!(look(&here, &alice, &carol).await.list, carol.list);
}

#[tokio::test]
async fn a_ping_goes_the_way_of_all_else_and_says_where_it_stopped() {
    let (here, _, there, _) = two().await;
    let wire = Wire::between(&here, &there);
    let (status, ping) = operate(&here, Method::POST, "/servers/b.example/ping").await;
    assert_eq!((status, &ping["answered"]), (200, &json!(true)), "{ping}");
    assert!(ping["took_ms"].is_u64(), "{ping}");
    assert!(ping["software"].as_str().unwrap().starts_with("Causeway "), "{ping}");
    assert_eq!(ping["agent"], "@_causeway:b.example");
    drop(wire);
    for name in ["a.example", "B.example"] {
        let (status, _) = operate(&here, Method::POST, &format!("/servers/{name}/ping")).await;
        assert_eq!(status, 400, "{name}");
    }
    operate(&here, Method::POST, "/servers/b.example/pause").await;
    let (status, ping) = operate(&here, Method::POST, "/servers/b.example/ping").await;
    assert_eq!((status, &ping["answered"]), (200, &json!(false)), "{ping}");
    assert_eq!(ping["steps"][0]["outcome"], "failed");
    // Nobody fetches it, and then somebody does to whom nobody listens.
    let alone = Server::start_with(|config| {
        config.server_name = "a.example".to_owned();
        config.relay_token = Some(TokenHash::of(DOOR_TOKEN));
        config.relay_patience = std::time::Duration::from_millis(300);
    })
    .await;
    let outcomes = |ping: &Value| -> Vec<String> {
        let steps = ping["steps"].as_array().unwrap().iter();
        steps.map(|step| step["outcome"].as_str().unwrap().to_owned()).collect()
    };
    let (_, ping) = operate(&alone, Method::POST, "/servers/b.example/ping").await;
    assert_eq!(outcomes(&ping), ["ok", "failed", "unknown", "unknown"], "{ping}");
    let (pinged, fetched) =
        tokio::join!(operate(&alone, Method::POST, "/servers/b.example/ping"), async {
            loop {
                let fetched = door(&alone).await;
                if !fetched.is_empty() {
                    return fetched;
                }
            }
        });
    assert!(!fetched.is_empty());
    assert_eq!(outcomes(&pinged.1), ["ok", "ok", "failed", "failed"], "{}", pinged.1);
}

#[tokio::test]
async fn who_is_denied_is_not_spoken_with() {
    let server = Server::start_with(|config| {
        config.server_name = "a.example".to_owned();
        config.relay_token = Some(TokenHash::of(DOOR_TOKEN));
        config.others.deny = vec!["b.*".parse().unwrap()];
    })
    .await;
    let alice = server.person("alice").await;
    let carol = Person::at("carol", OTHER);
    let before = server.rows().await;
    let asked = alice.get(&server, &format!("/accounts/{}", carol.account)).await;
    asked.refused(403, "M_FORBIDDEN");
    let until = server.now().plus_ms(30_000);
    let ping = || ask_of(Call::Ping, None, json!({}), until).to_json();
    for content in [Peer::new(OTHER).frame(vec![ping()]), json!(7), json!({"v": 2})] {
        assert!(hand_in(&server, OTHER, content).await.is_empty());
    }
    assert!(door(&server).await.is_empty());
    server.assert_unchanged(&before).await;
    // Nobody of it is let in.
    let mut group = crate::harness::Group::create(&server, &alice).await;
    let body = causeway_protocol::roster::Body::Add(vec![carol.entry(0)]);
    let refused = super::groups::post_at(&server, &alice, &mut group, &body).await;
    refused.refused(403, "M_FORBIDDEN");
    // Others are.
    let answers = Peer::new("c.example").ask(&server, vec![ping()]).await;
    assert_eq!(answers[0].status, 200);
}

#[tokio::test]
async fn who_makes_no_sense_is_shut_out_and_shown_until_the_link_is_reset() {
    let server = at("a.example").await;
    for _ in 0..20 {
        hand_in(&server, OTHER, json!({"v": 1, "link": 7})).await;
    }
    let mut peer = Peer::new(OTHER);
    let until = server.now().plus_ms(30_000);
    let ping = || ask_of(Call::Ping, None, json!({}), until).to_json();
    assert!(peer.ask(&server, vec![ping()]).await.is_empty(), "nothing of it is taken");
    let silent = server.app.silent_servers().await;
    assert_eq!(silent.iter().map(|one| &*one.server).collect::<Vec<_>>(), [OTHER]);
    // It is shown, and nothing is stored of one that said nothing of sense.
    assert_eq!(other(&server).await["state"], "shut");
    assert!(!server.rows().await.iter().any(|row| row.starts_with("servers:")));
    let (status, shown) = operate(&server, Method::POST, "/servers/b.example/pause").await;
    assert_eq!((status, &shown["malformed"]), (200, &json!(20)));
    assert_eq!(shown["last_error"]["why"], "it sent something that makes no sense");
    assert!(server.app.silent_servers().await.is_empty(), "the operator knows");
    operate(&server, Method::POST, "/servers/b.example/resume").await;
    assert_eq!(other(&server).await["state"], "shut");
    let (status, shown) = operate(&server, Method::POST, "/servers/b.example/reset").await;
    assert_eq!((status, &shown["state"]), (200, &json!("open")));
    assert_eq!(peer.again(&server).await.len(), 1, "it came again, and was taken");
}

#[tokio::test]
async fn the_operator_sees_every_server_and_where_a_group_is() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    alice.say(&here, &group, &["one"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["one"]);
    let path = format!("/groups/{}/replicas", group.id());
    let (epoch, behind) = loop {
        let (status, shown) = operate(&here, Method::GET, &path).await;
        assert_eq!(status, 200, "{shown}");
        let replica = shown["replicas"][0].clone();
        assert_eq!((&replica["server"], &replica["devices"]), (&json!(OTHER), &json!(1)));
        // It is taken when that was said.
        if replica["waiting"] == 0 {
            break (shown["epoch"].clone(), replica["epoch"].clone());
        }
    };
    assert_eq!((epoch, behind), (json!(1), json!(1)));
    drop(wire);
    alice.say(&here, &group, &["two", "three"]).await;
    let (_, shown) = operate(&here, Method::GET, &path).await;
    assert_eq!(shown["replicas"][0]["waiting"], 2, "{shown}");
    assert!(server_waits(&here).await, "a minute later it is silent");
    let mut names = Vec::new();
    let mut after = String::new();
    for name in ["c.example", "d.example"] {
        let until = here.now().plus_ms(30_000);
        let ping = ask_of(Call::Ping, None, json!({}), until).to_json();
        Peer::new(name).ask(&here, vec![ping]).await;
    }
    loop {
        let url = format!("/servers?limit=2{after}");
        let (_, page) = operate(&here, Method::GET, &url).await;
        let servers = page["servers"].as_array().unwrap();
        names.extend(servers.iter().map(|one| one["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(names, ["b.example", "c.example", "d.example"]);
    for (method, path, expected) in [
        (Method::GET, "/servers/nobody.example", 404),
        (Method::POST, "/servers/nobody.example/reset", 404),
        (Method::POST, "/servers/nobody.example/resume", 404),
        (Method::POST, "/servers/a.example/pause", 400),
        (Method::POST, "/servers/no%20name/pause", 400),
        (Method::GET, "/groups/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/replicas", 404),
    ] {
        let (status, shown) = operate(&here, method, path).await;
        assert_eq!(status, expected, "{path}: {shown}");
    }
}

/// Whether what waits for the other server has it shown as silent, a minute later.
async fn server_waits(server: &Server) -> bool {
    // Nobody fetches: what waits is put on its way when somebody does.
    door(server).await;
    assert_eq!(other(server).await["state"], "open");
    server.pass_ms(60_000);
    let silent = server.app.silent_servers().await;
    other(server).await["state"] == "silent" && silent.len() == 1
}
