//! Links and requests to join of a group whose home is another server.

use std::time::Duration;

use causeway_protocol::{
    api::{GroupHead, InvitePage, JoinPending, NewInvite, RequestPage},
    envelope::{Envelope, Kind, MAX_TTL_MS, Recipient, compute_id},
    ids::{GroupId, InviteKey, text_of},
    invite::Join,
    link::{Call, Item, Row},
    roster::Body,
};
use causeway_server::{AccountQuotas, Quota, TokenHash};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::{
    OTHER, as_in_tests, ask_of, at,
    groups::{ops, post_at, texts, until_epoch, with_carol},
    peer::Peer,
    restarted, two,
    wire::{DOOR_TOKEN, Wire, hand_in},
};
use crate::harness::{Group, Person, Server, Stream, signing_key};

const HOME: &str = "a.example";

async fn invite(server: &Server, by: &Person, group: &Group, uses: u32) -> SigningKey {
    let ik = signing_key();
    let expires_ms = server.now().plus_ms(3_600_000);
    let body = NewInvite { ik_pub: key_of(&ik), expires_ms, uses };
    by.post(server, &group.path("/invites"), &body).await.done();
    ik
}

fn key_of(ik: &SigningKey) -> InviteKey {
    InviteKey::new(ik.verifying_key().to_bytes())
}

/// The next row of this kind, acknowledged.
async fn next_of(stream: &mut Stream, kind: Kind) -> Envelope {
    loop {
        let row = stream.next().await;
        assert_eq!(row.envelope.check(), Ok(()), "{row:?}");
        stream.ack(row.seq.0).await;
        if row.envelope.kind == kind {
            return row.envelope;
        }
    }
}

