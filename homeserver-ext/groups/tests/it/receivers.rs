//! What fuzzing plays at the receivers (`fuzz/`), with steps that are made at random.

use std::sync::LazyLock;

use causeway_groups::schemes::legacy::{OwnKey, Suite, opus_v1, ren_a};
use proptest::prelude::*;
use zeroize::Zeroizing;

#[path = "../../fuzz/receivers/every.rs"]
mod plays;

/// A message and a key of each suite, as they travel, and an invite.
static LEGACY: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut opus = opus_v1::from_master_secret(&[9; 32]);
    let (index, sealed, signature) = opus.seal([0; 12], b"hello").expect("sealed");
    let names = ("g".to_owned(), "m".to_owned());
    let envelope = opus_v1::Envelope::new(names, "ab".to_owned(), 1, (index, &sealed, signature));
    let mut own = OwnKey::new(Suite::RenA, 3, &Zeroizing::new([9; 32]), &Zeroizing::new([8; 32]));
    let (iteration, sealed, signature) = own.seal([0; 12], b"hello").expect("sealed");
    let ren = ren_a::Envelope::new((1, 2), 3, (iteration.try_into().unwrap(), &sealed, signature));
    let chain = ren_a::Chain::try_from(own.given()).unwrap();
    let (once, to) = (Zeroizing::new([7; 32]), [9; 32]);
    let given = ren_a::Distribution::new((1, 2), &chain, &once, &to).unwrap();
    let invite = opus_v1::Invite {
        group_id: "g".to_owned(),
        group_name: "Garden".to_owned(),
        creator_public_key: "ab".to_owned(),
        expires: u64::MAX,
        token: "t".to_owned(),
    };
    vec![
        envelope.to_json().into_bytes(),
        opus_v1::Distribution::from(opus.given()).to_json().as_bytes().to_vec(),
        invite.to_link().into_bytes(),
        ren.to_json().into_bytes(),
        given.to_json().into_bytes(),
    ]
});

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
    fn what_is_changed_of_a_legacy_text_opens_for_nobody(
        at in any::<prop::sample::Index>(), by in 0..255_u8, which in any::<prop::sample::Index>(),
    ) {
        let mut text = which.get(&LEGACY).clone();
        let at = at.index(text.len());
        text[at] ^= by;
        plays::legacy(&text);
    }

    #[test]
    fn what_was_stored_is_written_again(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        plays::stored(&bytes);
    }
}
