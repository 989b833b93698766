//! A homeserver that does as it is told, on loopback: for the faults that a real one does not have
//! on demand. It keeps rooms and transaction ids as Synapse does; the end-to-end tests use Synapse.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Refused with this, and not done.
    Answer(u16, Value),
    /// Done, and the answer lost.
    Lost,
    /// The connection breaks, and nothing is done.
    Cut,
    /// Done, and answered when this is notified.
    Held(Arc<Notify>),
    /// Answered with this when it is notified, and not done.
    Late(Arc<Notify>, Value),
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Rooms {
    pub(crate) users: BTreeSet<String>,
    pub(crate) devices: BTreeSet<String>,
    pub(crate) names: BTreeMap<String, String>,
    aliases: BTreeMap<String, String>,
    pub(crate) members: BTreeMap<(String, String), String>,
    /// Why somebody left a room.
    pub(crate) reasons: BTreeMap<(String, String), String>,
    pub(crate) events: Vec<Value>,
    txns: BTreeMap<String, String>,
    /// Answers of `/sync`: the same request gets the same one, as Synapse has it for two minutes.
    synced: BTreeMap<String, Value>,
    /// Milliseconds since tests began, by its clock.
    pub(crate) ahead: u64,
    /// What the bot keeps there for itself.
    account_data: BTreeMap<String, Value>,
    purged: BTreeSet<String>,
    /// How many rooms were made.
    pub(crate) made: usize,
    /// Events that there were, those that somebody took away since included.
    happened: usize,
    /// What goes wrong next, each once.
    pub(crate) faults: VecDeque<(&'static str, Fault)>,
    /// What every message of a user, and every invite of one, is answered with.
    pub(crate) refuses: BTreeMap<String, (u16, Value)>,
    /// Every message of these users is done, and answered when this is notified.
    pub(crate) holds: BTreeMap<String, Arc<Notify>>,
    /// Requests to `send`, those that failed included.
    pub(crate) sends: usize,
    /// Where clients are told that calls are carried.
    pub(crate) focus: Option<String>,
    /// State that is emptied later, by its name: whose, in which room, of which type and key.
    pub(crate) delays: BTreeMap<String, [String; 4]>,
    /// It does nothing later.
    pub(crate) has_no_delays: bool,
    /// OpenID tokens, and whose they are.
    pub(crate) openid: BTreeMap<String, String>,
    /// How often that was asked.
    pub(crate) asked_whose: usize,
    /// Pages of rooms that were read.
    pub(crate) pages: usize,
    /// By whom every new room is made encrypted, if so.
    pub(crate) encrypts_all: Option<String>,
}

/// A running stub.
#[derive(Clone)]
pub(crate) struct Stub {
    rooms: Arc<Mutex<Rooms>>,
    pub(crate) url: String,
    changes: watch::Sender<()>,
    task: Arc<tokio::task::JoinHandle<()>>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        if Arc::strong_count(&self.task) == 1 {
            self.task.abort();
        }
    }
}

