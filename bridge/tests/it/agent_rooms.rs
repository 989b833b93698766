//! The agent and rooms of agents, beside a homeserver and a native server that say what the test wants.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use causeway_bridge::{
    domain::ghost::Names,
    gateway::{door::Door, matrix::Matrix},
    health::Troubles,
    secret::Secret,
    services::agent::{self, Agent},
    steps::Steps,
};
use causeway_protocol::ids::GroupId;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{harness::database, people::PATIENCE};

const GROUP: GroupId = GroupId::new([7; 32]);
const ME: &str = "@_causeway:a.example";

/// What both servers have, and were asked for.
#[derive(Default)]
struct World {
    /// What the native server wishes.
    wishes: Vec<Value>,
    moved: u64,
    /// What it has for rooms, once.
    posts: Vec<Value>,
    /// What the homeserver shows, once.
    rooms: Vec<Value>,
    /// Rooms of the agent, with their state.
    joined: Vec<(String, Vec<Value>)>,
    /// Invitations that stand: into which room, by whom, and how much else its sender has written there.
    invited: Vec<(&'static str, &'static str, usize)>,
    /// Rooms take nothing.
    refuses: bool,
    alias: Option<String>,
    /// All that was asked for and changes something, as `METHOD last/two/parts`, with the body.
    asked: Vec<(String, Value)>,
}

