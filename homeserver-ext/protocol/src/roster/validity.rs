//! What makes an op valid: nine steps in this order, and nothing else (protocol §3.2).
//!
//! The server judges so, and every client judges again. Where several things are wrong, the first
//! one in this order is the answer, so that two implementations agree on the reason too.

use std::collections::BTreeSet;

use super::{
    body::{Body, Create, Devices, Entry, Policy},
    invalid::Invalid,
    kind::Kind,
    member::{Role, Scheme},
    op::{Op, group_id},
    state::Roster,
};
use crate::{
    device::verify_certificate,
    ids::{AccountId, CurveKey, DeviceId, Epoch, MemberId, RosterHash, Signature},
    keys::verify_bytes,
};

impl Roster {
    /// The roster with which `op`, a `create`, begins a group.
    ///
    /// # Errors
    /// [`Invalid`]: the first of the nine steps that refuses it.
    pub fn create(op: &Op) -> Result<Self, Invalid> {
        if op.kind() != Kind::Create {
            return Err(Invalid::NoGroup);
        }
        check_create_place(op)?;
        check_signer(op)?;
        let Body::Create(create) = op.body()? else { return Err(Invalid::NoGroup) };
        if group_id(&op.core().signer_member, &op.core().body) != op.group() {
            return Err(Invalid::GroupIdMismatch);
        }
        if !create.devices.ids.contains(&op.core().signer_device) {
            return Err(Invalid::CreatorDeviceMissing);
        }
        let scheme = check_create_values(&create)?;
        if create.devices.version == 0 {
            return Err(Invalid::ListVersion);
        }
        Ok(Self::begin(op, create, scheme))
    }

    /// The roster that `op` makes of this one.
    ///
    /// # Errors
    /// [`Invalid`]: the first of the nine steps that refuses it.
    pub fn apply(&self, op: &Op) -> Result<Self, Invalid> {
        self.check_place(op)?;
        check_signer(op)?;
        let body = op.body()?;
        self.check_right(op, &body)?;
        self.check_values(&body)?;
        self.check_fit(op, &body)?;
        let after = self.after(op, body);
        let has_admin = after.closed() || after.members().values().any(|m| m.role == Role::Admin);
        if has_admin { Ok(after) } else { Err(Invalid::NoAdminLeft) }
    }

    /// Step 2.
    fn check_place(&self, op: &Op) -> Result<(), Invalid> {
        if op.kind() == Kind::Create {
            check_create_place(op)?;
            return Err(Invalid::CreateInside);
        }
        if op.group() != self.group() {
            return Err(Invalid::WrongGroup);
        }
        if self.closed() {
            return Err(Invalid::Closed);
        }
        if Some(op.epoch()) != self.epoch().next() {
            return Err(Invalid::WrongEpoch);
        }
        if op.prev() == self.hash() { Ok(()) } else { Err(Invalid::StalePrev) }
    }

    /// Step 6.
    fn check_right(&self, op: &Op, body: &Body) -> Result<(), Invalid> {
        let signer = self.member(&op.core().signer_member).ok_or(Invalid::SignerNotMember)?;
        if !op.is_by_identity() && !signer.has(&op.core().signer_device) {
            return Err(Invalid::DeviceNotCounting);
        }
        if signer.role == Role::Bridge && *body != Body::Leave {
            return Err(Invalid::BridgeSigns);
        }
        let allowed = match body {
            Body::Leave | Body::Devices(_) => true,
            Body::Add(entries) if self.policy().members_may_add() => {
                signer.role == Role::Admin || entries.iter().all(|entry| entry.role == 0)
            }
            Body::Add(_)
            | Body::Remove(_)
            | Body::Role(..)
            | Body::Policy(_)
            | Body::Close
            | Body::Create(_) => signer.role == Role::Admin,
        };
        if allowed { Ok(()) } else { Err(Invalid::NotAdmin) }
    }

    /// Step 7.
    fn check_values(&self, body: &Body) -> Result<(), Invalid> {
        match body {
            Body::Add(entries) => self.check_entries(entries),
            Body::Remove(ids) => check_list(ids),
            Body::Role(_, role) => Role::from_number(*role).map(drop).ok_or(Invalid::BadRole),
            Body::Policy(policy) => check_policy(policy, self.scheme()),
            Body::Devices(devices) => check_devices(devices),
            Body::Leave | Body::Close | Body::Create(_) => Ok(()),
        }
    }

    fn check_entries(&self, entries: &[Entry]) -> Result<(), Invalid> {
        let ids: Vec<MemberId> = entries.iter().map(|entry| entry.member_id).collect();
        check_list(&ids)?;
        for entry in entries {
            check_devices(&entry.devices)?;
        }
        if entries.iter().any(|entry| Role::from_number(entry.role).is_none()) {
            return Err(Invalid::BadRole);
        }
        for entry in entries {
            check_account(&entry.account)?;
        }
        for entry in entries {
            check_legacy_id(&entry.legacy_id, self.policy())?;
        }
        Ok(())
    }

