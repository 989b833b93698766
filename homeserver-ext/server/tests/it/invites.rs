use std::collections::BTreeSet;

use causeway_protocol::{
    api::{AccountDevices, InvitePage, JoinPending, NewInvite, RequestPage},
    device::DeviceRecord,
    envelope::Kind,
    ids::{InviteKey, Timestamp},
    invite::Join,
    roster::{Body, Policy},
};
use causeway_server::{AccountQuotas, Quota};
use ed25519_dalek::SigningKey;

use crate::harness::{Group, Person, Server, list, op_body, policy, record, signing_key};

async fn invite(server: &Server, by: &Person, group: &Group, uses: u32, ms: u64) -> SigningKey {
    let ik = signing_key();
    let body = terms(&ik, server.now().plus_ms(ms), uses);
    by.post(server, &group.path("/invites"), &body).await.done();
    ik
}

fn terms(ik: &SigningKey, expires_ms: Timestamp, uses: u32) -> NewInvite {
    NewInvite { ik_pub: InviteKey::new(ik.verifying_key().to_bytes()), expires_ms, uses }
}

fn invite_path(group: &Group, ik: &SigningKey) -> String {
    group.path(&format!("/invites/{}", InviteKey::new(ik.verifying_key().to_bytes())))
}

#[tokio::test]
async fn one_who_holds_a_link_asks_and_those_who_may_admit_are_told() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let carol = server.person("carol").await;
    let ik = invite(&server, &alice, &group, 1, 60_000).await;
    let join = carol.join(&server, group.id(), &ik);
    let pending: JoinPending = carol.post_join(&server, group.id(), &join).await.ok();
    assert_eq!(pending.id, join.id().unwrap());
    // The same again: the same answer, no further use, no further row.
    let again: JoinPending = carol.post_join(&server, group.id(), &join).await.ok();
    assert_eq!(again, pending);

    let mut stream = alice.stream(&server).await;
    let rows = stream.take(3).await;
    let envelope = &rows[2].envelope;
    assert_eq!((envelope.kind, envelope.check()), (Kind::Join, Ok(())));
    assert_eq!(envelope.payload, join.to_bytes().unwrap());
    let page: RequestPage = alice.get(&server, &group.path("/requests")).await.ok();
    assert_eq!((page.requests.len(), page.requests[0].id), (1, pending.id));
    let invites: InvitePage = alice.get(&server, &group.path("/invites")).await.ok();
    assert_eq!((invites.invites[0].used, invites.invites[0].uses), (1, 1));

    // Bob, a plain member, may not admit: no row, no list.
    bob.get(&server, &group.path("/requests")).await.refused(403, "M_FORBIDDEN");
    bob.get(&server, &group.path("/invites")).await.refused(403, "M_FORBIDDEN");
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    let rows = bob.stream(&server).await.take(2).await;
    assert!(rows.iter().all(|row| row.envelope.kind == Kind::Roster));
    let page: RequestPage = alice.get(&server, &group.path("/requests")).await.ok();
    assert!(page.requests.is_empty(), "an admitted request does not wait any more");
    alice.say(&server, &group, &["welcome"]).await;
    assert_eq!(carol.stream(&server).await.texts(1).await, ["welcome"]);

    // In, and the link is used up: for her there is nothing to ask for, for others nothing left.
    let again = carol.join(&server, group.id(), &ik);
    carol.post_join(&server, group.id(), &again).await.refused(409, "DEV_CAUSEWAY_ALREADY_MEMBER");
    let dave = server.person("dave").await;
    let late = dave.join(&server, group.id(), &ik);
    dave.post_join(&server, group.id(), &late).await.refused(410, "DEV_CAUSEWAY_USED");
}

#[tokio::test]
async fn where_members_may_add_they_are_told_and_the_bridge_is_not() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    group.post(&server, &alice, &Body::Policy(Policy { add_by: 1, ..policy() })).await;
    let ik = invite(&server, &bob, &group, 2, 60_000).await;
    let carol = server.person("carol").await;
    let join = carol.join(&server, group.id(), &ik);
    carol.post_join(&server, group.id(), &join).await.ok::<JoinPending>();
    for (member, rows) in [(&alice, 4), (&bob, 3)] {
        let last = member.stream(&server).await.take(rows).await.pop().unwrap();
        assert_eq!(last.envelope.kind, Kind::Join);
    }
    // Bob may take back his own; an admin anybody's.
    let hers = invite(&server, &alice, &group, 2, 60_000).await;
    bob.delete(&server, &invite_path(&group, &hers)).await.refused(403, "M_FORBIDDEN");
    alice.delete(&server, &invite_path(&group, &ik)).await.done();
}

