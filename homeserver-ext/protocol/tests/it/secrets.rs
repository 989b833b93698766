//! What a log or a panic would print of a secret: what it is, and nothing of it.

use causeway_protocol::{
    ids::{DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    invite::LinkSecret,
    olm_plaintext::{Node, OlmPlaintext, Piece, Route, SharedKey},
};
use zeroize::Zeroizing;

#[test]
fn a_secret_is_printed_as_its_shape() {
    let (group, device) = (GroupId::new([1; 32]), DeviceId::new([2; 32]));
    let route = Route { group, from: device, to: device };
    let key = || Zeroizing::new([0xab; 32]);
    let shared = SharedKey {
        alg: 1,
        generation: 5,
        epoch: Epoch(6),
        roster_hash: RosterHash::new([3; 32]),
        created_ms: Timestamp(7),
        not_after_ms: Timestamp(8),
        key: key(),
    };
    let piece = Piece { key: key(), binding: [4; 32] };
    let binding = format!("{:?}", piece.binding);
    let printed = [
        (
            format!("{:?}", OlmPlaintext::SharedKey(route, shared.clone())),
            format!("OlmPlaintext {{ kind: KeyDistribution, route: Some({route:?}), .. }}"),
        ),
        (
            format!("{:?}", OlmPlaintext::Piece(piece.clone())),
            "OlmPlaintext { kind: Fanout, route: None, .. }".to_owned(),
        ),
        (format!("{shared:?}"), "SharedKey { epoch: Epoch(6), generation: 5, .. }".to_owned()),
        (format!("{piece:?}"), format!("Piece {{ binding: {binding}, .. }}")),
        (format!("{:?}", Node { depth: 3, prefix: 2, seed: key() }), "Node(3, 2)".to_owned()),
        (format!("{:?}", LinkSecret::new(Zeroizing::new([0xab; 16]))), "LinkSecret(…)".to_owned()),
    ];
    for (got, wanted) in printed {
        assert_eq!(got, wanted);
    }
}