#[tokio::test]
async fn who_is_elsewhere_comes_in_by_a_link_and_reads_and_writes() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = Group::create(&here, &alice).await;
    let ik = invite(&here, &alice, &group, 1).await;
    let join = carol.join(&there, group.id(), &ik);
    let pending: JoinPending = carol.post_join_at(&there, HOME, &join).await.ok();
    assert_eq!(pending.id, join.id().unwrap());
    let again: JoinPending = carol.post_join_at(&there, HOME, &join).await.ok();
    assert_eq!(again, pending);
    let told = next_of(&mut alice.stream(&here).await, Kind::Join).await;
    assert_eq!(told.payload, join.to_bytes().unwrap());
    group.post(&here, &alice, &Body::Add(vec![carol.entry(0)])).await;
    until_epoch(&there, &carol, &group).await;
    alice.say(&here, &group, &["welcome"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["welcome"]);
    carol.say(&there, &group, &["thanks"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["thanks"]);
    // Now her server knows the group, and needs no telling where it is kept; the home's words come through.
    let late = carol.join(&there, group.id(), &ik);
    carol.post_join(&there, group.id(), &late).await.refused(409, "DEV_CAUSEWAY_ALREADY_MEMBER");
    let dan = Person::at("dan", OTHER).registered(&there).await;
    let used = dan.join(&there, group.id(), &ik);
    dan.post_join(&there, group.id(), &used).await.refused(410, "DEV_CAUSEWAY_USED");
    let unknown = dan.join(&there, group.id(), &signing_key());
    dan.post_join(&there, group.id(), &unknown).await.refused(404, "M_NOT_FOUND");
    // Whom no admin let in may do nothing with links, at either server.
    carol.get(&there, &group.path("/invites")).await.refused(403, "M_FORBIDDEN");
    dan.get(&there, &group.path("/requests")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn an_admin_elsewhere_makes_lists_and_revokes_links_and_hears_who_asks() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    let ik = invite(&there, &carol, &group, 2).await;
    for (server, who) in [(&here, &alice), (&there, &carol)] {
        let page: InvitePage = who.get(server, &group.path("/invites")).await.ok();
        assert_eq!((page.invites.len(), page.invites[0].ik_pub), (1, key_of(&ik)));
        assert_eq!(page.invites[0].by, carol.account);
    }
    // One of her server and one of the home's, by the same link.
    let dan = Person::at("dan", OTHER).registered(&there).await;
    let bob = here.person("bob").await;
    let his = dan.join(&there, group.id(), &ik);
    dan.post_join(&there, group.id(), &his).await.ok::<JoinPending>();
    let mut stream = carol.stream(&there).await;
    assert_eq!(next_of(&mut stream, Kind::Join).await.payload, his.to_bytes().unwrap());
    let bobs = bob.join(&here, group.id(), &ik);
    let asked: JoinPending = bob.post_join(&here, group.id(), &bobs).await.ok();
    assert_eq!(next_of(&mut stream, Kind::Join).await.payload, bobs.to_bytes().unwrap());
    let added = post_at(&there, &carol, &mut group, &Body::Add(vec![dan.entry(0)])).await;
    added.ok::<GroupHead>();
    until_epoch(&there, &dan, &group).await;
    let page: RequestPage = carol.get(&there, &group.path("/requests")).await.ok();
    assert_eq!(page.requests.iter().map(|it| it.id).collect::<Vec<_>>(), [asked.id]);
    for _ in 0..2 {
        let path = group.path(&format!("/requests/{}", asked.id));
        carol.delete(&there, &path).await.done();
        let path = group.path(&format!("/invites/{}", key_of(&ik)));
        carol.delete(&there, &path).await.done();
    }
    let page: RequestPage = carol.get(&there, &group.path("/requests")).await.ok();
    assert!(page.requests.is_empty());
    let erin = here.person("erin").await;
    let late = erin.join(&here, group.id(), &ik);
    erin.post_join(&here, group.id(), &late).await.refused(410, "DEV_CAUSEWAY_REVOKED");
}

#[tokio::test]
async fn pages_of_requests_that_do_not_fit_one_item_are_read_on() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    let ik = invite(&here, &alice, &group, 40).await;
    for n in 0..20 {
        let person = here.person(&format!("p{n}")).await;
        let join = person.join(&here, group.id(), &ik);
        person.post_join(&here, group.id(), &join).await.ok::<JoinPending>();
    }
    let first: RequestPage = carol.get(&there, &group.path("/requests?limit=1000")).await.ok();
    let next = group.path(&format!("/requests?limit=1000&from={}", first.next.unwrap()));
    let rest: RequestPage = carol.get(&there, &next).await.ok();
    assert_eq!((first.requests.len(), rest.requests.len(), rest.next), (16, 4, None));
}

#[tokio::test]
async fn two_of_two_servers_at_once_by_a_link_for_one_are_one() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let group = Group::create(&here, &alice).await;
    let bob = here.person("bob").await;
    for _ in 0..5 {
        let ik = invite(&here, &alice, &group, 1).await;
        let (carols, bobs) =
            (carol.join(&there, group.id(), &ik), bob.join(&here, group.id(), &ik));
        let (one, other) = tokio::join!(
            carol.post_join_at(&there, HOME, &carols),
            bob.post_join(&here, group.id(), &bobs)
        );
        let refused = match (one.status.as_u16(), other.status.as_u16()) {
            (200, _) => other,
            (_, 200) => one,
            both => panic!("{both:?}"),
        };
        refused.refused(410, "DEV_CAUSEWAY_USED");
    }
}

#[tokio::test]
async fn a_link_that_is_revoked_elsewhere_while_it_is_used_is_used_before_or_not_at_all() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    let bob = here.person("bob").await;
    for _ in 0..5 {
        let ik = invite(&here, &alice, &group, 5).await;
        let path = group.path(&format!("/invites/{}", key_of(&ik)));
        let join = bob.join(&here, group.id(), &ik);
        let (revoked, asked) =
            tokio::join!(carol.delete(&there, &path), bob.post_join(&here, group.id(), &join));
        revoked.done();
        if !asked.status.is_success() {
            asked.refused(410, "DEV_CAUSEWAY_REVOKED");
        }
        here.pass_ms(1);
        let late = bob.join(&here, group.id(), &ik);
        bob.post_join(&here, group.id(), &late).await.refused(410, "DEV_CAUSEWAY_REVOKED");
    }
}