#[tokio::test]
async fn a_hundred_at_once_with_three_uses_are_three() {
    let server = Server::start().await;
    let (group, [alice]) = server.group(["alice"]).await;
    let ik = invite(&server, &alice, &group, 3, 60_000).await;
    let mut people = Vec::new();
    for n in 0..100 {
        people.push(server.person(&format!("p{n}")).await);
    }
    let asks = people.iter().map(async |person| {
        let join = person.join(&server, group.id(), &ik);
        person.post_join(&server, group.id(), &join).await
    });
    let answers = futures_util::future::join_all(asks).await;
    let (let_in, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status.is_success());
    assert_eq!(let_in.len(), 3);
    for answer in refused {
        answer.refused(410, "DEV_CAUSEWAY_USED");
    }
    let page: RequestPage = alice.get(&server, &group.path("/requests")).await.ok();
    assert_eq!(page.requests.len(), 3);
}

#[tokio::test]
async fn one_identity_takes_one_use_however_often_it_asks() {
    let server = Server::start().await;
    let (group, [alice]) = server.group(["alice"]).await;
    let ik = invite(&server, &alice, &group, 1, 3_600_000).await;
    let carol = server.person("carol").await;
    for _ in 0..3 {
        let join = carol.join(&server, group.id(), &ik);
        carol.post_join(&server, group.id(), &join).await.ok::<JoinPending>();
        server.pass_ms(400_000);
    }
    let page: RequestPage = alice.get(&server, &group.path("/requests")).await.ok();
    assert_eq!(page.requests.len(), 1, "the newest stands for all");
    alice.delete(&server, &group.path(&format!("/requests/{}", page.requests[0].id))).await.done();
    alice.delete(&server, &group.path(&format!("/requests/{}", page.requests[0].id))).await.done();
}

/// Without the link's key every answer is the same; with it one learns what is wrong.
#[tokio::test]
async fn strangers_learn_nothing_and_holders_the_reason() {
    let server = Server::start().await;
    let (mut group, [alice]) = server.group(["alice"]).await;
    let (other, [_]) = server.group(["olga"]).await;
    let carol = server.person("carol").await;
    let ik = invite(&server, &alice, &group, 9, 3_600_000).await;
    let good = carol.join(&server, group.id(), &ik);
    let before = server.rows().await;

    let id = group.id();
    let post = async |join: &Join| carol.post_join(&server, id, join).await;
    let unsigned = |change: &dyn Fn(&mut Join)| {
        let mut join = good.clone();
        change(&mut join);
        join
    };
    let signed = |change: &dyn Fn(&mut Join)| {
        let mut join = good.clone();
        change(&mut join);
        carol.sign_join(&mut join, &ik);
        join
    };
    let unknown = signing_key();
    let mut texts = std::collections::BTreeSet::new();
    let mut stranger = |answer: crate::harness::Answer| {
        answer.refused(404, "M_NOT_FOUND");
        texts.insert(answer.text());
    };
    stranger(post(&unsigned(&|join| join.now.0 += 1)).await);
    stranger(post(&unsigned(&|join| join.account = "x".into())).await);
    stranger(post(&unsigned(&|join| join.ik_signature = join.device_signature)).await);
    stranger(post(&carol.join(&server, group.id(), &unknown)).await);
    // It would go as it is to all who may admit, and what is too long for a mailbox stops it.
    let many = (0..64_u8).map(|n| causeway_protocol::ids::DeviceId::new([n; 32]));
    stranger(post(&signed(&|join| join.devices.ids.extend(many.clone()))).await);
    let nowhere = causeway_protocol::ids::GroupId::new([9; 32]);
    stranger(carol.post_join(&server, nowhere, &good).await);
    stranger(carol.post_join(&server, other.id(), &good).await);
    let mut bytes = good.to_bytes().unwrap();
    bytes.push(0);
    for bytes in [&bytes[..], &bytes[..20], &[]] {
        let body = serde_json::json!({ "request": causeway_protocol::ids::text_of(bytes) });
        stranger(carol.post(&server, &group.path("/join"), &body).await);
    }
    assert_eq!(texts.len(), 1, "{texts:?}");

    let told = async |join: &Join, reason: &str| {
        let refusal = post(join).await.refused(400, "DEV_CAUSEWAY_BAD_REQUEST");
        assert!(refusal.error.contains(reason), "{} / {reason}", refusal.error);
    };
    told(&signed(&|join| join.group = other.id()), "wrong_group").await;
    told(&unsigned(&|join| join.device_signature = join.ik_signature), "bad_device_signature")
        .await;
    told(&signed(&|join| join.certificate = carol.record.signature), "bad_certificate").await;
    told(&signed(&|join| join.devices.ids = vec![alice.device()]), "device_not_listed").await;
    told(&signed(&|join| join.account = "Carol:a.example".into()), "bad_account").await;
    told(&signed(&|join| join.now.0 += 300_001), "stale_now").await;
    told(&signed(&|join| join.now.0 -= 300_001), "stale_now").await;
    // Somebody else's request, handed in by another device.
    let dave = server.person("dave").await;
    dave.post_join(&server, group.id(), &good).await.refused(403, "M_FORBIDDEN");
    let named = signed(&|join| join.account = "dave:a.example".into());
    post(&named).await.refused(403, "M_FORBIDDEN");
    let after = server.rows().await;
    let is_new_person = |row: &String| row.starts_with("accounts:") || row.starts_with("devices:");
    let joins = |rows: &[String]| {
        let is_of_joins = |row: &&String| {
            ["join_requests", "invite", "mailbox:", "envelopes"].iter().any(|t| row.starts_with(t))
        };
        rows.iter().filter(is_of_joins).cloned().collect::<Vec<_>>()
    };
    assert!(after.iter().any(is_new_person));
    assert_eq!(joins(&after), joins(&before), "nothing changed");

    alice.delete(&server, &invite_path(&group, &ik)).await.done();
    alice.delete(&server, &invite_path(&group, &ik)).await.done();
    let short = invite(&server, &alice, &group, 1, 1_000).await;
    let late = carol.join(&server, group.id(), &short);
    let full = invite(&server, &alice, &group, 1, 3_600_000).await;
    dave.post_join(&server, group.id(), &dave.join(&server, group.id(), &full))
        .await
        .ok::<JoinPending>();
    let too_many = carol.join(&server, group.id(), &full);
    let open = invite(&server, &alice, &group, 1, 3_600_000).await;
    server.pass_ms(1_001);
    let before = server.rows().await;
    post(&good).await.refused(410, "DEV_CAUSEWAY_REVOKED");
    post(&late).await.refused(410, "DEV_CAUSEWAY_EXPIRED");
    post(&too_many).await.refused(410, "DEV_CAUSEWAY_USED");
    server.assert_unchanged(&before).await;
    group.post(&server, &alice, &Body::Close).await;
    let before = server.rows().await;
    post(&carol.join(&server, group.id(), &open)).await.refused(410, "DEV_CAUSEWAY_CLOSED");
    server.assert_unchanged(&before).await;
}

