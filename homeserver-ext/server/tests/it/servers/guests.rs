//! A group whose bridge is of another server than its home: those of Matrix come into the home's calls.

use causeway_protocol::{
    api::{CallSfus, CallState, CallTopology},
    ghost,
    ids::{CallId, ItemId, Timestamp},
    link::{Answer as LinkAnswer, Ask, Call, Item},
    roster::Body,
};
use causeway_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    OTHER, as_in_tests, at,
    groups::{post_at, until_epoch},
    peer::Peer,
    wire::{DOOR_TOKEN, Wire, hand_in},
};
use crate::{
    calls::{ask, listening, new_id, state},
    harness::{Answer, Group, Person, Server, Stream, random},
    sfu::{
        claims,
        livekit::{Connected, Sfu},
    },
};

const MIA: &str = "@mia:b.example";
/// Where Mia speaks in [`speaking_there`].
const FOCUS: &str = "https://c.example/livekit/jwt";

/// Alice at the home, which has a LiveKit; Carol and the bridge on the other server.
struct Stage {
    livekit: Sfu,
    here: Server,
    there: Server,
    group: Group,
    alice: Person,
    carol: Person,
    ferry: Person,
    wire: Option<Wire>,
    _streams: Vec<Stream>,
}

impl Stage {
    async fn new() -> Self {
        let livekit = Sfu::start().await;
        let change = |config: &mut Config| {
            as_in_tests(config, "a.example");
            config.livekit = Some(livekit.config());
        };
        let (here, there) = (Server::start_with(change).await, at(OTHER).await);
        let alice = here.person("alice").await;
        let carol = Person::at("carol", OTHER).registered(&there).await;
        let ferry = Person::at("ferry", OTHER).registered(&there).await;
        let wire = Some(Wire::between(&here, &there));
        let mut group = Group::create(&here, &alice).await;
        let both = Body::Add(vec![carol.entry(0), ferry.entry(2)]);
        group.post(&here, &alice, &both).await;
        until_epoch(&there, &carol, &group).await;
        let mut streams = listening(&here, [&alice]).await;
        streams.extend(listening(&there, [&carol]).await);
        Self { livekit, here, there, group, alice, carol, ferry, wire, _streams: streams }
    }

    /// Alice begins a call and Carol comes, both of whom agreed that LiveKit hears them.
    async fn call(&self) -> CallId {
        let call = new_id();
        let body = json!({
            "call": call, "intent": "audio", "caps": ["mesh", "sfu"], "may_degrade": true,
        });
        let path = self.group.path("/calls");
        let begun: CallState = self.alice.post(&self.here, &path, &body).await.ok();
        assert!(begun.bridged, "wherever the bridge is");
        let body = json!({"caps": ["mesh", "sfu"], "may_degrade": true});
        self.asks(&self.carol, (call, "join"), body).await.ok::<CallState>();
        call
    }

    async fn asks(&self, who: &Person, what: (CallId, &str), body: Value) -> Answer {
        let server = if who.account.server() == OTHER { &self.there } else { &self.here };
        ask(server, who, &self.group, what, body).await
    }

    /// As Carol is told at her server.
    async fn state(&self, call: CallId) -> CallState {
        state(&self.there, &self.carol, &self.group, call).await
    }

