//! People with their own keys, and what they say with them.

use causeway_protocol::{
    api::{
        Accepted, AccountDevices, LoginNonce, LoginRequest, PREFIX, PostEnvelopes, RegisterRequest,
        Session,
    },
    device::{DeviceList, DeviceRecord, OneTimeKey, login_bytes},
    envelope::{Kind, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{
        AccountId, CurveKey, DeviceId, Epoch, GroupId, InviteKey, KeyId, MemberId, Signature,
        Timestamp, text_of,
    },
    invite::Join,
    roster::{Devices, Entry, Op, OpCore},
};
use ed25519_dalek::{Signer as _, SigningKey};
use reqwest::Method;
use serde_json::json;

use super::{Answer, Group, MONTH_MS, SERVER, Server, Stream, TOKEN, json, random};

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&random())
}

pub(crate) fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

fn curve_key() -> CurveKey {
    let mut bytes: [u8; 32] = random();
    bytes[31] &= 0x3f;
    CurveKey::new(bytes)
}

/// An account with one device here, and its keys.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) identity: SigningKey,
    pub(crate) key: SigningKey,
    pub(crate) record: DeviceRecord,
    pub(crate) list: DeviceList,
    pub(crate) token: String,
}

impl Person {
    pub(crate) fn new(name: &str) -> Self {
        Self::at(name, SERVER)
    }

    /// Of another server.
    pub(crate) fn at(name: &str, server: &str) -> Self {
        let mut person = Self::with_keys(name, signing_key(), signing_key(), curve_key());
        person.account = format!("{name}:{server}").parse().unwrap();
        let devices = person.list.devices.clone();
        person.list = list(&person.identity, &person.account, 1, devices);
        person
    }

    pub(crate) fn with_keys(
        name: &str,
        identity: SigningKey,
        key: SigningKey,
        curve25519: CurveKey,
    ) -> Self {
        let record = record_of(&identity, &key, curve25519);
        let account: AccountId = format!("{name}:{SERVER}").parse().unwrap();
        let list = list(&identity, &account, 1, vec![record.device_id]);
        Self { account, identity, key, record, list, token: String::new() }
    }

    /// Registers this person.
    pub(crate) async fn registered(self, server: &Server) -> Self {
        let body = json(&self.registration(TOKEN));
        let session: Session = server.send(Method::POST, "/register", None, body).await.ok();
        self.with_token(session.access_token)
    }

    pub(crate) fn with_token(mut self, token: String) -> Self {
        self.token = token;
        self
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.record.device_id
    }

    pub(crate) fn member(&self) -> MemberId {
        self.record.member_id
    }

    pub(crate) fn registration(&self, token: &str) -> RegisterRequest {
        RegisterRequest {
            token: Some(token.to_owned()),
            list: self.list.clone(),
            device: self.record.clone(),
            one_time_keys: (1..=5).map(|n| self.one_time_key(n, false)).collect(),
            fallback_key: self.one_time_key(1_000, true),
        }
    }

    pub(crate) fn one_time_key(&self, number: u64, fallback: bool) -> OneTimeKey {
        let mut key = OneTimeKey {
            key_id: KeyId::new(number.to_be_bytes()),
            fallback,
            curve25519: curve_key(),
            signature: Signature::new([0; 64]),
        };
        key.signature = sign(&self.key, &key.signed_bytes(&self.device()));
        key
    }

    /// The account's second device, on the server's list from now on; not logged in.
    pub(crate) async fn second_device(&self, server: &Server) -> Self {
        let key = signing_key();
        let record = record(&self.identity, &key);
        let mut records = vec![self.record.clone(), record.clone()];
        records.sort_by_key(|record| record.device_id);
        let ids = records.iter().map(|record| record.device_id).collect();
        let list = list(&self.identity, &self.account, self.list.version + 1, ids);
        let body = AccountDevices { list: list.clone(), devices: records };
        self.put(server, "/account/devices", &body).await.done();
        Self { key, record, list, ..self.clone() }
    }

    pub(crate) async fn login(&self, server: &Server) -> Answer {
        let nonce: LoginNonce =
            server.send(Method::POST, "/login/nonce", None, b"{}".to_vec()).await.ok();
        let bytes = login_bytes(self.account.server(), &self.device(), &nonce.nonce);
        let signature = sign(&self.key, &bytes);
        let request = LoginRequest { device_id: self.device(), nonce: nonce.nonce, signature };
        server.send(Method::POST, "/login", None, json(&request)).await
    }

    pub(crate) async fn get(&self, server: &Server, path: &str) -> Answer {
        server.send(Method::GET, path, Some(&self.token), Vec::new()).await
    }

