//! Signals that no honest device sends: each is refused, and who talks goes on talking.

use std::sync::{Arc, Mutex};

use causeway_groups::calls::{Happened, Input, Reason, Refused, Signal};

use super::room::{Room, device};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_signals_are_refused_and_change_nothing() {
    let mut room = Room::default();
    // What 1 offers to 0, as it was signalled.
    let offer = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&offer);
    room.way = Some(Box::new(move |from, _, signal| {
        if let (1, Signal::Offer { sdp, .. }) = (from, signal) {
            seen.lock().unwrap().clone_from(sdp);
        }
        true
    }));
    for n in 0..2 {
        room.join(n).await;
    }
    room.until_all_hear(&[0, 1], 2).await;
    let real = offer.lock().unwrap().clone();
    let print = real.lines().find(|line| line.starts_with("a=fingerprint:")).unwrap();
    let other = format!("a=fingerprint:sha-256 {}", ["00"; 32].join(":"));
    let offer = |sdp: String, restart| Signal::Offer { sdp, restart };
    let many = |n: usize| Signal::Ice {
        candidates: (0..n).map(|n| format!("candidate:{n} 1 udp 1 192.0.2.7 9 typ host")).collect(),
    };
    let cases = [
        (1, 0, offer("a=x\r\n".repeat(100_000), false), Refused::TooLarge(500_000, 16_384)),
        (1, 0, offer(String::new(), true), Refused::Description),
        (1, 0, offer(real.replace(print, &other), true), Refused::Fingerprint),
        (1, 0, offer(real.replace("m=audio", "m=video"), true), Refused::Media),
        (1, 0, offer(format!("{real}m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"), false), Refused::Media),
        (1, 0, many(5_000), Refused::Candidates),
        (
            1,
            0,
            Signal::Ice { candidates: vec!["candidate:1 1 tcp 1 192.0.2.7 9 typ host".into()] },
            Refused::Candidate,
        ),
        (
            1,
            0,
            Signal::Ice { candidates: vec!["candidate:1 1 udp 1 a.example 9 typ host".into()] },
            Refused::Candidate,
        ),
        // It is 0 that answers.
        (1, 0, Signal::Answer { sdp: real.clone(), offer: None }, Refused::OutOfTurn),
        (0, 1, offer(real.clone(), false), Refused::OutOfTurn),
        (0, 1, Signal::Answer { sdp: real.clone(), offer: None }, Refused::OutOfTurn),
    ];
    for (from, to, signal, why) in cases {
        let case = format!("{signal:?} {why:?}");
        room.happened.clear();
        room.signal(from, to, signal).await;
        room.until(&case, |room| room.has(to, &Happened::Refused(device(from), why))).await;
    }
    // Candidates that nobody has, until there are too many; the connection does not mind.
    room.happened.clear();
    for _ in 0..4 {
        room.signal(1, 0, many(30)).await;
    }
    let why = Happened::Refused(device(1), Refused::Candidates);
    room.until("there are too many", |room| room.has(0, &why)).await;
    room.until_all_hear(&[0, 1], 3).await;
    assert!(
        !room
            .happened
            .iter()
            .any(|(_, what)| matches!(what, Happened::Broken(_) | Happened::Failed(_)))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_device_leaves_the_others_talking() {
    let mut room = Room::default();
    for n in 0..3 {
        room.join(n).await;
    }
    room.until_all_hear(&[0, 1, 2], 2).await;
    let bye = || Signal::Bye { reason: Reason::Unknown };
    // 2 offers to 0: each goodbye would have it connect anew.
    for _ in 0..200 {
        room.signal(0, 2, bye()).await;
    }
    // One who is not in the call: a few are kept, for ten seconds.
    for _ in 0..40 {
        let input = Input::Signal { from: device(9), epoch: room.epoch, signal: bye() };
        room.tell(1, input).await;
    }
    let strange = |why| Happened::Refused(device(9), why);
    room.until("they are too many", |room| room.has(1, &strange(Refused::TooMany))).await;
    room.until("they are a stranger's", |room| room.has(1, &strange(Refused::Stranger))).await;
    room.until_all_hear(&[0, 1], 2).await;
    room.until_all_hear(&[1, 2], 2).await;
}
