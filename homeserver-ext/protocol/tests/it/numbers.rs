//! Every closed set is read by the numbers that it is written as, and by no other.

use std::fmt::Debug;

use causeway_protocol::{
    envelope,
    invite::JoinRefused,
    roster::{self, Invalid, Role, Scheme},
    sender_key,
};

/// What of one byte is read as what; `read` answers what it is and the number that it is written as.
fn all<T: Debug>(read: impl Fn(u8) -> Option<(T, u8)>) -> Vec<(u8, String)> {
    (0..=u8::MAX)
        .filter_map(|number| {
            let (item, written) = read(number)?;
            assert_eq!(written, number, "{item:?}");
            Some((number, format!("{item:?}")))
        })
        .collect()
}

fn table(rows: &[(u8, &str)]) -> Vec<(u8, String)> {
    rows.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
}

#[test]
fn envelopes_have_eleven_kinds() {
    let kinds = all(|n| envelope::Kind::from_number(n).map(|kind| (kind, kind.number())));
    let wanted = [
        (0, "Message"),
        (1, "KeyDistribution"),
        (2, "KeyRequest"),
        (3, "KeyAck"),
        (4, "Direct"),
        (5, "Fanout"),
        (6, "Call"),
        (16, "Roster"),
        (17, "Join"),
        (18, "CallChanged"),
        (19, "Expired"),
    ];
    assert_eq!(kinds, table(&wanted));
}

#[test]
fn ops_have_eight_kinds_with_names() {
    let kinds = all(|n| roster::Kind::from_number(n).map(|kind| (kind.name(), kind as u8)));
    let wanted = [
        (0, "\"create\""),
        (1, "\"add\""),
        (2, "\"remove\""),
        (3, "\"role\""),
        (4, "\"policy\""),
        (5, "\"leave\""),
        (6, "\"devices\""),
        (7, "\"close\""),
    ];
    assert_eq!(kinds, table(&wanted));
}

#[test]
fn roles_and_schemes_have_three_each() {
    let roles = all(|n| Role::from_number(n).map(|role| (role, role as u8)));
    assert_eq!(roles, table(&[(0, "Member"), (1, "Admin"), (2, "Bridge")]));
    let schemes = all(|n| Scheme::from_number(n).map(|scheme| (scheme, scheme as u8)));
    assert_eq!(schemes, table(&[(1, "SenderKeys"), (2, "Pairwise"), (3, "SharedKey")]));
    let caps = [Scheme::SenderKeys, Scheme::Pairwise, Scheme::SharedKey].map(Scheme::max_members);
    assert_eq!(caps, [1_000, 500, 10_000]);
}

#[test]
fn a_refusal_says_its_step_and_its_word() {
    assert_eq!(Invalid::BadDomain.to_string(), "op refused in step 1: bad_domain");
    assert_eq!(Invalid::NoAdminLeft.to_string(), "op refused in step 9: no_admin_left");
}

#[test]
fn a_post_takes_4_mib() {
    assert_eq!(envelope::MAX_BATCH_BYTES, 4_194_304);
}

#[test]
fn a_plaintext_takes_64_kib() {
    assert_eq!(sender_key::MAX_PLAINTEXT, 65_536);
}

#[test]
fn who_holds_no_link_is_told_nothing() {
    let refused = [
        (JoinRefused::Malformed, false),
        (JoinRefused::Stranger, false),
        (JoinRefused::WrongGroup, true),
        (JoinRefused::BadDeviceSignature, true),
        (JoinRefused::BadCertificate, true),
        (JoinRefused::DeviceNotListed, true),
        (JoinRefused::BadAccount, true),
        (JoinRefused::StaleNow, true),
        (JoinRefused::Expired, true),
        (JoinRefused::Revoked, true),
        (JoinRefused::Used, true),
    ];
    for (reason, told) in refused {
        assert_eq!(reason.may_be_told(), told, "{reason}");
    }
}
