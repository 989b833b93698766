//! Fan-outs in bytes, whose devices are named by their places in the newest roster.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::Accepted,
    envelope::{Envelope, Kind, Piece, Submission, SubmittedTo},
    posting::Posting,
    roster::{Body, Role, Roster},
};
use reqwest::Method;

use crate::harness::{Answer, Group, Person, Server};

/// A fan-out of this epoch to these.
fn fan_out(from: &Person, group: &Group, epoch: u32, to: &[&Person], text: &[u8]) -> Submission {
    let piece = |one: &&Person| (one.device(), Piece(one.device().as_bytes()[..9].to_vec()));
    let to = SubmittedTo::Devices(to.iter().map(piece).collect());
    from.submission(group.id(), epoch, Kind::Fanout, to, text.to_vec())
}

fn posting(sealed: &[Submission], roster: &Roster) -> Posting {
    Posting::of(sealed, 1, roster).unwrap()
}

/// What it was sent, without the ops.
async fn fanned(server: &Server, who: &Person, count: usize) -> Vec<Envelope> {
    let mut stream = who.stream(server).await;
    let mut found = Vec::new();
    while found.len() < count {
        let row = stream.next().await.envelope;
        found.extend(Some(row).filter(|row| row.kind == Kind::Fanout));
    }
    found
}

async fn post(server: &Server, who: &Person, group: &Group, bytes: Vec<u8>) -> Answer {
    server.send(Method::POST, &group.path("/fan-outs"), Some(&who.token), bytes).await
}

async fn post_by(server: &Server, who: &Person, group: &Group, posting: &Posting) -> Answer {
    post(server, who, group, posting.to_bytes().unwrap()).await
}

#[tokio::test]
async fn by_places_it_is_what_it_is_by_names_and_is_taken_once() {
    let server = Server::start().await;
    let (group, [ann, ben, cleo]) = server.group(["ann", "ben", "cleo"]).await;
    let both = fan_out(&ann, &group, 1, &[&ben, &cleo], b"one");
    let one = fan_out(&ann, &group, 1, &[&cleo], b"two");
    let sealed = [both.clone(), one];
    let posting = posting(&sealed, &group.roster);
    let taken: Accepted = post_by(&server, &ann, &group, &posting).await.ok();
    let names: Vec<_> = taken.accepted.iter().map(|one| (one.id, one.recipients)).collect();
    assert_eq!(names, [(sealed[0].name(), 2), (sealed[1].name(), 1)]);
    let by_names: Accepted = ann.submit(&server, sealed.to_vec()).await.ok();
    assert_eq!(by_names, taken, "it was taken before");
    let server = server.restart().await;
    assert_eq!(post_by(&server, &ann, &group, &posting).await.ok::<Accepted>(), taken);
    let rows = fanned(&server, &cleo, 2).await;
    let expected: BTreeMap<_, _> =
        sealed.iter().flat_map(Submission::rows).map(|row| (row.id, row)).collect();
    for row in &rows {
        assert_eq!(Some(row), expected.get(&row.id));
        row.check().unwrap();
    }
    assert_eq!(fanned(&server, &ben, 1).await[0].payload, b"one");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_posting_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    let (group, [ann, ben, cleo]) = server.group(["ann", "ben", "cleo"]).await;
    let both = [fan_out(&ann, &group, 1, &[&ben, &cleo], b"one")];
    let right = posting(&both, &group.roster);
    let before = server.rows().await;
    let mut beyond = right.clone();
    beyond.fan_outs[0].pieces[1].0 = 3;
    let mut twice = right.clone();
    twice.fan_outs[0].pieces[1].0 = twice.fan_outs[0].pieces[0].0;
    let mut turned = right.clone();
    turned.fan_outs[0].pieces.reverse();
    let mut swapped = right.clone();
    let others = [0, 1, 2]
        .into_iter()
        .filter(|place| right.fan_outs[0].pieces.iter().all(|(named, _)| named != place));
    swapped.fan_outs[0].pieces[0].0 = others.min().unwrap();
    swapped.fan_outs[0].pieces.sort_unstable_by_key(|(place, _)| *place);
    let mut nobody = right.clone();
    nobody.fan_outs[0].pieces.clear();
    for wrong in [beyond, twice, turned, swapped, nobody] {
        let answer = post_by(&server, &ann, &group, &wrong).await;
        answer.refused(400, "M_INVALID_PARAM");
    }
    let bytes = right.to_bytes().unwrap();
    for wrong in [&b""[..], b"{}", &[1], &bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat()] {
        post(&server, &ann, &group, wrong.to_vec()).await.refused(400, "M_INVALID_PARAM");
    }
    let mut large = both[0].clone();
    large.payload = vec![0; 44_950];
    let large = posting(&[large], &group.roster);
    post_by(&server, &ann, &group, &large).await.refused(413, "M_TOO_LARGE");
    let mut long = right.clone();
    long.fan_outs[0].ttl_ms = 0;
    post_by(&server, &ann, &group, &long).await.refused(400, "M_INVALID_PARAM");
    let many = posting(&vec![fan_out(&ann, &group, 1, &[&ben], b""); 4_097], &group.roster);
    post_by(&server, &ann, &group, &many).await.refused(413, "M_TOO_LARGE");
    server.assert_unchanged(&before).await;
    post_by(&server, &ann, &group, &right).await.ok::<Accepted>();
    server.stop().await;
}