impl World {
    /// What is shown to whoever has no token.
    fn invitations(&self) -> String {
        let invites = self.invited.iter().map(|(room, by, bytes)| {
            let member = json!({
                "type": "m.room.member", "state_key": ME, "sender": by,
                "content": {"membership": "invite"},
            });
            let more = "x".repeat(*bytes);
            format!(r#""{room}":{{"invite_state":{{"events":[{member},{{"type":"{more}"}}]}}}}"#)
        });
        let invites: Vec<String> = invites.collect();
        format!(r#"{{"next_batch":"s","rooms":{{"invite":{{{}}}}}}}"#, invites.join(","))
    }
}

#[derive(Clone)]
struct Fake {
    world: Arc<Mutex<World>>,
    news: Arc<watch::Sender<u64>>,
}

impl Fake {
    fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let done = change(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.send_modify(|count| *count += 1);
        done
    }

    /// Waits until something was asked for.
    async fn asked(&self, what: &str, is_it: impl Fn(&Value) -> bool) {
        let mut news = self.news.subscribe();
        let is_so = |world: &World| {
            world.asked.iter().any(|(name, body)| name.contains(what) && is_it(body))
        };
        let so = async {
            loop {
                news.mark_unchanged();
                if is_so(&self.world.lock().unwrap()) {
                    return;
                }
                news.changed().await.unwrap();
            }
        };
        let asked = timeout(PATIENCE, so).await;
        assert!(asked.is_ok(), "{what}: {:?}", self.world.lock().unwrap().asked);
    }
}

fn member(user: &str, membership: &str) -> Value {
    json!({
        "type": "m.room.member", "state_key": user, "sender": ME,
        "content": {"membership": membership},
    })
}

async fn answer(State(fake): State<Fake>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = percent_decoded(uri.path());
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let last = *parts.last().unwrap_or(&"");
    let room = parts.iter().skip_while(|part| **part != "rooms").nth(1).map(|id| (*id).to_owned());
    match (&method, last) {
        (&Method::GET, "frames") => {
            tokio::task::yield_now().await;
            let (posts, moved) = fake.with(|world| (std::mem::take(&mut world.posts), world.moved));
            return Json(json!({"frames": [], "posts": posts, "moved": moved})).into_response();
        }
        (&Method::GET, "rooms") => {
            let (rooms, moved) = fake.with(|world| (world.wishes.clone(), world.moved));
            return Json(json!({"rooms": rooms, "began": 1, "moved": moved})).into_response();
        }
        (&Method::GET, "sync") => {
            let query = percent_decoded(uri.query().unwrap_or_default());
            if !query.contains("since=") && !query.contains("%22rooms%22") {
                return fake.with(|world| world.invitations()).into_response();
            }
            let rooms = fake.with(|world| {
                let is_later = uri.query().is_some_and(|query| query.contains("since="));
                is_later.then(|| world.rooms.pop()).flatten().unwrap_or_else(|| json!({}))
            });
            return Json(json!({"next_batch": "s", "rooms": rooms})).into_response();
        }
        (&Method::GET, "joined_rooms") => {
            let joined: Vec<_> =
                fake.with(|world| world.joined.iter().map(|(room, _)| room.clone()).collect());
            return Json(json!({"joined_rooms": joined})).into_response();
        }
        (&Method::GET, "state") => {
            let state = fake.with(|world| {
                let of = world.joined.iter().find(|(id, _)| Some(id) == room.as_ref());
                of.map(|(_, state)| state.clone())
            });
            return Json(json!(state.unwrap_or_default())).into_response();
        }
        (&Method::GET, _) if path.contains("directory/room") => {
            return match fake.with(|world| world.alias.clone()) {
                Some(room) => Json(json!({"room_id": room})).into_response(),
                None => refused(StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            };
        }
        _ => {}
    }
    fake.with(|world| {
        world.asked.push((format!("{method} {path}"), body.clone()));
        match last {
            "createRoom" if world.alias.is_some() => {
                return refused(StatusCode::BAD_REQUEST, "M_ROOM_IN_USE");
            }
            "createRoom" => {
                let mut state = vec![member(ME, "join")];
                state.push(json!({
                    "type": "m.room.create", "state_key": "", "sender": ME,
                    "content": body["creation_content"],
                }));
                world.joined.push(("!made:a.example".to_owned(), state));
                return Json(json!({"room_id": "!made:a.example"})).into_response();
            }
            "leave" => {
                world.joined.retain(|(id, _)| Some(id) != room.as_ref());
                world.invited.retain(|(id, ..)| Some(*id) != room.as_deref());
            }
            _ if method == Method::DELETE => world.alias = None,
            _ if path.contains("/join/") => {
                world.joined.push((last.to_owned(), vec![member(ME, "join")]));
                return Json(json!({"room_id": last})).into_response();
            }
            _ if path.contains("/send/") && world.refuses => {
                return refused(StatusCode::FORBIDDEN, "M_FORBIDDEN");
            }
            _ => {}
        }
        Json(json!({"event_id": "$e", "frames": [], "user_id": ME})).into_response()
    })
}

fn percent_decoded(path: &str) -> String {
    path.replace("%21", "!").replace("%3A", ":").replace("%23", "#").replace("%40", "@")
}

fn refused(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({"errcode": code, "error": "no"}))).into_response()
}

/// Runs the agent of a.example beside them until the story is over.
async fn during(world: World, story: impl AsyncFnOnce(&Fake)) {
    during_seen(world, &Troubles::default(), story).await;
}

/// The same; what does not go on is in `troubles`.
async fn during_seen(world: World, troubles: &Troubles, story: impl AsyncFnOnce(&Fake)) {
    let folder = tempfile::tempdir().unwrap();
    during_in(folder.path(), world, troubles, story).await;
}

/// The same, on what an earlier start has kept there.
async fn during_in(
    folder: &Path,
    world: World,
    troubles: &Troubles,
    story: impl AsyncFnOnce(&Fake),
) {
    let fake = Fake { world: Arc::new(Mutex::new(world)), news: Arc::new(watch::Sender::new(0)) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(fake.clone());
    let db = database(folder).await;
    let agent = Agent {
        db: db.clone(),
        matrix: Matrix::new(&url, Secret::new("token")).unwrap(),
        door: Door::new(&url, Secret::new("token")).unwrap(),
        names: Names::new("a.example").unwrap(),
        troubles: troubles.clone(),
        steps: Steps::default(),
    };
    tokio::select! {
        () = agent::run(&agent, story(&fake)) => {}
        served = async { axum::serve(listener, app).await } => served.unwrap(),
    }
    db.close().await;
}

fn wish(room: Option<&str>, home: &str) -> Value {
    json!({"group": GROUP, "room": room, "home": home, "servers": ["b.example", "c.example"]})
}

#[tokio::test]
async fn the_homes_agent_makes_a_room_lets_the_others_in_and_says_who_is_there() {
    let world = World { wishes: vec![wish(None, "a.example")], ..World::default() };
    during(world, async |fake| {
        fake.asked("createRoom", |body| {
            let alias = body["room_alias_name"].as_str().unwrap();
            alias.starts_with("causeway_relay_")
                && body["creation_content"]["dev.causeway.group"] == json!(GROUP)
                && body["power_level_content_override"]["events_default"] == 100
        })
        .await;
        fake.asked("POST /_causeway/relay/v1/rooms", |body| {
            body["rooms"][0]["room"] == "!made:a.example" && body["rooms"][0]["joined"] == json!([])
        })
        .await;
        for server in ["b.example", "c.example"] {
            fake.asked("!made:a.example/invite", |body| {
                body["user_id"] == format!("@_causeway:{server}")
            })
            .await;
        }
        // One comes, and somebody who has no business there.
        fake.with(|world| {
            let state = &mut world.joined[0].1;
            state.push(member("@_causeway:b.example", "join"));
            state.push(member("@mallory:a.example", "join"));
            world.wishes = vec![wish(Some("!made:a.example"), "a.example")];
            let timeline = json!({"events": [member("@_causeway:b.example", "join")]});
            world.rooms.push(json!({"join": {"!made:a.example": {"timeline": timeline}}}));
        });
        fake.asked("POST /_causeway/relay/v1/rooms", |body| {
            body["rooms"][0]["joined"] == json!(["b.example"])
        })
        .await;
        fake.asked("/kick", |body| body["user_id"] == "@mallory:a.example").await;
        // The last member of a server is out: its agent is to leave, and has a minute for it.
        fake.with(|world| {
            let mut wish = wish(Some("!made:a.example"), "a.example");
            wish["servers"] = json!(["c.example"]);
            world.wishes = vec![wish];
            world.moved += 1;
        });
        fake.asked("POST /_causeway/relay/v1/rooms", |body| {
            body["rooms"][0]["leaving"] == json!(["b.example"])
                && body["rooms"][0]["joined"] == json!([])
        })
        .await;
        let is_kicked = |world: &mut World| {
            world.asked.iter().any(|(_, body)| {
                body["user_id"] == "@_causeway:b.example" && body["reason"].is_string()
            })
        };
        assert!(!fake.with(is_kicked));
        // It goes; then there is nobody else in the group, and it is over.
        fake.with(|world| {
            world.joined[0].1.retain(|event| event["state_key"] != "@_causeway:b.example");
            world.joined[0].1.retain(|event| event["state_key"] != "@mallory:a.example");
            world.wishes[0]["servers"] = json!([]);
            world.moved += 1;
            world.asked.clear();
        });
        fake.asked("POST /_causeway/relay/v1/rooms", |body| {
            let said = &body["rooms"][0];
            said["joined"] == json!([]) && said["leaving"] == json!([])
        })
        .await;
        fake.with(|world| {
            world.wishes.clear();
            world.moved += 1;
        });
        fake.asked("!made:a.example/leave", |_| true).await;
    })
    .await;
}

#[tokio::test]
async fn a_room_under_the_alias_that_is_another_gives_way_and_ones_own_is_taken() {
    for is_ours in [true, false] {
        let group = if is_ours { json!(GROUP) } else { json!("another") };
        let create = json!({
            "type": "m.room.create", "state_key": "", "sender": ME,
            "content": {"type": "dev.causeway.relay", "dev.causeway.group": group},
        });
        let world = World {
            wishes: vec![wish(None, "a.example")],
            alias: Some("!old:a.example".to_owned()),
            joined: vec![("!old:a.example".to_owned(), vec![create])],
            ..World::default()
        };
        let expected = if is_ours { "!old:a.example" } else { "!made:a.example" };
        during(world, async |fake| {
            fake.asked("POST /_causeway/relay/v1/rooms", |body| {
                body["rooms"][0]["room"] == expected
            })
            .await;
            assert_eq!(fake.with(|world| world.alias.is_some()), is_ours);
        })
        .await;
    }
}

#[tokio::test]
async fn another_servers_agent_comes_on_its_homes_word_and_invitation_and_leaves_the_rest() {
    let world = World {
        wishes: vec![wish(Some("!told:b.example"), "b.example")],
        joined: vec![("!unwanted:b.example".to_owned(), Vec::new())],
        ..World::default()
    };
    during(world, async |fake| {
        fake.asked("!unwanted:b.example/leave", |_| true).await;
        let invite = |by: &str| {
            json!({"invite_state": {"events": [{
                "type": "m.room.member", "state_key": ME, "sender": by,
                "content": {"membership": "invite"},
            }]}})
        };
        // Of somebody else, and into another room: nobody follows that.
        fake.with(|world| {
            let good = invite("@_causeway:b.example");
            world.rooms.push(json!({"invite": {"!told:b.example": good}}));
            let others = json!({
                "!told:b.example": invite("@mallory:b.example"),
                "!trap:b.example": invite("@_causeway:b.example"),
            });
            world.rooms.push(json!({ "invite": others }));
        });
        fake.asked("join/!told:b.example", |_| true).await;
        fake.asked("POST /_causeway/relay/v1/rooms", |body| {
            body["rooms"][0]["room"] == "!told:b.example"
        })
        .await;
        assert!(!fake.with(|world| world.asked.iter().any(|(what, _)| what.contains("!trap"))));
    })
    .await;
}

#[tokio::test]
async fn what_a_room_brings_is_handed_in_and_one_that_takes_nothing_is_looked_at_again() {
    let world = World {
        wishes: vec![wish(Some("!room:a.example"), "a.example")],
        joined: vec![("!room:a.example".to_owned(), vec![member("@_causeway:b.example", "join")])],
        ..World::default()
    };
    during(world, async |fake| {
        fake.asked("POST /_causeway/relay/v1/rooms", |_| true).await;
        let event = |sender: &str, n: u32| {
            let kind = "dev.causeway.group.message";
            json!({"type": kind, "sender": sender, "content": {"n": n}})
        };
        fake.with(|world| {
            let events = json!([
                event(ME, 1),
                event("@mallory:b.example", 2),
                event("@_causeway:b.example", 3),
            ]);
            let room = json!({"timeline": {"events": events}});
            world.rooms.push(json!({"join": {"!room:a.example": room}}));
            world.posts.push(json!({"room": "!room:a.example", "content": {"out": 1}}));
        });
        let handed = json!([
            {"from": "b.example", "room": "!room:a.example", "content": {"n": 3}},
        ]);
        fake.asked("POST /_causeway/relay/v1/frames", |body| body["frames"] == handed).await;
        fake.asked("!room:a.example/send/dev.causeway.group.message", |body| body["out"] == 1)
            .await;
        // It is told how the room is, once it does not take what it should.
        fake.with(|world| {
            world.asked.clear();
            world.refuses = true;
            world.posts.push(json!({"room": "!room:a.example", "content": {"out": 2}}));
        });
        fake.asked("POST /_causeway/relay/v1/rooms", |body| {
            body["rooms"][0]["joined"] == json!(["b.example"])
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_strangers_invitation_is_declined_and_forgotten_at_once() {
    let world =
        World { wishes: vec![wish(Some("!told:b.example"), "b.example")], ..World::default() };
    during(world, async |fake| {
        fake.with(|world| {
            let member = json!({
                "type": "m.room.member", "state_key": ME, "sender": "@mallory:b.example",
                "content": {"membership": "invite"},
            });
            let shown = json!({"invite_state": {"events": [member]}});
            let invites = json!({"!x:b.example": shown, "!told:b.example": {"invite_state": {}}});
            world.rooms.push(json!({ "invite": invites }));
        });
        for room in ["!x:b.example", "!told:b.example"] {
            fake.asked(&format!("{room}/leave"), |_| true).await;
            fake.asked(&format!("{room}/forget"), |_| true).await;
        }
    })
    .await;
}

/// Together they are longer than is read at once, and the honest one stands behind them.
#[tokio::test]
async fn huge_invitations_of_strangers_keep_no_honest_one_away() {
    const MIB: usize = 1 << 20;
    let invited = vec![
        ("!1:c.example", "@mallory:c.example", 24 * MIB),
        ("!2:c.example", "@mallory:c.example", 24 * MIB),
        // By an agent, into a room of which no home has told.
        ("!3:c.example", "@_causeway:c.example", 24 * MIB),
        ("!told:b.example", "@_causeway:b.example", 0),
    ];
    let wishes = vec![wish(Some("!told:b.example"), "b.example")];
    during(World { wishes, invited, ..World::default() }, async |fake| {
        fake.asked("join/!told:b.example", |_| true).await;
        for room in ["!1", "!2"] {
            fake.asked(&format!("{room}:c.example/forget"), |_| true).await;
        }
        let is_declined = |world: &mut World| {
            world.asked.iter().any(|(what, _)| what.contains("!told:b.example/leave"))
        };
        assert!(!fake.with(is_declined));
    })
    .await;
}

/// One that alone is longer than is read at once is nobody's honest one.
#[tokio::test]
async fn an_invitation_that_is_longer_than_is_read_is_declined() {
    let invited = vec![
        ("!1:c.example", "@mallory:c.example", 65 << 20),
        ("!told:b.example", "@_causeway:b.example", 0),
    ];
    let wishes = vec![wish(Some("!told:b.example"), "b.example")];
    during(World { wishes, invited, ..World::default() }, async |fake| {
        fake.asked("!1:c.example/forget", |_| true).await;
        fake.asked("join/!told:b.example", |_| true).await;
    })
    .await;
}

/// Who declines at once is invited by none of the starts that follow, until it is time.
#[tokio::test]
async fn a_start_invites_nobody_who_was_invited_by_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let state = || {
        let create = json!({
            "type": "m.room.create", "state_key": "", "sender": ME,
            "content": {"type": "dev.causeway.relay", "dev.causeway.group": GROUP},
        });
        vec![create, member(ME, "join"), member("@_causeway:c.example", "leave")]
    };
    let world = |moved, joined| World {
        wishes: vec![wish(Some("!made:a.example"), "a.example")],
        joined: vec![("!made:a.example".to_owned(), joined)],
        moved,
        ..World::default()
    };
    let is_reported = |body: &Value| body["rooms"][0]["room"] == "!made:a.example";
    let invited = |world: &mut World| {
        let of = world.asked.iter().filter(|(name, _)| name.ends_with("/invite"));
        of.map(|(_, body)| body["user_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let troubles = Troubles::default();
    during_in(folder.path(), world(0, state()), &troubles, async |fake| {
        for server in ["b.example", "c.example"] {
            let whom = format!("@_causeway:{server}");
            fake.asked("/invite", |body| body["user_id"] == whom).await;
        }
    })
    .await;
    // One has come meanwhile, and goes again: of her nothing is kept any more.
    let here = || [state(), vec![member("@_causeway:b.example", "join")]].concat();
    during_in(folder.path(), world(1, here()), &troubles, async |fake| {
        fake.asked("/rooms", is_reported).await;
        fake.with(|world| {
            world.asked.clear();
            world.moved += 1;
        });
        // The next round is behind all of the first.
        fake.with(|world| {
            let timeline = json!({"events": [member("@_causeway:b.example", "join")]});
            world.rooms.push(json!({"join": {"!made:a.example": {"timeline": timeline}}}));
        });
        fake.asked("/rooms", is_reported).await;
        assert!(fake.with(invited).is_empty());
    })
    .await;
    during_in(folder.path(), world(2, state()), &troubles, async |fake| {
        fake.asked("/invite", |body| body["user_id"] == "@_causeway:b.example").await;
        fake.with(|world| {
            let timeline = json!({"events": [member("@_causeway:b.example", "leave")]});
            world.rooms.push(json!({"join": {"!made:a.example": {"timeline": timeline}}}));
            world.asked.retain(|(name, _)| name.ends_with("/invite"));
        });
        fake.asked("/rooms", is_reported).await;
        assert_eq!(fake.with(invited), ["@_causeway:b.example"]);
    })
    .await;
}
