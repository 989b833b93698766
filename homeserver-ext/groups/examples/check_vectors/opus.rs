//! `seed001.json`: the legacy suite `opus_v1` (protocol §6).

use causeway_groups::schemes::legacy::{
    HeldKeys, OpenError, OwnKey, Suite, Taken, Unreachable,
    opus_v1::{BadInvite, Distribution, Envelope, Invite, from_master_secret, hash_token},
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::report::{Check, Failure, Fields as _, Named, Report, ensure, same};

/// Sections of the file, and what stands in those that are objects.
const KNOWN: &[(&str, &[&str])] = &[
    ("master_secret_derivation", &[]),
    ("master_secret_cases", &[]),
    ("messages", &[]),
    ("deep_chain", DEEP),
    ("export_public_at_0", &[]),
    ("export_public_at_7", &[]),
    ("delivery_scripts", &[]),
    ("negative", &[]),
    ("attacks_v1_must_still_reject_or_flag", &[]),
    ("group_message_envelope", &[]),
    ("invites", &[]),
    ("invite_negative", &[]),
    ("invite_tokens", &[]),
];
const DEEP: &[&str] = &["64", "100", "255", "256", "1000", "1024", "2000", "10000", "25000"];

pub(crate) fn published(report: &mut Report, file: &Value) {
    report.section(
        "master secrets",
        || {
            let mut all = file.items("master_secret_cases")?;
            all.push(file.field("master_secret_derivation")?);
            Ok(all)
        },
        |case| derivation(case),
    );
    report.section("messages", || file.items("messages"), |item| message(file, item));
    report.section("deep_chain", || deep(file), |(index, item)| checkpoint(file, *index, item));
    report.section(
        "distributions",
        || {
            let at = |n| Ok::<_, Failure>((n, file.field(&format!("export_public_at_{n}"))?));
            Ok(vec![at(0)?, at(7)?])
        },
        |(at, export)| distribution(file, *at, export),
    );
    report.section(
        "delivery_scripts",
        || file.items("delivery_scripts"),
        |item| script(file, item),
    );
    report.section("negative", || file.items("negative"), |item| negative(file, item));
    report.section(
        "attacks",
        || file.items("attacks_v1_must_still_reject_or_flag"),
        |item| attack(file, item),
    );
    report.section(
        "group_message_envelope",
        || Ok(vec![file.field("group_message_envelope")?]),
        |item| envelope(file, item),
    );
    report.section("invites", || file.items("invites"), |item| invite(item));
    report.section("invite_negative", || file.items("invite_negative"), |item| bad_invite(item));
    report.section(
        "invite_tokens",
        || file.items("invite_tokens"),
        |item| same("hash", hash_token(item.text("token")?).as_str(), item.text("sha256_hex")?),
    );
    report.skip_unknown(file, KNOWN);
}

impl Named for (u64, &Value) {
    fn name(&self) -> String {
        self.0.to_string()
    }
}

fn own(file: &Value) -> Result<OwnKey, Failure> {
    let derived = file.field("master_secret_derivation")?;
    Ok(from_master_secret(&derived.bytes("master_secret")?))
}

fn derivation(case: &Value) -> Check {
    let own = from_master_secret(&case.bytes("master_secret")?);
    let given = Distribution::from(own.given());
    same("chain_key", *given.chain_key, case.array("chain_key")?)?;
    same("signature_public", given.signature_public, case.array("signature_public")?)?;
    let signing = Zeroizing::new(case.array("signing_seed")?);
    let by_seed =
        OwnKey::new(Suite::OpusV1, 0, &Zeroizing::new(case.array("chain_key")?), &signing);
    same(
        "key of signing_seed",
        Distribution::from(by_seed.given()).signature_public,
        given.signature_public,
    )
}

/// The sender's chain at this index.
fn own_at(file: &Value, index: u64) -> Result<OwnKey, Failure> {
    let mut own = own(file)?;
    own.skip(index);
    Ok(own)
}

fn message(file: &Value, item: &Value) -> Check {
    let index: u64 = item.number("message_index")?;
    let mut own = own_at(file, index)?;
    same("chain_key", *Distribution::from(own.given()).chain_key, item.array("chain_key")?)?;
    let given = Distribution::from(own.given());
    let plaintext = item.bytes("plaintext")?;
    let (at, ciphertext, signature) = own.seal(item.array("nonce")?, &plaintext)?;
    same("index", at, index)?;
    same("ciphertext", &ciphertext, &item.bytes("ciphertext")?)?;
    same("signature", signature, item.array("signature")?)?;
    let around = ciphertext.len() + signature.len() - plaintext.len();
    same("overhead_bytes", around, item.number("overhead_bytes")?)?;
    message_key(&given, item.array("message_key")?)?;
    // As one who was given the chain at its beginning, and as one who was given it here.
    for mut held in [held(file, 0)?, HeldKeys::new(&given)?] {
        let opened = held.open((0, index), &ciphertext, signature)?;
        same("opened", opened.as_slice(), &plaintext)?;
    }
    let last = file.items("messages")?.last().is_some_and(|last| std::ptr::eq(*last, item));
    if last {
        same(
            "chain_key_after_32",
            *Distribution::from(own.given()).chain_key,
            file.array("chain_key_after_32")?,
        )?;
    }
    Ok(())
}

/// That the message at the distribution's index is sealed with `key`: such a message opens.
fn message_key(given: &Distribution, key: [u8; 32]) -> Check {
    use aes_gcm::{
        Aes256Gcm,
        aead::{Aead as _, KeyInit as _},
    };
    use ed25519_dalek::{Signer as _, SigningKey};
    let signing = SigningKey::from_bytes(&[7; 32]);
    let ours = Distribution {
        chain_key: given.chain_key.clone(),
        signature_public: signing.verifying_key().to_bytes(),
        message_index: given.message_index,
    };
    let sealed = Aes256Gcm::new((&key).into())
        .encrypt(&[1; 12].into(), b"of this key".as_slice())
        .map_err(|_| Failure("nothing was sealed".to_owned()))?;
    let ciphertext = [[1; 12].as_slice(), &sealed].concat();
    let signature = signing.sign(&ciphertext).to_bytes();
    let opened = HeldKeys::new(&ours)?.open((0, given.message_index), &ciphertext, signature)?;
    same("opened under message_key", opened.as_slice(), b"of this key")
}

fn deep(file: &Value) -> Result<Vec<(u64, &Value)>, Failure> {
    let all = file.field("deep_chain")?.as_object().into_iter().flatten();
    all.map(|(index, item)| Ok((index.parse()?, item))).collect()
}

fn checkpoint(file: &Value, index: u64, item: &Value) -> Check {
    let given = Distribution::from(own_at(file, index)?.given());
    same("chain_key", *given.chain_key, item.array("chain_key")?)?;
    message_key(&given, item.array("message_key")?)
}

fn held(file: &Value, at: u64) -> Result<HeldKeys, Failure> {
    let text = file.text(&format!("distribution_plaintext_at_{at}"))?;
    Ok(HeldKeys::new(&Distribution::parse(text.as_bytes())?)?)
}

fn distribution(file: &Value, at: u64, export: &Value) -> Check {
    let given = Distribution::from(own_at(file, at)?.given());
    same("chain_key", *given.chain_key, export.array("chain_key")?)?;
    same("signature_public", given.signature_public, export.array("signature_public")?)?;
    same("message_index", given.message_index, export.number("message_index")?)?;
    let text = file.text(&format!("distribution_plaintext_at_{at}"))?;
    same("text", given.to_json().as_str(), text)?;
    let read = Distribution::parse(text.as_bytes())?;
    same("read again", read.to_json().as_str(), text)
}

/// Opens the message of the vectors that has this index.
fn deliver(file: &Value, held: &mut HeldKeys, index: u64) -> Result<(), OpenError> {
    let message = file.items("messages").ok();
    let message = message.and_then(|all| all.get(usize::try_from(index).ok()?).copied());
    let message = message.ok_or(OpenError::Malformed)?;
    let (Ok(ciphertext), Ok(signature)) = (message.bytes("ciphertext"), message.array("signature"))
    else {
        return Err(OpenError::Malformed);
    };
    held.open((0, index), &ciphertext, signature).map(drop)
}

/// What the files call an outcome.
pub(crate) fn outcome(opened: Result<(), OpenError>) -> &'static str {
    match opened {
        Ok(()) => "ok",
        Err(OpenError::Malformed) => "malformed",
        Err(OpenError::Context) => "context",
        Err(OpenError::NoKey) => "no_key",
        Err(OpenError::Signature) => "bad_signature",
        Err(OpenError::Index(Unreachable::Replay)) => "replay",
        Err(OpenError::Index(Unreachable::TooOld)) => "too_old",
        Err(OpenError::Index(Unreachable::TooFar)) => "too_far_ahead",
        Err(OpenError::Ciphertext) => "bad_aead",
    }
}

