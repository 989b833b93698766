//! Several groups, or much of one, that a home lost and is given back together with third servers' accounts.

use std::{collections::BTreeSet, time::Duration};

use causeway_protocol::{
    api::{GroupHead, OpBytes, OpPage},
    ids::{Epoch, GroupId, ItemId},
    link::{Answer, Ask, Call, Head, Item, Tell},
    roster::Body,
};
use serde_json::{Value, json};

use super::{
    OTHER, at,
    operator::other,
    peer::Peer,
    put_back::{copy, put_back},
    strangers::{show, shown},
    thirds::{HOME, THIRD},
    wire::{door, hand_in},
};
use crate::harness::{Group, Person, Server, random};

/// More than may wait for third servers at once.
const MANY: usize = 20;

/// A home that lost groups, each with somebody of a third server, and the two others.
struct Lost {
    home: Server,
    alice: Person,
    erin: Person,
    groups: Vec<Group>,
    second: Peer,
    third: Peer,
    /// How many ops it is given at once.
    page: usize,
    /// Groups whose ops it was given.
    given: BTreeSet<GroupId>,
    /// What it asked the third server.
    asked: Vec<ItemId>,
}

impl Lost {
    /// So many groups, in which somebody of the third server came before somebody of the second, or after.
    async fn groups(count: usize, is_third_first: bool, page: usize) -> Self {
        let home = at(HOME).await;
        let alice = home.person("alice").await;
        let (carol, erin) = (Person::at("carol", OTHER), Person::at("erin", THIRD));
        copy(&home).await;
        hand_in(&home, OTHER, Peer::new(OTHER).frame(vec![show(&carol)])).await;
        hand_in(&home, THIRD, Peer::new(THIRD).frame(vec![show(&erin)])).await;
        let mut groups = Vec::new();
        let come = if is_third_first { [&erin, &carol] } else { [&carol, &erin] };
        for _ in 0..count {
            let mut group = Group::create(&home, &alice).await;
            for who in come {
                group.post(&home, &alice, &Body::Add(vec![who.entry(0)])).await;
            }
            groups.push(group);
        }
        let home = put_back(home, HOME).await;
        let (mut second, third) = (Peer::new(OTHER), Peer::new(THIRD));
        let heads = groups.iter().map(|group| Head {
            group: group.id(),
            stream: None,
            seq: None,
            epoch: group.roster.epoch(),
            roster_hash: group.roster.hash(),
        });
        let heads = Item::Tell(ItemId::new(random()), Tell::Heads(heads.collect()));
        hand_in(&home, OTHER, second.frame(vec![show(&carol), heads.to_json()])).await;
        let (given, asked) = (BTreeSet::new(), Vec::new());
        Self { home, alice, erin, groups, second, third, page, given, asked }
    }

    /// Gives the home what it asks for now, and notes what it asks the third server.
    async fn turn(&mut self) {
        let frames = door(&self.home).await;
        for item in self.third.items(frames.clone()) {
            if let Item::Ask(to, Ask { call: Call::Account, .. }) = item {
                self.asked.push(to);
            }
        }
        let mut answers = Vec::new();
        for item in self.second.items(frames) {
            let Item::Ask(to, Ask { call: Call::Ops, body, .. }) = item else { continue };
            let group = self.groups.iter().find(|group| body["group"] == json!(group.id()));
            let group = group.expect("a group of ours");
            let from = usize::try_from(body["from"].as_u64().unwrap()).unwrap();
            let ops = group.ops[from..].iter().take(self.page);
            let ops: Vec<_> = ops.map(|op| OpBytes(op.as_bytes().to_vec())).collect();
            let next = (from + ops.len() < group.ops.len())
                .then(|| Epoch(u32::try_from(from + ops.len()).unwrap()));
            let page = OpPage { ops, epoch: group.roster.epoch(), next };
            let answer = Answer { to, status: 200, body: serde_json::to_value(page).unwrap() };
            answers.push(Item::Answer(ItemId::new(random()), answer).to_json());
            self.given.insert(group.id());
        }
        if answers.is_empty() {
            tokio::task::yield_now().await;
        } else {
            hand_in(&self.home, OTHER, self.second.frame(answers)).await;
        }
    }

    /// The third server shows the account.
    async fn show(&mut self) {
        let body: Value = serde_json::to_value(shown(&self.erin)).unwrap();
        for to in std::mem::take(&mut self.asked) {
            let answer = Answer { to, status: 200, body: body.clone() };
            let answer = Item::Answer(ItemId::new(random()), answer).to_json();
            hand_in(&self.home, THIRD, self.third.frame(vec![answer])).await;
        }
    }

    async fn has(&self, group: &Group) -> bool {
        let answer = self.alice.get(&self.home, &group.path("")).await;
        answer.status.is_success() && answer.ok::<GroupHead>().epoch == group.roster.epoch()
    }
}

#[tokio::test]
async fn more_groups_than_wait_for_third_servers_at_once_are_all_given_back_in_the_end() {
    let mut lost = Lost::groups(MANY, false, 3).await;
    let all = tokio::time::timeout(Duration::from_mins(1), async {
        while lost.given.len() < MANY || lost.asked.is_empty() {
            lost.turn().await;
        }
        assert!(other(&lost.home).await["limited"].as_u64().unwrap() > 0, "all of them wait");
        lost.show().await;
        for n in 0..MANY {
            while !lost.has(&lost.groups[n]).await {
                lost.turn().await;
            }
        }
    });
    all.await.expect("each has all its ops");
    assert_eq!(other(&lost.home).await["refused"], 0, "none was judged without");
}

#[tokio::test]
async fn groups_whose_third_server_does_not_answer_make_room_for_others() {
    let mut lost = Lost::groups(MANY, false, 3).await;
    let all = tokio::time::timeout(Duration::from_mins(1), async {
        while lost.given.len() < MANY {
            lost.turn().await;
        }
        lost.given.clear();
        lost.home.pass_ms(31_000);
        while lost.given.len() < MANY - 16 {
            lost.turn().await;
        }
    });
    all.await.expect("those without room are asked for again");
    assert_eq!(other(&lost.home).await["refused"], 0);
}

/// Who gives them has nobody in the group until its second page: the home knows it by its own create.
#[tokio::test]
async fn a_home_is_given_its_own_group_back_in_pages_with_somebody_of_a_third_server_on_the_first()
{
    let mut lost = Lost::groups(1, true, 2).await;
    let all = tokio::time::timeout(Duration::from_mins(1), async {
        while lost.asked.is_empty() {
            lost.turn().await;
        }
        lost.show().await;
        while !lost.has(&lost.groups[0]).await {
            lost.turn().await;
        }
    });
    all.await.expect("it has all of them");
    assert_eq!(other(&lost.home).await["refused"], 0, "none was judged without");
}
