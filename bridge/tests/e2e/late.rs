//! A message that comes to another server behind the op that took somebody out of a group with a shared key:
//! nobody there could open it, and its sender's client seals it anew by itself.

use causeway_protocol::roster::{Role, Scheme};
use serde_json::Value;

use crate::{
    people::Read,
    proxy::Proxy,
    servers::{assert_nothing_is_read, client, two_behind},
};

#[tokio::test]
async fn what_came_too_late_is_sealed_anew_by_itself_and_read_once_by_each() {
    let (sides, proxies) = two_behind(Proxy::start).await;
    let [here, there] = sides.each_ref().map(|side| side.name().to_owned());
    let (alice, dan) = (sides[0].person("alice").await, sides[0].person("dan").await);
    let erin = sides[1].person("erin").await;
    let home = tempfile::tempdir().unwrap();
    let url = sides[1].causeway.native_url().to_owned();
    let token = sides[1].causeway.registration_token().unwrap();
    let carol = async |arguments: &[&str]| {
        let (code, said, stderr) = client(home.path(), &url, arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        said
    };
    carol(&["register", "carol", "--token", token.expose()]).await;
    let group = alice.create_group_as("Garden", Scheme::SharedKey).await;
    for who in [format!("carol:{there}"), format!("erin:{there}"), format!("dan:{here}")] {
        alice.add(group, &who).await;
    }
    alice.say(group, &["hello".to_owned()]).await;
    erin.wait("a welcome", |read| read.len() == 1).await;
    dan.wait("a welcome", |read| read.len() == 1).await;
    carol(&["tail", "--idle", "3"]).await;
    carol(&["group", "accept", &group.to_string()]).await;
    carol(&["send", "Garden", "in time"]).await;
    alice.wait("words in time", |read| read.iter().any(|it| it.body == "in time")).await;

    // One server takes somebody out, and the other does not hear of it yet.
    let cut = |is_cut| proxies.iter().for_each(|proxy| proxy.cut(is_cut));
    cut(true);
    alice.client.remove(group, &format!("dan:{here}").parse().unwrap()).await.unwrap();
    let sent: Value =
        serde_json::from_str(&carol(&["send", "Garden", "canary late"]).await).unwrap();
    erin.wait("words at her own server", |read| read.iter().any(|it| it.body == "canary late"))
        .await;
    cut(false);
    let late = |read: &[Read]| read.iter().filter(|it| it.body == "canary late").count();
    // Her client is told, and says it again without her.
    let has_come = alice.wait("what came too late", |read| late(read) > 0);
    let followed = async {
        loop {
            carol(&["tail", "--idle", "2"]).await;
        }
    };
    tokio::select! {
        () = has_come => {}
        () = followed => {}
    }
    carol(&["send", "Garden", "canary then"]).await;
    for who in [&alice, &erin] {
        who.wait("words after it", |read| read.last().is_some_and(|it| it.body == "canary then"))
            .await;
        assert_eq!(late(&who.read()), 1, "once, under the same name");
    }
    assert!(dan.read().iter().all(|it| !it.body.starts_with("canary")), "he is out");
    // It is one message, with one line, and has come to all.
    let client_id = sent["client_id"].as_str().unwrap();
    let status: Value =
        serde_json::from_str(&carol(&["message", "status", "Garden", client_id]).await).unwrap();
    assert!(!status.to_string().contains("failed"), "{status}");
    let shown = carol(&["history", "Garden"]).await;
    assert_eq!(shown.matches("canary late").count(), 1, "{shown}");
}

#[tokio::test]
async fn what_a_room_said_too_late_for_another_server_is_sealed_anew_and_read_once_by_each() {
    let (mut sides, proxies) = two_behind(Proxy::start).await;
    let [here, there] = sides.each_ref().map(|side| side.name().to_owned());
    let (alice, dan) = (sides[0].person("alice").await, sides[0].person("dan").await);
    let carol = sides[1].person("carol").await;
    let mona = sides[1].synapse.register("mona", "secret of mona").await.unwrap();
    let group = alice.create_group_as("Garden", Scheme::SharedKey).await;
    let carols = format!("carol:{there}");
    alice.add(group, &carols).await;
    alice.add(group, &format!("dan:{here}")).await;
    alice.client.set_role(group, &carols.parse().unwrap(), Role::Admin).await.unwrap();
    alice.say(group, &["hello".to_owned()]).await;
    carol.wait("a welcome", |read| read.len() == 1).await;
    // The bridge is not the home's, so that it may not have heard of a cut.
    carol.client.sync_group(group).await.unwrap();
    carol.bridge(group, &[mona.user_id().as_str()]).await;
    let room = loop {
        if let Some(room) = mona.sync().await.unwrap().invites.pop() {
            break room;
        }
    };
    mona.join(&room).await.unwrap();
    let has = |body: &'static str| move |read: &[Read]| read.iter().any(|it| it.body == body);
    mona.say(&room, "in time").await.unwrap();
    for who in [&alice, &carol, &dan] {
        who.wait("words in time", has("in time")).await;
    }

    let cut = |is_cut| proxies.iter().for_each(|proxy| proxy.cut(is_cut));
    cut(true);
    alice.client.remove(group, &format!("dan:{here}").parse().unwrap()).await.unwrap();
    mona.say(&room, "canary late").await.unwrap();
    carol.wait("words at the bridge's server", has("canary late")).await;
    // What the bridge needs for it outlives a power cut.
    sides[1].causeway.kill().unwrap();
    sides[1].causeway.start().await.unwrap();
    cut(false);
    alice.wait("what came too late", has("canary late")).await;
    mona.say(&room, "canary then").await.unwrap();
    for who in [&alice, &carol] {
        who.wait("words after it", has("canary then")).await;
        let read = who.read();
        assert_eq!(read.iter().filter(|it| it.body == "canary late").count(), 1, "once");
    }
    assert!(dan.read().iter().all(|it| !it.body.starts_with("canary")), "he is out");
    for side in &sides {
        assert_nothing_is_read(side.causeway.dir(), &["canary late", "canary then"]);
    }
}
