//! The homeserver of every agent at once: who asks is told by `user_id`, as of an application service.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::timeout};

/// Longest that anybody waits here: a dead process's request ends soon.
const LONGEST: Duration = Duration::from_secs(2);

/// What happened, in order: to-device messages and events, each with its number.
#[derive(Default)]
struct Happened {
    last: u64,
    /// What is for a user's device, until he asks for what is behind it.
    to_device: BTreeMap<String, Vec<(u64, Value)>>,
    rooms: BTreeMap<String, Room>,
    aliases: BTreeMap<String, String>,
    /// Transactions that were taken.
    taken: BTreeMap<String, Value>,
}

#[derive(Default)]
struct Room {
    create: Value,
    members: BTreeMap<String, (u64, Value)>,
    events: Vec<(u64, Value)>,
}

impl Room {
    fn membership(&self, user: &str) -> Option<&str> {
        self.members.get(user)?.1["content"]["membership"].as_str()
    }
}

#[derive(Clone, Default)]
struct Homeserver {
    happened: Arc<Mutex<Happened>>,
    news: watch::Sender<u64>,
}

#[derive(Deserialize)]
struct Asks {
    user_id: Option<String>,
    since: Option<String>,
    timeout: Option<u64>,
}

pub(super) async fn serve(listener: TcpListener) {
    let app = Router::new().fallback(answer).with_state(Homeserver::default());
    axum::serve(listener, app).await.unwrap();
}

async fn answer(
    State(homeserver): State<Homeserver>,
    method: Method,
    uri: Uri,
    Query(asks): Query<Asks>,
    body: Bytes,
) -> Response {
    let path = uri.path().replace("%21", "!").replace("%3A", ":").replace("%23", "#");
    let path = path.replace("%40", "@");
    let Some(path) = path.strip_prefix("/_matrix/client/v3/") else {
        return refused(StatusCode::NOT_FOUND, "M_UNRECOGNIZED");
    };
    let parts: Vec<&str> = path.split('/').collect();
    let me = asks.user_id.clone().unwrap_or_default();
    if parts == ["sync"] {
        return homeserver.sync(&me, &asks).await;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = homeserver.happens(|happened| happened.answer(&method, &parts, &me, &body));
    answer.map_or_else(|(status, code)| refused(status, code), |body| Json(body).into_response())
}

fn refused(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({"errcode": code, "error": "no"}))).into_response()
}

impl Homeserver {
    fn happens<T>(&self, change: impl FnOnce(&mut Happened) -> T) -> T {
        let mut happened = self.happened.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut happened);
        self.news.send_replace(happened.last);
        done
    }

    async fn sync(&self, me: &str, asks: &Asks) -> Response {
        let since = asks.since.as_deref().map(|since| since.parse().unwrap());
        let longest = Duration::from_millis(asks.timeout.unwrap_or(0)).min(LONGEST);
        let mut news = self.news.subscribe();
        let has_come = async {
            loop {
                news.mark_unchanged();
                let synced = self.happens(|happened| happened.synced(me, since));
                if let Some(synced) = synced {
                    return synced;
                }
                let _ = news.changed().await;
            }
        };
        let synced = timeout(longest, has_come).await.unwrap_or_else(|_| {
            let last = self.happens(|happened| happened.last);
            json!({"next_batch": since.unwrap_or(last).to_string()})
        });
        Json(synced).into_response()
    }
}

impl Happened {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// What is new for somebody, if anything is; what is not asked for any more is let go of.
    fn synced(&mut self, me: &str, since: Option<u64>) -> Option<Value> {
        let waiting = self.to_device.entry(me.to_owned()).or_default();
        waiting.retain(|(nth, _)| since.is_none_or(|since| *nth > since));
        let to_device: Vec<_> = waiting.iter().map(|(_, event)| event.clone()).collect();
        let is_new = |nth: &u64| since.is_none_or(|since| *nth > since);
        let (mut join, mut invite) = (json!({}), json!({}));
        for (id, room) in &self.rooms {
            let Some((nth, member)) = room.members.get(me) else { continue };
            match room.membership(me) {
                Some("join") => {
                    let events = room.events.iter().filter(|(nth, _)| is_new(nth));
                    let events: Vec<_> = events.map(|(_, event)| event.clone()).collect();
                    if !events.is_empty() {
                        join[id] = json!({"timeline": {"events": events}});
                    }
                }
                Some("invite") if is_new(nth) => {
                    invite[id] = json!({"invite_state": {"events": [member]}});
                }
                _ => {}
            }
        }
        let is_empty = to_device.is_empty() && join == json!({}) && invite == json!({});
        (!is_empty || since.is_none()).then(|| {
            json!({
                "next_batch": self.last.to_string(),
                "to_device": {"events": to_device},
                "rooms": {"join": join, "invite": invite},
            })
        })
    }

