//! A channel in a real room: its admins are read, and whoever else writes is told that he is not.

use causeway_protocol::roster::Scheme;

use crate::bridged::Bridged;

#[tokio::test]
async fn a_channels_room_reads_its_admins_and_tells_others_that_they_are_not_heard() {
    let Bridged { causeway: _causeway, alice, carol, group, synapse: _synapse } =
        Bridged::start_channel(Scheme::SenderKeys).await;
    let room = loop {
        if let Some(room) = carol.sync().await.unwrap().invites.pop() {
            break room;
        }
    };
    carol.join(&room).await.unwrap();
    alice.is_told_of(carol.user_id().as_str()).await;
    alice.say(group, &["the news".to_owned()]).await;
    carol.say(&room, "may I ask something?").await.unwrap();
    carol.say(&room, "hello?").await.unwrap();
    let why = format!(
        "What {} said is not in the group: only admins post in this group.",
        carol.user_id()
    );
    // By Alice, and by the bridge: told once for both.
    let mut read = Vec::new();
    while !(read.contains(&"the news".to_owned()) && read.contains(&why)) {
        for seen in carol.sync().await.unwrap().events {
            let is_hers = seen.text("/sender") == Some(carol.user_id().as_str());
            if let (false, Some(body)) = (is_hers, seen.text("/content/body")) {
                read.push(body.to_owned());
            }
        }
    }
    // What comes later comes after all of it.
    alice.say(group, &["more news".to_owned()]).await;
    while !read.contains(&"more news".to_owned()) {
        for seen in carol.sync().await.unwrap().events {
            read.extend(seen.text("/content/body").map(ToOwned::to_owned));
        }
    }
    assert_eq!(read.iter().filter(|body| **body == why).count(), 1, "{read:?}");
    assert!(alice.read().is_empty(), "{:?}", alice.read());
}
