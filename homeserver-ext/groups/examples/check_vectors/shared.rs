//! Shared keys: derived, sealed again, opened, and refused for the reason given.

use causeway_groups::schemes::shared_key::{GroupKey, OpenError, Replay, Verified, Window, Wire};
use causeway_protocol::{
    ids::{AccountId, DeviceId, Epoch, GroupId, MemberId, RosterHash, Seq, SharedKeyId},
    olm_plaintext::OlmPlaintext,
    roster::{Arrival, Op, Verdict},
    shared_key::{Alg, Context, Nonce, sender_info, signed_bytes},
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    histories::log,
    judged::device_of,
    report::{Check, Failure, Fields, Vectors, ensure, same, unhex},
    travels::recipient,
};

/// A key of the vectors, and whose messages are sealed under it.
struct Key<'a> {
    secret: GroupKey,
    roster: RosterHash,
    sender: DeviceId,
    from: &'a Value,
}

impl<'a> Key<'a> {
    fn of(from: &'a Value) -> Result<Self, Failure> {
        let alg = Alg::from_number(from.number("alg")?);
        let alg = alg.ok_or_else(|| Failure("no AEAD".to_owned()))?;
        let (group, epoch) = (GroupId::new(from.array("group_id")?), Epoch(from.number("epoch")?));
        Ok(Self {
            secret: GroupKey::new(alg, group, epoch, Zeroizing::new(from.array("K")?)),
            roster: RosterHash::new(from.array("roster_hash")?),
            sender: DeviceId::new(from.array("sender_id")?),
            from,
        })
    }

    fn context(&self) -> Context {
        let (group, key) = (self.secret.group(), self.secret.id());
        Context { group, sender: self.sender, key, roster: self.roster }
    }
}

pub(crate) fn key(from: &Value) -> Check {
    let key = Key::of(from)?;
    same("key_id", key.secret.id().as_bytes(), &from.array("key_id")?)?;
    let info = sender_info(key.secret.alg(), key.secret.group(), key.secret.id(), key.sender);
    same("info", info, from.bytes("info")?)?;
    let given = from.field("k_message")?;
    let read = OlmPlaintext::parse(&given.bytes("plaintext")?)?;
    let OlmPlaintext::SharedKey(route, shared) = &read else {
        return Err(Failure("no key".to_owned()));
    };
    same("from", route.from.as_bytes(), &given.array("from")?)?;
    same("to", route.to.as_bytes(), &given.array("to")?)?;
    same("K", *shared.key, from.array("K")?)?;
    same("generation", shared.generation, given.number("generation")?)?;
    same("created_ms", shared.created_ms.0, given.number("created_ms")?)?;
    same("not_after_ms", shared.not_after_ms.0, given.number("not_after_ms")?)?;
    same("written", read.to_bytes()?.to_vec(), given.bytes("plaintext")?)?;
    from.items("messages")?.into_iter().try_for_each(|item| message(&key, item))
}

fn message(key: &Key<'_>, item: &Value) -> Check {
    let context = key.context();
    let signing = SigningKey::from_bytes(&key.from.array("sender_seed")?);
    let nonce = item.bytes("salt_or_nonce")?;
    let nonce = match (<[u8; 4]>::try_from(nonce.as_slice()), nonce.try_into()) {
        (Ok(salt), _) => Nonce::Salt(salt),
        (_, Ok(whole)) => Nonce::Whole(whole),
        _ => return Err(Failure("no nonce".to_owned())),
    };
    let counter = item.number("counter")?;
    let (plaintext, wire) = (item.bytes("plaintext")?, item.bytes("wire")?);
    let sealed = key.secret.seal(&context, counter, nonce, &signing, &plaintext)?;
    same("wire", &sealed, &wire)?;
    same("overhead", wire.len() - plaintext.len(), item.number("overhead")?)?;
    let parsed = Wire::parse(&wire)?;
    same("aad", context.aad(parsed.header()), item.bytes("aad")?)?;
    let preimage =
        signed_bytes(&item.bytes("aad")?, &key.from.array("commit")?, &item.bytes("box")?);
    same("signature_preimage", preimage, item.bytes("signature_preimage")?)?;
    let mut window = Window::default();
    let verified = parsed.verify(&key.secret, &mut window, &context, &signing.verifying_key())?;
    same("opened", verified.open()?.to_vec(), plaintext)?;
    ensure(!window.open(counter), "a message was opened twice")
}

