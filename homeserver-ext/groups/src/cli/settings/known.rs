//! What may be set: of what, to what, and what it means.

use causeway_protocol::roster::{Policy, Roster};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    cli::{exit::Failure, span},
    machine::{AddedBy, DEFAULT_KEY_ROTATION_S, KEY_ROTATION_S},
    sdk::Client,
};

/// How long a group may have its messages kept, in seconds (protocol §3.2).
const TTL_S: std::ops::RangeInclusive<u32> = 60..=2_592_000;

/// Its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Name {
    /// How old a shared key gets
    KeyRotationInterval,
    /// Who may put this account into groups
    AddedBy,
    /// How long a group's messages are kept
    MessageTtl,
    /// Most members of a group
    MaxMembers,
    /// Whether all members of a group let people in
    MembersMayAdd,
    /// Whether only admins write
    Channel,
}

/// Whose it is.
pub(super) enum Scope {
    /// This client's alone.
    Client,
    /// A group's.
    Group,
}

/// How one stands.
pub(super) struct Told {
    pub(super) name: Name,
    value: Is,
    default: Is,
    /// What it may be, in words.
    pub(super) range: String,
}

#[derive(Clone, PartialEq, Eq)]
enum Is {
    Seconds(u32),
    Number(u32),
    Yes(bool),
    Word(&'static str),
}

impl Is {
    fn said(&self) -> String {
        match self {
            Self::Seconds(seconds) => span::in_words(*seconds),
            Self::Number(number) => number.to_string(),
            Self::Yes(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
            Self::Word(word) => (*word).to_owned(),
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Self::Seconds(number) | Self::Number(number) => json!(number),
            Self::Yes(yes) => json!(yes),
            Self::Word(word) => json!(word),
        }
    }
}

impl Told {
    pub(super) fn said(&self) -> String {
        self.value.said()
    }

    pub(super) fn default_said(&self) -> String {
        self.default.said()
    }

    pub(super) fn as_json(&self) -> Value {
        json!({
            "name": self.name.text(), "value": self.value.as_json(),
            "default": self.default.as_json(), "range": self.range,
            "meaning": self.name.meaning(),
        })
    }
}

/// What a group's policy is to say.
pub(super) struct To(Name, Is);

impl To {
    pub(super) fn apply(&self, policy: &mut Policy) {
        match (self.0, &self.1) {
            (Name::MessageTtl, Is::Seconds(seconds)) => policy.ttl_s = *seconds,
            (Name::MaxMembers, Is::Number(number)) => policy.max_members = *number,
            (Name::MembersMayAdd, Is::Yes(yes)) => policy.add_by = u8::from(*yes),
            (Name::Channel, Is::Yes(yes)) => policy.post_by = u8::from(*yes),
            (
                Name::KeyRotationInterval
                | Name::AddedBy
                | Name::MessageTtl
                | Name::MaxMembers
                | Name::MembersMayAdd
                | Name::Channel,
                _,
            ) => {}
        }
    }
}

impl Name {
    pub(super) const OF_CLIENT: [Self; 2] = [Self::KeyRotationInterval, Self::AddedBy];
    pub(super) const OF_GROUP: [Self; 4] =
        [Self::MessageTtl, Self::MaxMembers, Self::MembersMayAdd, Self::Channel];

