use causeway_protocol::{
    api::{GroupHead, GroupPage, OpPage},
    envelope::Kind,
    ids::{Epoch, Timestamp, text_of},
    roster::{Body, Devices, Entry, Invalid, Op, OpCore, Policy},
};
use serde_json::json;

use crate::harness::{Group, Person, SERVER, Server, op_body, policy};

#[tokio::test]
async fn a_group_moves_on_op_by_op_and_everyone_concerned_is_told() {
    let server = Server::start().await;
    let (mut group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    group.post(&server, &alice, &Body::Remove(vec![carol.member()])).await;
    group.post(&server, &bob, &Body::Leave).await;

    // Alice: all four. Bob: from the op that added him to the one with which he left. Carol: to the
    // one that removed her.
    for (person, epochs) in [(&alice, 0..=3), (&bob, 1..=3), (&carol, 1..=2)] {
        let mut stream = person.stream(&server).await;
        for (epoch, row) in epochs.clone().zip(stream.take(epochs.count()).await) {
            let envelope = row.envelope;
            assert_eq!(envelope.check(), Ok(()));
            assert_eq!((envelope.kind, envelope.epoch), (Kind::Roster, Epoch(epoch)));
            assert_eq!(envelope.payload, group.ops[epoch as usize].as_bytes());
        }
    }

    // Who was taken out reads the log up to that op, and no further; strangers nothing.
    assert_eq!(group.read_ops(&server, &alice).await.ops.len(), 4);
    let page = group.read_ops(&server, &carol).await;
    assert_eq!((page.ops.len(), page.epoch, page.next), (3, Epoch(2), None));
    let dave = server.person("dave").await;
    dave.get(&server, &group.path("/roster")).await.refused(404, "M_NOT_FOUND");
    dave.get(&server, &group.path("")).await.refused(404, "M_NOT_FOUND");
    carol.get(&server, &group.path("")).await.refused(404, "M_NOT_FOUND");

    let page: OpPage = alice.get(&server, &group.path("/roster?from=1&limit=2")).await.ok();
    assert_eq!((page.ops.len(), page.epoch, page.next), (2, Epoch(3), Some(Epoch(3))));
    assert_eq!(page.ops[0].0, group.ops[1].as_bytes());
    let head: GroupHead = alice.get(&server, &group.path("")).await.ok();
    assert_eq!((head.epoch, head.members, head.name.as_str()), (Epoch(3), 1, "tea"));
}

/// An op says nothing about who may know what came after it.
#[tokio::test]
async fn who_posts_an_op_of_before_learns_no_more_of_the_group_than_he_may_read() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    group.post(&server, &bob, &Body::Leave).await;
    let renamed = Policy { name: "secret".into(), ..policy() };
    group.post(&server, &alice, &Body::Policy(renamed)).await;
    let dave = server.person("dave").await;
    let (begin, leave) = (op_body(&group.ops[0]), op_body(&group.ops[2]));
    let before = server.rows().await;

    for (path, op) in [("/groups", &begin), (&*group.path("/roster"), &leave)] {
        dave.post(&server, path, op).await.refused(404, "M_NOT_FOUND");
        // Who posts again what he is not sure of hears that it is there, and where that left the
        // group.
        let head: GroupHead = bob.post(&server, path, op).await.ok();
        assert_eq!((head.epoch, head.members, &*head.name), (Epoch(2), 0, ""));
        assert_eq!(head.roster_hash, group.ops[3].prev());
        let head: GroupHead = alice.post(&server, path, op).await.ok();
        assert_eq!((head.epoch, head.members, &*head.name), (Epoch(3), 1, "secret"));
    }
    server.assert_unchanged(&before).await;
}

