//! Calls in which natives and a Matrix user are, where Causeway dies on each step of their way, and where all
//! that it has is put back from a copy.

use causeway_bridge::domain::{caller::CALLER, ghost::Names};
use causeway_groups::calling::Command;
use causeway_protocol::api::CallTopology;
use ruma::RoomId;
use serde_json::json;

use crate::{
    backup::{causeway_run, done},
    bridged::Bridged,
    calls::{bob, comes, hears, moves, ready, says},
    focus::{self, openid},
    line::Line,
    matrix_caller::MatrixCaller,
    people::{PATIENCE, Person},
    sfu::Sfu,
};

/// Until the room shows so many natives who call.
async fn are_shown(all: &Bridged, room: &RoomId, count: usize) {
    let names = Names::new(all.synapse.server_name()).unwrap();
    let until = async {
        loop {
            let state = all.synapse.matrix().whole_state(names.bot(), room).await.unwrap();
            let members = state.iter().filter(|it| it.kind == CALLER && !it.content.is_empty());
            if members.filter(|it| names.is_ours(&it.sender)).count() == count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, until).await.expect("they never are");
}

async fn both_talk(all: &Bridged, bob: &Person) -> Line {
    let mut line = Line::new();
    line.call(&all.alice, all.group).await;
    line.call(bob, all.group).await;
    line.until("both are in it", |line| {
        line.states.len() == 2 && line.states.values().all(|it| it.natives().count() == 2)
    })
    .await;
    line
}

/// Until the devices of all have ended their part.
async fn is_over(line: &mut Line) {
    let ends = async { while line.talking.join_next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, ends).await.expect("they talk on");
}

async fn leave(line: &mut Line) {
    for commands in &line.commands {
        commands.send(Command::Leave).await.unwrap();
    }
    is_over(line).await;
}

fn carried(line: &Line, by: &[CallTopology]) -> bool {
    line.states.len() == 2 && line.states.values().all(|it| by.contains(&it.topology))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_steps_of_a_calls_way_it_interrupts_nobody_and_leaves_nobody_behind() {
    let (mut all, _livekit, room) = ready().await;
    let bob = bob(&all).await;
    let mut line = both_talk(&all, &bob).await;
    line.until_all_hear(None).await;
    let call = line.states[&0].call.to_string();
    let ends = [CallTopology::Mesh, CallTopology::Sfu];
    for (step, to) in [
        (CallTopology::Prepare, "sfu"),
        (CallTopology::Sfu, "sfu"),
        (CallTopology::Shrink, "mesh"),
        (CallTopology::Mesh, "mesh"),
        (CallTopology::Dual, "sfu"),
    ] {
        let end = if to == "sfu" { CallTopology::Sfu } else { CallTopology::Mesh };
        let is_there = carried(&line, &[end]);
        let moved = async {
            if !is_there {
                moves(&all, &call, to).await;
            }
        };
        let what = format!("{step:?} is seen");
        let seen = line.until(&what, |line| line.states.values().any(|it| it.topology == step));
        tokio::join!(moved, seen);
        all.causeway.kill().unwrap();
        line.until_all_hear(None).await;
        all.causeway.start().await.unwrap();
        // What had so long to come about may have come to nothing meanwhile.
        line.until(&format!("{step:?} is over"), |line| carried(line, &ends)).await;
        if !carried(&line, &[end]) {
            moves(&all, &call, to).await;
            line.until(&format!("{to} carries it"), |line| carried(line, &[end])).await;
        }
        line.until_all_hear(None).await;
        println!("killed in {step:?}");
    }
    assert!(line.states.values().all(|it| it.natives().count() == 2), "{:?}", line.states);
    are_shown(&all, &room, 2).await;
    leave(&mut line).await;
    are_shown(&all, &room, 0).await;
}

/// Carol comes, says so in the room, and all hear each other.
async fn with_carol(all: &Bridged, bob: &Person, room: &RoomId) -> (Line, MatrixCaller) {
    let mut line = both_talk(all, bob).await;
    says(all, room, true).await;
    let caller = comes(all, room).await;
    line.until("she is in it", |line| {
        carried(line, &[CallTopology::Sfu])
            && line.states.values().all(|it| it.guests().count() == 1)
    })
    .await;
    line.until_all_hear(line.guest()).await;
    hears(&mut line, &caller, all, &[&all.alice, bob]).await;
    (line, caller)
}

/// Causeway dies, and all that it has is as in the copy.
async fn put_back(all: &mut Bridged) {
    all.causeway.kill().unwrap();
    let words = ["backup", "restore", "--move-aside", "copy", "--output", "json"];
    done(&causeway_run(all.causeway.dir(), &words));
    all.causeway.start_after_restore().await.unwrap();
}

/// Of what lets people into calls, and of how they connect, nothing is in the log, which has all else.
async fn says_nothing(all: &Bridged, livekit: &Sfu, room: &RoomId) {
    let token = openid(&all.carol).await;
    let asked = json!({"room": room, "openid_token": token, "device_id": "PAD"});
    let (status, given) = focus::ask(all, "sfu/get", &asked).await;
    assert_eq!(status, 200, "{given}");
    let log = std::fs::read_to_string(all.causeway.log_file()).unwrap();
    let known = [livekit.server.secret(), token["access_token"].as_str().unwrap()];
    // Those that are known, and what those that are not begin with; the words of descriptions.
    let others = ["eyJ0eXAiOiJKV1Q", "eyJhbGciOiJIUzI1", "ice-pwd", "ice-ufrag", "candidate:"];
    for secret in known.into_iter().chain(others) {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert!(!log.to_lowercase().contains("bearer "), "a bearer token is in the log");
    assert!(given["jwt"].as_str().unwrap().starts_with("eyJ"), "as they are looked for");
    for control in ["TRACE", "/livekit/jwt/sfu/get"] {
        assert!(log.contains(control), "{control} is not in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_one_of_matrix_is_over_for_all_where_its_server_was_put_back() {
    let (mut all, livekit, room) = ready().await;
    // All is logged from the next start on.
    all.causeway.set_env("CAUSEWAY__LOGGING__LEVEL", "trace");
    let bob = bob(&all).await;
    let (mut line, caller) = with_carol(&all, &bob, &room).await;
    are_shown(&all, &room, 2).await;
    let words = ["backup", "create", "copy", "--output", "json"];
    done(&causeway_run(all.causeway.dir(), &words));

    // The copy has the call, which has gone on since.
    put_back(&mut all).await;
    line.until("it is over", |line| {
        line.states.values().all(|it| it.reason.as_deref() == Some("put_back"))
    })
    .await;
    is_over(&mut line).await;
    caller.is_put_out().await;
    are_shown(&all, &room, 0).await;

    // All come again; and of that call the copy knows nothing.
    let (mut line, caller) = with_carol(&all, &bob, &room).await;
    says_nothing(&all, &livekit, &room).await;
    put_back(&mut all).await;
    is_over(&mut line).await;
    caller.is_put_out().await;
    are_shown(&all, &room, 0).await;
    let (mut line, _caller) = with_carol(&all, &bob, &room).await;
    leave(&mut line).await;
}
