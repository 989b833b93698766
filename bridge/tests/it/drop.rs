//! The process image dropped between every two steps of the spine: nothing lost, nothing doubled,
//! order kept per sender.

use std::time::Duration;

use causeway_bridge::steps::{Step, Steps};
use causeway_protocol::{ids::GroupId, roster::Scheme};
use futures_util::{StreamExt as _, stream};

use crate::{
    people::{PATIENCE, Person},
    stub::Stub,
    world::{Running, World},
};

/// Messages each way.
const MESSAGES: usize = 12;

/// Whether the homeserver keeps its connection.
const KEPT: bool = true;
const NEW: bool = false;

/// Those at which events come by that were handed over just now.
const OF_INTAKE: [Step; 6] = [
    Step::Accepting,
    Step::Accepted,
    Step::RoutingAtOnce,
    Step::SealingAtOnce,
    Step::RoutingEvents,
    Step::RoutedEvents,
];

/// Those of them that are only for what goes straight to the rules.
const AT_ONCE_ALONE: [Step; 2] = [Step::RoutingAtOnce, Step::SealingAtOnce];

/// Worlds at once; they mostly wait.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn nothing_is_lost_or_doubled_wherever_the_process_is_dropped() {
    is_dropped_everywhere(Scheme::SenderKeys).await;
}

#[tokio::test]
async fn nor_is_anything_of_a_pairwise_group() {
    is_dropped_everywhere(Scheme::Pairwise).await;
}

#[tokio::test]
async fn nor_of_one_that_shares_a_key() {
    is_dropped_everywhere(Scheme::SharedKey).await;
}

async fn is_dropped_everywhere(scheme: Scheme) {
    // At the first time that a step is reached, and somewhere in the middle.
    // In this story nobody calls, and there is one server: `callers.rs` and `agent_drop.rs` have theirs.
    let others = [&Step::OF_CALLS[..], &Step::OF_SERVERS].concat();
    let all = Step::ALL.iter().filter(|step| !others.contains(step));
    let stories = all.enumerate().flat_map(|(index, step)| {
        let later = u32::try_from(index % 3 + 1).unwrap();
        let connections = if OF_INTAKE.contains(step) { vec![KEPT, NEW] } else { vec![KEPT] };
        let each = |kept| [(*step, 0, kept), (*step, later, kept)];
        connections.into_iter().flat_map(each).collect::<Vec<_>>()
    });
    let lived = stream::iter(stories)
        .map(|(step, passes, is_kept)| async move {
            // What comes first on a connection is doubted, and goes nowhere at once.
            let is_never = OF_INTAKE.contains(&step) && is_kept != AT_ONCE_ALONE.contains(&step);
            let was_dropped = story(scheme, step, passes, is_kept).await;
            (step, passes, was_dropped || is_never)
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    for (step, passes, was_dropped) in lived {
        // Of a key that is another's to give the bridge needs nothing before it seals.
        let is_never = scheme == Scheme::SharedKey && matches!(step, Step::Prepared);
        assert!(was_dropped || passes > 0 || is_never, "{step:?} is not reached by the story");
    }
}

/// Lives through one drop at `step`, if it comes to that; whether it did. Events come on a connection
/// that is kept, as homeservers keep them, or each time on a new one.
async fn story(scheme: Scheme, step: Step, passes: u32, is_kept: bool) -> bool {
    let mut world = World::new().await;
    let alice = world.person("alice").await;
    let steps = Steps::default();
    let mut sprung = steps.set(step, passes);
    let mut bridge = Some(world.begin(steps).await);
    world.kept = is_kept.then(reqwest::Client::new);
    let mut was_dropped = false;
    let group = alice.create_group_as("Walkers", scheme).await;
    let stub = world.stub.clone();
    let speaking = speak(&alice, group, &stub);
    tokio::pin!(speaking);
    let mut is_said = false;
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            let running = bridge.take().unwrap();
            let dropped = tokio::select! {
                Ok(()) = &mut sprung, if !was_dropped => true,
                () = &mut speaking, if !is_said => {
                    is_said = true;
                    false
                }
                () = serve(&mut world, &running) => false,
            };
            bridge = Some(if dropped {
                was_dropped = true;
                running.drop_dead().await;
                world.begin(Steps::default()).await
            } else {
                running
            });
            if is_said && is_quiet(&world, &alice, bridge.as_ref().unwrap()).await {
                return;
            }
        }
    });
    let (what, ended) = (format!("{step:?} after {passes}"), ended.await);
    assert!(ended.is_ok(), "{what}: {:?} {:?}", world.stub.said(), alice.read());
    let expected = |prefix: &str| (0..MESSAGES).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    let of_alice: Vec<String> = world
        .stub
        .said()
        .into_iter()
        .filter(|(sender, _)| sender == "@causeway_alice:b.example")
        .map(|(_, body)| body)
        .collect();
    assert_eq!(of_alice, expected("a"), "{what}");
    assert_eq!(alice.mirrored(), expected("m"), "{what}");
    let running = bridge.unwrap();
    let stats = running.stats().await;
    assert_eq!((stats.dead_letters, stats.quarantine), (0, 0), "{what}");
    let rooms = world
        .stub
        .look(|rooms| rooms.events.iter().filter(|event| event["type"] == "m.room.create").count());
    assert_eq!(rooms, 1, "{what}");
    running.drop_dead().await;
    was_dropped
}

/// Alice bridges the group and talks; Al comes when he is invited, and talks.
async fn speak(alice: &Person, group: GroupId, stub: &Stub) {
    alice.bridge(group, &["@al:x"]).await;
    for n in 0..MESSAGES / 2 {
        alice.say(group, &[format!("a{n}")]).await;
    }
    let room = stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
    stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
    for n in 0..MESSAGES {
        stub.change(|rooms| {
            let text = serde_json::json!({"msgtype": "m.text", "body": format!("m{n}")});
            rooms.event(&room, "@al:x", "m.room.message", None, text);
        });
        if n % 2 == 0 {
            alice.say(group, &[format!("a{}", MESSAGES / 2 + n / 2)]).await;
        }
    }
}

/// Pushes events as they come, for a moment.
async fn serve(world: &mut World, bridge: &Running) {
    let stub = world.stub.clone();
    let news = stub.changed();
    world.push(bridge).await;
    let _ = tokio::time::timeout(Duration::from_millis(20), news).await;
}

async fn is_quiet(world: &World, alice: &Person, bridge: &Running) -> bool {
    let from_alice = world.stub.said().iter().filter(|(who, _)| who.contains("alice")).count();
    let stats = bridge.stats().await;
    from_alice >= MESSAGES
        && alice.mirrored().len() >= MESSAGES
        && stats.inbox == 0
        && stats.outbox == 0
        && world.all_pushed()
}