impl Stub {
    #[expect(clippy::disallowed_methods, reason = "a server beside the test")]
    pub(crate) async fn start() -> Self {
        let rooms = Arc::new(Mutex::new(Rooms::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let changes = watch::Sender::new(());
        let app = Router::new().fallback(answer).with_state((Arc::clone(&rooms), changes.clone()));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { rooms, url, changes, task: Arc::new(task) }
    }

    /// The next request whose path contains `part` goes wrong.
    pub(crate) fn fail(&self, part: &'static str, fault: Fault) {
        self.look(|rooms| rooms.faults.push_back((part, fault)));
    }

    pub(crate) fn look<T>(&self, f: impl FnOnce(&mut Rooms) -> T) -> T {
        f(&mut self.rooms.lock().unwrap())
    }

    /// As [`Stub::look`], for what others should hear of.
    pub(crate) fn change<T>(&self, f: impl FnOnce(&mut Rooms) -> T) -> T {
        let changed = self.look(f);
        self.changes.send_replace(());
        changed
    }

    /// Done at the next request or change.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + use<> {
        let mut changes = self.changes.subscribe();
        async move { drop(changes.changed().await) }
    }

    /// Waits until there is what is looked for.
    pub(crate) async fn wait<T>(&self, mut find: impl FnMut(&Rooms) -> Option<T>) -> T {
        loop {
            let changed = self.changed();
            if let Some(found) = find(&self.rooms.lock().unwrap()) {
                return found;
            }
            changed.await;
        }
    }

    /// `(sender, body)` of all messages, in their order.
    pub(crate) fn said(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.look(|rooms| {
            rooms
                .events
                .iter()
                .filter(|event| event["type"] == "m.room.message")
                .map(|event| (text(&event["sender"]), text(&event["content"]["body"])))
                .collect()
        })
    }

    /// Forgets transaction ids, as a homeserver does after a day.
    pub(crate) fn forget_txns(&self) {
        self.look(|rooms| rooms.txns.clear());
    }
}

async fn answer(
    State((rooms, changes)): State<(Arc<Mutex<Rooms>>, watch::Sender<()>)>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let mut held = None;
    let response = judge(&rooms, &method, &uri, &body, &mut held);
    changes.send_replace(());
    if let Some(held) = held {
        held.notified().await;
    }
    response
}

fn judge(
    rooms: &Mutex<Rooms>,
    method: &Method,
    uri: &Uri,
    body: &Bytes,
    held: &mut Option<Arc<Notify>>,
) -> Response {
    let mut rooms = rooms.lock().unwrap();
    let url = reqwest::Url::parse(&format!("http://stub{uri}")).unwrap();
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let path: Vec<String> = url.path_segments().unwrap().skip(3).map(percent_decode).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if path.get(2) == Some(&"send") {
        rooms.sends += 1;
    }
    let whole = path.join("/");
    let fault = rooms.faults.iter().position(|(part, _)| whole.contains(part));
    let fault = fault.and_then(|index| rooms.faults.remove(index)).map(|(_, fault)| fault);
    let user = query.get("user_id").cloned().unwrap_or_default();
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let subject = match path.get(2) {
        Some(&"send") => user.as_str(),
        Some(&"invite") => body["user_id"].as_str().unwrap(),
        _ => "",
    };
    let refusal = rooms.refuses.get(subject).cloned();
    *held = rooms.holds.get(subject).cloned();
    match fault.or(refusal.map(|(status, value)| Fault::Answer(status, value))) {
        Some(Fault::Answer(status, value)) => {
            return (StatusCode::from_u16(status).unwrap(), axum::Json(value)).into_response();
        }
        Some(Fault::Late(until, value)) => {
            *held = Some(until);
            return axum::Json(value).into_response();
        }
        Some(Fault::Cut) => return broken(),
        Some(Fault::Held(until)) => *held = Some(until),
        Some(Fault::Lost) => {
            drop(rooms.carry_out(method, &path, &user, &query, &body));
            return broken();
        }
        None => {}
    }
    let done = rooms.carry_out(method, &path, &user, &query, &body);
    match done {
        Ok(value) => axum::Json(value).into_response(),
        Err((status, code)) => {
            let refusal = json!({"errcode": code, "error": "stub"});
            (StatusCode::from_u16(status).unwrap(), axum::Json(refusal)).into_response()
        }
    }
}

/// An answer that breaks off before it has said anything.
fn broken() -> Response {
    let torn = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("torn"))]);
    Body::from_stream(torn).into_response()
}

fn percent_decode(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let hex = [*high, *low];
                let hex = std::str::from_utf8(&hex).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = tail;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).unwrap()
}

