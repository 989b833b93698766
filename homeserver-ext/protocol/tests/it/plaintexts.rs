use causeway_protocol::{
    content::{Content, ContentType, Malformed, Plaintext, Text, TextKind},
    envelope::Kind,
    ids::{
        CallId, ChainId, ClientId, DeviceId, Epoch, GroupId, InviteKey, MemberId, RosterHash,
        ShareId, Timestamp,
    },
    invite::LinkWord,
    olm_plaintext::{
        CallSignal, HistoryPage, LegacyKey, MAX_PAGE, MAX_SIGNAL, Missing, OlmPayload,
        OlmPlaintext, PastText, Route,
    },
};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::vectors::{Get, NATIVE};

#[test]
fn plaintexts_are_the_vectors() {
    for item in NATIVE["plaintexts"].list("items") {
        let bytes = item.bytes("bytes");
        let plaintext = Plaintext::parse(&bytes).unwrap();
        assert_eq!(plaintext.content.number(), u8::try_from(item.number("type")).unwrap());
        assert_eq!(plaintext.sent_at.0, item.number("sent_at_ms"));
        assert_eq!(u64::from(plaintext.ttl_s), item.number("ttl_s"));
        assert_eq!(plaintext.client_id.as_bytes(), &item.array("client_id"));
        assert!(!matches!(plaintext.content, Content::Unknown(..)));
        assert_eq!(bytes[29..], *item.text("body_json").as_bytes());
        assert_eq!(plaintext.to_bytes(), bytes, "{}", item.text("name"));
    }
}

fn plaintext(number: u8, body: &str) -> Vec<u8> {
    let mut bytes = vec![number];
    bytes.extend([0; 28]);
    bytes.extend(body.as_bytes());
    bytes
}

#[test]
fn another_writers_json_is_read_by_what_it_says() {
    let bytes = plaintext(1, "{ \"new\": [1], \"body\": \"a\", \"kind\": \"text\" }");
    let text = Text {
        kind: TextKind::Text,
        body: "a".to_owned(),
        html: None,
        reply_to: None,
        mirror: None,
    };
    assert_eq!(Plaintext::parse(&bytes).unwrap().content, Content::Text(text));
    for wrong in ["{}", "", "{\"kind\":\"text\",\"body\":1}", "{\"kind\":\"shout\",\"body\":\"\"}"]
    {
        assert_eq!(Plaintext::parse(&plaintext(1, wrong)), Err(Malformed), "{wrong}");
    }
    let reply = "{\"kind\":\"text\",\"body\":\"\",\"reply_to\":\"AA/AA\"}";
    assert_eq!(Plaintext::parse(&plaintext(1, reply)), Err(Malformed));
    assert_eq!(Plaintext::parse(&[1; 28]), Err(Malformed));
}

#[test]
fn an_unknown_type_is_kept_as_it_came() {
    let bytes = plaintext(99, "not even JSON");
    let parsed = Plaintext::parse(&bytes).unwrap();
    assert_eq!(parsed.content, Content::Unknown(99, b"not even JSON".to_vec()));
    assert_eq!(parsed.to_bytes(), bytes);
}

#[test]
fn the_shorter_of_message_and_group_is_the_time_to_live() {
    let plaintext = |ttl_s| Plaintext {
        sent_at: Timestamp(5),
        ttl_s,
        client_id: ClientId::new([0; 16]),
        content: Content::Unknown(99, Vec::new()),
    };
    assert_eq!(plaintext(0).ttl_ms(60), 60_000);
    assert_eq!(plaintext(30).ttl_ms(60), 30_000);
    assert_eq!(plaintext(90).ttl_ms(60), 60_000);
    assert_eq!(plaintext(1).expires_at(60), Timestamp(1_005));
}

fn route(item: &Value) -> Route {
    Route {
        group: GroupId::new(item.array("group_id")),
        from: DeviceId::new(item.array("from")),
        to: DeviceId::new(item.array("to")),
    }
}

#[test]
fn olm_plaintexts_are_the_vectors() {
    for item in NATIVE["olm_plaintexts"].list("items") {
        let bytes = item.bytes("plaintext");
        let plaintext = OlmPlaintext::parse(&bytes).unwrap();
        assert_eq!(*plaintext.to_bytes().unwrap(), bytes);
        for cut in 0..bytes.len() {
            assert!(OlmPlaintext::parse(&bytes[..cut]).is_err(), "{cut} bytes");
        }
        assert!(OlmPlaintext::parse(&[&bytes[..], &[0]].concat()).is_err());
        fields_are(&plaintext, item);
    }
}

