//! The Matrix side of the story: somebody who joins where he is invited, reads and answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ruma::{OwnedRoomId, OwnedUserId};
use tokio::{sync::watch, time::sleep};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    matrix_user::{MatrixUser, News, UserError},
    transcript::Transcript,
};

/// Before a homeserver that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// A Matrix user whose client is open.
pub(super) struct MatrixPerson {
    user: Arc<MatrixUser>,
    seen: Transcript,
    room: watch::Receiver<Option<OwnedRoomId>>,
    _syncing: AbortOnDropHandle<()>,
}

impl MatrixPerson {
    /// Opens the client of a user who is logged in. What is in his rooms already is not of this
    /// story.
    pub(super) async fn open(user: MatrixUser) -> Result<Self, UserError> {
        let former = user.sync().await?;
        let seen = Transcript::default();
        let (joined, room) = watch::channel(None);
        let user = Arc::new(user);
        let client = SyncClient {
            user: Arc::clone(&user),
            seen: seen.clone(),
            joined,
            names: Mutex::default(),
            not_ours: former.invites,
        };
        let syncing = TaskTracker::new().spawn(client.run());
        Ok(Self { user, seen, room, _syncing: AbortOnDropHandle::new(syncing) })
    }

    /// Who.
    pub(super) fn user_id(&self) -> &OwnedUserId {
        self.user.user_id()
    }

    /// What this person has seen.
    pub(super) fn seen(&self) -> &Transcript {
        &self.seen
    }

    /// The room that the story takes place in, once he has joined it.
    pub(super) fn room(&self) -> Option<OwnedRoomId> {
        self.room.borrow().clone()
    }

    /// Says something in that room.
    pub(super) async fn say(&self, text: &str) -> Result<(), UserError> {
        if let Some(room) = self.room() {
            self.user.say(&room, text).await?;
        }
        Ok(())
    }
}

/// What runs beside the story.
struct SyncClient {
    user: Arc<MatrixUser>,
    seen: Transcript,
    joined: watch::Sender<Option<OwnedRoomId>>,
    names: Mutex<BTreeMap<String, String>>,
    not_ours: Vec<OwnedRoomId>,
}

impl SyncClient {
    async fn run(self) {
        loop {
            let outcome = match self.user.sync().await {
                Ok(news) => self.read(news).await,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "the Matrix user's client waits");
                sleep(AGAIN).await;
            }
        }
    }

    async fn read(&self, news: News) -> Result<(), UserError> {
        for room in news.invites {
            if self.joined.borrow().is_none() && !self.not_ours.contains(&room) {
                self.user.accept(&room).await?;
                self.joined.send_replace(Some(room));
            }
        }
        let ours = self.joined.borrow().clone();
        for event in news.events.iter().filter(|event| Some(&event.room) == ours.as_ref()) {
            let Some(sender) = event.text("/sender") else { continue };
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(name) = event.text("/content/displayname") {
                let whose = event.text("/state_key").unwrap_or(sender);
                names.insert(whose.to_owned(), name.to_owned());
            }
            if event.text("/type") == Some("m.room.message")
                && let Some(body) = event.text("/content/body")
            {
                let own = sender == self.user.user_id().as_str();
                let who = names.get(sender).map_or(sender, String::as_str);
                self.seen.show(who, body, own);
            }
        }
        Ok(())
    }
}
