//! Sender keys: chains from their roots, messages sealed byte for byte and opened, covers.

use causeway_groups::schemes::sender_keys::{
    ChainSecrets, HeldChain, OpenError, OwnChain, Seed, Suite, Wire,
};
use causeway_protocol::{
    envelope::{Kind, Recipient, compute_id},
    ids::{DeviceId, Epoch, GroupId, MemberId, OpHash, RosterHash, Timestamp},
    olm_plaintext::{self, Distribution, OlmPlaintext},
    roster::{self, Role},
    sender_key::{Context, DEPTH, LEAVES},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    linear,
    report::{Check, Failure, Fields, Named, Report, ensure, same},
};

/// A chain of the vectors at its beginning. `v2.json` names some fields otherwise.
fn chain(item: &Value) -> Result<OwnChain, Failure> {
    let suite = Suite::from_number(item.number("suite")?);
    let secrets = ChainSecrets {
        root: Seed::new(item.array("root")?),
        signing: Zeroizing::new(item.array("sign_seed")?),
        rand: item.array("rand16")?,
    };
    let chain = OwnChain::new(
        suite.ok_or_else(|| Failure("suite is not built".to_owned()))?,
        GroupId::new(item.array("group_id")?),
        DeviceId::new(item.array("sender_id")?),
        Epoch(item.number("epoch")?),
        Timestamp(0),
        secrets,
    );
    same("chain_id", chain.id().as_bytes(), &item.array("chain_id")?)?;
    if item.get("sign_pk").is_some() {
        let made =
            chain.distribution(DeviceId::new([0; 32]), RosterHash::new([0; 32]), Timestamp(0));
        let parts = made.ok_or_else(|| Failure("no distribution".to_owned()))?.parts();
        same("sign_pk", parts.sign_pk, item.array("sign_pk")?)?;
        same("chain_id preimage", parts.to_bytes(), item.bytes("chain_id_preimage")?)?;
    }
    Ok(chain)
}

/// The chain with all indices before `index` used.
fn chain_at(item: &Value, index: u32) -> Result<OwnChain, Failure> {
    let mut chain = chain(item)?;
    while chain.next_index() < index {
        chain.seal(&RosterHash::new([0; 32]), [0; 4], &[])?;
    }
    Ok(chain)
}

/// The wire bytes of one message.
pub(crate) fn seal_at(
    item: &Value,
    index: u32,
    roster_hash: &RosterHash,
    salt: [u8; 4],
    plaintext: &[u8],
) -> Result<Vec<u8>, Failure> {
    Ok(chain_at(item, index)?.seal(roster_hash, salt, plaintext)?)
}

/// The distribution of an Olm plaintext, made from its chain.
pub(crate) fn distribution_made(item: &Value) -> Result<Distribution, Failure> {
    chain_at(item.field("chain")?, item.number("start_index")?)?
        .distribution(
            DeviceId::new(item.array("recipient_id")?),
            RosterHash::new(item.array("roster_hash")?),
            Timestamp(item.number("created_ms")?),
        )
        .ok_or_else(|| Failure("the chain is at its end".to_owned()))
}

/// What a distribution is said to open, it opens.
pub(crate) fn distribution_opens(distribution: &Distribution, item: &Value) -> Check {
    let (opens, sealed) = (item.field("opens")?, item.field("chain")?);
    let roster = RosterHash::new(item.array("roster_hash")?);
    let plaintext = opens.bytes("message_plaintext")?;
    let wire = opens.bytes("wire")?;
    let made = seal_at(sealed, opens.number("index")?, &roster, opens.array("salt")?, &plaintext)?;
    same("sealed message", made.as_slice(), wire.as_slice())?;
    let mut held = HeldChain::from_distribution(distribution)?;
    let context = context(&held, roster);
    same("opened message", open(&wire, &mut held, &context)?, plaintext)
}

fn context(held: &HeldChain, roster: RosterHash) -> Context {
    Context { group: held.group(), sender: held.sender(), chain: held.id(), roster }
}

/// Opens and spends, as a receiver does who looks chain and roster up by the header.
fn open(wire: &[u8], held: &mut HeldChain, context: &Context) -> Result<Vec<u8>, OpenError> {
    let parsed = Wire::parse(wire)?;
    let header = parsed.header();
    let found = held.id().as_bytes().starts_with(&header.tag)
        && context.roster.as_bytes().starts_with(&header.hint);
    if !found {
        return Err(OpenError::Signature);
    }
    let opened = parsed.verify(held, context)?.open()?;
    Ok(opened.spend().to_vec())
}

/// One chain of `v2.json`, in the words of `native.json`.
struct Published<'a> {
    item: &'a Value,
    chain: Value,
    roster: RosterHash,
}

/// One message of it.
struct Message<'a> {
    of: &'a Published<'a>,
    item: &'a Value,
}

/// One newcomer to it.
struct Newcomer<'a> {
    of: &'a Published<'a>,
    item: &'a Value,
}

impl Named for Published<'_> {
    fn name(&self) -> String {
        format!("suite {}", self.item["suite"])
    }
}

