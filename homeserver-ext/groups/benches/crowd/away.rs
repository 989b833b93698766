//! Accounts without a database, at a real server: they are given whatever is given, and are away; or
//! sign what no client does, many added by one op.

use causeway_groups::sdk::{AccessToken, Http};
use causeway_protocol::{
    api::{OpBytes, RegisterRequest},
    device::{DeviceList, OneTimeKey},
    ids::{AccountId, CurveKey, Epoch, GroupId, KeyId, Signature, Timestamp},
    roster::{Body, Entry, Op, Roster},
};
use futures_util::{StreamExt as _, stream};

use crate::signer::{Signer, entry, keys, sign};

/// Accounts that are registered at once.
const AT_A_TIME: usize = 8;

/// An account of which there are only keys.
pub(crate) struct Away {
    pub(crate) account: AccountId,
    signer: Signer,
    http: Http,
}

impl Away {
    /// Registers those with these numbers at the server `name`, which is at `base`.
    pub(crate) async fn register(
        (base, name): (&str, &str),
        numbers: impl Iterator<Item = u32>,
        now: Timestamp,
    ) -> Vec<Self> {
        // One for all: each would read the roots of trust again.
        let http = Http::new(base).expect("an address");
        let one = async |number| Self::register_one(http.clone(), name, number, now).await;
        stream::iter(numbers).map(one).buffered(AT_A_TIME).collect().await
    }

    async fn register_one(http: Http, name: &str, number: u32, now: Timestamp) -> Self {
        let account: AccountId = format!("away{number}:{name}").parse().expect("an account");
        let ((identity, device), signer) = (keys(number), Signer::new(number));
        let mut list = DeviceList {
            account: account.clone(),
            member_id: signer.record.member_id,
            version: 1,
            created_ms: now,
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
            token: None,
            list,
            device: signer.record.clone(),
            one_time_keys: Vec::new(),
            fallback_key,
        };
        let session = http.register(&request).await.expect("registers");
        let http = http.with_token(AccessToken::new(session.access_token));
        Self { account, signer, http }
    }

    pub(crate) fn entry(&self) -> Entry {
        entry(self.signer.record.device(), self.account.as_str().to_owned())
    }

    /// Adds so many by one op.
    pub(crate) async fn add(&self, group: GroupId, entries: Vec<Entry>, now: Timestamp) {
        let page = self.http.ops(group, Epoch(0)).await.expect("ops");
        let mut ops = page.ops.iter().map(|op| Op::parse(&op.0).expect("an op"));
        let first = Roster::create(&ops.next().expect("the first")).expect("valid");
        let head = ops.fold(first, |head, op| head.apply(&op).expect("valid"));
        let op = self.signer.op(&head, now, &Body::Add(entries));
        let op = OpBytes(op.as_bytes().to_vec());
        self.http.post_op(group, &op).await.expect("is taken");
    }
}
