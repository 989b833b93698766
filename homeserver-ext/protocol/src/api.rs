//! Requests and answers of the native API, `/_causeway/native/v1/…` (protocol §8), as server and
//! SDK both use them. `docs/openapi.json` is made from these.

mod accounts;
mod calls;
mod events;
mod groups;
mod invites;
mod links;
mod messages;
mod sender_keys;
mod server;

pub use accounts::{
    AccountAnswer, AccountDevices, ClaimRequest, ClaimedKeys, KeyCount, LoginNonce, LoginRequest,
    MAX_FORMER, RegisterRequest, Session, UploadKeys,
};
pub use calls::{
    AskSfu, AskUpgrade, CallCap, CallDevice, CallGuest, CallIce, CallIntent, CallMember, CallMesh,
    CallOut, CallPage, CallParticipant, CallReaction, CallReady, CallSfu, CallSfus, CallState,
    CallTopology, CallWhom, JoinCall, ReportCall, SetCall, StartCall,
};
pub use events::{EventAbout, EventKind, EventPage, GroupEvent};
pub use groups::{GroupHead, GroupPage, GroupServer, GroupServers, OpBytes, OpPage, PostOp};
pub use invites::{
    InvitePage, InviteState, JoinPending, JoinRequest, NewInvite, PendingRequest, RequestPage,
};
pub use links::{LinkState, PutAnswer, SealedAnswer};
pub use messages::{
    Accepted, AcceptedEnvelope, Again, DeliveryState, Kept, MessageStatus, OwnDevice, OwnKeys,
    Parked, ParkedPage, PostEnvelopes, ReadAgain, RecipientStatus, StreamAck, StreamHello,
    StreamRow, Unpark, Unparked,
};
pub use sender_keys::{
    PutSenderKeys, SenderKeyInventory, SenderKeyInventoryEntry, SenderKeyReport, SenderKeysNoted,
};
pub use server::{BridgeInfo, ErrorBody, Limits, Registration, ServerInfo};

/// Where every route of this API begins.
pub const PREFIX: &str = "/_causeway/native/v1";
