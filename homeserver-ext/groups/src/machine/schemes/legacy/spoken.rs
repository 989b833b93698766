//! What the suites write, with our names in it: the one place here that tells them apart.

use causeway_protocol::ids::{ClientId, CurveKey, DeviceId, GroupId, Timestamp};
use serde::Deserialize;
use serde_json::json;
use vodozemac::olm::Account;
use zeroize::Zeroizing;

use crate::{
    entropy::{self, NoEntropy},
    schemes::legacy::{
        Given, HeldKeys, OpenError, OwnKey, SealError, Suite,
        names::{group_uuid, numbers, sender_public_key},
        opus_v1, ren_a,
    },
};

/// A message as it travels; nothing of it is verified.
pub(in crate::machine) enum Spoken {
    OpusV1(opus_v1::Envelope),
    RenA(ren_a::Envelope),
}

/// What clients of `opus_v1` say in a message.
#[derive(Deserialize)]
struct Said {
    body: String,
}

impl Spoken {
    /// Reads one by its fields, which the suites do not share.
    pub(in crate::machine) fn parse(text: &[u8]) -> Option<Self> {
        let opus = opus_v1::Envelope::parse(text).map(Self::OpusV1);
        opus.or_else(|_| ren_a::Envelope::parse(text).map(Self::RenA)).ok()
    }

    pub(in crate::machine) const fn suite(&self) -> Suite {
        match self {
            Self::OpusV1(_) => Suite::OpusV1,
            Self::RenA(_) => Suite::RenA,
        }
    }

    /// Opens it as what `sender` said in `group`.
    pub(super) fn open(
        &self,
        group: &GroupId,
        sender: &DeviceId,
        held: &mut HeldKeys,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match self {
            Self::OpusV1(envelope) => {
                envelope.open((&group_uuid(group), &sender_public_key(sender)), held)
            }
            Self::RenA(envelope) => envelope.open(numbers(group, sender), held),
        }
    }

    /// What is unlike in any two messages of a sender, and what was signed.
    pub(super) fn signature(&self) -> &str {
        match self {
            Self::OpusV1(envelope) => &envelope.signature,
            Self::RenA(envelope) => &envelope.signature,
        }
    }

    /// When its sender says it was sent, if the suite says that.
    pub(super) const fn sent_at(&self) -> Option<Timestamp> {
        match self {
            Self::OpusV1(envelope) => Some(Timestamp(envelope.timestamp)),
            Self::RenA(_) => None,
        }
    }

    /// The words in what was opened.
    pub(super) fn body(&self, text: &[u8]) -> String {
        let as_it_is = || String::from_utf8_lossy(text).into_owned();
        match self {
            Self::OpusV1(_) => {
                serde_json::from_slice::<Said>(text).map_or_else(|_| as_it_is(), |said| said.body)
            }
            Self::RenA(_) => as_it_is(),
        }
    }
}

/// Who says something, when, and what it is called.
pub(super) struct Saying {
    pub(super) group: GroupId,
    pub(super) sender: DeviceId,
    pub(super) name: ClientId,
    pub(super) at: Timestamp,
}

/// Seals `body` as the suite's clients say it.
pub(super) fn say(
    suite: Suite,
    key: &mut OwnKey,
    Saying { group, sender, name, at }: &Saying,
    nonce: [u8; 12],
    body: &str,
) -> Result<String, SealError> {
    match suite {
        Suite::OpusV1 => {
            let plaintext = json!({"body": body, "reply_to": null}).to_string();
            let (index, ciphertext, signature) = key.seal(nonce, plaintext.as_bytes())?;
            let names = (group_uuid(group), hex::encode(name.as_bytes()));
            let sealed = (index, ciphertext.as_slice(), signature);
            let sender = sender_public_key(sender);
            Ok(opus_v1::Envelope::new(names, sender, at.0, sealed).to_json())
        }
        Suite::RenA => {
            let (index, ciphertext, signature) = key.seal(nonce, body.as_bytes())?;
            let iteration = u32::try_from(index).map_err(|_| SealError::Ended)?;
            let sealed = (iteration, ciphertext.as_slice(), signature);
            Ok(ren_a::Envelope::new(numbers(group, sender), key.id(), sealed).to_json())
        }
    }
}

/// The text that gives `key` to whose Olm key is `recipient`; `None` where nothing can be wrapped for it.
pub(super) fn give(
    suite: Suite,
    key: &OwnKey,
    (group, from): (&GroupId, &DeviceId),
    recipient: &CurveKey,
) -> Result<Option<Zeroizing<String>>, NoEntropy> {
    match suite {
        Suite::OpusV1 => Ok(Some(opus_v1::Distribution::from(key.given()).to_json())),
        Suite::RenA => {
            let Ok(chain) = ren_a::Chain::try_from(key.given()) else { return Ok(None) };
            let ephemeral = entropy::secret()?;
            let names = numbers(group, from);
            let made = ren_a::Distribution::new(names, &chain, &ephemeral, recipient.as_bytes());
            Ok(made.ok().map(|made| Zeroizing::new(made.to_json())))
        }
    }
}

/// The chain that `peer` gave with this text to whose Olm account this is; `None` where it is none.
pub(super) fn given(
    suite: Suite,
    text: &[u8],
    (group, peer): (&GroupId, &DeviceId),
    olm: &Account,
) -> Option<Given> {
    match suite {
        Suite::OpusV1 => opus_v1::Distribution::parse(text).ok().map(|given| (&given).into()),
        Suite::RenA => {
            let given = ren_a::Distribution::parse(text).ok()?;
            let chain = given.open(numbers(group, peer), &olm_secret(olm)?).ok()?;
            Some((&chain).into())
        }
    }
}

/// The secret of the account's Olm identity key. The seed wraps for the key of whoever one speaks with
/// alone, and that is this one; Olm's own derivations have other labels.
fn olm_secret(olm: &Account) -> Option<Zeroizing<[u8; 32]>> {
    #[derive(Deserialize)]
    struct Pickled {
        diffie_hellman_key: Zeroed,
    }
    let pickle = Zeroizing::new(serde_json::to_vec(&olm.pickle()).ok()?);
    let Pickled { diffie_hellman_key: Zeroed(secret) } = serde_json::from_slice(&pickle).ok()?;
    Some(secret)
}

/// Bytes that are gone once they were used.
struct Zeroed(Zeroizing<[u8; 32]>);

impl<'de> Deserialize<'de> for Zeroed {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <[u8; 32]>::deserialize(from).map(|bytes| Self(Zeroizing::new(bytes)))
    }
}