/// Whoever is named over another's keys would be read in that name.
#[tokio::test]
async fn an_op_names_accounts_as_they_are_registered() {
    let server = Server::start().await;
    let (mut group, [alice, mallory]) = server.group(["alice", "mallory"]).await;
    group.post(&server, &alice, &Body::Role(mallory.member(), 1)).await;
    let carol = server.person("carol").await;
    let before = server.rows().await;

    // Mallory's keys under Alice's name, and under nobody's, begin no group.
    for name in ["alice", "nobody"] {
        let account = format!("{name}:{SERVER}").parse().unwrap();
        let create = Group::first_op(&Person { account, ..mallory.clone() });
        let answer = mallory.post(&server, "/groups", &op_body(&create)).await;
        let refusal = answer.refused(400, "DEV_CAUSEWAY_UNREGISTERED");
        assert!(refusal.error.contains(name), "{}", refusal.error);
    }
    // Nor are they let in: somebody of no account, one of another's identity, one with other devices,
    // one of another server.
    let mine = Person::new("carol");
    let other = Person { account: "carol:c.example".parse().unwrap(), ..carol.clone() };
    let entries = [
        Person::new("nobody").entry(0),
        mine.entry(0),
        Entry { devices: mine.devices(), ..carol.entry(0) },
        Entry { devices: Devices { version: 2, ..carol.devices() }, ..carol.entry(0) },
        other.entry(0),
    ];
    for entry in entries {
        let name = entry.account.clone();
        let op = group.op(&mallory, &Body::Add(vec![entry]));
        let answer = mallory.post(&server, &group.path("/roster"), &op_body(&op)).await;
        let refusal = answer.refused(400, "DEV_CAUSEWAY_UNREGISTERED");
        assert!(refusal.error.contains(&name), "{}", refusal.error);
    }
    let devices = Devices { version: 2, ids: mine.devices().ids };
    let op = group.op(&mallory, &Body::Devices(devices));
    let answer = mallory.post(&server, &group.path("/roster"), &op_body(&op)).await;
    answer.refused(400, "DEV_CAUSEWAY_UNREGISTERED");
    server.assert_unchanged(&before).await;
}

/// Between asking for a list and posting an op another may take its place.
#[tokio::test]
async fn a_list_that_was_replaced_less_than_a_day_ago_will_do() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    for (ms, is_taken) in [(DAY_MS, true), (DAY_MS + 1, false)] {
        let server = Server::start().await;
        let alice = server.person("alice").await;
        let mut group = Group::create(&server, &alice).await;
        let carol = server.person("carol").await;
        carol.second_device(&server).await;
        server.pass_ms(ms);
        let op = group.op(&alice, &Body::Add(vec![carol.entry(0)]));
        let answer = alice.post(&server, &group.path("/roster"), &op_body(&op)).await;
        if is_taken {
            answer.ok::<GroupHead>();
            group.install(op);
        } else {
            answer.refused(400, "DEV_CAUSEWAY_UNREGISTERED");
        }
    }
}

/// Whoever signs lists without end keeps nobody's ops waiting.
#[tokio::test]
async fn of_the_lists_of_a_day_the_last_sixteen_will_do() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let group = Group::create(&server, &alice).await;
    let carol = server.person("carol").await;
    let mut lists = vec![carol.clone()];
    for _ in 0..17 {
        server.pass_ms(1);
        let newest = lists.last().unwrap().list.clone();
        let next = Person { list: newest, ..carol.clone() }.second_device(&server).await;
        lists.push(next);
    }
    let add = async |place: usize| {
        let op = group.op(&alice, &Body::Add(vec![lists[place].entry(0)]));
        alice.post(&server, &group.path("/roster"), &op_body(&op)).await
    };
    add(0).await.refused(400, "DEV_CAUSEWAY_UNREGISTERED");
    add(1).await.ok::<GroupHead>();
}