fn script(file: &Value, item: &Value) -> Check {
    let start = item.text("start")?.strip_prefix("export_public_at_");
    let start = start.ok_or_else(|| Failure("start is no export".to_owned()))?.parse()?;
    let mut held = held(file, start)?;
    let (deliver_these, expected) = (item.items("deliver")?, item.items("expect")?);
    same("length of expect", expected.len(), deliver_these.len())?;
    for (index, expected) in deliver_these.into_iter().zip(expected) {
        let index = index.as_u64().ok_or_else(|| Failure("no index".to_owned()))?;
        let got = outcome(deliver(file, &mut held, index));
        same(&format!("outcome of {index}"), Some(got), expected.as_str())?;
        // As after a restart.
        held = HeldKeys::decode(Suite::OpusV1, &held.encode())
            .ok_or_else(|| Failure("what was stored cannot be read".to_owned()))?;
    }
    Ok(())
}

fn negative(file: &Value, item: &Value) -> Check {
    let mut held = held(file, 0)?;
    deliver(file, &mut held, 0)?;
    let before = held.encode();
    let (ciphertext, signature) = (item.bytes("ciphertext")?, item.array("signature")?);
    let got =
        outcome(held.open((0, item.number("message_index")?), &ciphertext, signature).map(drop));
    let expected = item.text("expect")?.split(';').next().unwrap_or_default();
    same("outcome", got, expected)?;
    ensure(*held.encode() == *before, "the chain has changed")?;
    deliver(file, &mut held, 4).map_err(Failure::from)
}

