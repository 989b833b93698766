//! What the operator sees of a group that is bridged.

use causeway_bridge::secret::Secret;
use serde_json::Value;

use crate::bridged::Bridged;

#[tokio::test]
async fn the_operator_sees_groups_portals_and_queues() {
    let Bridged { causeway, alice, group, synapse: _synapse, .. } = Bridged::start().await;
    alice.wait("the bridge's greeting", |read| !read.is_empty()).await;
    let token = causeway.admin_token().unwrap();
    let get = async |path: &str, token: &Secret| {
        let url = format!("{}/_causeway/admin/v1/{path}", causeway.appservice_url());
        let answer = reqwest::Client::new().get(url).bearer_auth(token.expose()).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };

    let (status, groups) = get("groups?limit=1", &token).await;
    assert_eq!((status, &groups["groups"][0]["group"]), (200, &Value::from(group.to_string())));
    assert_eq!(groups["groups"][0]["members"], 2, "Alice and the bridge");
    let after = groups["next"].as_str().unwrap();
    let (_, last) = get(&format!("groups?after={after}"), &token).await;
    assert_eq!((&last["groups"], &last["next"]), (&Value::Array(vec![]), &Value::Null));

    let (_, portals) = get("portals", &token).await;
    assert_eq!(portals["portals"][0]["group"], Value::from(group.to_string()), "{portals}");
    let (_, letters) = get("dead-letters", &token).await;
    assert_eq!(letters["dead_letters"], Value::Array(vec![]));
    assert_eq!(get("queues", &token).await.0, 200);
    assert_eq!(get("health", &token).await.0, 200);

    for path in ["groups?limit=0", "groups?limit=1001", "portals?limit=0", "groups?after=%21"] {
        assert_eq!(get(path, &token).await.0, 400, "{path}");
    }
    for path in ["groups", "portals", "queues", "dead-letters", "health"] {
        assert_eq!(get(path, &Secret::new("wrong")).await.0, 403, "{path}");
    }
}
