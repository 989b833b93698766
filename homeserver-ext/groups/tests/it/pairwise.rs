//! The construction by itself: what opens, where, and with which key.

use causeway_groups::schemes::pairwise::{FanOut, OpenError, open};
use causeway_protocol::{
    content::{Content, Plaintext},
    fanout::{Context, Header, Malformed, Message},
    ids::{ClientId, DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    olm_plaintext::Piece,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

const BOB: DeviceId = DeviceId::new([0xb0; 32]);

fn context() -> Context {
    Context {
        group: GroupId::new([1; 32]),
        sender: DeviceId::new([2; 32]),
        epoch: Epoch(3),
        roster: RosterHash::new([4; 32]),
        msg_id: ClientId::new([5; 16]),
    }
}

/// A plaintext of a type that nobody knows, so that its body may be anything.
fn plaintext(body: &[u8]) -> Vec<u8> {
    let content = Content::Unknown(200, body.to_vec());
    let sent_at = Timestamp(1_800_000_000_000);
    Plaintext { sent_at, ttl_s: 0, client_id: context().msg_id, content }.to_bytes()
}

fn sealed(body: &[u8]) -> FanOut {
    FanOut::seal(context(), Zeroizing::new([7; 32]), &plaintext(body)).unwrap()
}

fn opened(
    payload: &[u8],
    context: &Context,
    to: &DeviceId,
    piece: &Piece,
) -> Result<Vec<u8>, OpenError> {
    let message = Message::parse(payload).map_err(|Malformed| OpenError::Malformed)?;
    open(&message, context, to, piece).map(|text| text.to_vec())
}

#[test]
fn whoever_has_a_piece_opens_every_shard_with_it() {
    let fan_out = sealed(b"hello");
    for (shard, shards) in [(0, 1), (0, 2), (1, 2), (65_534, 65_535)] {
        let payload = fan_out.payload(shard, shards);
        let text = opened(&payload, &context(), &BOB, &fan_out.piece(&BOB));
        assert_eq!(text, Ok(plaintext(b"hello")));
    }
}

#[test]
fn what_is_kept_opens_in_its_own_context_only_and_its_key_is_the_same() {
    let fan_out = sealed(b"hello");
    let bytes = fan_out.encode();
    let read = FanOut::decode(context(), &bytes).unwrap();
    assert_eq!(read.payload(0, 1), fan_out.payload(0, 1));
    assert!(read.piece(&BOB) == fan_out.piece(&BOB));
    assert!(FanOut::decode(Context { epoch: Epoch(4), ..context() }, &bytes).is_none());
    for at in 0..bytes.len() {
        let mut bent = bytes.to_vec();
        bent[at] ^= 1;
        assert!(FanOut::decode(context(), &bent).is_none(), "{at}");
    }
    assert!(FanOut::decode(context(), &[]).is_none());
}

proptest! {
    #[test]
    fn any_changed_bit_of_payload_or_piece_is_refused(
        body in prop::collection::vec(any::<u8>(), 0..80),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let fan_out = sealed(&body);
        let (payload, piece) = (fan_out.payload(1, 4), fan_out.piece(&BOB));
        let mut bytes = [payload.as_slice(), &*piece.key, &piece.binding].concat();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (bent, rest) = bytes.split_at(payload.len());
        let (key, binding) = rest.split_at(32);
        let piece = Piece {
            key: Zeroizing::new(key.try_into().unwrap()),
            binding: binding.try_into().unwrap(),
        };
        // The context is the one that the header says, as a reader has it.
        let context = Message::parse(bent).map_or_else(|_| context(), |message| {
            let Header { roster, msg_id, .. } = message.header;
            Context { roster, msg_id, ..context() }
        });
        let opened = opened(bent, &context, &BOB, &piece);
        // Where it stands among the shards is nothing that a reader goes by.
        if (1..5).contains(&at) {
            prop_assert!(opened.is_err() || opened == Ok(plaintext(&body)));
        } else {
            prop_assert!(opened.is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_piece_opens_nothing_in_another_context(which in 0_usize..6, with in 1_u8..) {
        let fan_out = sealed(b"hello");
        let (mut other, mut to) = (context(), BOB);
        let id = [with ^ 0xff; 32];
        match which {
            0 => other.group = GroupId::new(id),
            1 => other.sender = DeviceId::new(id),
            2 => other.epoch = Epoch(3 + u32::from(with)),
            3 => other.roster = RosterHash::new(id),
            4 => other.msg_id = ClientId::new([with ^ 0xff; 16]),
            _ => to = DeviceId::new(id),
        }
        prop_assume!(other != context() || to != BOB);
        let opened = opened(&fan_out.payload(0, 1), &other, &to, &fan_out.piece(&BOB));
        // All but the epoch is bound twice; the epoch's hash is its roster's.
        let why = if which == 2 { OpenError::Ciphertext } else { OpenError::Binding };
        prop_assert_eq!(opened, Err(why));
    }
}

#[test]
fn a_fan_out_is_101_bytes_longer_than_its_text() {
    let fan_out = sealed(&[b'x'; 1_024]);
    let text = plaintext(&[b'x'; 1_024]).len();
    assert_eq!(fan_out.payload(0, 1).len(), text + 101);
    assert_eq!(fan_out.payload_len(), text + 101);
}