/// Bytes from the text of protocol §2.2 and §3.4.
#[test]
fn what_became_of_a_link_is_said_in_a_plaintext_of_type_i() {
    let (ik_pub, member) = ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", "_".repeat(42) + "8");
    let words = [
        (format!("causeway://revoked/{ik_pub}"), LinkWord::Revoked(InviteKey::new([1; 32]))),
        (
            format!("causeway://used/{ik_pub}/{member}"),
            LinkWord::Used(InviteKey::new([1; 32]), MemberId::new([0xff; 32])),
        ),
    ];
    for (text, word) in words {
        let route = Route {
            group: GroupId::new([2; 32]),
            from: DeviceId::new([3; 32]),
            to: DeviceId::new([4; 32]),
        };
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        let bytes =
            [&[2, b'I'], &[2; 32][..], &[3; 32], &[4; 32], &length, text.as_bytes()].concat();
        let said = OlmPlaintext::Invite(route, word.to_text().to_string());
        assert_eq!(*said.to_bytes().unwrap(), bytes);
        assert_eq!(OlmPlaintext::parse(&bytes), Ok(said));
        assert_eq!(LinkWord::parse(&text), Some(word));
        for wrong in [format!("{text}A"), text[..text.len() - 1].to_owned(), format!("{text}/")] {
            assert_eq!(LinkWord::parse(&wrong), None, "{wrong}");
        }
    }
}

/// Bytes from the text of protocol §2.2.
#[test]
fn a_signal_of_a_call_is_a_plaintext_of_type_c() {
    let route = Route {
        group: GroupId::new([2; 32]),
        from: DeviceId::new([3; 32]),
        to: DeviceId::new([4; 32]),
    };
    let (call, epoch) = (CallId::new([5; 16]), 0x0102_0304);
    let bye = br#"{"t":"group_call_bye","reason":"left"}"#;
    for json in [Vec::new(), bye.to_vec(), vec![b'x'; MAX_SIGNAL]] {
        let head = [&[2, b'C'], &[2; 32][..], &[3; 32], &[4; 32], &[5; 16], &[1, 2, 3, 4]].concat();
        let bytes = [&head[..], &json].concat();
        let signal = CallSignal { call, epoch, json: Zeroizing::new(json) };
        let said = OlmPlaintext::Call(route, signal);
        assert_eq!((said.kind(), said.route()), (Kind::Call, Some(route)));
        assert_eq!(*said.to_bytes().unwrap(), bytes);
        assert_eq!(OlmPlaintext::parse(&bytes), Ok(said));
        for cut in 0..head.len() {
            assert!(OlmPlaintext::parse(&head[..cut]).is_err(), "{cut} bytes");
        }
    }
    let json = Zeroizing::new(vec![b'x'; MAX_SIGNAL + 1]);
    let long = OlmPlaintext::Call(route, CallSignal { call, epoch, json: json.clone() });
    assert!(long.to_bytes().is_err());
    let mut bytes = [&[2, b'C'], &[2; 96][..], &[5; 16], &[0; 4]].concat();
    bytes.extend_from_slice(&json);
    assert!(OlmPlaintext::parse(&bytes).is_err());
}

