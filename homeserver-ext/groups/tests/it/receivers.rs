//! What fuzzing plays at the receivers (`fuzz/`), with steps that are made at random.

use proptest::prelude::*;

#[path = "../../fuzz/receivers/every.rs"]
mod plays;

/// Steps as bytes: mostly those of few messages, so that the same ones meet.
fn steps() -> impl Strategy<Value = Vec<u8>> {
    let step = (any::<u8>(), 0..5_u8, prop_oneof![0..8_u8, any::<u8>()], any::<u8>());
    let bytes = |(kind, high, low, at): (u8, u8, u8, u8)| match kind % 16 {
        8..=10 => vec![kind, high, low, at],
        _ => vec![kind, high, low],
    };
    (any::<u8>(), prop::collection::vec(step.prop_map(bytes), 0..48))
        .prop_map(|(first, steps)| [vec![first], steps.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_sender_keys_receiver_shows_each_text_once(steps in steps()) {
        plays::sender_keys(&steps);
    }

    #[test]
    fn a_shared_key_receiver_shows_each_text_once(steps in steps()) {
        plays::shared_key(&steps);
    }

    #[test]
    fn a_fan_out_opens_for_its_recipient_in_its_context_only(steps in steps()) {
        plays::pairwise(&steps);
    }

    #[test]
    fn what_was_stored_is_written_again(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        plays::stored(&bytes);
    }
}
