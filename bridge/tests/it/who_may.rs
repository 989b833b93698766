//! Who may do what on the operator's and the homeserver's listener: every endpoint by every kind of
//! caller.

use axum::http::StatusCode;

use crate::appservice::{ADMIN_TOKEN, HS_TOKEN, Listener};

const NOWHERE: u16 = 0;
const OTHER: &str = "token of somebody else";

/// How a caller shows what he has.
enum Shows {
    Nothing,
    Bearer(&'static str),
    /// In the header, as it stands.
    Header(String),
    /// As `?access_token=`, which old homeservers did.
    InQuery(&'static str),
}

const ADMIN: [(&str, &str, u16); 13] = [
    ("GET", "/health", 200),
    ("GET", "/portals", 200),
    ("POST", "/portals/9/recreate", 404),
    ("GET", "/shares", 200),
    ("GET", "/queues", 200),
    ("GET", "/queues/rows?lane=x", 404),
    ("POST", "/queues/rows/AAAAAAAAAAAAAAAAAAAAAA/retry", 404),
    ("DELETE", "/queues/rows/AAAAAAAAAAAAAAAAAAAAAA", 404),
    ("GET", "/quarantine", 200),
    ("DELETE", "/quarantine/9", 204),
    ("GET", "/dead-letters", 200),
    ("POST", "/dead-letters/9/retry", 404),
    ("DELETE", "/dead-letters/9", 204),
];

/// The last two are paths of old, which nobody has: 404 to all.
const HOMESERVER: [(&str, &str, u16); 6] = [
    ("PUT", "/_matrix/app/v1/transactions/t", 200),
    ("POST", "/_matrix/app/v1/ping", 200),
    ("GET", "/_matrix/app/v1/users/@causeway_x:a.example", 404),
    ("GET", "/_matrix/app/v1/rooms/%23causeway_x:a.example", 404),
    ("PUT", "/transactions/u", NOWHERE),
    ("GET", "/_matrix/app/v1/thirdparty/protocol/x", NOWHERE),
];

/// Twelve, and what each may: the operator's, the homeserver's.
fn callers() -> [(Shows, bool, bool); 12] {
    use Shows::{Bearer, Header, InQuery, Nothing};
    [
        (Nothing, false, false),
        (Bearer(""), false, false),
        (Bearer(OTHER), false, false),
        (Bearer(ADMIN_TOKEN), true, false),
        (Bearer(HS_TOKEN), false, true),
        (Header(format!("Basic {ADMIN_TOKEN}")), false, false),
        (Header(format!("Basic {HS_TOKEN}")), false, false),
        (Header(format!("Bearer {ADMIN_TOKEN}x")), false, false),
        (Header(format!("Bearer {}", HS_TOKEN.to_uppercase())), false, false),
        (InQuery(OTHER), false, false),
        (InQuery(ADMIN_TOKEN), false, false),
        (InQuery(HS_TOKEN), false, false),
    ]
}

#[tokio::test]
async fn every_endpoint_is_for_whom_it_is_for_and_nobody_else() {
    let listener = Listener::new().await;
    let mut wrong = Vec::new();
    let admin = ADMIN
        .map(|(method, path, status)| (method, format!("/_causeway/admin/v1{path}"), status, true));
    let homeserver =
        HOMESERVER.map(|(method, path, status)| (method, path.to_owned(), status, false));
    for (method, path, expected, is_operators) in admin.into_iter().chain(homeserver) {
        for (at, (shows, operator, hs)) in callers().into_iter().enumerate() {
            let may = if is_operators { operator } else { hs };
            let (header, path) = match shows {
                Shows::Nothing => (None, path.clone()),
                Shows::Bearer(token) => (Some(format!("Bearer {token}")), path.clone()),
                Shows::Header(header) => (Some(header), path.clone()),
                Shows::InQuery(token) => {
                    let sign = if path.contains('?') { '&' } else { '?' };
                    let token = token.replace(' ', "%20");
                    (None, format!("{path}{sign}access_token={token}"))
                }
            };
            let body = if method == "PUT" { r#"{"events":[]}"# } else { "{}" };
            let (status, answer) = listener.called(method, &path, header.as_deref(), body).await;
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            let is_right = match expected {
                NOWHERE => status == StatusCode::NOT_FOUND,
                expected if may => status.as_u16() == expected,
                _ => refused,
            };
            if !is_right {
                wrong.push(format!("{method} {path} by {at}: {status} {answer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
