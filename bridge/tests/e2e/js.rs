//! matrix-js-sdk, which shares no code with us, reads and answers.

use crate::{bridged::Bridged, js_client::JsClient};

#[tokio::test]
async fn the_js_client_reads_and_answers() {
    let Bridged { causeway: _causeway, alice, group, synapse, .. } = Bridged::start().await;
    let (url, venv) = (synapse.url(), synapse.venv());
    let mut carol = JsClient::start(venv, &url, "carol", "secret of carol").await;
    let room = carol.until(|line| line["joined"].is_string()).await;
    let room = room["joined"].as_str().unwrap().to_owned();

    let said: Vec<String> = (0..5).map(|n| format!("do you read me, {n}?")).collect();
    alice.say(group, &said).await;
    let ghost = format!("@causeway_alice:{}", synapse.server_name());
    for text in &said {
        // The next message is this one: none is missing, none comes twice, none before another.
        let heard =
            carol.until(|line| line["message"].is_string() && line["sender"] == *ghost).await;
        assert_eq!(
            (heard["body"].as_str(), heard["msgtype"].as_str()),
            (Some(&**text), Some("m.text"))
        );
    }

    let answers: Vec<String> = (0..5).map(|n| format!("loud and clear, {n}")).collect();
    for text in &answers {
        carol.say(&room, text).await;
        carol.until(|line| line["sent"].is_string()).await;
    }
    alice
        .wait("Carol's answers", |read| read.iter().filter(|r| r.mirror.is_some()).count() >= 5)
        .await;
    assert_eq!(alice.mirrored(), answers);
    let mirror = format!("@carol:{}", synapse.server_name());
    assert!(alice.read().iter().all(|read| read.mirror.as_ref().is_none_or(|m| *m == mirror)));
}
