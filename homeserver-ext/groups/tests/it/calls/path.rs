//! Paths that lose: all that two devices send each other goes through a relay in between, which
//! leaves some of it out, or stops.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use causeway_groups::calls::{Happened, Signal};
use tokio::{net::UdpSocket, task::JoinSet};

use super::room::{Room, device};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_breaks_is_replaced_by_a_restart() {
    let mut room = Room::default();
    let works = Arc::new(AtomicBool::new(true));
    room.way = Some(through_a_relay(Arc::clone(&works), usize::MAX));
    for n in 0..2 {
        room.join(n).await;
    }
    room.until_all_hear(&[0, 1], 2).await;
    works.store(false, Ordering::Relaxed);
    // The one that offers notices and restarts; the other may be connected again before it does.
    room.until("it is noticed", |room| room.has(1, &Happened::Broken(device(0)))).await;
    room.happened.clear();
    room.until("there is another", |room| room.has(1, &Happened::Connected(device(0)))).await;
    room.until_all_hear(&[0, 1], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_heard_where_one_datagram_in_ten_is_lost() {
    let mut room = Room::default();
    room.way = Some(through_a_relay(Arc::new(AtomicBool::new(true)), 10));
    for n in 0..2 {
        room.join(n).await;
    }
    room.until_all_hear(&[0, 1], 10).await;
}

/// Has each device know only addresses of a relay, as long as it works; what is told later stands
/// as it is.
fn through_a_relay(works: Arc<AtomicBool>, loses_each: usize) -> super::room::Way {
    let mut relays = JoinSet::new();
    let mut known = BTreeMap::new();
    Box::new(move |_, _, signal| {
        let Signal::Ice { candidates } = signal else { return true };
        if !works.load(Ordering::Relaxed) {
            return true;
        }
        for candidate in candidates {
            let mut parts: Vec<_> = candidate.split(' ').map(str::to_owned).collect();
            let to: SocketAddr = format!("{}:{}", parts[4], parts[5]).parse().unwrap();
            let port = *known.entry(to).or_insert_with(|| {
                let front = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                let port = front.local_addr().unwrap().port();
                front.set_nonblocking(true).unwrap();
                relays.spawn(relay(
                    UdpSocket::from_std(front).unwrap(),
                    to,
                    Arc::clone(&works),
                    loses_each,
                ));
                port
            });
            parts[5] = port.to_string();
            *candidate = parts.join(" ");
        }
        true
    })
}

/// Hands on to `to` what comes at `front`, and back what comes from there, but for one in so many.
async fn relay(front: UdpSocket, to: SocketAddr, works: Arc<AtomicBool>, loses_each: usize) {
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut there, mut here) = ([0; 2000], [0; 2000]);
    let mut caller = None;
    let mut came = 0_usize;
    let mut passes = || {
        came += 1;
        works.load(Ordering::Relaxed) && !came.is_multiple_of(loses_each)
    };
    loop {
        let sent = tokio::select! {
            Ok((len, from)) = front.recv_from(&mut there) => {
                caller = Some(from);
                passes().then(|| back.try_send_to(&there[..len], to))
            }
            Ok((len, _)) = back.recv_from(&mut here) => {
                let caller = caller.filter(|_| passes());
                caller.map(|caller| front.try_send_to(&here[..len], caller))
            }
        };
        // A datagram may be lost.
        drop(sent);
    }
}
