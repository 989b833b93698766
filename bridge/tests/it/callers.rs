//! Natives who call, in the rooms of their groups: on a homeserver that does as it is told, whatever dies.

use std::collections::BTreeSet;

use causeway_bridge::{
    domain::caller::CALLER,
    steps::{Step, Steps},
    storage::callers,
};
use causeway_protocol::{
    api::{CallCap, CallIntent, SetCall, StartCall},
    ids::{CallId, GroupId},
};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use crate::{
    people::Person,
    stub::Rooms,
    world::{Running, World},
};

const CALL: CallId = CallId::new([7; 16]);
const FOCUS: &str = "https://b.example/livekit/jwt";

/// Who is shown as being in a call.
fn shown(rooms: &Rooms) -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    for event in rooms.events.iter().filter(|event| event["type"] == CALLER) {
        let sender = event["sender"].as_str().unwrap().to_owned();
        if event["content"].as_object().unwrap().is_empty() {
            shown.remove(&sender);
        } else {
            shown.insert(sender);
        }
    }
    shown
}

fn is_shown(names: &'static [&str], delays: usize) -> impl Fn(&Rooms) -> Option<()> {
    move |rooms| {
        let wanted = names.iter().map(|name| format!("@causeway_{name}:b.example")).collect();
        (shown(rooms) == wanted && rooms.delays.len() == delays).then_some(())
    }
}

async fn starts(person: &Person, group: GroupId) {
    let asked = StartCall {
        call: CALL,
        intent: CallIntent::Audio,
        caps: vec![CallCap::Mesh],
        may_degrade: false,
    };
    person.client.http().start_call(group, &asked).await.unwrap();
}

/// A group with a room, where calls are carried somewhere.
async fn bridged(world: &mut World, running: &Running, alice: &Person) -> GroupId {
    world.stub.look(|rooms| rooms.focus = Some(FOCUS.to_owned()));
    let group = alice.create_group("Walkers").await;
    alice.bridge(group, &["@al:x"]).await;
    let stub = world.stub.clone();
    world.during(running, stub.wait(|rooms| rooms.room_that_invites("@al:x"))).await;
    group
}

async fn no_row_is_left(running: &Running) {
    while !callers::all(&mut running.spine.db.read().await.unwrap()).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_calls_is_shown_and_nobody_is_left_behind_wherever_the_process_dies() {
    let stories = stream::iter(Step::OF_CALLS).map(is_dropped_at);
    stories.buffer_unordered(4).collect::<Vec<()>>().await;
}

async fn is_dropped_at(step: Step) {
    let mut world = World::new().await;
    let (alice, stub) = (world.person("alice").await, world.stub.clone());
    let steps = Steps::default();
    let mut sprung = Some(steps.set(step, 0));
    let mut running = world.begin(steps).await;
    let group = bridged(&mut world, &running, &alice).await;
    starts(&alice, group).await;
    if step != Step::ClearedCaller {
        world.during(&running, sprung.take().unwrap()).await.unwrap();
        running.drop_dead().await;
        running = world.begin(Steps::default()).await;
    }
    world.during(&running, stub.wait(is_shown(&["alice"], 1))).await;
    alice.client.http().leave_call(group, CALL).await.unwrap();
    if let Some(sprung) = sprung {
        world.during(&running, sprung).await.unwrap();
        running.drop_dead().await;
        running = world.begin(Steps::default()).await;
    }
    world.during(&running, stub.wait(is_shown(&[], 0))).await;
    world.during(&running, no_row_is_left(&running)).await;
    running.drop_dead().await;
}

#[tokio::test]
async fn whoever_left_while_nobody_listened_is_taken_out_at_the_next_start() {
    let mut world = World::new().await;
    let (alice, stub) = (world.person("alice").await, world.stub.clone());
    let running = world.begin(Steps::default()).await;
    let group = bridged(&mut world, &running, &alice).await;
    starts(&alice, group).await;
    world.during(&running, stub.wait(is_shown(&["alice"], 1))).await;
    running.drop_dead().await;
    alice.client.http().leave_call(group, CALL).await.unwrap();
    let running = world.begin(Steps::default()).await;
    world.during(&running, stub.wait(is_shown(&[], 0))).await;
    running.drop_dead().await;
}

#[tokio::test]
async fn whom_the_homeserver_took_out_is_shown_again() {
    let mut world = World::new().await;
    let (alice, stub) = (world.person("alice").await, world.stub.clone());
    let running = world.begin(Steps::default()).await;
    let group = bridged(&mut world, &running, &alice).await;
    starts(&alice, group).await;
    world.during(&running, stub.wait(is_shown(&["alice"], 1))).await;
    stub.change(|rooms| {
        let (_, [user, room, kind, key]) = rooms.delays.pop_first().unwrap();
        rooms.event(&room, &user, &kind, Some(&key), serde_json::json!({}));
    });
    running.pass(30_000);
    // Something that has it look.
    let muted = SetCall { muted: Some(true), ..SetCall::default() };
    alice.client.http().set_call((group, CALL), &muted).await.unwrap();
    world.during(&running, stub.wait(is_shown(&["alice"], 1))).await;
    running.drop_dead().await;
}

#[tokio::test]
async fn where_the_homeserver_does_nothing_later_they_are_shown_all_the_same() {
    let mut world = World::new().await;
    world.stub.look(|rooms| rooms.has_no_delays = true);
    let (alice, stub) = (world.person("alice").await, world.stub.clone());
    let running = world.begin(Steps::default()).await;
    let group = bridged(&mut world, &running, &alice).await;
    starts(&alice, group).await;
    world.during(&running, stub.wait(is_shown(&["alice"], 0))).await;
    let content = stub.look(|rooms| {
        rooms.events.iter().find(|event| event["type"] == CALLER).unwrap()["content"].clone()
    });
    assert_eq!(content["foci_preferred"][0]["livekit_service_url"], FOCUS);
    assert_eq!(content["created_ts"], Value::Null);
    alice.client.http().leave_call(group, CALL).await.unwrap();
    world.during(&running, stub.wait(is_shown(&[], 0))).await;
    running.drop_dead().await;
}

#[tokio::test]
async fn without_a_place_for_calls_nobody_is_shown() {
    let mut world = World::new().await;
    let (alice, stub) = (world.person("alice").await, world.stub.clone());
    let running = world.begin(Steps::default()).await;
    let group = bridged(&mut world, &running, &alice).await;
    stub.look(|rooms| rooms.focus = None);
    starts(&alice, group).await;
    // What is said after it is there, and nobody calls.
    alice.say(group, &["hello".to_owned()]).await;
    let is_said =
        |rooms: &Rooms| rooms.events.iter().any(|event| event["type"] == "m.room.message");
    world.during(&running, stub.wait(|rooms| is_said(rooms).then_some(()))).await;
    assert!(stub.look(|rooms| shown(rooms)).is_empty());
    running.drop_dead().await;
}
