//! Messages as they come when people talk: one in a transaction, one in a `POST`.

use std::time::Duration;

use causeway_groups::machine::Batch;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::{
    figure::{Figure, Meter},
    people::{outgoing, text},
    stage::Stage,
};

impl Stage {
    /// Everybody has spoken in every room, so that nothing that is done once is measured.
    pub(super) async fn warm(&mut self) {
        let (rooms, people) = (self.groups.len(), self.people.len());
        self.run_to_native(rooms.next_multiple_of(100)).await;
        self.posts_to_matrix(rooms.max(people)).await;
    }

    /// One event in a transaction, each when the one before was answered.
    pub(super) async fn ones_to_native(&mut self, messages: usize) -> Figure {
        let done = self.delivered_to_native().await;
        let meter = Meter::start(self).await;
        for _ in 0..messages {
            self.push(1).await;
        }
        self.delivered(done + messages).await;
        meter.read(self, messages).await
    }

    /// The same, so many a second.
    pub(super) async fn steadily_to_native(&mut self, rate: u32, time: Duration) -> Figure {
        let messages = rate * u32::try_from(time.as_secs()).unwrap();
        let done = self.delivered_to_native().await;
        let (meter, began) = (Meter::start(self).await, Instant::now());
        for n in 0..messages {
            sleep_until(began + Duration::from_secs(1) / rate * n).await;
            self.push(1).await;
        }
        let messages = messages as usize;
        self.delivered(done + messages).await;
        meter.read(self, messages).await
    }

    /// One envelope in a `POST`, of everybody at once.
    pub(super) async fn posts_to_matrix(&mut self, messages: usize) -> Figure {
        let mut of_each: Vec<Vec<Batch>> = self.people.iter().map(|_| Vec::new()).collect();
        for (speaker, batch) in self.sealed(messages).await {
            of_each[speaker].push(batch);
        }
        let goal = self.sent(0).await + messages;
        let meter = Meter::start(self).await;
        let posts = self.people.iter().zip(&of_each).map(async |(person, batches)| {
            for batch in batches {
                person.post(batch).await.unwrap();
            }
        });
        join_all(posts).await;
        self.all_sent(goal).await;
        meter.read(self, messages).await
    }

    /// Messages by everybody in turn, in every room in turn, each sealed for itself, with who says it.
    pub(super) async fn sealed(&mut self, messages: usize) -> Vec<(usize, Batch)> {
        let mut sealed = Vec::with_capacity(messages);
        for n in 0..messages {
            let (speaker, group) = (n % self.people.len(), self.groups[n % self.groups.len()]);
            let item = outgoing(text(&self.next_body()));
            let batch = self.people[speaker].seal(group, &[item]).await;
            sealed.push((speaker, batch));
        }
        sealed
    }
}