#[tokio::test]
async fn the_same_op_again_is_answered_again_whoever_posts_it() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let create = op_body(&group.ops[0]);
    alice.post(&server, "/groups", &create).await.ok::<GroupHead>();
    bob.post(&server, "/groups", &create).await.ok::<GroupHead>();
    let op = group.op(&alice, &Body::Policy(Policy { name: "coffee".into(), ..policy() }));
    for person in [&bob, &alice, &bob] {
        let head: GroupHead =
            person.post(&server, &group.path("/roster"), &op_body(&op)).await.ok();
        assert_eq!((head.epoch, head.name.as_str()), (Epoch(2), "coffee"));
    }
    group.install(op);
    let mut stream = alice.stream(&server).await;
    let kinds: Vec<_> = stream.take(3).await.iter().map(|row| row.envelope.kind).collect();
    assert_eq!(kinds, [Kind::Roster; 3], "one row for each op");
    alice.say(&server, &group, &["x"]).await;
}

#[tokio::test]
async fn a_stale_op_brings_what_is_missing() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let before = group.clone();
    group.post(&server, &alice, &Body::Role(bob.member(), 1)).await;
    group.post(&server, &alice, &Body::Policy(Policy { name: "coffee".into(), ..policy() })).await;
    let stale = before.op(&bob, &Body::Leave);
    let path = group.path("/roster");
    let post = async |person: &Person, op: &Op| person.post(&server, &path, &op_body(op)).await;
    let refusal = post(&bob, &stale).await.refused(409, "M_STALE_EPOCH");
    assert_eq!(refusal.epoch, Some(Epoch(3)));
    let ops: Vec<_> = refusal.ops.unwrap().into_iter().map(|op| op.0).collect();
    assert_eq!(ops, group.ops[2..].iter().map(|op| op.as_bytes().to_vec()).collect::<Vec<_>>());
    // Strangers are not told that there is a group.
    let dave = server.person("dave").await;
    post(&dave, &stale).await.refused(404, "M_NOT_FOUND");

    // The right epoch on another roster: the histories differ, and the head shows how.
    let mut other = before.clone();
    other.install(other.op(&alice, &Body::Role(bob.member(), 1)));
    let mut core = OpCore::next(
        &other.roster,
        &alice.record,
        Timestamp(9),
        &Body::Policy(Policy { name: "cocoa".into(), ..policy() }),
    )
    .unwrap();
    core.epoch = Epoch(4);
    let forked = alice.seal_op(core);
    let refusal = post(&alice, &forked).await.refused(409, "M_STALE_EPOCH");
    assert_eq!(refusal.epoch, Some(Epoch(3)));
    assert_eq!(refusal.ops.unwrap()[0].0, group.ops[3].as_bytes());

    // A client that is ahead learns that it is.
    let mut ahead = group.clone();
    ahead.install(ahead.op(&alice, &Body::Policy(policy())));
    let next = ahead.op(&alice, &Body::Close);
    let refusal = post(&alice, &next).await.refused(409, "M_STALE_EPOCH");
    assert_eq!((refusal.epoch, refusal.ops.unwrap().len()), (Some(Epoch(3)), 0));

    // Nor whether it has ended.
    group.post(&server, &alice, &Body::Close).await;
    post(&dave, &stale).await.refused(404, "M_NOT_FOUND");
    assert_eq!(post(&bob, &stale).await.refused(409, "M_STALE_EPOCH").epoch, Some(Epoch(4)));
}

#[tokio::test]
async fn a_server_that_lost_ops_gets_them_back_from_any_member() {
    let first = Server::start().await;
    let (mut group, [alice, bob]) = first.group(["alice", "bob"]).await;
    group.post(&first, &alice, &Body::Role(bob.member(), 1)).await;
    // Another server of the same name, where nobody has ever heard of the group.
    let second = Server::start().await;
    let register = async |person: &Person| {
        let body = crate::harness::json(&person.registration(crate::harness::TOKEN));
        let answer = second.send(reqwest::Method::POST, "/register", None, body).await;
        person.clone().with_token(answer.ok::<causeway_protocol::api::Session>().access_token)
    };
    let bob = register(&bob).await;
    let alice = register(&alice).await;
    bob.post(&second, "/groups", &op_body(&group.ops[0])).await.ok::<GroupHead>();
    for op in &group.ops[1..] {
        bob.post(&second, &group.path("/roster"), &op_body(op)).await.ok::<GroupHead>();
    }
    let head: GroupHead = bob.get(&second, &group.path("")).await.ok();
    assert_eq!(head.roster_hash, group.roster.hash());
    bob.say(&second, &group, &["back"]).await;
    assert_eq!(alice.stream(&second).await.texts(1).await, ["back"]);
}

