//! What the operator does with rows that wait: he has them tried now, or gives them up.

use std::sync::Arc;

use axum::http::StatusCode;
use causeway_bridge::{
    domain::{
        effect::{Effect, Here, InGroup, InRoom},
        portal::PortalId,
    },
    services::deliver,
    storage::{dead_letters, portals},
};
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::{join, sync::Notify};

use crate::{
    appservice::{ADMIN_TOKEN, Listener},
    stub::Fault,
};

/// A portal in which bob has said "0".
async fn begin() -> (Listener, PortalId) {
    let mut listener = Listener::new().await;
    let portal = listener.bridge.portal(1).await;
    listener.bridge.say(portal, "bob:b.example", "0").await;
    listener.bridge.drain().await;
    (listener, portal)
}

impl Listener {
    async fn operator(&self, method: &str, path: &str) -> (StatusCode, Value) {
        let path = format!("/_causeway/admin/v1/queues/rows{path}");
        self.call(method, &path, Some(ADMIN_TOKEN), "").await
    }

    /// Names of what waits in a lane, in its order.
    async fn waiting(&self, lane: &str) -> Vec<String> {
        let (_, body) = self.operator("GET", &format!("?lane={lane}")).await;
        let rows = body["rows"].as_array().unwrap();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    }

    async fn retry(&self, name: &str) -> u16 {
        self.operator("POST", &format!("/{name}/retry")).await.0.as_u16()
    }

    async fn give_up(&self, name: &str) -> u16 {
        self.operator("DELETE", &format!("/{name}")).await.0.as_u16()
    }

    /// Who is among the dead letters by the operator's word.
    async fn dropped(&self) -> Vec<String> {
        let mut read = self.bridge.spine.db.read().await.unwrap();
        let dead = dead_letters::list(&mut read, 0, 100).await.unwrap();
        let by_hand =
            dead.into_iter().filter(|letter| letter.reason.starts_with("dropped by the operator"));
        by_hand.map(|letter| letter.author).collect()
    }

    fn said(&self) -> Vec<String> {
        self.bridge.stub.said().into_iter().map(|(_, body)| body).collect()
    }
}

#[tokio::test]
async fn what_waits_is_tried_now_when_the_operator_says_so() {
    let (mut listener, portal) = begin().await;
    let lane = format!("portal/{}/to_matrix", portal.0);
    listener.bridge.say(portal, "bob:b.example", "1").await;
    for _ in 0..3 {
        listener.bridge.stub.fail("/send/", Fault::Cut);
        listener.bridge.drain().await;
        listener.bridge.drain().await;
        let name = listener.waiting(&lane).await.pop().unwrap();
        assert_eq!(listener.said(), ["0"], "its wait is not over");
        assert_eq!(listener.retry(&name).await, 202);
    }
    let name = listener.waiting(&lane).await.pop().unwrap();
    listener.bridge.drain().await;
    assert_eq!(listener.said(), ["0", "1"]);
    let (status, body) = listener.operator("POST", &format!("/{name}/retry")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body["detail"].as_str().unwrap().contains("carried out or given up"), "{body}");
}

#[tokio::test]
async fn what_the_operator_drops_is_a_dead_letter_and_its_lane_goes_on() {
    let (mut listener, portal) = begin().await;
    let lane = format!("portal/{}/to_matrix", portal.0);
    for body in ["1", "2", "3"] {
        listener.bridge.say(portal, "bob:b.example", body).await;
    }
    listener.bridge.stub.fail("/send/", Fault::Cut);
    listener.bridge.drain().await;
    let names = listener.waiting(&lane).await;
    assert_eq!(names.len(), 3);
    // The one that failed, and one behind it.
    for name in [&names[0], &names[2], &names[0]] {
        assert_eq!(listener.give_up(name).await, 204, "also the second time");
    }
    listener.bridge.drain().await;
    assert_eq!(listener.said(), ["0", "2"]);
    assert_eq!(listener.dropped().await, ["bob:b.example"; 2]);
    assert_eq!(listener.give_up("nothing").await, 404);
    assert_eq!(listener.give_up(&names[1]).await, 404, "it was said");
}