fn attack(file: &Value, item: &Value) -> Check {
    let at = |n: u64| -> Result<Distribution, Failure> {
        let text = file.text(&format!("distribution_plaintext_at_{n}"))?;
        Ok(Distribution::parse(text.as_bytes())?)
    };
    match item.text("name")? {
        "rollback_distribution" => {
            let (first, then) = (item.text("first")?, item.text("then")?);
            same("first", first, "export_public_at_7")?;
            same("then", then, "export_public_at_0")?;
            let mut held = held(file, 7)?;
            same("outcome", held.take(&at(0)?)?, Taken::Known)?;
            same("message 0", outcome(deliver(file, &mut held, 0)), "too_old")?;
            same("message 7", outcome(deliver(file, &mut held, 7)), "ok")
        }
        // The text names nobody: under another group or sender it is another's key, and whose it is
        // says the Olm session. An envelope that names another than that is not opened.
        "cross_group_distribution" => elsewhere(file, |of| of.0 = "another group"),
        "other_sender_distribution" => elsewhere(file, |of| of.1 = "another sender"),
        "metadata_rewrite" => {
            let item = file.field("group_message_envelope")?;
            let mut changed = envelope_of(item)?;
            "another".clone_into(&mut changed.message_id);
            changed.timestamp += 1;
            let of = (item.text("group_id")?, item.text("sender_public_key")?);
            let mut held = held(file, 0)?;
            let first = changed.open(of, &mut held).map(drop);
            same("first", outcome(first), "ok")?;
            let again = envelope_of(item)?.open(of, &mut held).map(drop);
            same("again under its own id", outcome(again), "replay")
        }
        name => Err(Failure(format!("{name} is no attack that is known"))),
    }
}