#[tokio::test]
async fn an_op_that_is_not_valid_changes_nothing() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let dave = server.person("dave").await;
    let op = |signer: &Person, body: Body| group.op(signer, &body);
    let mut forged = op(&alice, Body::Close).as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mut cut_off = op(&alice, Body::Close).as_bytes().to_vec();
    cut_off.pop();
    let bytes = |op: Op| op.as_bytes().to_vec();
    let cases = [
        (forged, Invalid::BadSignature),
        (cut_off, Invalid::BadLength),
        (vec![], Invalid::BadDomain),
        (bytes(op(&bob, Body::Close)), Invalid::NotAdmin),
        (bytes(op(&bob, Body::Remove(vec![carol.member()]))), Invalid::NotAdmin),
        (bytes(op(&dave, Body::Leave)), Invalid::SignerNotMember),
        (bytes(op(&alice, Body::Leave)), Invalid::NoAdminLeft),
        (bytes(op(&alice, Body::Add(vec![bob.entry(0)]))), Invalid::AlreadyMember),
        (bytes(op(&alice, Body::Remove(vec![dave.member()]))), Invalid::TargetAbsent),
        (bytes(op(&alice, Body::Policy(Policy { ttl_s: 59, ..policy() }))), Invalid::BadTtl),
        (group.ops[0].as_bytes().to_vec(), Invalid::CreateInside),
    ];
    for (bytes, reason) in cases {
        let body = json!({ "op": text_of(&bytes) });
        let answer = alice.post(&server, &group.path("/roster"), &body).await;
        if reason == Invalid::CreateInside {
            // The very create of this group is in the log: known, not refused.
            answer.ok::<GroupHead>();
            continue;
        }
        let refusal = answer.refused(400, "DEV_CAUSEWAY_INVALID_OP");
        assert!(refusal.error.contains(reason.reason()), "{} / {reason:?}", refusal.error);
    }
    let other = Group::create(&server, &alice).await;
    let body = op_body(&other.op(&alice, &Body::Close));
    let answer = alice.post(&server, &group.path("/roster"), &body).await;
    assert!(answer.refused(400, "DEV_CAUSEWAY_INVALID_OP").error.contains("wrong_group"));
    let head: GroupHead = alice.get(&server, &group.path("")).await.ok();
    assert_eq!(head.roster_hash, group.roster.hash());
}

#[tokio::test]
async fn a_group_of_another_server_is_not_begun_here() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let mut foreign = Person::new("mallory");
    foreign.account = "mallory:b.example".parse().unwrap();
    let body = op_body(&Group::first_op(&foreign));
    alice.post(&server, "/groups", &body).await.refused(403, "M_FORBIDDEN");
    let group = Group::create(&server, &alice).await;
    let not_a_create = op_body(&group.op(&alice, &Body::Close));
    alice.post(&server, "/groups", &not_a_create).await.refused(400, "DEV_CAUSEWAY_INVALID_OP");
}

#[tokio::test]
async fn one_s_groups_come_in_pages() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(Group::create(&server, &alice).await.id());
    }
    ids.sort();
    let (mut found, mut from) = (Vec::new(), String::new());
    loop {
        let page: GroupPage = alice.get(&server, &format!("/groups?limit=2{from}")).await.ok();
        found.extend(page.groups.iter().map(|head| head.group));
        let Some(next) = page.next else { break };
        from = format!("&from={next}");
    }
    assert_eq!(found, ids);
}
