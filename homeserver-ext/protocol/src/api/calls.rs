//! Calls, as members ask for them (protocol §9).

use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use utoipa::ToSchema;

use crate::ids::{AccountId, CallId, DeviceId, GroupId, Seq, Timestamp};

/// What a call is meant to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallIntent {
    /// Voice.
    Audio,
    /// Voice and pictures.
    Video,
}

/// What a device can do in calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallCap {
    /// Talk to the others directly.
    Mesh,
    /// Talk through a server for calls.
    Sfu,
    /// What a newer client can.
    #[serde(other)]
    Unknown,
}

/// Body of `POST groups/{id}/calls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartCall {
    /// 16 bytes that the starter draws.
    pub call: CallId,
    /// What for.
    pub intent: CallIntent,
    /// What the device can do.
    pub caps: Vec<CallCap>,
    /// Whether it accepts to be put out where it cannot follow the others.
    #[serde(default, deserialize_with = "crate::json::or_default")]
    #[schema(nullable)]
    pub may_degrade: bool,
}

/// Body of `POST groups/{id}/calls/{call}/join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinCall {
    /// What the device can do.
    pub caps: Vec<CallCap>,
    /// Whether it accepts to be put out where it cannot follow the others.
    #[serde(default, deserialize_with = "crate::json::or_default")]
    #[schema(nullable)]
    pub may_degrade: bool,
}

/// Body of `POST groups/{id}/calls/{call}/report`: what the device says about itself, in place of
/// what it said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportCall {
    /// The call's epoch, as the device knows it.
    pub epoch: u32,
    /// From whom it has live media directly; 16 at most.
    pub connected: Vec<DeviceId>,
    /// Of the way through the server for calls; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<CallReady>,
    /// Why it will not go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline: Option<String>,
}

/// How far a device is on the server for calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallReady {
    /// It publishes, and is subscribed.
    pub published: bool,
}

/// Body of `POST groups/{id}/calls/{call}/set`; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetCall {
    /// It sends nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// Its hand is raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hand: Option<bool>,
    /// A sign of the moment, that all are shown: an emoji of 32 bytes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction: Option<String>,
}

/// Somebody in a call: body of `POST groups/{id}/calls/{call}/kick` and `…/mute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CallWhom {
    /// One of Matrix.
    Matrix {
        /// The Matrix user.
        mirror: String,
        /// His device.
        device: String,
    },
    /// A native device.
    Native {
        /// Which.
        device: DeviceId,
    },
}

/// A sign of the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallReaction {
    /// Whose.
    #[serde(flatten)]
    pub who: CallWhom,
    /// What.
    pub emoji: String,
    /// When.
    pub at_ms: Timestamp,
}

/// Body of `POST groups/{id}/calls/{call}/sfu`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskSfu {
    /// The call's epoch, as the device knows it.
    pub epoch: u32,
    /// Of whose focus: where one of Matrix says that he speaks. Absent: of the home's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub focus: Option<String>,
}

/// Body of `POST groups/{id}/calls/{call}/upgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskUpgrade {
    /// The device to which there is no way.
    pub with: DeviceId,
}

/// Answer to `POST groups/{id}/calls/{call}/sfu`: where the device goes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallSfus {
    /// To each of these, all at once.
    pub sfus: Vec<CallSfu>,
    /// Who can read what passes there: `native`, the devices in the call alone.
    pub e2ee: String,
}

/// A server for calls, and what it lets a device do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallSfu {
    /// Its address, `ws` or `wss`.
    pub url: String,
    /// What lets the device in, for 120 s from now, or as long as another focus says; a secret.
    pub jwt: String,
    /// Whether the device sends there.
    pub publish: bool,
    /// The room.
    pub room: String,
    /// What the device is called there.
    pub mine: String,
}

impl std::fmt::Debug for CallSfus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallSfus").field("e2ee", &self.e2ee).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for CallSfu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallSfu").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Answer to `GET groups/{id}/calls/{call}/mesh`: what helps devices to reach each other directly.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallMesh {
    /// Tell nobody an address, and go through TURN alone.
    pub relay_only: bool,
    /// STUN and TURN.
    pub ice: Vec<CallIce>,
    /// Until when the credentials are taken; absent where they have no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Timestamp>,
}

/// STUN or TURN, as `RTCIceServer` has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallIce {
    /// `stun:`, `turn:` or `turns:`.
    pub urls: Vec<String>,
    /// With TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// With TURN; a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl std::fmt::Debug for CallMesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallMesh").field("relay_only", &self.relay_only).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for CallIce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallIce").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// What carries a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallTopology {
    /// Each talks to each.
    Mesh,
    /// The mesh carries it; all go to the server for calls.
    Prepare,
    /// Both carry it.
    Dual,
    /// The server for calls carries it.
    Sfu,
    /// That carries it; all go back to the mesh.
    Shrink,
    /// That is away, and no mesh carries so many.
    Reconnecting,
    /// It is over.
    Ended,
    /// What a newer server says.
    #[serde(other)]
    Unknown,
}

