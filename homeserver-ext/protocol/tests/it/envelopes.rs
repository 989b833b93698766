use std::collections::BTreeSet;

use causeway_protocol::{
    envelope::{
        BadEnvelope, Envelope, Kind, Piece, Recipient, Submission, SubmittedTo, compute_id,
        id_bytes,
    },
    ids::DeviceId,
};

use serde_json::Value;

use crate::vectors::{Get, NATIVE};

#[test]
fn rows_are_the_vectors() {
    for item in NATIVE["envelopes"].list("items") {
        let row: Envelope = serde_json::from_str(item.text("json")).unwrap();
        assert_eq!(serde_json::to_string(&row).unwrap(), item.text("json"));
        assert_eq!(u64::from(row.kind.number()), item.number("kind_no"));
        assert_eq!(row.group.as_bytes(), &item.array("group_id"));
        assert_eq!(row.payload, item.bytes("payload"));
        assert_eq!(row.ttl_ms, item.number("ttl_ms"));
        let sender = row.sender.as_ref().map(|sender| &sender.device);
        let preimage = id_bytes(row.kind, sender, &row.to, &row.payload, row.piece.as_ref());
        assert_eq!(preimage, item.bytes("id_preimage"), "{:?}", row.kind);
        assert_eq!(row.compute_id().as_bytes(), &item.array("id"));
        row.check().unwrap();
    }
}

#[test]
fn a_fanout_stands_for_its_rows() {
    let items = NATIVE["envelopes"].list("items");
    for item in NATIVE["envelopes"].list("submissions") {
        let submission: Submission = serde_json::from_str(item.text("json")).unwrap();
        // The order of keys in JSON is free, so values are compared.
        let json: Value = serde_json::from_str(item.text("json")).unwrap();
        assert_eq!(serde_json::to_value(&submission).unwrap(), json);
        submission.check().unwrap();
        let rows: BTreeSet<String> =
            submission.rows().map(|row| serde_json::to_string(&row).unwrap()).collect();
        let expected: BTreeSet<String> = item
            .list("rows")
            .iter()
            .map(|at| items[usize::try_from(at.as_u64().unwrap()).unwrap()].text("json").to_owned())
            .collect();
        assert_eq!(rows, expected);
    }
}

#[test]
fn what_is_posted_has_one_name_whoever_it_is_for() {
    let message = submission(row(Kind::Message));
    assert_eq!(Some(message.name()), message.id);
    let mut fanout = submission(row(Kind::Fanout));
    (fanout.id, fanout.payload) = (None, b"ciphertext".to_vec());
    let pieces = |pieces: &[(u8, &[u8])]| {
        let piece = |(n, piece): &(u8, &[u8])| (DeviceId::new([*n; 32]), Piece(piece.to_vec()));
        SubmittedTo::Devices(pieces.iter().map(piece).collect())
    };
    let mut name = |to| {
        fanout.to = to;
        fanout.name()
    };
    let both = name(pieces(&[(1, b"one"), (2, b"two")]));
    assert_eq!(both, name(pieces(&[(2, b"two"), (1, b"one")])), "sorted by device");
    for other in
        [&[(1, b"one" as &[u8])][..], &[(1, b"on"), (2, b"etwo")], &[(1, b"one"), (3, b"two")]]
    {
        assert_ne!(both, name(pieces(other)));
    }
    // As docs/protocol.md §11 has it: each device with the length of its piece, and the piece.
    let all = [[1; 32].as_slice(), b"\0\0\0\x03one", &[2; 32], b"\0\0\0\x03two"].concat();
    let (device, nobody) = (&fanout.sender.device, &Recipient::Broadcast);
    let whole = compute_id(Kind::Fanout, Some(device), nobody, b"ciphertext", Some(&Piece(all)));
    assert_eq!(both, whole);
}

fn row(kind: Kind) -> Envelope {
    let items = NATIVE["envelopes"].list("items").iter();
    let mut rows = items.map(|item| serde_json::from_str::<Envelope>(item.text("json")).unwrap());
    rows.find(|row| row.kind == kind).unwrap()
}

fn submission(row: Envelope) -> Submission {
    Submission {
        id: Some(row.id),
        kind: row.kind,
        group: row.group,
        epoch: row.epoch,
        sender: row.sender.unwrap(),
        to: match row.to {
            Recipient::Broadcast => SubmittedTo::Broadcast,
            Recipient::Device(device) => SubmittedTo::Device(device),
        },
        ttl_ms: row.ttl_ms,
        payload: row.payload,
    }
}

