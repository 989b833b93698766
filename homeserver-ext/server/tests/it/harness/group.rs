//! A group as one who knows everything about it sees it.

use causeway_protocol::{
    api::{GroupHead, OpPage},
    ids::{GroupId, Timestamp, text_of},
    roster::{Body, Create, Op, OpCore, Policy, Roster},
};
use serde_json::{Value, json};

use super::{Person, Server, random};

pub(crate) fn policy() -> Policy {
    Policy {
        min_version: 2,
        add_by: 0,
        post_by: 0,
        max_members: 100,
        ttl_s: 2_592_000,
        name: "tea".to_owned(),
        description: String::new(),
    }
}

/// A group as one who knows everything about it sees it.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) roster: Roster,
    pub(crate) ops: Vec<Op>,
}

impl Group {
    pub(crate) fn first_op(admin: &Person) -> Op {
        Self::first_op_of(admin, 1)
    }

    /// Of this scheme.
    pub(crate) fn first_op_of(admin: &Person, scheme: u8) -> Op {
        let create = Create {
            scheme,
            // Pairwise has none.
            suite: u8::from(scheme != 2),
            rand: random(),
            account: admin.account.as_str().to_owned(),
            legacy_id: String::new(),
            devices: admin.devices(),
            policy: policy(),
        };
        admin.seal_op(OpCore::create(&admin.record, Timestamp(1), create).unwrap())
    }

    /// The group that this op began.
    pub(crate) fn begun(op: Op) -> Self {
        Self { roster: Roster::create(&op).unwrap(), ops: vec![op] }
    }

    pub(crate) async fn create(server: &Server, admin: &Person) -> Self {
        Self::create_with(server, admin, 1).await
    }

    pub(crate) async fn create_with(server: &Server, admin: &Person, scheme: u8) -> Self {
        let op = Self::first_op_of(admin, scheme);
        let head: GroupHead = admin.post(server, "/groups", &op_body(&op)).await.ok();
        let group = Self::begun(op);
        assert_eq!(head.roster_hash, group.roster.hash());
        group
    }

    pub(crate) fn id(&self) -> GroupId {
        self.roster.group()
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/groups/{}{rest}", self.id())
    }

    pub(crate) fn op(&self, signer: &Person, body: &Body) -> Op {
        signer.seal_op(OpCore::next(&self.roster, &signer.record, Timestamp(2), body).unwrap())
    }

    /// Posts the next op, which must be taken.
    pub(crate) async fn post(&mut self, server: &Server, signer: &Person, body: &Body) {
        let op = self.op(signer, body);
        let head: GroupHead = signer.post(server, &self.path("/roster"), &op_body(&op)).await.ok();
        self.install(op);
        assert_eq!(head.roster_hash, self.roster.hash());
    }

    pub(crate) fn install(&mut self, op: Op) {
        self.roster = self.roster.apply(&op).unwrap();
        self.ops.push(op);
    }

    pub(crate) async fn read_ops(&self, server: &Server, person: &Person) -> OpPage {
        person.get(server, &self.path("/roster")).await.ok()
    }
}

pub(crate) fn op_body(op: &Op) -> Value {
    json!({ "op": text_of(op.as_bytes()) })
}