/// Opens the envelope where the transport says otherwise than it does.
fn elsewhere(file: &Value, change: impl Fn(&mut (&str, &str))) -> Check {
    let item = file.field("group_message_envelope")?;
    let mut of = (item.text("group_id")?, item.text("sender_public_key")?);
    change(&mut of);
    let mut held = held(file, 0)?;
    let before = held.encode();
    let opened = envelope_of(item)?.open(of, &mut held).map(drop);
    same("outcome", outcome(opened), "context")?;
    ensure(*held.encode() == *before, "the chain has changed")
}

fn envelope_of(item: &Value) -> Result<Envelope, Failure> {
    Ok(Envelope::parse(item.to_string().as_bytes())?)
}

fn envelope(file: &Value, item: &Value) -> Check {
    let read = envelope_of(item)?;
    let made = Envelope::new(
        (item.text("group_id")?.to_owned(), item.text("message_id")?.to_owned()),
        item.text("sender_public_key")?.to_owned(),
        item.number("timestamp")?,
        (item.number("message_index")?, &item.bytes("ciphertext")?, item.array("signature")?),
    );
    same("read", &read, &made)?;
    let text = made.to_json();
    same("length", text.len(), file.number("group_message_envelope_json_len")?)?;
    same("fields", &serde_json::from_str::<Value>(&text)?, item)?;
    let names = ["type", "group_id", "message_id", "sender_public_key", "timestamp"];
    let names = names.into_iter().chain(["message_index", "ciphertext", "signature"]);
    let places: Vec<_> = names.map(|name| text.find(&format!("\"{name}\":"))).collect();
    ensure(places.iter().all(Option::is_some) && places.is_sorted(), "fields out of order")?;
    let mut held = held(file, 0)?;
    let of = (item.text("group_id")?, item.text("sender_public_key")?);
    read.open(of, &mut held).map(drop).map_err(Failure::from)
}

fn invite(item: &Value) -> Check {
    let payload = item.field("payload")?;
    let made = Invite {
        group_id: payload.text("g")?.to_owned(),
        group_name: payload.text("n")?.to_owned(),
        creator_public_key: payload.text("c")?.to_owned(),
        expires: payload.number("e")?,
        token: payload.text("t")?.to_owned(),
    };
    let code = item.text("code")?;
    same("code", made.to_link().as_str(), code)?;
    same("payload_json", made.to_json().as_str(), item.text("payload_json")?)?;
    let at = |now| match Invite::parse(code, now) {
        Ok(read) if read == made => "ok",
        Ok(_) => "another",
        Err(BadInvite::Expired) => "expired",
        Err(_) => "malformed",
    };
    same("at now", at(item.number("now")?), item.text("expect_at_now")?)?;
    for (now, expected) in item.field("expect_at")?.as_object().into_iter().flatten() {
        same(&format!("at {now}"), Some(at(now.parse()?)), expected.as_str())?;
    }
    Ok(())
}

fn bad_invite(item: &Value) -> Check {
    let expected = item.text("expect")?;
    let got = Invite::parse(item.text("code")?, 1_706_699_999);
    match got {
        Ok(_) => Err(Failure("it was read".to_owned())),
        // Where the source's own parser crashes, the contents are wrong.
        Err(BadInvite::Fields) => ensure(expected.contains("clean decode error"), expected),
        Err(error) => ensure(expected.contains(&error.to_string()), &error.to_string()),
    }
}
