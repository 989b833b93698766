//! Bringing users of the namespace into being.

use reqwest::Method;
use ruma::UserId;
use serde_json::json;

use super::{DEVICE, Matrix, MatrixError};

impl Matrix {
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

    /// `PUT /_matrix/client/v3/devices/{DEVICE}` – gives `user` the device (MSC4190).
    pub async fn put_device(&self, user: &UserId) -> Result<(), MatrixError> {
        self.v3("put_device", Method::PUT, &["devices", DEVICE])
            .soon()
            .acting_as(user)
            .json(json!({ "display_name": "Causeway" }))
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
}