impl Named for Message<'_> {
    fn name(&self) -> String {
        format!("suite {} index {}", self.of.item["suite"], self.item["index"])
    }
}

impl Named for Newcomer<'_> {
    fn name(&self) -> String {
        format!("start {}", self.item["start_index"])
    }
}

/// `v2.json`.
pub(crate) fn published(report: &mut Report, file: &Value) {
    report.section("roster", || Ok(vec![&file["roster"]]), |roster| roster_hash(roster));
    // What is said of the suites is for people.
    report.skip_unknown(file, &[("roster", &["members"]), ("suites", &[]), ("chains", &[])]);
    for item in file["chains"].as_array().into_iter().flatten() {
        report.skip_unknown(item, CHAIN);
    }
    let chains = match built(report, file) {
        Ok(chains) => chains,
        Err(failure) => return report.failed("chains", &failure),
    };
    for of in &chains {
        let items = |name: &str| match of.item.get(name) {
            Some(_) => of.item.items(name),
            None => Ok(Vec::new()),
        };
        report.section("chain id", || Ok(vec![of.item]), |_| chain_id(of));
        report.section(
            "messages",
            || Ok(items("messages")?.into_iter().map(|item| Message { of, item }).collect()),
            message,
        );
        report.section(
            "covers",
            || Ok(items("covers")?.into_iter().map(|item| Newcomer { of, item }).collect()),
            newcomer,
        );
        if let Some(item) = of.item.get("distribution_at_500") {
            report.section("distribution at 500", || Ok(vec![item]), |item| distribution(of, item));
        }
    }
}

const CHAIN: &[(&str, &[&str])] =
    &[("messages", &[]), ("covers", &[]), ("distribution_at_500", &[])];

/// The chains of suites that are built; the others are checked by what is said of them.
fn built<'a>(report: &mut Report, file: &'a Value) -> Result<Vec<Published<'a>>, Failure> {
    let roster = file.field("roster")?;
    let mut chains = Vec::new();
    for item in file.items("chains")? {
        if Suite::from_number(item.number("suite")?).is_none() {
            linear::published(report, file, item);
            continue;
        }
        // The sender stands in the preimage of the chain's id only.
        let preimage = item.bytes("cert_preimage")?;
        let sender = preimage.get(49..81).ok_or_else(|| Failure("short preimage".to_owned()))?;
        let chain = json!({
            "suite": item["suite"], "root": item["root"], "sign_seed": item["signing_seed"],
            "rand16": item["chain_rand"], "group_id": roster["group_id"],
            "sender_id": hex::encode(sender), "epoch": roster["epoch"],
            "chain_id": item["chain_id"],
        });
        chains.push(Published { item, chain, roster: RosterHash::new(roster.array("hash")?) });
    }
    Ok(chains)
}

/// The creator is the admin of this roster, and the others are plain members.
fn roster_hash(roster: &Value) -> Check {
    let creator = MemberId::new(roster.array("creator")?);
    let members = roster.names("members", MemberId::new)?;
    let role = |id: &MemberId| if *id == creator { Role::Admin } else { Role::Member };
    let preimage = roster::hash_bytes(
        GroupId::new(roster.array("group_id")?),
        Epoch(roster.number("epoch")?),
        OpHash::new(roster.array("prev_hash")?),
        creator,
        roster.number("min_version")?,
        members.iter().map(|id| (id, role(id))),
    );
    same("preimage", preimage.as_slice(), roster.bytes("preimage")?.as_slice())?;
    same("hash", Sha256::digest(&preimage).as_slice(), roster.bytes("hash")?.as_slice())
}

fn chain_id(of: &Published<'_>) -> Check {
    let own = chain(&of.chain)?;
    let made = own.distribution(DeviceId::new([0; 32]), of.roster, Timestamp(0));
    let parts = made.ok_or_else(|| Failure("no distribution".to_owned()))?.parts();
    same("signing key", parts.sign_pk, of.item.array("signing_public")?)?;
    same("preimage", parts.to_bytes(), of.item.bytes("cert_preimage")?)
}

