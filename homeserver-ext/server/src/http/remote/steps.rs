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

/// Items of `from`, in their order.
pub(super) fn steps(from: &str, items: Vec<Item>) -> Vec<Step> {
    let mut steps = Vec::new();
    for item in items {
        match said(from, item) {
            Ok(new) => new.into_iter().for_each(|one| push(&mut steps, one)),
            Err(item) => steps.push(Step::Item(*item)),
        }
    }
    steps
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
        let shown: Vec<String> = steps("b.example", items)
            .into_iter()
            .map(|step| match step {
                Step::Said(said) => said
                    .into_iter()
                    .map(|one| String::from_utf8(one.payload).unwrap())
                    .collect::<Vec<_>>()
                    .join(" "),
                Step::Item(Item::Event(_, event)) => match event.carried {
                    Carried::Envelopes(envelopes) => format!("event of {}", envelopes.len()),
                    Carried::Ops(_) => "ops".to_owned(),
                },
                Step::Item(_) => "item".to_owned(),
            })
            .collect();
        assert_eq!(shown, ["a b c", "d", "e f", "item", "g", "event of 2", "event of 2", "i"]);
    }
}