#[tokio::test]
async fn a_home_that_does_not_answer_is_named_and_asking_again_takes_one_use() {
    let here = at(HOME).await;
    let there = Server::start_with(|config| {
        config.server_name = OTHER.to_owned();
        config.relay_token = Some(TokenHash::of(DOOR_TOKEN));
        config.edge.requests = None;
        config.relay_patience = Duration::from_millis(300);
    })
    .await;
    let (alice, carol) =
        (here.person("alice").await, Person::at("carol", OTHER).registered(&there).await);
    let group = Group::create(&here, &alice).await;
    let ik = invite(&here, &alice, &group, 1).await;
    let join = carol.join(&there, group.id(), &ik);
    let refusal = carol.post_join_at(&there, HOME, &join).await;
    let refusal = refusal.refused(504, "DEV_CAUSEWAY_UNREACHABLE");
    assert_eq!(refusal.server.as_deref(), Some(HOME));
    assert!(refusal.since_ms.is_some());
    assert!(refusal.error.contains("is safe"), "{}", refusal.error);
    // The home ends while it is asked, and frames are lost.
    let wire = Wire::lossy(&here, &there);
    carol.post_join_at(&there, HOME, &join).await;
    drop(wire);
    let here = restarted(here, HOME).await;
    let there = restarted(there, OTHER).await;
    let _wire = Wire::between(&here, &there);
    let pending: JoinPending = carol.post_join_at(&there, HOME, &join).await.ok();
    let page: RequestPage = alice.get(&here, &group.path("/requests")).await.ok();
    assert_eq!((page.requests.len(), page.requests[0].id), (1, pending.id));
    let page: InvitePage = alice.get(&here, &group.path("/invites")).await.ok();
    assert_eq!(page.invites[0].used, 1);
}

#[tokio::test]
async fn who_asks_waits_for_an_admin_elsewhere_through_a_restart_of_each_side() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let ik = invite(&here, &alice, &group, 1).await;
    let bob = here.person("bob").await;
    let join = bob.join(&here, group.id(), &ik);
    bob.post_join(&here, group.id(), &join).await.ok::<JoinPending>();
    let here = restarted(here, HOME).await;
    let there = restarted(there, OTHER).await;
    let _wire = Wire::between(&here, &there);
    let told = next_of(&mut carol.stream(&there).await, Kind::Join).await;
    assert_eq!(told.payload, join.to_bytes().unwrap());
}

fn asked(join: &Join) -> Value {
    json!({ "group": join.group, "request": text_of(&join.to_bytes().unwrap()) })
}