/// Sealed byte for byte, opened once, and by nobody in another context.
fn message(message: &Message<'_>) -> Check {
    let Message { of, item } = message;
    let (index, plaintext) = (item.number("index")?, item.bytes("plaintext")?);
    let wire = item.bytes("wire")?;
    let mut own = chain_at(&of.chain, index)?;
    let distribution = own
        .distribution(DeviceId::new([1; 32]), of.roster, Timestamp(0))
        .ok_or_else(|| Failure("the chain is at its end".to_owned()))?;
    let sealed = own.seal(&of.roster, item.array("salt")?, &plaintext)?;
    same("wire", sealed.as_slice(), wire.as_slice())?;
    same("overhead", wire.len() - plaintext.len(), item.number("overhead")?)?;
    let id = compute_id(Kind::Message, None, &Recipient::Broadcast, &wire, None);
    same("message id", id.as_bytes(), &item.array("message_id")?)?;
    let first = distribution.nodes.first().ok_or_else(|| Failure("no nodes".to_owned()))?;
    same("message key", first_leaf(first), item.array("mk")?)?;
    message_keys(&own, item)?;

    let mut held = HeldChain::from_distribution(&whole(of)?)?;
    let right = context(&held, of.roster);
    let other_roster = Context { roster: RosterHash::new([9; 32]), ..right };
    let other_sender = Context { sender: DeviceId::new([9; 32]), ..right };
    for wrong in [other_roster, other_sender] {
        let opened = open(&wire, &mut held, &wrong);
        same("in another context", opened.err(), Some(OpenError::Signature))?;
    }
    for at in 0..wire.len() {
        let mut bent = wire.clone();
        if let Some(byte) = bent.get_mut(at) {
            *byte ^= 1 << (at % 8);
        }
        ensure(open(&bent, &mut held, &right).is_err(), &format!("opens with byte {at} bent"))?;
    }
    same("plaintext", open(&wire, &mut held, &right)?, plaintext)?;
    same("again", open(&wire, &mut held, &right).err(), Some(OpenError::Spent))
}

/// What the key of a message gives: `HKDF-Expand(mk, "cg/sk/v2/msg" ‖ suite ‖ salt ‖ chain_id, 76)`.
fn message_keys(chain: &OwnChain, item: &Value) -> Check {
    let suite = item.bytes("wire")?.first().map(|version| version & 0x0f);
    let suite = suite.ok_or_else(|| Failure("empty wire".to_owned()))?;
    let (salt, id) = (item.bytes("salt")?, chain.id());
    let info = [b"cg/sk/v2/msg".as_slice(), &[suite], &salt, id.as_bytes()].concat();
    let mut keys = [0; 76];
    let prk = Hkdf::<Sha256>::from_prk(&item.bytes("mk")?);
    prk.map_err(|_| Failure("short mk".to_owned()))?
        .expand(&info, &mut keys)
        .map_err(|_| Failure("no keys".to_owned()))?;
    let expected = [item.bytes("key")?, item.bytes("nonce")?, item.bytes("commit")?].concat();
    same("key, nonce and commit", keys.as_slice(), expected.as_slice())
}

/// The key of the first message below a node: child 0 of a node is HMAC-SHA-256(node, 0).
fn first_leaf(node: &olm_plaintext::Node) -> [u8; 32] {
    (node.depth..DEPTH).fold(*node.seed, |seed, _| {
        let mac = <Hmac<Sha256> as Mac>::new_from_slice(&seed);
        mac.map_or(seed, |mac| mac.chain_update([0]).finalize().into_bytes().into())
    })
}

/// The distribution of the whole chain.
fn whole(of: &Published<'_>) -> Result<Distribution, Failure> {
    chain(&of.chain)?
        .distribution(DeviceId::new([1; 32]), of.roster, Timestamp(0))
        .ok_or_else(|| Failure("no distribution".to_owned()))
}

/// A newcomer's nodes are these, and open exactly the later messages.
fn newcomer(newcomer: &Newcomer<'_>) -> Check {
    let Newcomer { of, item } = newcomer;
    let start: u32 = item.number("start_index")?;
    if start >= LEAVES {
        return ensure(item.items("nodes")?.is_empty(), "nodes after the end");
    }
    let distribution = chain_at(&of.chain, start)?
        .distribution(DeviceId::new([1; 32]), of.roster, Timestamp(0))
        .ok_or_else(|| Failure("no distribution".to_owned()))?;
    let nodes = item.items("nodes")?;
    same("number of nodes", distribution.nodes.len(), nodes.len())?;
    for (node, expected) in distribution.nodes.iter().zip(nodes) {
        same("depth", node.depth, expected.number("depth")?)?;
        same("prefix", node.prefix, expected.number("prefix")?)?;
        same("seed", *node.seed, expected.array("seed")?)?;
    }
    let mut held = HeldChain::from_distribution(&distribution)?;
    let context = context(&held, of.roster);
    for message in of.item.items("messages")? {
        let index: u32 = message.number("index")?;
        let opened = open(&message.bytes("wire")?, &mut held, &context);
        let expected =
            if index < start { Err(OpenError::Spent) } else { Ok(message.bytes("plaintext")?) };
        same(&format!("message {index}"), opened, expected)?;
    }
    Ok(())
}

fn distribution(of: &Published<'_>, item: &Value) -> Check {
    let bytes = item.bytes("bytes")?;
    same("length", bytes.len(), item.number("len")?)?;
    let OlmPlaintext::Distribution(parsed) = OlmPlaintext::parse(&bytes)? else {
        return Err(Failure("not a distribution".to_owned()));
    };
    let made = chain_at(&of.chain, 500)?
        .distribution(
            DeviceId::new(item.array("recipient")?),
            parsed.roster_hash,
            parsed.created_ms,
        )
        .ok_or_else(|| Failure("no distribution".to_owned()))?;
    same("roster", parsed.roster_hash, of.roster)?;
    let made = OlmPlaintext::Distribution(made).to_bytes()?;
    same("bytes", made.as_slice(), bytes.as_slice())
}