#[tokio::test]
async fn his_side_is_told_whose_message_was_dropped() {
    let (mut listener, portal) = begin().await;
    listener.bridge.say(portal, "bob:b.example", "1").await;
    let names = listener.waiting(&format!("portal/{}/to_matrix", portal.0)).await;
    assert_eq!(listener.give_up(&names[0]).await, 204);
    let (_, body) = listener.operator("GET", &format!("?lane=portal/{}/to_native", portal.0)).await;
    assert_eq!(body["rows"][0]["kind"], "notice");
}

#[tokio::test]
async fn while_a_worker_tries_a_row_it_is_nobody_elses() {
    let (mut listener, portal) = begin().await;
    listener.bridge.say(portal, "bob:b.example", "1").await;
    let name = listener.waiting(&format!("portal/{}/to_matrix", portal.0)).await.pop().unwrap();
    let answer = Arc::new(Notify::new());
    listener.bridge.stub.fail("/send/", Fault::Held(Arc::clone(&answer)));
    let by_hand = async {
        listener.bridge.stub.wait(|rooms| (rooms.sends == 2).then_some(())).await;
        let tried = (listener.retry(&name).await, listener.give_up(&name).await);
        answer.notify_one();
        tried
    };
    let (served, tried) = join!(deliver::step(&listener.bridge.spine), by_hand);
    served.unwrap();
    assert_eq!(tried, (409, 409));
    assert_eq!(listener.give_up(&name).await, 404);
    assert_eq!(
        (listener.said(), listener.dropped().await.len()),
        (vec!["0".into(), "1".into()], 0)
    );
}

#[tokio::test]
async fn of_two_operators_at_once_none_is_in_the_others_way() {
    let (mut listener, portal) = begin().await;
    let lane = format!("portal/{}/to_matrix", portal.0);
    for number in 1..20 {
        listener.bridge.say(portal, "bob:b.example", &number.to_string()).await;
    }
    for name in listener.waiting(&lane).await {
        let (one, other, tried) =
            join!(listener.give_up(&name), listener.give_up(&name), listener.retry(&name));
        for status in [one, other] {
            assert!([204, 409].contains(&status), "{status}");
        }
        assert!([202, 404, 409].contains(&tried), "{tried}");
        assert_eq!(listener.give_up(&name).await, 204, "nobody has it any more");
    }
    listener.bridge.drain().await;
    assert_eq!((listener.said().len(), listener.dropped().await.len()), (1, 19));
}

#[tokio::test]
async fn nothing_of_an_encrypted_room_is_tried_but_it_can_be_dropped() {
    let (mut listener, portal) = begin().await;
    listener.bridge.say(portal, "bob:b.example", "1").await;
    let name = listener.waiting(&format!("portal/{}/to_matrix", portal.0)).await.pop().unwrap();
    let encrypted = vec![Effect::Here(Here::Encrypted), Effect::InRoom(InRoom::Pause)];
    listener.bridge.keep(portal, b"e", encrypted).await;
    assert_eq!(listener.retry(&name).await, 409);
    assert_eq!(listener.give_up(&name).await, 204);
    listener.bridge.drain().await;
    assert_eq!((listener.said().len(), listener.dropped().await.len()), (1, 1));
}

#[tokio::test]
async fn what_a_dropped_row_is_sealed_in_goes_with_it() {
    let (listener, portal) = begin().await;
    let notice = Effect::InGroup(InGroup::Notice("n".to_owned()));
    listener.bridge.keep(portal, b"n", vec![notice]).await;
    let mut tx = listener.bridge.spine.db.begin().await.unwrap();
    let sealed =
        "INSERT INTO batches (group_id, sealed, rows) SELECT group_id, x'00', '[1]' FROM portals";
    sqlx::query(sealed).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    let name = listener.waiting(&format!("portal/{}/to_native", portal.0)).await.pop().unwrap();
    assert_eq!(listener.give_up(&name).await, 204);
    let mut read = listener.bridge.spine.db.read().await.unwrap();
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM batches").fetch_one(read.conn()).await.unwrap();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn that_a_room_is_not_made_after_all_is_seen_at_once() {
    let (listener, portal) = begin().await;
    listener.bridge.keep(portal, b"m", vec![Effect::InRoom(InRoom::MakeAnew)]).await;
    let name = listener.waiting(&format!("bot/{}", portal.0)).await.pop().unwrap();
    let mut looks = listener.bridge.spine.db.listen(portals::TOPIC);
    assert_eq!(listener.give_up(&name).await, 204);
    assert_eq!(looks.changed().now_or_never(), Some(()));
}
