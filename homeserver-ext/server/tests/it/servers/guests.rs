//! A group whose bridge is of another server than its home: those of Matrix come into the home's calls.

use causeway_protocol::{
    api::{CallSfus, CallState, CallTopology},
    call::sfu_room_of_group,
    ghost,
    ids::{CallId, ItemId, Timestamp},
    link::{Ask, Call, Item},
    roster::Body,
};
use causeway_server::Config;
use serde_json::{Value, json};

use super::{
    OTHER, as_in_tests, at,
    groups::{post_at, until_epoch},
    peer::Peer,
    wire::{DOOR_TOKEN, Wire},
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
        assert_eq!(claims["video"]["room"], json!(sfu_room_of_group(&self.group.id())));
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

#[tokio::test]
async fn who_speaks_on_a_third_homeservers_server_hears_all_and_natives_are_told_why_they_do_not_hear_him()
 {
    let all = Stage::new().await;
    let call = all.call().await;
    let _phone = all.comes(call).await;
    let focus = "https://c.example/livekit/jwt";
    let mut says = all.member(true, None);
    says["focus"] = json!(focus);
    assert_eq!(all.door("member", &says).await.0, 200);
    let speaks_there = |state: &CallState| {
        state.guests().all(|mia| mia.focus.as_deref() == Some(focus) && !mia.muted)
    };
    let now = all.until(call, speaks_there).await;
    // She is shown, and let in by the home to hear.
    assert_eq!(now.guests().count(), 1);
    // Who a native's ghost is the home of the ghosts alone can say.
    for who in [&all.alice, &all.carol] {
        let asked = json!({"epoch": now.epoch, "focus": focus});
        let answer = all.asks(who, (call, "sfu"), asked).await;
        let refused = answer.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
        assert!(refused.error.contains("bridge is another server's"), "{}", refused.error);
        // What the home's LiveKit brings goes on.
        all.asks(who, (call, "sfu"), json!({"epoch": now.epoch})).await.ok::<CallSfus>();
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
    let items = asks.into_iter().map(|body| {
        let until = Timestamp(all.here.now().0 + 1_000);
        let ask = Ask { call: Call::Calls, caller: None, until, body };
        Item::Ask(ItemId::new(random()), ask).to_json()
    });
    let answers = stranger.ask(&all.here, items.collect()).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [403, 403, 403, 200, 400]);
    assert_eq!(answers[3].body, json!({"seen": [null]}));
    assert_eq!(state(&all.here, &all.alice, &all.group, call).await, before);
}
