//! What one account may add, and that another is not hurt by it.

use causeway_protocol::{
    api::{
        Accepted, AccountDevices, ClaimedKeys, GroupHead, JoinPending, KeyCount, NewInvite, OpPage,
        PREFIX, RequestPage, SenderKeyInventory, Session, StreamAck, Unpark, Unparked, UploadKeys,
    },
    envelope::{Kind, Piece, SubmittedTo},
    ids::{GroupId, InviteKey, RequestId, Seq},
    roster::{Body, Op, Policy},
};
use causeway_server::{AccountQuotas, Quota};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::harness::{
    Answer, Group, Person, Server, Stream, list, op_body, policy, record, signing_key,
};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 1_440 * MINUTE_MS;

const fn quota(per_minute: u32, burst: u32) -> Quota {
    Quota::per_minute(per_minute, burst)
}

const NONE: AccountQuotas = AccountQuotas {
    envelopes: None,
    ops: None,
    op_kib: None,
    groups: None,
    groups_in_all: u32::MAX,
    strangers: None,
    keys: None,
    claims: None,
    lists: None,
    devices: u32::MAX,
    invites: u32::MAX,
    joins: None,
    link_joins: None,
    envelope_kib: None,
    parked: u32::MAX,
    parked_kib: u32::MAX,
    reports: None,
    traffic_kib: None,
    waiting_kib: u32::MAX,
    mailbox_kib: u32::MAX,
};

fn described(group: &Group, signer: &Person, description: &str) -> Op {
    let policy = Policy { description: description.to_owned(), ..policy() };
    group.op(signer, &Body::Policy(policy))
}

async fn post(server: &Server, who: &Person, group: GroupId, op: &Op) -> Answer {
    who.post(server, &format!("/groups/{group}/roster"), &op_body(op)).await
}

#[tokio::test]
async fn ops_of_one_account_are_limited_over_all_its_devices_and_others_go_on() {
    let accounts = AccountQuotas { ops: Some(quota(2, 3)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [mallory, alice]) = server.group(["mallory", "alice"]).await;
    // The op that let Alice in was the first.
    for name in ["one", "two"] {
        let op = described(&group, &mallory, name);
        post(&server, &mallory, group.id(), &op).await.ok::<GroupHead>();
        group.install(op);
    }
    let over = described(&group, &mallory, "three");
    let before = server.rows().await;
    let refusal = post(&server, &mallory, group.id(), &over).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(MINUTE_MS / 2));
    assert!(refusal.error.contains("limits.ops"), "{}", refusal.error);
    server.assert_unchanged(&before).await;
    // Another device of hers has nothing left either.
    let second = mallory.second_device(&server).await;
    let session: Session = second.login(&server).await.ok();
    let second = second.with_token(session.access_token);
    post(&server, &second, group.id(), &over).await.refused(429, "M_LIMIT_EXCEEDED");
    // What is there already is answered as before.
    post(&server, &mallory, group.id(), group.ops.last().unwrap()).await.ok::<GroupHead>();
    // Alice has a share of her own, and may even post what Mallory could not.
    post(&server, &alice, group.id(), &over).await.ok::<GroupHead>();
    group.install(over);
    server.pass_ms(MINUTE_MS / 2);
    let next = described(&group, &mallory, "four");
    post(&server, &mallory, group.id(), &next).await.ok::<GroupHead>();
}

