//! A server that keeps to nothing, speaking as its homeserver's application service through three real
//! homeservers: what it forges is shown to nobody, what it floods with is bounded, and the others talk on.

use causeway_bridge::{demo::causeway::Causeway, gateway::matrix::Matrix};
use causeway_protocol::{
    envelope::{Kind, Sender, Submission, SubmittedTo},
    ids::{Epoch, GroupId, ItemId, RosterHash, ServerLinkId, StreamId},
    link::{Ack, Answer, Carried, Event, EventPlace, Frame, Head, Item, Row, Tell},
    roster::Scheme,
};
use reqwest::Method;
use ruma::OwnedUserId;
use serde_json::{Value, json};

use crate::{
    people::{PATIENCE, Person, Read},
    servers::{Side, several},
};

/// Said by each of two, in each round.
const COUNT: usize = 20;
/// Frames of 60 KB of a flood.
const FLOOD: usize = 300;
/// KiB by which a process may grow meanwhile, which has taken 18 MB of frames: what waits of one server before
/// its turn is 16 MiB at most.
const MAY_GROW: u64 = 48 << 10;

/// The server, as its homeserver lets it speak.
pub(crate) struct Hostile<'a> {
    matrix: &'a Matrix,
    me: OwnedUserId,
    to: OwnedUserId,
    link: ServerLinkId,
    seq: u64,
    sent: u32,
}

impl<'a> Hostile<'a> {
    pub(crate) fn new(side: &'a Side, to: &str) -> Self {
        let (me, to) = (agent_user(side.name()), agent_user(to));
        let matrix = side.synapse.matrix();
        Self { matrix, me, to, link: ServerLinkId::new(random()), seq: 0, sent: 0 }
    }

    pub(crate) async fn says(&mut self, content: Value) {
        self.sent += 1;
        let txn = format!("{}{}", self.link, self.sent);
        let messages = [(self.to.clone(), content)].into();
        self.matrix.to_agents(&self.me, &txn, messages).await.unwrap();
    }

    pub(crate) async fn frame(&mut self, items: Vec<Value>, ack: Option<Ack>) {
        self.seq += 1;
        let (link, seq) = (self.link, self.seq);
        let frame = Frame { link, seq, ack, reset: None, had: None, gives: None, items };
        self.says(frame.to_json()).await;
    }
}