#[tokio::test]
async fn a_server_asks_for_its_own_accounts_alone_and_a_third_server_may() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let ik = invite(&here, &alice, &group, 5).await;
    let bob = here.person("bob").await;
    let (mallory, erin) = (Person::at("mallory", "c.example"), Person::at("erin", "c.example"));
    let until = here.now().plus_ms(30_000);
    let ask = |call, who: Option<&Person>, body| ask_of(call, who, body, until);
    let of = |body: Value| {
        let mut body = body;
        body["group"] = json!(group.id());
        body
    };
    let of_bob = asked(&bob.join(&here, group.id(), &ik));
    let of_erin = asked(&erin.join(&here, group.id(), &ik));
    let unknown = asked(&erin.join(&here, GroupId::new([7; 32]), &ik));
    let create = json!({ "create": { "ik_pub": key_of(&ik), "expires_ms": 9, "uses": 1 } });
    let asks = [
        // In another's name, or with another's request; for nobody; as it may; no group, no form.
        (ask(Call::Join, Some(&bob), of_bob.clone()), 403),
        (ask(Call::Join, Some(&mallory), of_bob), 403),
        (ask(Call::Join, Some(&mallory), of_erin.clone()), 403),
        (ask(Call::Join, None, of_erin.clone()), 403),
        (ask(Call::Join, Some(&erin), of_erin), 200),
        (ask(Call::Join, Some(&erin), unknown), 404),
        (ask(Call::Join, Some(&erin), of(json!({ "request": "AAAA" }))), 404),
        (ask(Call::Join, Some(&erin), of(json!({ "request": 7 }))), 400),
        // Who is not in it.
        (ask(Call::Invites, Some(&erin), of(json!({}))), 404),
        (ask(Call::Invites, Some(&erin), of(create)), 404),
        (ask(Call::Invites, Some(&alice), of(json!({}))), 403),
        (ask(Call::Invites, None, of(json!({}))), 403),
        (ask(Call::Requests, Some(&erin), of(json!({}))), 404),
        (ask(Call::Requests, Some(&erin), of(json!({ "drop": 7 }))), 404),
    ];
    let mut peer = Peer::new("c.example");
    let items = asks.iter().map(|(ask, _)| ask.to_json()).collect();
    let answers = peer.ask(&here, items).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, asks.iter().map(|(_, status)| *status).collect::<Vec<_>>());
    let page: InvitePage = alice.get(&here, &group.path("/invites")).await.ok();
    assert_eq!((page.invites.len(), page.invites[0].used), (1, 1));
    // What a home decides is not asked of a replica.
    let mut home = Peer::new("a.example");
    let items = [Call::Invites, Call::Requests].map(|call| {
        ask_of(call, Some(&alice), of(json!({})), there.now().plus_ms(30_000)).to_json()
    });
    hand_in(&there, HOME, home.frame(items.to_vec())).await;
    let said = home.said(&there).await.into_iter();
    let refused = said.filter_map(|item| match item {
        Item::Answer(_, answer) => Some(answer.status),
        _ => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), [403, 403]);
}

