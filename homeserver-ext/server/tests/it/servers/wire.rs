//! What carries frames from one server's door to the other's, as two agents and two homeservers would.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use causeway_protocol::ids::is_server_name;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::Server;

pub(super) const DOOR_TOKEN: &str = "the door's token";

/// A relay room: what one posts there reaches all others.
#[derive(Default)]
pub(super) struct Room {
    /// Events that were posted, each with who did.
    pub(super) posted: Mutex<Vec<(&'static str, Value)>>,
    /// Whose homeserver keeps them to itself.
    pub(super) withheld: Mutex<BTreeSet<&'static str>>,
}

/// Ends with its drop.
pub(super) struct Wire {
    lost: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Wire {
    pub(super) fn between(one: &Server, other: &Server) -> Self {
        Self::make(one, other, false)
    }

    /// The first frame with items of each direction is lost, and each later one comes twice.
    pub(super) fn lossy(one: &Server, other: &Server) -> Self {
        Self::make(one, other, true)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }

    /// Between each two of several; what is for others is lost.
    pub(super) fn among(servers: &[(&'static str, &Server)]) -> Self {
        Self::carrying(servers, false, &Arc::default())
    }

    /// Likewise, with a room of theirs.
    pub(super) fn with_room(servers: &[(&'static str, &Server)], room: &Arc<Room>) -> Self {
        Self::carrying(servers, false, room)
    }

    fn make(one: &Server, other: &Server, is_lossy: bool) -> Self {
        Self::carrying(&[("a.example", one), ("b.example", other)], is_lossy, &Arc::default())
    }

    fn carrying(servers: &[(&'static str, &Server)], is_lossy: bool, room: &Arc<Room>) -> Self {
        let (lost, mut tasks) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        let urls: BTreeMap<_, _> = servers.iter().map(|(name, to)| (*name, url(to))).collect();
        for &(name, from) in servers {
            let http = from.http.clone();
            let (lost, urls, room) = (Arc::clone(&lost), urls.clone(), Arc::clone(room));
            tasks.spawn(async move {
                carry(http, (name, &urls), is_lossy.then_some(lost), &room).await;
            });
        }
        Self { lost, _tasks: tasks }
    }
}

fn url(server: &Server) -> String {
    format!("{}/_causeway/relay/v1/frames", server.base)
}

async fn carry(
    http: reqwest::Client,
    (name, urls): (&'static str, &BTreeMap<&'static str, String>),
    lost: Option<Arc<AtomicU64>>,
    room: &Room,
) {
    let (mut seen, from) = (BTreeSet::new(), &urls[name]);
    loop {
        let fetched = http.get(format!("{from}?wait_ms=1000")).bearer_auth(DOOR_TOKEN).send().await;
        let Ok(fetched) = fetched else { continue };
        let Ok(body) = fetched.json::<Value>().await else { continue };
        for post in body["posts"].as_array().unwrap() {
            room.posted.lock().unwrap().push((name, post["content"].clone()));
            for (other, to) in urls.iter().filter(|(other, _)| **other != name) {
                let hears = !room.withheld.lock().unwrap().contains(other);
                let (id, content) = (&post["room"], &post["content"]);
                let body = json!({"frames": [{"from": name, "room": id, "content": content}]});
                if hears {
                    let handed = http.post(to).bearer_auth(DOOR_TOKEN).json(&body).send().await;
                    assert!(handed.unwrap().status().is_success());
                }
            }
        }
        for frame in body["frames"].as_array().unwrap_or_else(|| panic!("{body}")) {
            let has_items = !frame["content"]["items"].as_array().unwrap().is_empty();
            let is_first = has_items && seen.insert(frame["content"]["seq"].as_u64());
            assert!(is_server_name(name));
            let Some(to) = urls.get(frame["to"].as_str().unwrap()) else { continue };
            let times = match &lost {
                Some(lost) if is_first && seen.len() == 1 => {
                    lost.fetch_add(1, Ordering::SeqCst);
                    0
                }
                Some(_) => 2,
                None => 1,
            };
            for _ in 0..times {
                let body = json!({"frames": [{"from": name, "content": frame["content"]}]});
                let handed = http.post(to).bearer_auth(DOOR_TOKEN).json(&body).send().await;
                let handed = handed.unwrap();
                let status = handed.status();
                assert!(status.is_success(), "{status}: {}", handed.text().await.unwrap());
            }
        }
    }
}

/// What is to leave the server now.
pub(super) async fn door(server: &Server) -> Vec<Value> {
    let answer = server.http.get(url(server)).bearer_auth(DOOR_TOKEN).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    body["frames"].as_array().unwrap().clone()
}

/// Hands in what `from`'s agent would have said in a room.
pub(super) async fn hand_in_of_room(server: &Server, from: &str, room: &str, content: &Value) {
    let body = json!({"frames": [{"from": from, "room": room, "content": content}]});
    let request = server.http.post(url(server)).bearer_auth(DOOR_TOKEN).json(&body);
    assert!(request.send().await.unwrap().status().is_success());
}

/// The rooms in which the server's agent is to be.
pub(super) async fn wishes(server: &Server) -> Value {
    let url = url(server).replace("/frames", "/rooms");
    let answer = server.http.get(url).bearer_auth(DOOR_TOKEN).send().await.unwrap();
    answer.json().await.unwrap()
}

/// Says what the server's agent would have found there.
pub(super) async fn report(server: &Server, rooms: Value) {
    let url = url(server).replace("/frames", "/rooms");
    let request = server.http.post(url).bearer_auth(DOOR_TOKEN).json(&json!({ "rooms": rooms }));
    assert!(request.send().await.unwrap().status().is_success());
}

/// Hands in what `from`'s agent would have said; what is said back beside the link.
pub(super) async fn hand_in(server: &Server, from: &str, content: Value) -> Vec<Value> {
    hand_in_all(server, vec![(from, content)]).await
}

/// Likewise of several, at once.
pub(super) async fn hand_in_all(server: &Server, frames: Vec<(&str, Value)>) -> Vec<Value> {
    let frames =
        frames.into_iter().map(|(from, content)| json!({"from": from, "content": content}));
    let body = json!({"frames": frames.collect::<Vec<_>>()});
    let request = server.http.post(url(server)).bearer_auth(DOOR_TOKEN).json(&body);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success());
    let body: Value = answer.json().await.unwrap();
    body["frames"].as_array().unwrap().iter().map(|frame| frame["content"].clone()).collect()
}
