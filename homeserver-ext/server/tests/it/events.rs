//! What happened: for members of a group, for the operator, and for nobody else.

use causeway_protocol::{
    api::{EventKind, EventPage},
    ids::{AccountId, Epoch, Seq, text_of},
    roster::Body,
};
use causeway_server::{TokenHash, admin::behind_token};
use serde_json::{Value, json};

use crate::harness::{Group, MONTH_MS, Person, Server, op_body};

const HOUR_MS: u64 = 3_600_000;

async fn events(server: &Server, person: &Person, query: &str) -> EventPage {
    person.get(server, &format!("/events{query}")).await.ok()
}

/// What a page says, in few words.
fn said(page: &EventPage) -> Vec<(EventKind, &str)> {
    page.events.iter().map(|event| (event.kind, event.account.localpart())).collect()
}

use EventKind::{
    GroupClosed, GroupCreated, GroupJoined, GroupLeft, KeyAsked, KeyFailed, KeyRotated,
    MessageExpired, RosterChanged,
};

#[tokio::test]
async fn members_know_what_happened_while_they_counted_and_nobody_else_anything() {
    let server = Server::start().await;
    let (mut group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let eve = server.person("eve").await;
    let hers = Group::create(&server, &eve).await;
    let mut policy = crate::harness::policy();
    policy.name = "supper".to_owned();
    group.post(&server, &alice, &Body::Policy(policy)).await;
    group.post(&server, &alice, &Body::Remove(vec![bob.member()])).await;
    group.post(&server, &alice, &Body::Role(carol.member(), 1)).await;
    group.post(&server, &carol, &Body::Close).await;
    let all = [
        (GroupCreated, "alice"),
        (GroupJoined, "bob"),
        (GroupJoined, "carol"),
        (RosterChanged, "alice"),
        (GroupLeft, "bob"),
        (RosterChanged, "carol"),
        (GroupClosed, "carol"),
    ];
    let of_alice = events(&server, &alice, "").await;
    assert_eq!(said(&of_alice), all);
    // Those who came in, from then on; who was taken out, until then.
    assert_eq!(said(&events(&server, &carol, "").await), all[1..]);
    assert_eq!(said(&events(&server, &bob, "").await), all[1..5]);
    let roles = &of_alice.events[5];
    let by = roles.about.by.as_ref().map(AccountId::localpart);
    assert_eq!((roles.about.op.as_deref(), by), (Some("role"), Some("alice")));
    assert_eq!(roles.about.epoch, Some(Epoch(4)));
    assert_eq!((of_alice.next, of_alice.gone), (None, None));
    // A stranger learns nothing, not even that there is such a group.
    assert_eq!(said(&events(&server, &eve, "").await), [(GroupCreated, "eve")]);
    let strange = format!("/events?group={}", group.id());
    let there = eve.get(&server, &strange).await;
    there.refused(404, "M_NOT_FOUND");
    let none = format!("/events?group={}", text_of(&[7; 32]));
    assert_eq!(eve.get(&server, &none).await.text(), there.text());
    eve.get(&server, &strange.replace("events", "events/stream")).await.refused(404, "M_NOT_FOUND");
    let own = events(&server, &eve, &format!("?group={}", hers.id())).await;
    assert_eq!(said(&own).len(), 1);
    for wrong in ["?group=x", "?from=-1", "?limit=0"] {
        alice.get(&server, &format!("/events{wrong}")).await.refused(400, "M_INVALID_PARAM");
    }
    // The same op again happened once.
    let last = group.ops.last().unwrap();
    alice.post(&server, &group.path("/roster"), &op_body(last)).await.ok::<Value>();
    assert_eq!(events(&server, &alice, "").await, of_alice);
}

#[tokio::test]
async fn pages_follow_each_other_over_a_restart_and_numbers_only_rise() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let other = Group::create(&server, &alice).await;
    let before = events(&server, &alice, "").await;
    let server = server.restart().await;
    assert_eq!(events(&server, &alice, "").await, before);
    let third = Group::create(&server, &alice).await;
    let (mut seen, mut from) = (Vec::new(), Some(Seq(0)));
    while let Some(next) = from {
        let page = events(&server, &alice, &format!("?limit=1&from={next}")).await;
        assert!(page.events.len() == 1 && page.events[0].id <= page.last);
        (from, seen) = (page.next, [seen, page.events].concat());
    }
    assert!(seen.is_sorted_by(|one, next| one.id < next.id));
    let groups: Vec<_> = seen.iter().map(|event| event.group).collect();
    assert_eq!(groups, [group.id(), group.id(), other.id(), third.id()]);
    assert_eq!(seen[..3], before.events);
    assert_eq!(said(&events(&server, &bob, "").await), [(GroupJoined, "bob")]);
}

