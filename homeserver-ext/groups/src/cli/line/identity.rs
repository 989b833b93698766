//! An account that is not who it is known to be, in one line.

use causeway_protocol::{
    ids::{AccountId, GroupId, MemberId},
    keys::fingerprint,
};
use serde::{Deserialize, Serialize};

use crate::machine::IdentityShown;

/// An account over an identity that is not the one that it is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdentityLine {
    /// How it is called.
    pub(crate) account: AccountId,
    /// The identity under that name.
    pub(crate) member_id: MemberId,
    /// The one that the account was known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) known_member_id: Option<MemberId>,
    /// Whether safety numbers had been compared with that one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) was_verified: bool,
    /// Whose the identity is, where it is known as another account's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<AccountId>,
    /// Whether the account's own list says so, and not the group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) by_list: bool,
}

impl From<IdentityShown> for IdentityLine {
    fn from(shown: IdentityShown) -> Self {
        Self {
            account: shown.account,
            member_id: shown.member_id,
            known_member_id: shown.known,
            was_verified: shown.was_verified,
            owner: shown.owner,
            by_list: shown.by_list,
        }
    }
}

impl IdentityLine {
    /// For people.
    pub(crate) fn to_text(&self, group: &GroupId) -> String {
        let account = &self.account;
        let new = fingerprint(&self.member_id);
        let verified = if self.was_verified { ", which you have verified" } else { "" };
        let what = match (&self.owner, &self.known_member_id) {
            (Some(owner), _) => {
                format!("{account} is here over the identity of {owner} ({new}): it is not theirs")
            }
            (None, Some(known)) => format!(
                "{account} has another identity, {new}, than the one that is known here, {}{verified}",
                fingerprint(known)
            ),
            (None, None) => {
                format!("{account} is here over an identity, {new}, that is not theirs")
            }
        };
        let so = if self.by_list {
            "says their server; nothing goes to the new one until you decide"
        } else {
            "nothing goes to them, and nothing is sent in this group until you decide"
        };
        format!(
            "!! {what}; {so}: ask them by another way, then causeway-client verify {account}, or \
             member accept {group} {account}, or group leave {group}"
        )
    }
}
