//! Events as they happen, as server-sent events.

use std::time::Duration;

use causeway_protocol::{api::PREFIX, roster::Body};
use causeway_server::{TokenHash, admin::behind_token};
use futures_util::{StreamExt as _, stream::BoxStream};
use serde_json::Value;

use crate::harness::{Group, Person, Server};

/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A stream, as one who reads it sees it.
struct Sse {
    body: BoxStream<'static, Vec<u8>>,
    text: String,
}

/// One of its frames.
#[derive(Debug)]
struct Frame {
    id: Option<u64>,
    name: String,
    data: Value,
}

impl Sse {
    async fn open(server: &Server, url: &str, token: &str, last: Option<u64>) -> reqwest::Response {
        let request = server.http.get(url).bearer_auth(token);
        let request = last.into_iter().fold(request, |it, id| it.header("Last-Event-ID", id));
        request.send().await.unwrap()
    }

    /// Of this person, from her place on.
    async fn of(server: &Server, person: &Person, query: &str, last: Option<u64>) -> Self {
        let url = format!("{}{PREFIX}/events/stream{query}", server.base);
        Self::read(Self::open(server, &url, &person.token, last).await)
    }

    fn read(answer: reqwest::Response) -> Self {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let body = futures_util::stream::unfold(answer, async |mut answer| {
            let chunk = answer.chunk().await.ok()??;
            Some((chunk.to_vec(), answer))
        });
        Self { body: body.boxed(), text: String::new() }
    }

    /// The next frame; `None` at the end of the stream. Comments are passed over.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let mut found = Frame { id: None, name: String::new(), data: Value::Null };
                for line in frame.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => found.id = Some(id.parse().unwrap()),
                        Some(("event", name)) => name.clone_into(&mut found.name),
                        Some(("data", data)) => found.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                if found.name.is_empty() {
                    continue;
                }
                return Some(found);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await;
            self.text += std::str::from_utf8(&chunk.expect("the stream is silent")?).unwrap();
        }
    }

    /// Names of the next frames, and whom they are about.
    async fn take(&mut self, count: usize) -> Vec<(String, String)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let Frame { name, data, .. } = self.next().await.unwrap();
            taken.push((name, data["account"].as_str().unwrap_or_default().to_owned()));
        }
        taken
    }
}

fn of(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), format!("{name}:a.example"))
}

#[tokio::test]
async fn two_members_hear_of_each_other_and_a_stranger_of_neither() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let (carol, eve) = (server.person("carol").await, server.person("eve").await);
    let mut hers = Sse::of(&server, &alice, "", None).await;
    let mut his = Sse::of(&server, &bob, &format!("?from=0&group={}", group.id()), None).await;
    let mut of_eve = Sse::of(&server, &eve, "", None).await;
    for stream in [&mut hers, &mut his, &mut of_eve] {
        assert_eq!(stream.next().await.unwrap().name, "begin");
    }
    assert_eq!(his.take(1).await, [of("group.joined", "bob")], "from the beginning");
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    assert_eq!(hers.take(1).await, [of("group.joined", "carol")]);
    assert_eq!(his.take(1).await, [of("group.joined", "carol")]);
    group.post(&server, &alice, &Body::Remove(vec![bob.member()])).await;
    assert_eq!(hers.take(1).await, [of("group.left", "bob")]);
    assert_eq!(his.take(1).await, [of("group.left", "bob")]);
    // He hears no more of them, and the stranger heard nothing: what comes next is their own.
    group.post(&server, &alice, &Body::Role(carol.member(), 1)).await;
    assert_eq!(hers.take(1).await, [of("roster.changed", "carol")]);
    for (person, stream) in
        [(&eve, &mut of_eve), (&bob, &mut Sse::of(&server, &bob, "", None).await)]
    {
        Group::create(&server, person).await;
        let name = person.account.localpart().to_owned();
        let next = loop {
            let next = stream.take(1).await.remove(0);
            if next.0 != "begin" {
                break next;
            }
        };
        assert_eq!(next, of("group.created", &name));
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_off_also_over_a_restart() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut stream = Sse::of(&server, &alice, "?from=0", None).await;
    assert_eq!(stream.next().await.unwrap().id, Some(0));
    let first = stream.next().await.unwrap();
    assert_eq!(
        (first.name.as_str(), &first.data["id"]),
        ("group.created", &first.id.unwrap().into())
    );
    assert_eq!(stream.take(1).await, [of("group.joined", "bob")]);
    group.post(&server, &alice, &Body::Remove(vec![bob.member()])).await;
    assert_eq!(stream.take(1).await, [of("group.left", "bob")]);
    let server = server.restart().await;
    assert!(stream.next().await.is_none(), "a server that stops ends its streams");
    let mut stream = Sse::of(&server, &alice, "?from=0", first.id).await;
    let begin = stream.next().await.unwrap();
    assert_eq!((begin.name.as_str(), begin.id), ("begin", first.id));
    let two = [of("group.joined", "bob"), of("group.left", "bob")];
    assert_eq!(stream.take(2).await, two);
    // A number that was never given here is of a database that was put back.
    let mut stream = Sse::of(&server, &alice, "", Some(1_000_000)).await;
    assert_eq!(stream.next().await.unwrap().name, "begin");
    let gone = stream.next().await.unwrap();
    assert_eq!((gone.name.as_str(), gone.data["gone"].as_u64()), ("gone", Some(1_000_000)));
    assert_eq!(stream.take(3).await[1..], two);
}