#[tokio::test]
async fn what_goes_on_is_said_once_an_hour_and_what_expired_to_its_sender_alone() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let path = group.path("/sender-keys");
    let report = |tags: &[u8], failed: u32| {
        let keys = tags
            .iter()
            .map(|tag| json!({ "tag": text_of(&[*tag; 4]), "sender": bob.device(), "epoch": 1 }));
        json!({ "keys": keys.collect::<Vec<_>>(), "failures": { "hold_chain": failed } })
    };
    for (tags, failed) in [(&[1][..], 0), (&[1, 2], 3), (&[1, 2], 0), (&[2, 3], 2)] {
        bob.put(&server, &path, &report(tags, failed)).await.ok::<Value>();
    }
    alice.delete(&server, &path).await.done();
    let page = events(&server, &alice, "?from=0").await;
    let after = page.last;
    let said_of_keys: Vec<_> =
        page.events[2..].iter().map(|event| (event.kind, event.about.count.unwrap())).collect();
    assert_eq!(said_of_keys, [(KeyRotated, 3), (KeyFailed, 5), (KeyAsked, 1)]);
    server.pass_ms(HOUR_MS);
    bob.put(&server, &path, &report(&[9], 0)).await.ok::<Value>();
    let page = events(&server, &alice, &format!("?from={}", after.0 + 1)).await;
    assert_eq!(page.events[0].about.count, Some(1), "an hour later it is said anew");
    // What two said that nobody read.
    let said_by = |person: &Person| {
        let mut message = person.message(group.id(), 1, person.account.localpart());
        message.ttl_ms = 1_000;
        message
    };
    for (person, count) in [(&alice, 1), (&bob, 1)] {
        let accepted: Value = person.submit(&server, vec![said_by(person)]).await.ok();
        assert_eq!(accepted["accepted"][0]["recipients"], count);
    }
    server.pass_ms(1_000);
    server.app.upkeep().await.unwrap();
    for person in [&alice, &bob] {
        let page = events(&server, person, &format!("?from={}", after.0 + 2)).await;
        let [only] = &page.events[..] else { panic!("{page:?}") };
        assert_eq!((only.kind, only.account.as_str()), (MessageExpired, person.account.as_str()));
        assert_eq!(
            (only.about.count, only.about.envelope),
            (Some(1), Some(said_by(person).name()))
        );
    }
}

#[tokio::test]
async fn events_are_gone_after_a_week_and_beyond_a_thousand_and_that_is_said() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let other = Group::create(&server, &alice).await;
    let until = events(&server, &alice, "").await.last;
    server.pass_ms(7 * 24 * HOUR_MS);
    server.app.upkeep().await.unwrap();
    assert_eq!(events(&server, &alice, "").await.events.len(), 3, "a week old");
    server.pass_ms(1);
    group.post(&server, &alice, &Body::Remove(vec![bob.member()])).await;
    server.app.upkeep().await.unwrap();
    let page = events(&server, &alice, "").await;
    assert_eq!(said(&page), [(GroupLeft, "bob")]);
    assert_eq!(page.gone, Some(until));
    let of_other = events(&server, &alice, &format!("?group={}", other.id())).await;
    assert_eq!((of_other.events.len(), of_other.gone), (0, Some(until)));
    let later = events(&server, &alice, &format!("?from={}", until.0 + 1)).await;
    assert_eq!(later.gone, None, "from there on nothing is missing");
    let server = server.restart().await;
    assert_eq!(events(&server, &alice, "").await.gone, Some(until));
    let first = events(&server, &alice, "").await.last.0 + 1;
    server.log_events(first, 1_004).await;
    server.app.upkeep().await.unwrap();
    let page = events(&server, &alice, "?limit=1000").await;
    assert_eq!((page.events.len(), page.next), (1_000, None));
    assert!(page.gone.unwrap() > until && page.gone.unwrap() < page.events[0].id);
    assert_eq!(page.events[0].id, Seq(first + 4));
    // Who was taken out before misses only what was his.
    let his = events(&server, &bob, "").await;
    assert!(his.events.is_empty() && his.gone.unwrap() < page.events[0].id);
}

