//! Those who have no token yet: known by their address, and limited by it.

use causeway_protocol::api::{LoginNonce, PREFIX, Session};
use causeway_server::{GuestQuotas, Quota};
use reqwest::Method;

use crate::harness::{Answer, Person, Server, TOKEN, json};

const FEW: GuestQuotas = GuestQuotas {
    register: Some(Quota::per_minute(1, 2)),
    login: Some(Quota::per_minute(2, 3)),
    link: Some(Quota::per_minute(1, 1)),
};

async fn register(server: &Server, name: &str, token: &str) -> Answer {
    let request = Person::new(name).registration(token);
    server.send(Method::POST, "/register", None, json(&request)).await
}

#[tokio::test]
async fn an_address_registers_so_many_and_is_told_when_to_come_back() {
    let server = Server::start_with(|config| config.guests = FEW).await;
    // A guess counts as much as a success.
    register(&server, "alice", "guess").await.refused(403, "M_FORBIDDEN");
    register(&server, "alice", TOKEN).await.ok::<Session>();
    let before = server.rows().await;
    let refusal = register(&server, "bob", TOKEN).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(60_000));
    // Before the body is looked at, too.
    let rubbish = server.send(Method::POST, "/register", None, b"{".to_vec()).await;
    rubbish.refused(429, "M_LIMIT_EXCEEDED");
    server.assert_unchanged(&before).await;
    let path = format!("{}{PREFIX}/register", server.base);
    let answer = server.http.post(path).send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "60");
    server.pass_ms(60_000);
    register(&server, "bob", TOKEN).await.ok::<Session>();
}

#[tokio::test]
async fn logins_have_a_limit_of_their_own_which_nonces_use_up_too() {
    let server = Server::start_with(|config| config.guests = FEW).await;
    let alice = server.person("alice").await;
    alice.login(&server).await.ok::<Session>();
    server.send(Method::POST, "/login/nonce", None, vec![]).await.ok::<LoginNonce>();
    let before = server.rows().await;
    for path in ["/login/nonce", "/login"] {
        let answer = server.send(Method::POST, path, None, vec![]).await;
        assert_eq!(answer.refused(429, "M_LIMIT_EXCEEDED").retry_after_ms, Some(30_000));
    }
    server.assert_unchanged(&before).await;
    register(&server, "bob", TOKEN).await.ok::<Session>();
}

/// Asks for a nonce as `forwarded` would through a proxy.
async fn status(server: &Server, forwarded: &[&str]) -> u16 {
    let request = server.http.post(format!("{}{PREFIX}/login/nonce", server.base));
    let named = forwarded.iter().fold(request, |to, name| to.header("x-forwarded-for", *name));
    named.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn behind_a_trusted_proxy_everyone_has_a_limit_of_their_own() {
    let server = Server::start_with(|config| {
        config.guests = GuestQuotas { login: Some(Quota::per_minute(1, 1)), ..FEW };
        config.trusted_proxies = [str::parse("127.0.0.0/8").unwrap()].into_iter().collect();
    })
    .await;
    for (forwarded, expected) in [
        (vec!["198.51.100.1"], 200),
        (vec!["198.51.100.1"], 429),
        (vec!["198.51.100.2:443"], 200),
        // What a client wrote there itself stands first, and does not count.
        (vec!["192.0.2.77, 198.51.100.1"], 429),
        (vec!["192.0.2.77", "198.51.100.2"], 429),
        (vec!["198.51.100.3, 127.0.0.9"], 200),
        (vec!["198.51.100.3"], 429),
        (vec!["2001:db8::1"], 200),
        (vec!["2001:db8::2"], 429),
        // Who names nobody, or nobody that is one, is the proxy itself.
        (vec![], 200),
        (vec!["unknown"], 429),
        (vec!["198.51.100.4, \u{ff}"], 429),
    ] {
        assert_eq!(status(&server, &forwarded).await, expected, "{forwarded:?}");
    }
}

#[tokio::test]
async fn who_is_no_trusted_proxy_cannot_name_another_address() {
    let server = Server::start_with(|config| {
        config.guests = GuestQuotas { login: Some(Quota::per_minute(1, 1)), ..FEW };
    })
    .await;
    assert_eq!(status(&server, &["198.51.100.1"]).await, 200);
    assert_eq!(status(&server, &["198.51.100.2"]).await, 429);
}