/// How a message is judged, by every step up to its text.
pub(crate) fn case(vectors: &Vectors<'_>, case: &Value) -> Check {
    let section = vectors.0.field("shared_key")?;
    let keys = section.items("keys")?;
    let key = keys.get(case.number::<usize>("key")?);
    let key = Key::of(key.ok_or_else(|| Failure("no key".to_owned()))?)?;
    let got = judged(vectors, section, &key, case)?;
    same("result", got, case.text("result")?)
}

fn judged(
    vectors: &Vectors<'_>,
    section: &Value,
    key: &Key<'_>,
    case: &Value,
) -> Result<&'static str, Failure> {
    let wire = case.bytes("wire")?;
    let Ok(wire) = Wire::parse(&wire) else { return Ok("malformed") };
    let header = *wire.header();
    let group = optional(case, "group_id", GroupId::new)?.unwrap_or(key.secret.group());
    let is_tag = key.secret.id().as_bytes().starts_with(&header.tag);
    if group != key.secret.group() || !is_tag {
        return Ok("unknown_key");
    }
    if let Err(error) = wire.fits(&key.secret) {
        return Ok(reason(error));
    }
    let sender = optional(case, "sender_id", DeviceId::new)?.unwrap_or(key.sender);
    let device = device_of(vectors, sender)?;
    let history = section.field("histories")?.items(key.from.text("history")?)?;
    let log = log(&history.into_iter().cloned().collect::<Vec<_>>())?;
    let arrival = Arrival {
        sender: device,
        account: &account_of(vectors, device.member_id)?,
        key_epoch: Some(key.secret.epoch()),
        header_epoch: match case.get("header_epoch") {
            Some(_) => Epoch(case.number("header_epoch")?),
            None => key.secret.epoch(),
        },
        hint: header.hint,
        place: Seq(u64::MAX),
    };
    match log.judge(&arrival) {
        Verdict::Open { .. } => {}
        refused => return Ok(refused.reason()),
    }
    let roster = optional(case, "sender_known_roster", RosterHash::new)?;
    let context = Context { sender, roster: roster.unwrap_or(key.roster), ..key.context() };
    let device = VerifyingKey::from_bytes(sender.as_bytes())?;
    let opened = wire
        .verify(&key.secret, &mut Window::default(), &context, &device)
        .and_then(Verified::open);
    Ok(opened.map_or_else(reason, |_| "ok"))
}

fn reason(error: OpenError) -> &'static str {
    match error {
        OpenError::Malformed => "malformed",
        OpenError::WrongAlg => "wrong_alg",
        OpenError::Cap => "counter_cap",
        OpenError::Replay(_) => "replay",
        OpenError::Signature => "bad_signature",
        OpenError::Box => "bad_box",
    }
}

fn optional<T>(
    case: &Value,
    name: &str,
    new: impl Fn([u8; 32]) -> T,
) -> Result<Option<T>, Failure> {
    case.get(name).map(|_| case.array(name).map(&new)).transpose()
}

fn account_of(vectors: &Vectors<'_>, member: MemberId) -> Result<AccountId, Failure> {
    let member = hex::encode(member);
    let person = vectors.person(|person| person["member_id"] == member.as_str());
    Ok(person.ok_or_else(|| Failure("nobody".to_owned()))?.text("account")?.parse()?)
}

