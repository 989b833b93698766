//! How devices reach each other: by what their home names, and by a server where they do not.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use causeway_groups::calls::{IceServer, Settings};
use causeway_protocol::api::CallTopology;
use causeway_server::{ApiSecret, Mesh, Turn, TurnCredentials};

use super::{
    caller::{Line, loopback},
    served::{Sfu, carried_by},
};
use crate::cli_world::World;

/// Types of STUN messages (RFC 8489, RFC 8656).
const BINDING: [u8; 2] = [0, 1];
const ALLOCATE: [u8; 2] = [0, 3];

/// Which kind of message came from where.
type Asked = BTreeSet<([u8; 2], SocketAddr)>;

/// A STUN server; asked to relay it says nothing.
struct Stun {
    address: SocketAddr,
    asked: Arc<Mutex<Asked>>,
}

impl Stun {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Asked::new()));
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            let mut bytes = [0; 2_000];
            while let Ok((len @ 20.., from)) = socket.recv_from(&mut bytes) {
                let kind = [bytes[0], bytes[1]];
                noted.lock().unwrap().insert((kind, from));
                let SocketAddr::V4(seen) = from else { continue };
                if kind == BINDING && len >= 20 {
                    let mut answer = vec![1, 1, 0, 12];
                    answer.extend(&bytes[4..20]);
                    answer.extend([0, 0x20, 0, 8, 0, 1]);
                    answer.extend((seen.port() ^ 0x2112).to_be_bytes());
                    answer.extend((u32::from(*seen.ip()) ^ 0x2112_A442).to_be_bytes());
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Self { address, asked }
    }

    /// From how many sockets it was asked for that.
    fn times(&self, kind: [u8; 2]) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| *asked == kind).count()
    }
}

impl Drop for Stun {
    fn drop(&mut self) {
        // Its thread ends with what is too short for it.
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            socket.send_to(&[0], self.address).ok();
        }
    }
}

fn turn(stun: &Stun) -> Turn {
    Turn {
        urls: vec![format!("turn:{}?transport=udp", stun.address)],
        credentials: TurnCredentials::Shared(ApiSecret::new("secret")),
    }
}

#[test]
fn devices_ask_the_stun_server_that_their_home_names() {
    let stun = Stun::start();
    let mut world = World::new();
    world.server.with_mesh(Mesh {
        stun: vec![format!("stun:{}", stun.address)],
        turn: None,
        relay_only: false,
    });
    let people = world.group(["alice", "bob"]);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    line.call(1, &people[1], false);
    line.until_all_hear(&[0, 1], 2);
    assert!(stun.times(BINDING) >= 2, "{:?}", stun.asked);
}

#[test]
fn where_the_home_says_so_no_address_is_told_and_its_turn_server_is_asked() {
    let stun = Stun::start();
    let mut world = World::new();
    world.server.with_mesh(Mesh { stun: Vec::new(), turn: Some(turn(&stun)), relay_only: true });
    let people = world.group(["alice", "bob"]);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    line.call(1, &people[1], false);
    line.until("both are told that there is no way", |line| {
        [0, 1].iter().all(|n| line.is_told(*n, "Failed("))
    });
    assert!(stun.times(ALLOCATE) >= 2, "{:?}", stun.asked);
    assert!(![0, 1].iter().any(|n| line.is_told(*n, "Connected(")), "{:?}", line.told);
    // There is no server for bigger calls; said once by each, in the server's words.
    for n in [0, 1] {
        line.until("it is told why they do not move", |line| line.is_told(n, "not reachable"));
    }
}

#[test]
fn a_pair_without_a_way_has_all_move_to_the_server() {
    let sfu = Sfu::start();
    let mut world = World::new();
    world.server.with_livekit(sfu.of());
    let people = world.group(["alice", "bob", "carol"]);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    line.call(1, &people[1], false);
    line.until_all_hear(&[0, 1], 2);
    // She tells no address, and nobody relays.
    let nowhere = IceServer {
        urls: vec!["turn:127.0.0.1:9?transport=udp".to_owned()],
        username: "nobody".to_owned(),
        credential: "none".to_owned(),
    };
    let servers = vec![nowhere];
    line.settings = Settings { relay_only: Some(true), servers, ..loopback() };
    line.call(2, &people[2], false);
    line.until_in_it(&[0, 1, 2]);
    line.until_all_hear(&[0, 1], 4);
    let all = [0, 1, 2];
    line.until("the server carries it", |line| carried_by(line, &all, CallTopology::Sfu));
    line.until_all_hear(&all, 4);
    assert!(line.told.iter().any(|(_, told)| told.contains("refused: None")), "{:?}", line.told);
    assert!(line.over.is_empty(), "{:?}", line.over);
}