fn agent_user(server: &str) -> OwnedUserId {
    format!("@_causeway:{server}").try_into().unwrap()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub(crate) fn id() -> ItemId {
    ItemId::new(random())
}

/// How the operator of `causeway` is shown `server`, or what he has done.
pub(crate) async fn operate(causeway: &Causeway, method: Method, path: &str) -> Value {
    let url = format!("{}/_causeway/admin/v1/{path}", causeway.appservice_url());
    let token = causeway.admin_token().unwrap();
    let request = reqwest::Client::new().request(method, url).bearer_auth(token.expose());
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.json().await.unwrap_or_default()
}

/// Waits until what the operator is shown of `server` is so.
pub(crate) async fn shown(causeway: &Causeway, server: &str, is: impl Fn(&Value) -> bool) -> Value {
    let waited = async {
        loop {
            let shown = operate(causeway, Method::GET, &format!("servers/{server}")).await;
            if is(&shown) {
                return shown;
            }
            tokio::task::yield_now().await;
        }
    };
    if let Ok(shown) = tokio::time::timeout(PATIENCE, waited).await {
        return shown;
    }
    panic!("{}", operate(causeway, Method::GET, &format!("servers/{server}")).await)
}

fn resident_kib(causeway: &Causeway) -> u64 {
    let status = format!("/proc/{}/status", causeway.id().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Alice and Carol talk, and read each other in order and once, and nothing else.
async fn talk(alice: &Person, carol: &Person, group: GroupId, read: &mut [Vec<String>; 2]) {
    let round = read[0].len() / COUNT;
    let of = |who: &str| (0..COUNT).map(|n| format!("{who} {round} {n}")).collect::<Vec<_>>();
    let (hers, his) = (of("alice"), of("carol"));
    tokio::join!(alice.say(group, &hers), carol.say(group, &his));
    read[0].extend(his);
    read[1].extend(hers);
    for (who, expected) in [(alice, &read[0]), (carol, &read[1])] {
        who.wait("the other's words", |read| said(read).len() >= expected.len()).await;
        assert_eq!(&said(&who.read()), expected);
    }
}

fn said(read: &[Read]) -> Vec<String> {
    let bodies = read.iter().map(|read| read.body.clone());
    bodies.filter(|body| !body.starts_with("hello")).collect()
}

/// What is said in somebody's name under no key of the group, with the right id.
fn forged(group: GroupId, epoch: Epoch, by: &Person) -> Submission {
    let me = by.client.me();
    named(Submission {
        id: None,
        kind: Kind::Message,
        group,
        epoch,
        sender: Sender { account: me.account.clone(), device: me.record.device_id },
        to: SubmittedTo::Broadcast,
        ttl_ms: 60_000,
        payload: random::<400>().to_vec(),
    })
}

/// With the id that its bytes have.
pub(crate) fn named(of: Submission) -> Submission {
    let id = of.rows().next().map(|row| row.id);
    Submission { id, ..of }
}

pub(crate) fn event(group: GroupId, carried: Carried) -> Value {
    let place = EventPlace { stream: StreamId::new(random()), seq: 1 };
    Item::Event(id(), Event { group, place, after: None, carried }).to_json()
}

#[tokio::test]
async fn a_server_that_keeps_to_nothing_shows_nobody_anything_and_holds_nobody_up() {
    let mut sides: [Side; 3] = several().await;
    let names = sides.each_ref().map(|side| side.name().to_owned());
    let [alice, carol, erin] = [
        sides[0].person("alice").await,
        sides[1].person("carol").await,
        sides[2].person("erin").await,
    ];
    let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    for (who, account) in
        [(&carol, format!("carol:{}", names[1])), (&erin, format!("erin:{}", names[2]))]
    {
        alice.add(group, &account).await;
        alice.say(group, &[format!("hello {account}")]).await;
        who.wait("a welcome", |read| !read.is_empty()).await;
    }
    let mut read = [Vec::new(), Vec::new()];
    talk(&alice, &carol, group, &mut read).await;
    let epoch = alice.client.roster(group).await.unwrap().epoch();

    // From here on the third one's homeserver says what it likes.
    sides[2].causeway.kill().unwrap();
    let (home, third) = (&sides[0].causeway, &*names[2]);
    let mut hostile = Hostile::new(&sides[2], &names[0]);

    // In the name of others' accounts; of its own, but under no key, or with another's id; not a group; an op that
    // is none.
    let foreign = event(group, Carried::Envelopes(vec![forged(group, epoch, &alice)]));
    let own = event(group, Carried::Envelopes(vec![forged(group, epoch, &erin)]));
    let id_of_another =
        Submission { payload: random::<400>().to_vec(), ..forged(group, epoch, &erin) };
    let id_of_another = event(group, Carried::Envelopes(vec![id_of_another]));
    let unknown = GroupId::new(random());
    let nowhere = event(unknown, Carried::Envelopes(vec![forged(unknown, epoch, &erin)]));
    let history = event(group, Carried::Ops(vec![random::<300>().to_vec()]));
    let call_changed = Item::Row(Row::Member(Submission {
        kind: Kind::CallChanged,
        ..forged(group, epoch, &erin)
    }));
    let answer = Answer { to: id(), status: 200, body: json!({"list": {}, "devices": []}) };
    let head =
        Head { group, stream: None, seq: None, epoch, roster_hash: RosterHash::new(random()) };
    let items = [foreign.clone(), own, id_of_another, history, call_changed.to_json()];
    hostile.frame(items.to_vec(), None).await;
    hostile.frame(vec![Item::Answer(id(), answer).to_json()], None).await;
    hostile.frame(vec![Item::Tell(id(), Tell::Heads(vec![head])).to_json()], None).await;
    shown(home, third, |shown| shown["refused"].as_u64() >= Some(4)).await;
    talk(&alice, &carol, group, &mut read).await;

    // The same once more, and numbers far ahead: what waits is bounded. It acknowledges nothing, and what is for
    // Erin waits.
    for _ in 0..3 {
        hostile.frame(vec![foreign.clone()], None).await;
    }
    let before = resident_kib(home);
    let padding = "x".repeat(59_000);
    let link = hostile.link;
    for n in 0..FLOOD as u64 {
        let seq = hostile.seq + 2 + n * 7_919;
        let items = vec![json!({"t": "ask", "id": id(), "padding": padding})];
        let far = Frame { link, seq, ack: None, reset: None, had: None, gives: None, items };
        hostile.says(far.to_json()).await;
    }
    hostile.says(json!({"v": 7})).await;
    talk(&alice, &carol, group, &mut read).await;
    let after = resident_kib(home);
    assert!(after < before + MAY_GROW, "{before} KiB, and {after} KiB after the flood");
    let seen = operate(home, Method::GET, &format!("servers/{third}")).await;
    assert!(seen["held_bytes"].as_u64() <= Some(16 << 20), "{seen}");

    // A group that waits for ops of a group that there is not holds up that server alone; without sense for long
    // it is not listened to.
    hostile.frame(vec![nowhere], None).await;
    for _ in 0..30 {
        hostile.says(json!({"v": 1, "link": 7})).await;
    }
    let shut = shown(home, third, |shown| shown["state"] == "shut").await;
    assert!(shut["malformed"].as_u64() >= Some(20), "{shut}");
    talk(&alice, &carol, group, &mut read).await;

    // Its own Causeway is back, and the operator lets it be heard again: Erin has all, and is heard.
    sides[2].causeway.start().await.unwrap();
    for side in &sides[..2] {
        operate(&side.causeway, Method::POST, &format!("servers/{third}/reset")).await;
    }
    let all = 2 * read[0].len();
    erin.wait("all of it", |read| said(read).len() >= all).await;
    erin.say(group, &["it was not me".to_owned()]).await;
    for who in [&alice, &carol] {
        who.wait("Erin's words", |read| said(read).last().is_some_and(|it| it == "it was not me"))
            .await;
    }
}