#[tokio::test]
async fn invites_are_made_by_those_who_may_add_and_once() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let dave = server.person("dave").await;
    let (ik, now) = (signing_key(), server.now());
    let good = terms(&ik, now.plus_ms(60_000), 2);
    let path = group.path("/invites");
    bob.post(&server, &path, &good).await.refused(403, "M_FORBIDDEN");
    dave.post(&server, &path, &good).await.refused(404, "M_NOT_FOUND");
    alice.post(&server, &path, &terms(&ik, now, 2)).await.refused(400, "M_INVALID_PARAM");
    alice
        .post(&server, &path, &terms(&ik, now.plus_ms(9), 0))
        .await
        .refused(400, "M_INVALID_PARAM");
    let weak = NewInvite { ik_pub: InviteKey::new([0; 32]), ..good };
    alice.post(&server, &path, &weak).await.refused(400, "M_INVALID_PARAM");
    let body = serde_json::json!({
        "ik_pub": causeway_protocol::ids::text_of(&[7; 33]), "expires_ms": now.0 + 9, "uses": 1
    });
    alice.post(&server, &path, &body).await.refused(400, "M_BAD_JSON");
    alice.post(&server, &path, &good).await.done();
    alice.post(&server, &path, &good).await.done();
    let other = terms(&ik, now.plus_ms(60_000), 3);
    alice.post(&server, &path, &other).await.refused(400, "M_INVALID_PARAM");
    alice.delete(&server, &invite_path(&group, &signing_key())).await.refused(404, "M_NOT_FOUND");
    // For ever is a time like any other, also when it is said twice.
    let for_ever = terms(&signing_key(), Timestamp(u64::MAX), u32::MAX);
    alice.post(&server, &path, &for_ever).await.done();
    alice.post(&server, &path, &for_ever).await.done();
    alice.delete(&server, &group.path(&format!("/invites/{}", for_ever.ik_pub))).await.done();
    let page: InvitePage = alice.get(&server, &path).await.ok();
    assert_eq!((page.invites.len(), page.invites[0].used), (2, 0));
}

