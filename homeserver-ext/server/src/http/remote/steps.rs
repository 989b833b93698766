//! A frame's items as they are dealt with: what one device says to one group goes down together.

use causeway_protocol::{
    envelope::Submission,
    link::{Carried, Item, Row},
};

/// What is dealt with at once.
pub(super) enum Step {
    /// What one device of the sending server said to one group, in its order, of its form.
    Said(Vec<Submission>),
    /// Anything else, and what is not as it should be.
    Item(Item),
}

/// Items of `from`, in their order, without the first `done` things in them: each envelope is one, and each other
/// item.
pub(super) fn steps(from: &str, items: Vec<Item>, mut done: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for item in items {
        match said(from, item) {
            Ok(mut new) => {
                pass(&mut new, &mut done);
                for one in new {
                    push(&mut steps, one);
                }
            }
            Err(item) => match *item {
                Item::Event(id, mut event) => match &mut event.carried {
                    Carried::Envelopes(envelopes) => {
                        pass(envelopes, &mut done);
                        if !envelopes.is_empty() {
                            steps.push(Step::Item(Item::Event(id, event)));
                        }
                    }
                    Carried::Ops(_) if done > 0 => done -= 1,
                    Carried::Ops(_) => steps.push(Step::Item(Item::Event(id, event))),
                },
                _ if done > 0 => done -= 1,
                other => steps.push(Step::Item(other)),
            },
        }
    }
    steps
}

/// Leaves out as many of these as are still to be passed over.
fn pass<T>(all: &mut Vec<T>, done: &mut usize) {
    let passed = all.len().min(*done);
    all.drain(..passed);
    *done -= passed;
}

/// What members said by this item, where it is that and nothing is wrong with it.
fn said(from: &str, item: Item) -> Result<Vec<Submission>, Box<Item>> {
    match item {
        Item::Row(row @ Row::Member(_)) if row.check(from).is_err() => {
            Err(Box::new(Item::Row(row)))
        }
        Item::Row(Row::Member(submission)) => Ok(vec![submission]),
        Item::Event(id, mut event) => {
            let Carried::Envelopes(envelopes) = &mut event.carried else {
                return Err(Box::new(Item::Event(id, event)));
            };
            let envelopes = std::mem::take(envelopes);
            if envelopes.iter().all(|envelope| event.check(envelope, from).is_ok()) {
                return Ok(envelopes);
            }
            event.carried = Carried::Envelopes(envelopes);
            Err(Box::new(Item::Event(id, event)))
        }
        other => Err(Box::new(other)),
    }
}

fn push(steps: &mut Vec<Step>, one: Submission) {
    match steps.last_mut() {
        Some(Step::Said(said))
            if said.iter().all(|it| it.sender == one.sender && it.group == one.group) =>
        {
            said.push(one);
        }
        _ => steps.push(Step::Said(vec![one])),
    }
}

#[cfg(test)]
mod tests {
    use causeway_protocol::{
        envelope::{Kind, Recipient, Sender, SubmittedTo, compute_id},
        ids::{DeviceId, Epoch, GroupId, ItemId, StreamId},
        link::{Event, EventPlace, Tell},
    };

    use super::*;

    fn submission(who: u8, group: u8, word: &str, to: SubmittedTo) -> Submission {
        let (kind, recipient) = match &to {
            SubmittedTo::Device(device) => (Kind::KeyDistribution, Recipient::Device(*device)),
            _ => (Kind::Message, Recipient::Broadcast),
        };
        let (device, payload) = (DeviceId::new([who; 32]), word.as_bytes().to_vec());
        Submission {
            id: Some(compute_id(kind, Some(&device), &recipient, &payload, None)),
            kind,
            group: GroupId::new([group; 32]),
            epoch: Epoch(1),
            sender: Sender { account: format!("p{who}:b.example").parse().unwrap(), device },
            to,
            ttl_ms: 1_000,
            payload,
        }
    }

    fn event(group: u8, envelopes: Vec<Submission>) -> Item {
        let place = EventPlace { stream: StreamId::new([1; 16]), seq: 1 };
        let group = GroupId::new([group; 32]);
        let event = Event { group, place, after: None, carried: Carried::Envelopes(envelopes) };
        Item::Event(ItemId::new([1; 16]), event)
    }

    #[test]
    fn what_one_says_to_one_group_goes_together_until_something_else_comes() {
        let all = |who, group, word| submission(who, group, word, SubmittedTo::Broadcast);
        let one = |who, group, word| {
            let to = SubmittedTo::Device(DeviceId::new([9; 32]));
            Item::Row(Row::Member(submission(who, group, word, to)))
        };
        let foreign = {
            let mut said = all(1, 1, "foreign");
            said.sender.account = "p1:c.example".parse().unwrap();
            said
        };
        let tell = Item::Tell(ItemId::new([2; 16]), Tell::Leave(GroupId::new([1; 32])));
        let items = vec![
            one(1, 1, "a"),
            event(1, vec![all(1, 1, "b"), all(1, 1, "c")]),
            one(2, 1, "d"),
            one(2, 2, "e"),
            event(2, vec![all(2, 2, "f")]),
            tell,
            one(2, 2, "g"),
            event(2, vec![all(2, 2, "h"), foreign]),
            event(2, vec![all(2, 2, "of another"), all(2, 1, "group")]),
            one(2, 2, "i"),
        ];
        let shown = |done| -> Vec<String> {
            steps("b.example", items.clone(), done).into_iter().map(in_words).collect()
        };
        let all = ["a b c", "d", "e f", "item", "g", "event of 2", "event of 2", "i"];
        assert_eq!(shown(0), all);
        // What was dealt with is left out, whatever it stands together with.
        assert_eq!(shown(2)[0], "c");
        assert_eq!(shown(3), all[1..]);
        assert_eq!(shown(5)[0], "f");
        assert_eq!(shown(6), all[3..]);
        assert_eq!(shown(7), all[4..]);
        assert_eq!(shown(9), ["event of 1", "event of 2", "i"]);
        assert_eq!(shown(10), ["event of 2", "i"]);
        assert_eq!(shown(13), Vec::<String>::new());
    }

    fn in_words(step: Step) -> String {
        match step {
            Step::Said(said) => {
                let words = said.into_iter().map(|one| String::from_utf8(one.payload).unwrap());
                words.collect::<Vec<_>>().join(" ")
            }
            Step::Item(Item::Event(_, event)) => match event.carried {
                Carried::Envelopes(envelopes) => format!("event of {}", envelopes.len()),
                Carried::Ops(_) => "ops".to_owned(),
            },
            Step::Item(_) => "item".to_owned(),
        }
    }
}