/// One window through all steps, in order.
pub(crate) fn replay_window(file: &Value) -> Check {
    let section = file.field("shared_key")?;
    let script = section.field("replay_window")?;
    let keys = section.items("keys")?;
    let key = keys.get(script.number::<usize>("key")?);
    let key = Key::of(key.ok_or_else(|| Failure("no key".to_owned()))?)?;
    let device = VerifyingKey::from_bytes(key.sender.as_bytes())?;
    let mut window = Window::default();
    for (nth, step) in script.items("steps")?.into_iter().enumerate() {
        let before = window.clone();
        let wire = step.bytes("wire")?;
        let opened = Wire::parse(&wire)?
            .verify(&key.secret, &mut window, &key.context(), &device)
            .and_then(Verified::open);
        let got = opened.map_or_else(step_reason, |_| "ok");
        same(&format!("step {nth}"), got, step.text("result")?)?;
        ensure(got == "ok" || window == before, "a refused message moved the window")?;
    }
    Ok(())
}

fn step_reason(error: OpenError) -> &'static str {
    match error {
        OpenError::Replay(Replay::TooOld) => "too_old",
        other => reason(other),
    }
}

/// Which keys are taken, and from whom.
pub(crate) fn given(vectors: &Vectors<'_>, case: &Value) -> Check {
    let section = vectors.0.field("k_cases")?;
    let ops: Vec<Value> = section.items("history")?.into_iter().cloned().collect();
    let log = log(&ops)?;
    let signer = |epoch: Epoch| {
        let op = ops.get(usize::try_from(epoch.0).ok()?)?;
        Some(Op::parse(&unhex(op).ok()?).ok()?.signer())
    };
    let peer = device_of(vectors, DeviceId::new(case.array("olm_peer")?))?;
    let got = match OlmPlaintext::parse(&case.bytes("plaintext")?) {
        Ok(OlmPlaintext::SharedKey(route, shared)) => {
            if let Some(alg) = Alg::from_number(shared.alg) {
                let id = GroupKey::new(alg, route.group, shared.epoch, shared.key.clone()).id();
                same("key_id", id, SharedKeyId::new(case.array("key_id")?))?;
            }
            let judged = shared.judge(&route, Some(&log), &recipient(section)?, &peer, signer);
            judged.map_or_else(|refused| refused.to_string(), |()| "ok".to_owned())
        }
        _ => "malformed".to_owned(),
    };
    same("result", got.as_str(), case.text("result")?)
}

/// Under which of several keys is sent.
pub(crate) fn send_choice(case: &Value) -> Check {
    let group = GroupId::new(case.array("group_id")?);
    let mut ranks = Vec::new();
    for key in case.items("keys")? {
        let epoch =
            Epoch(key.get("epoch").map_or_else(|| case.number("epoch"), |_| key.number("epoch"))?);
        let secret = Zeroizing::new(key.array("K")?);
        let secret = GroupKey::new(Alg::Aes256Gcm, group, epoch, secret);
        same("key_id", secret.id().as_bytes(), &key.array("key_id")?)?;
        ranks.push((secret.rank(key.number("generation")?), secret.id()));
    }
    let greatest = ranks.into_iter().max().ok_or_else(|| Failure("no key".to_owned()))?;
    same("send_under", greatest.1.as_bytes(), &case.array("send_under")?)
}

/// Which ops another key follows.
pub(crate) fn new_key(file: &Value, case: &Value) -> Check {
    let history = file.field("k_cases")?.items("history")?;
    let log = log(&history.into_iter().cloned().collect::<Vec<_>>())?;
    let entry = log.entry(Epoch(case.number("epoch")?));
    let entry = entry.ok_or_else(|| Failure("no such epoch".to_owned()))?;
    same("kind", entry.kind.name(), case.text("kind")?)?;
    let (cut, new) = (!entry.taken_out.is_empty(), entry.is_new_window());
    same("cut", cut, case.field("cut")?.as_bool().unwrap_or(!cut))?;
    same("new_key", new, case.field("new_key")?.as_bool().unwrap_or(!new))
}
