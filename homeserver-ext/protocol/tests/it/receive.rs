use causeway_protocol::{
    device::DeviceOf,
    ids::{AccountId, DeviceId, Epoch, MemberId, Seq},
    roster::{Arrival, Verdict, is_dropped_in_channel},
};
use serde_json::Value;

use crate::vectors::{Get, NATIVE, placed_log};

fn account_of(member_id: MemberId) -> AccountId {
    let is = |person: &&Value| person.array("member_id") == *member_id.as_bytes();
    NATIVE.list("people").iter().find(is).unwrap().text("account").parse().unwrap()
}

#[test]
fn messages_are_received_as_the_tables_say() {
    let rules = &NATIVE["receive_rules"];
    let mut rows = 0;
    for table in [rules].into_iter().chain(rules.list("more")) {
        let log = placed_log(table.list("history"), table.list("op_seq"));
        for (entry, hash) in log.entries().iter().zip(table.list("roster_hashes")) {
            assert_eq!(hex::encode(entry.roster_hash), hash.as_str().unwrap());
        }
        for row in table.list("rows") {
            let sender = DeviceOf {
                member_id: MemberId::new(row.array("sender_member")),
                device_id: DeviceId::new(row.array("sender_device")),
            };
            let header_epoch = Epoch(row.small("header_epoch"));
            let message = Arrival {
                sender,
                account: &account_of(sender.member_id),
                key_epoch: row.flag("chain_held").then(|| Epoch(row.small("chain_epoch"))),
                header_epoch,
                hint: row.array("roster_hint"),
                place: Seq(row.number("seq")),
            };
            let mut verdict = log.judge(&message);
            if matches!(verdict, Verdict::Open { .. }) {
                let roster = log.by_hint(header_epoch, message.hint).unwrap();
                if is_dropped_in_channel(roster, &sender, row.small("type")) {
                    assert_eq!("dropped_in_channel", row.text("verdict"), "{}", row.text("name"));
                    let passes = |number: &u8| !is_dropped_in_channel(roster, &sender, *number);
                    let everyones: Vec<u8> = (0..=u8::MAX).filter(passes).collect();
                    assert_eq!(everyones, [6, 7, 16, 17]);
                    rows += 1;
                    continue;
                }
            }
            assert_eq!(verdict.reason(), row.text("verdict"), "{}", row.text("name"));
            rows += 1;

            let mallory = "mallory:a.example".parse().unwrap();
            verdict = log.judge(&Arrival { account: &mallory, ..message });
            assert!(!matches!(verdict, Verdict::Open { .. }), "under another account");
        }
    }
    assert_eq!(rows, 97);
}
