use causeway_protocol::{
    api::{PutSenderKeys, SenderKeyInventory, SenderKeyReport},
    ids::{Epoch, text_of},
};
use serde_json::{Value, json};

use crate::harness::{Group, Person, Server};

#[tokio::test]
async fn reports_of_sender_keys_are_kept_and_rotation_is_asked_once_an_hour() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let path = group.path("/sender-keys");
    let report = json!({ "keys": [{
        "tag": text_of(&[1; 4]), "sender": bob.device(), "epoch": 1, "next_index": 3,
        "unacknowledged": 1 }], "failures": { "no_key": 2 } });
    let noted: Value = bob.put(&server, &path, &report).await.ok();
    assert!(noted["rotate_asked_ms"].is_null());
    let inventory: Value = alice.get(&server, &path).await.ok();
    assert_eq!(inventory["reports"][0]["reported_by"], json!(bob.device()));
    assert_eq!(inventory["reports"][0]["keys"], report["keys"]);
    bob.delete(&server, &path).await.refused(403, "M_FORBIDDEN");
    alice.delete(&server, &path).await.done();
    let refusal = alice.delete(&server, &path).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(3_600_000));
    let noted: Value = bob.put(&server, &path, &report).await.ok();
    assert_eq!(noted["rotate_asked_ms"], json!(server.now().0));
    server.pass_ms(3_600_000);
    alice.delete(&server, &path).await.done();
    let mut bad = report.clone();
    bad["keys"][0]["tag"] = json!(text_of(&[1; 5]));
    bob.put(&server, &path, &bad).await.refused(400, "M_INVALID_PARAM");
    let dave = server.person("dave").await;
    dave.get(&server, &path).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn the_inventory_comes_in_pages_which_are_small_enough() {
    let server = Server::start().await;
    let (group, people) = server.group(["alice", "bob", "carol", "dave", "erin"]).await;
    let path = group.path("/sender-keys");
    let report = |keys: usize, reasons: usize| PutSenderKeys {
        keys: vec![
            SenderKeyReport {
                tag: vec![1; 4],
                sender: people[0].device(),
                epoch: Epoch(u32::MAX),
                next_index: Some(u32::MAX),
                unacknowledged: u32::MAX,
            };
            keys
        ],
        failures: (0..reasons).map(|n| (format!("{n:064}"), u32::MAX)).collect(),
    };
    for person in &people {
        person.put(&server, &path, &report(1_000, 64)).await.ok::<Value>();
    }
    let mut devices: Vec<_> = people.iter().map(Person::device).collect();
    devices.sort();
    for limit in [1, 2, 1_000] {
        let (mut found, mut from) = (Vec::new(), String::new());
        loop {
            let page = format!("{path}?limit={limit}{from}");
            let page: SenderKeyInventory = people[0].get(&server, &page).await.ok();
            assert!(page.reports.len() <= limit);
            found.extend(page.reports.iter().map(|report| report.reported_by));
            let Some(next) = page.next else { break };
            from = format!("&from={next}");
        }
        assert_eq!(found, devices);
    }
    for too_much in [report(1_001, 0), report(0, 65)] {
        people[0].put(&server, &path, &too_much).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn of_a_pairwise_group_only_what_could_not_be_opened_is_reported() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let group = Group::create_with(&server, &alice, 2).await;
    let path = group.path("/sender-keys");
    let report = json!({ "keys": [], "failures": { "no_piece": 1 } });
    alice.put(&server, &path, &report).await.ok::<Value>();
    let inventory: Value = alice.get(&server, &path).await.ok();
    assert_eq!(
        (&inventory["scheme"], &inventory["reports"][0]["failures"]["no_piece"]),
        (&json!(2), &json!(1))
    );
    let key = json!({ "tag": text_of(&[1; 4]), "sender": alice.device(), "epoch": 0 });
    let report = json!({ "keys": [key] });
    alice.put(&server, &path, &report).await.refused(400, "M_INVALID_PARAM");
    alice.delete(&server, &path).await.refused(400, "M_INVALID_PARAM");
    let chains = Group::create(&server, &alice).await.path("/sender-keys");
    alice.put(&server, &chains, &report).await.ok::<Value>();
    assert_eq!(alice.get(&server, &chains).await.ok::<Value>()["scheme"], json!(1));
}
