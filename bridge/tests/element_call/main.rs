//! Element Call itself in calls of a bridged room: 0.26.1 in Chromium, beside real natives, Synapse and
//! LiveKit.
//!
//! `cargo test -p causeway-bridge --test element_call` runs it, and nothing else does: it needs Chromium
//! (`CHROMIUM`, `/usr/bin/chromium`) and `npm`, which `cargo test` does not.
#![cfg(test)]

#[expect(dead_code, reason = "of what other tests need as well")]
#[path = "../e2e/bridged.rs"]
mod bridged;
mod browser;
#[path = "../../../homeserver-ext/groups/tests/it/calls/ear.rs"]
mod ear;
#[path = "../e2e/line.rs"]
mod line;
#[expect(dead_code, reason = "of what other tests need as well")]
#[path = "../shared/people.rs"]
mod people;
#[expect(dead_code, reason = "of what other tests need as well")]
#[path = "../e2e/sfu.rs"]
mod sfu;

use causeway_groups::calling::Command;
use causeway_protocol::api::CallTopology;
use ruma::OwnedRoomId;

use crate::{
    bridged::Bridged,
    browser::ElementCall,
    line::{Line, TONES},
    people::{PATIENCE, Person},
    sfu::{Sfu, has_calls, joined},
};

mod start {
    pub(crate) fn binary() -> &'static std::path::Path {
        std::path::Path::new(env!("CARGO_BIN_EXE_causeway"))
    }
}

/// All that runs, and the room that Carol is in.
async fn ready() -> (Bridged, Sfu, OwnedRoomId) {
    let mut all = Bridged::start().await;
    // Synapse is killed once the room is whole.
    let room = joined(&all.carol).await;
    let livekit = Sfu::start().await;
    let focus = format!("{}/livekit/jwt", all.causeway.appservice_url());
    has_calls(&mut all.synapse, &focus).await;
    livekit.beside(&mut all.causeway).await;
    (all, livekit, room)
}

async fn is_in_it(line: &mut Line) {
    let all = line.devices.len();
    line.until("Element Call is in it", |line| {
        let is_there = |it: &causeway_protocol::api::CallState| {
            it.topology == CallTopology::Sfu && it.guests().count() == 1
        };
        line.states.len() == all && line.states.values().all(is_there)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn element_call_joins_a_call_that_natives_began_three_times_in_a_row() {
    let (all, _livekit, room) = ready().await;
    let token = all.causeway.registration_token().unwrap();
    let name = format!("bob:{}", all.synapse.server_name());
    let bob = Person::register(all.causeway.native_url(), &name, token.expose()).await;
    all.alice.add(all.group, &name).await;
    let mut line = Line::new();
    line.call(&all.alice, all.group).await;
    line.call(&bob, all.group).await;
    line.until_all_hear(None).await;
    for time in 1..=3 {
        let mut element = ElementCall::start(&all, &room, "join_existing_voice", TONES[2]).await;
        is_in_it(&mut line).await;
        line.until_all_hear(line.guest()).await;
        element.hears(&TONES[..2]).await;
        // The last is killed, and nobody says that it went.
        if time < 3 {
            element.hang_up().await
        } else {
            element.kill()
        }
        line.until("it is out", |line| line.states.values().all(|it| it.guests().count() == 0))
            .await;
        println!("time {time}: heard and was heard");
    }
    line.until_all_hear(None).await;
    for commands in &line.commands {
        commands.send(Command::Leave).await.unwrap();
    }
    while line.talking.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn natives_join_a_call_that_element_call_began() {
    let (all, _livekit, room) = ready().await;
    let mut element = ElementCall::start(&all, &room, "start_call_voice", TONES[2]).await;
    let rings = async {
        loop {
            let calls = all.alice.client.http().calls(all.group, None, 1).await.unwrap().calls;
            if let Some(call) = calls.into_iter().next() {
                return call;
            }
            tokio::task::yield_now().await;
        }
    };
    let call = tokio::time::timeout(PATIENCE, rings).await.unwrap();
    assert_eq!(call.started_by.mirror.as_deref(), Some(all.carol.user_id().as_str()));
    let mut line = Line::new();
    line.call(&all.alice, all.group).await;
    is_in_it(&mut line).await;
    line.until_all_hear(line.guest()).await;
    element.hears(&TONES[..1]).await;
    element.hang_up().await;
    line.until("it is out", |line| line.states[&0].guests().count() == 0).await;
    line.commands[0].send(Command::Leave).await.unwrap();
    while line.talking.join_next().await.is_some() {}
}