/// A body of unknown length, which nobody has to read to refuse it.
async fn chunked(server: &Server, who: &Person, path: &str) -> u16 {
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(b"{}".to_vec())]);
    let url = format!("{}{PREFIX}{path}", server.base);
    let request = reqwest::Client::new().post(url).bearer_auth(&who.token);
    let request = request.body(reqwest::Body::wrap_stream(body));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn what_an_account_sends_and_reads_is_limited_whatever_becomes_of_it() {
    let accounts = AccountQuotas { traffic_kib: Some(quota(4_096, 8_192)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [mallory, alice, carol]) = server.group(["mallory", "alice", "carol"]).await;
    group.post(&server, &mallory, &Body::Remove(vec![carol.member()])).await;
    let (roster, envelopes) =
        (format!("/groups/{}/roster", group.id()), format!("/groups/{}/envelopes", group.id()));
    // A page takes what it has, not what it might have.
    for _ in 0..20 {
        mallory.get(&server, &roster).await.ok::<OpPage>();
    }
    let junk = serde_json::json!({ "envelopes": "x".repeat(3 << 20) });
    for _ in 0..2 {
        mallory.post(&server, &envelopes, &junk).await.refused(400, "M_BAD_JSON");
    }
    let refusal = mallory.post(&server, &envelopes, &junk).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.traffic_kib"), "{}", refusal.error);
    mallory.get(&server, &roster).await.refused(429, "M_LIMIT_EXCEEDED");
    // Nor does a refusal bring ops, and what does not say how long it is is not read.
    let stale = mallory.message(group.id(), 1, "stale");
    let refusal = mallory.submit(&server, vec![stale.clone()]).await;
    refusal.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(chunked(&server, &mallory, &envelopes).await, 429);
    alice
        .submit(&server, vec![alice.message(group.id(), 1, "stale")])
        .await
        .refused(409, "M_STALE_EPOCH");
    assert_eq!(chunked(&server, &alice, &envelopes).await, 400);
    // Small things go on, and everybody else has a share of his own.
    let none = serde_json::json!({ "envelopes": [] });
    mallory.post(&server, &envelopes, &none).await.ok::<Accepted>();
    alice.get(&server, &roster).await.ok::<OpPage>();
    server.pass_ms(MINUTE_MS);
    mallory.get(&server, &roster).await.ok::<OpPage>();
}

#[tokio::test]
async fn what_is_refused_counts_and_so_do_bytes() {
    let accounts = AccountQuotas { ops: Some(quota(1, 4)), op_kib: Some(quota(8, 64)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [mallory, alice]) = server.group(["mallory", "alice"]).await;
    let long = described(&group, &mallory, &"x".repeat(40_000));
    post(&server, &mallory, group.id(), &long).await.ok::<GroupHead>();
    group.install(long);
    let longer = described(&group, &mallory, &"y".repeat(40_000));
    let refusal =
        post(&server, &mallory, group.id(), &longer).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.op_kib"), "{}", refusal.error);
    // On a roster of before: refused, and counted.
    let behind = described(&Group::begun(group.ops[0].clone()), &mallory, "z");
    post(&server, &mallory, group.id(), &behind).await.refused(409, "M_STALE_EPOCH");
    let refusal =
        post(&server, &mallory, group.id(), &behind).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.ops"), "{}", refusal.error);
    let leave = group.op(&alice, &Body::Leave);
    post(&server, &alice, group.id(), &leave).await.ok::<GroupHead>();
}

#[tokio::test]
async fn an_account_begins_so_many_groups_and_another_as_many() {
    let accounts = AccountQuotas { groups: Some(quota(1, 2)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mallory, alice) = (server.person("mallory").await, server.person("alice").await);
    let first = Group::create(&server, &mallory).await;
    Group::create(&server, &mallory).await;
    let before = server.rows().await;
    let third = op_body(&Group::first_op(&mallory));
    let refusal = mallory.post(&server, "/groups", &third).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(MINUTE_MS));
    assert!(refusal.error.contains("limits.new_groups"), "{}", refusal.error);
    server.assert_unchanged(&before).await;
    // One that is there is answered again: so clients find out what a restored server has lost.
    mallory.post(&server, "/groups", &op_body(&first.ops[0])).await.ok::<GroupHead>();
    // Whoever posts it: the share is the signer's, so that those who give back to a restored server
    // what it has lost do not pay for others.
    let refusal = alice.post(&server, "/groups", &third).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.new_groups"), "{}", refusal.error);
    for _ in 0..2 {
        Group::create(&server, &alice).await;
    }
    server.pass_ms(MINUTE_MS);
    mallory.post(&server, "/groups", &third).await.ok::<GroupHead>();
}

#[tokio::test]
async fn keys_are_counted_one_by_one() {
    let accounts = AccountQuotas { keys: Some(quota(10, 20)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mallory, alice) = (server.person("mallory").await, server.person("alice").await);
    let upload = |who: &Person, from: u64, count: u64| UploadKeys {
        one_time_keys: (from..from + count).map(|n| who.one_time_key(n, false)).collect(),
        fallback_key: None,
        replace: false,
    };
    mallory.post(&server, "/keys", &upload(&mallory, 100, 15)).await.ok::<KeyCount>();
    let before = server.rows().await;
    let more = upload(&mallory, 200, 10);
    let refusal = mallory.post(&server, "/keys", &more).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(MINUTE_MS / 2));
    assert!(refusal.error.contains("limits.key_uploads"), "{}", refusal.error);
    server.assert_unchanged(&before).await;
    alice.post(&server, "/keys", &upload(&alice, 100, 15)).await.ok::<KeyCount>();
    server.pass_ms(MINUTE_MS / 2);
    mallory.post(&server, "/keys", &more).await.ok::<KeyCount>();
}

#[tokio::test]
async fn what_is_claimed_counts_by_account_whichever_device_asks() {
    let server = Server::start_with(|config| config.claims_per_hour = 2).await;
    let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
    let second = mallory.second_device(&server).await;
    let session: Session = second.login(&server).await.ok();
    let second = second.with_token(session.access_token);
    let body = serde_json::json!({ "devices": [alice.device()] });
    let mut is_fallback = Vec::new();
    for who in [&mallory, &second, &mallory, &second] {
        let claimed: ClaimedKeys = who.post(&server, "/keys/claim", &body).await.ok();
        is_fallback.push(claimed.keys[&alice.device()].fallback);
    }
    assert_eq!(is_fallback, [false, false, true, true]);
}

#[tokio::test]
async fn claims_and_device_lists_of_one_account_end_and_others_go_on() {
    let accounts = AccountQuotas { claims: Some(quota(1, 3)), lists: Some(quota(1, 2)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
    let body = serde_json::json!({ "devices": [alice.device()] });
    for _ in 0..3 {
        mallory.post(&server, "/keys/claim", &body).await.ok::<ClaimedKeys>();
    }
    let refused = mallory.post(&server, "/keys/claim", &body).await;
    let refused = refused.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refused.error.contains("limits.claims"), "{}", refused.error);
    let body = serde_json::json!({ "devices": [mallory.device()] });
    alice.post(&server, "/keys/claim", &body).await.ok::<ClaimedKeys>();

    mallory.second_device(&server).await;
    let alone = |version| AccountDevices {
        list: list(&mallory.identity, &mallory.account, version, vec![mallory.record.device_id]),
        devices: vec![mallory.record.clone()],
    };
    mallory.put(&server, "/account/devices", &alone(3)).await.done();
    let before = server.rows().await;
    // What her identity did not sign, and what is old, counts for nothing.
    mallory
        .put(&server, "/account/devices", &alone(2))
        .await
        .refused(409, "DEV_CAUSEWAY_OLD_VERSION");
    let refused = mallory.put(&server, "/account/devices", &alone(4)).await;
    let refused = refused.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refused.error.contains("limits.device_lists"), "{}", refused.error);
    server.assert_unchanged(&before).await;
    alice.second_device(&server).await;
}

#[tokio::test]
async fn an_account_has_so_many_groups_devices_and_open_invites_in_all() {
    let accounts = AccountQuotas { groups_in_all: 2, devices: 2, invites: 2, ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mallory, alice) = (server.person("mallory").await, server.person("alice").await);
    let mut first = Group::create(&server, &mallory).await;
    let second = Group::create(&server, &mallory).await;
    let refused = |answer: Answer, limit: &str| {
        let refusal = answer.refused(403, "M_RESOURCE_LIMIT_EXCEEDED");
        assert!(refusal.error.contains(limit), "{}", refusal.error);
        assert_eq!(refusal.retry_after_ms, None, "time changes nothing");
    };
    let invite = async |who: &Person, group: &Group, ms: u64| {
        let ik = InviteKey::new(signing_key().verifying_key().to_bytes());
        let body = NewInvite { ik_pub: ik, expires_ms: server.now().plus_ms(ms), uses: 1 };
        (who.post(&server, &group.path("/invites"), &body).await, body)
    };
    let (made, terms) = invite(&mallory, &first, MINUTE_MS).await;
    made.done();
    invite(&mallory, &second, 9 * MINUTE_MS).await.0.done();
    let before = server.rows().await;
    refused(
        mallory.post(&server, "/groups", &op_body(&Group::first_op(&mallory))).await,
        "limits.groups",
    );
    refused(invite(&mallory, &second, MINUTE_MS).await.0, "limits.invites");
    // What is there is answered again.
    mallory.post(&server, &first.path("/invites"), &terms).await.done();
    server.assert_unchanged(&before).await;
    // Another account has a share of its own; what has ended makes room.
    Group::create(&server, &alice).await;
    server.pass_ms(MINUTE_MS);
    invite(&mallory, &second, MINUTE_MS).await.0.done();
    first.post(&server, &mallory, &Body::Close).await;
    Group::create(&server, &mallory).await;

    let second = mallory.second_device(&server).await;
    let third = record(&mallory.identity, &signing_key());
    let mut records = vec![mallory.record.clone(), second.record.clone(), third];
    records.sort_by_key(|record| record.device_id);
    let ids = records.iter().map(|record| record.device_id).collect();
    let list = list(&mallory.identity, &mallory.account, second.list.version + 1, ids);
    let body = AccountDevices { list, devices: records };
    refused(mallory.put(&server, "/account/devices", &body).await, "limits.devices");
}

#[tokio::test]
async fn an_account_adds_so_many_strangers_and_friends_without_end() {
    let accounts = AccountQuotas { strangers: Some(Quota::per_hour(60, 2)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [mallory, ann]) = server.group(["mallory", "ann"]).await;
    let (ben, cy) = (server.person("ben").await, server.person("cy").await);
    group.post(&server, &mallory, &Body::Add(vec![ben.entry(0)])).await;
    let before = server.rows().await;
    let add = group.op(&mallory, &Body::Add(vec![cy.entry(0)]));
    let refusal = post(&server, &mallory, group.id(), &add).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.strangers"), "{}", refusal.error);
    assert_eq!(refusal.retry_after_ms, Some(MINUTE_MS));
    server.assert_unchanged(&before).await;
    // Those with whom one is in a group already are no strangers, and neither is who has asked.
    let mut other = Group::create(&server, &mallory).await;
    other.post(&server, &mallory, &Body::Add(vec![ann.entry(0), ben.entry(0)])).await;
    let ik = signing_key();
    let ik_pub = InviteKey::new(ik.verifying_key().to_bytes());
    let terms = NewInvite { ik_pub, expires_ms: server.now().plus_ms(MINUTE_MS), uses: 1 };
    mallory.post(&server, &group.path("/invites"), &terms).await.done();
    let join = cy.join(&server, group.id(), &ik);
    cy.post_join(&server, group.id(), &join).await.ok::<JoinPending>();
    post(&server, &mallory, group.id(), &add).await.ok::<GroupHead>();
}

/// Found by an attack: a one-use link put 46 MB into an admin's mailbox in 5 s.
#[tokio::test]
async fn who_asks_again_by_the_same_link_is_not_told_again() {
    let accounts = AccountQuotas { joins: Some(quota(1, 40)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [alice]) = server.group(["alice"]).await;
    let (mallory, carol) = (server.person("mallory").await, server.person("carol").await);
    let ik = signing_key();
    let ik_pub = InviteKey::new(ik.verifying_key().to_bytes());
    let terms = NewInvite { ik_pub, expires_ms: server.now().plus_ms(7 * DAY_MS), uses: 2 };
    alice.post(&server, &group.path("/invites"), &terms).await.done();
    let ask = async |who: &Person| {
        server.pass_ms(1);
        let join = who.join(&server, group.id(), &ik);
        who.post_join(&server, group.id(), &join).await
    };
    let told = async || {
        let rows = server.rows().await;
        rows.iter().filter(|row| row.starts_with("mailbox")).count()
    };
    let nobody = told().await;
    for _ in 0..30 {
        ask(&mallory).await.ok::<JoinPending>();
    }
    assert_eq!(told().await, nobody + 1, "the admin is told once");
    // The newest stands, and another is told of.
    let page: RequestPage = alice.get(&server, &group.path("/requests")).await.ok();
    assert_eq!(page.requests.len(), 1);
    ask(&carol).await.ok::<JoinPending>();
    assert_eq!(told().await, nobody + 2);
    for _ in 0..10 {
        ask(&mallory).await.ok::<JoinPending>();
    }
    let refusal = ask(&mallory).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.joins"), "{}", refusal.error);
    // Who still waits a day later may say so.
    server.pass_ms(DAY_MS);
    ask(&mallory).await.ok::<JoinPending>();
    assert_eq!(told().await, nobody + 3);
}

/// Found by an attack: one person with a link closed it for everybody.
#[tokio::test]
async fn a_link_bears_so_many_people_and_who_asks_often_closes_it_for_nobody() {
    let accounts = AccountQuotas { link_joins: Some(quota(1, 2)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [alice]) = server.group(["alice"]).await;
    let ik = signing_key();
    let ik_pub = InviteKey::new(ik.verifying_key().to_bytes());
    let terms = NewInvite { ik_pub, expires_ms: server.now().plus_ms(DAY_MS), uses: 9 };
    alice.post(&server, &group.path("/invites"), &terms).await.done();
    let ask = async |who: &Person| {
        server.pass_ms(1);
        let join = who.join(&server, group.id(), &ik);
        who.post_join(&server, group.id(), &join).await
    };
    let [mallory, carol, dave] = ["mallory", "carol", "dave"];
    let mallory = server.person(mallory).await;
    for _ in 0..30 {
        ask(&mallory).await.ok::<JoinPending>();
    }
    ask(&server.person(carol).await).await.ok::<JoinPending>();
    let dave = server.person(dave).await;
    let before = server.rows().await;
    let refusal = ask(&dave).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.link_joins"), "{}", refusal.error);
    server.assert_unchanged(&before).await;
    server.pass_ms(MINUTE_MS);
    ask(&dave).await.ok::<JoinPending>();
}

/// Found by an attack: envelopes were counted, but not the rows that one makes, nor its bytes.
#[tokio::test]
async fn envelopes_count_by_their_rows_and_by_their_bytes() {
    let accounts =
        AccountQuotas { envelopes: Some(quota(1, 4)), envelope_kib: Some(quota(1, 50)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let fanout = |what: &str| {
        let pieces = [&bob, &carol].map(|who| (who.device(), Piece(what.as_bytes().to_vec())));
        let to = SubmittedTo::Devices(pieces.into_iter().collect());
        alice.submission(group.id(), 1, Kind::Fanout, to, what.as_bytes().to_vec())
    };
    alice.submit(&server, vec![fanout("one")]).await.ok::<Accepted>();
    alice.submit(&server, vec![fanout("two")]).await.ok::<Accepted>();
    let refusal = alice.submit(&server, vec![fanout("three")]).await;
    let refusal = refusal.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.envelopes"), "{}", refusal.error);
    bob.say(&server, &group, &[&"x".repeat(40_000)]).await;
    let much = bob.message(group.id(), 1, &"y".repeat(40_000));
    let refusal = bob.submit(&server, vec![much]).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.envelope_kib"), "{}", refusal.error);
}

#[tokio::test]
async fn invites_count_as_changes_of_a_group_and_are_forgotten_a_month_after_their_end() {
    let accounts = AccountQuotas { ops: Some(quota(1, 4)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [alice]) = server.group(["alice"]).await;
    let make = async |ms: u64| {
        let ik_pub = InviteKey::new(signing_key().verifying_key().to_bytes());
        let terms = NewInvite { ik_pub, expires_ms: server.now().plus_ms(ms), uses: 1 };
        alice.post(&server, &group.path("/invites"), &terms).await
    };
    for _ in 0..4 {
        make(1).await.done();
    }
    let refusal = make(1).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.ops"), "{}", refusal.error);
    let invites = async || {
        server.app.upkeep().await.unwrap();
        let rows = server.rows().await;
        rows.iter().filter(|row| row.starts_with("invites:")).count()
    };
    assert_eq!(invites().await, 4);
    server.pass_ms(31 * DAY_MS);
    make(40 * DAY_MS).await.done();
    assert_eq!(invites().await, 1);
}

#[tokio::test]
async fn what_is_refused_for_its_bytes_takes_nothing_of_the_rows() {
    let accounts =
        AccountQuotas { envelopes: Some(quota(1, 8)), envelope_kib: Some(quota(1, 1)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let of = |bytes: usize| {
        let (id, to) = (group.id(), SubmittedTo::Device(bob.device()));
        alice.submission(id, 1, Kind::Direct, to, vec![1; bytes])
    };
    alice.submit(&server, vec![of(1_000)]).await.ok::<Accepted>();
    // Over the bytes, again and again.
    for _ in 0..20 {
        let many = (0..6).map(|n| of(2_000 + n)).collect();
        alice.submit(&server, many).await.refused(429, "M_LIMIT_EXCEEDED");
    }
    server.pass_ms(2 * MINUTE_MS);
    alice.submit(&server, vec![of(900)]).await.ok::<Accepted>();
}

#[tokio::test]
async fn reports_of_chains_are_limited_by_account() {
    let accounts = AccountQuotas { reports: Some(quota(1, 2)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let report = serde_json::json!({ "keys": [], "failures": {} });
    let path = group.path("/sender-keys");
    for _ in 0..2 {
        alice.put(&server, &path, &report).await.ok::<serde_json::Value>();
    }
    alice.put(&server, &path, &report).await.refused(429, "M_LIMIT_EXCEEDED");
    bob.put(&server, &path, &report).await.ok::<serde_json::Value>();
    server.pass_ms(MINUTE_MS);
    alice.put(&server, &path, &report).await.ok::<serde_json::Value>();
}

/// For each of them the writer reads a whole roster.
#[tokio::test]
async fn what_changes_nothing_about_invites_counts_too() {
    let accounts = AccountQuotas { ops: Some(quota(1, 12)), joins: Some(quota(1, 6)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [mallory, alice]) = server.group(["mallory", "alice"]).await;
    let ik = signing_key();
    let ik_pub = InviteKey::new(ik.verifying_key().to_bytes());
    let terms = NewInvite { ik_pub, expires_ms: server.now().plus_ms(MINUTE_MS), uses: 1 };
    let invites = group.path("/invites");
    for _ in 0..4 {
        mallory.post(&server, &invites, &terms).await.done();
    }
    let none = format!("{}/{}", group.path("/requests"), RequestId::new([1; 16]));
    let mut last = mallory.delete(&server, &none).await;
    for _ in 0..12 {
        last = mallory.delete(&server, &none).await;
    }
    let refusal = last.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.ops"), "{}", refusal.error);
    mallory.post(&server, &invites, &terms).await.refused(429, "M_LIMIT_EXCEEDED");
    mallory.delete(&server, &format!("{invites}/{ik_pub}")).await.refused(429, "M_LIMIT_EXCEEDED");
    // Nor does who is a member already ask for nothing.
    let join = alice.join(&server, group.id(), &ik);
    for n in 0..7 {
        let answer = alice.post_join(&server, group.id(), &join).await;
        if n < 6 {
            answer.refused(409, "DEV_CAUSEWAY_ALREADY_MEMBER");
        } else {
            answer.refused(429, "M_LIMIT_EXCEEDED");
        }
    }
}

/// A request to join makes a row for each who may admit, which falls on who asks; and a page of
/// reports counts as much as it may have.
#[tokio::test]
async fn rows_of_a_request_and_pages_of_reports_fall_on_who_asks() {
    let accounts =
        AccountQuotas { envelopes: Some(quota(1, 3)), traffic_kib: Some(quota(1, 600)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [alice, ann]) = server.group(["alice", "ann"]).await;
    let open = Policy { add_by: 1, ..policy() };
    group.post(&server, &alice, &Body::Policy(open)).await;
    let carol = server.person("carol").await;
    let ask = async || {
        let ik = signing_key();
        let ik_pub = InviteKey::new(ik.verifying_key().to_bytes());
        let terms = NewInvite { ik_pub, expires_ms: server.now().plus_ms(MINUTE_MS), uses: 1 };
        alice.post(&server, &group.path("/invites"), &terms).await.done();
        carol.post_join(&server, group.id(), &carol.join(&server, group.id(), &ik)).await
    };
    ask().await.ok::<JoinPending>();
    let refusal = ask().await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.envelopes"), "{}", refusal.error);
    let reports = group.path("/sender-keys");
    ann.get(&server, &reports).await.ok::<SenderKeyInventory>();
    ann.get(&server, &reports).await.ok::<SenderKeyInventory>();
    let refusal = ann.get(&server, &reports).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.traffic_kib"), "{}", refusal.error);
}

#[tokio::test]
async fn what_is_sent_over_and_over_falls_on_who_does_not_say_that_it_came() {
    const MESSAGES: usize = 30;
    let accounts = AccountQuotas { traffic_kib: Some(quota(100, 2_900)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    for n in 0..MESSAGES {
        alice.say(&server, &group, &[&format!("{n:30000}")]).await;
    }
    // `count` rows are read, and none is acknowledged.
    let open = async |who: &Person, count| {
        let mut stream = match Stream::open(&server, &who.token).await {
            Ok(stream) => stream,
            Err(error) => match *error {
                WsError::Http(answer) => return Err(answer.status().as_u16()),
                other => panic!("{other}"),
            },
        };
        stream.take(count).await;
        stream.send(Message::Close(None)).await;
        stream.broken().await;
        Ok(())
    };
    // To come again costs little; what is sent again does.
    server.pass_ms(30 * MINUTE_MS);
    for _ in 0..6 {
        assert_eq!(open(&alice, 0).await, Ok(()));
    }
    let opened = [open(&bob, 20).await, open(&bob, 20).await, open(&bob, 1).await];
    assert_eq!(opened, [Ok(()), Ok(()), Err(429)]);
    assert_eq!(open(&alice, 0).await, Ok(()));
    // Likewise for what is parked, once there is any.
    server.pass_ms(30 * MINUTE_MS);
    let parked =
        Unpark { group: group.id(), sender: alice.device(), after: Seq(0), taken: Vec::new() };
    for _ in 0..20 {
        bob.post(&server, "/device/unpark", &parked).await.ok::<Unparked>();
    }
    let mut stream = bob.stream(&server).await;
    let mut messages = 0;
    while messages < MESSAGES {
        let row = stream.next().await;
        let is_message = row.envelope.kind == Kind::Message;
        let park = is_message.then_some(row.seq).into_iter().collect();
        messages += usize::from(is_message);
        let ack = serde_json::to_string(&StreamAck { ack: row.seq, park }).unwrap();
        stream.send(Message::text(ack)).await;
    }
    stream.send(Message::Close(None)).await;
    stream.broken().await;
    for _ in 0..2 {
        let page: Unparked = bob.post(&server, "/device/unpark", &parked).await.ok();
        assert_eq!(page.rows.len(), MESSAGES);
    }
    let refusal = bob.post(&server, "/device/unpark", &parked).await;
    let refusal = refusal.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.traffic_kib"), "{}", refusal.error);
}
