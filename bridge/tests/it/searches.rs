//! What may be in a room already is looked for there, which costs what one look at the room costs.

use causeway_bridge::{
    domain::{
        effect::{Effect, Here},
        lane::Lane,
        portal::PortalId,
    },
    health::Kind,
    services::deliver,
    storage::{dead_letters, lanes, restored},
};
use causeway_store::Script;
use serde_json::json;

use crate::{harness::Bridge, stub::Fault};

/// A page of the room, as the bridge asks for it.
const PAGE: usize = 100;

/// A portal whose `bridge.db` was put back to before all that bob and eve said was sent, by a
/// homeserver that does not know it for repeated any more; others said `others` things since.
async fn put_back(bridge: &mut Bridge, said: u32, others: usize) -> PortalId {
    put_back_when(bridge, said, others, 0).await
}

/// The same where what they said was sent `late` milliseconds after.
async fn put_back_when(bridge: &mut Bridge, said: u32, others: usize, late: u64) -> PortalId {
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "before").await;
    bridge.drain().await;
    for number in 0..said {
        let account = ["bob:b.example", "eve:b.example"][number as usize % 2];
        bridge.say(portal, account, &number.to_string()).await;
    }
    let mut tx = bridge.spine.db.begin().await.unwrap();
    for copy in [
        "CREATE TABLE copy AS SELECT * FROM portal_outbox",
        "CREATE TABLE known AS SELECT event_id FROM links",
    ] {
        sqlx::query(copy).execute(tx.conn()).await.unwrap();
    }
    tx.commit().await.unwrap();
    bridge.pass(late);
    bridge.drain().await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    bridge.stub.look(|rooms| {
        for _ in 0..others {
            let content = json!({"msgtype": "m.text", "body": "x"});
            rooms.event(room.as_str(), "@al:x", "m.room.message", None, content);
        }
    });
    bridge.stub.forget_txns();
    let mut tx = bridge.spine.db.begin().await.unwrap();
    for back in [
        "INSERT INTO portal_outbox SELECT * FROM copy",
        "DELETE FROM links WHERE event_id NOT IN (SELECT event_id FROM known)",
    ] {
        sqlx::query(back).execute(tx.conn()).await.unwrap();
    }
    restored::may_have_gone(tx.conn(), bridge.spine.now()).await.unwrap();
    let mut script = Script::default();
    lanes::ready(&mut tx, &mut script, std::iter::once(Lane::ToMatrix(portal)));
    script.run(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    portal
}

/// What the natives have said in the room.
fn said(bridge: &Bridge) -> Vec<String> {
    let ours = |(sender, body): (String, String)| sender.starts_with("@causeway_").then_some(body);
    bridge.stub.said().into_iter().filter_map(ours).collect()
}

#[tokio::test]
async fn a_room_is_read_once_for_all_that_may_be_there() {
    let mut bridge = Bridge::start().await;
    let portal = put_back(&mut bridge, 60, 25 * PAGE).await;
    let before = said(&bridge);
    // One of them never went; and there is something new.
    let lost = |rooms: &mut crate::stub::Rooms| {
        rooms.events.retain(|event| event["content"]["body"] != "31");
    };
    bridge.stub.look(lost);
    bridge.say(portal, "eve:b.example", "new").await;
    bridge.drain().await;
    let mut expected: Vec<String> = before.into_iter().filter(|body| body != "31").collect();
    expected.extend(["31".to_owned(), "new".to_owned()]);
    assert_eq!(said(&bridge), expected);
    assert_eq!(bridge.stats().await.outbox, 0);
    let pages = bridge.stub.look(|rooms| rooms.pages);
    assert!((26..30).contains(&pages), "{pages} pages of 26");
}

#[tokio::test]
async fn what_was_sent_while_it_was_looked_for_is_found_too() {
    let mut bridge = Bridge::start().await;
    let _ = put_back(&mut bridge, 6, 0).await;
    bridge.stub.look(|rooms| rooms.events.retain(|event| event["content"]["body"] != "2"));
    // It is sent, and nobody hears of it.
    bridge.stub.fail("/send/", Fault::Lost);
    bridge.drain().await;
    bridge.stub.forget_txns();
    bridge.pass(130_000);
    bridge.drain().await;
    let mut found = said(&bridge);
    assert_eq!(found.iter().filter(|body| *body == "2").count(), 1, "{found:?}");
    found.sort();
    assert_eq!(found, ["0", "1", "2", "3", "4", "5", "before"]);
    assert_eq!(bridge.stats().await.outbox, 0);
}