#[tokio::test]
async fn the_operator_sees_what_happened_in_all_groups() {
    let server = Server::start().await;
    let (group, [alice, _bob]) = server.group(["alice", "bob"]).await;
    let eve = server.person("eve").await;
    Group::create(&server, &eve).await;
    let mut message = alice.message(group.id(), 1, "nobody reads this");
    message.ttl_ms = MONTH_MS;
    alice.submit(&server, vec![message]).await.ok::<Value>();
    server.pass_ms(MONTH_MS);
    server.app.upkeep().await.unwrap();
    Group::create(&server, &eve).await;
    let admin = behind_token(server.app.admin(), TokenHash::of("right"));
    let (_serving, base) = crate::admin::served(admin).await;
    let get = async |query: &str, token| {
        crate::admin::get(&server, &format!("{base}/events{query}"), token).await
    };
    assert_eq!(get("", None).await.0, 401);
    assert_eq!(get("/stream", Some("wrong")).await.0, 403);
    let (status, page) = get("", Some("right")).await;
    assert_eq!(status, 200, "{page}");
    let page: EventPage = serde_json::from_value(page).unwrap();
    // What is older than a week is gone, and that is said.
    assert_eq!(said(&page), [(MessageExpired, "alice"), (GroupCreated, "eve")]);
    assert!(page.gone.is_some_and(|gone| gone < page.events[0].id));
    let of_one = format!("?group={}&limit=1", group.id());
    let (_, page) = get(&of_one, Some("right")).await;
    assert_eq!(
        (&page["events"][0]["kind"], &page["next"]),
        (&json!("message.expired"), &Value::Null)
    );
    let after = page["last"].as_u64().unwrap();
    let (_, page) = get(&format!("?after={after}"), Some("right")).await;
    assert_eq!((&page["events"], &page["gone"]), (&json!([]), &Value::Null));
    let url = base.replace("/events", "") + "/stats";
    let (code, numbers) = crate::admin::get(&server, &url, Some("right")).await;
    assert_eq!(code, 200, "{numbers}");
    let both = |name: &str| (numbers[name].as_u64(), numbers["last_24_hours"][name].as_u64());
    assert_eq!(both("groups_created"), (Some(3), Some(1)), "{numbers}");
    assert_eq!(both("messages_published"), (Some(1), Some(0)));
    assert_eq!(both("messages_expired"), (Some(1), Some(1)));
    assert_eq!(both("messages_cleaned"), (Some(1), Some(1)));
    assert_eq!(both("members_joined"), (Some(4), Some(1)));
    assert_eq!(
        (numbers["groups"].as_u64(), numbers["users_subscribed"].as_u64()),
        (Some(3), Some(4))
    );
    for (query, status) in [("?limit=0", 400), (&format!("?group={}", text_of(&[7; 32])), 404)] {
        assert_eq!(get(query, Some("right")).await.0, status, "{query}");
    }
}

#[tokio::test]
async fn a_message_is_kept_no_longer_than_the_server_says() {
    let hour = std::time::Duration::from_hours(1);
    let server = Server::start_with(|config| config.max_message_ttl = hour).await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    alice.say(&server, &group, &["one"]).await;
    let info: Value = alice.get(&server, "/server").await.ok();
    assert_eq!(info["limits"]["max_ttl_ms"], json!(HOUR_MS));
    for (ms, kinds) in [(HOUR_MS - 1, 2), (1, 3)] {
        server.pass_ms(ms);
        server.app.upkeep().await.unwrap();
        assert_eq!(events(&server, &alice, "").await.events.len(), kinds);
    }
    assert_eq!(said(&events(&server, &bob, "").await), [(GroupJoined, "bob")]);
}
