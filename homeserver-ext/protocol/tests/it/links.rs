//! Links between servers: frames and items as they travel, and which are refused.

use causeway_protocol::{
    envelope::{BadEnvelope, Envelope, Kind, Piece, Recipient, Sender, Submission, SubmittedTo},
    ids::{
        DeviceId, EnvelopeId, Epoch, GroupId, ItemId, RosterHash, ServerLinkId, StreamId, Timestamp,
    },
    link::{
        Ack, Answer, Ask, BadFrame, BadItem, BadRow, Call, Content, DeviceProgress, Frame, Gives,
        Had, Head, Item, MAX_CONTENT, MAX_ITEM, Row, RowProgress, RowState, StreamProgress, Tell,
        VERSION_REFUSED, fitting,
    },
};
use serde_json::{Value, json};

const LINK: ServerLinkId = ServerLinkId::new([1; 16]);
const PEER: &str = "b.example";

fn read(content: &Value) -> Result<Content, BadFrame> {
    Content::parse(content.to_string().as_bytes())
}

fn frame() -> Frame {
    Frame {
        link: LINK,
        seq: 7,
        ack: Some(Ack { link: ServerLinkId::new([2; 16]), seq: 12 }),
        reset: None,
        had: None,
        gives: None,
        items: vec![json!({"t": "of tomorrow"})],
    }
}

fn gives(seq: u64) -> Gives {
    let stream = StreamId::new([7; 16]);
    let since = Some(Had { stream: Some(stream), seq });
    Gives { stream, after: seq, seq, since, gap: true }
}

fn submission(to: SubmittedTo, kind: Kind) -> Submission {
    let sender =
        Sender { account: "bob:b.example".parse().unwrap(), device: DeviceId::new([3; 32]) };
    let mut submission = Submission {
        id: None,
        kind,
        group: GroupId::new([4; 32]),
        epoch: Epoch(7),
        sender,
        to,
        ttl_ms: 60_000,
        payload: vec![5],
    };
    if kind != Kind::Fanout {
        let id = submission.rows().next().map(|row| row.id);
        submission.id = id;
    }
    submission
}

fn direct() -> Submission {
    submission(SubmittedTo::Device(DeviceId::new([6; 32])), Kind::Direct)
}

fn home(kind: Kind) -> Envelope {
    let mut row = Envelope {
        id: EnvelopeId::new([0; 16]),
        kind,
        group: GroupId::new([4; 32]),
        epoch: Epoch(7),
        sender: None,
        to: Recipient::Broadcast,
        ttl_ms: 60_000,
        payload: vec![5],
        piece: None,
    };
    row.id = row.compute_id();
    row
}

#[test]
fn what_a_frame_is() {
    insta::assert_json_snapshot!(frame().to_json());
    assert_eq!(read(&frame().to_json()), Ok(Content::Frame(frame())));
    let bare = Frame { ack: None, items: vec![], seq: 0, ..frame() };
    assert_eq!(read(&bare.to_json()), Ok(Content::Frame(bare)));
    let giving = Frame { had: Some(Had::default()), gives: Some(Box::new(gives(7))), ..frame() };
    insta::assert_json_snapshot!("what_a_frame_is_that_gives", giving.to_json());
    assert_eq!(read(&giving.to_json()), Ok(Content::Frame(giving)));
    assert_eq!(Content::parse(VERSION_REFUSED.as_bytes()), Ok(Content::VersionRefused));
}