/// While the room is read, its new messages do not wait.
#[tokio::test]
async fn a_search_that_takes_long_gives_way_and_is_seen() {
    let mut bridge = Bridge::start().await;
    let portal = put_back(&mut bridge, 1, 45 * PAGE).await;
    let mut reads = Vec::new();
    for _ in 0..8 {
        deliver::step(&bridge.spine).await.unwrap();
        reads.push(bridge.stub.look(|rooms| rooms.pages));
        if reads.ends_with(&[0, 20]) {
            let lane = Lane::Aside(portal, "bob:b.example".to_owned()).to_string();
            let (_, why) = bridge.spine.troubles.of(Kind::Lane, &lane).unwrap();
            assert!(why.contains("2000 events"), "{why}");
            bridge.say(portal, "eve:b.example", "meanwhile").await;
        }
    }
    bridge.drain().await;
    assert!(reads.contains(&20) && reads.contains(&40), "{reads:?}");
    assert_eq!(said(&bridge), ["before", "0", "meanwhile"]);
}

/// Found by an attack: a moderator took it out, and the marker with it.
#[tokio::test]
async fn what_was_taken_out_of_the_room_is_not_said_there_again() {
    let mut bridge = Bridge::start().await;
    let _ = put_back(&mut bridge, 4, 0).await;
    // Another one of his never went.
    bridge.stub.look(|rooms| {
        rooms.redact("0");
        rooms.events.retain(|event| event["content"]["body"] != "2");
    });
    bridge.drain().await;
    assert_eq!(said(&bridge), ["before", "", "1", "3", "2"]);
    let stats = bridge.stats().await;
    assert_eq!((stats.outbox, stats.dead_letters), (0, 0));
}

/// By its time it may be either of two.
#[tokio::test]
async fn what_may_have_been_taken_out_of_the_room_is_said_not_to_be_there() {
    let mut bridge = Bridge::start().await;
    let _ = put_back_when(&mut bridge, 4, 0, 2_000).await;
    bridge.stub.look(|rooms| {
        rooms.redact("0");
        rooms.events.retain(|event| event["content"]["body"] != "2");
    });
    bridge.drain().await;
    assert_eq!(said(&bridge), ["before", "", "1", "3"]);
    let mut read = bridge.spine.db.read().await.unwrap();
    let letters = dead_letters::list(&mut read, 0, 9).await.unwrap();
    let of_room = letters.iter().filter(|letter| letter.lane.ends_with("/to_matrix"));
    let reasons: Vec<&str> = of_room.map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().all(|reason| reason.contains("was removed from the room")));
}

/// What is known to have said something else, and what others said, is no reason not to send.
#[tokio::test]
async fn what_was_taken_out_and_is_known_hides_nothing() {
    let mut bridge = Bridge::start().await;
    let _ = put_back_when(&mut bridge, 2, 0, 2_000).await;
    bridge.stub.look(|rooms| {
        rooms.redact("before");
        rooms.redact("1");
        rooms.events.retain(|event| event["content"]["body"] != "0");
    });
    bridge.drain().await;
    assert_eq!(said(&bridge), ["", "", "0"]);
}

#[tokio::test]
async fn what_was_said_in_the_room_before_is_not_said_in_the_one_that_replaced_it() {
    let mut bridge = Bridge::start().await;
    let portal = put_back(&mut bridge, 4, 0).await;
    let before = bridge.portal_now(portal).await.room.unwrap();
    let next = "!next:b.example";
    bridge.stub.look(|rooms| {
        rooms.events.retain(|event| event["content"]["body"] != "3");
        let create = json!({"predecessor": {"room_id": before}});
        rooms.event(next, "@al:x", "m.room.create", Some(""), create);
        rooms.membership(next, "@al:x", "@al:x", "join").unwrap();
        let bot = bridge.spine.names.bot().as_str();
        rooms.membership(next, "@al:x", bot, "invite").unwrap();
        rooms.membership(next, bot, bot, "join").unwrap();
    });
    let moved = Effect::Here(Here::Moved(next.try_into().unwrap()));
    bridge.keep(portal, b"moved", vec![moved]).await;
    bridge.drain().await;
    assert_eq!(said(&bridge), ["before", "0", "1", "2", "3"]);
    let last = bridge.stub.look(|rooms| rooms.events.last().unwrap()["room_id"].clone());
    assert_eq!((last, bridge.stats().await.outbox), (json!(next), 0));
}
