//! The group as MLS has it.

use std::collections::VecDeque;

use openmls::prelude::{tls_codec::Deserialize as _, *};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

use crate::{Cost, TEXT, cost};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

struct Member {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    group: MlsGroup,
}

pub(crate) struct Group {
    members: Vec<Member>,
    sealed: VecDeque<MlsMessageOut>,
}

fn named(name: &str) -> (SignatureKeyPair, CredentialWithKey) {
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).expect("a key");
    let credential = BasicCredential::new(name.as_bytes().to_vec()).into();
    let signature_key = signer.to_public_vec().into();
    (signer, CredentialWithKey { credential, signature_key })
}

fn length(message: &MlsMessageOut) -> usize {
    message.to_bytes().expect("bytes").len()
}

/// The message as another reads it off the wire.
fn arrived(message: &MlsMessageOut) -> MlsMessageIn {
    let bytes = message.to_bytes().expect("bytes");
    MlsMessageIn::tls_deserialize_exact(bytes).expect("a message")
}

fn protocol(message: &MlsMessageOut) -> ProtocolMessage {
    arrived(message).try_into_protocol_message().expect("for the group")
}

impl Member {
    fn take(&mut self, message: &MlsMessageOut) {
        let taken = self.group.process_message(&self.provider, protocol(message)).expect("taken");
        if let ProcessedMessageContent::StagedCommitMessage(commit) = taken.into_content() {
            self.group.merge_staged_commit(&self.provider, *commit).expect("merged");
        }
    }
}

impl Group {
    pub(crate) fn of(members: usize) -> Self {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .use_ratchet_tree_extension(true)
            .build();
        let founder = OpenMlsRustCrypto::default();
        let (signer, credential) = named("m0");
        let mut group = MlsGroup::new(&founder, &signer, &config, credential).expect("a group");
        let others: Vec<_> = (1..members)
            .map(|n| {
                let provider = OpenMlsRustCrypto::default();
                let (signer, credential) = named(&format!("m{n}"));
                let package = KeyPackage::builder()
                    .build(SUITE, &provider, &signer, credential)
                    .expect("a key package");
                (provider, signer, package)
            })
            .collect();
        let packages: Vec<_> =
            others.iter().map(|(_, _, package)| package.key_package().clone()).collect();
        let (_, welcome, _) =
            group.add_members(&founder, &signer, &packages).expect("they are added");
        group.merge_pending_commit(&founder).expect("merged");
        let mut all = vec![Member { provider: founder, signer, group }];
        for (provider, signer, _) in others {
            let MlsMessageBodyIn::Welcome(welcome) = arrived(&welcome).extract() else {
                unreachable!("it is one")
            };
            let staged =
                StagedWelcome::new_from_welcome(&provider, config.join_config(), welcome, None);
            let group = staged.expect("welcome").into_group(&provider).expect("joined");
            all.push(Member { provider, signer, group });
        }
        let mut this = Self { members: all, sealed: VecDeque::new() };
        for committer in 0..members {
            let Member { provider, signer, group } = &mut this.members[committer];
            let update = group
                .self_update(provider, signer, LeafNodeParameters::default())
                .expect("updated")
                .into_commit();
            group.merge_pending_commit(provider).expect("merged");
            for reader in (0..members).filter(|reader| *reader != committer) {
                this.members[reader].take(&update);
            }
        }
        this
    }

    pub(crate) fn seal(&mut self, count: usize) -> Cost {
        cost(|| {
            let Member { provider, signer, group } = &mut self.members[0];
            for _ in 0..count {
                let sealed = group.create_message(provider, signer, &TEXT).expect("sealed");
                self.sealed.push_back(sealed);
            }
            self.sealed.iter().map(length).sum()
        })
    }

    pub(crate) fn open(&mut self) -> Cost {
        cost(|| {
            while let Some(message) = self.sealed.pop_front() {
                self.members[1].take(&message);
            }
            0
        })
    }

    /// The last one is put out by the first.
    pub(crate) fn remove_and_speak(&mut self) -> [Cost; 2] {
        let last = self.members.pop().expect("one").group.own_leaf_index();
        let removal = cost(|| {
            let Member { provider, signer, group } = &mut self.members[0];
            let (commit, _, _) = group.remove_members(provider, signer, &[last]).expect("out");
            group.merge_pending_commit(provider).expect("merged");
            for member in &mut self.members[1..] {
                member.take(&commit);
            }
            length(&commit)
        });
        let speaking = cost(|| {
            let mut bytes = 0;
            for speaker in 0..self.members.len() {
                let Member { provider, signer, group } = &mut self.members[speaker];
                let message = group.create_message(provider, signer, &TEXT).expect("sealed");
                bytes += length(&message);
                for reader in (0..self.members.len()).filter(|reader| *reader != speaker) {
                    self.members[reader].take(&message);
                }
            }
            bytes
        });
        [removal, speaking]
    }
}
