//! Calls that a real LiveKit carries: who is heard, who is not, and that nobody misses a word.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use causeway_groups::calls::{
    Access, FrameKey, Happened, Input, Over, Served, Settings, Signal, Source, Whose,
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    MACHINE,
    home::Home,
    room::{Room, TONES, device, loopback},
};

const ROOM: &str = "a-call";
/// Longer than sound may be late.
const STILL: Duration = Duration::from_millis(300);

/// Adds devices with tones, and says that a server carries them.
async fn add(room: &mut Room, who: &[u8]) {
    for n in who {
        room.join_as(*n, loopback(), Source::tone(TONES[usize::from(*n)]).unwrap(), None);
    }
    room.name_all(1).await;
}

/// Adds devices that say something all the time, so that whatever does not come is missed.
fn add_steady(room: &mut Room, who: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let tone = folder.path().join("tone.wav");
    std::fs::write(&tone, super::steady_tone()).unwrap();
    for n in who {
        let settings = Settings { dtx: false, ..loopback() };
        room.join_as(*n, settings, Source::wav(&tone).unwrap(), None);
    }
}

async fn connect(room: &Room, home: &Home, n: u8) {
    connect_by(room, n, home.access(ROOM, &Room::identity(n))).await;
}

async fn connect_by(room: &Room, n: u8, access: Access) {
    room.tell(n, Input::Server(Some(access.into()))).await;
}

/// Devices that a server carries.
async fn served(room: &mut Room, home: &Home, who: &[u8]) {
    add(room, who).await;
    for n in who {
        connect(room, home, *n).await;
    }
}

