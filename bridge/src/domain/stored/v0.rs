//! What the first version kept, without a number: one enum for all, texts only.

use causeway_protocol::{
    content::MessageRef,
    ids::{AccountId, EnvelopeId, Timestamp},
};
use ruma::{OwnedEventId, OwnedUserId};
use serde::Deserialize;

use crate::domain::{
    effect::{Deed, InGroup, InRoom},
    mirror::Mirror,
    said::{self, Said, Text},
};

#[derive(Deserialize)]
pub(super) enum Effect {
    ToMatrix(Spoken),
    ToNative(Relayed),
    Announce(Vec<Mirror>, Vec<OwnedUserId>),
    NoticeNative(String),
    NoticeMatrix(String),
    MakeRoom,
    Invite(OwnedUserId),
    Leave(AccountId),
    Pause,
    Close,
}

#[derive(Deserialize)]
pub(super) struct Spoken {
    account: AccountId,
    reference: MessageRef,
    message_id: EnvelopeId,
    expires_at: Timestamp,
    late: bool,
    text: Text,
    reply_to: Option<MessageRef>,
}

#[derive(Deserialize)]
pub(super) struct Relayed {
    mirror: OwnedUserId,
    event_id: OwnedEventId,
    text: Text,
    reply_to: Option<OwnedEventId>,
}

impl From<Effect> for Deed {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::ToMatrix(spoken) => InRoom::Say(said::Spoken {
                account: spoken.account,
                reference: spoken.reference,
                message_id: spoken.message_id,
                expires_at: spoken.expires_at,
                sent_at: None,
                late: spoken.late,
                said: Said::Text(spoken.text, spoken.reply_to),
            })
            .into(),
            Effect::ToNative(relayed) => InGroup::Say(said::Relayed {
                mirror: relayed.mirror,
                event_id: relayed.event_id,
                said: Said::Text(relayed.text, relayed.reply_to),
            })
            .into(),
            Effect::Announce(mirrors, gone) => InGroup::Announce(mirrors, gone).into(),
            Effect::NoticeNative(text) => InGroup::Notice(text).into(),
            Effect::NoticeMatrix(text) => InRoom::Notice(text).into(),
            Effect::MakeRoom => InRoom::Make.into(),
            Effect::Invite(user) => InRoom::Invite(user).into(),
            Effect::Leave(account) => InRoom::Leave(account).into(),
            Effect::Pause => InRoom::Pause.into(),
            Effect::Close => InRoom::Close.into(),
        }
    }
}
