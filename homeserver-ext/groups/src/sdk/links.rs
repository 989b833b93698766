//! The place at the server where devices leave what is for each other: its routes.

use causeway_protocol::{
    api::{AccountDevices, LinkState, PutAnswer, SealedAnswer},
    device::DeviceRecord,
    ids::LinkId,
};

use super::{CallError, Http};

impl Http {
    /// `PUT links/{id}`: a new device's offer; also again.
    pub async fn put_offer(&self, id: &LinkId) -> Result<(), CallError> {
        self.put_for_nothing(&["links", &id.to_string()], &serde_json::json!({})).await
    }

    /// `GET links/{id}`.
    pub async fn link(&self, id: &LinkId) -> Result<LinkState, CallError> {
        self.get(&["links", &id.to_string()], &[]).await
    }

    /// `PUT links/{id}/answer`; the same also again.
    pub async fn put_answer(&self, id: &LinkId, answer: &SealedAnswer) -> Result<(), CallError> {
        let body = PutAnswer { answer: answer.clone() };
        self.put_for_nothing(&["links", &id.to_string(), "answer"], &body).await
    }

    /// `PUT links/{id}/record`; the same also again.
    pub async fn put_record(&self, id: &LinkId, record: &DeviceRecord) -> Result<(), CallError> {
        self.put_for_nothing(&["links", &id.to_string(), "record"], record).await
    }

    /// `PUT account/devices`; the same also again.
    pub async fn put_devices(&self, devices: &AccountDevices) -> Result<(), CallError> {
        self.put_for_nothing(&["account", "devices"], devices).await
    }
}