#[tokio::test]
async fn whoever_made_an_invite_takes_it_back_also_when_he_is_out() {
    let server = Server::start().await;
    let (mut group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let policy = Policy { add_by: 1, ..policy() };
    group.post(&server, &alice, &Body::Policy(policy)).await;
    let ik = invite(&server, &bob, &group, 1, 60_000).await;
    group.post(&server, &alice, &Body::Remove(vec![bob.member(), carol.member()])).await;
    // Carol, who is out too, does not, and learns nothing of it.
    carol.delete(&server, &invite_path(&group, &ik)).await.refused(404, "M_NOT_FOUND");
    for _ in 0..2 {
        bob.delete(&server, &invite_path(&group, &ik)).await.done();
    }
    let page: InvitePage = alice.get(&server, &group.path("/invites")).await.ok();
    assert!(page.invites[0].revoked);
}

/// The account with 64 devices.
async fn with_many_devices(server: &Server, person: &Person) -> Person {
    let new = (0..63).map(|_| record(&person.identity, &signing_key()));
    let mut devices: Vec<DeviceRecord> = new.chain([person.record.clone()]).collect();
    devices.sort_by_key(|record| record.device_id);
    let ids = devices.iter().map(|record| record.device_id).collect();
    let list = list(&person.identity, &person.account, person.list.version + 1, ids);
    let body = AccountDevices { list: list.clone(), devices };
    person.put(server, "/account/devices", &body).await.done();
    Person { list, ..person.clone() }
}

/// To whom requests to join were put down, as they stand in the rows.
async fn told(server: &Server) -> BTreeSet<String> {
    let rows = server.rows().await.into_iter().filter(|row| row.starts_with("envelopes:"));
    let fields = |row: String| row.split(',').map(str::to_owned).collect::<Vec<_>>();
    let joins = rows.map(fields).filter(|fields| fields[2] == "17");
    joins.map(|fields| fields[6].clone()).collect()
}

#[tokio::test]
async fn where_very_many_may_admit_some_are_told_of_a_request_and_of_another_others() {
    let accounts = AccountQuotas { devices: 64, ..AccountQuotas::default() };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [alice]) = server.group(["alice"]).await;
    let open = Policy { add_by: 1, ..policy() };
    group.post(&server, &alice, &Body::Policy(open)).await;
    let mut members = Vec::new();
    for n in 0..9 {
        let person = server.person(&format!("member{n}")).await;
        members.push(with_many_devices(&server, &person).await);
    }
    for some in members.chunks(8) {
        let entries = some.iter().map(|member| member.entry(0)).collect();
        group.post(&server, &alice, &Body::Add(entries)).await;
    }
    let ik = invite(&server, &members[0], &group, 5, 60_000).await;
    let mut told_so_far = 0;
    // Whom the next request leaves out may be whom the last one did, but not each time.
    for (name, most) in [("carol", 512), ("dave", 577), ("erin", 577), ("fay", 577), ("gus", 577)] {
        let person = server.person(name).await;
        let join = person.join(&server, group.id(), &ik);
        person.post_join(&server, group.id(), &join).await.ok::<JoinPending>();
        let told = told(&server).await;
        assert!((512..=most).contains(&told.len()), "{name}: {}", told.len());
        told_so_far = told.len();
        let ids = members[0].list.devices.iter().copied().chain([alice.device()]);
        for device in ids {
            let device = format!("X'{}'", hex::encode_upper(device));
            assert!(told.contains(&device), "the link's maker, and admins, always");
        }
    }
    assert!(told_so_far > 512, "others are told of another request");
}

#[tokio::test]
async fn an_op_moves_as_many_devices_as_one_transaction_takes_and_each_counts() {
    let accounts = AccountQuotas {
        devices: 64,
        op_kib: Some(Quota::per_minute(1, 600)),
        ..AccountQuotas::default()
    };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    group.post(&server, &alice, &Body::Role(bob.member(), 1)).await;
    let mut members = Vec::new();
    for n in 0..9 {
        let person = server.person(&format!("member{n}")).await;
        members.push(with_many_devices(&server, &person).await);
    }
    let add = |members: &[Person]| Body::Add(members.iter().map(|one| one.entry(0)).collect());
    let path = group.path("/roster");
    let refused = group.op(&alice, &add(&members));
    let refusal = alice.post(&server, &path, &op_body(&refused)).await;
    assert!(refusal.refused(413, "M_TOO_LARGE").error.contains("576 devices"));
    group.post(&server, &alice, &add(&members[..8])).await;
    let last = group.op(&alice, &add(&members[8..]));
    let refusal = alice.post(&server, &path, &op_body(&last)).await;
    assert!(refusal.refused(429, "M_LIMIT_EXCEEDED").error.contains("limits.op_kib"));
    // Another has a share of his own.
    group.post(&server, &bob, &add(&members[8..])).await;
    let all = members.iter().map(Person::member).collect();
    let refused = group.op(&bob, &Body::Remove(all));
    bob.post(&server, &path, &op_body(&refused)).await.refused(413, "M_TOO_LARGE");
    group.post(&server, &bob, &Body::Remove(vec![members[0].member()])).await;
}