fn fields_are(plaintext: &OlmPlaintext, item: &Value) {
    match plaintext {
        OlmPlaintext::Distribution(distribution) => {
            let chain = &item["chain"];
            assert_eq!(distribution.parts().to_bytes(), chain.bytes("chain_id_preimage"));
            assert_eq!(distribution.chain_id().as_bytes(), &chain.array("chain_id"));
            assert_eq!(distribution.route.group.as_bytes(), &chain.array("group_id"));
            assert_eq!(distribution.route.to.as_bytes(), &item.array("recipient_id"));
            assert_eq!(u64::from(distribution.start_index), item.number("start_index"));
            assert_eq!(distribution.created_ms.0, item.number("created_ms"));
            assert_eq!(distribution.roster_hash.as_bytes(), &item.array("roster_hash"));
            for (node, expected) in distribution.nodes.iter().zip(item.list("nodes")) {
                assert_eq!(u64::from(node.depth), expected.number("depth"));
                assert_eq!(u64::from(node.prefix), expected.number("prefix"));
                assert_eq!(*node.seed, expected.array("seed"));
            }
            assert_eq!(distribution.nodes.len(), item.list("nodes").len());
        }
        OlmPlaintext::Acknowledgement(of, chains) => {
            let entries = item.list("entries").iter();
            let expected: Vec<(ChainId, u32)> = entries
                .map(|entry| (ChainId::new(entry.array("chain_id")), entry.small("start")))
                .collect();
            assert_eq!((*of, chains), (route(item), &expected));
        }
        OlmPlaintext::KeyRequest(of, missing) => {
            let expected = Missing {
                tag: item.array("chain_tag"),
                index: item.small("index"),
                epoch: Epoch(item.small("epoch")),
            };
            assert_eq!((*of, *missing), (route(item), expected));
        }
        OlmPlaintext::SharedKey(of, key) => {
            assert_eq!(*of, route(item));
            let numbers = (u64::from(key.alg), u64::from(key.generation), u64::from(key.epoch.0));
            let expected = (item.number("alg"), item.number("generation"), item.number("epoch"));
            assert_eq!(numbers, expected);
            assert_eq!(key.roster_hash, RosterHash::new(item.array("roster_hash")));
            assert_eq!(key.created_ms.0, item.number("created_ms"));
            assert_eq!(key.not_after_ms.0, item.number("not_after_ms"));
            assert_eq!(*key.key, item.array("K"));
        }
        OlmPlaintext::Invite(of, link) => {
            assert_eq!((*of, link.as_str()), (route(item), item.text("link")));
        }
        OlmPlaintext::Dummy(of) => assert_eq!(*of, route(item)),
        // Of the legacy suites, of what is shared and of calls the vectors know no Olm plaintext.
        OlmPlaintext::Legacy(of, _) | OlmPlaintext::History(of, _) | OlmPlaintext::Call(of, _) => {
            panic!("{of:?}")
        }
        OlmPlaintext::Piece(piece) => assert_eq!(*piece.key, item.array("key")),
    }
    let kind = match item.text("type") {
        "D" | "K" => Kind::KeyDistribution,
        "A" => Kind::KeyAck,
        "R" => Kind::KeyRequest,
        "I" | "W" => Kind::Direct,
        _ => Kind::Fanout,
    };
    assert_eq!(plaintext.kind(), kind);
}

#[test]
fn an_olm_payload_says_whether_it_opens_a_session() {
    assert_eq!(OlmPayload::parse(&[0, 7]).unwrap(), OlmPayload::PreKey(&[7]));
    assert_eq!(OlmPayload::parse(&[1, 7]).unwrap().to_bytes(), [1, 7]);
    for wrong in [&[][..], &[0], &[1], &[2, 7]] {
        assert!(OlmPayload::parse(wrong).is_err());
    }
}

#[test]
fn every_type_has_its_number() {
    let known = |number: &u8| ContentType::from_number(*number).is_some();
    let numbers: Vec<u8> = (0..=u8::MAX).filter(known).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 32]);
    for number in numbers {
        assert_eq!(ContentType::from_number(number).unwrap() as u8, number);
    }
    // What is numbered and not built is kept as what nobody knows.
    for number in [2, 3, 4, 5, 6, 7, 32] {
        let content = Plaintext::parse(&plaintext(number, "{}")).unwrap().content;
        assert_eq!(content, Content::Unknown(number, b"{}".to_vec()));
    }
}

/// What is logged by chance says what it is, and no word of it.
#[test]
fn what_is_said_is_not_shown_by_debug() {
    let text = Text {
        kind: TextKind::Emote,
        body: "canary".to_owned(),
        html: None,
        reply_to: None,
        mirror: None,
    };
    assert_eq!(format!("{text:?}"), "Text { kind: Emote, .. }");
    assert_eq!(format!("{:?}", Content::Text(text)), "Content(1)");
}

