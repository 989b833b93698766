//! Names of the bridge's own Matrix users and aliases, both ways (design §6).
//!
//! The characters of an account's localpart (protocol §1) are those of a Matrix localpart, so the
//! name needs no escaping.

use causeway_protocol::{
    ghost,
    ids::{AccountId, GroupId, text_of},
};
use ruma::{OwnedUserId, UserId};
use sha2::{Digest as _, Sha256};

use crate::registration::{AGENT, ALIAS_PREFIX, BOT, GHOST_PREFIX};

/// Who is who on the bridge's own server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    server: String,
    bot: OwnedUserId,
    agent: OwnedUserId,
}

impl Names {
    /// Names on `server`; `None` if that is not a server's name.
    pub fn new(server: &str) -> Option<Self> {
        let bot = UserId::parse(format!("@{BOT}:{server}")).ok()?;
        let agent = UserId::parse(format!("@{AGENT}:{server}")).ok()?;
        Some(Self { server: server.to_owned(), bot, agent })
    }

    /// The server that all of them are on.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// `@causewaybot:server`.
    pub fn bot(&self) -> &UserId {
        &self.bot
    }

    /// `@_causeway:server`, who speaks with other servers.
    pub fn agent(&self) -> &UserId {
        &self.agent
    }

    /// `@causeway_<localpart>:server`; of an account of another server
    /// `@causeway__<its server>/<localpart>:server`, with `=3a` for a colon, since no localpart of an
    /// account begins with `_`. `None` where the name would be longer than the 255 bytes of a Matrix user
    /// id.
    pub fn ghost(&self, account: &AccountId) -> Option<OwnedUserId> {
        UserId::parse(ghost::user(&self.server, account)).ok()
    }

    /// How an account's ghost is shown: Matrix users of the same name are somebody else. One of another
    /// server with that.
    pub fn shown(&self, account: &AccountId) -> String {
        let is_here = account.server() == self.server;
        let whence = if is_here { "native" } else { account.server() };
        format!("{} ({whence})", account.localpart())
    }

    /// The account whose ghost `user` is.
    pub fn account(&self, user: &UserId) -> Option<AccountId> {
        if user.server_name().as_str() != self.server {
            return None;
        }
        let localpart = user.localpart().strip_prefix(GHOST_PREFIX)?;
        let account = match localpart.strip_prefix('_').and_then(|rest| rest.split_once('/')) {
            Some((server, name)) => format!("{name}:{}", server.replace("=3a", ":")),
            None => format!("{localpart}:{}", self.server),
        };
        account.parse().ok()
    }

    /// Whether `user` is the bot or a ghost: whatever it does, we did.
    pub fn is_ours(&self, user: &UserId) -> bool {
        *user == *self.bot
            || (user.server_name().as_str() == self.server
                && user.localpart().starts_with(GHOST_PREFIX))
    }

    /// Localpart of the alias of a group's room: `causeway_<hex16 of SHA-256(group)>`.
    pub fn alias_localpart(group: &GroupId) -> String {
        let hash = Sha256::digest(group.as_bytes());
        format!("{ALIAS_PREFIX}{}", hex::encode(hash.get(..8).unwrap_or_default()))
    }

    /// Localpart of the alias of a group's room of agents: `causeway_relay_<hex16 of SHA-256(group)>`.
    pub fn relay_alias_localpart(group: &GroupId) -> String {
        let hash = Sha256::digest(group.as_bytes());
        format!("{ALIAS_PREFIX}relay_{}", hex::encode(hash.get(..8).unwrap_or_default()))
    }

    /// `#causeway_<hex16 of SHA-256(group)>:server`.
    pub fn alias(&self, group: &GroupId) -> String {
        format!("#{}:{}", Self::alias_localpart(group), self.server)
    }
}

/// Transaction id of one part of one message, the same whenever it is tried again:
/// base64url(SHA-256(ghost, group, message, part)), each with its be32 length before it.
///
/// Unique over the whole application service: Synapse's cache does not look at the user.
pub fn txn_id(ghost: &UserId, group: &GroupId, message: &[u8], part: u32) -> String {
    text_of(&digest(&[ghost.as_bytes(), group.as_bytes(), message, &part.to_be_bytes()]))
}

/// SHA-256 over the length-prefixed `parts`.
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("b.example").unwrap()
    }

    #[test]
    fn every_account_of_this_server_has_a_ghost_and_back() {
        for account in ["bob:b.example", "a.b_c=d/e+f-g:b.example", "_x:b.example", "0:b.example"] {
            let account: AccountId = account.parse().unwrap();
            let ghost = names().ghost(&account).unwrap();
            assert_eq!(ghost.as_str(), format!("@causeway_{account}"));
            assert_eq!(names().account(&ghost), Some(account));
            assert!(names().is_ours(&ghost));
        }
    }

    #[test]
    fn strangers_are_not_ghosts() {
        for user in ["@bob:b.example", "@causeway_bob:c.example", "@causewaybot:b.example"] {
            let user = UserId::parse(user).unwrap();
            assert_eq!(names().account(&user), None, "{user}");
        }
        for user in ["@bob:b.example", "@causeway_bob:c.example", "@causewaybot:c.example"] {
            assert!(!names().is_ours(&UserId::parse(user).unwrap()), "{user}");
        }
        assert_eq!(names().server(), "b.example");
        assert!(names().is_ours(names().bot()));
        assert!(!names().is_ours(&UserId::parse("@causewaybot:c.example").unwrap()));
    }

    #[test]
    fn an_account_of_another_server_has_a_ghost_that_says_so_and_back() {
        let table = [
            ("carol:c.example", "@causeway__c.example/carol:b.example", "carol (c.example)"),
            (
                "a/b=c:c.example:8448",
                "@causeway__c.example=3a8448/a/b=c:b.example",
                "a/b=c (c.example:8448)",
            ),
            ("bob:b.example", "@causeway_bob:b.example", "bob (native)"),
        ];
        for (account, user, shown) in table {
            let account: AccountId = account.parse().unwrap();
            let ghost = names().ghost(&account).unwrap();
            assert_eq!((ghost.as_str(), &*names().shown(&account)), (user, shown));
            assert!(names().is_ours(&ghost));
            assert_eq!(names().account(&ghost), Some(account));
        }
    }

    #[test]
    fn a_name_too_long_for_matrix_has_no_ghost() {
        let server = format!("{}.example", "s".repeat(200));
        let names = Names::new(&server).unwrap();
        assert_eq!(names.ghost(&format!("{}:{server}", "l".repeat(40)).parse().unwrap()), None);
    }

    #[test]
    fn transaction_ids_do_not_run_into_one_another() {
        let group = GroupId::new([1; 32]);
        let [a, ab] = ["@a:x", "@ab:x"].map(|user| UserId::parse(user).unwrap());
        let ids = [
            txn_id(&a, &group, b"m", 0),
            txn_id(&ab, &group, b"m", 0),
            txn_id(&a, &group, b"n", 0),
            txn_id(&a, &group, b"m", 1),
            txn_id(&a, &GroupId::new([2; 32]), b"m", 0),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(ids.first().unwrap().len(), 43);
    }

    #[test]
    fn the_alias_is_made_of_the_group() {
        let alias = names().alias(&GroupId::new([0; 32]));
        assert_eq!(alias, "#causeway_66687aadf862bd77:b.example");
    }
}