    fn set_member(&mut self, room: &str, by: &str, whom: &str, membership: &str) {
        let event = json!({
            "type": "m.room.member", "sender": by, "state_key": whom,
            "content": {"membership": membership},
        });
        let nth = self.next();
        let Some(room) = self.rooms.get_mut(room) else { return };
        room.members.insert(whom.to_owned(), (nth, event.clone()));
        room.events.push((nth, event));
    }

    fn answer(
        &mut self,
        method: &Method,
        parts: &[&str],
        me: &str,
        body: &Value,
    ) -> Result<Value, (StatusCode, &'static str)> {
        let forbidden = Err((StatusCode::FORBIDDEN, "M_FORBIDDEN"));
        let is_in = |happened: &Self, room: &str| {
            happened.rooms.get(room).and_then(|room| room.membership(me)) == Some("join")
        };
        match (method, parts) {
            (&Method::PUT, ["sendToDevice", kind, txn]) => {
                if self.taken.insert(format!("{me} {txn}"), json!({})).is_some() {
                    return Ok(json!({}));
                }
                for (whom, devices) in body["messages"].as_object().into_iter().flatten() {
                    for content in devices.as_object().into_iter().flat_map(|it| it.values()) {
                        let nth = self.next();
                        let event = json!({"type": kind, "sender": me, "content": content});
                        self.to_device.entry(whom.clone()).or_default().push((nth, event));
                    }
                }
                Ok(json!({}))
            }
            (_, ["joined_rooms"]) => {
                let rooms = self.rooms.keys().filter(|room| is_in(self, room));
                Ok(json!({"joined_rooms": rooms.collect::<Vec<_>>()}))
            }
            (_, ["createRoom"]) => {
                let server = me.split_once(':').map_or("", |(_, server)| server);
                let alias = body["room_alias_name"].as_str().unwrap_or_default();
                let alias = format!("#{alias}:{server}");
                if self.aliases.contains_key(&alias) {
                    return Err((StatusCode::BAD_REQUEST, "M_ROOM_IN_USE"));
                }
                let id = format!("!{}:{server}", self.next());
                self.aliases.insert(alias, id.clone());
                let create = json!({
                    "type": "m.room.create", "state_key": "", "sender": me,
                    "content": body["creation_content"],
                });
                self.rooms.insert(id.clone(), Room { create, ..Room::default() });
                self.set_member(&id, me, me, "join");
                Ok(json!({ "room_id": id }))
            }
            (&Method::DELETE, ["directory", "room", alias]) => {
                self.aliases.remove(*alias);
                Ok(json!({}))
            }
            (_, ["directory", "room", alias]) => match self.aliases.get(*alias) {
                Some(room) => Ok(json!({ "room_id": room })),
                None => Err((StatusCode::NOT_FOUND, "M_NOT_FOUND")),
            },
            (_, ["join", room]) => {
                let invited = self.rooms.get(*room).and_then(|room| room.membership(me));
                if !matches!(invited, Some("invite" | "join")) {
                    return forbidden;
                }
                self.set_member(room, me, me, "join");
                Ok(json!({ "room_id": room }))
            }
            (_, ["rooms", room, "leave"]) => {
                self.set_member(room, me, me, "leave");
                Ok(json!({}))
            }
            (_, ["rooms", room, rest @ ..]) if is_in(self, room) => match rest {
                ["state"] => {
                    let room = &self.rooms[*room];
                    let members = room.members.values().map(|(_, event)| event.clone());
                    Ok([room.create.clone()].into_iter().chain(members).collect())
                }
                [act @ ("invite" | "kick")] => {
                    let whom = body["user_id"].as_str().unwrap_or_default();
                    self.set_member(room, me, whom, if *act == "kick" { "leave" } else { act });
                    Ok(json!({}))
                }
                ["send", kind, txn] => {
                    let nth = self.next();
                    let event = json!({"type": kind, "sender": me, "content": body});
                    if self.taken.insert(format!("{me} {txn}"), json!({})).is_none() {
                        self.rooms.get_mut(*room).unwrap().events.push((nth, event));
                    }
                    Ok(json!({"event_id": format!("${nth}")}))
                }
                _ => Ok(json!({})),
            },
            (_, ["rooms", ..]) => forbidden,
            // Who is registered, and with which device.
            _ => Ok(json!({"user_id": me})),
        }
    }
}