#[tokio::test]
async fn a_link_that_names_a_server_that_is_not_the_home_opens_nothing() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let ik = invite(&here, &alice, &group, 1).await;
    // The home knows better than a link; a server that is not the home has no links.
    let bob = here.person("bob").await;
    let join = bob.join(&here, group.id(), &ik);
    bob.post_join_at(&here, OTHER, &join).await.ok::<JoinPending>();
    let theirs = Group::begun(Group::first_op(&Person::at("erin", "c.example")));
    let stray = bob.join(&here, theirs.id(), &ik);
    bob.post_join_at(&here, OTHER, &stray).await.refused(404, "M_NOT_FOUND");
    bob.post_join_at(&here, HOME, &stray).await.refused(404, "M_NOT_FOUND");
    for name in ["", "no server", "a.example/../b", "@_causeway"] {
        bob.post_join_at(&here, name, &stray).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn a_flood_of_requests_of_one_server_is_refused_and_others_are_served() {
    let server = at(HOME).await;
    let alice = server.person("alice").await;
    let group = Group::create(&server, &alice).await;
    let ik = invite(&server, &alice, &group, 5).await;
    let mut peer = Peer::new(OTHER);
    let before = server.rows().await;
    let mut refused = 0;
    for _ in 0..40 {
        let until = server.now().plus_ms(30_000);
        let asks = (0..30).map(|n| {
            let who = Person::at(&format!("p{n}"), OTHER);
            let body = asked(&who.join(&server, group.id(), &signing_key()));
            ask_of(Call::Join, Some(&who), body, until).to_json()
        });
        let answers = peer.ask(&server, asks.collect()).await;
        refused += answers.iter().filter(|answer| answer.status == 429).count();
        assert_eq!(answers.len(), 30);
        server.pass_ms(2_000);
    }
    assert!((100..=200).contains(&refused), "{refused}");
    let is_link = |row: &&String| !row.starts_with("servers:") && !row.starts_with("numbers:");
    let after = server.rows().await;
    assert_eq!(
        after.iter().filter(is_link).collect::<Vec<_>>(),
        before.iter().filter(is_link).collect::<Vec<_>>(),
        "who holds no link leaves nothing"
    );
    let mut other = Peer::new("c.example");
    let erin = Person::at("erin", "c.example");
    let body = asked(&erin.join(&server, group.id(), &ik));
    let ask = ask_of(Call::Join, Some(&erin), body, server.now().plus_ms(30_000));
    assert_eq!(other.ask(&server, vec![ask.to_json()]).await[0].status, 200);
}

fn told(group: &Group, payload: Vec<u8>) -> Value {
    let to = Recipient::Broadcast;
    let id = compute_id(Kind::Join, None, &to, &payload, None);
    let (kind, epoch) = (Kind::Join, group.roster.epoch());
    let ttl_ms = MAX_TTL_MS;
    let row = Envelope {
        id,
        kind,
        group: group.id(),
        epoch,
        sender: None,
        to,
        ttl_ms,
        payload,
        piece: None,
    };
    Item::Row(Row::Home(row)).to_json()
}

#[tokio::test]
async fn only_the_home_tells_who_asks_and_only_as_often_as_it_may() {
    let server = at(HOME).await;
    let alice = server.person("alice").await;
    let (mallory, dan) = (Person::at("mallory", OTHER), Person::at("dan", OTHER));
    let mut theirs = Group::begun(Group::first_op(&mallory));
    theirs.install(theirs.op(&mallory, &Body::Add(vec![alice.entry(1)])));
    let own = Group::create(&server, &alice).await;
    let ik = signing_key();
    let mut peer = Peer::new(OTHER);
    hand_in(&server, OTHER, peer.frame(vec![ops(&theirs, &theirs.ops)])).await;
    let join = |group: &Group| dan.join(&server, group.id(), &ik).to_bytes().unwrap();
    // Of a group of another home, of another group than it says, and what is none.
    let items = vec![
        told(&own, join(&own)),
        told(&theirs, join(&own)),
        told(&theirs, vec![1; 40]),
        told(&theirs, join(&theirs)),
    ];
    hand_in(&server, OTHER, peer.frame(items)).await;
    let mut stream = alice.stream(&server).await;
    assert_eq!(next_of(&mut stream, Kind::Join).await.payload, join(&theirs));
    stream.settle().await;
    drop(stream);
    for _ in 0..11 {
        let many = (0..100).map(|_| told(&theirs, join(&theirs)));
        for item in many {
            hand_in(&server, OTHER, peer.frame(vec![item])).await;
        }
    }
    let rows = server.rows().await;
    let waiting = rows.iter().filter(|row| row.starts_with("mailbox:")).count();
    assert!(waiting <= 1_000, "{waiting}");
}

#[tokio::test]
async fn an_account_asks_another_server_to_be_let_in_as_often_as_its_own() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = Group::create(&here, &alice).await;
    let ask = async |who: &Person| {
        let join = who.join(&there, group.id(), &signing_key());
        who.post_join_at(&there, HOME, &join).await
    };
    for _ in 0..60 {
        ask(&carol).await.refused(404, "M_NOT_FOUND");
    }
    let dan = Person::at("dan", OTHER).registered(&there).await;
    ask(&dan).await.refused(404, "M_NOT_FOUND");
    // The home is not even asked.
    drop(wire);
    let refusal = ask(&carol).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.joins"), "{}", refusal.error);
    // A server that does not count is counted, each of its accounts for itself, whatever it asks.
    let accounts =
        AccountQuotas { joins: Some(Quota::per_minute(1, 3)), ..AccountQuotas::default() };
    let server = Server::start_with(move |config| {
        as_in_tests(config, HOME);
        config.accounts = accounts;
    })
    .await;
    let until = server.now().plus_ms(30_000);
    let asks = ["mallory", "mallory", "mallory", "mallory", "erin"].map(|name| {
        let body = json!({ "group": group.id(), "request": "AAAA" });
        ask_of(Call::Join, Some(&Person::at(name, OTHER)), body, until).to_json()
    });
    let answers = Peer::new(OTHER).ask(&server, asks.to_vec()).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [404, 404, 404, 429, 404]);
}
