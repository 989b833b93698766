//! Members who mean harm: in the group, and not in the call, or in it and lying.

use causeway_protocol::{
    ids::{CallId, DeviceId},
    olm_plaintext::CallSignal,
};
use zeroize::Zeroizing;

use super::caller::Line;
use crate::{cli_calls::does, cli_world::World};

fn signal(call: CallId, epoch: u32, json: &str) -> CallSignal {
    CallSignal { call, epoch, json: Zeroizing::new(json.as_bytes().to_vec()) }
}

const BYE: &str = r#"{"t":"group_call_bye","reason":"left"}"#;
const JUNK: &str = r#"{"t":"group_call_offer","sdp":"v=0\r\nm=video 9 RTP/AVP 96\r\n"}"#;

#[test]
fn members_who_mean_harm_disturb_nobody() {
    let world = World::new();
    let people = world.group(["alice", "bob", "mallory"]);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    line.call(1, &people[1], false);
    line.until_all_hear(&[0, 1], 2);
    let call = line.which().1;
    let epoch = line.states[&0].epoch;
    let to: Vec<DeviceId> = line.devices.keys().copied().collect();

    // Not in it: goodbyes, offers, another call, epochs of long ago and of years ahead, no JSON.
    does(&people[2], async |client, group| {
        for to in &to {
            for said in [
                signal(call, epoch, BYE),
                signal(call, epoch, JUNK),
                signal(CallId::new([0; 16]), epoch, BYE),
                signal(call, u32::MAX, BYE),
                signal(call, epoch, "{"),
                signal(call, epoch, r#"{"t":"group_call_key","index":0,"key":"AA"}"#),
            ] {
                client.signal(group, *to, &said).await.unwrap();
            }
            for _ in 0..40 {
                client.signal(group, *to, &signal(call, epoch, BYE)).await.unwrap();
            }
        }
    });
    for n in [0, 1] {
        line.until("it is refused", |line| {
            line.is_told(n, "Unreadable")
                && line.is_told(n, "TooMany")
                && line.is_told(n, "Stranger")
        });
    }
    line.until_all_hear(&[0, 1], 3);

    // In it, and lying: what it says of its own connection may break that one, and no other.
    line.call(2, &people[2], false);
    line.until_all_hear(&[0, 1, 2], 2);
    line.kill(2);
    does(&people[2], async |client, group| {
        for to in &to {
            for _ in 0..60 {
                for json in [JUNK, r#"{"t":"group_call_bye","reason":"unknown"}"#] {
                    client.signal(group, *to, &signal(call, epoch, json)).await.unwrap();
                }
            }
        }
    });
    line.until_all_hear(&[0, 1], 4);
    let broken = line.told.iter().filter(|(_, told)| {
        let of = |n: usize| line.devices.iter().find(|(_, m)| **m == n).unwrap().0.to_string();
        (told.contains("Broken") || told.contains("Failed"))
            && (told.contains(&of(0)) || told.contains(&of(1)))
    });
    assert_eq!(broken.count(), 0, "{:?}", line.told);
    line.until_in_it(&[0, 1]);
}