#[tokio::test]
async fn four_streams_are_open_at_most_and_none_for_who_is_logged_out() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut stream = Sse::of(&server, &bob, "", None).await;
        assert_eq!(stream.next().await.unwrap().name, "begin");
        open.push(stream);
    }
    let fifth = bob.get(&server, "/events/stream").await;
    assert!(fifth.refused(429, "M_LIMIT_EXCEEDED").retry_after_ms.is_some());
    Sse::of(&server, &alice, "", None).await.next().await.unwrap();
    drop(open.pop());
    // The server notices when it next writes.
    let mut policy = crate::harness::policy();
    loop {
        policy.description += "x";
        group.post(&server, &alice, &Body::Policy(policy.clone())).await;
        for stream in &mut open {
            assert_eq!(stream.take(1).await, [of("roster.changed", "alice")]);
        }
        if bob.get_status(&server, "/events/stream").await == 200 {
            break;
        }
    }
    bob.post(&server, "/logout", &serde_json::json!({})).await.done();
    policy.name = "later".to_owned();
    group.post(&server, &alice, &Body::Policy(policy)).await;
    for mut stream in open {
        assert!(stream.next().await.is_none(), "the session is over");
    }
}

#[tokio::test]
async fn the_operator_hears_of_all_groups() {
    let server = Server::start().await;
    let admin = behind_token(server.app.admin(), TokenHash::of("right"));
    let (_serving, base) = crate::admin::served(admin).await;
    let url = format!("{base}/events/stream");
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = Sse::read(Sse::open(&server, &url, "right", None).await);
        assert_eq!(stream.next().await.unwrap().name, "begin");
        streams.push(stream);
    }
    assert_eq!(Sse::open(&server, &url, "right", None).await.status(), 429);
    for name in ["alice", "eve"] {
        let person = server.person(name).await;
        Group::create(&server, &person).await;
        for stream in &mut streams {
            assert_eq!(stream.take(1).await, [of("group.created", name)]);
        }
    }
}

#[tokio::test]
async fn who_reads_nothing_holds_nobody_up_and_misses_nothing() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut slow = Sse::of(&server, &bob, "?from=0", None).await;
    assert_eq!(slow.next().await.unwrap().name, "begin");
    assert_eq!(slow.take(1).await, [of("group.joined", "bob")]);
    server.log_events(1_000, 900).await;
    for n in 0..10_u8 {
        let mut policy = crate::harness::policy();
        policy.description = n.to_string();
        group.post(&server, &alice, &Body::Policy(policy)).await;
    }
    let mut quick = Sse::of(&server, &alice, "?from=1000", None).await;
    assert_eq!(quick.next().await.unwrap().name, "begin");
    for stream in [&mut quick, &mut slow] {
        let mut ids = Vec::new();
        for _ in 0..910 {
            ids.push(stream.next().await.unwrap().id.unwrap());
        }
        assert!(ids.is_sorted_by(|one, next| one < next));
        assert_eq!(ids[..900], (1_000..1_900).collect::<Vec<_>>());
    }
}
