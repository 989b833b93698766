//! An example of every body, made of the types themselves, so that none can be of a form that is
//! not taken. The bytes in them are made up: keys that are none, signatures that do not verify.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{
        Accepted, AcceptedEnvelope, AccountAnswer, AccountDevices, Again, AskSfu, AskUpgrade,
        BridgeInfo, CallCap, CallDevice, CallGuest, CallIce, CallIntent, CallMember, CallMesh,
        CallPage, CallParticipant, CallReaction, CallSfu, CallSfus, CallState, CallTopology,
        CallWhom, ClaimRequest, ClaimedKeys, DeliveryState, ErrorBody, EventAbout, EventKind,
        EventPage, GroupEvent, GroupHead, GroupPage, GroupServer, GroupServers, InvitePage,
        InviteState, JoinCall, JoinPending, JoinRequest, Kept, KeyCount, Limits, LinkState,
        LoginNonce, LoginRequest, MessageStatus, NewInvite, OpBytes, OpPage, OwnDevice, OwnKeys,
        Parked, ParkedPage, PendingRequest, PostEnvelopes, PostOp, PutAnswer, PutSenderKeys,
        ReadAgain, RecipientStatus, RegisterRequest, Registration, ReportCall, RequestPage,
        SealedAnswer, SenderKeyInventory, SenderKeyInventoryEntry, SenderKeyReport,
        SenderKeysNoted, ServerInfo, Session, SetCall, StartCall, StreamAck, StreamHello,
        StreamRow, Unpark, Unparked, UploadKeys,
    },
    device::{DeviceList, DeviceRecord, OneTimeKey},
    envelope::{
        Envelope, Kind, MAX_BATCH, MAX_BATCH_BYTES, MAX_PAYLOAD, MAX_TTL_MS, Recipient, Sender,
        Submission, SubmittedTo,
    },
    ids::{
        AccountId, CallId, ClientId, CurveKey, DeviceId, EnvelopeId, Epoch, Generation, GroupId,
        InviteKey, KeyId, MemberId, Nonce, RequestId, RosterHash, Seq, Signature, Timestamp,
        text_of,
    },
    keys::fingerprint,
};
use serde::Serialize;
use serde_json::Value;