async fn over(room: &mut Room, n: u8, why: Over) {
    let over = Happened::Served(Served::Over(why));
    room.until(&format!("it is over: {why}"), |room| room.has(n, &over)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_and_five_hear_each_other_by_a_server() {
    let home = Home::with_room(ROOM).await;
    for n in [2, 5] {
        let all: Vec<_> = (0..n).collect();
        let mut room = Room::default();
        served(&mut room, &home, &all).await;
        room.until_all_hear(&all, 4).await;
        assert_eq!(room.ears.len(), usize::from(n * (n - 1)), "directions");
        for me in &all {
            assert!(room.has(*me, &Happened::Served(Served::Published)));
            let others = all.iter().filter(|n| *n != me).map(|n| device(*n)).collect();
            room.until("all are known to be heard", |room| {
                room.brought(*me).is_some_and(|brought| brought.heard == others)
            })
            .await;
            assert!(room.brought(*me).unwrap().sealed.is_empty());
        }
        for me in all {
            room.leave(me).await;
        }
        home.until_empty(ROOM).await;
    }
}

/// In turns, so that a busy machine keeps up; all are there throughout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_twenty_hears_each_other_by_a_server() {
    let _machine = MACHINE.lock().await;
    let home = Home::with_room(ROOM).await;
    let all: Vec<u8> = (0..20).collect();
    let mut room = Room::default();
    for n in &all {
        room.join_as(*n, loopback(), Source::tone(TONES[0]).unwrap(), None);
        room.tell(*n, Input::Mute(true)).await;
    }
    room.name_all(1).await;
    for n in &all {
        connect(&room, &home, *n).await;
    }
    for speaker in &all {
        room.tell(*speaker, Input::Mute(false)).await;
        let ways: Vec<_> = all.iter().filter(|n| *n != speaker).map(|n| (*n, *speaker)).collect();
        room.until(&format!("all hear {speaker}"), |room| {
            ways.iter().all(|way| room.ears.get(way).is_some_and(|ear| ear.times(TONES[0]) > 1))
        })
        .await;
        room.tell(*speaker, Input::Mute(true)).await;
    }
    assert_eq!(room.ears.len(), 380, "directions");
    for n in all {
        assert!(room.brought(n).is_none_or(|brought| brought.sealed.is_empty()), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_opens_nothing_and_harms_nobody_else() {
    let home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    // What 0 gives to 1 is not what it seals with.
    room.way = Some(Box::new(|from, to, signal| {
        if let (0, 1, Signal::Key { key, .. }) = (from, to, signal) {
            *key = FrameKey::new([7; 16]);
        }
        true
    }));
    served(&mut room, &home, &[0, 1, 2]).await;
    let sealed = BTreeSet::from([device(0)]);
    room.until("it does not open", |room| {
        room.brought(1).is_some_and(|brought| brought.sealed == sealed)
    })
    .await;
    room.until_all_hear(&[0, 2], 4).await;
    room.until_all_hear(&[1, 2], 4).await;
    assert!(room.times((0, 1)) > 0, "it is heard itself");
    assert!(!room.ears.contains_key(&(1, 0)), "something of it was played");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_keys_gets_sealed_frames_alone() {
    let home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    room.way = Some(Box::new(|_, to, signal| to != 4 || !matches!(signal, Signal::Key { .. })));
    served(&mut room, &home, &[0, 1, 2, 3, 4]).await;
    let others: BTreeSet<_> = (0..4).map(device).collect();
    room.until("nothing opens", |room| {
        room.brought(4).is_some_and(|brought| brought.sealed == others)
    })
    .await;
    room.until_all_hear(&[0, 1, 2, 3], 4).await;
    assert_eq!(room.brought(4).unwrap().heard, BTreeSet::new());
    assert!(!room.ears.keys().any(|(listener, _)| *listener == 4), "something was played");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_two_hundred_times_without_a_hole() {
    let _machine = MACHINE.lock().await;
    let home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    let index = Arc::new(AtomicU8::new(0));
    let seen = Arc::clone(&index);
    room.way = Some(Box::new(move |from, _, signal| {
        if let (0, Signal::Key { index, .. }) = (from, signal) {
            seen.store(*index, Ordering::Relaxed);
        }
        true
    }));
    add_steady(&mut room, &[0, 1]);
    room.name_all(1).await;
    for n in [0, 1] {
        connect(&room, &home, n).await;
    }
    room.listen(&[0, 1], 1).await;
    let mut times = 0;
    while index.load(Ordering::Relaxed) < 200 {
        for _ in 0..6 {
            // Somebody was away and is back, over and over.
            times += 1;
            room.name_all_and(1, Some((9, times))).await;
        }
        room.go_on(&[0, 1], 1).await;
    }
    room.go_on(&[0, 1], 4).await;
    nothing_is_missed(&room, &[0, 1], "while keys change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_is_made_anew_and_sound_goes_on() {
    let home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    add(&mut room, &[0, 1]).await;
    connect(&room, &home, 0).await;
    let mut line = Line::to(&home).await;
    connect_by(&room, 1, Access { url: line.url.clone(), ..home.access(ROOM, "who-1") }).await;
    room.until_all_hear(&[0, 1], 2).await;
    for _ in 0..3 {
        room.happened.clear();
        line.cut();
        room.until("it is cut", |room| room.has(1, &Happened::Served(Served::Cut))).await;
        room.until("it is there again", |room| room.has(1, &Happened::Served(Served::Resumed)))
            .await;
        room.until_all_hear(&[0, 1], 4).await;
    }
    // Somebody else who comes is heard by the one with the new line.
    served(&mut room, &home, &[2]).await;
    room.until_all_hear(&[0, 1, 2], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_back_carries_the_call_again() {
    let mut home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    served(&mut room, &home, &[0, 1, 2]).await;
    room.until_all_hear(&[0, 1, 2], 2).await;
    home.livekit.kill().await;
    for n in 0..3 {
        room.until("it is missed", |room| room.has(n, &Happened::Served(Served::Cut))).await;
    }
    home.livekit.restart().await.unwrap();
    for n in 0..3 {
        over(&mut room, n, Over::RoomGone).await;
    }
    home.ask("CreateRoom", json!({"name": ROOM})).await;
    room.name_all(2).await;
    for n in 0..3 {
        connect(&room, &home, n).await;
    }
    room.until_all_hear(&[0, 1, 2], 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_put_out_or_not_let_in_is_told_why() {
    let home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    served(&mut room, &home, &[0, 1]).await;
    room.until_all_hear(&[0, 1], 2).await;
    home.ask("RemoveParticipant", json!({"room": ROOM, "identity": "who-0"})).await;
    over(&mut room, 0, Over::Removed).await;
    // The same device from elsewhere.
    add(&mut room, &[2]).await;
    connect_by(&room, 2, home.access(ROOM, "who-1")).await;
    over(&mut room, 1, Over::Duplicate).await;
    // LiveKit tells nobody who comes at the moment in which the room is closed.
    room.until("it is in", |room| room.has(2, &Happened::Served(Served::Published))).await;
    home.ask("DeleteRoom", json!({"room": ROOM})).await;
    over(&mut room, 2, Over::RoomGone).await;
    // Who comes while it is being closed may be let in still.
    while home.ask("ListRooms", json!({"names": [ROOM]})).await["rooms"][0].is_object() {}
    room.happened.clear();
    connect(&room, &home, 0).await;
    over(&mut room, 0, Over::RoomGone).await;
    let access = home.access(ROOM, "who-1");
    connect_by(&room, 1, Access { token: "not one".to_owned().into(), ..access.clone() }).await;
    over(&mut room, 1, Over::Refused(401)).await;
    let nowhere = "ws://127.0.0.1:9".to_owned();
    connect_by(&room, 2, Access { url: nowhere, ..access.clone() }).await;
    over(&mut room, 2, Over::Unreachable).await;
    room.happened.clear();
    connect_by(&room, 2, Access { whose: Whose::Foreign, ..access }).await;
    over(&mut room, 2, Over::Address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_speak_is_told_so_and_hears() {
    let home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    add(&mut room, &[0, 1]).await;
    connect(&room, &home, 0).await;
    let access = home.access_with(ROOM, "who-1", &json!({"canPublish": false}));
    connect_by(&room, 1, access).await;
    room.until("it is told", |room| room.has(1, &Happened::Served(Served::NotLetSpeak))).await;
    room.until("it hears", |room| room.times((1, 0)) >= 4).await;
    assert!(!room.ears.contains_key(&(0, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_mutes_one_leaves_and_one_comes_back() {
    let home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    served(&mut room, &home, &[0, 1, 2]).await;
    room.until_all_hear(&[0, 1, 2], 2).await;
    room.tell(2, Input::Mute(true)).await;
    // What was under way when it was muted is heard still; then nothing.
    room.until_all_hear(&[0, 1], 3).await;
    let muted = [room.times((0, 2)), room.times((1, 2))];
    room.until_all_hear(&[0, 1], 4).await;
    assert_eq!([room.times((0, 2)), room.times((1, 2))], muted);
    room.tell(2, Input::Mute(false)).await;
    room.until_all_hear(&[0, 1, 2], 2).await;
    room.tell(2, Input::Server(None)).await;
    over(&mut room, 2, Over::Left).await;
    room.until_all_hear(&[0, 1], 2).await;
    connect(&room, &home, 2).await;
    room.until_all_hear(&[0, 1, 2], 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_go_from_a_mesh_to_a_server_and_back_and_miss_nothing() {
    let _machine = MACHINE.lock().await;
    let home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    let (four, five) = ([0, 1, 2, 3], [0, 1, 2, 3, 4]);
    add_steady(&mut room, &four);
    room.tell_all().await;
    room.listen(&four, 2).await;

    // Prepare: the fifth comes, and all connect to the server beside the mesh.
    add_steady(&mut room, &[4]);
    room.came.clear();
    room.mesh(2, &four).await;
    room.name_all(2).await;
    for n in five {
        connect(&room, &home, n).await;
    }
    all_are_heard(&mut room, &five).await;
    // Dual, and then the server alone.
    room.mesh(3, &four).await;
    room.name_all(3).await;
    room.go_on(&five, 2).await;
    room.mesh(4, &[]).await;
    room.name_all(4).await;
    room.go_on(&five, 4).await;
    nothing_is_missed(&room, &four, "from the mesh to the server");

    // The fifth leaves; the mesh is built beside the server, and then carries the call alone.
    room.leave_quietly(4).await;
    room.came.clear();
    room.mesh(5, &four).await;
    room.name_all(5).await;
    for n in four {
        let done = Happened::Progress(3, 3);
        room.until("the mesh is there", |room| {
            let mut said = room.happened.iter().rev().filter(|(at, _)| *at == n);
            said.find_map(|(_, what)| matches!(what, Happened::Progress(..)).then_some(what))
                == Some(&done)
        })
        .await;
    }
    room.go_on(&four, 2).await;
    for n in four {
        room.tell(n, Input::Server(None)).await;
    }
    room.go_on(&four, 4).await;
    nothing_is_missed(&room, &four, "from the server to the mesh");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_turn_to_the_clear_and_back_and_miss_nothing() {
    let _machine = MACHINE.lock().await;
    let home = Home::with_room(ROOM).await;
    let (mut room, three) = (Room::default(), [0, 1, 2]);
    add_steady(&mut room, &three);
    room.name_all(1).await;
    for n in three {
        connect(&room, &home, n).await;
    }
    all_are_heard(&mut room, &three).await;
    room.listen(&three, 2).await;
    for is_sealed in [false, true, false] {
        for n in three {
            room.tell(n, Input::Seal(is_sealed)).await;
        }
        while sealed_and_clear(&home).await != if is_sealed { (3, 0) } else { (0, 3) } {
            room.go_on(&three, 1).await;
        }
        room.go_on(&three, 4).await;
        // A machine that stands still for as long leaves out what is too late by itself.
        room.came.retain(|_, came| came.gap < STILL);
        nothing_is_missed(&room, &three, "while a call turns to the clear or back");
    }
    let gap = room.came.values().map(|came| came.gap).max();
    println!("largest gap {gap:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_while_the_mesh_is_there_is_not_missed() {
    let _machine = MACHINE.lock().await;
    let mut home = Home::with_room(ROOM).await;
    let mut room = Room::default();
    let three = [0, 1, 2];
    add_steady(&mut room, &three);
    room.mesh(1, &three).await;
    room.name_all(1).await;
    for n in three {
        connect(&room, &home, n).await;
    }
    all_are_heard(&mut room, &three).await;
    room.listen(&three, 2).await;
    home.livekit.kill().await;
    room.go_on(&three, 8).await;
    nothing_is_missed(&room, &three, "from the server to the mesh");
}

/// Until each hears each other by the server.
async fn all_are_heard(room: &mut Room, who: &[u8]) {
    for me in who {
        let others: BTreeSet<_> = who.iter().filter(|n| *n != me).map(|n| device(*n)).collect();
        room.until("all are heard by the server", |room| {
            room.brought(*me).is_some_and(|brought| brought.heard == others)
        })
        .await;
    }
}

/// How many tracks are sealed, as the server's list says, and how many are not.
async fn sealed_and_clear(home: &Home) -> (usize, usize) {
    let there = home.ask("ListParticipants", json!({"room": ROOM})).await;
    let those = there["participants"].as_array().into_iter().flatten();
    let tracks: Vec<_> = those.flat_map(|who| who["tracks"].as_array().unwrap()).collect();
    let sealed = tracks.iter().filter(|track| track["encryption"] == "GCM").count();
    (sealed, tracks.len() - sealed)
}

/// That all that was said came. When it came says how busy the machine is; the bench `handoff`
/// measures that.
fn nothing_is_missed(room: &Room, who: &[u8], what: &str) {
    let ways = room.came.iter().filter(|((a, b), _)| who.contains(a) && who.contains(b));
    let missed: Vec<_> = ways.filter(|(_, came)| came.skipped != 0).collect();
    assert!(missed.is_empty(), "{what}: {missed:?}");
}

/// A way to the server that can be cut.
struct Line {
    url: String,
    cuts: tokio::sync::watch::Sender<u32>,
    _carrying: JoinSet<()>,
}

impl Line {
    async fn to(home: &Home) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let to = home.livekit.url().trim_start_matches("ws://").to_owned();
        let (cuts, cut) = tokio::sync::watch::channel(0);
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                let (to, mut cut) = (to.clone(), cut.clone());
                cut.borrow_and_update();
                lines.spawn(async move {
                    let mut there = tokio::net::TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { url, cuts, _carrying: carrying }
    }

    fn cut(&mut self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}
