//! Somebody is taken out at one homeserver by an admin of another, while members of both speak: he reads nothing
//! that was sealed by whoever saw it, also where his server gives him all of it, and what was on its way is
//! marked.

use std::{slice, sync::Arc};

use causeway_bridge::clock;
use causeway_groups::{
    machine::{Outgoing, SealError, What},
    sdk::{CallError, SdkError},
};
use causeway_protocol::{
    api::{DeliveryState, StreamRow},
    envelope::{Recipient, Submission},
    ids::{EnvelopeId, Epoch, GroupId, Seq},
    roster::{Role, Scheme},
};
use tokio::{sync::watch, time::timeout};

use crate::{
    people::{PATIENCE, Person, Read, outgoing, text},
    proxy::Proxy,
    servers::{Side, two_behind},
};

/// Said by each before somebody is taken out, and after it saw that, at least.
const COUNT: usize = 6;

/// What somebody said.
struct Said {
    body: String,
    /// Under which it was sealed.
    epoch: Epoch,
    id: EnvelopeId,
    envelopes: Vec<Submission>,
}

/// Seals and posts it once.
async fn try_to_say(who: &Person, group: GroupId, item: &Outgoing) -> Result<Said, SdkError> {
    who.client.prepare(group).await?;
    let mut tx = who.client.db().begin().await.unwrap();
    let item = slice::from_ref(item);
    let batch = who.client.machine().seal(&mut tx, clock::now(), group, item).await?;
    tx.commit().await.unwrap();
    match who.client.post(&batch).await {
        Ok(_) => {}
        Err(SdkError::Call(CallError::Stale { epoch, ops })) => {
            let mut tx = who.client.db().begin().await.unwrap();
            who.client.install(&mut tx, group, &ops).await?;
            tx.commit().await.unwrap();
            return Err(CallError::Stale { epoch, ops }.into());
        }
        Err(error) => return Err(error),
    }
    let id = batch.messages[0].first;
    let is_said = |of: &Submission| batch.messages[0].ids().any(|id| id == of.name());
    let envelopes = batch.submissions.iter().filter(|of| is_said(of)).cloned().collect();
    Ok(Said { body: String::new(), epoch: batch.epoch, id, envelopes })
}