    /// The bridge asks, at its own server.
    async fn door(&self, what: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/_causeway/relay/v1/calls/{what}", self.there.base);
        let asked = self.there.http.post(url).bearer_auth(DOOR_TOKEN).json(body).send().await;
        let answer = asked.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// What the Matrix half of the bridge's server asks and says of servers for calls elsewhere.
    async fn relay(&self, method: Method, body: &Value) -> (u16, Value) {
        let url = format!("{}/_causeway/relay/v1/calls/abroad?wait_ms=30000", self.there.base);
        let asked = self.there.http.request(method, url).bearer_auth(DOOR_TOKEN).json(body);
        let answer = asked.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// What is to be fetched.
    async fn asked(&self) -> (u16, Value) {
        self.relay(Method::GET, &Value::Null).await
    }

    /// It fetches what `who` asks for.
    async fn fetch(&self, who: &Person, mut outcome: Value) {
        let (status, asked) = self.asked().await;
        assert_eq!((status, asked.as_array().unwrap().len()), (200, 1), "{asked}");
        let of = json!({
            "id": asked[0]["id"], "group": self.group.id(), "account": who.account,
            "device": who.device(), "focus": FOCUS,
        });
        assert_eq!(asked[0], of);
        outcome["id"] = asked[0]["id"].clone();
        assert_eq!(self.relay(Method::POST, &outcome).await.0, 204);
    }

    fn token(&self) -> Value {
        json!({
            "group": self.group.id(), "room": "O8437W3", "user": MIA, "device": "PHONE",
            "identity": format!("{MIA}:PHONE"), "publish": true, "name": "Mia",
        })
    }

    fn member(&self, is_in: bool, begins: Option<CallId>) -> Value {
        let by = json!({"account": self.ferry.account, "device": self.ferry.device()});
        let begins = begins.map(|call| json!({"call": call, "intent": "audio", "by": by}));
        json!({
            "group": self.group.id(), "user": MIA, "device": "PHONE", "is_in": is_in,
            "identities": [format!("{MIA}:PHONE")], "begins": begins,
        })
    }

    /// She asks, comes, and is in the call.
    async fn comes(&self, call: CallId) -> Connected {
        let (status, given) = self.door("token", &self.token()).await;
        assert_eq!((status, &given["url"]), (200, &json!(self.livekit.url())), "{given}");
        let jwt = given["jwt"].as_str().unwrap();
        let claims = claims(jwt);
        assert_eq!(claims["sub"], json!(format!("{MIA}:PHONE")));
        let room = claims["video"]["room"].as_str().unwrap();
        assert!(room.len() == 32 && room.bytes().all(|it| it.is_ascii_hexdigit()), "{room}");
        let phone = Connected::by(&self.livekit.url(), jwt).await;
        self.looks().await;
        let with = self.state(call).await;
        let shown: Vec<_> = with.guests().map(|it| (&*it.mirror, &*it.name)).collect();
        assert_eq!((shown, with.clear), (vec![(MIA, "Mia")], true));
        phone
    }

    /// Until that is so at the home.
    async fn until(&self, call: CallId, so: impl Fn(&CallState) -> bool) -> CallState {
        let path = self.group.path(&format!("/calls/{call}"));
        loop {
            let answer = self.alice.get(&self.here, &path).await;
            if answer.status.is_success() {
                let state: CallState = answer.ok();
                if so(&state) {
                    return state;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn looks(&self) {
        self.here.pass_ms(500);
        self.here.app.tick_rooms().await.unwrap();
    }
}

#[tokio::test]
async fn those_of_matrix_come_into_the_homes_call_by_the_other_servers_bridge() {
    let mut all = Stage::new().await;
    let call = all.call().await;
    let mut phone = all.comes(call).await;
    // Natives of both are called there by the ghosts of the bridge's server, as its room shows them.
    let epoch = all.state(call).await.epoch;
    for who in [&all.alice, &all.carol] {
        let given = all.asks(who, (call, "sfu"), json!({ "epoch": epoch })).await;
        let CallSfus { sfus, e2ee } = given.ok();
        let ghost = ghost::in_call(OTHER, &who.account, &who.device()).unwrap();
        assert_eq!((&sfus[0].mine, &*e2ee), (&ghost, "none"));
        assert_eq!(all.livekit.people(&sfus[0].room).await, [format!("{MIA}:PHONE")]);
    }
    let place = |device: &str| {
        let identity = format!("{MIA}:{device}");
        json!({"group": all.group.id(), "room": "none", "identity": identity})
    };
    let places = json!({"places": [place("PHONE"), place("PAD")]});
    assert_eq!(all.door("there", &places).await, (200, json!({"there": [true, false]})));
    let raises = json!({"raises": {"device": "PHONE", "event": "$1"}});
    let raises = json!({"group": all.group.id(), "user": MIA, "what": raises});
    // Nobody waits for the home to have heard it.
    let said = (200, json!({"said_to": "a.example"}));
    assert_eq!(all.door("said", &raises).await, said);
    all.until(call, |state| state.guests().all(|mia| mia.hand)).await;
    // The room says that she went.
    assert_eq!(all.door("member", &all.member(false, None)).await, said);
    all.until(call, |state| state.guests().count() == 0).await;
    all.looks().await;
    phone.is_put_out().await;

    // She begins the next one.
    all.asks(&all.alice, (call, "end"), json!({})).await.ok::<CallState>();
    let next = new_id();
    assert_eq!(all.door("member", &all.member(true, Some(next))).await, said);
    let begun = all.until(next, |_| true).await;
    assert_eq!(
        (begun.topology, &begun.started_by.account),
        (CallTopology::Prepare, &all.ferry.account)
    );
    assert_eq!(begun.started_by.mirror.as_deref(), Some(MIA));
    let mut phone = all.comes(next).await;
    // The bridge goes, and with it whom it let in.
    post_at(&all.there, &all.ferry, &mut all.group, &Body::Leave).await.ok::<Value>();
    all.looks().await;
    phone.is_put_out().await;
    assert_eq!(all.door("token", &all.token()).await.0, 403);
}

/// A call in which Mia is, whose room says that she speaks on a third homeserver's server.
async fn speaking_there(all: &Stage) -> (CallState, Connected) {
    let call = all.call().await;
    let phone = all.comes(call).await;
    let mut says = all.member(true, None);
    says["focus"] = json!(FOCUS);
    assert_eq!(all.door("member", &says).await.0, 200);
    let speaks_there = |state: &CallState| {
        state.guests().all(|mia| mia.focus.as_deref() == Some(FOCUS) && !mia.muted)
    };
    let now = all.until(call, speaks_there).await;
    // She is shown, and let in by the home to hear.
    assert_eq!(now.guests().count(), 1);
    (now, phone)
}

#[tokio::test]
async fn who_speaks_on_a_third_homeservers_server_is_heard_by_what_the_bridges_server_fetches() {
    let all = Stage::new().await;
    let (now, _phone) = speaking_there(&all).await;
    // Who a native's ghost is the home of the ghosts alone can say.
    for who in [&all.alice, &all.carol] {
        let asked = json!({"epoch": now.epoch, "focus": FOCUS});
        let asks = |asked| all.asks(who, (now.call, "sfu"), asked);
        let given = json!({"given": {"url": "wss://sfu.c.example", "jwt": "a token"}});
        let (answer, ()) = tokio::join!(asks(asked.clone()), all.fetch(who, given));
        let CallSfus { sfus, e2ee } = answer.ok();
        let it = &sfus[0];
        assert_eq!((it.url.as_str(), it.jwt.as_str()), ("wss://sfu.c.example", "a token"));
        assert_eq!((sfus.len(), it.publish, e2ee.as_str()), (1, false, "none"));
        // It lets nobody in; why is said, and what the home's LiveKit brings goes on.
        let why = json!({"why": "it answers 403"});
        let (answer, ()) = tokio::join!(asks(asked), all.fetch(who, why));
        let refused = answer.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
        assert!(refused.error.contains("it answers 403"), "{}", refused.error);
        all.asks(who, (now.call, "sfu"), json!({"epoch": now.epoch})).await.ok::<CallSfus>();
    }
}

#[tokio::test]
async fn nothing_of_another_server_waits_behind_what_a_stranger_has_to_answer() {
    let all = Stage::new().await;
    let (now, _phone) = speaking_there(&all).await;
    // Carol's server asks the home, which has hers ask the stranger, who says nothing.
    let asked = json!({"epoch": now.epoch, "focus": FOCUS});
    let heard = all.asks(&all.carol, (now.call, "sfu"), asked);
    let on_its_way = async {
        let (status, asked) = all.asked().await;
        assert_eq!((status, asked.as_array().unwrap().len()), (200, 1));
        // What she asks after that, and Alice's server asks hers, is answered before.
        for _ in 0..3 {
            assert_eq!(all.state(now.call).await.call, now.call);
        }
        let raises = json!({"raises": {"device": "PHONE", "event": "$1"}});
        let raises = json!({"group": all.group.id(), "user": MIA, "what": raises});
        assert_eq!(all.door("said", &raises).await.0, 200);
        all.until(now.call, |state| state.guests().all(|mia| mia.hand)).await;
        asked[0]["id"].clone()
    };
    let id = tokio::select! {
        answer = heard => panic!("answered before: {:?}", answer.status),
        id = on_its_way => id,
    };
    // Whoever waits no more does not get it.
    let given = json!({"id": id, "given": {"url": "wss://sfu.c.example", "jwt": "a token"}});
    assert_eq!(all.relay(Method::POST, &given).await.0, 204);
}

#[tokio::test]
async fn a_server_fetches_nothing_for_one_that_does_not_keep_the_group_or_for_whom_is_not_in_it() {
    let mut all = Stage::new().await;
    let (now, _phone) = speaking_there(&all).await;
    drop(all.wire.take());
    let (group, device) = (all.group.id(), all.alice.device());
    let wish = |account: &str| json!({"hear": {"group": group, "account": account, "device": device, "focus": FOCUS}});
    // A third server, of the bridge's server and of the home; and the home for somebody who is not in it.
    let alice = all.alice.account.as_str();
    for server in [&all.there, &all.here] {
        let answer =
            answered(("c.example", &mut Peer::new("c.example")), server, wish(alice)).await;
        assert_eq!(answer.status, 403, "{}", answer.body);
    }
    assert_eq!(now.guests().count(), 1);
    let mut home = Peer::new("a.example");
    // Nor does it show a ghost's token to whom the home alone names.
    let mut elsewhere = wish(alice);
    elsewhere["hear"]["focus"] = json!("https://d.example/livekit/jwt");
    let asks = [(wish("eve:a.example"), 403), (elsewhere, 403), (json!({"hear": {}}), 400)];
    for (body, status) in asks {
        let answer = answered(("a.example", &mut home), &all.there, body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

/// What a server says to a peer that asks it about calls, which it may do after it has taken what came.
async fn answered((name, peer): (&str, &mut Peer), server: &Server, body: Value) -> LinkAnswer {
    let until = Timestamp(server.now().0 + 1_000);
    let ask = Ask { call: Call::Calls, caller: None, until, body };
    let frame = peer.frame(vec![Item::Ask(ItemId::new(random()), ask).to_json()]);
    hand_in(server, name, frame).await;
    loop {
        // It may ask something itself.
        for item in peer.said(server).await {
            if let Item::Answer(_, answer) = item {
                return answer;
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn another_server_lets_nobody_into_a_call_but_those_whom_its_bridge_may() {
    let mut all = Stage::new().await;
    let call = all.call().await;
    let before = state(&all.here, &all.alice, &all.group, call).await;
    // By a native's name, who would be put out for it; as a ghost; as somebody else.
    let alice = ghost::in_call(OTHER, &all.alice.account, &all.alice.device()).unwrap();
    for (user, identity) in [
        (MIA, &*alice),
        (MIA, "@eve:b.example:PHONE"),
        ("@causeway_carol:b.example", "@causeway_carol:b.example:PHONE"),
    ] {
        let mut bad = all.token();
        (bad["user"], bad["identity"]) = (json!(user), json!(identity));
        let (status, said) = all.door("token", &bad).await;
        assert_eq!((status, &said["errcode"]), (403, &json!("M_FORBIDDEN")), "{identity}: {said}");
        let mut bad = all.member(true, None);
        (bad["user"], bad["identities"]) = (json!(user), json!([identity]));
        assert_eq!(all.door("member", &bad).await.0, 200, "{identity}");
    }
    // What is said after it has been answered, and so has that.
    assert_eq!(all.state(call).await, before);
    // A third server.
    drop(all.wire.take());
    let mut stranger = Peer::new("c.example");
    let asks = [
        json!({"guests": {"token": all.token()}}),
        json!({"guests": {"member": all.member(true, None)}}),
        json!({"guests": {"said": {"group": all.group.id(), "user": MIA, "what": "declines"}}}),
        json!({"guests": {"there": [
            {"group": all.group.id(), "room": "none", "identity": format!("{MIA}:PHONE")},
        ]}}),
        json!({"guests": {"burn": {}}}),
    ];
    for (body, status) in asks.into_iter().zip([403, 403, 403, 200, 400]) {
        let answer = answered(("c.example", &mut stranger), &all.here, body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        if status == 200 {
            assert_eq!(answer.body, json!({"seen": [null]}));
        }
    }
    assert_eq!(state(&all.here, &all.alice, &all.group, call).await, before);
}
