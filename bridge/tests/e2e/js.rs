//! matrix-js-sdk reads and answers.

use causeway_bridge::demo::{progress::Progress, synapse::Synapse};
use serde_json::json;

use crate::js_client::JsClient;

#[tokio::test]
async fn the_js_client_reads_and_answers() {
    let synapse = Synapse::start("http://127.0.0.1:9", &Progress::new()).await.unwrap();
    let mut alice = synapse.register("alice", "secret of alice").await.unwrap();
    let bob = synapse.register("bob", "secret of bob").await.unwrap();
    let mut js = JsClient::start(synapse.venv(), &synapse.url(), "bob", "secret of bob").await;
    let room = alice.create_room(json!({ "invite": [bob.user_id()] })).await.unwrap();
    js.until(|line| line["joined"] == room.as_str()).await;
    alice.say(&room, "do you read me?").await.unwrap();
    let heard =
        js.until(|line| line["body"] == "do you read me?" && line["message"].is_string()).await;
    assert_eq!(heard["sender"], alice.user_id().as_str());
    js.say(room.as_str(), "loud and clear").await;
    loop {
        let news = alice.sync().await.unwrap();
        if news.events.iter().any(|seen| seen.text("/content/body") == Some("loud and clear")) {
            break;
        }
    }
}
