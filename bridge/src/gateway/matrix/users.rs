//! Bringing users of the namespace into being.

use std::collections::BTreeMap;

use causeway_protocol::ids::DeviceId;
use reqwest::Method;
use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AGENT_DEVICE, Matrix, MatrixError, RELAY, TRIED};

/// Type of the account data in which [`Standing`] is kept.
const STANDING: &str = "dev.causeway.standing";

/// What the homeserver keeps for the bridge's database, so that one that was put back is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whose database: the bridge's native device.
    pub device: DeviceId,
    /// How many commits it had counted.
    pub count: u64,
}

/// What `GET …/openid/userinfo` says.
#[derive(Debug, Deserialize)]
pub struct Userinfo {
    /// Whose the token is.
    pub sub: String,
}

impl Matrix {
    /// `GET /_matrix/federation/v1/openid/userinfo` – whose an OpenID token is (server-server API v1.16,
    /// "OpenID").
    pub async fn userinfo(&self, token: &str) -> Result<Userinfo, MatrixError> {
        self.call("userinfo", Method::GET, &["_matrix", "federation", "v1", "openid", "userinfo"])
            .without_token()
            .soon()
            .query("access_token", token)
            .send()
            .await
    }

    /// `POST /_matrix/client/v3/user/{user}/openid/request_token` – by which others learn from this
    /// homeserver that whoever shows it is `user`; a secret.
    pub async fn openid_token(&self, user: &UserId) -> Result<Value, MatrixError> {
        let path = ["user", user.as_str(), "openid", "request_token"];
        let call = self.v3("openid_token", Method::POST, &path).soon().acting_as(user);
        call.json(json!({})).send().await
    }

    /// `POST /_matrix/client/v3/register` – makes a user of the namespace, without a device.
    /// One that is there already is as good as new.
    pub async fn register(&self, localpart: &str) -> Result<(), MatrixError> {
        let made = self
            .v3("register", Method::POST, &["register"])
            .soon()
            .json(json!({
                "type": "m.login.application_service",
                "username": localpart,
                // Spec v1.17 (MSC4190): an application service cannot have a login.
                "inhibit_login": true,
            }))
            .nothing()
            .await;
        match made {
            Err(error) if error.is_code("M_USER_IN_USE") => Ok(()),
            other => other,
        }
    }

    /// `PUT /_matrix/client/v3/devices/{device}` – gives `user` the device (MSC4190).
    pub async fn put_device(&self, user: &UserId, device: &str) -> Result<(), MatrixError> {
        self.v3("put_device", Method::PUT, &["devices", device])
            .soon()
            .acting_as(user)
            .json(json!({ "display_name": "Causeway" }))
            .nothing()
            .await
    }

    /// `DELETE /_matrix/client/v3/devices/{device}` – takes it away, with what waits for it (MSC4190).
    pub async fn delete_device(&self, user: &UserId, device: &str) -> Result<(), MatrixError> {
        self.v3("delete_device", Method::DELETE, &["devices", device])
            .soon()
            .acting_as(user)
            .json(json!({}))
            .nothing()
            .await
    }

    /// `PUT /_matrix/client/v3/profile/{user}/displayname` – how `user` is shown.
    pub async fn set_display_name(&self, user: &UserId, name: &str) -> Result<(), MatrixError> {
        self.v3("set_display_name", Method::PUT, &["profile", user.as_str(), "displayname"])
            .soon()
            .acting_as(user)
            .json(json!({ "displayname": name }))
            .nothing()
            .await
    }

    /// `PUT /_matrix/client/v3/sendToDevice/dev.causeway.doctor/{txn}` – a word of `user` to a device of
    /// its own.
    pub async fn send_to_self(
        &self,
        user: &UserId,
        device: &str,
        txn: &str,
    ) -> Result<(), MatrixError> {
        self.v3("send_to_device", Method::PUT, &["sendToDevice", TRIED, txn])
            .soon()
            .acting_as(user)
            .query("device_id", device)
            .json(json!({"messages": {user.as_str(): {device: {}}}}))
            .nothing()
            .await
    }

    /// `PUT /_matrix/client/v3/sendToDevice/dev.causeway.relay/{txn}` – what the agent says to agents of
    /// other servers.
    pub async fn to_agents(
        &self,
        user: &UserId,
        txn: &str,
        messages: BTreeMap<OwnedUserId, Value>,
    ) -> Result<(), MatrixError> {
        let messages = messages.into_iter().map(|(to, said)| (to, json!({ AGENT_DEVICE: said })));
        let messages: BTreeMap<_, _> = messages.collect();
        self.v3("to_agents", Method::PUT, &["sendToDevice", RELAY, txn])
            .soon()
            .acting_as(user)
            .query("device_id", AGENT_DEVICE)
            .json(json!({ "messages": messages }))
            .nothing()
            .await
    }

    /// `GET /_matrix/client/v3/user/{user}/account_data/dev.causeway.standing`, if it is there.
    pub async fn standing(&self, user: &UserId) -> Result<Option<Standing>, MatrixError> {
        let asked = self
            .v3("standing", Method::GET, &["user", user.as_str(), "account_data", STANDING])
            .soon()
            .acting_as(user)
            .send()
            .await;
        match asked {
            Ok(standing) => Ok(Some(standing)),
            // Any other 404 is a gateway's, and says nothing.
            Err(error) if error.is_code("M_NOT_FOUND") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `PUT /_matrix/client/v3/user/{user}/account_data/dev.causeway.standing`
    pub async fn put_standing(
        &self,
        user: &UserId,
        standing: &Standing,
    ) -> Result<(), MatrixError> {
        self.v3("put_standing", Method::PUT, &["user", user.as_str(), "account_data", STANDING])
            .soon()
            .acting_as(user)
            .json(json!(standing))
            .nothing()
            .await
    }
}