#[test]
fn a_legacy_key_is_read_as_it_was_written() {
    let [group, from, to] = [[1; 32], [2; 32], [3; 32]];
    let (group, from, to) = (GroupId::new(group), DeviceId::new(from), DeviceId::new(to));
    let text = zeroize::Zeroizing::new("{\"chain_key\": \"00\"}".to_owned());
    let key = LegacyKey { suite: 0x81, version: 2, text };
    let said = OlmPlaintext::Legacy(Route { group, from, to }, key);
    let bytes = said.to_bytes().unwrap();
    let head = [b"\x02L".as_slice(), &[1; 32], &[2; 32], &[3; 32], &[0x81, 2, 0, 19]].concat();
    assert_eq!(*bytes, [&head, b"{\"chain_key\": \"00\"}".as_slice()].concat());
    assert_eq!(OlmPlaintext::parse(&bytes).unwrap(), said);
    assert_eq!(said.kind(), Kind::KeyDistribution);
    for end in 0..bytes.len() {
        assert!(OlmPlaintext::parse(&bytes[..end]).is_err(), "{end}");
    }
    assert!(OlmPlaintext::parse(&[&bytes[..], &[0]].concat()).is_err());
    assert!(!format!("{said:?}").contains("chain_key"));
}

fn past(body: &str) -> PastText {
    PastText {
        device: DeviceId::new([5; 32]),
        client_id: ClientId::new([6; 16]),
        sent_at: Timestamp(7),
        kind: TextKind::Emote,
        mirror: Some("@u:x".to_owned()),
        body: body.to_owned(),
    }
}

/// Bytes from the text of protocol §2.2.
#[test]
fn a_page_of_what_is_shared_is_read_as_it_was_written() {
    let [group, from, to] = [[1; 32], [2; 32], [3; 32]];
    let (group, from, to) = (GroupId::new(group), DeviceId::new(from), DeviceId::new(to));
    let page =
        HistoryPage { share: ShareId::new([4; 16]), page: 0, pages: 2, texts: vec![past("waves")] };
    let said = OlmPlaintext::History(Route { group, from, to }, page);
    let head = [b"\x02H".as_slice(), &[1; 32], &[2; 32], &[3; 32], &[4; 16]].concat();
    let text = [&[5; 32][..], &[6; 16], &7_u64.to_be_bytes(), &[2, 4], b"@u:x", &[0, 5], b"waves"]
        .concat();
    let bytes = [&head, &[0, 0, 0, 2, 0, 1][..], &text].concat();
    assert_eq!(*said.to_bytes().unwrap(), bytes);
    assert_eq!(OlmPlaintext::parse(&bytes).unwrap(), said);
    assert_eq!(said.kind(), Kind::Direct);
    for end in 0..bytes.len() {
        assert!(OlmPlaintext::parse(&bytes[..end]).is_err(), "{end}");
    }
    assert!(OlmPlaintext::parse(&[&bytes[..], &[0]].concat()).is_err());
    // Page, pages and count: a page that the share does not have, too many, none, and a kind that is none.
    for wrong in [[0, 2, 0, 2, 0, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 33, 0, 1], [0, 0, 0, 2, 0, 0]] {
        assert!(OlmPlaintext::parse(&[&head, &wrong[..], &text].concat()).is_err(), "{wrong:?}");
    }
    let mut shout = bytes.clone();
    shout[head.len() + 6 + 32 + 16 + 8] = 3;
    assert!(OlmPlaintext::parse(&shout).is_err());
    assert!(!format!("{said:?} {:?}", past("waves")).contains("waves"));
}

#[test]
fn what_is_shared_is_laid_out_on_pages_that_fit_in_their_order() {
    let bodies = ["a".repeat(30_000), "b".repeat(30_000), "c".repeat(44_000), "d".repeat(10)];
    let (pages, left_out) = HistoryPage::lay_out(bodies.iter().map(|body| past(body)).collect());
    let begins = |page: &Vec<PastText>| page.iter().map(|t| t.body[..1].to_owned()).collect();
    let laid: Vec<Vec<String>> = pages.iter().map(begins).collect();
    assert_eq!((laid, left_out), (vec![vec!["a".into()], vec!["b".into(), "d".into()]], 1));
    let route = Route {
        group: GroupId::new([1; 32]),
        from: DeviceId::new([2; 32]),
        to: DeviceId::new([3; 32]),
    };
    let fitting = (0..50_000).rev().find_map(|len| {
        let (pages, left_out) = HistoryPage::lay_out(vec![past(&"x".repeat(len))]);
        (left_out == 0).then_some(pages)
    });
    let texts = fitting.unwrap().remove(0);
    let page = HistoryPage { share: ShareId::new([4; 16]), page: 0, pages: 1, texts };
    let bytes = OlmPlaintext::History(route, page).to_bytes().unwrap();
    assert_eq!(bytes.len(), MAX_PAGE);
    assert!(HistoryPage::lay_out(Vec::new()).0.is_empty());
}