type Examples = Vec<(&'static str, Value)>;

const DAY_MS: u64 = 86_400_000;
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const ALICE: MemberId = MemberId::new([1; 32]);
const BRIDGE: MemberId = MemberId::new([2; 32]);
const PHONE: DeviceId = DeviceId::new([3; 32]);
const LAPTOP: DeviceId = DeviceId::new([4; 32]);
const GROUP: GroupId = GroupId::new([5; 32]);
const INVITE: InviteKey = InviteKey::new([6; 32]);
const REQUEST: RequestId = RequestId::new([7; 16]);
const MESSAGE: EnvelopeId = EnvelopeId::new([8; 16]);
const SIGNATURE: Signature = Signature::new([9; 64]);
const CURVE: CurveKey = CurveKey::new([10; 32]);
/// Stands for bytes that are longer.
const BYTES: [u8; 16] = *ClientId::new([11; 16]).as_bytes();

/// Name of the schema, and the example.
pub(super) fn all() -> Result<Examples, Box<dyn std::error::Error>> {
    let mut examples = Vec::new();
    let alice: AccountId = "alice:example.org".parse()?;
    server(&mut examples)?;
    accounts(&mut examples, &alice)?;
    groups(&mut examples)?;
    invites(&mut examples, &alice)?;
    messages(&mut examples, &alice)?;
    sender_keys(&mut examples)?;
    servers(&mut examples)?;
    events(&mut examples, &alice)?;
    calls(&mut examples, &alice)?;
    Ok(examples)
}

fn put(to: &mut Examples, name: &'static str, example: &impl Serialize) -> serde_json::Result<()> {
    to.push((name, serde_json::to_value(example)?));
    Ok(())
}

fn server(to: &mut Examples) -> Result<(), Box<dyn std::error::Error>> {
    let bridge = BridgeInfo {
        account: "bridge:example.org".parse()?,
        member_id: BRIDGE,
        fingerprint: fingerprint(&BRIDGE),
    };
    let limits = Limits {
        max_payload_bytes: u32::try_from(MAX_PAYLOAD)?,
        max_envelopes: u32::try_from(MAX_BATCH)?,
        max_body_bytes: u32::try_from(MAX_BATCH_BYTES)?,
        max_ttl_ms: MAX_TTL_MS,
        max_one_time_keys: 500,
    };
    let info = ServerInfo {
        server: "example.org".to_owned(),
        bridge: Some(bridge),
        registration: Registration::Token,
        limits,
    };
    put(to, "ServerInfo", &info)?;
    let refusal = ErrorBody {
        errcode: "M_STALE_EPOCH".to_owned(),
        error: "the group is in another epoch".to_owned(),
        retry_after_ms: None,
        epoch: Some(Epoch(8)),
        ops: Some(vec![OpBytes(BYTES.to_vec())]),
        server: None,
        since_ms: None,
        call: None,
        max: None,
        who: Vec::new(),
        accepted: Vec::new(),
    };
    Ok(put(to, "ErrorBody", &refusal)?)
}

fn accounts(to: &mut Examples, alice: &AccountId) -> serde_json::Result<()> {
    let device = DeviceRecord {
        member_id: ALICE,
        device_id: PHONE,
        curve25519: CURVE,
        signature: SIGNATURE,
        certificate: SIGNATURE,
    };
    let list = DeviceList {
        account: alice.clone(),
        member_id: ALICE,
        version: 1,
        created_ms: NOW,
        devices: vec![PHONE],
        signature: SIGNATURE,
    };
    let key = |number: u64, fallback| OneTimeKey {
        key_id: KeyId::new(number.to_be_bytes()),
        fallback,
        curve25519: CURVE,
        signature: SIGNATURE,
    };
    let register = RegisterRequest {
        token: Some("the registration token".to_owned()),
        list: list.clone(),
        device: device.clone(),
        one_time_keys: vec![key(1, false)],
        fallback_key: key(2, true),
    };
    put(to, "RegisterRequest", &register)?;
    let access_token = text_of(&[12; 32]);
    put(to, "Session", &Session { account: alice.clone(), device_id: PHONE, access_token })?;
    let nonce = Nonce::new([13; 32]);
    put(to, "LoginNonce", &LoginNonce { nonce })?;
    put(to, "LoginRequest", &LoginRequest { device_id: PHONE, nonce, signature: SIGNATURE })?;
    let answer = SealedAnswer(BYTES.to_vec());
    put(to, "PutAnswer", &PutAnswer { answer: answer.clone() })?;
    put(to, "DeviceRecord", &device)?;
    let record = Some(device.clone());
    put(to, "LinkState", &LinkState { answer: Some(answer), record })?;
    let newest = AccountDevices { list, devices: vec![device] };
    put(to, "AccountDevices", &newest)?;
    put(to, "AccountAnswer", &AccountAnswer::from(newest))?;
    let upload = UploadKeys {
        one_time_keys: vec![key(3, false)],
        fallback_key: Some(key(4, true)),
        replace: true,
    };
    put(to, "UploadKeys", &upload)?;
    put(to, "KeyCount", &KeyCount { one_time_keys: 50 })?;
    put(to, "ClaimRequest", &ClaimRequest { devices: vec![PHONE] })?;
    put(to, "ClaimedKeys", &ClaimedKeys { keys: BTreeMap::from([(PHONE, key(1, false))]) })
}

fn groups(to: &mut Examples) -> serde_json::Result<()> {
    let head = GroupHead {
        group: GROUP,
        epoch: Epoch(7),
        roster_hash: RosterHash::new([14; 32]),
        name: "tea".to_owned(),
        members: 3,
        closed: false,
    };
    put(to, "PostOp", &PostOp { op: BYTES.to_vec() })?;
    put(to, "GroupHead", &head)?;
    put(to, "GroupPage", &GroupPage { groups: vec![head], next: None })?;
    let ops = vec![OpBytes(BYTES.to_vec())];
    put(to, "OpPage", &OpPage { ops, epoch: Epoch(7), next: Some(Epoch(1)) })
}

fn invites(to: &mut Examples, alice: &AccountId) -> serde_json::Result<()> {
    let expires_ms = NOW.plus_ms(7 * DAY_MS);
    put(to, "NewInvite", &NewInvite { ik_pub: INVITE, expires_ms, uses: 1 })?;
    let state = InviteState {
        ik_pub: INVITE,
        by: alice.clone(),
        expires_ms,
        uses: 1,
        used: 0,
        revoked: false,
    };
    put(to, "InvitePage", &InvitePage { invites: vec![state], next: None })?;
    let request = BYTES.to_vec();
    put(to, "JoinRequest", &JoinRequest { request: request.clone(), server: None })?;
    put(to, "JoinPending", &JoinPending { id: REQUEST })?;
    let pending = PendingRequest { id: REQUEST, request, at_ms: NOW };
    put(to, "RequestPage", &RequestPage { requests: vec![pending], next: None })
}

fn messages(to: &mut Examples, alice: &AccountId) -> serde_json::Result<()> {
    let sender = Sender { account: alice.clone(), device: PHONE };
    let message = Submission {
        id: Some(MESSAGE),
        kind: Kind::Message,
        group: GROUP,
        epoch: Epoch(7),
        sender: sender.clone(),
        to: SubmittedTo::Broadcast,
        ttl_ms: MAX_TTL_MS,
        payload: BYTES.to_vec(),
    };
    put(to, "PostEnvelopes", &PostEnvelopes { envelopes: vec![message], count: Some(12) })?;
    let accepted = vec![AcceptedEnvelope { id: MESSAGE, recipients: 2 }];
    put(to, "Accepted", &Accepted { accepted })?;
    let recipient = |device, state| RecipientStatus { device, state, reason: None };
    let recipients = vec![
        recipient(LAPTOP, DeliveryState::Acked),
        recipient(DeviceId::new([15; 32]), DeliveryState::Queued),
    ];
    put(to, "MessageStatus", &MessageStatus { id: MESSAGE, recipients })?;
    let envelope = Envelope {
        id: MESSAGE,
        kind: Kind::Direct,
        group: GROUP,
        epoch: Epoch(7),
        sender: Some(sender.clone()),
        to: Recipient::Device(LAPTOP),
        ttl_ms: MAX_TTL_MS,
        payload: BYTES.to_vec(),
        piece: None,
    };
    let generation = Generation::new([17; 16]);
    let keys = OwnKeys { fallback_key: Some(CURVE) };
    put(to, "OwnKeys", &keys)?;
    put(to, "OwnDevice", &OwnDevice { count: 12, keys: Some(keys), waits: Some(false) })?;
    put(to, "Kept", &Kept { generation, keep_ms: 172_800_000 })?;
    put(to, "ReadAgain", &ReadAgain { generation, after: Seq(30) })?;
    put(to, "Again", &Again { until: Seq(42), whole: true })?;
    let parked = Parked { group: GROUP, sender, first: Seq(17), rows: 2, bytes: 512 };
    put(to, "ParkedPage", &ParkedPage { parked: vec![parked], next: None })?;
    let taken = vec![Seq(17)];
    put(to, "Unpark", &Unpark { group: GROUP, sender: PHONE, after: Seq(17), taken })?;
    let row = StreamRow { seq: Seq(42), envelope };
    put(to, "Unparked", &Unparked { rows: vec![row.clone()], acked: Seq(42), last_seq: Seq(42) })?;
    let last_seq = Seq(42);
    put(to, "StreamHello", &StreamHello { generation, last_seq, parked: Some(false) })?;
    put(to, "StreamRow", &row)?;
    put(to, "StreamAck", &StreamAck { ack: Seq(42), park: vec![Seq(17)] })
}

fn servers(to: &mut Examples) -> serde_json::Result<()> {
    let server = GroupServer {
        server: "b.example".to_owned(),
        waiting: 3,
        silent: true,
        waits_since_ms: Some(NOW),
        heard_ms: Some(NOW),
    };
    let home = "a.example".to_owned();
    put(to, "GroupServers", &GroupServers { home, servers: vec![server] })
}

fn sender_keys(to: &mut Examples) -> serde_json::Result<()> {
    let key = SenderKeyReport {
        tag: vec![16; 4],
        sender: PHONE,
        epoch: Epoch(7),
        next_index: Some(12),
        unacknowledged: 1,
    };
    let failures = BTreeMap::from([("hold_chain".to_owned(), 2)]);
    let report = PutSenderKeys { keys: vec![key], failures };
    put(to, "PutSenderKeys", &report)?;
    let entry = SenderKeyInventoryEntry { reported_by: PHONE, at_ms: NOW, report };
    put(
        to,
        "SenderKeyInventory",
        &SenderKeyInventory { reports: vec![entry], next: None, scheme: Some(1) },
    )?;
    put(to, "SenderKeysNoted", &SenderKeysNoted { rotate_asked_ms: Some(NOW) })
}

fn events(to: &mut Examples, alice: &AccountId) -> serde_json::Result<()> {
    let about = EventAbout { epoch: Some(Epoch(7)), ..EventAbout::default() };
    let event = GroupEvent {
        id: Seq(42),
        at_ms: NOW,
        group: GROUP,
        kind: EventKind::GroupJoined,
        account: alice.clone(),
        about,
    };
    put(to, "GroupEvent", &event)?;
    put(to, "EventPage", &EventPage { events: vec![event], next: None, gone: None, last: Seq(42) })
}

fn calls(to: &mut Examples, alice: &AccountId) -> serde_json::Result<()> {
    let call = CallId::new([18; 16]);
    let caps = vec![CallCap::Mesh, CallCap::Sfu];
    let intent = CallIntent::Audio;
    put(to, "StartCall", &StartCall { call, intent, caps: caps.clone(), may_degrade: false })?;
    put(to, "JoinCall", &JoinCall { caps, may_degrade: false })?;
    let connected = vec![LAPTOP];
    put(to, "ReportCall", &ReportCall { epoch: 0, connected, ready: None, decline: None })?;
    put(to, "SetCall", &SetCall { muted: Some(true), hand: None, reaction: None })?;
    let whom = CallWhom::Matrix { mirror: "@mia:b.example".to_owned(), device: "PHONE".to_owned() };
    put(to, "CallWhom", &whom)?;
    put(to, "AskSfu", &AskSfu { epoch: 1, focus: None })?;
    put(to, "AskUpgrade", &AskUpgrade { with: PHONE })?;
    let sfu = CallSfu {
        url: "wss://sfu.example".to_owned(),
        jwt: "eyJ…".to_owned(),
        publish: true,
        room: "0f".repeat(16),
        mine: "1e".repeat(16),
    };
    put(to, "CallSfus", &CallSfus { sfus: vec![sfu], e2ee: "native".to_owned() })?;
    let ice = CallIce {
        urls: vec!["turn:turn.example:3478".to_owned()],
        username: Some("1763726400:who".to_owned()),
        credential: Some("…".to_owned()),
    };
    put(to, "CallMesh", &CallMesh { relay_only: false, ice: vec![ice], until_ms: Some(NOW) })?;
    let participant = CallParticipant {
        account: alice.clone(),
        device: PHONE,
        since_ms: NOW,
        muted: false,
        hand: false,
        connected: vec![LAPTOP],
        lost: false,
        sfu: Some("@causeway_alice:b.example:CW0101010101010101".to_owned()),
        via: "native".to_owned(),
    };
    let guest = CallGuest {
        mirror: "@mia:b.example".to_owned(),
        name: "Mia".to_owned(),
        device: "PHONE".to_owned(),
        since_ms: NOW,
        muted: false,
        hand: false,
        sfu: "@mia:b.example:PHONE".to_owned(),
        focus: None,
        via: "matrix".to_owned(),
    };
    let state = CallState {
        call,
        group: GROUP,
        version: 12,
        epoch: 0,
        topology: CallTopology::Mesh,
        intent,
        bridged: true,
        started_by: CallDevice { account: alice.clone(), device: PHONE, mirror: None },
        started_ms: NOW,
        deadline_ms: None,
        ended_ms: None,
        reason: None,
        ended_by: None,
        clear: true,
        participants: vec![CallMember::Native(participant), CallMember::Matrix(guest)],
        accounts: vec![alice.clone()],
        declined: Vec::new(),
        declined_mirrors: vec!["@max:b.example".to_owned()],
        out: Vec::new(),
        reactions: vec![CallReaction { who: whom.clone(), emoji: "👍".to_owned(), at_ms: NOW }],
        kicked: vec![whom],
    };
    put(to, "CallState", &state)?;
    put(to, "CallPage", &CallPage { calls: vec![state], next: Some(Seq(42)) })
}