#[test]
fn what_is_no_frame_says_why() {
    let with = |field: &str, value: Value| {
        let mut content = frame().to_json();
        content[field] = value;
        read(&content)
    };
    let table = [
        (with("v", json!(2)), Ok(Content::OtherVersion)),
        (with("v", json!("1")), Err(BadFrame::Json)),
        (with("link", json!("AQ")), Err(BadFrame::Json)),
        (with("seq", json!(-1)), Err(BadFrame::Json)),
        (with("seq", json!(1.5)), Err(BadFrame::Json)),
        (with("seq", json!(0)), Err(BadFrame::Number)),
        (with("seq", json!(9_007_199_254_740_992_u64)), Err(BadFrame::Number)),
        (with("ack", json!({"link": LINK, "seq": u64::MAX})), Err(BadFrame::Number)),
        (with("ack", json!([LINK, 1])), Err(BadFrame::Json)),
        (with("had", json!({"seq": u64::MAX})), Err(BadFrame::Number)),
        (with("had", json!({})), Err(BadFrame::Json)),
        (with("gives", json!(gives(1 << 53))), Err(BadFrame::Number)),
        (with("gives", json!({"seq": 1})), Err(BadFrame::Json)),
        (with("items", json!({})), Err(BadFrame::Json)),
        (read(&json!([1, LINK, 1])), Err(BadFrame::Json)),
        (with("more", json!([])), Ok(Content::Frame(frame()))),
        (with("reset", Value::Null), Ok(Content::Frame(frame()))),
    ];
    for (number, (got, expected)) in table.into_iter().enumerate() {
        assert_eq!(got, expected, "{number}");
    }
    let long = " ".repeat(MAX_CONTENT + 1);
    assert_eq!(Content::parse(long.as_bytes()), Err(BadFrame::TooLarge(64_001, 64_000)));
}

#[test]
fn what_fits_one_frame_is_no_larger_than_a_content() {
    let table = [
        (vec![MAX_ITEM, 1_000], 2),
        (vec![MAX_ITEM, 2_000], 1),
        (vec![62_500; 2], 1),
        (vec![1], 1),
    ];
    for (sizes, count) in table {
        assert_eq!(fitting(sizes.clone()), count, "{sizes:?}");
    }
    let highest = (1_u64 << 53) - 1;
    for size in [2, 100, 999, 61_000] {
        let item = json!("x".repeat(size - 2));
        let count = fitting(std::iter::repeat_n(size, 70_000));
        let ack = Some(Ack { link: LINK, seq: highest });
        let had = gives(highest).since;
        let full = Frame {
            seq: highest,
            ack,
            reset: Some(LINK),
            had,
            gives: Some(Box::new(gives(highest))),
            items: vec![item; count],
            ..frame()
        };
        let bytes = full.to_json().to_string();
        assert!(bytes.len() <= MAX_CONTENT, "{} of {size}", bytes.len());
        assert_eq!(Content::parse(bytes.as_bytes()), Ok(Content::Frame(full)));
    }
}

fn items() -> Vec<Item> {
    let id = ItemId::new([8; 16]);
    let group = GroupId::new([4; 32]);
    let (epoch, roster_hash) = (Epoch(7), RosterHash::new([9; 32]));
    let pieces = [(DeviceId::new([6; 32]), Piece(vec![1]))].into();
    let tells = [
        Tell::Room(group, "!room:b.example".to_owned()),
        Tell::Leave(group),
        Tell::Heads(vec![Head { group, stream: None, seq: None, epoch, roster_hash }]),
        Tell::Progress(
            vec![StreamProgress {
                group,
                stream: causeway_protocol::ids::StreamId::new([1; 16]),
                taken: 5,
                devices: vec![DeviceProgress {
                    device: DeviceId::new([6; 32]),
                    delivered: 4,
                    acked: 3,
                }],
            }],
            vec![RowProgress {
                id: EnvelopeId::new([2; 16]),
                sender: Some(DeviceId::new([7; 32])),
                group: Some(group),
                device: None,
                state: RowState::Failed,
                reason: Some("removed".to_owned()),
            }],
        ),
        Tell::Devices("bob:b.example".parse().unwrap(), 3),
    ];
    let ask = Ask {
        call: Call::SenderKeys,
        caller: Some(direct().sender),
        until: Timestamp(1_760_966_065_060),
        body: json!({"group": group}),
    };
    let answer = Answer { to: id, status: 409, body: json!({"errcode": "DEV_CAUSEWAY_X"}) };
    let rows = [
        Row::Member(direct()),
        Row::Member(submission(SubmittedTo::Devices(pieces), Kind::Fanout)),
        Row::Home(home(Kind::Join)),
    ];
    rows.into_iter()
        .map(Item::Row)
        .chain([Item::Ask(id, ask), Item::Answer(id, answer)])
        .chain(tells.into_iter().map(|tell| Item::Tell(id, tell)))
        .collect()
}

