//! Pairwise fan-out: messages, the pieces of three recipients, and what of both is put together.

use std::sync::LazyLock;

use causeway_groups::schemes::pairwise::{FanOut, OpenError, open};
use causeway_protocol::{
    fanout::{Context, Message},
    ids::{ClientId, DeviceId, Epoch, GroupId, RosterHash},
    olm_plaintext::Piece,
};
use zeroize::Zeroizing;

use super::moves::{Move, changed, cut, moves};

const MESSAGES: usize = 8;
const READERS: [DeviceId; 3] =
    [DeviceId::new([3; 32]), DeviceId::new([4; 32]), DeviceId::new([5; 32])];

struct Sealed {
    fan_out: FanOut,
    text: Vec<u8>,
    payload: Vec<u8>,
}

static MADE: LazyLock<Vec<Sealed>> = LazyLock::new(|| {
    (0..MESSAGES)
        .map(|number| {
            let number = byte(number);
            let text = [&[number; 13][..], &[number; 16], b"what it says"].concat();
            let fan_out = FanOut::seal(context(number), Zeroizing::new([number; 32]), &text);
            let fan_out = fan_out.expect("it is short");
            let payload = fan_out.payload(0, 1);
            Sealed { fan_out, text, payload }
        })
        .collect()
});

fn byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

fn context(number: u8) -> Context {
    Context {
        group: GroupId::new([1; 32]),
        sender: DeviceId::new([2; 32]),
        epoch: Epoch(3),
        roster: RosterHash::new([4; 32]),
        msg_id: ClientId::new([number; 16]),
    }
}

fn read(
    payload: &[u8],
    context: &Context,
    reader: &DeviceId,
    piece: &Piece,
) -> Result<Vec<u8>, OpenError> {
    let message = Message::parse(payload).map_err(|_| OpenError::Malformed)?;
    // What it is bound to is looked up by what its header says.
    if message.header.roster != context.roster {
        return Err(OpenError::Binding);
    }
    Ok(open(&message, context, reader, piece)?.to_vec())
}

/// Plays `bytes`.
pub(crate) fn pairwise(bytes: &[u8]) {
    for step in moves(bytes) {
        match step {
            Move::Deliver(number) => {
                let (number, who) = (number % MESSAGES, READERS[number / MESSAGES % 3]);
                let sealed = &MADE[number];
                let piece = sealed.fan_out.piece(&who);
                let right = context(byte(number));
                assert_eq!(read(&sealed.payload, &right, &who, &piece).as_ref(), Ok(&sealed.text));
                // Nobody else's piece, and no other message's, opens it.
                let (other, another) = (READERS[(number + 1) % 3], &MADE[(number + 1) % MESSAGES]);
                if other != who {
                    let theirs = sealed.fan_out.piece(&other);
                    assert_eq!(
                        read(&sealed.payload, &right, &who, &theirs),
                        Err(OpenError::Binding)
                    );
                }
                let foreign = another.fan_out.piece(&who);
                assert_eq!(
                    read(&sealed.payload, &right, &who, &foreign),
                    Err(OpenError::Commitment)
                );
            }
            Move::Change(number, at, by) => {
                let (number, who) = (number % MESSAGES, READERS[number / MESSAGES % 3]);
                let sealed = &MADE[number];
                // The number of the shard is no part of what is authenticated.
                let at = at % sealed.payload.len();
                if !(1..5).contains(&at) {
                    let wrong = changed(&sealed.payload, at, by);
                    let piece = sealed.fan_out.piece(&who);
                    assert!(read(&wrong, &context(byte(number)), &who, &piece).is_err());
                }
                let mut piece = sealed.fan_out.piece(&who);
                if at < 32 {
                    piece.key[at] ^= by;
                } else {
                    piece.binding[at % 32] ^= by;
                }
                assert!(read(&sealed.payload, &context(byte(number)), &who, &piece).is_err());
            }
            Move::Cut(number, at) => {
                let sealed = &MADE[number % MESSAGES];
                let piece = sealed.fan_out.piece(&READERS[0]);
                let short = cut(&sealed.payload, at);
                assert!(read(short, sealed.fan_out.context(), &READERS[0], &piece).is_err());
            }
            Move::Elsewhere(number, field) => {
                let sealed = &MADE[number % MESSAGES];
                let mut wrong = *sealed.fan_out.context();
                match field % 5 {
                    0 => wrong.group = GroupId::new([9; 32]),
                    1 => wrong.sender = DeviceId::new([9; 32]),
                    2 => wrong.roster = RosterHash::new([9; 32]),
                    3 => wrong.epoch = Epoch(9),
                    _ => wrong.msg_id = ClientId::new([99; 16]),
                }
                let piece = sealed.fan_out.piece(&READERS[0]);
                assert!(read(&sealed.payload, &wrong, &READERS[0], &piece).is_err());
            }
            Move::Restart | Move::Newcomer(_) => {
                let sealed = &MADE[0];
                let kept = sealed.fan_out.encode();
                let again =
                    FanOut::decode(*sealed.fan_out.context(), &kept).expect("what was kept");
                assert_eq!(again.payload(0, 1), sealed.payload);
                assert!(FanOut::decode(context(1), &kept).is_none(), "kept for another message");
            }
            Move::Junk(junk) => {
                let piece = MADE[0].fan_out.piece(&READERS[0]);
                assert!(read(junk, &context(0), &READERS[0], &piece).is_err());
            }
        }
    }
}