/// A call: every answer about one, and the payload of `call_changed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallState {
    /// Which.
    pub call: CallId,
    /// Where.
    pub group: GroupId,
    /// Rises with every change; a lower one is an old state.
    pub version: u64,
    /// Rises with each step of what carries it.
    pub epoch: u32,
    /// What carries it.
    pub topology: CallTopology,
    /// What for.
    pub intent: CallIntent,
    /// Whether those of Matrix can come: a bridge of the call's home was in the group when it began. To
    /// its end the server for calls then knows each device by its ghost.
    #[serde(default)]
    pub bridged: bool,
    /// Whose device began it.
    pub started_by: CallDevice,
    /// When.
    pub started_ms: Timestamp,
    /// When this step of what carries it is over, if it has an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<Timestamp>,
    /// Why: `by_hand`, `empty`, `media_server_lost`, `put_back`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who ended it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<AccountId>,
    /// Whether the server for calls hears what is said: those of Matrix are in it, or awaited, whose room
    /// is not encrypted.
    #[serde(default)]
    pub clear: bool,
    /// Who takes part now; what a newer server names beside them is passed over.
    #[serde(deserialize_with = "known")]
    pub participants: Vec<CallMember>,
    /// Who has taken part, the first 64.
    #[serde(default)]
    pub accounts: Vec<AccountId>,
    /// Who declined and does not take part, the last 64.
    #[serde(default)]
    pub declined: Vec<AccountId>,
    /// Likewise of Matrix users; 64 of both together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declined_mirrors: Vec<String>,
    /// Whom the last change put out.
    #[serde(default)]
    pub out: Vec<CallOut>,
    /// Signs of the moment, the last 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<CallReaction>,
    /// Those of Matrix who were taken out and may not come back yet, the last 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kicked: Vec<CallWhom>,
}

impl CallState {
    /// The native devices that take part.
    pub fn natives(&self) -> impl Iterator<Item = &CallParticipant> + Clone {
        self.participants.iter().filter_map(|it| match it {
            CallMember::Native(native) => Some(native),
            CallMember::Matrix(_) => None,
        })
    }

    /// Those of Matrix who take part.
    pub fn guests(&self) -> impl Iterator<Item = &CallGuest> + Clone {
        self.participants.iter().filter_map(|it| match it {
            CallMember::Native(_) => None,
            CallMember::Matrix(guest) => Some(guest),
        })
    }
}

/// Those that this version knows.
fn known<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CallMember>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Known(CallMember),
        Other(IgnoredAny),
    }
    let all = Vec::<Read>::deserialize(from)?;
    let known = all.into_iter().filter_map(|it| match it {
        Read::Known(it) => Some(it),
        Read::Other(_) => None,
    });
    Ok(known.collect())
}

/// One who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CallMember {
    /// A native device.
    Native(CallParticipant),
    /// A Matrix user's device.
    Matrix(CallGuest),
}

/// One of Matrix who takes part: a device, two of a user are two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallGuest {
    /// The Matrix user.
    pub mirror: String,
    /// What his room calls him.
    pub name: String,
    /// His device.
    pub device: String,
    /// Since when.
    pub since_ms: Timestamp,
    /// It sends no sound, as the server for calls says.
    pub muted: bool,
    /// His hand is raised.
    pub hand: bool,
    /// What it is called on the server for calls.
    pub sfu: String,
    /// The focus of the server for calls on which it speaks, where that is not the home's; it is called
    /// `mirror:device` there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub focus: Option<String>,
    /// Over what it takes part: `matrix`.
    pub via: String,
}

/// Somebody's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallDevice {
    /// The account.
    pub account: AccountId,
    /// Its device.
    pub device: DeviceId,
    /// The Matrix user for whom a bridge began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
}

/// A native who takes part: a device, two of an account are two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallParticipant {
    /// The account.
    pub account: AccountId,
    /// Its device.
    pub device: DeviceId,
    /// Since when.
    pub since_ms: Timestamp,
    /// It sends nothing, as it says.
    pub muted: bool,
    /// Its hand is raised.
    pub hand: bool,
    /// From whom it has live media directly, as it says.
    pub connected: Vec<DeviceId>,
    /// Its connection with its server is lost; it has 15 s to come back.
    #[serde(default)]
    pub lost: bool,
    /// What it is called on the server for calls; absent while the mesh alone carries the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sfu: Option<String>,
    /// Over what it takes part; `native`.
    pub via: String,
}

/// One who was put out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallOut {
    /// Whose.
    pub account: AccountId,
    /// Which device.
    pub device: DeviceId,
    /// Why: `lost`, `could_not_connect`, `moved_to_sfu`, `cannot_use_sfu`, `sfu_unavailable`,
    /// `kicked`.
    pub why: String,
}

/// Answer to `GET groups/{id}/calls?from=&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallPage {
    /// The newest first.
    pub calls: Vec<CallState>,
    /// `from` of the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Seq>,
}