    /// As it is typed.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::KeyRotationInterval => "key_rotation_interval",
            Self::AddedBy => "added_by",
            Self::MessageTtl => "message_ttl",
            Self::MaxMembers => "max_members",
            Self::MembersMayAdd => "members_may_add",
            Self::Channel => "channel",
        }
    }

    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::KeyRotationInterval => {
                "how old a key of a group that shares one gets before this device makes the next, where \
                 you are admin; of several admins the shortest counts"
            }
            Self::AddedBy => "who may put you into groups without asking you",
            Self::MessageTtl => {
                "how long the server keeps what is said from then on for whoever has not fetched it; \
                 the server may keep it for less"
            }
            Self::MaxMembers => {
                "most members, bridge included; with fewer than there are nobody has to go, and nobody \
                 comes in"
            }
            Self::MembersMayAdd => "whether every member may let people in, not admins only",
            Self::Channel => "whether only admins may write",
        }
    }

    pub(super) const fn scope(self) -> Scope {
        match self {
            Self::KeyRotationInterval | Self::AddedBy => Scope::Client,
            Self::MessageTtl | Self::MaxMembers | Self::MembersMayAdd | Self::Channel => {
                Scope::Group
            }
        }
    }

    pub(super) async fn of_client(self, client: &Client) -> Result<Told, Failure> {
        Ok(if self == Self::AddedBy {
            let (value, default) = (client.added_by().await?.name(), AddedBy::default().name());
            let range = "known, all, none".to_owned();
            Told { name: self, value: Is::Word(value), default: Is::Word(default), range }
        } else {
            let value = Is::Seconds(client.key_rotation_s().await?);
            let default = Is::Seconds(DEFAULT_KEY_ROTATION_S);
            Told { name: self, value, default, range: spans(&KEY_ROTATION_S) }
        })
    }

    pub(super) async fn set_of_client(self, client: &Client, value: &str) -> Result<(), Failure> {
        if self == Self::AddedBy {
            let who = if value == "default" {
                Some(AddedBy::default())
            } else {
                AddedBy::from_name(value)
            };
            let who = who.ok_or_else(|| self.wrong(value, "known, all, none"))?;
            return Ok(client.set_added_by(who).await?);
        }
        let seconds = if value == "default" {
            DEFAULT_KEY_ROTATION_S
        } else {
            self.seconds(value, &KEY_ROTATION_S)?
        };
        Ok(client.set_key_rotation_s(seconds).await?)
    }

    pub(super) fn of_group(self, roster: &Roster) -> Told {
        let policy = roster.policy();
        let most = roster.scheme().max_members();
        let yes_or_no = || "yes, no".to_owned();
        let (value, default, range) = match self {
            Self::MaxMembers => {
                (Is::Number(policy.max_members), Is::Number(most), format!("1 to {most}"))
            }
            Self::MembersMayAdd => (Is::Yes(policy.members_may_add()), Is::Yes(false), yes_or_no()),
            Self::Channel => (Is::Yes(policy.is_channel()), Is::Yes(false), yes_or_no()),
            // Those of the client are asked of it.
            Self::MessageTtl | Self::KeyRotationInterval | Self::AddedBy => {
                (Is::Seconds(policy.ttl_s), Is::Seconds(*TTL_S.end()), spans(&TTL_S))
            }
        };
        Told { name: self, value, default, range }
    }

    /// What is asked for, where it may be.
    pub(super) fn for_group(self, roster: &Roster, value: &str) -> Result<To, Failure> {
        let told = self.of_group(roster);
        if value == "default" {
            return Ok(To(self, told.default));
        }
        let is = match told.value {
            Is::Seconds(_) => Is::Seconds(self.seconds(value, &TTL_S)?),
            Is::Number(_) => {
                let most = roster.scheme().max_members();
                let number = value.parse().ok().filter(|number| (1..=most).contains(number));
                Is::Number(number.ok_or_else(|| self.wrong(value, &told.range))?)
            }
            Is::Yes(_) | Is::Word(_) => match value {
                "yes" => Is::Yes(true),
                "no" => Is::Yes(false),
                _ => return Err(self.wrong(value, &told.range)),
            },
        };
        Ok(To(self, is))
    }

    fn seconds(self, value: &str, range: &std::ops::RangeInclusive<u32>) -> Result<u32, Failure> {
        let seconds = span::parse(value).map_err(|why| {
            Failure::usage(why).next(format!("{} may be {}.", self.text(), spans(range)))
        })?;
        if range.contains(&seconds) { Ok(seconds) } else { Err(self.wrong(value, &spans(range))) }
    }

    fn wrong(self, value: &str, range: &str) -> Failure {
        Failure::usage(format!("{} cannot be `{value}`", self.text()))
            .next(format!("It may be one of: {range}; or `default`."))
    }
}

fn spans(range: &std::ops::RangeInclusive<u32>) -> String {
    format!("{} to {}", span::in_words(*range.start()), span::in_words(*range.end()))
}
