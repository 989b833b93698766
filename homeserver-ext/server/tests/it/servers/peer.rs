//! A server of the test's own, which says whatever the test wants.

use causeway_protocol::{
    ids::{ItemId, ServerLinkId},
    link::{Ack, Answer, Content, Frame, Item},
};
use serde_json::Value;

use super::wire::{door, hand_in};
use crate::harness::{Server, random};

pub(super) struct Peer {
    name: &'static str,
    link: ServerLinkId,
    sent: u64,
    last: Option<Value>,
    /// What came of the server's link.
    taken: Option<Ack>,
}

impl Peer {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, link: ServerLinkId::new(random()), sent: 0, last: None, taken: None }
    }

    /// As after a start.
    pub(super) fn begin_anew(&mut self, link: ServerLinkId) {
        (self.link, self.sent) = (link, 0);
    }

    pub(super) fn frame(&mut self, items: Vec<Value>) -> Value {
        self.sent += u64::from(!items.is_empty());
        let (link, seq, ack) = (self.link, self.sent, self.taken);
        Frame { link, seq, ack, reset: None, had: None, gives: None, items }.to_json()
    }

    /// Asks, and fetches the answers, in their order.
    pub(super) async fn ask(&mut self, server: &Server, items: Vec<Value>) -> Vec<Answer> {
        let frame = self.frame(items);
        self.last = Some(frame.clone());
        assert!(hand_in(server, self.name, frame).await.is_empty());
        self.answers(server).await
    }

    /// The last frame comes once more.
    pub(super) async fn again(&mut self, server: &Server) -> Vec<Answer> {
        hand_in(server, self.name, self.last.clone().unwrap()).await;
        self.answers(server).await
    }

    pub(super) async fn answers(&mut self, server: &Server) -> Vec<Answer> {
        let items = self.items(door(server).await);
        let answers = items.into_iter().map(|item| match item {
            Item::Answer(_, answer) => answer,
            other => panic!("{other:?}"),
        });
        answers.collect()
    }

    /// Waits for what the server asks, and answers it.
    pub(super) async fn answer_next(&mut self, server: &Server, status: u16, body: Value) {
        loop {
            for item in self.items(door(server).await) {
                let Item::Ask(to, _) = item else { continue };
                let answer = Item::Answer(ItemId::new(random()), Answer { to, status, body });
                let frame = self.frame(vec![answer.to_json()]);
                hand_in(server, self.name, frame).await;
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// What has come of the server now.
    pub(super) async fn said(&mut self, server: &Server) -> Vec<Item> {
        self.items(door(server).await)
    }

    /// Of frames that came those that are for it.
    pub(super) fn items(&mut self, frames: Vec<Value>) -> Vec<Item> {
        let mut items = Vec::new();
        for frame in frames.into_iter().filter(|frame| frame["to"] == self.name) {
            let content = frame["content"].to_string();
            let Ok(Content::Frame(frame)) = Content::parse(content.as_bytes()) else { panic!() };
            if !frame.items.is_empty() {
                self.taken = Some(Ack { link: frame.link, seq: frame.seq });
            }
            items.extend(frame.items.iter().map(|item| Item::parse(item).unwrap()));
        }
        items
    }
}