    /// Of what has no end, the status alone.
    pub(crate) async fn get_status(&self, server: &Server, path: &str) -> u16 {
        let url = format!("{}{PREFIX}{path}", server.base);
        let request = server.http.get(url).bearer_auth(&self.token);
        request.send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn delete(&self, server: &Server, path: &str) -> Answer {
        server.send(Method::DELETE, path, Some(&self.token), Vec::new()).await
    }

    pub(crate) async fn post(
        &self,
        server: &Server,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Answer {
        server.send(Method::POST, path, Some(&self.token), json(body)).await
    }

    pub(crate) async fn put(
        &self,
        server: &Server,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Answer {
        server.send(Method::PUT, path, Some(&self.token), json(body)).await
    }

    pub(crate) fn entry(&self, role: u8) -> Entry {
        Entry {
            member_id: self.member(),
            role,
            account: self.account.as_str().to_owned(),
            legacy_id: String::new(),
            devices: self.devices(),
        }
    }

    pub(crate) fn devices(&self) -> Devices {
        Devices { version: self.list.version, ids: self.list.devices.clone() }
    }

    pub(crate) fn seal_op(&self, core: OpCore) -> Op {
        let signature = sign(&self.key, &core.signed_bytes().unwrap());
        core.sealed(self.record.certificate, signature).unwrap()
    }

    /// A broadcast whose payload is `text`; nothing here can tell it from a sealed one.
    pub(crate) fn message(&self, group: GroupId, epoch: u32, text: &str) -> Submission {
        let to = SubmittedTo::Broadcast;
        self.submission(group, epoch, Kind::Message, to, text.as_bytes().to_vec())
    }

    pub(crate) fn submission(
        &self,
        group: GroupId,
        epoch: u32,
        kind: Kind,
        to: SubmittedTo,
        payload: Vec<u8>,
    ) -> Submission {
        let recipient = match &to {
            SubmittedTo::Broadcast => Some(Recipient::Broadcast),
            SubmittedTo::Device(device) => Some(Recipient::Device(*device)),
            SubmittedTo::Devices(_) => None,
        };
        let device = self.device();
        Submission {
            id: recipient.map(|to| compute_id(kind, Some(&device), &to, &payload, None)),
            kind,
            group,
            epoch: Epoch(epoch),
            sender: Sender { account: self.account.clone(), device },
            to,
            ttl_ms: if kind == Kind::Call { 60_000 } else { MONTH_MS },
            payload,
        }
    }

    pub(crate) async fn submit(&self, server: &Server, envelopes: Vec<Submission>) -> Answer {
        let group = envelopes[0].group;
        let path = format!("/groups/{group}/envelopes");
        self.post(server, &path, &PostEnvelopes { envelopes, count: None }).await
    }

    /// Posts texts of one epoch, in one batch.
    pub(crate) async fn say(&self, server: &Server, group: &Group, texts: &[&str]) -> Accepted {
        let epoch = group.roster.epoch().0;
        let envelopes = texts.iter().map(|text| self.message(group.id(), epoch, text)).collect();
        self.submit(server, envelopes).await.ok()
    }

    pub(crate) async fn stream(&self, server: &Server) -> Stream {
        Stream::open(server, &self.token).await.unwrap()
    }

    /// A request to join with the link whose key is `ik`.
    pub(crate) fn join(&self, server: &Server, group: GroupId, ik: &SigningKey) -> Join {
        let mut join = Join {
            group,
            ik_pub: InviteKey::new(ik.verifying_key().to_bytes()),
            device: self.record.device(),
            curve25519: self.record.curve25519,
            certificate: self.record.certificate,
            now: server.now(),
            account: self.account.as_str().to_owned(),
            devices: self.devices(),
            ik_signature: Signature::new([0; 64]),
            device_signature: Signature::new([0; 64]),
        };
        self.sign_join(&mut join, ik);
        join
    }

    pub(crate) fn sign_join(&self, join: &mut Join, ik: &SigningKey) {
        join.ik_signature = sign(ik, &join.signed_by_invite().unwrap());
        join.device_signature = sign(&self.key, &join.signed_by_device().unwrap());
    }

    pub(crate) async fn post_join(&self, server: &Server, group: GroupId, join: &Join) -> Answer {
        let request = text_of(&join.to_bytes().unwrap());
        self.post(server, &format!("/groups/{group}/join"), &json!({ "request": request })).await
    }

    /// Likewise of a group that `home` keeps.
    pub(crate) async fn post_join_at(&self, server: &Server, home: &str, join: &Join) -> Answer {
        let request = text_of(&join.to_bytes().unwrap());
        let body = json!({ "request": request, "server": home });
        self.post(server, &format!("/groups/{}/join", join.group), &body).await
    }
}

pub(crate) fn record(identity: &SigningKey, key: &SigningKey) -> DeviceRecord {
    record_of(identity, key, curve_key())
}

fn record_of(identity: &SigningKey, key: &SigningKey, curve25519: CurveKey) -> DeviceRecord {
    let mut record = DeviceRecord {
        member_id: MemberId::new(identity.verifying_key().to_bytes()),
        device_id: DeviceId::new(key.verifying_key().to_bytes()),
        curve25519,
        signature: Signature::new([0; 64]),
        certificate: Signature::new([0; 64]),
    };
    let device = record.device();
    record.signature = sign(key, &DeviceRecord::record_bytes(&device, &record.curve25519));
    record.certificate =
        sign(identity, &DeviceRecord::certificate_bytes(&device, &record.curve25519));
    record
}

pub(crate) fn list(
    identity: &SigningKey,
    account: &AccountId,
    version: u32,
    devices: Vec<DeviceId>,
) -> DeviceList {
    let mut list = DeviceList {
        account: account.clone(),
        member_id: MemberId::new(identity.verifying_key().to_bytes()),
        version,
        created_ms: Timestamp(1),
        devices,
        signature: Signature::new([0; 64]),
    };
    list.signature = sign(identity, &list.signed_bytes());
    list
}
