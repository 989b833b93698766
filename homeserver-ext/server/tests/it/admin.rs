//! What the native server brings to the operator's API, and the door before it.

use axum::Router;
use causeway_server::{TokenHash, admin::behind_token};
use serde_json::Value;

use crate::harness::{Group, Server, op_body};

/// Serves `admin` for as long as what is returned lives; its address.
pub(crate) async fn served(admin: Router) -> (tokio::task::JoinSet<()>, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move { axum::serve(listener, admin).await.unwrap() });
    (serving, base)
}

/// Status and body of what is answered to the bearer of `token`.
pub(crate) async fn get(server: &Server, url: &str, token: Option<&str>) -> (u16, Value) {
    let request = server.http.get(url);
    let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn only_who_has_the_token_comes_through_the_door() {
    let server = Server::start().await;
    let behind = behind_token(server.app.admin(), TokenHash::of("right"));
    let ((_behind, door), (_open, open)) = (served(behind).await, served(server.app.admin()).await);
    let rows = [
        (&door, None, 401),
        (&door, Some("wrong"), 403),
        (&door, Some("right"), 200),
        // Where nobody put a door there is no way in.
        (&open, None, 401),
        (&open, Some("right"), 401),
    ];
    for (base, token, status) in rows {
        let (got, body) = get(&server, &format!("{base}/groups"), token).await;
        assert_eq!(got, status, "{token:?}: {body}");
        assert!(got == 200 || body["status"] == status, "{body}");
    }
}

#[tokio::test]
async fn the_operator_sees_every_group_once_page_by_page() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(Group::create(&server, &alice).await.id());
    }
    made.sort_unstable();
    let made: Vec<String> = made.iter().map(ToString::to_string).collect();
    let admin = behind_token(server.app.admin(), TokenHash::of("right"));
    let (_serving, base) = served(admin).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let url = format!("{base}/groups?limit=2{after}");
        let (status, page) = get(&server, &url, Some("right")).await;
        assert_eq!(status, 200, "{page}");
        let groups = page["groups"].as_array().unwrap();
        seen.extend(groups.iter().map(|group| group["group"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, made);
    // Who met which limit, likewise.
    for name in ["ben", "cy", "dan"] {
        let who = server.person(name).await;
        let missing = format!("{base}/limits?limit=1");
        assert_eq!(get(&server, &missing, None).await.0, 401, "only with the token");
        for _ in 0..21 {
            who.post(&server, "/groups", &op_body(&Group::first_op(&who))).await;
        }
    }
    let url = format!("{base}/limits?limit=2");
    let (_, page) = get(&server, &url, Some("right")).await;
    let met = |page: &Value| -> Vec<(String, u64)> {
        let rows = page["limits"].as_array().unwrap().iter();
        rows.map(|met| {
            assert_eq!(met["limit"], "limits.new_groups");
            (met["who"].as_str().unwrap().to_owned(), met["times"].as_u64().unwrap())
        })
        .collect()
    };
    let mut seen = met(&page);
    let next = page["next"].as_str().unwrap().replace(' ', "%20");
    let (_, page) = get(&server, &format!("{url}&after={next}"), Some("right")).await;
    seen.extend(met(&page));
    assert_eq!((page["next"].as_str(), seen.len()), (None, 3));
    assert_eq!(seen[2], ("dan:a.example".to_owned(), 1));
    for wrong in ["limit=0", "limit=1001", "limit=x", "after=%21"] {
        let (status, body) = get(&server, &format!("{base}/groups?{wrong}"), Some("right")).await;
        assert_eq!((status, &body["title"]), (400, &Value::from("Bad Request")), "{wrong}");
    }
}
