//! The same homeservers without Causeway: a user of the first says something, and users of the others read it
//! in their `/sync`.

use causeway_bridge::demo::matrix_user::MatrixUser;
use ruma::OwnedRoomId;
use serde_json::json;
use tokio::sync::watch;

use crate::{body, stage::Side, start};

/// A room of one user of each homeserver.
pub(crate) struct Bare {
    sender: MatrixUser,
    room: OwnedRoomId,
    seen: Vec<watch::Receiver<usize>>,
    said: usize,
}

impl Bare {
    /// The first of these speaks; all know each other when this returns.
    pub(crate) async fn open(sides: &[Side], name: &str) -> Self {
        let (first, others) = sides.split_first().expect("one");
        let password = format!("secret of {name}");
        let sender = first.synapse.register(name, &password).await.expect("a user");
        let mut readers = Vec::new();
        for side in others {
            readers.push(side.synapse.register(name, &password).await.expect("a user"));
        }
        let invite: Vec<_> = readers.iter().map(|reader| reader.user_id().to_string()).collect();
        let room = json!({ "preset": "private_chat", "invite": invite });
        let room = sender.create_room(room).await.expect("a room");
        let mut seen = Vec::new();
        for reader in readers {
            while !reader.sync().await.expect("synced").invites.contains(&room) {}
            reader.join(&room).await.expect("joined");
            let (tell, told) = watch::channel(0);
            start(read(reader, room.clone(), tell));
            seen.push(told);
        }
        let mut bare = Self { sender, room, seen, said: 0 };
        bare.say(1).await;
        bare
    }

    /// Puts so many, one after the other's answer, and waits until all have read the last.
    pub(crate) async fn say(&mut self, count: usize) {
        for number in 0..count {
            self.sender.say(&self.room, &body(number)).await.expect("said");
        }
        self.said += count;
        for seen in &mut self.seen {
            seen.wait_for(|seen| *seen >= self.said).await.expect("reads");
        }
    }
}

async fn read(reader: MatrixUser, room: OwnedRoomId, tell: watch::Sender<usize>) {
    loop {
        let Ok(news) = reader.sync().await else { continue };
        let said = news
            .events
            .iter()
            .filter(|seen| seen.room == room && seen.text("/type") == Some("m.room.message"));
        let count = said.count();
        tell.send_modify(|seen| *seen += count);
    }
}
