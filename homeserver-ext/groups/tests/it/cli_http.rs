//! The ends of a call, each as a server (or what stands before it) may bring it about.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use causeway_groups::sdk::{BaseUrlError, CallError, Http};
use causeway_protocol::{
    api::OpBytes,
    ids::{Epoch, GroupId},
};

use crate::cli_server::free_address;

/// A server that reads one request, answers `answer` to the byte, and hangs up.
pub(crate) fn answering(answer: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_vec();
    thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = peer.read(&mut request).unwrap();
        let _ = peer.write_all(&answer);
    });
    url
}

pub(crate) fn with_body(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

async fn end_of(answer: &[u8]) -> CallError {
    Http::new(&answering(answer)).unwrap().group(GroupId::new([7; 32])).await.unwrap_err()
}

#[tokio::test]
async fn a_refusal_says_what_the_server_says() {
    let body = r#"{"errcode":"M_FORBIDDEN","error":"not a member"}"#;
    let end = end_of(&with_body("403 Forbidden", "", body)).await;
    assert!(end.is_refusal("M_FORBIDDEN") && !end.is_transient());
    assert!(end.to_string().contains("not a member"));
}

#[tokio::test]
async fn a_refusal_says_what_is_taken_all_the_same() {
    let id = "AQEBAQEBAQEBAQEBAQEBAQ";
    let body = format!(
        r#"{{"errcode":"M_FORBIDDEN","error":"closed","accepted":[{{"id":"{id}","recipients":2}}]}}"#
    );
    let end = end_of(&with_body("403 Forbidden", "", &body)).await;
    assert!(matches!(end, CallError::Refused { taken, .. } if taken == [id.parse().unwrap()]));
}

#[tokio::test]
async fn a_stale_epoch_brings_what_is_missing() {
    let body = r#"{"errcode":"M_STALE_EPOCH","error":"x","epoch":9,"ops":["AQI"]}"#;
    let end = end_of(&with_body("409 Conflict", "", body)).await;
    assert_eq!(end, CallError::Stale { epoch: Epoch(9), ops: vec![OpBytes(vec![1, 2])] });
}

#[tokio::test]
async fn too_much_at_once_says_when_to_come_back() {
    let body = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"x","retry_after_ms":250}"#;
    let wait =
        |ms: u64, error: &str| CallError::RetryAfter { ms, error: error.to_owned(), server: None };
    assert_eq!(end_of(&with_body("429 Too Many", "", body)).await, wait(250, "x"));
    let by_header = with_body("429 Too Many", "retry-after: 3\r\n", "");
    assert_eq!(end_of(&by_header).await, wait(3_000, "too much at once"));
    let for_ever =
        r#"{"errcode":"M_LIMIT_EXCEEDED","error":"x","retry_after_ms":18446744073709551615}"#;
    assert_eq!(end_of(&with_body("429 Too Many", "", for_ever)).await, wait(86_400_000, "x"));
    let by_header = with_body("429 Too Many", "retry-after: 18446744073709551615\r\n", "");
    assert_eq!(end_of(&by_header).await, wait(86_400_000, "too much at once"));
}

#[tokio::test]
async fn what_another_server_says_is_known_as_its_own() {
    let body =
        r#"{"errcode":"M_LIMIT_EXCEEDED","error":"x","retry_after_ms":250,"server":"b.example"}"#;
    let end = end_of(&with_body("429 Too Many", "", body)).await;
    assert!(end.is_of_another() && end.is_transient(), "{end:?}");
    assert_eq!(end.to_string(), "b.example asks to wait for 1 s: x");
    let body = r#"{"errcode":"DEV_CAUSEWAY_BAD_ANSWER","error":"no sense","server":"b.example"}"#;
    let end = end_of(&with_body("502 Bad Gateway", "", body)).await;
    assert_eq!(end, CallError::Elsewhere { error: "no sense".to_owned(), since: None });
    assert!(end.is_of_another() && end.is_transient());
}

#[tokio::test]
async fn a_server_whose_disk_is_full_took_nothing() {
    let body = r#"{"errcode":"M_RESOURCE_LIMIT_EXCEEDED","error":"the disk is full"}"#;
    let end = end_of(&with_body("507 Insufficient Storage", "", body)).await;
    assert_eq!(end, CallError::Full("the disk is full".to_owned()));
    assert!(end.is_transient());
    assert!(end.to_string().contains("took nothing") && !end.to_string().contains("unknown"));
    let of_a_proxy = end_of(&with_body("507 Insufficient Storage", "", "<html>")).await;
    assert!(matches!(of_a_proxy, CallError::Foreign { .. }), "{of_a_proxy:?}");
}

#[tokio::test]
async fn what_may_have_been_done_is_unknown() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
    let not_json = with_body("200 OK", "", "<html>please log in</html>");
    let of_a_proxy = with_body("502 Bad Gateway", "", "<html>");
    for answer in [b"".as_slice(), cut, &not_json, &of_a_proxy] {
        let end = end_of(answer).await;
        let is_unknown = matches!(end, CallError::Unknown(_) | CallError::Foreign { .. });
        assert!(is_unknown && end.to_string().contains("outcome is unknown"), "{end:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(10 << 20, b' ');
    assert!(matches!(end_of(&answer).await, CallError::Unknown(why) if why.contains("longer")));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let end = end_of(&with_body("302 Found", "location: http://127.0.0.1:1/\r\n", "")).await;
    // Whoever redirects is no server of ours, and says nothing of it.
    assert!(matches!(end, CallError::Foreign { .. }), "{end:?}");
}

/// Found by an attack: 20 s of a gateway's 404 made dead letters of everything.
#[tokio::test]
async fn a_gateways_answer_says_nothing_of_the_server() {
    for (status, is_refused) in
        [("404 Not Found", false), ("403 Forbidden", false), ("413 Payload Too Large", true)]
    {
        let end = end_of(&with_body(status, "", "<html>no</html>")).await;
        assert_eq!(matches!(end, CallError::Refused { .. }), is_refused, "{end:?}");
        assert_eq!(end.is_transient(), !is_refused, "{end:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_was_never_sent_anything() {
    let (_kept, address) = free_address();
    let end = Http::new(&format!("http://{address}")).unwrap().server().await.unwrap_err();
    assert!(matches!(end, CallError::Unreachable(_)), "{end:?}");
}

#[test]
fn only_a_plain_server_url_is_one() {
    for bad in ["b.example", "ftp://b.example", "https://u:p@b.example", "https://b.example/?q", ""]
    {
        assert!(matches!(Http::new(bad), Err(BaseUrlError::Form(_))), "{bad}");
    }
    assert_eq!(Http::new("https://b.example/").unwrap().base(), "https://b.example");
}
