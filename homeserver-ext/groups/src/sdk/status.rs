//! How far a message came, device by device: as the server has it, and of what it cannot know as this
//! device does.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{DeliveryState, RecipientStatus},
    ids::{AccountId, ClientId, DeviceId, EnvelopeId, GroupId},
};

use super::{CallError, Client, SdkError};
use crate::machine::{Lacking, SentIn};

/// Why it cannot arrive at a device that is out of the group, as the server says it of its rows.
const LEFT: &str = "left";

/// How far a message came to one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// The server does not have it yet.
    Queued,
    /// The server has it, and the device has not fetched it.
    Sent,
    /// The device is on another server, and that one has it, and has not said whether the device does.
    Relayed,
    /// There was no key to begin a session with; it is given when there is one.
    NoKey,
    /// The device could not open it: the two devices' sessions no longer fit. It is given again.
    Wedged,
    /// It was put on the device's stream.
    Delivered,
    /// The device did not fetch it while it lived.
    Expired,
    /// It cannot arrive, and why, where the server says so.
    Failed(Option<String>),
}

impl Reached {
    /// In a few words.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Relayed => "relayed",
            Self::NoKey => "no one-time key",
            Self::Wedged => "wedged",
            Self::Delivered => "delivered",
            Self::Expired => "expired",
            Self::Failed(_) => "failed",
        }
    }
}

impl From<RecipientStatus> for Reached {
    fn from(status: RecipientStatus) -> Self {
        match status.state {
            DeliveryState::Queued => Self::Sent,
            DeliveryState::Relayed => Self::Relayed,
            DeliveryState::Delivered | DeliveryState::Acked => Self::Delivered,
            DeliveryState::Expired => Self::Expired,
            DeliveryState::Failed => Self::Failed(status.reason),
        }
    }
}

impl Client {
    /// How far the message that this device calls `client_id` came, which the server has as `id`; `None`
    /// where the server knows nothing of it any more.
    pub async fn reached(
        &self,
        group: GroupId,
        client_id: ClientId,
        id: EnvelopeId,
    ) -> Result<Option<BTreeMap<DeviceId, Reached>>, SdkError> {
        let (names, lacking) = match self.sent_in(group, client_id).await? {
            Some(SentIn { names, lacking }) => (names, lacking),
            None => (vec![id], Vec::new()),
        };
        let mut reached = BTreeMap::new();
        for name in names {
            let Some(of) = self.status(name).await? else { return Ok(None) };
            reached.extend(of);
        }
        for of in lacking {
            let device = of.device;
            reached.insert(device, self.given_again(of).await?);
        }
        Ok(Some(reached))
    }

    /// Those that a message which was not accepted yet could not be given to.
    pub async fn lacking(
        &self,
        group: GroupId,
        client_id: ClientId,
    ) -> Result<Vec<DeviceId>, SdkError> {
        let sent = self.sent_in(group, client_id).await?;
        Ok(sent.into_iter().flat_map(|sent| sent.lacking).map(|of| of.device).collect())
    }

    /// Whose this device is or was, if this client has ever met it.
    pub async fn account_of(&self, device: DeviceId) -> Result<Option<AccountId>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.account_of(&mut tx, device).await?)
    }

    async fn sent_in(
        &self,
        group: GroupId,
        client_id: ClientId,
    ) -> Result<Option<SentIn>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.sent_in(&mut tx, group, client_id).await?)
    }

    /// Of a device that lacked its part of a message.
    async fn given_again(
        &self,
        Lacking { device, wedged, name, is_out }: Lacking,
    ) -> Result<Reached, SdkError> {
        if is_out {
            return Ok(Reached::Failed(Some(LEFT.to_owned())));
        }
        let status = match name {
            Some(name) => self.status(name).await?,
            None => None,
        };
        let reached = status.and_then(|mut status| status.remove(&device));
        Ok(match reached {
            Some(Reached::Sent) | None if wedged => Reached::Wedged,
            Some(reached) => reached,
            None if name.is_some() => Reached::Queued,
            None => Reached::NoKey,
        })
    }

    async fn status(
        &self,
        name: EnvelopeId,
    ) -> Result<Option<BTreeMap<DeviceId, Reached>>, SdkError> {
        match self.http.status(name).await {
            Ok(status) => {
                Ok(Some(status.recipients.into_iter().map(|of| (of.device, of.into())).collect()))
            }
            Err(CallError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