#[test]
fn submissions_are_refused_by_what_is_wrong_with_them() {
    let good = submission(row(Kind::Message));
    good.check().unwrap();
    let device = row(Kind::Direct).sender.unwrap().device;

    let refused = |change: fn(&mut Submission)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.check().unwrap_err()
    };
    assert_eq!(refused(|bad| bad.kind = Kind::Roster), BadEnvelope::ServerKind);
    assert_eq!(refused(|bad| bad.kind = Kind::Fanout), BadEnvelope::Recipient);
    assert_eq!(refused(|bad| bad.kind = Kind::KeyAck), BadEnvelope::Recipient);
    assert_eq!(refused(|bad| bad.to = SubmittedTo::Devices([].into())), BadEnvelope::Recipient);
    assert_eq!(refused(|bad| bad.ttl_ms = 0), BadEnvelope::Ttl(0, 2_592_000_000));
    let long = BadEnvelope::Ttl(2_592_000_001, 2_592_000_000);
    assert_eq!(refused(|bad| bad.ttl_ms = 2_592_000_001), long);
    assert_eq!(refused(|bad| bad.payload.push(0)), BadEnvelope::Id);
    assert_eq!(refused(|bad| bad.id = None), BadEnvelope::Id);
    let large = BadEnvelope::TooLarge(45_001, 45_000);
    let mut oversized = Submission { id: None, payload: vec![0; 45_001], ..good.clone() };
    let id = oversized.rows().next().unwrap().id;
    oversized.id = Some(id);
    assert_eq!((oversized.check_form(), oversized.check()), (Ok(()), Err(large)));
    let mut to_one = good.clone();
    to_one.to = SubmittedTo::Device(device);
    assert_eq!(to_one.check(), Err(BadEnvelope::Recipient));
    let mut call = submission(row(Kind::Call));
    call.check().unwrap();
    call.ttl_ms = 60_001;
    assert_eq!(call.check(), Err(BadEnvelope::Ttl(60_001, 60_000)));
}

#[test]
fn rows_are_refused_by_what_is_wrong_with_them() {
    let mut roster = row(Kind::Roster);
    roster.sender = row(Kind::Message).sender;
    assert_eq!(roster.check(), Err(BadEnvelope::Sender));
    let mut message = row(Kind::Message);
    message.sender = None;
    assert_eq!(message.check(), Err(BadEnvelope::Sender));
    let mut piece = row(Kind::Fanout);
    piece.piece = None;
    assert_eq!(piece.check(), Err(BadEnvelope::Piece));
    let mut expired = row(Kind::Expired);
    expired.to = Recipient::Broadcast;
    assert_eq!(expired.check(), Err(BadEnvelope::Recipient));
}

#[test]
fn each_kind_has_its_readers_its_reach_and_its_time() {
    let device = Recipient::Device(DeviceId::new([1; 32]));
    let (long, short) = (2_592_000_000, 60_000);
    // Of the server, read by people, for all, for one, and milliseconds at most.
    let table = [
        (Kind::Message, (false, true, true, false, long)),
        (Kind::KeyDistribution, (false, false, false, true, long)),
        (Kind::KeyRequest, (false, false, false, true, long)),
        (Kind::KeyAck, (false, false, false, true, long)),
        (Kind::Direct, (false, false, false, true, long)),
        (Kind::Fanout, (false, true, false, true, long)),
        (Kind::Call, (false, false, true, true, short)),
        (Kind::Roster, (true, false, true, false, long)),
        (Kind::Join, (true, false, false, true, long)),
        (Kind::CallChanged, (true, false, true, false, short)),
        (Kind::Expired, (true, false, false, true, long)),
    ];
    for (kind, expected) in table {
        let (all, one) = (kind.takes(&Recipient::Broadcast), kind.takes(&device));
        let found = (kind.is_of_server(), kind.is_read(), all, one, kind.max_ttl_ms());
        assert_eq!(found, expected, "{kind:?}");
    }
}

#[test]
fn what_just_fits_is_taken() {
    let mut message = submission(row(Kind::Message));
    message.payload = vec![0; 45_000];
    let id = message.rows().next().map(|row| row.id);
    message.id = id;
    for ttl_ms in [1, 2_592_000_000] {
        message.ttl_ms = ttl_ms;
        message.check().unwrap();
    }
    message.rows().next().unwrap().check().unwrap();

    // A piece counts with the 32 bytes of its recipient.
    let mut fanout = submission(row(Kind::Fanout));
    fanout.id = None;
    fanout.payload = vec![0; 44_900];
    let to = |last: usize| {
        let pieces = [(DeviceId::new([1; 32]), 10), (DeviceId::new([2; 32]), last)];
        SubmittedTo::Devices(pieces.map(|(to, bytes)| (to, Piece(vec![0; bytes]))).into())
    };
    fanout.to = to(26);
    fanout.check().unwrap();
    fanout.to = to(27);
    assert_eq!(fanout.check(), Err(BadEnvelope::TooLarge(45_001, 45_000)));
    // It stands for rows, and a row's name is not its own.
    fanout.to = to(26);
    let id = fanout.rows().next().map(|row| row.id);
    fanout.id = id;
    assert_eq!(fanout.check(), Err(BadEnvelope::Id));
}

#[test]
fn a_row_is_as_large_as_it_may_be_and_what_its_id_says() {
    let mut message = row(Kind::Message);
    message.piece = Some(Piece(Vec::new()));
    assert_eq!(message.check(), Err(BadEnvelope::Piece));
    let mut message = row(Kind::Message);
    message.payload = vec![0; 45_001];
    message.id = message.compute_id();
    assert_eq!(message.check(), Err(BadEnvelope::TooLarge(45_001, 45_000)));
    message.payload.pop();
    assert_eq!(message.check(), Err(BadEnvelope::Id));
    message.id = message.compute_id();
    message.check().unwrap();
}