#[tokio::test]
async fn by_a_roster_that_is_not_the_newest_nobody_is_named_and_by_that_it_is_as_it_was_sealed() {
    let server = Server::start().await;
    let (mut group, [ann, ben, cleo]) = server.group(["ann", "ben", "cleo"]).await;
    let dora = server.person("dora").await;
    group.post(&server, &ann, &Body::Role(ben.member(), Role::Admin as u8)).await;
    let sealed = [fan_out(&ann, &group, 2, &[&ben, &cleo], b"one")];
    let early = [fan_out(&ann, &group, 2, &[&ben], b"before")];
    let (before, early) = (posting(&sealed, &group.roster), posting(&early, &group.roster));
    let taken: Accepted = post_by(&server, &ann, &group, &early).await.ok();
    // The other admin's op meets it.
    group.post(&server, &ben, &Body::Add(vec![dora.entry(0)])).await;
    let server = server.restart().await;
    let refused = post_by(&server, &ann, &group, &before).await;
    let refused = refused.refused(409, "DEV_CAUSEWAY_OTHER_ROSTER");
    assert_eq!((refused.epoch, refused.ops), (Some(group.roster.epoch()), None));
    assert!(refused.error.contains("epoch 2") && refused.error.contains("epoch 3"));
    assert_eq!(post_by(&server, &ann, &group, &early).await.ok::<Accepted>(), taken);
    let some = Posting { fan_outs: [early.fan_outs, before.fan_outs.clone()].concat(), ..before };
    let refused = post_by(&server, &ann, &group, &some).await;
    assert_eq!(refused.refused(409, "DEV_CAUSEWAY_OTHER_ROSTER").accepted, taken.accepted);
    let anew = posting(&sealed, &group.roster);
    assert_eq!(anew.fan_outs[0].id, some.fan_outs[1].id, "what is sealed stays as it is");
    let taken: Accepted = post_by(&server, &ann, &group, &anew).await.ok();
    assert_eq!((taken.accepted[0].id, taken.accepted[0].recipients), (sealed[0].name(), 2));
    assert_eq!(fanned(&server, &cleo, 1).await[0].payload, b"one");
    server.stop().await;
}

#[tokio::test]
async fn who_is_out_or_was_never_in_is_told_what_he_is_told_of_envelopes() {
    let server = Server::start().await;
    let (mut group, [ann, ben, cleo]) = server.group(["ann", "ben", "cleo"]).await;
    let stranger = server.person("dora").await;
    let of_ann = posting(&[fan_out(&ann, &group, 1, &[&ben, &cleo], b"one")], &group.roster);
    let of_ben = posting(&[fan_out(&ben, &group, 1, &[&ann], b"two")], &group.roster);
    let of_dora = posting(&[fan_out(&stranger, &group, 1, &[&ann], b"no")], &group.roster);
    post_by(&server, &stranger, &group, &of_dora).await.refused(404, "M_NOT_FOUND");
    group.post(&server, &ann, &Body::Remove(vec![ben.member()])).await;
    // A cut is a reason to seal anew, and is said before the roster.
    let refused = post_by(&server, &ann, &group, &of_ann).await.refused(409, "M_STALE_EPOCH");
    assert_eq!(refused.ops.map(|ops| ops.len()), Some(1));
    let refused = post_by(&server, &ben, &group, &of_ben).await.refused(409, "M_STALE_EPOCH");
    assert_eq!(refused.epoch, Some(group.roster.epoch()), "up to the op that took him out");
    post_by(&server, &stranger, &group, &of_dora).await.refused(404, "M_NOT_FOUND");
    let dead = Person { token: "x".to_owned(), ..ann.clone() };
    post_by(&server, &dead, &group, &of_ann).await.refused(401, "M_UNKNOWN_TOKEN");
    server.stop().await;
}