type Done = Result<Value, (u16, &'static str)>;

impl Rooms {
    fn carry_out(
        &mut self,
        method: &Method,
        path: &[&str],
        user: &str,
        query: &BTreeMap<String, String>,
        body: &Value,
    ) -> Done {
        match (method.as_str(), path) {
            ("GET", ["account", "whoami"]) => Ok(json!({"user_id": "@sender:b.example"})),
            ("GET", ["openid", "userinfo"]) => self.whose(query),
            ("POST", ["register"]) => {
                let id = format!("@{}:b.example", body["username"].as_str().unwrap());
                if self.users.insert(id.clone()) {
                    Ok(json!({"user_id": id}))
                } else {
                    Err((400, "M_USER_IN_USE"))
                }
            }
            ("PUT", ["devices", device]) => {
                self.devices.insert(format!("{user}/{device}"));
                Ok(json!({}))
            }
            ("PUT", ["profile", user, "displayname"]) => {
                let name = body["displayname"].as_str().unwrap();
                self.names.insert((*user).to_owned(), name.to_owned());
                Ok(json!({}))
            }
            ("GET", ["user", _, "account_data", kind]) => {
                self.account_data.get(*kind).cloned().ok_or((404, "M_NOT_FOUND"))
            }
            ("PUT", ["user", _, "account_data", kind]) => {
                self.account_data.insert((*kind).to_owned(), body.clone());
                Ok(json!({}))
            }
            ("POST", ["createRoom"]) => self.create(user, body),
            ("GET", ["directory", "room", alias]) => {
                let room = self.aliases.get(*alias).ok_or((404, "M_NOT_FOUND"))?;
                Ok(json!({"room_id": room, "servers": []}))
            }
            ("DELETE", ["directory", "room", alias]) => self.drop_alias(alias, user),
            ("GET", ["joined_rooms"]) => {
                let inside =
                    self.members.iter().filter(|((_, who), to)| who == user && *to == "join");
                let rooms: Vec<&String> = inside.map(|((room, _), _)| room).collect();
                Ok(json!({"joined_rooms": rooms}))
            }
            ("GET", ["rooms", room, "state"]) => self.whole_state(room, user),
            ("POST", ["join", room]) => self.membership(room, user, user, "join"),
            ("POST", ["rooms", _, "leave"])
                if user.starts_with("@causeway_") && !self.users.contains(user) =>
            {
                Err((403, "M_FORBIDDEN"))
            }
            ("POST", ["rooms", room, "leave"]) => {
                let reason = body["reason"].as_str().unwrap_or_default().to_owned();
                self.reasons.insert(((*room).to_owned(), user.to_owned()), reason);
                self.membership(room, user, user, "leave")
            }
            ("POST", ["rooms", room, "kick"]) => {
                let who = body["user_id"].as_str().unwrap();
                self.membership(room, user, who, "leave")
            }
            ("POST", ["rooms", room, "invite"]) => {
                let who = body["user_id"].as_str().unwrap();
                let reason = body["reason"].as_str().unwrap_or_default().to_owned();
                self.reasons.insert(((*room).to_owned(), who.to_owned()), reason);
                self.membership(room, user, who, "invite")
            }
            ("PUT", ["rooms", room, "send", kind, txn]) => {
                let txn = format!("{user}/{}/{txn}", query["device_id"]);
                self.send_at((room, user, kind, &txn), query.get("ts"), body)
            }
            ("PUT", ["rooms", room, "state", kind, key])
                if query.contains_key("org.matrix.msc4140.delay") =>
            {
                self.arm([user, room, kind, key])
            }
            (_, ["org.matrix.msc4140", "delayed_events", rest @ ..]) => self.later(user, rest),
            ("GET", ["org.matrix.msc4143", "rtc", "transports"]) => Ok(self.transports()),
            ("PUT", ["rooms", room, "state", kind, key]) => {
                let id = self.event(room, user, kind, Some(key), body.clone());
                Ok(json!({"event_id": id}))
            }
            ("GET", ["rooms", room, "state", kind, key]) => self
                .events
                .iter()
                .rev()
                .find(|e| e["room_id"] == *room && e["type"] == *kind && e["state_key"] == *key)
                .map(|e| e["content"].clone())
                .ok_or((404, "M_NOT_FOUND")),
            ("GET", ["rooms", room, "messages"]) => {
                self.pages += 1;
                Ok(self.messages(room, query))
            }
            ("GET", ["sync"]) => {
                let answer = self.sync(user, query);
                Ok(self.synced.entry(format!("{query:?}")).or_insert(answer).clone())
            }
            ("GET", ["rooms", room, "context", event]) => {
                let place = self.place_of(room, event).ok_or((404, "M_NOT_FOUND"))?;
                Ok(json!({"end": format!("s{}", place + 1)}))
            }
            ("GET", ["rooms", room, "event", event]) => self.shown(user, room, event),
            _ => Err((404, "M_UNRECOGNIZED")),
        }
    }

    fn send_at(
        &mut self,
        (room, user, kind, txn): (&str, &str, &str, &str),
        at: Option<&String>,
        body: &Value,
    ) -> Done {
        let sent = self.send(room, user, kind, txn, body)?;
        if let Some(ts) = at {
            let ts: u64 = ts.parse().unwrap();
            let place = self.place_of(room, sent["event_id"].as_str().unwrap()).unwrap();
            self.events[place]["origin_server_ts"] = json!(ts);
        }
        Ok(sent)
    }

    /// Where clients go for calls.
    fn transports(&self) -> Value {
        let livekit = |url| json!({"type": "livekit", "livekit_service_url": url});
        let transports: Vec<Value> = self.focus.iter().map(livekit).collect();
        json!({ "rtc_transports": transports })
    }

    /// State that is to be set later: whose, in which room, of which type and key.
    fn arm(&mut self, what: [&str; 4]) -> Done {
        if self.has_no_delays {
            return Err((403, "M_FORBIDDEN"));
        }
        self.happened += 1;
        let id = format!("delay{}", self.happened);
        self.delays.insert(id.clone(), what.map(ToOwned::to_owned));
        Ok(json!({ "delay_id": id }))
    }

    /// What waits to be done later.
    fn later(&mut self, user: &str, path: &[&str]) -> Done {
        let [id, what] = path else {
            let of_user = self.delays.iter().filter(|(_, [whose, ..])| whose == user);
            let shown = of_user.map(|(id, [_, room, kind, key])| {
                json!({"delay_id": id, "room_id": room, "type": kind, "state_key": key})
            });
            return Ok(json!({"delayed_events": shown.collect::<Vec<_>>()}));
        };
        if !self.delays.contains_key(*id) {
            return Err((404, "M_NOT_FOUND"));
        }
        if *what == "cancel" {
            self.delays.remove(*id);
        }
        Ok(json!({}))
    }

    /// An event, to one who is in the room, or was when it was said.
    fn shown(&self, user: &str, room: &str, event: &str) -> Done {
        let place = self.place_of(room, event).ok_or((404, "M_NOT_FOUND"))?;
        let is_in = self.members.get(&(room.to_owned(), user.to_owned()));
        let is_end = |event: &Value| {
            event["room_id"] == *room
                && event["state_key"] == user
                && event["content"]["membership"] == "leave"
        };
        let end = self.events.iter().rposition(is_end);
        if is_in.is_none_or(|to| to != "join") && end.is_some_and(|end| end < place) {
            return Err((404, "M_NOT_FOUND"));
        }
        Ok(self.events[place].clone())
    }

    /// Whoever has given an alias takes it back.
    fn drop_alias(&mut self, alias: &str, user: &str) -> Done {
        let room = self.aliases.get(alias);
        let is_made = |event: &&Value| {
            room.is_some_and(|room| event["room_id"] == **room) && event["type"] == "m.room.create"
        };
        if self.events.iter().find(is_made).is_some_and(|made| made["sender"] != *user) {
            return Err((403, "M_FORBIDDEN"));
        }
        self.aliases.remove(alias).map(|_| json!({})).ok_or((404, "M_NOT_FOUND"))
    }

    pub(crate) fn create(&mut self, user: &str, body: &Value) -> Done {
        let alias = format!("#{}:b.example", body["room_alias_name"].as_str().unwrap());
        if self.aliases.contains_key(&alias) {
            return Err((400, "M_ROOM_IN_USE"));
        }
        self.made += 1;
        let room = format!("!room{}:b.example", self.made - 1);
        self.aliases.insert(alias, room.clone());
        self.event(&room, user, "m.room.create", Some(""), body["creation_content"].clone());
        self.membership(&room, user, user, "join")?;
        for state in body["initial_state"].as_array().unwrap() {
            let (kind, key) = (state["type"].as_str().unwrap(), state["state_key"].as_str());
            self.event(&room, user, kind, key, state["content"].clone());
        }
        if let Some(by) = self.encrypts_all.clone() {
            self.event(&room, &by, "m.room.encryption", Some(""), json!({}));
        }
        Ok(json!({"room_id": room}))
    }

    /// A room to which this user is invited.
    pub(crate) fn room_that_invites(&self, user: &str) -> Option<String> {
        let mut invites = self.members.iter().filter(|((_, who), _)| who == user);
        invites.find(|(_, to)| *to == "invite").map(|((room, _), _)| room.clone())
    }

    pub(crate) fn membership(&mut self, room: &str, by: &str, who: &str, to: &str) -> Done {
        if self.purged.contains(room) {
            return Err((404, "M_UNKNOWN"));
        }
        let place = (room.to_owned(), who.to_owned());
        let now = self.members.get(&place).map_or("leave", String::as_str).to_owned();
        let is_creator = !self.members.keys().any(|(known, _)| known == room);
        let may = match to {
            "join" => is_creator || matches!(now.as_str(), "invite" | "join"),
            "invite" => !matches!(now.as_str(), "join" | "ban"),
            _ => by != who || matches!(now.as_str(), "join" | "invite"),
        };
        if !may {
            return Err((403, "M_FORBIDDEN"));
        }
        if now != to {
            self.members.insert(place, to.to_owned());
            self.event(room, by, "m.room.member", Some(who), json!({"membership": to}));
        }
        Ok(json!({"room_id": room}))
    }

    fn send(&mut self, room: &str, user: &str, kind: &str, txn: &str, body: &Value) -> Done {
        if let Some(event) = self.txns.get(txn) {
            return Ok(json!({"event_id": event}));
        }
        let place = (room.to_owned(), user.to_owned());
        if self.members.get(&place).is_none_or(|membership| membership != "join") {
            return Err((403, "M_FORBIDDEN"));
        }
        let device = format!("{user}/CAUSEWAY");
        if user.starts_with("@causeway_") && !self.devices.contains(&device) {
            return Err((400, "M_UNKNOWN_DEVICE"));
        }
        let id = self.event(room, user, kind, None, body.clone());
        self.txns.insert(txn.to_owned(), id.clone());
        Ok(json!({"event_id": id}))
    }

    /// Puts an event into a room, whoever's.
    pub(crate) fn event(
        &mut self,
        room: &str,
        sender: &str,
        kind: &str,
        key: Option<&str>,
        content: impl Into<Value>,
    ) -> String {
        let id = format!("$event{}", self.happened);
        self.happened += 1;
        let mut event = json!({
            "event_id": id, "room_id": room, "sender": sender, "type": kind,
            "origin_server_ts": crate::harness::START + self.ahead, "content": content.into(),
        });
        if let Some(key) = key {
            event["state_key"] = json!(key);
        }
        self.events.push(event);
        id
    }

    /// Somebody takes out of the room what was said there so.
    pub(crate) fn redact(&mut self, body: &str) {
        let event = self.events.iter_mut().find(|event| event["content"]["body"] == body).unwrap();
        event["content"] = json!({});
        event["unsigned"] = json!({"redacted_because": {"type": "m.room.redaction"}});
    }

    /// Whose an OpenID token is.
    fn whose(&mut self, query: &BTreeMap<String, String>) -> Done {
        self.asked_whose += 1;
        let sub = query.get("access_token").and_then(|token| self.openid.get(token));
        sub.map(|sub| json!({ "sub": sub })).ok_or((401, "M_UNKNOWN_TOKEN"))
    }

    /// A room's state as one sees it who is in it, or was.
    fn whole_state(&self, room: &str, user: &str) -> Done {
        let place = (room.to_owned(), user.to_owned());
        if !self.members.get(&place).is_some_and(|to| matches!(to.as_str(), "join" | "leave")) {
            return Err((403, "M_FORBIDDEN"));
        }
        let mut state = BTreeMap::new();
        for event in self.events.iter().filter(|e| e["room_id"] == *room) {
            if let (Some(kind), Some(key)) = (event["type"].as_str(), event["state_key"].as_str()) {
                state.insert((kind, key), event);
            }
        }
        Ok(json!(state.values().collect::<Vec<_>>()))
    }

    /// The homeserver died over making a room: there is its alias, and nobody is in it.
    pub(crate) fn half_made(&mut self, alias: &str) {
        self.aliases.insert(alias.to_owned(), "!half:b.example".to_owned());
    }

    /// The operator deletes a room: nobody is in it any more, and nobody hears of that.
    pub(crate) fn purge(&mut self, room: &str) {
        self.members.retain(|(known, _), _| known != room);
        self.aliases.retain(|_, known| known != room);
        self.purged.insert(room.to_owned());
    }

    /// The homeserver is put back to how it was `then`; no two events bear one name all the same.
    pub(crate) fn put_back(&mut self, then: Self) {
        let mut purged = self.purged.clone();
        let is_new = |room: &&String| !then.members.keys().any(|(known, _)| known == *room);
        purged.extend(self.members.keys().map(|(room, _)| room).filter(is_new).cloned());
        *self = Self { happened: self.happened, purged, ..then };
    }

    fn messages(&self, room: &str, query: &BTreeMap<String, String>) -> Value {
        let limit: usize = query["limit"].parse().unwrap();
        if query["dir"] == "f" {
            let from = query.get("from").map_or("s0", String::as_str);
            let found: Vec<_> = self.onwards(room, from).into_iter().take(limit).collect();
            let end = found.last().map_or_else(|| from.to_owned(), |(n, _)| format!("s{}", n + 1));
            let chunk: Vec<&Value> = found.into_iter().map(|(_, event)| event).collect();
            return json!({"chunk": chunk, "start": from, "end": end});
        }
        let now = format!("s{}", self.events.len());
        let from = query.get("from").unwrap_or(&now);
        let before: usize = from.strip_prefix('s').unwrap().parse().unwrap();
        let earlier = self.events.iter().enumerate().take(before).rev();
        let of_room = earlier.filter(|(_, event)| event["room_id"] == *room);
        let found: Vec<_> = of_room.take(limit).collect();
        let end = found.last().map_or("s0".to_owned(), |(n, _)| format!("s{n}"));
        let chunk: Vec<&Value> = found.into_iter().map(|(_, event)| event).collect();
        json!({"start": from, "end": end, "chunk": chunk})
    }

    fn place_of(&self, room: &str, event: &str) -> Option<usize> {
        self.events.iter().position(|e| e["room_id"] == *room && e["event_id"] == *event)
    }

    /// Events of a room from the token `sN` on, which is the number of the next event of all.
    fn onwards(&self, room: &str, from: &str) -> Vec<(usize, &Value)> {
        let from: usize = from.strip_prefix('s').unwrap().parse().unwrap();
        let events = self.events.iter().enumerate().skip(from);
        events.filter(|(_, event)| event["room_id"] == *room).collect()
    }

    fn sync(&self, user: &str, query: &BTreeMap<String, String>) -> Value {
        let filter: Value = serde_json::from_str(&query["filter"]).unwrap();
        let limit = filter["room"]["timeline"]["limit"].as_u64().unwrap();
        let limit = usize::try_from(limit).unwrap();
        let since = query.get("since").map_or("s0", String::as_str);
        let inside = self.members.iter().filter(|((_, who), to)| who == user && *to == "join");
        let mut join = serde_json::Map::new();
        for ((room, _), _) in inside {
            let events = self.onwards(room, since);
            let shown: Vec<Value> = events
                .iter()
                .skip(events.len().saturating_sub(limit))
                .map(|(_, event)| {
                    let mut event = (*event).clone();
                    event.as_object_mut().unwrap().remove("room_id");
                    event
                })
                .collect();
            if !shown.is_empty() {
                let limited = events.len() > limit;
                let timeline = json!({"events": shown, "limited": limited, "prev_batch": "s0"});
                join.insert(room.clone(), json!({"timeline": timeline}));
            }
        }
        let rooms = json!({"join": join, "invite": self.invites(user, since)});
        json!({"next_batch": format!("s{}", self.events.len()), "rooms": rooms})
    }

    /// What is shown of rooms to which somebody was invited since.
    fn invites(&self, user: &str, since: &str) -> Value {
        let invited = self.members.iter().filter(|((_, who), to)| who == user && *to == "invite");
        let shown = invited.filter_map(|((room, _), _)| {
            let mut events = self.onwards(room, since).into_iter().map(|(_, event)| event);
            let is_it = |event: &&Value| {
                event["state_key"] == *user && event["content"]["membership"] == "invite"
            };
            let mut invitation = events.rfind(is_it)?.clone();
            invitation.as_object_mut().unwrap().remove("room_id");
            Some((room.clone(), json!({"invite_state": {"events": [invitation]}})))
        });
        Value::Object(shown.collect())
    }
}
