//! Calls that a real LiveKit carries: who is let in, what LiveKit is told, and what becomes of a call when
//! it goes.

mod abroad;
mod faults;
mod guests;
pub(crate) mod livekit;
mod moved;
mod new_rooms;
mod put_back;
mod ruled;
mod talkers;
mod webhooks;

use causeway_protocol::{
    api::{CallSfu, CallSfus, CallState, CallTopology},
    call::{sfu_identity, sfu_room},
    ids::CallId,
};
use serde_json::{Value, json};

use self::livekit::{Connected, Sfu};
use crate::{
    calls::{ask, devices, join, listening, new_id, sorted, start, state},
    harness::{Answer, Group, Person, Server, Stream},
};

/// Asks for what lets a device in.
async fn sfu(server: &Server, who: &Person, group: &Group, (call, epoch): (CallId, u32)) -> Answer {
    ask(server, who, group, (call, "sfu"), json!({ "epoch": epoch })).await
}

async fn let_in(
    server: &Server,
    who: &Person,
    group: &Group,
    (call, epoch): (CallId, u32),
) -> CallSfu {
    let CallSfus { mut sfus, e2ee } = sfu(server, who, group, (call, epoch)).await.ok();
    assert_eq!((sfus.len(), e2ee.as_str()), (1, "native"));
    sfus.remove(0)
}

/// A call of five, which has to go to the SFU, and one more member of the group.
struct Five {
    group: Group,
    people: [Person; 5],
    other: Person,
    call: CallId,
    _streams: Vec<Stream>,
}

impl Five {
    async fn call(server: &Server) -> Self {
        let names = ["alice", "bob", "carol", "dave", "erin", "frank"];
        let (group, [alice, bob, carol, dave, erin, other]) = server.group(names).await;
        let streams = listening(server, [&alice, &bob, &carol, &dave, &erin]).await;
        let call = new_id();
        start(server, &alice, &group, call).await.ok::<CallState>();
        for who in [&bob, &carol, &dave] {
            join(server, who, &group, call).await.ok::<CallState>();
        }
        Self { group, people: [alice, bob, carol, dave, erin], other, call, _streams: streams }
    }

    fn fifth(&self) -> &Person {
        &self.people[4]
    }

    async fn fifth_joins(&self, server: &Server) -> CallState {
        join(server, self.fifth(), &self.group, self.call).await.ok()
    }

    async fn state(&self, server: &Server) -> CallState {
        state(server, &self.people[0], &self.group, self.call).await
    }

    fn room(&self) -> String {
        sfu_room(&self.group.id(), &self.call)
    }

    fn name_of(&self, who: &Person) -> String {
        sfu_identity(&self.call, &who.device())
    }
}

/// What a token says.
pub(crate) fn claims(jwt: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn the_fifth_brings_everybody_to_livekit() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    let (group, call) = (&five.group, five.call);
    let before = five.state(&server).await;
    assert_eq!(before.topology, CallTopology::Mesh);
    assert!(before.natives().all(|it| it.sfu.is_none()));
    let alice = &five.people[0];
    sfu(&server, alice, group, (call, 0)).await.refused(409, "DEV_CAUSEWAY_NO_NEED");
    let prepared = five.fifth_joins(&server).await;
    assert_eq!((prepared.topology, prepared.epoch), (CallTopology::Prepare, 1));
    for it in prepared.natives() {
        assert_eq!(it.sfu, Some(sfu_identity(&call, &it.device)));
    }
    for who in &five.people {
        let sfu = let_in(&server, who, group, (call, 1)).await;
        assert_eq!((&sfu.url, sfu.publish), (&livekit.url(), true));
        assert_eq!((&sfu.room, &sfu.mine), (&five.room(), &five.name_of(who)));
        let claims = claims(&sfu.jwt);
        assert_eq!(claims["sub"], json!(sfu.mine));
        let lasts = claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap();
        assert_eq!(lasts, 120);
        let grants = json!({
            "roomJoin": true, "room": sfu.room, "canPublish": true, "canSubscribe": true,
            "canPublishData": false, "canPublishSources": ["microphone"],
            "canUpdateOwnMetadata": false,
        });
        assert_eq!(claims["video"], grants);
        // LiveKit learns nothing of who it is, nor of what group.
        for secret in [who.account.as_str(), &group.id().to_string(), &call.to_string()] {
            assert!(!claims.to_string().contains(secret), "{claims}");
        }
        // The room is there from then on, and LiveKit takes the token.
        assert_eq!(livekit.validates(&sfu.jwt).await, 200);
    }
    assert_eq!(livekit.rooms().await, [five.room()]);
    // Nobody else gets one, nor one for another step of the call.
    sfu(&server, &five.other, group, (call, 1)).await.refused(403, "M_FORBIDDEN");
    for epoch in [0, 2] {
        let refusal = sfu(&server, alice, group, (call, epoch)).await;
        let refusal = refusal.refused(409, "DEV_CAUSEWAY_STALE_EPOCH");
        assert_eq!(refusal.call.unwrap().epoch, 1);
    }
    // When the call is over, so is the room.
    ask(&server, alice, group, (call, "end"), json!({})).await.ok::<CallState>();
    sfu(&server, alice, group, (call, 1)).await.refused(410, "DEV_CAUSEWAY_CALL_ENDED");
    livekit.until_rooms(&server, &[]).await;
    assert!(server.rows().await.iter().all(|row| !row.starts_with("call_rooms")));
}