/// Says it until it is taken; `None` where one is out.
async fn say(who: &Person, group: GroupId, body: &str) -> Option<Said> {
    let item = outgoing(text(body));
    let me = who.client.me().record.member_id;
    loop {
        match try_to_say(who, group, &item).await {
            Ok(said) => return Some(Said { body: body.to_owned(), ..said }),
            Err(error) => {
                who.client.roster(group).await.unwrap().member(&me)?;
                let passes = matches!(
                    error,
                    SdkError::Seal(SealError::NoKey | SealError::Unprepared(_))
                        | SdkError::Call(CallError::Stale { .. })
                );
                assert!(passes || error.is_transient(), "{body}: {error}");
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Waits until it is known what became of it at another's device, and why.
async fn came(who: &Person, said: &Said, to: &Person) -> (DeliveryState, Option<String>) {
    let device = to.client.me().record.device_id;
    let known = async {
        loop {
            let status = who.client.http().status(said.id).await.unwrap();
            let of = status.recipients.into_iter().find(|of| of.device == device).unwrap();
            if matches!(of.state, DeliveryState::Acked | DeliveryState::Failed) {
                return (of.state, of.reason);
            }
            tokio::task::yield_now().await;
        }
    };
    let Ok(came) = timeout(PATIENCE, known).await else {
        panic!("{}: {:?}", said.body, who.client.http().status(said.id).await)
    };
    came
}

fn bodies<'a>(of: impl IntoIterator<Item = &'a Said>) -> Vec<String> {
    of.into_iter().map(|said| said.body.clone()).collect()
}

/// What somebody has read of another, whose words begin so.
fn read_of(who: &Person, begins: &str) -> Vec<Read> {
    who.read().into_iter().filter(|read| read.body.starts_with(begins)).collect()
}

fn words(read: Vec<Read>) -> Vec<String> {
    read.into_iter().map(|read| read.body).collect()
}

/// That somebody opens none of this, though his server gives him all that others got.
async fn assert_closed_to(who: &Person, all: impl IntoIterator<Item = &Said>) {
    let envelopes = all.into_iter().flat_map(|said| &said.envelopes);
    let mut envelopes: Vec<_> = envelopes.flat_map(Submission::rows).collect();
    assert!(!envelopes.is_empty());
    // Of a fan-out there is no piece for him, and he is handed the others'.
    for envelope in &mut envelopes {
        if matches!(envelope.to, Recipient::Device(_)) {
            envelope.to = Recipient::Device(who.client.me().record.device_id);
            envelope.id = envelope.compute_id();
        }
    }
    let rows = (1_u64 << 40..).zip(envelopes);
    let rows: Vec<_> = rows.map(|(n, envelope)| StreamRow { seq: Seq(n), envelope }).collect();
    // It is taken back with the transaction.
    let mut tx = who.client.db().begin().await.unwrap();
    let came = who.client.machine().receive(&mut tx, clock::now(), &rows).await.unwrap();
    for received in &came.received {
        let is_closed = matches!(received.what, What::Held { .. } | What::Failed { .. });
        assert!(is_closed, "{:?}", received.what);
    }
    assert_eq!(came.received.len(), rows.len());
}

struct Scene {
    sides: [Side; 2],
    proxies: [Arc<Proxy>; 2],
    /// At the home, where she begins groups.
    alice: Person,
    /// There too.
    bob: Person,
    /// An admin at the other server.
    carol: Person,
    /// There too.
    dan: Person,
    /// At the home.
    erin: Person,
}

impl Scene {
    async fn set() -> Self {
        let (sides, proxies) = two_behind(Proxy::start).await;
        let (alice, bob) = (sides[0].person("alice").await, sides[0].person("bob").await);
        let (carol, dan) = (sides[1].person("carol").await, sides[1].person("dan").await);
        let erin = sides[0].person("erin").await;
        Self { sides, proxies, alice, bob, carol, dan, erin }
    }

    fn account(&self, nth: usize, name: &str) -> causeway_protocol::ids::AccountId {
        format!("{name}:{}", self.sides[nth].name()).parse().unwrap()
    }

    fn cut(&self, is_cut: bool) {
        self.proxies.iter().for_each(|proxy| proxy.cut(is_cut));
    }

    /// A group of all, with Carol as an admin, in which each has heard each.
    async fn group(&self, scheme: Scheme) -> GroupId {
        let group = self.alice.create_group_as("Garden", scheme).await;
        for (nth, name) in [(0, "bob"), (1, "carol"), (1, "dan"), (0, "erin")] {
            self.alice.add(group, self.account(nth, name).as_str()).await;
        }
        self.alice.client.set_role(group, &self.account(1, "carol"), Role::Admin).await.unwrap();
        let all = [&self.alice, &self.bob, &self.carol, &self.dan, &self.erin];
        let hello = |nth: usize| format!("hello {scheme:?} {nth}");
        for (nth, who) in all.into_iter().enumerate() {
            if nth > 0 {
                who.wait("a welcome", |read| read.iter().any(|it| it.body == hello(0))).await;
            }
            who.say(group, &[hello(nth)]).await;
        }
        for (nth, who) in all.into_iter().enumerate() {
            let others = (0..all.len()).filter(|other| *other != nth);
            let has = |read: &[Read], other| read.iter().any(|it| it.body == hello(other));
            who.wait("all", |read| others.clone().all(|other| has(read, other))).await;
        }
        group
    }

    /// Waits until who is out has read all that his server has for him.
    async fn is_level(&self, by: &Person, who: &Person, account: &str, word: &str) {
        let aside = by.create_group("Aside").await;
        by.add(aside, account).await;
        by.say(aside, &[word.to_owned()]).await;
        who.wait("what is said aside", |read| read.iter().any(|it| it.body == word)).await;
    }
}

/// One says it all the while, until somebody is out and it has said enough that was sealed after it saw that;
/// or until one is out oneself.
async fn talk(
    who: &Person,
    group: GroupId,
    name: String,
    cut: &watch::Receiver<Option<Epoch>>,
) -> Vec<Said> {
    let (mut all, mut after) = (Vec::new(), 0);
    while after < COUNT {
        let body = format!("{name} {}", all.len());
        let Some(said) = say(who, group, &body).await else { break };
        after += usize::from(cut.borrow().is_some_and(|cut| said.epoch >= cut));
        all.push(said);
    }
    all
}

/// Carol, an admin at the other server, takes Bob out at the home, while all speak.
async fn out_at_home(scene: &Scene, group: GroupId, scheme: Scheme) {
    let Scene { alice, bob, carol, dan, .. } = scene;
    let name = |who: &str| format!("{who} {scheme:?} while");
    let (tell, seen) = watch::channel(None);
    let remove = async {
        for (who, of) in [(carol, "alice"), (alice, "dan"), (dan, "bob")] {
            let begins = name(of);
            let of = |read: &[Read]| read.iter().filter(|it| it.body.starts_with(&begins)).count();
            who.wait("all speak", |read| of(read) >= COUNT).await;
        }
        let cut = carol.client.remove(group, &scene.account(0, "bob")).await.unwrap();
        tell.send(Some(cut)).unwrap();
        cut
    };
    let (alices, bobs, dans, cut) = tokio::join!(
        talk(alice, group, name("alice"), &seen),
        talk(bob, group, name("bob"), &seen),
        talk(dan, group, name("dan"), &seen),
        remove,
    );
    let carols = talk(carol, group, name("carol"), &seen).await;
    let is_before = |said: &&Said| said.epoch < cut;
    assert!(bobs.iter().all(|said| said.epoch < cut));

    // Whoever is in reads all of it, but for what came behind the cut in a group that shares a key.
    for (who, others) in [
        (carol, [("alice", &alices), ("bob", &bobs), ("dan", &dans)]),
        (dan, [("alice", &alices), ("bob", &bobs), ("carol", &carols)]),
    ] {
        for (of, said) in others {
            who.wait(of, |read| read.iter().any(|it| it.body == said.last().unwrap().body)).await;
            let read = read_of(who, &name(of));
            assert!(read.iter().all(|it| !it.late), "{of}: the home's order is everybody's");
            assert_eq!(words(read), bodies(said));
        }
    }
    let mut has_come = Vec::new();
    for said in &dans {
        match came(dan, said, alice).await {
            (DeliveryState::Acked, _) => has_come.push(said),
            (_, reason) => {
                assert_eq!((scheme, reason.as_deref()), (Scheme::SharedKey, Some("stale_epoch")));
                assert!(said.epoch < cut, "{}", said.body);
            }
        }
    }
    alice.wait("carol", |read| read.iter().any(|it| it.body == carols.last().unwrap().body)).await;
    let read = read_of(alice, &name("dan"));
    let before = has_come.iter().copied().filter(is_before).count();
    assert!(read[before..].iter().all(|it| !it.late));
    assert_eq!(words(read), bodies(has_come.iter().copied()));

    // Who is out has read what the home took before, and nothing that was sealed after.
    let account = scene.account(0, "bob");
    scene.is_level(alice, bob, account.as_str(), &format!("{scheme:?} aside")).await;
    assert_eq!(words(read_of(bob, &name("alice"))), bodies(alices.iter().filter(is_before)));
    let his: Vec<_> = words(read_of(bob, &name("dan")));
    let all = bodies(dans.iter().filter(is_before));
    assert!(all.starts_with(&his), "{his:?} of {all:?}");
    assert!(read_of(bob, &name("carol")).is_empty());
    let after = [&alices, &carols, &dans].into_iter().flatten().filter(|said| said.epoch >= cut);
    assert_closed_to(bob, after).await;
    // And who said what he was not given hears so.
    for said in dans.iter().filter(is_before) {
        let (state, reason) = came(dan, said, bob).await;
        let is_read = his.contains(&said.body);
        let expected = match (is_read, scheme) {
            (true, _) => (DeliveryState::Acked, None),
            (false, Scheme::SharedKey) => (DeliveryState::Failed, Some("stale_epoch")),
            (false, _) => (DeliveryState::Failed, Some("left")),
        };
        assert_eq!((state, reason.as_deref()), expected, "{}", said.body);
    }
}

/// Alice, an admin at the home, takes Erin out there, and Dan, who is at the other server, while nothing passes
/// between them.
async fn out_elsewhere(scene: &Scene, group: GroupId, scheme: Scheme) {
    let Scene { alice, carol, dan, erin, .. } = scene;
    let word = |who: &str| format!("{who} {scheme:?} apart");
    scene.cut(true);
    let before = say(alice, group, &word("alice before")).await.unwrap();
    let his = say(dan, group, &word("dan")).await.unwrap();
    let carols = say(carol, group, &word("carol")).await.unwrap();
    let first = alice.client.remove(group, &scene.account(0, "erin")).await.unwrap();
    let cut = alice.client.remove(group, &scene.account(1, "dan")).await.unwrap();
    let after = say(alice, group, &word("alice after")).await.unwrap();
    assert!(before.epoch < first && carols.epoch < first && after.epoch == cut);
    scene.cut(false);

    // What he had said was on its way, and reaches his own server's people alone.
    assert_eq!(came(dan, &his, alice).await, (DeliveryState::Failed, Some("removed".to_owned())));
    assert_eq!(came(dan, &his, carol).await.0, DeliveryState::Acked);
    // What Carol had said is shown with a mark, or said to have failed where all share a key.
    let (state, reason) = came(carol, &carols, alice).await;
    let marks: Vec<_> = read_of(alice, &carols.body).iter().map(|read| read.late).collect();
    if scheme == Scheme::SharedKey {
        assert_eq!((state, reason.as_deref()), (DeliveryState::Failed, Some("stale_epoch")));
        assert!(marks.is_empty());
    } else {
        assert_eq!((state, marks), (DeliveryState::Acked, vec![true]));
    }
    // Who was to read it, and is out, was not given it.
    let (state, reason) = came(carol, &carols, erin).await;
    let expected = if scheme == Scheme::SharedKey { "stale_epoch" } else { "left" };
    assert_eq!((state, reason.as_deref()), (DeliveryState::Failed, Some(expected)));
    carol.wait("alice after", |read| read.iter().any(|it| it.body == after.body)).await;
    let last = say(carol, group, &word("carol after")).await.unwrap();
    assert_eq!(last.epoch, cut);
    alice.wait("carol after", |read| read.iter().any(|it| it.body == last.body)).await;
    assert!(!read_of(alice, &last.body)[0].late);
    assert!(read_of(alice, &his.body).is_empty());
    let all = [&before, &his, &after].map(|said| read_of(carol, &said.body).len());
    assert_eq!(all, [1, 1, 1]);

    let account = scene.account(0, "erin");
    scene.is_level(alice, erin, account.as_str(), &format!("{scheme:?} aside")).await;
    let all = [&before, &his, &carols, &after, &last].map(|said| read_of(erin, &said.body).len());
    assert_eq!(all, [1, 0, 0, 0, 0], "what was taken before, and nothing of after");
    assert_closed_to(erin, [&after, &last]).await;
    let account = scene.account(1, "dan");
    scene.is_level(carol, dan, account.as_str(), &format!("{scheme:?} aside")).await;
    let all = [&before, &carols, &after, &last].map(|said| read_of(dan, &said.body).len());
    assert_eq!(all, [1, 1, 0, 0], "what was taken before, and nothing that was sealed after");
    assert_eq!(came(alice, &before, dan).await.0, DeliveryState::Acked);
    assert_closed_to(dan, [&after, &last]).await;
}

#[tokio::test]
async fn who_is_taken_out_by_an_admin_of_another_homeserver_reads_nothing_sealed_after() {
    let scene = Scene::set().await;
    for scheme in [Scheme::SenderKeys, Scheme::Pairwise, Scheme::SharedKey] {
        let group = scene.group(scheme).await;
        Box::pin(out_at_home(&scene, group, scheme)).await;
        out_elsewhere(&scene, group, scheme).await;
    }
}