#[test]
fn what_items_are() {
    let written: Vec<_> = items().iter().map(Item::to_json).collect();
    insta::assert_json_snapshot!(written);
    let again: Vec<_> = written.iter().map(|item| Item::parse(item).unwrap()).collect();
    assert_eq!(again, items());
}

#[test]
fn a_bad_item_is_skipped_and_says_why() {
    let id = ItemId::new([8; 16]);
    let table = [
        (json!(1), BadItem::Unknown),
        (json!({"t": 1}), BadItem::Unknown),
        (json!({"t": "of tomorrow", "id": id}), BadItem::Unknown),
        (json!({"t": "row"}), BadItem::Fields),
        (json!({"t": "row", "envelope": [1]}), BadItem::Fields),
        (json!({"t": "ask", "id": id}), BadItem::Fields),
        (json!({"t": "ask", "call": "ping", "until": 1, "body": {}}), BadItem::Fields),
        (json!({"t": "ask", "id": id, "call": "x", "until": 1, "body": {}}), BadItem::Fields),
        (json!({"t": "answer", "id": id, "to": id, "status": 70_000, "body": 1}), BadItem::Fields),
        (json!({"t": "tell", "id": id, "what": "heads", "heads": [[1]]}), BadItem::Fields),
        (json!({"t": "tell", "id": id, "what": "x"}), BadItem::Fields),
        (json!({"t": "x", "pad": "x".repeat(62_000)}), BadItem::TooLarge(62_018, MAX_ITEM)),
    ];
    for (item, why) in table {
        assert_eq!(Item::parse(&item), Err(why), "{item}");
    }
}

#[test]
fn a_server_speaks_for_its_own_accounts_alone() {
    let foreign = Submission {
        sender: Sender { account: "eve:e.example".parse().unwrap(), ..direct().sender },
        ..direct()
    };
    let forged = Submission { id: Some(EnvelopeId::new([7; 16])), ..direct() };
    let message = submission(SubmittedTo::Broadcast, Kind::Message);
    let fanned = Submission { id: None, kind: Kind::Fanout, ..direct() };
    let envelope = |why| Err(BadRow::Envelope(why));
    let table = [
        (Row::Member(direct()), Ok(())),
        (Row::Member(foreign), Err(BadRow::Foreign)),
        (Row::Member(forged), envelope(BadEnvelope::Id)),
        (Row::Member(message), Err(BadRow::Kind)),
        (Row::Member(fanned), envelope(BadEnvelope::Recipient)),
        (Row::Member(Submission { ttl_ms: 0, ..direct() }), {
            envelope(BadEnvelope::Ttl(0, 2_592_000_000))
        }),
        (Row::Home(home(Kind::Join)), Ok(())),
        (Row::Home(home(Kind::CallChanged)), Ok(())),
        (Row::Home(home(Kind::Roster)), Err(BadRow::Kind)),
        (Row::Home(Envelope { payload: vec![9], ..home(Kind::Join) }), envelope(BadEnvelope::Id)),
    ];
    for (number, (row, expected)) in table.into_iter().enumerate() {
        assert_eq!(row.check(PEER), expected, "{number}");
    }
}

#[test]
fn an_ask_is_of_its_own_server_and_of_its_time() {
    let ask = |account: &str| Ask {
        call: Call::Op,
        caller: Some(Sender { account: account.parse().unwrap(), ..direct().sender }),
        until: Timestamp(1_000_000),
        body: json!({}),
    };
    let own = Ask { caller: None, ..ask("bob:b.example") };
    let table = [(ask("bob:b.example"), true), (ask("bob:b.example:1"), false), (own, true)];
    for (ask, is_by) in table {
        assert_eq!(ask.is_by(PEER), is_by, "{ask:?}");
    }
    let times = [(999_999, true, true), (1_000_000, false, true), (1_300_000, false, true)];
    for (now, wanted, in_time) in times.into_iter().chain([(1_300_001, false, false)]) {
        let (ask, now) = (ask("bob:b.example"), Timestamp(now));
        assert_eq!((ask.is_wanted(now), ask.is_in_time(now)), (wanted, in_time), "{now}");
    }
}