    /// Step 8.
    fn check_fit(&self, op: &Op, body: &Body) -> Result<(), Invalid> {
        match body {
            Body::Add(entries) => self.check_newcomers(entries),
            Body::Remove(ids) if ids.iter().all(|id| self.member(id).is_some()) => Ok(()),
            Body::Remove(_) => Err(Invalid::TargetAbsent),
            Body::Role(id, role) => {
                let target = self.member(id).ok_or(Invalid::TargetAbsent)?;
                let bridge = target.role == Role::Bridge || *role == Role::Bridge as u8;
                if bridge { Err(Invalid::BridgeRole) } else { Ok(()) }
            }
            Body::Policy(policy) if policy.min_version < self.policy().min_version => {
                Err(Invalid::MinVersionFalls)
            }
            // Above the former one also where the identity key signs: the vectors decide here
            // against a half-sentence of the text, and §1 says that versions never go back.
            Body::Devices(devices) => {
                let former = self.member(&op.core().signer_member).map(|m| m.list_version);
                if Some(devices.version) > former { Ok(()) } else { Err(Invalid::ListVersion) }
            }
            Body::Policy(_) | Body::Leave | Body::Close | Body::Create(_) => Ok(()),
        }
    }

    fn check_newcomers(&self, entries: &[Entry]) -> Result<(), Invalid> {
        if entries.iter().any(|entry| self.member(&entry.member_id).is_some()) {
            return Err(Invalid::AlreadyMember);
        }
        let new_bridges = entries.iter().filter(|entry| entry.role == Role::Bridge as u8).count();
        if new_bridges + usize::from(self.bridge().is_some()) > 1 {
            return Err(Invalid::SecondBridge);
        }
        let members = self.members().len() + entries.len();
        if u32::try_from(members).is_ok_and(|members| members <= self.policy().max_members) {
            // A newcomer's former version is 0, so that versions start at 1.
            let listed = entries.iter().all(|entry| entry.devices.version > 0);
            if listed { Ok(()) } else { Err(Invalid::ListVersion) }
        } else {
            Err(Invalid::OverMaxMembers)
        }
    }
}

/// Step 2 for `create`, where it stands in no group.
fn check_create_place(op: &Op) -> Result<(), Invalid> {
    if op.epoch() != Epoch(0) {
        return Err(Invalid::WrongEpoch);
    }
    if op.prev() == RosterHash::new([0; 32]) { Ok(()) } else { Err(Invalid::CreatePrev) }
}

/// Steps 3 and 4.
fn check_signer(op: &Op) -> Result<(), Invalid> {
    let core = op.core();
    if op.is_by_identity() {
        if op.kind() != Kind::Devices {
            return Err(Invalid::IdentityKeyOnlyDevices);
        }
        let zeros = *op.certificate() == Signature::new([0; 64])
            && core.signer_curve25519 == CurveKey::new([0; 32]);
        if !zeros {
            return Err(Invalid::IdentityNotZero);
        }
    } else {
        verify_certificate(&op.signer(), &core.signer_curve25519, op.certificate())
            .map_err(|_| Invalid::BadCertificate)?;
    }
    verify_bytes(core.signer_device, &op.signed_bytes(), op.signature())
        .map_err(|_| Invalid::BadSignature)
}

/// Step 7 for `create`.
fn check_create_values(create: &Create) -> Result<Scheme, Invalid> {
    let scheme = Scheme::from_number(create.scheme).ok_or(Invalid::BadScheme)?;
    check_devices(&create.devices)?;
    check_policy(&create.policy, scheme)?;
    let legacy = create.policy.min_version == 1;
    let suite = match (scheme, create.suite) {
        (Scheme::SenderKeys, 1 | 2) | (Scheme::Pairwise, 0) | (Scheme::SharedKey, 1..=3) => true,
        (Scheme::SenderKeys, 0x81 | 0x82) => legacy,
        _ => false,
    };
    if !suite {
        return Err(Invalid::BadSuite);
    }
    check_account(&create.account)?;
    check_legacy_id(&create.legacy_id, &create.policy)?;
    Ok(scheme)
}

fn check_list<T: Ord>(items: &[T]) -> Result<(), Invalid> {
    if items.is_empty() {
        return Err(Invalid::Empty);
    }
    let distinct: BTreeSet<&T> = items.iter().collect();
    if distinct.len() == items.len() { Ok(()) } else { Err(Invalid::Duplicate) }
}

fn check_devices(devices: &Devices) -> Result<(), Invalid> {
    check_list::<DeviceId>(&devices.ids)?;
    if devices.ids.is_sorted() { Ok(()) } else { Err(Invalid::Unsorted) }
}

fn check_policy(policy: &Policy, scheme: Scheme) -> Result<(), Invalid> {
    if policy.add_by > 1 {
        return Err(Invalid::BadAddBy);
    }
    if policy.post_by > 1 {
        return Err(Invalid::BadPostBy);
    }
    if !(1..=2).contains(&policy.min_version) {
        return Err(Invalid::BadMinVersion);
    }
    if !(60..=2_592_000).contains(&policy.ttl_s) {
        return Err(Invalid::BadTtl);
    }
    let cap = scheme.max_members();
    if (1..=cap).contains(&policy.max_members) { Ok(()) } else { Err(Invalid::BadMaxMembers) }
}

fn check_account(account: &str) -> Result<(), Invalid> {
    account.parse::<AccountId>().map(drop).map_err(|_| Invalid::BadAccount)
}

fn check_legacy_id(legacy_id: &str, policy: &Policy) -> Result<(), Invalid> {
    let allowed = legacy_id.is_empty() || policy.min_version == 1;
    if allowed { Ok(()) } else { Err(Invalid::LegacyId) }
}
