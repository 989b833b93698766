//! A group of very many on two servers. Its members are devices that hold no keys: they read whatever comes,
//! and acknowledge it, as clients do; what is said is as long as a client's, and of what passes between
//! servers nothing is otherwise.

use causeway_bridge::clock;
use causeway_groups::sdk::{AccessToken, CallError, Http, Stream};
use causeway_protocol::{
    api::{OpBytes, PostEnvelopes, RegisterRequest},
    device::{DeviceList, OneTimeKey},
    envelope::{Kind, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{AccountId, CurveKey, Epoch, GroupId, KeyId, Signature},
    roster::{Body, Create, Devices, Op, OpCore, Policy, Roster},
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

use crate::{
    People, Size, body,
    people::{outgoing, text},
    signer::{Signer, entry, keys, sign},
    sizes::{self, Weighed},
    stage::{Side, Stage},
    start,
};

/// Accounts that are registered at once.
const AT_A_TIME: usize = 8;
/// Who is added by one op at the group's home, and by one that comes from elsewhere with their accounts.
const AT_ONCE: [usize; 2] = [250, 25];
/// How long what is said is kept.
const DAY_MS: u64 = 86_400_000;

/// A device of which there is only what signs.
struct Light {
    account: AccountId,
    signer: Signer,
    http: Http,
}

/// Weighs what is said in a group of many, half of them on each of two servers.
pub(crate) async fn weigh(stage: &Stage, size: &Size) {
    let People { alice, two, .. } = &People::meet(stage, "many").await;
    let sealed = alice.seal(*two, &[outgoing(text(&body(0)))]).await;
    let said = sealed.submissions.iter().find(|said| said.kind == Kind::Message).expect("one");
    let length = said.payload.len();
    let half = size.many / 2;
    let here = register(&stage.sides[0], 0, half).await;
    let there = register(&stage.sides[1], half, size.many - half).await;
    let (group, head) = found(&here, &there).await;
    let mut seen = Vec::new();
    for one in here.iter().skip(1).chain(&there) {
        let (tell, told) = watch::channel(0);
        start(read(one.http.clone(), group, tell));
        seen.push(told);
    }
    let mut said = 0;
    let say = async |count: usize| {
        for _ in 0..count {
            said += 1;
            post(&here[0], (group, head), said, length).await;
        }
        for seen in &mut seen {
            seen.wait_for(|seen| *seen >= said).await.expect("reads");
        }
    };
    let weighed = sizes::weigh(stage, say, size.weighed).await;
    println!("\n{}\n{}", Weighed::HEAD, weighed.row(size.many, 2, "the link"));
}

/// Registers so many, from this number on.
async fn register(side: &Side, first: usize, count: usize) -> Vec<Light> {
    // One for all: each would read the roots of trust again.
    let http = Http::new(side.causeway.native_url()).expect("an address");
    let token = side.causeway.registration_token().expect("made");
    let one = async |number: usize| {
        let name = format!("light{number}:{}", side.synapse.server_name());
        Light::register(http.clone(), &name, number, token.expose()).await
    };
    stream::iter(first..first + count).map(one).buffered(AT_A_TIME).collect().await
}

impl Light {
    async fn register(http: Http, name: &str, number: usize, token: &str) -> Self {
        let account: AccountId = name.parse().expect("an account");
        let number = u32::try_from(number).expect("few");
        let ((identity, device), signer) = (keys(number), Signer::new(number));
        let mut list = DeviceList {
            account: account.clone(),
            member_id: signer.record.member_id,
            version: 1,
            created_ms: clock::now(),
            devices: vec![signer.record.device_id],
            signature: Signature::new([0; 64]),
        };
        list.signature = sign(&identity, &list.signed_bytes());
        let mut fallback_key = OneTimeKey {
            key_id: KeyId::new([0; 8]),
            fallback: true,
            curve25519: CurveKey::new([9; 32]),
            signature: Signature::new([0; 64]),
        };
        let key = fallback_key.signed_bytes(&signer.record.device_id);
        fallback_key.signature = sign(&device, &key);
        let request = RegisterRequest {
            token: Some(token.to_owned()),
            list,
            device: signer.record.clone(),
            one_time_keys: Vec::new(),
            fallback_key,
        };
        let session = http.register(&request).await.expect("registers");
        let http = http.with_token(AccessToken::new(session.access_token));
        Self { account, signer, http }
    }

    /// Adds these, so many in an op; the roster after that.
    async fn add(&self, mut head: Roster, all: &[Self], at_once: usize) -> Roster {
        for some in all.chunks(at_once) {
            let entry = |one: &Self| entry(one.signer.record.device(), one.account.to_string());
            let body = Body::Add(some.iter().map(entry).collect());
            let op = self.signer.op(&head, clock::now(), &body);
            let bytes = OpBytes(op.as_bytes().to_vec());
            // A limit is waited for as the server says.
            while let Err(error) = self.http.post_op(head.group(), &bytes).await {
                let CallError::RetryAfter { ms, .. } = error else { panic!("{error}") };
                tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            }
            head = head.apply(&op).expect("valid");
        }
        head
    }
}

/// A group of all of these, by the first of each server; its epoch.
async fn found(here: &[Light], there: &[Light]) -> (GroupId, Epoch) {
    let ((founder, here), (other, there)) =
        (here.split_first().expect("one"), there.split_first().expect("one"));
    let create = Create {
        scheme: 1,
        suite: 1,
        rand: [7; 16],
        account: founder.account.to_string(),
        legacy_id: String::new(),
        devices: Devices { version: 1, ids: vec![founder.signer.record.device_id] },
        policy: Policy {
            min_version: 2,
            add_by: 1,
            post_by: 0,
            max_members: 1_000,
            ttl_s: 86_400,
            name: "Garden".to_owned(),
            description: String::new(),
        },
    };
    let core = OpCore::create(&founder.signer.record, clock::now(), create).expect("fits");
    let op: Op = founder.signer.seal(core);
    let head = Roster::create(&op).expect("valid");
    let group = head.group();
    founder.http.create_group(&OpBytes(op.as_bytes().to_vec())).await.expect("is taken");
    let head = founder.add(head, here, AT_ONCE[0]).await;
    let head = founder.add(head, std::slice::from_ref(other), 1).await;
    // He is told of the group.
    let mut stream = Stream::new(other.http.clone());
    while !stream.next_rows().await.expect("reads").iter().any(|row| row.envelope.group == group) {}
    let head = other.add(head, there, AT_ONCE[1]).await;
    (group, head.epoch())
}

/// Reads, and acknowledges what was read; says how many messages of the group there were.
async fn read(http: Http, group: GroupId, tell: watch::Sender<usize>) {
    let mut stream = Stream::new(http);
    loop {
        let Ok(rows) = stream.next_rows().await else { continue };
        let said = rows.iter().map(|row| &row.envelope);
        let said = said.filter(|it| it.group == group && it.kind == Kind::Message).count();
        stream.ack(rows.last().map(|row| row.seq)).await;
        tell.send_modify(|seen| *seen += said);
    }
}

/// Says what nobody opens.
async fn post(who: &Light, (group, epoch): (GroupId, Epoch), number: usize, length: usize) {
    let mut payload = vec![0; length];
    getrandom::fill(&mut payload).expect("the system's");
    payload[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let device = who.signer.record.device_id;
    let (kind, to) = (Kind::Message, Recipient::Broadcast);
    let said = Submission {
        id: Some(compute_id(kind, Some(&device), &to, &payload, None)),
        kind,
        group,
        epoch,
        sender: Sender { account: who.account.clone(), device },
        to: SubmittedTo::Broadcast,
        ttl_ms: DAY_MS,
        payload,
    };
    let said = PostEnvelopes { envelopes: vec![said], count: None };
    who.http.post_envelopes(group, &said).await.expect("is taken");
}