#[tokio::test]
async fn a_room_has_in_it_who_takes_part_and_nobody_else() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    five.fifth_joins(&server).await;
    // So that five stay when one goes.
    join(&server, &five.other, &five.group, five.call).await.ok::<CallState>();
    let [alice, bob, ..] = &five.people;
    let mut inside = Vec::new();
    for who in [alice, bob] {
        let sfu = let_in(&server, who, &five.group, (five.call, 1)).await;
        inside.push((Connected::by(&sfu.url, &sfu.jwt).await, sfu.jwt));
    }
    let names = |people: &[&Person]| {
        let mut names: Vec<_> = people.iter().map(|who| five.name_of(who)).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(livekit.people(&five.room()).await, names(&[alice, bob]));
    // Somebody who has the key itself; LiveKit tells nobody, and the next look finds him.
    let forged = livekit.token(&five.room(), "stranger");
    let mut stranger = Connected::by(&livekit.url(), &forged).await;
    server.pass_ms(500);
    server.app.tick_rooms().await.unwrap();
    stranger.is_put_out().await;
    assert_eq!(livekit.people(&five.room()).await, names(&[alice, bob]));
    // Whoever leaves the call leaves the room, and comes in no more by what he still has.
    ask(&server, bob, &five.group, (five.call, "leave"), json!({})).await.ok::<CallState>();
    let (mut left, jwt) = inside.pop().unwrap();
    left.is_put_out().await;
    let mut back = Connected::by(&livekit.url(), &jwt).await;
    server.pass_ms(500);
    server.app.tick_rooms().await.unwrap();
    back.is_put_out().await;
    sfu(&server, bob, &five.group, (five.call, 1)).await.refused(403, "M_FORBIDDEN");
    assert_eq!(livekit.people(&five.room()).await, names(&[alice]));
}

#[tokio::test]
async fn who_says_that_he_is_ready_and_is_not_there_moves_nobody() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    five.fifth_joins(&server).await;
    for who in &five.people {
        let body = json!({ "epoch": 1, "connected": [], "ready": { "published": true } });
        let said = ask(&server, who, &five.group, (five.call, "report"), body).await;
        assert_eq!(said.ok::<CallState>().topology, CallTopology::Prepare);
    }
    server.pass_ms(500);
    server.app.tick_rooms().await.unwrap();
    assert_eq!(five.state(&server).await.topology, CallTopology::Prepare);
    // Whoever came last goes, and the others talk on as before.
    server.pass_ms(7_500);
    server.app.tick_calls().await.unwrap();
    let after = five.state(&server).await;
    assert_eq!((after.topology, after.epoch), (CallTopology::Mesh, 2));
    let [alice, bob, carol, dave, _] = &five.people;
    assert_eq!(devices(&after), sorted([alice, bob, carol, dave]));
    assert_eq!(after.out[0].why, "cannot_use_sfu");
    livekit.until_rooms(&server, &[]).await;
}
